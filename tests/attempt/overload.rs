//! A flood of fulfilments. 256 attempts run at a time; the next delivery is refused, and succeeds
//! when it is sent again.

use tower_firstpromoter::Verdict;

use crate::{Gate, deliver::deliver, sent, webhook};

#[tokio::test]
async fn past_256_running_ones() {
    let gate = Gate::closed();
    let webhook = webhook(gate.clone());
    let mut running: Vec<_> = (1..=256).map(|id| sent(&webhook, id)).collect();
    gate.called(256).await;
    assert_eq!(deliver(&webhook, 257).await, Verdict::Overloaded);
    running.push(sent(&webhook, 256)); // A duplicate of a running one costs nothing.
    tokio::task::yield_now().await;

    gate.open();
    for delivery in running {
        assert_eq!(delivery.await.expect("no panic"), Verdict::Fulfilled);
    }
    assert_eq!(deliver(&webhook, 257).await, Verdict::Fulfilled);
    assert_eq!(gate.calls(), 257);
}
