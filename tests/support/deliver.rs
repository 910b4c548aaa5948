//! Deliveries to a webhook in this process.

#![allow(dead_code, reason = "each test binary uses its part of this")]

use http::Request;
use tower::ServiceExt;
use tower_firstpromoter::{Access, FulfilIn, Verdict, Webhook, store::Store};

pub(crate) const SECRET: &str = "at-least-sixteen-bytes";

pub(crate) const EMAIL: &str = "ada@example.com";

pub(crate) fn webhook<S: Store>(handler: impl FulfilIn<S::Tx>, store: S) -> Webhook {
    Webhook::new(handler, store, Access::query("key", SECRET).expect("a secret"))
}

/// The body of a delivery of this fulfilment.
pub(crate) fn body(id: u64) -> String {
    format!(
        r#"{{"event":{{"id":{id},"type":"fulfilment_pending"}},"data":{{"id":{id},"amount":3,"unit":"credits","promoter":{{"id":7,"email":"{EMAIL}","cust_id":"user-7"}}}}}}"#
    )
}

/// A delivery of this fulfilment to a [`webhook`].
pub(crate) fn delivery(id: u64) -> Request<String> {
    Request::post(format!("/?key={SECRET}"))
        .header("content-type", "application/json")
        .body(body(id))
        .expect("a request")
}

/// Sends one delivery of this fulfilment and waits for its verdict.
pub(crate) async fn deliver(webhook: &Webhook, id: u64) -> Verdict {
    let Ok(answer) = webhook.clone().oneshot(delivery(id)).await;
    let verdict = *answer.extensions().get().expect("a verdict");
    assert_eq!(answer.status(), Verdict::status(verdict));
    verdict
}
