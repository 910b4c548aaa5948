//! The store does not answer, or much too late. Before the handler the delivery is answered with
//! `store_unavailable`, after it with `not_recorded`, both in time; the fulfilment is released in
//! this process, and the next delivery asks the store, which alone knows. A `begin` that succeeds
//! when nobody waits for it any more must not look like an attempt.

use tokio::time::{Instant, sleep, sleep_until};
use tower_firstpromoter::{
    Verdict,
    store::{Begin, Claim, End, State, Store},
};

use crate::{
    Gate, Log, SECOND,
    deliver::{deliver, webhook},
    faulty::{Fault, Faulty},
    fulfilment, in_doubt, record, sent,
};

#[tokio::test(start_paused = true)]
async fn begin_never_returns() {
    let (store, gate, log) =
        (Faulty::new(Fault::Hangs, Fault::None), Gate::opened(), Log::default());
    let webhook = webhook(gate.clone(), store.clone()).observe(log.observer());
    let start = Instant::now();
    assert_eq!(deliver(&webhook, 1).await, Verdict::StoreUnavailable);
    assert_eq!(start.elapsed().as_secs(), 8);
    assert_eq!(
        log.take(),
        [
            "store failed, after_handler false: the store did not answer within 8 s",
            "answered store_unavailable, attempt 0",
        ]
    );
    assert_eq!(gate.calls(), 0);
    webhook.close().await;
    assert_eq!(start.elapsed().as_secs(), 8);
}

#[tokio::test(start_paused = true)]
async fn end_never_returns() {
    let (store, gate, log) =
        (Faulty::new(Fault::None, Fault::Hangs), Gate::opened(), Log::default());
    let webhook = webhook(gate.clone(), store.clone()).observe(log.observer());
    let start = Instant::now();
    assert_eq!(deliver(&webhook, 1).await, Verdict::NotRecorded);
    assert_eq!(start.elapsed().as_secs(), 8);
    assert_eq!(
        log.take(),
        [
            "store failed, after_handler true: the store did not answer within 8 s",
            "answered not_recorded, attempt 1",
        ]
    );
    // Asked, the store says that it is still at work on it.
    assert_eq!(deliver(&webhook, 1).await, Verdict::InProgress);
    assert_eq!(gate.calls(), 1);
    webhook.close().await;
    assert_eq!(start.elapsed().as_secs(), 8);
}

/// The deadline of the delivery is shorter than the limit of the store.
#[tokio::test(start_paused = true)]
async fn the_deadline_tells_the_phase() {
    for (begin, end, verdict) in [
        (Fault::Hangs, Fault::None, Verdict::StoreUnavailable),
        (Fault::None, Fault::Hangs, Verdict::NotRecorded),
    ] {
        let log = Log::default();
        let webhook = webhook(Gate::opened(), Faulty::new(begin, end))
            .answer_within(3 * SECOND)
            .observe(log.observer());
        let start = Instant::now();
        assert_eq!(deliver(&webhook, 1).await, verdict);
        assert_eq!(start.elapsed().as_secs(), 3);
        webhook.close().await;
        assert_eq!(start.elapsed().as_secs(), 8);
        let late = log.take().pop().expect("a line");
        assert!(late.starts_with(&format!("ended late {}, ", verdict.code())), "{late}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_fulfilment_and_its_place_are_let_go() {
    let store = Faulty::new(Fault::Hangs, Fault::None);
    let webhook = webhook(Gate::opened(), store.clone());
    let all: Vec<_> = (1..=256).map(|id| sent(&webhook, id)).collect();
    sleep(SECOND).await;
    assert_eq!(deliver(&webhook, 257).await, Verdict::Overloaded);
    for delivery in all {
        assert_eq!(delivery.await.expect("no panic"), Verdict::StoreUnavailable);
    }
    store.set(Fault::None, Fault::None);
    assert_eq!(deliver(&webhook, 1).await, Verdict::Fulfilled);
    assert_eq!(deliver(&webhook, 257).await, Verdict::Fulfilled);
}

/// It works after 20 seconds, or at once with a late answer.
#[tokio::test(start_paused = true)]
async fn a_late_begin_leaves_no_doubt() {
    for late in [Fault::WorksAfter(20 * SECOND), Fault::ReturnsAfter(20 * SECOND)] {
        let (store, gate) = (Faulty::new(late, Fault::None), Gate::opened());
        let webhook = webhook(gate.clone(), store.clone());
        let start = Instant::now();
        assert_eq!(deliver(&webhook, 1).await, Verdict::StoreUnavailable);
        assert_eq!(start.elapsed().as_secs(), 8);

        sleep_until(start + 21 * SECOND).await;
        assert_eq!(in_doubt(&store).await, [0; 0]);
        let left = record(&store, 1).await;
        assert_eq!((left.state, left.attempts), (State::Failed, 0), "it was not run");
        assert_eq!(left.reason.as_deref(), Some("the store answered too late"));

        store.set(Fault::None, Fault::None);
        assert_eq!(deliver(&webhook, 1).await, Verdict::Fulfilled);
        assert_eq!((gate.calls(), record(&store, 1).await.attempts), (1, 1));
    }
}

/// Nor does it take away one that was there, or its reason.
#[tokio::test(start_paused = true)]
async fn a_late_begin_of_a_doubt_leaves_it() {
    let store = Faulty::new(Fault::ReturnsAfter(20 * SECOND), Fault::None);
    let claim = Claim::new(&fulfilment(1));
    let Ok(Begin::Run { tx, .. }) = store.store.begin(&claim).await else { panic!("it is new") };
    let Ok(_) = store.store.end(tx, End::InDoubt("timed out".to_owned())).await;
    let gate = Gate::opened();
    let webhook = webhook(gate.clone(), store.clone());
    let start = Instant::now();
    assert_eq!(deliver(&webhook, 1).await, Verdict::StoreUnavailable);
    sleep_until(start + 21 * SECOND).await;
    let left = record(&store, 1).await;
    assert_eq!((left.state, left.reason.as_deref()), (State::InDoubt, Some("timed out")));
    store.set(Fault::None, Fault::None);
    assert_eq!(deliver(&webhook, 1).await, Verdict::InDoubt);
    assert_eq!(gate.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_late_end_is_heard_by_the_next_delivery() {
    for late in [Fault::WorksAfter(20 * SECOND), Fault::ReturnsAfter(20 * SECOND)] {
        let (store, gate) = (Faulty::new(Fault::None, late), Gate::opened());
        let webhook = webhook(gate.clone(), store.clone());
        let start = Instant::now();
        assert_eq!(deliver(&webhook, 1).await, Verdict::NotRecorded);
        sleep_until(start + 21 * SECOND).await;
        assert_eq!(deliver(&webhook, 1).await, Verdict::Fulfilled);
        assert_eq!(gate.calls(), 1);
    }
}

/// An answer that comes in time counts, however late.
#[tokio::test(start_paused = true)]
async fn a_slow_store_is_waited_for() {
    let slow = Fault::WorksAfter(7 * SECOND);
    let webhook = webhook(Gate::opened(), Faulty::new(slow, Fault::None));
    let start = Instant::now();
    assert_eq!(deliver(&webhook, 1).await, Verdict::Fulfilled);
    assert_eq!(start.elapsed().as_secs(), 7);
}
