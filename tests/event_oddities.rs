//! "A colour changed its type, and nothing was fulfilled any more."
//!
//! Every member of the documented example that is not required, replaced by everything that JSON
//! has, left out, or sent besides: it must still decode, to the same fulfilment.

use serde_json::Value;
use tower_firstpromoter::event::{Amount, DecodeError, Fulfilment};

mod delivery;
use delivery::{DOCUMENTED, documented};

const NEEDED: [&str; 8] = [
    "/event",
    "/event/type",
    "/data",
    "/data/id",
    "/data/amount",
    "/data/unit",
    "/data/promoter",
    "/data/promoter/id",
];

/// JSON values, as text: some are no Rust value.
const ODD: [&str; 22] = [
    "null",
    "\"\"",
    "true",
    "false",
    "0",
    "-1",
    "1.5",
    "7",
    "-0.0e0",
    "1e400",
    "-1e-400",
    "123456789012345678901234567890",
    "\"text\"",
    "\"2023-08-23T11:06:02.663Z\"",
    "\"\\u0000\\r\\n\\\"\"",
    "[]",
    "[null]",
    "[[1,{\"a\":\"b\"}],\"x\"]",
    "{}",
    "{\"id\":{\"id\":[]}}",
    "{\"\":null,\"url\":1,\"cash\":\"x\"}",
    // No character, though the grammar has it.
    "\"\\ud800\"",
];

/// Pointers to all members.
fn members(value: &Value, at: &str, found: &mut Vec<String>) {
    if let Value::Object(object) = value {
        for (name, value) in object {
            let at = format!("{at}/{name}");
            members(value, &at, found);
            found.push(at);
        }
    }
}

fn all_members() -> Vec<String> {
    let mut found = Vec::new();
    members(&documented(), "", &mut found);
    assert!(found.len() > 80, "the example has many members");
    found
}

/// The example with this text in the place of a member.
fn replaced(pointer: &str, with: &str) -> String {
    const PLACE: &str = "in the place of a member";
    let mut body = documented();
    *body.pointer_mut(pointer).expect("a member") = PLACE.into();
    body.to_string().replace(&format!("\"{PLACE}\""), with)
}

fn removed(pointer: &str) -> String {
    let mut body = documented();
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
    let parent = body.pointer_mut(parent).and_then(Value::as_object_mut).expect("an object");
    parent.remove(name).expect("a member");
    body.to_string()
}

#[track_caller]
fn assert_is_the_same(body: String, what: &str) -> Fulfilment {
    let expected = Fulfilment::decode(DOCUMENTED).expect("the documented example");
    let found = match Fulfilment::decode(body) {
        Ok(found) => found,
        Err(error) => panic!("{what}: {error}"),
    };
    assert_eq!(
        (found.id, found.amount, &found.unit, found.promoter.id),
        (expected.id, expected.amount, &expected.unit, expected.promoter.id),
        "{what}"
    );
    found
}

#[test]
fn whatever_is_not_needed_may_be_anything() {
    for pointer in all_members() {
        if NEEDED.contains(&&*pointer) {
            continue;
        }
        for odd in ODD {
            let what = format!("{pointer} is {odd}");
            let fulfilment = assert_is_the_same(replaced(&pointer, odd), &what);
            assert!(fulfilment.details().is_ok(), "{what}");
        }
        let what = format!("{pointer} is absent");
        assert!(assert_is_the_same(removed(&pointer), &what).details().is_ok(), "{what}");
    }
}

#[test]
fn whatever_is_needed_is_missed() {
    for pointer in NEEDED {
        let found = Fulfilment::decode(removed(pointer)).err();
        assert!(matches!(found, Some(DecodeError::NotAFulfilment(_))), "{pointer}: {found:?}");
        for odd in ["null", "\"\"", "true", "[]", "[null]", "{}", "1e400", "\"\\ud800\""] {
            assert!(Fulfilment::decode(replaced(pointer, odd)).is_err(), "{pointer} is {odd}");
        }
    }
}

/// What the sender adds one day.
#[test]
fn new_members_are_no_matter() {
    for pointer in all_members() {
        for odd in ODD {
            let mut body = documented();
            let Some(Value::Object(object)) = body.pointer_mut(&pointer) else { continue };
            object.insert("brand_new".into(), "in the place".into());
            let body = body.to_string().replace("\"in the place\"", odd);
            let fulfilment = assert_is_the_same(body, &format!("{pointer} has {odd}"));
            assert!(fulfilment.as_bytes().windows(9).any(|bytes| bytes == b"brand_new"));
        }
    }
}

