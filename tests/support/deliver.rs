//! Deliveries to a webhook in this process.

use tower::ServiceExt;
use tower_firstpromoter::{
    Access, FulfilIn, Verdict, Webhook,
    once::{Once, Store},
};

pub(crate) fn webhook<S: Store>(handler: impl FulfilIn<S::Tx>, store: S) -> Webhook<Once> {
    Webhook::new(handler, Access::query("key", "at least sixteen bytes")).once(store)
}

pub(crate) async fn deliver(webhook: &Webhook<Once>, id: u64) -> Verdict {
    let request = http::Request::post("/?key=at+least+sixteen+bytes")
        .header("content-type", "application/json")
        .body(body(id))
        .expect("a request");
    let answer = webhook.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
    *answer.extensions().get().expect("a verdict")
}

pub(crate) fn body(id: u64) -> String {
    format!(
        r#"{{"event":{{"id":{id},"type":"fulfilment_pending"}},"data":{{"id":{id},"amount":3,"unit":"credits","promoter":{{"id":7,"email":"ada@example.com","cust_id":"user-7"}}}}}}"#
    )
}
