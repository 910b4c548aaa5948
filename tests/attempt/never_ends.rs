//! A handler never ends. Its delivery is answered in time, the attempt is cut off at the end of its
//! own, and what it leaves is in doubt in a journal and undone by a transactional store. Nothing
//! waits for longer than that: neither the fulfilment, nor its place among the running attempts,
//! nor `close`.

use std::{
    convert::Infallible,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::time::{Instant, sleep_until};
use tower_firstpromoter::{
    FulfilIn, Outcome, Verdict,
    event::Fulfilment,
    fulfil_fn,
    store::{MemoryStore, State},
};

use crate::{
    Log, SECOND,
    deliver::{self, deliver},
    in_doubt, never_ends, record, sent,
    undoing::{Undoing, UndoingTx},
    webhook,
};

#[tokio::test(start_paused = true)]
async fn in_a_journal_it_is_in_doubt() {
    let (store, log) = (MemoryStore::new(10), Log::default());
    let webhook = deliver::webhook(fulfil_fn(never_ends), store.clone()).observe(log.observer());
    let start = Instant::now();
    assert_eq!(deliver(&webhook, 1).await, Verdict::InProgress);
    assert_eq!(start.elapsed().as_secs(), 10);
    assert_eq!(in_doubt(&store).await, [0; 0], "while it runs, it is no doubt");

    sleep_until(start + 55 * SECOND).await;
    assert_eq!(deliver(&webhook, 1).await, Verdict::InDoubt);
    assert_eq!(start.elapsed().as_secs(), 60);
    assert_eq!(deliver(&webhook, 1).await, Verdict::InDoubt);
    assert_eq!(
        log.take(),
        [
            "answered in_progress, attempt 0",
            "interrupted, undone false: took longer than 60s",
            "answered in_doubt, attempt 1, joined",
            "in doubt: `was_fulfilled` does not know",
            "answered in_doubt, attempt 0",
        ]
    );
    let record = record(&store, 1).await;
    assert_eq!((record.state, record.attempts), (State::InDoubt, 1));
    assert_eq!(record.reason.as_deref(), Some("took longer than 60s"));
}

/// Writes; the first time it never ends after that.
struct Hangs(Arc<AtomicBool>);

impl FulfilIn<UndoingTx> for Hangs {
    type Error = Infallible;

    async fn fulfil_in(&self, f: Fulfilment, tx: &mut UndoingTx) -> Result<Outcome, Infallible> {
        tx.writes.push(f.id.get());
        if self.0.swap(false, Ordering::SeqCst) {
            pending().await
        }
        Ok(Outcome::Fulfilled)
    }
}

#[tokio::test(start_paused = true)]
async fn a_transactional_store_undoes_it() {
    let (store, log) = (Undoing::new(), Log::default());
    let handler = Hangs(Arc::new(AtomicBool::new(true)));
    let webhook =
        deliver::webhook(handler, store.clone()).attempt_within(5 * SECOND).observe(log.observer());
    let start = Instant::now();
    assert_eq!(deliver(&webhook, 1).await, Verdict::Failed);
    assert_eq!(start.elapsed().as_secs(), 5);
    assert_eq!(log.take()[0], "interrupted, undone true: took longer than 5s");
    assert_eq!((store.kept(), in_doubt(&store).await), (vec![], vec![]));

    assert_eq!(deliver(&webhook, 1).await, Verdict::Fulfilled);
    assert_eq!(store.kept(), [1]);
}

#[tokio::test(start_paused = true)]
async fn its_place_is_free_again() {
    let handler = fulfil_fn(async |fulfilment: Fulfilment| {
        if fulfilment.id.get() <= 256 {
            pending::<()>().await;
        }
        Ok::<_, Infallible>(Outcome::Fulfilled)
    });
    let webhook = webhook(handler);
    let start = Instant::now();
    let all: Vec<_> = (1..=256).map(|id| sent(&webhook, id)).collect();
    for delivery in all {
        assert_eq!(delivery.await.expect("no panic"), Verdict::InProgress);
    }
    assert_eq!(deliver(&webhook, 257).await, Verdict::Overloaded);
    sleep_until(start + 61 * SECOND).await;
    assert_eq!(deliver(&webhook, 257).await, Verdict::Fulfilled);
}

#[tokio::test(start_paused = true)]
async fn close_returns() {
    let webhook = webhook(fulfil_fn(never_ends));
    let start = Instant::now();
    let delivery = sent(&webhook, 1);
    tokio::task::yield_now().await;
    webhook.close().await;
    assert_eq!(start.elapsed().as_secs(), 60);
    assert_eq!(delivery.await.expect("no panic"), Verdict::InProgress);
}

/// The handler's future is dropped at the end of its time, and its own drop panics.
#[tokio::test(start_paused = true)]
async fn nor_can_it_be_dropped() {
    struct Undroppable;

    impl Drop for Undroppable {
        fn drop(&mut self) {
            std::panic::resume_unwind(Box::new("in a drop"));
        }
    }

    let (store, log) = (MemoryStore::new(10), Log::default());
    let handler = fulfil_fn(async |_: Fulfilment| {
        let _held = Undroppable;
        pending::<Result<Outcome, Infallible>>().await
    });
    let webhook =
        deliver::webhook(handler, store.clone()).attempt_within(5 * SECOND).observe(log.observer());
    assert_eq!(deliver(&webhook, 1).await, Verdict::Panicked);
    assert_eq!(log.take()[0], "interrupted, undone false: panicked: in a drop");
    assert_eq!(in_doubt(&store).await, [1]);
    webhook.close().await;
}
