//! A flood of rewards. 256 are granted at a time; the next is told to come back, and comes back.

use futures::future::join_all;
use tower_firstpromoter::Verdict;

use crate::{Gate, send, webhook};

#[tokio::test]
async fn past_256_running_ones() {
    let gate = Gate::closed();
    let webhook = webhook(gate.clone());
    let deliver = |id| {
        let webhook = webhook.clone();
        tokio::spawn(async move { send(&webhook, id).await })
    };
    let mut running: Vec<_> = (1..=256).map(deliver).collect();
    gate.called(256).await;
    assert_eq!(send(&webhook, 257).await, Verdict::Overloaded);
    running.push(deliver(256)); // A duplicate of a running one costs nothing.
    tokio::task::yield_now().await;

    gate.open();
    for verdict in join_all(running).await {
        assert_eq!(verdict.expect("no panic"), Verdict::Granted);
    }
    assert_eq!(send(&webhook, 257).await, Verdict::Granted);
    assert_eq!(gate.calls(), 257);
}