/// A name may be any string that JSON has, also one that stands for no text.
#[test]
fn odd_names_are_no_matter() {
    // Where the names are kept: a unit, and a site.
    let kept = |pointer: &str| pointer.ends_with("_balance") || pointer.ends_with("_accounts");
    for pointer in all_members() {
        for odd in ["", "\\ud800", "\\ud83dx", "\\u0000\\n", "a\\\"b", "é", "n\\u0061"] {
            let mut body = documented();
            let Some(Value::Object(object)) = body.pointer_mut(&pointer) else { continue };
            object.insert("brand_new".into(), 1.into());
            let body = body.to_string().replace("brand_new", odd);
            let what = format!("{pointer} has {odd}");
            let details = assert_is_the_same(body, &what).details();
            assert_eq!(details.is_err(), odd.contains("ud8") && kept(&pointer), "{what}");
        }
    }
    for (name, escaped) in
        [("unit", "\\u0075nit"), ("event", "ev\\u0065nt"), ("promoter", "pr\\u006fmoter")]
    {
        let escaped = DOCUMENTED.replace(&format!("\"{name}\""), &format!("\"{escaped}\""));
        assert_is_the_same(escaped, name);
    }
    // A line break must be escaped in a name as in any string.
    let raw = DOCUMENTED.replacen("\"campaign\"", "\"camp\naign\"", 1);
    assert!(matches!(Fulfilment::decode(raw), Err(DecodeError::NotJson { .. })));
}

/// Nor may what is no text at all stand anywhere.
#[test]
fn bytes_that_are_not_utf8() {
    for place in ["referralid18", "pref", "Campaign Name", "free_months", "event", "promotions"] {
        let at = DOCUMENTED.find(place).expect("it is there");
        let mut body = DOCUMENTED.as_bytes().to_vec();
        body[at + 1] = 0xff;
        let lines = DOCUMENTED[..at].matches('\n').count();
        let found = Fulfilment::decode(body).err();
        let Some(DecodeError::NotJson { line, .. }) = found else { panic!("{place}: {found:?}") };
        assert_eq!(line, lines + 1, "{place}");
    }
}

/// Far deeper and far longer than anything that was ever seen.
#[test]
fn depth_and_length_are_no_matter() {
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let long = format!("[{}0]", r#"{"id":1,"ref_id":"x"},"#.repeat(10_000));
    let wide = format!("{:?}", "x".repeat(100_000));
    for pointer in
        ["/data/promoter/promotions", "/data/campaign/color", "/event/id", "/data/status"]
    {
        for odd in [&deep, &long] {
            assert_is_the_same(replaced(pointer, odd), pointer);
        }
        if pointer != "/data/status" {
            assert_is_the_same(replaced(pointer, &wide), pointer);
        }
    }
    let body = replaced("/data/promoter/promotions", &long);
    let details = Fulfilment::decode(body).expect("a fulfilment").details().expect("details");
    assert_eq!(details.promoter.promotions.len(), 10_000);
}

/// An amount is neither rounded nor cut off.
#[test]
fn amounts_are_exact_or_none_at_all() {
    for (text, expected) in [
        ("3", Some("3")),
        ("2.50", Some("2.50")),
        ("-12", Some("-12")),
        ("1.25E+2", Some("125")),
        ("1e28", Some("10000000000000000000000000000")),
        ("1e-28", Some("0.0000000000000000000000000001")),
        ("25e-1", Some("2.5")),
        ("79228162514264337593543950335", Some("79228162514264337593543950335")),
        ("79228162514264337593543950336", None),
        ("7.9228162514264337593543950335", Some("7.9228162514264337593543950335")),
        ("7.9228162514264337593543950336", None),
        ("0.12345678901234567890123456789", None),
        ("1.9999999999999999999999999999999e0", None),
        ("12345678901234567.12345678901e20", None),
        ("1e29", None),
        ("1e-29", None),
        ("1.5e-4294967295", None),
        ("1e9223372036854775807", None),
        ("1.5e-9223372036854775808", None),
        ("1e99999999999999999999", None),
        ("1e", None),
        ("1e1e1", None),
        ("", None),
        ("-", None),
        ("+1", None),
        ("1_000", None),
        ("NaN", None),
    ] {
        let found = text.parse::<Amount>().ok().map(|amount| amount.to_string());
        assert_eq!(found.as_deref(), expected, "{text}");
    }
}
