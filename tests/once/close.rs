//! The application shuts down: what is running ends, whoever waits for it hears of it, and nothing
//! new is begun.

use futures::{FutureExt, future::join};
use tower_firstpromoter::Verdict;

use crate::{Gate, Log, send, webhook};

#[tokio::test]
async fn what_runs_is_waited_for() {
    let (gate, log) = (Gate::closed(), Log::default());
    let webhook = webhook(gate.clone()).observe(log.observer());
    let clone = webhook.clone();
    let waits = tokio::spawn({
        let webhook = webhook.clone();
        async move { send(&webhook, 1).await }
    });
    // Its sender hangs up; the grant counts all the same.
    let alone = tokio::spawn({
        let webhook = webhook.clone();
        async move { send(&webhook, 2).await }
    });
    gate.called(2).await;
    alone.abort();
    let closing = tokio::spawn(async move { webhook.close().await });
    tokio::task::yield_now().await;
    assert!(!closing.is_finished(), "two grants are running");

    assert_eq!(send(&clone, 3).await, Verdict::ShuttingDown);
    let joins = tokio::spawn({
        let clone = clone.clone();
        async move { send(&clone, 1).await }
    });
    tokio::task::yield_now().await;
    gate.open();
    closing.await.expect("closes");
    // Not later than that, or nobody would be there to write it down.
    assert!(log.take().contains(&"ended late granted, attempt 1".to_owned()));
    let (waited, joined) = join(waits, joins).await;
    assert_eq!(waited.expect("no panic"), Verdict::Granted);
    assert_eq!(joined.expect("no panic"), Verdict::Granted);

    // Closed is closed, also to what was granted: the store may be gone by now.
    assert_eq!(send(&clone, 1).await, Verdict::ShuttingDown);
    assert_eq!(gate.calls(), 2);
    assert!(clone.close().now_or_never().is_some(), "nothing is left to wait for");
}
