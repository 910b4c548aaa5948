//! The handler takes longer than a delivery may wait. That delivery is answered with `409`, the
//! attempt goes on, and later deliveries get its verdict.

use std::{convert::Infallible, pin::pin};

use futures::FutureExt;
use tokio::time::{Instant, advance, sleep};
use tower::ServiceExt;
use tower_firstpromoter::{Outcome, Verdict, event::Fulfilment, fulfil_fn};

use crate::{
    Gate, Log, SECOND,
    deliver::{deliver, delivery},
    webhook,
};

#[tokio::test(start_paused = true)]
async fn conflict_first_and_then_the_end() {
    let log = Log::default();
    let slow = fulfil_fn(async |_: Fulfilment| {
        sleep(12 * SECOND).await;
        Ok::<_, Infallible>(Outcome::Fulfilled)
    });
    let webhook = webhook(slow).observe(log.observer());
    let start = Instant::now();

    assert_eq!(deliver(&webhook, 1).await, Verdict::InProgress);
    assert_eq!(start.elapsed().as_secs(), 10);
    assert_eq!(deliver(&webhook, 1).await, Verdict::Fulfilled);
    assert_eq!(start.elapsed().as_secs(), 12);
    assert_eq!(deliver(&webhook, 1).await, Verdict::Fulfilled);
    assert_eq!(start.elapsed().as_secs(), 12);
    assert_eq!(
        log.take(),
        [
            "answered in_progress, attempt 0",
            "answered fulfilled, attempt 1, joined",
            "answered fulfilled, attempt 0",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn an_end_that_nobody_waits_for_is_seen() {
    for (outcome, expected, next) in [
        (Ok(Outcome::Fulfilled), "ended late fulfilled, attempt 1", Verdict::Fulfilled),
        (Ok(Outcome::Pending), "ended late pending, attempt 1", Verdict::InProgress),
        (Ok(Outcome::InDoubt(String::new())), "ended late in_doubt, attempt 1", Verdict::InDoubt),
        (Err("no"), "ended late failed, attempt 1", Verdict::InProgress),
    ] {
        let log = Log::default();
        let slow = fulfil_fn(move |_: Fulfilment| {
            let outcome = outcome.clone();
            async move {
                sleep(12 * SECOND).await;
                outcome
            }
        });
        let webhook = webhook(slow).observe(log.observer());
        assert_eq!(deliver(&webhook, 1).await, Verdict::InProgress);
        sleep(3 * SECOND).await;
        assert_eq!(log.take().last().expect("some"), expected);
        assert_eq!(deliver(&webhook, 1).await, next);
    }
}

/// The deadline is the whole delivery's, and limits only how long it waits for the attempt.
#[tokio::test(start_paused = true)]
async fn the_application_may_choose_another() {
    let gate = Gate::closed();
    let webhook = webhook(gate.clone()).answer_within(3 * SECOND);
    let start = Instant::now();
    assert_eq!(deliver(&webhook, 1).await, Verdict::InProgress);
    assert_eq!(start.elapsed().as_secs(), 3);
    gate.open();
    assert_eq!(deliver(&webhook, 1).await, Verdict::Fulfilled);
    assert_eq!(gate.calls(), 1);
}

/// A busy runtime may look at a delivery late, and find both an answer and the end of its time.
#[tokio::test(start_paused = true)]
async fn the_work_before_the_clock() {
    let gate = Gate::closed();
    let webhook = webhook(gate.clone());
    let mut answer = pin!(webhook.oneshot(delivery(1)));
    assert!(answer.as_mut().now_or_never().is_none());
    gate.called(1).await;
    advance(30 * SECOND).await;
    gate.open();
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    let Ok(answer) = answer.now_or_never().expect("there is an answer");
    assert_eq!(answer.status(), 200);
}
