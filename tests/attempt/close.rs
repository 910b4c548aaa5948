//! The application shuts down: running attempts end, deliveries that wait for them get their
//! verdict, and no new attempt begins.

use futures::FutureExt;
use tower_firstpromoter::Verdict;

use crate::{Gate, Log, deliver::deliver, sent, webhook};

#[tokio::test]
async fn running_attempts_are_waited_for() {
    let (gate, log) = (Gate::closed(), Log::default());
    let webhook = webhook(gate.clone()).observe(log.observer());
    let clone = webhook.clone();
    let waits = sent(&webhook, 1);
    // Its sender hangs up; the attempt counts all the same.
    let alone = sent(&webhook, 2);
    gate.called(2).await;
    alone.abort();
    let closing = tokio::spawn(async move { webhook.close().await });
    tokio::task::yield_now().await;
    assert!(!closing.is_finished(), "two attempts are running");

    assert_eq!(deliver(&clone, 3).await, Verdict::ShuttingDown);
    let joins = sent(&clone, 1);
    tokio::task::yield_now().await;
    gate.open();
    closing.await.expect("closes");
    // Not later, or the process would be gone before the end is recorded.
    assert!(log.take().contains(&"ended late fulfilled, attempt 1".to_owned()));
    for delivery in [waits, joins] {
        assert_eq!(delivery.await.expect("no panic"), Verdict::Fulfilled);
    }

    // Closed is closed, also to what is fulfilled: the store may be gone by now.
    assert_eq!(deliver(&clone, 1).await, Verdict::ShuttingDown);
    assert_eq!(gate.calls(), 2);
    assert!(clone.close().now_or_never().is_some(), "nothing is left to wait for");
}
