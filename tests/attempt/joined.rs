//! Duplicates that arrive while the attempt runs wait for it, and get the same answer as the first.
//! A delivery of the same id for another promoter is no duplicate, and does not get that answer.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tower::ServiceExt;
use tower_firstpromoter::{BoxError, Outcome, Verdict, event::Fulfilment, fulfil_fn};

use crate::{
    Gate, Log,
    deliver::{body, deliver, delivery},
    sent, webhook,
};

#[tokio::test]
async fn all_hear_the_same() {
    for (outcome, verdict) in [
        (Some(Outcome::Fulfilled), Verdict::Fulfilled),
        (Some(Outcome::Pending), Verdict::Pending),
        (Some(Outcome::InDoubt("timed out".to_owned())), Verdict::InDoubt),
        (None, Verdict::Failed),
    ] {
        let (begun, gate) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let log = Log::default();
        let handler = fulfil_fn({
            let (begun, gate) = (Arc::clone(&begun), Arc::clone(&gate));
            move |_: Fulfilment| {
                let (begun, gate, outcome) =
                    (Arc::clone(&begun), Arc::clone(&gate), outcome.clone());
                async move {
                    begun.add_permits(1);
                    gate.acquire().await?.forget();
                    outcome.ok_or_else(|| BoxError::from("no such user"))
                }
            }
        });
        let webhook = webhook(handler).observe(log.observer());
        let crowd: Vec<_> = (0..64).map(|_| sent(&webhook, 1)).collect();
        begun.acquire().await.expect("open").forget();
        // On one thread each of them has then been polled, and waits.
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        gate.add_permits(1);
        for delivery in crowd {
            assert_eq!(delivery.await.expect("no panic"), verdict);
        }
        assert_eq!(begun.available_permits(), 0, "the handler ran once");

        let code = verdict.code();
        let mut events = log.take();
        events.retain(|line| line.starts_with("answered"));
        events.sort();
        let mut all = vec![format!("answered {code}, attempt 1")];
        all.resize(64, format!("answered {code}, attempt 1, joined"));
        assert_eq!(events, all);
    }
}

#[tokio::test]
async fn another_promoters_does_not_join() {
    let gate = Gate::closed();
    let webhook = webhook(gate.clone());
    let first = sent(&webhook, 1);
    gate.called(1).await;

    let other = body(1).replace(r#""promoter":{"id":7"#, r#""promoter":{"id":8"#);
    let fulfilment = Fulfilment::decode(other.clone()).expect("a fulfilment");
    for verdict in [Verdict::InProgress, Verdict::RecordMismatch] {
        let Ok(answer) = webhook.clone().oneshot(delivery(1).map(|_| other.clone())).await;
        assert_eq!(answer.extensions().get(), Some(&verdict));
        assert_eq!(webhook.fulfil(fulfilment.clone()).await, verdict);
        gate.open();
        assert_eq!(deliver(&webhook, 1).await, Verdict::Fulfilled);
    }
    assert_eq!(first.await.expect("no panic"), Verdict::Fulfilled);
    assert_eq!(gate.calls(), 1);
}
