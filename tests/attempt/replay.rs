//! A delivery was lost, and the application replays it by `webhook.fulfil`: the same path, without
//! HTTP and without a deadline. It joins the attempt of a delivery of the same fulfilment.

use tokio::time::{Instant, sleep};
use tower_firstpromoter::{Verdict, event::Fulfilment, fulfil_fn};

use crate::{
    Gate, Log, SECOND,
    deliver::{body, deliver},
    fulfilment, never_ends, sent, webhook,
};

#[tokio::test]
async fn once_with_its_delivery() {
    let (gate, log) = (Gate::opened(), Log::default());
    let webhook = webhook(gate.clone()).observe(log.observer());
    assert_eq!(webhook.fulfil(fulfilment(1)).await, Verdict::Fulfilled);
    assert_eq!(deliver(&webhook, 1).await, Verdict::Fulfilled);
    assert_eq!(deliver(&webhook, 2).await, Verdict::Fulfilled);
    assert_eq!(webhook.fulfil(fulfilment(2)).await, Verdict::Fulfilled);
    assert_eq!(gate.calls(), 2);
    let [ran, recorded] = ["answered fulfilled, attempt 1", "answered fulfilled, attempt 0"];
    assert_eq!(log.take(), [ran, recorded, ran, recorded]);
}

#[tokio::test]
async fn joined_either_way() {
    let (gate, log) = (Gate::closed(), Log::default());
    let webhook = webhook(gate.clone()).observe(log.observer());
    let replayed = |id| {
        let webhook = webhook.clone();
        tokio::spawn(async move { webhook.fulfil(fulfilment(id)).await })
    };
    let first = [sent(&webhook, 1), replayed(2)];
    gate.called(2).await;
    let second = [replayed(1), sent(&webhook, 2)];
    tokio::task::yield_now().await;
    gate.open();
    for verdict in first.into_iter().chain(second) {
        assert_eq!(verdict.await.expect("no panic"), Verdict::Fulfilled);
    }
    assert_eq!(gate.calls(), 2);
    let mut events = log.take();
    events.sort();
    let [ran, joined] = ["answered fulfilled, attempt 1", "answered fulfilled, attempt 1, joined"];
    assert_eq!(events, [ran, ran, joined, joined]);
}

#[tokio::test(start_paused = true)]
async fn without_a_deadline() {
    let gate = Gate::closed();
    let webhook = webhook(gate.clone());
    let start = Instant::now();
    tokio::spawn(async move {
        sleep(30 * SECOND).await;
        gate.open();
    });
    assert_eq!(webhook.fulfil(fulfilment(1)).await, Verdict::Fulfilled);
    assert_eq!(start.elapsed().as_secs(), 30);
}

/// The time of an attempt is a limit of the replay as well.
#[tokio::test(start_paused = true)]
async fn of_a_handler_that_never_ends() {
    let webhook = webhook(fulfil_fn(never_ends));
    let start = Instant::now();
    assert_eq!(webhook.fulfil(fulfilment(1)).await, Verdict::InDoubt);
    assert_eq!(start.elapsed().as_secs(), 60);
}

#[tokio::test]
async fn not_of_what_is_not_pending_and_not_after_close() {
    let (gate, log) = (Gate::opened(), Log::default());
    let webhook = webhook(gate.clone()).observe(log.observer());
    let completed = body(1).replace("\"amount\"", "\"status\":\"completed\",\"amount\"");
    let completed = Fulfilment::decode(completed).expect("a fulfilment");
    assert_eq!(webhook.fulfil(completed).await, Verdict::NotPending);
    webhook.close().await;
    assert_eq!(webhook.fulfil(fulfilment(1)).await, Verdict::ShuttingDown);
    assert_eq!(gate.calls(), 0);
    assert_eq!(
        log.take(),
        ["answered not_pending, attempt 0", "answered shutting_down, attempt 0"]
    );
}
