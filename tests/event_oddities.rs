//! "A colour changed its type, and nobody got their reward."
//!
//! Every member of the documented example that is not needed to grant, replaced by everything that
//! JSON has, left out, or sent besides: the reward must still be granted, and be the same reward.

use std::sync::{Arc, Mutex};

use futures::FutureExt;
use serde_json::Value;
use tower::ServiceExt;
use tower_firstpromoter::{
    Outcome, Verdict, Webhook,
    event::{DecodeError, Fulfilment},
    fulfil_fn,
    observe::Seen,
};

mod delivery;
use delivery::{DOCUMENTED, access, documented, full, post, verdict};

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

/// What stands for no value of ours anywhere: a number or a text that cannot be.
fn is_unreadable(odd: &str) -> bool {
    odd.contains("e400") || odd.contains("ud800")
}

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
fn assert_is_the_same_reward(body: String, what: &str) -> Fulfilment {
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
            let fulfilment = assert_is_the_same_reward(replaced(&pointer, odd), &what);
            if !is_unreadable(odd) {
                assert!(fulfilment.details().is_ok(), "{what}");
            }
        }
        let what = format!("{pointer} is absent");
        assert!(assert_is_the_same_reward(removed(&pointer), &what).details().is_ok(), "{what}");
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
            let fulfilment = assert_is_the_same_reward(body, &format!("{pointer} has {odd}"));
            assert!(fulfilment.as_bytes().windows(9).any(|bytes| bytes == b"brand_new"));
        }
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
            assert_is_the_same_reward(replaced(pointer, odd), pointer);
        }
        if pointer != "/data/status" {
            assert_is_the_same_reward(replaced(pointer, &wide), pointer);
        }
    }
    let body = replaced("/data/promoter/promotions", &long);
    let details = Fulfilment::decode(body).expect("a fulfilment").details().expect("details");
    assert_eq!(details.promoter.promotions.len(), 10_000);
}

/// A handler's error that quotes the payload goes to logs and stores without what is private in it,
/// and not at all if that cannot be told.
#[test]
fn an_error_is_scrubbed_whatever_the_payload() {
    let deep = "[".repeat(1_000) + &"]".repeat(1_000);
    for odd in ["\"#42a5f5\"", "1e400", "\"\\ud800\"", &deep] {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let handler = fulfil_fn(async |fulfilment: Fulfilment| {
            let email = fulfilment.promoter.email.unwrap_or_default();
            Err::<Outcome, _>(format!("no user {email} in the table"))
        });
        let webhook = Webhook::new(handler, access()).observe({
            let seen = Arc::clone(&seen);
            move |what: &Seen<'_>| {
                if let Seen::HandlerFailed { error, .. } = what {
                    seen.lock().expect("nobody panics").push((*error).to_owned());
                }
            }
        });
        let body = full(replaced("/data/campaign/color", odd));
        let answer = webhook.oneshot(post(body)).now_or_never().expect("at once");
        assert_eq!(verdict(&answer.expect("an answer")), Verdict::Failed);
        let seen = seen.lock().expect("nobody panics");
        assert_eq!(seen.len(), 1);
        assert!(
            seen[0].contains("[redacted]") && !seen[0].contains("promoter@"),
            "{odd}: {seen:?}"
        );
    }
}
