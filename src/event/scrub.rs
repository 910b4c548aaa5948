//! A handler's error is its author's text, and may well quote the payload: "no user a@b.c". What
//! goes on to a log or a store must not.

use serde_json::Value;

use super::Fulfilment;

/// In characters.
const LONGEST: usize = 300;

/// The text, without anything personal or secret that this payload holds, and not too long.
#[cold]
pub(crate) fn scrub(text: &str, fulfilment: &Fulfilment) -> String {
    let mut private = Vec::new();
    if let Ok(body) = serde_json::from_slice::<Value>(fulfilment.as_bytes()) {
        texts(&body["data"]["promoter"], &mut private);
        texts(&body["data"]["campaign"]["default_webhook_url"], &mut private);
    }
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
