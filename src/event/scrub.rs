//! A handler's error is its author's text, and may well quote the payload: "no user a@b.c". What
//! goes on to a log or a store must not.

use std::{fmt, iter, ops::Range};

use bytes::Bytes;
use percent_encoding::percent_decode;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};

use super::{Fulfilment, lenient::Object};

/// In characters.
const LONGEST: usize = 300;

/// In bytes. What stands behind them is cut off unread: an error may quote a whole page, and to look
/// for each of a payload's thousands of texts in it would take minutes.
const READ: usize = 4096;

/// In bytes: as many as stand for one in `\u0026`, or in what quotes that once more.
const SPELT: usize = 8;

/// Shorter ones are words like "US", which would turn any sentence into holes.
const SHORTEST: usize = 4;

/// The promoter's members whose numbers, and those within, are wanted in a log. Any other number may
/// be a telephone's.
const NO_PRIVATE_NUMBERS: [&str; 14] = [
    "id",
    "default_promotion_id",
    "parent_promoter_id",
    "campaign_id",
    "visitors_count",
    "leads_count",
    "customers_count",
    "earnings_balance",
    "current_balance",
    "paid_balance",
    "pending_balance",
    "current_referral_reward",
    "current_promotion_reward",
    "current_target_reward",
];

/// The text, without anything personal or secret that this payload holds, and not too long.
#[cold]
pub(crate) fn scrub(text: &str, payload: &Bytes) -> String {
    let Some(mut private) = private(payload) else {
        return "[withheld: the payload is too odd to tell what in it is private]".to_owned();
    };
    private.retain(|text| text.len() >= SHORTEST);
    private.sort_unstable();
    private.dedup();

    // First all is marked, then it is replaced: of two that overlap neither survives in part, and
    // nothing is looked for in what stands in their place.
    let longest = private.iter().map(String::len).max().unwrap_or_default();
    let mut hidden = vec![false; text.len()];
    for Reading { letters, from } in Reading::all(until(text, READ + SPELT * longest)) {
        let read = from.partition_point(|from| from.start < READ);
        for secret in &private {
            // Where one ends that begins within what is read.
            let letters = until(&letters, read + secret.len());
            for (start, found) in letters.match_indices(secret.as_str()) {
                let end = start + found.len() - 1;
                hidden[from[start].start..from[end].end].fill(true);
            }
        }
    }
    let mut clean = String::new();
    let mut length = 0;
    let mut before = false;
    for (at, letter) in text.char_indices() {
        if length >= LONGEST || at >= READ {
            clean.push('…');
            break;
        }
        match (hidden[at], before) {
            (false, _) => clean.push(letter),
            (true, false) => clean.push_str("[redacted]"),
            (true, true) => continue,
        }
        before = hidden[at];
        length += 1;
    }
    clean
}

