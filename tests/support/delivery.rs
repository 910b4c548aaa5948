//! What FirstPromoter sends.

use http::Request;

pub(crate) const SECRET: &str = "at-least-sixteen-bytes";

pub(crate) const EMAIL: &str = "jane.roe@example.com";

/// The body of a delivery of this reward.
pub(crate) fn body(id: u64) -> String {
    format!(
        r#"{{"event":{{"id":{id}9,"type":"fulfilment_pending"}},"data":{{"id":{id},"amount":3,"unit":"credits","status":"pending","promoter":{{"id":7,"email":"{EMAIL}","cust_id":"user_7"}}}}}}"#
    )
}

/// A delivery of this reward, for `Access::query("key", SECRET)`.
pub(crate) fn delivery(id: u64) -> Request<String> {
    Request::post(format!("/?key={SECRET}"))
        .header("content-type", "application/json")
        .body(body(id))
        .expect("a request")
}
