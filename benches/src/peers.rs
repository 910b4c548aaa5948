//! What one would write, or take, instead. All of them read the same fields, call the same handler
//! and, except for the floor, send the same answer.

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
use http_body_util::{BodyExt, Empty};
use serde::Deserialize;
use subtle::ConstantTimeEq;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_firstpromoter::{
    Access, Fulfil, Outcome, Webhook,
    event::Fulfilment,
    fulfil_fn,
    intercept::{Intercept, InterceptLayer},
    once::{MemoryStore, Once},
};
use tower_github_webhook::ValidateGitHubWebhookLayer;
use tower_http::{
    catch_panic::CatchPanicLayer, limit::RequestBodyLimitLayer, timeout::TimeoutLayer,
    validate_request::ValidateRequestHeaderLayer,
};
use webhook_verify::{Provider, Secret, tower::VerifyLayer};

pub const PATH: &str = "/webhooks/firstpromoter";
pub const SECRET: &str = "3c1f8a52e97b4d60a8b2";
pub const LIMIT: usize = 256 * 1024;
const ANSWER: &str = "{\"code\":\"granted\",\"message\":\"The reward is granted.\"}\n";

/// An answer's body, whatever its type.
pub trait Answer: http_body::Body<Data = Bytes, Error: Debug> + Unpin {}

impl<B: http_body::Body<Data = Bytes, Error: Debug> + Unpin> Answer for B {}

/// Needed to grant, and no more: as strict as one can make it, with an allocation for nothing but
/// the texts that any handler wants to keep.
#[derive(Debug, Deserialize)]
pub struct Delivery {
    pub event: Event,
    pub data: Data,
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "the handler gets them, and only they are measured")]
pub struct Event {
    pub id: Option<u64>,
    #[serde(rename = "type")]
    pub kind: Kind,
    pub created_at: Option<String>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    FulfilmentPending,
    #[serde(other)]
    Other,
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "the handler gets them, and only they are measured")]
pub struct Data {
    pub id: u64,
    pub status: Status,
    pub amount: u64,
    pub unit: Unit,
    #[serde(default)]
    pub has_issues: bool,
    pub promoter: Promoter,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Status {
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
#[expect(dead_code, reason = "the handler gets them, and only they are measured")]
pub struct Promoter {
    pub id: u64,
    pub email: Option<String>,
    pub cust_id: Option<String>,
}

/// The application's part, which is not measured.
#[inline(never)]
async fn grant<T>(fulfilment: T) {
    black_box(&fulfilment);
}

fn handler() -> impl Fulfil {
    fulfil_fn(async |fulfilment: Fulfilment| {
        grant(fulfilment).await;
        Ok::<_, Infallible>(Outcome::Fulfilled)
    })
}

/// The physical floor of a delivery: read the body, decode what is needed, call the handler.
pub fn floor()
-> impl Service<Request<Body>, Response = http::Response<Empty<Bytes>>, Error = Infallible> {
    service_fn(async |request: Request<Body>| {
        let body = request.into_body().collect().await.expect("whole").to_bytes();
        let delivery: Delivery = serde_json::from_slice(&body).expect("a fulfilment");
        grant(delivery).await;
        Ok(http::Response::new(Empty::new()))
    })
}

async fn granted(Json(delivery): Json<Delivery>) -> Response {
    if delivery.event.kind != Kind::FulfilmentPending || delivery.data.status != Status::Pending {
        return StatusCode::UNPROCESSABLE_ENTITY.into_response();
    }
    grant(delivery).await;
    ([(header::CONTENT_TYPE, "application/json")], ANSWER).into_response()
}

/// What an application says that is asked for something else.
pub const HOME: &str = "home";

async fn home() -> &'static str {
    HOME
}

/// An application without a webhook.
pub fn application() -> Router {
    Router::new().route("/", get(home))
}

/// axum's `Json<T>` and nothing in front of it: no access check, no limit but axum's own of 2 MB,
/// no time-out, no panic guard.
pub fn plain_axum() -> Router {
    application().route(PATH, post(granted))
}

/// The same with all that a receiver of money's worth needs, from tower-http, in the order in which
/// its documentation has them.
pub fn by_hand() -> Router {
    by_hand_within(Duration::from_secs(10))
}

fn by_hand_within(time: Duration) -> Router {
    // One layer, as axum advises: each `Router::layer` would put the route into one more box.
    let guards = ServiceBuilder::new()
        .layer(CatchPanicLayer::new())
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, time))
        .layer(RequestBodyLimitLayer::new(LIMIT))
        .layer(ValidateRequestHeaderLayer::custom(has_secret))
        .layer(DefaultBodyLimit::disable());
    application().merge(Router::new().route(PATH, post(granted)).layer(guards))
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
-> impl Service<Request<Body>, Response = http::Response<impl Answer>, Error = Infallible> {
    let verify = VerifyLayer::<Body>::new(Provider::GitHub, Secret::new(SECRET));
    ServiceExt::<Request<Body>>::map_err(verify.layer(plain_axum()), |error| panic!("{error}"))
}

pub fn github_webhook() -> Router {
    let verify = ValidateGitHubWebhookLayer::new(SECRET);
    application().merge(Router::new().route(PATH, post(granted)).layer(verify))
}

fn webhook() -> Webhook<impl Fulfil> {
    Webhook::new(handler(), Access::query("key", SECRET))
}

/// Ours by itself, mounted as a service.
pub fn service() -> Webhook<impl Fulfil> {
    webhook()
}

/// Ours in front of an application.
pub fn in_front() -> Intercept<Router, impl Fulfil> {
    webhook().at(PATH).layer(application())
}

/// Ours as `Router::layer`, within axum's routing.
pub fn as_router_layer() -> Router {
    application().layer(webhook().at(PATH))
}

/// Ours as one of axum's routes.
pub fn as_route() -> Router {
    application().route_service(PATH, webhook())
}

pub fn signed() -> Intercept<Router, impl Fulfil> {
    Webhook::new(handler(), Access::signature(SECRET)).at(PATH).layer(application())
}

pub fn once_in_memory() -> Intercept<Router, Once> {
    webhook().once(MemoryStore::new(1_000)).at(PATH).layer(application())
}

pub fn once_as_router_layer() -> Router {
    application().layer(webhook().once(MemoryStore::new(1_000)).at(PATH))
}

/// For the uploads that never end: a time-out that does not end the measurement.
pub fn patient() -> InterceptLayer<impl Fulfil> {
    webhook().answer_within(Duration::from_secs(120)).at(PATH)
}

pub fn patient_by_hand() -> Router {
    by_hand_within(Duration::from_secs(120))
}
