//! A panic's payload panics when it is dropped, and so does the payload of that panic. It must not
//! get out of the guard that caught the first one: the answer, the record, the other observers and
//! the fulfilment's place are as after any other panic.

use std::panic::{AssertUnwindSafe, resume_unwind};

use futures::FutureExt;
use tower_firstpromoter::{
    Access, BoxError, Fulfil, Outcome, Verdict, Webhook, event::Fulfilment, observe::DeliveryEvent,
    store::MemoryStore,
};

use crate::{
    Gate, Log,
    deliver::{deliver, webhook},
    faulty::{Fault, Faulty},
    in_doubt,
};

/// Panics when it is dropped, so many times over.
struct PanicsOnDrop(u32);

impl Drop for PanicsOnDrop {
    fn drop(&mut self) {
        if let Some(left) = self.0.checked_sub(1) {
            resume_unwind(Box::new(Self(left)));
        }
    }
}

fn panics<T>() -> T {
    resume_unwind(Box::new(PanicsOnDrop(3)))
}

/// Delivers, and fails if a panic gets out: caught here, before it takes the test's runtime along.
async fn safely(webhook: &Webhook, id: u64) -> Verdict {
    let delivered = AssertUnwindSafe(deliver(webhook, id)).catch_unwind().await;
    delivered.unwrap_or_else(|panic| {
        std::mem::forget(panic);
        panic!("it got out")
    })
}

struct Panics {
    in_display: bool,
}

#[derive(Debug)]
struct Unprintable;

impl std::fmt::Display for Unprintable {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panics()
    }
}

impl std::error::Error for Unprintable {}

impl Fulfil for Panics {
    type Error = BoxError;

    async fn fulfil(&self, _: Fulfilment) -> Result<Outcome, BoxError> {
        if self.in_display { Err(Unprintable.into()) } else { panics() }
    }

    async fn was_fulfilled(&self, _: &Fulfilment) -> Result<Option<bool>, BoxError> {
        panics()
    }
}

#[tokio::test]
async fn of_the_handler() {
    let (store, log) = (MemoryStore::new(10), Log::default());
    let webhook = webhook(Panics { in_display: false }, store.clone()).observe(log.observer());
    assert_eq!(safely(&webhook, 1).await, Verdict::Panicked);
    assert_eq!(log.take()[0], "interrupted, undone false: panicked: without a message");
    assert_eq!(safely(&webhook, 1).await, Verdict::InDoubt);
    assert_eq!(in_doubt(&store).await, [1]);
}

#[tokio::test]
async fn of_an_errors_text() {
    let webhook = webhook(Panics { in_display: true }, MemoryStore::new(10));
    assert_eq!(safely(&webhook, 1).await, Verdict::Failed);
}

#[tokio::test]
async fn of_an_observer() {
    let log = Log::default();
    let webhook = webhook(Gate::opened(), MemoryStore::new(10))
        .observe(|_: &DeliveryEvent<'_>| panics())
        .observe(log.observer());
    assert_eq!(safely(&webhook, 1).await, Verdict::Fulfilled);
    assert_eq!(log.take(), ["answered fulfilled, attempt 1"]);
}

#[tokio::test]
async fn of_the_store() {
    for fault in [Fault::Fails(panics), Fault::FailsLater(panics)] {
        for (begin, end, verdict) in [
            (fault, Fault::None, Verdict::StoreUnavailable),
            (Fault::None, fault, Verdict::NotRecorded),
        ] {
            let log = Log::default();
            let webhook = webhook(Gate::opened(), Faulty::new(begin, end)).observe(log.observer());
            assert_eq!(safely(&webhook, 1).await, verdict);
            assert!(log.take()[0].ends_with("the store panicked"));
            webhook.close().await;
        }
    }
}

#[tokio::test]
async fn of_access() {
    let access = Access::custom(|_| panics());
    let webhook = Webhook::new(Gate::opened(), MemoryStore::new(10), access);
    assert_eq!(safely(&webhook, 1).await, Verdict::Unauthorized);
}
