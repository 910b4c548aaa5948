//! Duplicates that arrive while the grant runs wait for it, and hear the same answer as the first.

use std::sync::Arc;

use futures::future::join_all;
use tokio::sync::Semaphore;
use tower_firstpromoter::{BoxError, Outcome, Verdict, event::Fulfilment, fulfil_fn};

use crate::{Log, send, webhook};

#[tokio::test]
async fn all_hear_the_same() {
    for (outcome, expected) in [
        (Some(Outcome::Fulfilled), Verdict::Granted),
        (Some(Outcome::Pending), Verdict::Pending),
        (None, Verdict::Failed),
    ] {
        let (begun, gate) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let log = Log::default();
        let handler = fulfil_fn({
            let (begun, gate) = (Arc::clone(&begun), Arc::clone(&gate));
            move |_: Fulfilment| {
                let (begun, gate) = (Arc::clone(&begun), Arc::clone(&gate));
                async move {
                    begun.add_permits(1);
                    gate.acquire().await?.forget();
                    outcome.ok_or_else(|| BoxError::from("no such user"))
                }
            }
        });
        let webhook = webhook(handler).observe(log.observer());
        let crowd: Vec<_> = (0..64)
            .map(|_| {
                let webhook = webhook.clone();
                tokio::spawn(async move { send(&webhook, 1).await })
            })
            .collect();
        begun.acquire().await.expect("open").forget();
        // On one thread each of them has then been polled, and waits.
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        gate.add_permits(1);
        for verdict in join_all(crowd).await {
            assert_eq!(verdict.expect("no panic"), expected);
        }
        assert_eq!(begun.available_permits(), 0, "the handler ran once");

        let code = expected.code();
        let mut seen = log.take();
        seen.retain(|line| line.starts_with("answered"));
        seen.sort();
        let mut all = vec![format!("answered {code}, attempt 1")];
        all.resize(64, format!("answered {code}, attempt 1, joined"));
        assert_eq!(seen, all);
    }
}