/// The text's first bytes, and the rest of the letter that they end in.
fn until(text: &str, end: usize) -> &str {
    let end = (end..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    &text[..end]
}

/// What is private in this payload, as it is to be looked for, or `None` if that cannot be told.
fn private(payload: &Bytes) -> Option<Vec<String>> {
    let Object(body) = serde_json::from_slice::<Object<Body>>(payload).ok()?;
    let Object(data) = body.unwrap_or_default().data;
    let Data { promoter, campaign: Object(campaign) } = data.unwrap_or_default();
    let mut private = promoter.all()?;
    private.extend(campaign.unwrap_or_default().default_webhook_url.all()?);
    // With all their digits, should they be numbers.
    let promoter = Fulfilment::decode(payload.clone()).ok()?.promoter;
    private.extend(promoter.email);
    private.extend(promoter.cust_id);
    let readings = private.iter().flat_map(|text| Reading::all(text));
    Some(readings.map(|reading| reading.letters.trim().to_owned()).collect())
}

/// A text as it is compared. Handlers look up what they were sent in another case or without the
/// space around it, and so quote it; clients of HTTP quote the URL that they asked for.
struct Reading {
    letters: String,
    /// For each byte of these, what it stands for in the text.
    from: Vec<Range<usize>>,
}

impl Reading {
    /// The text as it stands, and with its escapes resolved, if that is another: the `%da` in
    /// `LIKE '%dave%'` is none.
    fn all(text: &str) -> impl Iterator<Item = Self> {
        let stands: Vec<_> = (0..text.len()).map(|at| at..at + 1).collect();
        let as_it_stands = Self::new(text.as_bytes(), &stands);
        let (bytes, from) = as_it_stands.unescaped();
        let resolved = (bytes != as_it_stands.letters.as_bytes()).then(|| Self::new(&bytes, &from));
        iter::once(as_it_stands).chain(resolved)
    }

    fn new(bytes: &[u8], from: &[Range<usize>]) -> Self {
        let mut reading = Self { letters: String::new(), from: Vec::new() };
        let mut at = 0;
        for chunk in bytes.utf8_chunks() {
            for letter in chunk.valid().chars() {
                let end = at + letter.len_utf8();
                if letter.is_ascii() {
                    reading.letters.push(letter.to_ascii_lowercase());
                } else {
                    // There and back, because `ς` and `σ` are one letter in upper case.
                    let upper = letter.to_lowercase().flat_map(char::to_uppercase);
                    reading.letters.extend(upper.flat_map(char::to_lowercase));
                }
                reading.from.resize(reading.letters.len(), from[at].start..from[end - 1].end);
                at = end;
            }
            at += chunk.invalid().len();
        }
        reading
    }

    /// Without the escapes of JSON, of `{:?}` and of URLs, also of one within another.
    fn unescaped(&self) -> (Vec<u8>, Vec<Range<usize>>) {
        let (mut bytes, mut from) = (Vec::new(), Vec::<Range<usize>>::new());
        for (byte, stands) in self.letters.bytes().zip(&self.from) {
            bytes.push(byte);
            from.push(stands.clone());
            // What an escape stands for may end another. Each takes more bytes than it gives.
            while let Some((length, meant)) = escape(&bytes) {
                let start = bytes.len() - length;
                bytes.splice(start.., meant);
                let whole = from[start].start..stands.end;
                from.truncate(start);
                from.resize(bytes.len(), whole);
            }
        }
        // A backslash that is left was escaped more or less often than what it stands before. And
        // a URL may write a space as a plus.
        let bytes = bytes.into_iter().map(|byte| if byte == b'+' { b' ' } else { byte });
        bytes.zip(from).filter(|(byte, _)| *byte != b'\\').unzip()
    }
}

/// If these bytes end in an escape: in how many, and what they stand for.
fn escape(bytes: &[u8]) -> Option<(usize, Vec<u8>)> {
    if let Some(end @ [b'%', ..]) = bytes.last_chunk::<3>() {
        let meant: Vec<u8> = percent_decode(end).collect();
        if meant.len() == 1 {
            return Some((3, meant));
        }
    }
    // `{:?}`'s own.
    if bytes.ends_with(br"\0") {
        return Some((2, vec![b'\0']));
    }
    if let [.., b'}'] = bytes {
        let end = &bytes[bytes.len().saturating_sub(r"\u{10ffff}".len())..];
        let start = end.windows(3).rposition(|window| window == br"\u{")?;
        let digits = std::str::from_utf8(&end[start + 3..end.len() - 1]).ok()?;
        let meant = char::from_u32(u32::from_str_radix(digits, 16).ok()?)?;
        return Some((end.len() - start, meant.to_string().into()));
    }
    // As in `\n`, `\u0026` and `\ud83d\ude00`.
    [2, 6, 12].into_iter().find_map(|length| {
        let start = bytes.len().checked_sub(length)?;
        let end = bytes[start..].starts_with(b"\\").then_some(&bytes[start..])?;
        let meant: String = serde_json::from_slice(&[b"\"", end, b"\""].concat()).ok()?;
        Some((length, meant.into()))
    })
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Body {
    data: Object<Data>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Data {
    promoter: Found,
    campaign: Object<CampaignMembers>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CampaignMembers {
    default_webhook_url: Found,
}

/// Every text and every private number in a JSON value, however deep the parser goes.
/// (`serde_json::Value` would read JSON within a text, too, behind a certain member's name and
/// without a limit to the depth.)
#[derive(Default)]
struct Found {
    texts: Vec<String>,
    /// `None` is one of whose digits the parser keeps only the first.
    numbers: Vec<Option<String>>,
}

impl Found {
    fn text(text: &str) -> Self {
        Self { texts: vec![text.to_owned()], ..Self::default() }
    }

    fn number(number: impl ToString) -> Self {
        Self { numbers: vec![Some(number.to_string())], ..Self::default() }
    }

    fn append(&mut self, mut other: Self) {
        self.texts.append(&mut other.texts);
        self.numbers.append(&mut other.numbers);
    }

    fn all(self) -> Option<Vec<String>> {
        self.texts.into_iter().map(Some).chain(self.numbers).collect()
    }
}

impl<'de> Deserialize<'de> for Found {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct FoundVisitor;

        impl<'de> Visitor<'de> for FoundVisitor {
            type Value = Found;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any JSON value")
            }
            fn visit_unit<E>(self) -> Result<Found, E> {
                Ok(Found::default())
            }
            fn visit_bool<E>(self, _: bool) -> Result<Found, E> {
                Ok(Found::default())
            }
            fn visit_u64<E>(self, number: u64) -> Result<Found, E> {
                Ok(Found::number(number))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Found, E> {
                Ok(Found::number(number))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Found, E> {
                // Up to here a float has a digit for each of the number's.
                if number.abs() < 1e15 {
                    return Ok(Found::number(number));
                }
                Ok(Found { numbers: vec![None], ..Found::default() })
            }
            fn visit_str<E>(self, text: &str) -> Result<Found, E> {
                Ok(Found::text(text))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Found, A::Error> {
                let mut found = Found::default();
                while let Some(within) = seq.next_element()? {
                    found.append(within);
                }
                Ok(found)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found, A::Error> {
                let mut found = Found::default();
                while let Some((name, mut within)) = map.next_entry::<String, Found>()? {
                    if NO_PRIVATE_NUMBERS.contains(&&*name) {
                        within.numbers.clear();
                    }
                    found.append(within);
                }
                Ok(found)
            }
        }

        input.deserialize_any(FoundVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scrubbed(text: &str, promoter: &str, elsewhere: &str) -> String {
        let body = format!(
            r#"{{"event":{{"type":"fulfilment_pending"}},"data":{{"id":1,"amount":3,"unit":"credits","promoter":{{"id":7{promoter}}}{elsewhere}}}}}"#
        );
        scrub(text, &body.into())
    }

    const EMAIL: &str = r#","email":"ann@example.com""#;

    #[test]
    fn what_the_payload_holds_of_a_person_is_left_out() {
        for (text, promoter, clean) in [
            ("no user ann@example.com", EMAIL, "no user [redacted]"),
            ("no user Ann@EXAMPLE.com", EMAIL, "no user [redacted]"),
            ("user 4711 is blocked", r#","cust_id":4711"#, "user [redacted] is blocked"),
            ("no such unit", EMAIL, "no such unit"),
            // Two texts that overlap: neither may survive in part.
            (
                "for John Smith Street 12",
                r#","note":"John Smith","profile":{"address":"Smith Street 12"}"#,
                "for [redacted]",
            ),
            ("GET /users?email=ann%40example.com: 500", EMAIL, "GET /users?email=[redacted]: 500"),
            (
                "?q=Ann+O%27Neill or Ann%20O%27Neill",
                r#","note":"Ann O'Neill""#,
                "?q=[redacted] or [redacted]",
            ),
            ("naïve ann@example.comé", EMAIL, "naïve [redacted]é"),
            (
                r#"nobody at "1 High Street\r\nYork""#,
                r#","profile":{"address":"1 High Street\r\nYork"}"#,
                r#"nobody at "[redacted]""#,
            ),
        ] {
            assert_eq!(scrubbed(text, promoter, ""), clean);
        }
    }

    /// Nor does the way hide it in which the payload wrote it, the handler looked it up, or a client
    /// of HTTP sent it.
    #[test]
    fn however_it_is_spelt_it_is_left_out() {
        let trimmed = r#","email":" ann@example.com ""#;
        let plus = r#","email":"ann+fp@example.com""#;
        let umlaut = r#","email":"ÖZGÜR@example.com""#;
        let name = r#","profile":{"first_name":"Ann O'Neill"}"#;
        let phone = r#","profile":{"phone_number":4915123456789}"#;
        for (text, promoter, clean) in [
            ("no user ann@example.com", trimmed, "no user [redacted]"),
            ("no user ann@example.com", r#","email":"ann@example.com\n""#, "no user [redacted]"),
            ("cannot call 4915123456789", phone, "cannot call [redacted]"),
            ("wrong: 12345678", r#","temp_password":12345678"#, "wrong: [redacted]"),
            ("wrong: -1234.5", r#","temp_password":-1234.5"#, "wrong: [redacted]"),
            ("no user özgür@example.com", umlaut, "no user [redacted]"),
            (r"no user \u00d6zg%c3%9cr@example.com", umlaut, "no user [redacted]"),
            ("GET /u/Ann%20O'Neill: 404", name, "GET /u/[redacted]: 404"),
            ("GET /u/ann%20o%27neill: 404", name, "GET /u/[redacted]: 404"),
            ("?e=ann+fp%40example.com", plus, "?e=[redacted]"),
            ("?e=ann%2Bfp@example.com", plus, "?e=[redacted]"),
            ("?e=%61nn%2bfp%40example%2Ecom&x", plus, "?e=[redacted]&x"),
            // Encoded twice, and quoted within a quotation.
            ("?u=%2Fu%3Fe%3Dann%252Bfp%2540example.com", plus, "?u=%2Fu%3Fe%3D[redacted]"),
            (r#""{\"n\":\"Ann O\\u0027Neill\"}""#, name, r#""{\"n\":\"[redacted]\"}""#),
            (r"for \ud83d\ude00\u{200b}!", r#","note":"😀\u200b!""#, "for [redacted]"),
            (r"at \\\u0026shop\\", r#","note":"\\\u0026shop""#, r"at [redacted]\\"),
            (r#"at "5%\r\nYork""#, r#","note":"5%\r\nYork""#, r#"at "[redacted]""#),
            // What may look like an escape and is none.
            ("LIKE '%dave@b.c%'", r#","email":"dave@b.c""#, "LIKE '%[redacted]%'"),
            (r"no user CORP\nancy", r#","note":"nancy""#, r"no user CORP\[redacted]"),
            (r"no user CORP%5CNANCY", r#","note":"corp\\nancy""#, r"no user [redacted]"),
            ("100%41 of it", r#","note":"100%41""#, "[redacted] of it"),
            ("ann%40example.com%4", EMAIL, "[redacted]%4"),
            ("%ann@example.com%", EMAIL, "%[redacted]%"),
            (r"%ff%c3ann@example.com%c3\u00", EMAIL, r"%ff%c3[redacted]%c3\u00"),
            (r"\u{110000}ann@example.com\ud83d}", EMAIL, r"\u{110000}[redacted]\ud83d}"),
            // Letters that are longer or shorter in another case.
            ("İİ ann@example.com ẞİ", EMAIL, "İİ [redacted] ẞİ"),
            ("no user i\u{307}lke", r#","note":"İLKE""#, "no user [redacted]"),
            ("in STRASSE, ẞ", r#","note":"straße""#, "in [redacted], ẞ"),
            ("no user οδυσσεύς", r#","note":"ΟΔΥΣΣΕΎΣ""#, "no user [redacted]"),
            ("for annİ", r#","note":"anni""#, "for [redacted]"),
            // Two that overlap, of which one is escaped.
            (
                "for John%20Smith Street+12.",
                r#","note":"John Smith","profile":{"address":"Smith Street 12"}"#,
                "for [redacted].",
            ),
            // Shorter than four bytes.
            ("in US, %55S", r#","profile":{"country":" US "}"#, "in US, %55S"),
            ("a%41aaa", r#","note":"%41%41""#, "a%41aaa"),
            (r"+ \+++x", r#","note":"\\+++""#, "+ [redacted]x"),
        ] {
            assert_eq!(scrubbed(text, promoter, ""), clean, "{text}");
        }
    }

    #[test]
    fn the_receivers_own_secret_is_left_out_of_a_raw_body() {
        let url = r"https://app.example/hook?tenant=7\u0026key=SECRET";
        let campaign = format!(r#","campaign":{{"id":17476,"default_webhook_url":"{url}"}}"#);
        let text = format!(r#"cannot use {{"id":17476,"default_webhook_url":"{url}"}}"#);
        let clean = r#"cannot use {"id":17476,"default_webhook_url":"[redacted]"}"#;
        assert_eq!(scrubbed(&text, "", &campaign), clean);
        let quoted = format!("{text:?}");
        assert_eq!(scrubbed(&quoted, "", &campaign), format!("{clean:?}"));
        let clean = scrubbed("at https://app.example/hook?tenant=7&key=secret", "", &campaign);
        assert_eq!(clean, "at [redacted]");
    }

    #[test]
    fn numbers_that_are_not_private_stay() {
        let promoter = r#","default_promotion_id":5680057,"parent_promoter_id":1234567,
            "paid_balance":{"cash":88200,"points":1e300},"profile":{"id":5306304},
            "promotions":[{"id":5680058,"campaign_id":17476,"visitors_count":12000,
            "current_target_reward":{"id":109466,"amount":2500}}]"#;
        let text = "5680057 1234567 88200 5306304 5680058 17476 12000 109466 2500";
        assert_eq!(scrubbed(text, promoter, ""), text);
    }

    /// So that however a handler changes the case, what it looks up is found.
    #[test]
    fn letters_are_compared_in_whichever_case() {
        let read = |text: String| Reading::all(&text).next().map(|reading| reading.letters);
        for letter in ('\0'..=char::MAX).filter(|letter| letter.is_alphabetic()) {
            for other in [letter.to_lowercase().to_string(), letter.to_uppercase().to_string()] {
                if !other.starts_with(letter) {
                    assert_eq!(read(other), read(letter.into()), "{letter:?}");
                }
            }
        }
    }

    #[test]
    fn a_payload_that_is_odd_elsewhere_is_scrubbed_all_the_same() {
        let deep = format!(r#","x":{}{}"#, "[".repeat(200), "]".repeat(200));
        for odd in [r#","x":1e999"#, r#","x":"\ud800""#, &deep] {
            assert_eq!(scrubbed("no user ann@example.com", EMAIL, odd), "no user [redacted]");
        }
    }

    #[test]
    fn what_cannot_be_scrubbed_is_withheld() {
        for odd in [
            r#","note":"\ud800""#,
            r#","note":1e999"#,
            r#","note":123456789012345678901"#,
            r#","\ud800":1"#,
        ] {
            let text = "no user ann@example.com of 123456789012345678901";
            let clean = scrubbed(text, &format!("{EMAIL}{odd}"), "");
            assert!(clean.starts_with("[withheld"), "{clean}");
        }
    }

    /// `serde_json::Value` reads JSON within JSON behind a member of this name, each time from a
    /// depth of zero.
    #[test]
    fn json_within_json_does_not_overflow_the_stack() {
        let mut note = "0".to_owned();
        for _ in 0..100 {
            let text = note.replace('\\', r"\u005c").replace('"', r"\u0022");
            let (open, close) = ("[".repeat(120), "]".repeat(120));
            note = format!(r#"{open}{{"$serde_json::private::RawValue":"{text}"}}{close}"#);
        }
        assert!(note.len() < 256 * 1024, "{}", note.len());
        let worker = std::thread::Builder::new().stack_size(2 * 1024 * 1024);
        let scrubbed = worker.spawn(move || scrubbed("no user", &format!(r#","note":{note}"#), ""));
        scrubbed.expect("a thread").join().expect("no panic");
    }

    /// Nothing is looked for in what stands for a secret, or a promoter could choose names by which
    /// it grows.
    #[test]
    fn a_scrubbed_text_does_not_grow() {
        let names: Vec<_> = (0..7).map(|at| format!("{:?}", &"[redacted]"[at..at + 4])).collect();
        let profile = format!(r#","profile":{{"social_accounts":[{}]}}"#, names.join(","));
        let clean = scrubbed("no user called reda", &profile, "");
        assert_eq!(clean, "no user called [redacted]");
    }

    /// A handler may quote the whole payload, and that may be of nothing but names.
    #[test]
    fn a_page_of_text_and_thousands_of_names_take_no_time() {
        let names: Vec<_> = (0..20_000).map(|n| format!(r#""n{n:05}""#)).collect();
        let profile = format!(r#"{EMAIL},"profile":{{"social_accounts":[{}]}}"#, names.join(","));
        let text = "no user ann@example.com ".repeat(100_000);
        let start = std::time::Instant::now();
        let clean = scrubbed(&text, &profile, "");
        assert!(start.elapsed() < std::time::Duration::from_secs(10), "{:?}", start.elapsed());
        assert!(!clean.contains("ann@"), "{clean}");
    }

    /// As many as a payload can hold, in one another or one by one.
    #[test]
    fn escapes_take_no_time() {
        let nested = format!("%{}41", "25".repeat(100_000));
        for escapes in [nested, r"\n".repeat(100_000), r"\ud83d".repeat(40_000)] {
            let note = format!(r#"{EMAIL},"note":"{}""#, escapes.replace('\\', r"\\"));
            let start = std::time::Instant::now();
            let clean = scrubbed(&format!("{escapes} ann%40example.com"), &note, "");
            assert!(start.elapsed() < std::time::Duration::from_secs(10), "{:?}", start.elapsed());
            assert!(clean.starts_with("[redacted]"), "{clean}");
        }
    }

    /// Also of a secret that begins just before the end of what is read.
    #[test]
    fn what_is_read_ends_in_no_half_of_a_secret() {
        let note = "é".repeat(2_000);
        for before in [80, 90, 96, 97] {
            for email in ["ann@example.com", "%61nn%2540example%2Ecom"] {
                let text = format!("{note}{}{email}, and more", ".".repeat(before));
                let clean = scrubbed(&text, &format!(r#"{EMAIL},"note":"{note}""#), "");
                assert_eq!(clean.split('.').next(), Some("[redacted]"));
                let rest = clean.replace("[redacted]", "");
                assert!(!rest.contains(char::is_alphanumeric) && rest.ends_with('…'), "{clean}");
            }
        }
    }

    #[test]
    fn a_long_text_is_cut_between_letters() {
        let clean = scrubbed(&"é".repeat(400), EMAIL, "");
        assert_eq!(clean, "é".repeat(300) + "…");
    }
}
