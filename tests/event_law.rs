//! The law, under arbitrary payloads: never a panic, and a 200 only if the handler said Fulfilled.

use std::sync::{Arc, Mutex};

use proptest::{collection::vec, prelude::*, sample::Index};
use serde_json::Value;
use tokio::runtime::Builder;
use tower::ServiceExt;
use tower_firstpromoter::{
    Outcome, Verdict,
    event::{Amount, Fulfilment},
    fulfil_fn,
};

mod delivery;
use delivery::{DOCUMENTED, full, post, verdict};

/// What a delivery of this body came to: its verdict, its status, and what the handler was given.
fn deliver(body: Vec<u8>, says: Result<Outcome, &'static str>) -> (Verdict, u16, Vec<Fulfilment>) {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let handler = fulfil_fn({
        let calls = Arc::clone(&calls);
        move |fulfilment| {
            calls.lock().expect("nobody panics").push(fulfilment);
            std::future::ready(says.clone())
        }
    });
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    let answer = runtime.block_on(delivery::webhook(handler).oneshot(post(full(body))));
    let answer = answer.expect("an answer");
    let calls = std::mem::take(&mut *calls.lock().expect("nobody panics"));
    (verdict(&answer), answer.status().as_u16(), calls)
}

fn says() -> impl Strategy<Value = Result<Outcome, &'static str>> {
    prop_oneof![
        Just(Ok(Outcome::Fulfilled)),
        Just(Ok(Outcome::Pending)),
        Just(Err("nothing happened"))
    ]
}

#[track_caller]
fn assert_law(body: Vec<u8>, says: Result<Outcome, &'static str>) -> Result<(), TestCaseError> {
    let (verdict, status, calls) = deliver(body.clone(), says.clone());
    match (calls.as_slice(), says) {
        ([_], Ok(Outcome::Fulfilled)) => {
            prop_assert_eq!((verdict, status), (Verdict::Fulfilled, 200))
        }
        ([_], Ok(Outcome::Pending)) => prop_assert_eq!((verdict, status), (Verdict::Pending, 202)),
        ([_], Err(_)) => prop_assert_eq!((verdict, status), (Verdict::Failed, 500)),
        ([], _) => prop_assert!(verdict != Verdict::Fulfilled && status != 200),
        _ => prop_assert!(false, "called {} times", calls.len()),
    }
    // What was fulfilled is what an ordinary reader of JSON finds in the body.
    if let [fulfilled] = calls.as_slice() {
        prop_assert_eq!(fulfilled.as_bytes(), &body);
        let _ = (format!("{fulfilled:?}"), fulfilled.details());
        if let Ok(body) = serde_json::from_slice::<Value>(&body) {
            prop_assert_eq!(&body["event"]["type"], "fulfilment_pending");
            let text = |value: &Value| match value {
                Value::String(text) => text.clone(),
                value => value.to_string(),
            };
            let id = text(&body["data"]["id"]).parse();
            prop_assert_eq!(id, Ok(fulfilled.id.get()));
            let promoter = text(&body["data"]["promoter"]["id"]).parse();
            prop_assert_eq!(promoter, Ok(fulfilled.promoter.id.get()));
            let status = body["data"]["status"].as_str().unwrap_or_default();
            prop_assert!(["", "pending"].contains(&status));
        }
    }
    Ok(())
}

/// The example itself, so that the law is not kept by refusing everything.
#[test]
fn the_example_is_fulfilled() {
    assert_eq!(deliver(DOCUMENTED.into(), Ok(Outcome::Fulfilled)).0, Verdict::Fulfilled);
    for says in [Ok(Outcome::Fulfilled), Ok(Outcome::Pending), Err("nothing happened")] {
        assert_law(DOCUMENTED.into(), says).expect("the law");
    }
}

/// Any JSON, small.
fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "(pending|completed|fulfilment_pending|-?[0-9]{1,30}|.{0,8})".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec(("(id|type|unit|url|.{0,4})", inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn places(value: &Value, at: String, found: &mut Vec<String>) {
    if let Value::Object(members) = value {
        for (name, value) in members {
            let name = name.replace('~', "~0").replace('/', "~1");
            places(value, format!("{at}/{name}"), found);
        }
    }
    found.push(at);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn members_replaced(
        changes in vec((any::<Index>(), json()), 1..5),
        says in says(),
    ) {
        let mut body = delivery::documented();
        for (index, value) in changes {
            let mut found = Vec::new();
            places(&body, String::new(), &mut found);
            let place = body.pointer_mut(&found[index.index(found.len())]);
            *place.expect("it was found") = value;
        }
        assert_law(body.to_string().into_bytes(), says)?;
    }

    #[test]
    fn bytes_changed(
        changes in vec((any::<Index>(), any::<u8>(), 0..3_u8), 0..6),
        says in says(),
    ) {
        let mut body = DOCUMENTED.as_bytes().to_vec();
        for (index, byte, how) in changes {
            let at = index.index(body.len());
            match how {
                0 => body[at] = byte,
                1 => body.insert(at, byte),
                _ => { body.remove(at); }
            }
        }
        assert_law(body, says)?;
    }

    #[test]
    fn pieces_moved(
        cut in any::<Index>(),
        other in any::<Index>(),
        to in any::<Index>(),
        says in says(),
    ) {
        let text = DOCUMENTED.as_bytes();
        let (a, b) = (cut.index(text.len()), other.index(text.len()));
        let piece = &text[a.min(b)..a.max(b)];
        let mut body = text.to_vec();
        let at = to.index(body.len());
        body.splice(at..at, piece.iter().copied());
        assert_law(body, says.clone())?;
        assert_law(piece.to_vec(), says)?;
    }

    #[test]
    fn anything(body in vec(any::<u8>(), 0..300), says in says()) {
        assert_law(body, says)?;
    }

    /// An amount is what its text says, or it is none.
    #[test]
    fn amounts(text in "-?[0-9]{0,32}[.]?[0-9]{0,32}([eE][-+]?[0-9]{0,12})?") {
        if let Ok(amount) = text.parse::<Amount>() {
            let again = amount.to_string().parse::<Amount>();
            prop_assert_eq!(again, Ok(amount));
            let (exact, float) = (amount.to_string().parse::<f64>(), text.parse::<f64>());
            let (exact, float) = (exact.expect("a number"), float.expect("a number"));
            prop_assert!((exact - float).abs() <= float.abs() * 1e-12, "{} became {}", text, amount);
            prop_assert_eq!(amount.is_positive(), float > 0.0);
        }
    }

    #[test]
    fn amounts_of_anything(text in ".{0,40}") {
        let _ = text.parse::<Amount>();
    }
}
