//! An observer panics, at every event. It changes nothing for the delivery, for the attempt and for
//! the observers before and after it.

use std::{convert::Infallible, panic::resume_unwind};

use futures::FutureExt;
use tower::ServiceExt;
use tower_firstpromoter::{
    BoxError, Outcome, Verdict, event::Fulfilment, fulfil_fn, observe::DeliveryEvent,
    store::MemoryStore,
};

use crate::{
    Gate, Log,
    deliver::{deliver, delivery, webhook},
    faulty::{Fault, Faulty},
};

fn panics(_: &DeliveryEvent<'_>) {
    resume_unwind(Box::new("an exporter's bug"));
}

#[tokio::test]
async fn each_is_guarded_on_its_own() {
    let (before, after) = (Log::default(), Log::default());
    let handler = fulfil_fn(async |fulfilment: Fulfilment| match fulfilment.id.get() {
        1 => Ok::<_, BoxError>(Outcome::Fulfilled),
        2 => Err("no such user".into()),
        3 => Ok(Outcome::InDoubt("timed out".to_owned())),
        _ => resume_unwind(Box::new("a bug")),
    });
    let webhook = webhook(handler, MemoryStore::new(10))
        .observe(before.observer())
        .observe(panics)
        .observe(panics)
        .observe(after.observer());
    for (id, verdict, events) in [
        (1, Verdict::Fulfilled, vec!["answered fulfilled, attempt 1"]),
        (2, Verdict::Failed, vec!["failed: no such user", "answered failed, attempt 1"]),
        (3, Verdict::InDoubt, vec!["in doubt: timed out", "answered in_doubt, attempt 1"]),
        (
            4,
            Verdict::Panicked,
            vec!["interrupted, undone false: panicked: a bug", "answered panicked, attempt 1"],
        ),
    ] {
        assert_eq!(deliver(&webhook, id).await, verdict);
        assert_eq!(before.take(), events);
        assert_eq!(after.take(), events);
    }
    webhook.close().await;
}

/// In a drop, a panic that gets out during another one ends the process.
#[tokio::test]
async fn also_where_the_sender_hangs_up() {
    let (gate, log) = (Gate::closed(), Log::default());
    let webhook =
        webhook(gate.clone(), MemoryStore::new(10)).observe(panics).observe(log.observer());
    let mut answer = Box::pin(webhook.clone().oneshot(delivery(1)));
    assert!(answer.as_mut().now_or_never().is_none());
    gate.called(1).await;
    drop(answer);
    gate.open();
    log.saw("ended late fulfilled, attempt 1").await;
    assert_eq!(log.take(), ["hung up on Some(1)", "ended late fulfilled, attempt 1"]);
    webhook.close().await;
}

#[tokio::test]
async fn also_where_the_store_fails() {
    let log = Log::default();
    let handler = fulfil_fn(async |_: Fulfilment| Ok::<_, Infallible>(Outcome::Fulfilled));
    let webhook = webhook(handler, Faulty::new(Fault::DOWN, Fault::None))
        .observe(panics)
        .observe(log.observer());
    assert_eq!(deliver(&webhook, 1).await, Verdict::StoreUnavailable);
    assert_eq!(log.take().len(), 2);
}
