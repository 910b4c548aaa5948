//! An error whose text cannot be formatted, or is a megabyte long. Texts never decide a state: the
//! handler said that nothing took effect, so the attempt `failed`, whatever its error's text does.

use std::{error::Error, fmt, panic::resume_unwind};

use tower_firstpromoter::{
    BoxError, Outcome, Verdict,
    event::Fulfilment,
    fulfil_fn,
    store::{MemoryStore, State},
};

use crate::{
    Gate, Log,
    deliver::{deliver, webhook},
    faulty::{Fault, Faulty},
    record,
};

#[derive(Clone, Copy, Debug)]
enum Text {
    FailsAtOnce,
    FailsInTheMiddle,
    Panics,
    Empty,
    Megabyte,
    /// Goes on after it was told to stop.
    MegabyteInPieces,
    Wide,
}

use Text::*;

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FailsAtOnce => Err(fmt::Error),
            FailsInTheMiddle => f.write_str("no us").and(Err(fmt::Error)),
            Panics => resume_unwind(Box::new("in `Display`")),
            Empty => Ok(()),
            Megabyte => f.write_str(&"x".repeat(1 << 20)),
            MegabyteInPieces => {
                let stopped = (0..1 << 20).filter(|_| f.write_str("x").is_err()).count();
                assert!(stopped > 0, "it is told to stop");
                Ok(())
            }
            Wide => f.write_str(&"ö".repeat(301)),
        }
    }
}

impl Error for Text {}

const TEXTS: [(Text, &str, usize); 7] = [
    (FailsAtOnce, "without a text", 1),
    (FailsInTheMiddle, "no us", 1),
    (Panics, "without a text", 1),
    (Empty, "without a text", 1),
    (Megabyte, "x", 300),
    (MegabyteInPieces, "x", 300),
    (Wide, "ö", 300),
];

#[tokio::test]
async fn of_the_handler() {
    for (error, text, times) in TEXTS {
        let text = text.repeat(times);
        let (store, log) = (MemoryStore::new(10), Log::default());
        let handler = fulfil_fn(move |_: Fulfilment| async move { Err::<Outcome, _>(error) });
        let webhook = webhook(handler, store.clone()).observe(log.observer());
        assert_eq!(deliver(&webhook, 1).await, Verdict::Failed, "{error:?}");
        assert_eq!(log.take(), [&*format!("failed: {text}"), "answered failed, attempt 1"]);
        let record = record(&store, 1).await;
        assert_eq!((record.state, record.reason), (State::Failed, Some(text)), "{error:?}");
    }
}

#[tokio::test]
async fn of_a_doubt() {
    let (store, log) = (MemoryStore::new(10), Log::default());
    let handler =
        fulfil_fn(async |_: Fulfilment| Ok::<_, BoxError>(Outcome::InDoubt("ö".repeat(1 << 20))));
    let webhook = webhook(handler, store.clone()).observe(log.observer());
    assert_eq!(deliver(&webhook, 1).await, Verdict::InDoubt);
    let text = "ö".repeat(300);
    assert_eq!(log.take()[0], format!("in doubt: {text}"));
    assert_eq!(record(&store, 1).await.reason, Some(text));
}

#[tokio::test]
async fn of_the_store() {
    for (fault, text) in [
        (Fault::Fails(|| FailsAtOnce.into()), "without a text".to_owned()),
        (Fault::Fails(|| Panics.into()), "without a text".to_owned()),
        (Fault::FailsLater(|| Panics.into()), "without a text".to_owned()),
        (Fault::Fails(|| Megabyte.into()), "x".repeat(300)),
    ] {
        for (begin, end, after_handler, verdict) in [
            (fault, Fault::None, false, Verdict::StoreUnavailable),
            (Fault::None, fault, true, Verdict::NotRecorded),
        ] {
            let log = Log::default();
            let store = Faulty::new(begin, end);
            let webhook = webhook(Gate::opened(), store).observe(log.observer());
            assert_eq!(deliver(&webhook, 1).await, verdict);
            let event = format!("store failed, after_handler {after_handler}: {text}");
            assert_eq!(log.take()[0], event);
        }
    }
}
