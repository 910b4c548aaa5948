//! A handler's error is its author's text, and may well quote the payload: "no user a@b.c". What
//! goes on to a log or a store must not.

use std::fmt;

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::{Fulfilment, lenient::Object};

/// In characters.
const LONGEST: usize = 300;

/// In bytes. What stands behind them is cut off unread: an error may quote a whole page, and to look
/// for each of a payload's thousands of texts in it would take minutes.
const READ: usize = 4096;

/// Shorter ones are words like "US", which would turn any sentence into holes.
const SHORTEST: usize = 4;

/// The text, without anything personal or secret that this payload holds, and not too long.
#[cold]
pub(crate) fn scrub(text: &str, payload: &Bytes) -> String {
    let (Ok(Object(body)), Ok(fulfilment)) =
        (serde_json::from_slice::<Object<Body>>(payload), Fulfilment::decode(payload.clone()))
    else {
        return "[withheld: the payload is too odd to tell what in it is private]".to_owned();
    };
    let Body { data: Object(data) } = body.unwrap_or_default();
    let Data { promoter: Texts(mut private), campaign } = data.unwrap_or_default();
    private.extend(campaign.0.into_iter().flat_map(|campaign| campaign.default_webhook_url.0));
    // These may have come as numbers.
    private.extend(fulfilment.promoter.email);
    private.extend(fulfilment.promoter.cust_id);
    // And as `{:?}` writes them, because an address holds line breaks, or a URL: clients of HTTP
    // quote the one they asked for.
    let written = private.iter().flat_map(|text| {
        let quoted = format!("{text:?}");
        let query: String = form_urlencoded::byte_serialize(text.as_bytes()).collect();
        [quoted[1..quoted.len() - 1].to_owned(), query.replace('+', "%20"), query]
    });
    let written: Vec<_> = written.collect();
    private.extend(written);
    private.retain(|text| text.len() >= SHORTEST);
    private.iter_mut().for_each(|text| text.make_ascii_lowercase());
    private.sort_unstable();
    private.dedup();

    // First all is marked, then it is replaced: of two that overlap neither survives in part, and
    // nothing is looked for in what stands in their place.
    // In whichever case: handlers look up addresses in lower case, and so quote them.
    let mut hidden = vec![false; text.len()];
    let lower = text.to_ascii_lowercase();
    for secret in &private {
        // Where one ends that begins within what is read.
        let mut ends = READ + secret.len()..lower.len();
        let end = ends.find(|at| lower.is_char_boundary(*at)).unwrap_or(lower.len());
        for (start, found) in lower[..end].match_indices(secret.as_str()) {
            hidden[start..start + found.len()].fill(true);
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

#[derive(Default, Deserialize)]
#[serde(default)]
struct Body {
    data: Object<Data>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Data {
    promoter: Texts,
    campaign: Object<CampaignMembers>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CampaignMembers {
    default_webhook_url: Texts,
}

/// Every text in a JSON value, however deep the parser goes. (`serde_json::Value` would read JSON
/// within a text, too, behind a certain member's name and without a limit to the depth.)
#[derive(Default)]
struct Texts(Vec<String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct TextsVisitor;

        impl<'de> Visitor<'de> for TextsVisitor {
            type Value = Texts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any JSON value")
            }
            fn visit_unit<E>(self) -> Result<Texts, E> {
                Ok(Texts::default())
            }
            fn visit_bool<E>(self, _: bool) -> Result<Texts, E> {
                Ok(Texts::default())
            }
            fn visit_u64<E>(self, _: u64) -> Result<Texts, E> {
                Ok(Texts::default())
            }
            fn visit_i64<E>(self, _: i64) -> Result<Texts, E> {
                Ok(Texts::default())
            }
            fn visit_f64<E>(self, _: f64) -> Result<Texts, E> {
                Ok(Texts::default())
            }
            fn visit_str<E>(self, text: &str) -> Result<Texts, E> {
                Ok(Texts(vec![text.to_owned()]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Texts, A::Error> {
                let mut found = Texts::default();
                while let Some(mut texts) = seq.next_element::<Texts>()? {
                    found.0.append(&mut texts.0);
                }
                Ok(found)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Texts, A::Error> {
                let mut found = Texts::default();
                while let Some((_, mut texts)) = map.next_entry::<IgnoredAny, Texts>()? {
                    found.0.append(&mut texts.0);
                }
                Ok(found)
            }
        }

        input.deserialize_any(TextsVisitor)
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

    #[test]
    fn a_payload_that_is_odd_elsewhere_is_scrubbed_all_the_same() {
        let deep = format!(r#","x":{}{}"#, "[".repeat(200), "]".repeat(200));
        for odd in [r#","x":1e999"#, r#","x":"\ud800""#, &deep] {
            assert_eq!(scrubbed("no user ann@example.com", EMAIL, odd), "no user [redacted]");
        }
    }

    #[test]
    fn what_cannot_be_scrubbed_is_withheld() {
        for odd in [r#","note":"\ud800""#, r#","note":1e999"#] {
            let clean = scrubbed("no user ann@example.com", &format!("{EMAIL}{odd}"), "");
            assert!(!clean.contains("ann@"), "{clean}");
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

    /// Also of a secret that begins just before the end of what is read.
    #[test]
    fn what_is_read_ends_in_no_half_of_a_secret() {
        let note = "é".repeat(2_000);
        for before in [80, 90, 96, 97] {
            let text = format!("{note}{}ann@example.com, and more", ".".repeat(before));
            let clean = scrubbed(&text, &format!(r#"{EMAIL},"note":"{note}""#), "");
            assert_eq!(clean.split('.').next(), Some("[redacted]"));
            assert!(!clean.contains("an") && clean.ends_with('…'), "{clean}");
        }
    }

    #[test]
    fn a_long_text_is_cut_between_letters() {
        let clean = scrubbed(&"é".repeat(400), EMAIL, "");
        assert_eq!(clean, "é".repeat(300) + "…");
    }
}
