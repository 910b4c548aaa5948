//! A runtime without a timer can keep no deadline. That is said aloud and not passed over; the grant
//! goes on all the same.

use crate::{Gate, Log, send, webhook};

#[test]
fn a_delivery_panics_and_its_grant_goes_on() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let (gate, log) = (Gate::closed(), Log::default());
        let webhook = webhook(gate.clone()).observe(log.observer());
        let delivery = tokio::spawn(async move { send(&webhook, 1).await });
        assert!(delivery.await.expect_err("no timer").is_panic());
        gate.open();
        log.saw("ended late granted, attempt 1").await;
    });
}
