//! Deliveries, as FirstPromoter sends them.

#![allow(dead_code, reason = "every test takes what it needs")]

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::{Map, Value, json};
use tower_firstpromoter::{
    Access, Fulfil, Outcome, ReplyBody, Verdict, Webhook, event::Fulfilment, store::MemoryStore,
};

/// The documented example.
pub(crate) const DOCUMENTED: &str = include_str!("documented.json");

/// The shortest fulfilment.
pub(crate) const LEAST: &str = r#"{"event":{"type":"fulfilment_pending"},"data":{"id":1,"amount":3,"unit":"credits","promoter":{"id":7}}}"#;

pub(crate) const KEY: &str = "an old secret, 16+";
pub(crate) const URI: &str = "/hook?key=an+old+secret,+16%2B";

pub(crate) fn access() -> Access {
    Access::query("key", KEY).expect("a secret")
}

/// Journalled in memory.
pub(crate) fn webhook(handler: impl Fulfil) -> Webhook {
    Webhook::new(handler, MemoryStore::new(1_000), access())
}

/// A handler for where none should be called.
pub(crate) async fn never(_: Fulfilment) -> Result<Outcome, String> {
    panic!("the handler was called")
}

pub(crate) async fn fulfilled(_: Fulfilment) -> Result<Outcome, String> {
    Ok(Outcome::Fulfilled)
}

/// With the right secret, and a body of any kind.
pub(crate) fn post<B>(body: B) -> Request<B> {
    Request::post(URI).header("content-type", "application/json").body(body).expect("a request")
}

pub(crate) fn full(body: impl Into<Bytes>) -> Full<Bytes> {
    Full::new(body.into())
}

/// The documented example with these members replaced.
#[track_caller]
pub(crate) fn edited<const N: usize>(members: [(&str, Value); N]) -> String {
    let mut body = documented();
    for (pointer, value) in members {
        *body.pointer_mut(pointer).expect("the documented example has this member") = value;
    }
    body.to_string()
}

pub(crate) fn documented() -> Value {
    serde_json::from_str(DOCUMENTED).expect("the documented example is JSON")
}

#[track_caller]
pub(crate) fn verdict<B>(response: &Response<B>) -> Verdict {
    *response.extensions().get().expect("every answer has its verdict in the extensions")
}

pub(crate) async fn text(response: Response<ReplyBody>) -> String {
    let Ok(body) = response.into_body().collect().await;
    String::from_utf8(body.to_bytes().to_vec()).expect("answers are text")
}

/// What marks secrets and personal data in [`quiet`].
pub(crate) const QUIET: &str = "KEPT-QUIET";

/// Every member of the protocol's table, and in each that is secret or personal a marker.
pub(crate) fn quiet() -> Value {
    let mut marker = {
        let mut count = 0;
        move || {
            count += 1;
            format!("{QUIET}-{count}")
        }
    };
    let mut marked = |names: &[&str]| -> Map<String, Value> {
        names.iter().map(|name| ((*name).to_owned(), marker().into())).collect()
    };
    let mut profile = marked(&[
        "first_name",
        "last_name",
        "website",
        "company_name",
        "company_number",
        "phone_number",
        "address",
        "vat_id",
        "country",
        "paypal_email",
        "avatar_url",
        "description",
    ]);
    profile.insert("id".into(), 5306304.into());
    profile.insert("social_accounts".into(), json!({ "twitter": marked(&["url"]) }));
    let mut promoter = marked(&[
        "cust_id",
        "email",
        "temp_password",
        "note",
        "w8_form_url",
        "w9_form_url",
        "auth_token",
    ]);
    promoter.insert("id".into(), 5272969.into());
    promoter.insert("status".into(), "active".into());
    promoter.insert("profile".into(), profile.into());
    let mut campaign = marked(&["default_webhook_url"]);
    campaign.insert("id".into(), 17476.into());
    json!({
        "event": { "id": 13007875, "type": "fulfilment_pending" },
        "data": {
            "id": 2429153, "amount": 3, "unit": "free_months", "status": "pending",
            "promoter": promoter, "campaign": campaign,
        },
    })
}
