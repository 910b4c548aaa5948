//! A handler's error is its author's text, and may well quote the payload: "no user a@b.c". What
//! goes on to a log or a store must not.

use serde_json::Value;

use super::Fulfilment;

/// In characters.
const LONGEST: usize = 300;

/// The text, without anything personal or secret that this payload holds, and not too long.
#[cold]
pub(crate) fn scrub(text: &str, fulfilment: &Fulfilment) -> String {
    // What was read to grant skips over other members, and so over what is wrong in them.
    let Ok(body) = serde_json::from_slice::<Value>(fulfilment.as_bytes()) else {
        return "withheld, because the payload cannot be searched for what it might quote"
            .to_owned();
    };
    let mut private = Vec::new();
    texts(&body["data"]["promoter"], &mut private);
    texts(&body["data"]["campaign"]["default_webhook_url"], &mut private);
    // Again, for one that was sent as a number.
    private.extend(fulfilment.promoter.cust_id.clone());
    // The longest first: an address that holds another text must not survive in part.
    private.sort_unstable_by_key(|text| std::cmp::Reverse(text.len()));

    let mut clean = text.to_owned();
    for secret in private {
        // Shorter ones are words like "US", which would turn any sentence into holes.
        if secret.len() >= 4 {
            clean = without(&clean, &secret);
        }
    }
    if let Some((end, _)) = clean.char_indices().nth(LONGEST) {
        clean.truncate(end);
        clean.push('…');
    }
    clean
}

/// In whichever case it was quoted: handlers look up addresses in lower case.
fn without(text: &str, secret: &str) -> String {
    // Of the same length as the originals, so that places in them are places in those.
    let (lower, secret) = (text.to_ascii_lowercase(), secret.to_ascii_lowercase());
    let mut clean = String::with_capacity(text.len());
    let mut end = 0;
    for (start, _) in lower.match_indices(&secret) {
        clean.push_str(&text[end..start]);
        clean.push_str("[redacted]");
        end = start + secret.len();
    }
    clean.push_str(&text[end..]);
    clean
}

fn texts(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.clone()),
        Value::Array(values) => values.iter().for_each(|value| texts(value, found)),
        Value::Object(members) => members.values().for_each(|value| texts(value, found)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn scrubbed(text: &str, more: &str) -> String {
        let body = format!(
            r#"{{"event":{{"type":"fulfilment_pending"}},"data":{{"id":1,"amount":1,"unit":"cash","promoter":{{"id":7,"cust_id":12345,"email":"Ann@example.com","profile":{{"first_name":"Ann"}}}},"more":{more}}}}}"#
        );
        scrub(text, &Fulfilment::decode(body).expect("a fulfilment"))
    }

    #[test]
    fn what_is_left_of_an_error() {
        let nested = "[".repeat(200) + &"]".repeat(200);
        for (text, more, expected) in [
            ("no such table", "0", "no such table"),
            ("no user Ann@example.com", "0", "no user [redacted]"),
            ("no user ann@EXAMPLE.com, id 12345", "0", "no user [redacted], id [redacted]"),
            (
                "no user ann@example.com",
                &nested,
                "withheld, because the payload cannot be searched for what it might quote",
            ),
        ] {
            assert_eq!(scrubbed(text, more), expected);
        }
        assert_eq!(scrubbed(&"ä".repeat(1_000), "0").chars().count(), LONGEST + 1);
    }
}
