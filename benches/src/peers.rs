//! Alternatives to the crate. All of them read the same fields, call the same handler and send the
//! same answer.

use std::{convert::Infallible, fmt::Debug, hint::black_box, time::Duration};

use axum::{
    Json, Router,
    body::Body,
    extract::DefaultBodyLimit,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use serde::Deserialize;
use subtle::ConstantTimeEq;
use tower::{Layer, Service, ServiceBuilder, ServiceExt};
use tower_firstpromoter::{
    Access, Outcome, Webhook,
    event::Fulfilment,
    fulfil_fn,
    intercept::{Intercept, InterceptLayer},
    store::MemoryStore,
};
use tower_github_webhook::ValidateGitHubWebhookLayer;
use tower_http::{
    catch_panic::CatchPanicLayer, limit::RequestBodyLimitLayer, timeout::TimeoutLayer,
    validate_request::ValidateRequestHeaderLayer,
};
use webhook_verify::{Provider, Secret, tower::VerifyLayer};

pub const PATH: &str = "/webhooks/firstpromoter";
pub const SECRET: &str = "3c1f8a52e97b4d60a8b2";
/// How many fulfilments the memory store remembers.
pub const REMEMBERED: u64 = 100;
const LIMIT: usize = 256 * 1024;
const ANSWER: &str = "{\"code\":\"fulfilled\",\"message\":\"It is fulfilled.\"}\n";

/// An answer's body, whatever its type.
pub trait Answer: http_body::Body<Data = Bytes, Error: Debug> + Send + Unpin {}

impl<B: http_body::Body<Data = Bytes, Error: Debug> + Send + Unpin> Answer for B {}

/// What a handler needs, and no more: as strict as one can make it, with an allocation for nothing but
/// the texts that any handler wants to keep.
#[derive(Debug, Deserialize)]
pub struct Delivery {
    pub event: Event,
    pub data: Data,
}

#[derive(Debug, Deserialize)]
pub struct Event {
    pub id: Option<u64>,
    #[serde(rename = "type")]
    pub kind: Word,
    pub created_at: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct Data {
    pub id: u64,
    pub status: Word,
    pub amount: u64,
    pub unit: Unit,
    #[serde(default)]
    pub has_issues: bool,
    pub promoter: Promoter,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    FulfilmentPending,
    Pending,
    #[serde(other)]
    Other,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    FreeMonths,
    Credits,
    Points,
    Cash,
    DiscountPer,
    MonDiscount,
    Discount,
    #[serde(other)]
    Other,
}

#[derive(Debug, Deserialize)]
pub struct Promoter {
    pub id: u64,
    pub email: Option<String>,
    pub cust_id: Option<String>,
}

/// The application's part, which is not measured.
#[inline(never)]
async fn apply<T>(fulfilment: T) {
    black_box(&fulfilment);
}

async fn receive(Json(delivery): Json<Delivery>) -> Response {
    if delivery.event.kind != Word::FulfilmentPending || delivery.data.status != Word::Pending {
        return StatusCode::UNPROCESSABLE_ENTITY.into_response();
    }
    apply(delivery).await;
    ([(header::CONTENT_TYPE, "application/json")], ANSWER).into_response()
}

/// An application without a webhook.
pub fn application() -> Router {
    Router::new().route("/", get(async || "home"))
}

/// axum's `Json<T>` and nothing in front of it: no access check, no limit but axum's own of 2 MB,
/// no timeout, no panic guard.
pub fn plain_axum() -> Router {
    application().route(PATH, post(receive))
}

/// The same with the layers of tower-http that a webhook needs, in the order of its documentation.
pub fn by_hand() -> Router {
    let time = Duration::from_secs(10);
    // One layer, as axum advises: each `Router::layer` would put the route into one more box.
    let guards = ServiceBuilder::new()
        .layer(CatchPanicLayer::new())
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, time))
        .layer(RequestBodyLimitLayer::new(LIMIT))
        .layer(ValidateRequestHeaderLayer::custom(has_secret))
        .layer(DefaultBodyLimit::disable());
    application().merge(Router::new().route(PATH, post(receive)).layer(guards))
}

#[expect(clippy::result_large_err, reason = "the signature that tower-http asks for")]
fn has_secret<B>(request: &mut Request<B>) -> Result<(), http::Response<Body>> {
    let query = request.uri().query().unwrap_or_default();
    let key = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "key");
    match key {
        Some((_, key)) if bool::from(key.as_bytes().ct_eq(SECRET.as_bytes())) => Ok(()),
        _ => Err(StatusCode::UNAUTHORIZED.into_response()),
    }
}

/// Around the router, because its layer does not meet the bounds of `Router::layer`.
pub fn webhook_verify()
-> impl Service<Request<Body>, Response = http::Response<impl Answer>, Error = Infallible, Future: Send>
+ Send {
    let verify = VerifyLayer::<Body>::new(Provider::GitHub, Secret::new(SECRET));
    ServiceExt::<Request<Body>>::map_err(verify.layer(plain_axum()), |error| panic!("{error}"))
}

pub fn github_webhook() -> Router {
    let verify = ValidateGitHubWebhookLayer::new(SECRET);
    application().merge(Router::new().route(PATH, post(receive)).layer(verify))
}

/// Ours by itself, mounted as a service.
pub fn webhook() -> Webhook {
    ours(Access::query("key", SECRET).expect("a secret"))
}

fn ours(access: Access) -> Webhook {
    let handler = fulfil_fn(async |fulfilment: Fulfilment| {
        apply(fulfilment).await;
        Ok::<_, Infallible>(Outcome::Fulfilled)
    });
    Webhook::new(handler, MemoryStore::new(REMEMBERED as usize), access)
}

pub fn layer() -> InterceptLayer {
    webhook().at(PATH)
}

/// Ours in front of an application.
pub fn in_front() -> Intercept<Router> {
    layer().layer(application())
}

pub fn signed() -> Intercept<Router> {
    ours(Access::signature(SECRET).expect("a secret")).at(PATH).layer(application())
}
