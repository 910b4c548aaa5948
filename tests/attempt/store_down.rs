//! The store is out of reach, or has a bug. Before the handler: it is not called, because its traces
//! could not be told from none. After it: nothing is confirmed, and the fulfilment is in doubt.

use std::{
    panic::resume_unwind,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use tower_firstpromoter::{Fulfil, Outcome, Verdict, event::Fulfilment};

use crate::{
    Log,
    deliver::{deliver, webhook},
    faulty::{Fault, Faulty},
};

/// Fails for one id; else fulfils, and knows so.
#[derive(Clone, Default)]
struct Counting(Arc<AtomicU32>);

impl Counting {
    fn calls(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }
}

impl Fulfil for Counting {
    type Error = String;

    async fn fulfil(&self, fulfilment: Fulfilment) -> Result<Outcome, String> {
        self.0.fetch_add(1, Ordering::SeqCst);
        match fulfilment.id.get() {
            13 => Err("no such user".to_owned()),
            _ => Ok(Outcome::Fulfilled),
        }
    }

    async fn was_fulfilled(&self, fulfilment: &Fulfilment) -> Result<Option<bool>, String> {
        Ok(Some(fulfilment.id.get() != 13))
    }
}

const REFUSES: Fault = Fault::Fails(|| "connection refused".into());
const PANICS: Fault = Fault::Fails(|| resume_unwind(Box::new("a bug")));
const PANICS_LATER: Fault = Fault::FailsLater(|| resume_unwind(Box::new("a bug")));

const FAULTS: [(Fault, &str); 3] = [
    (REFUSES, "connection refused"),
    (PANICS, "the store panicked"),
    (PANICS_LATER, "the store panicked"),
];

#[tokio::test]
async fn before_the_handler() {
    for (fault, text) in FAULTS {
        let (store, handler, log) =
            (Faulty::new(fault, Fault::None), Counting::default(), Log::default());
        let webhook = webhook(handler.clone(), store.clone()).observe(log.observer());
        for _ in 0..3 {
            assert_eq!(deliver(&webhook, 1).await, Verdict::StoreUnavailable);
            assert_eq!(
                log.take(),
                [
                    &*format!("store failed, after_handler false: {text}"),
                    "answered store_unavailable, attempt 0",
                ]
            );
        }
        assert_eq!(handler.calls(), 0);
        store.set(Fault::None, Fault::None);
        assert_eq!(deliver(&webhook, 1).await, Verdict::Fulfilled);
        assert_eq!(handler.calls(), 1);
    }
}

#[tokio::test]
async fn after_the_handler() {
    for (fault, text) in FAULTS {
        let (store, handler, log) =
            (Faulty::new(Fault::None, fault), Counting::default(), Log::default());
        let webhook = webhook(handler.clone(), store.clone()).observe(log.observer());
        assert_eq!(deliver(&webhook, 1).await, Verdict::NotRecorded);
        assert_eq!(
            log.take(),
            [
                &*format!("store failed, after_handler true: {text}"),
                "answered not_recorded, attempt 1",
            ]
        );
        // In doubt by now, and `was_fulfilled` knows; but that cannot be recorded, either.
        assert_eq!(deliver(&webhook, 1).await, Verdict::NotRecorded);
        store.set(Fault::None, Fault::None);
        assert_eq!(deliver(&webhook, 1).await, Verdict::Fulfilled);
        assert_eq!(handler.calls(), 1);
    }
}

/// The handler said that nothing took effect. Unless that is recorded, it must be asked again.
#[tokio::test]
async fn after_a_handler_that_failed() {
    let (store, handler) = (Faulty::new(Fault::None, REFUSES), Counting::default());
    let webhook = webhook(handler.clone(), store.clone());
    assert_eq!(deliver(&webhook, 13).await, Verdict::NotRecorded);
    store.set(Fault::None, Fault::None);
    assert_eq!(deliver(&webhook, 13).await, Verdict::Failed);
    assert_eq!(handler.calls(), 2);
}
