//! Everything that is measured within the process: each case does its work a number of times and
//! says how long that took.

use std::{
    convert::Infallible,
    error::Error,
    fmt::Debug,
    future::poll_fn,
    hint::black_box,
    pin::pin,
    time::{Duration, Instant},
};

use axum::body::Body;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use serde::de::{DeserializeOwned, IgnoredAny};
use tower::{Layer, Service, layer::util::Identity, service_fn};
use tower_firstpromoter::{
    Access, Fulfil, Outcome, Webhook,
    event::{Details, Fulfilment},
    fulfil_fn,
    intercept::Intercept,
};

use crate::{
    full::FullDelivery,
    payload,
    peers::{self, Answer, PATH, SECRET},
};

pub struct Case {
    pub group: &'static str,
    pub name: &'static str,
    /// How often the work is done when its instructions are counted.
    pub times: u64,
    pub run: fn(u64) -> Duration,
}

pub const PASS_THROUGH: &str = "pass-through";
pub const DELIVERY: &str = "delivery";
pub const COMPACT: &str = "compact delivery";
pub const SIGNED: &str = "signed delivery";
pub const DECODE_2: &str = "decode 2.5 KB";
pub const DECODE_5: &str = "decode 5 KB";
pub const DECODE_60: &str = "decode 60 KB";

/// In each group the first is what the loop itself costs, which is taken off the others.
pub const CASES: &[Case] = &[
    case(PASS_THROUGH, "request", 2_000, |n| drive(service_fn(drop_it), get, n)),
    case(PASS_THROUGH, "inner service", 2_000, |n| drive(service_fn(answer), get, n)),
    case(PASS_THROUGH, "inner service behind the layer", 2_000, |n| {
        drive(layered(service_fn(answer)), get, n)
    }),
    case(PASS_THROUGH, "axum router", 500, |n| drive(peers::application(), get, n)),
    case(PASS_THROUGH, "axum router behind the layer", 500, |n| drive(peers::in_front(), get, n)),
    case(PASS_THROUGH, "axum router with an empty layer within", 500, |n| {
        drive(peers::application().layer(Identity::new()), get, n)
    }),
    case(PASS_THROUGH, "axum router with the layer within", 500, |n| {
        drive(peers::as_router_layer(), get, n)
    }),
    case(DELIVERY, "request", 500, |n| drive(service_fn(drop_it), deliver(same), n)),
    case(DELIVERY, "floor", 500, |n| drive(peers::floor(), deliver(same), n)),
    case(DELIVERY, "ours", 500, |n| drive(peers::in_front(), deliver(same), n)),
    case(DELIVERY, "ours, as a bare service", 500, |n| drive(peers::service(), deliver(same), n)),
    case(DELIVERY, "ours, as an axum route", 500, |n| drive(peers::as_route(), deliver(same), n)),
    case(DELIVERY, "ours, as an axum layer", 500, |n| {
        drive(peers::as_router_layer(), deliver(same), n)
    }),
    case(DELIVERY, "ours, memory store, new keys", 2_000, |n| {
        drive(peers::once_in_memory(), deliver(unique), n)
    }),
    case(DELIVERY, "ours, memory store, one key", 500, |n| {
        drive(peers::once_in_memory(), deliver(same), n)
    }),
    case(DELIVERY, "axum Json<T>", 500, |n| drive(peers::plain_axum(), deliver(same), n)),
    case(DELIVERY, "by hand", 500, |n| drive(peers::by_hand(), deliver(same), n)),
    case(COMPACT, "request", 500, |n| drive(service_fn(drop_it), compact(), n)),
    case(COMPACT, "floor", 500, |n| drive(peers::floor(), compact(), n)),
    case(COMPACT, "ours", 500, |n| drive(peers::in_front(), compact(), n)),
    case(COMPACT, "by hand", 500, |n| drive(peers::by_hand(), compact(), n)),
    case(SIGNED, "request", 200, |n| drive(service_fn(drop_it), signed(), n)),
    case(SIGNED, "ours", 200, |n| drive(peers::signed(), signed(), n)),
    case(SIGNED, "webhook-verify", 200, |n| drive(peers::webhook_verify(), signed(), n)),
    case(SIGNED, "tower-github-webhook", 200, |n| drive(peers::github_webhook(), signed(), n)),
    case(DECODE_2, "payload", 500, |n| decode(0, n, Ok::<_, Infallible>)),
    case(DECODE_2, "IgnoredAny", 500, |n| decode(0, n, json::<IgnoredAny>)),
    case(DECODE_2, "ours", 500, |n| decode(0, n, Fulfilment::decode)),
    case(DECODE_2, "ours, with details", 500, |n| decode(0, n, details)),
    case(DECODE_2, "needed fields", 500, |n| decode(0, n, json::<peers::Delivery>)),
    case(DECODE_2, "all fields", 500, |n| decode(0, n, json::<FullDelivery>)),
    case(DECODE_2, "Value", 500, |n| decode(0, n, json::<serde_json::Value>)),
    case(DECODE_5, "payload", 300, |n| decode(3, n, Ok::<_, Infallible>)),
    case(DECODE_5, "IgnoredAny", 300, |n| decode(3, n, json::<IgnoredAny>)),
    case(DECODE_5, "ours", 300, |n| decode(3, n, Fulfilment::decode)),
    case(DECODE_5, "ours, with details", 300, |n| decode(3, n, details)),
    case(DECODE_5, "needed fields", 300, |n| decode(3, n, json::<peers::Delivery>)),
    case(DECODE_5, "all fields", 300, |n| decode(3, n, json::<FullDelivery>)),
    case(DECODE_5, "Value", 300, |n| decode(3, n, json::<serde_json::Value>)),
    case(DECODE_60, "payload", 50, |n| decode(60, n, Ok::<_, Infallible>)),
    case(DECODE_60, "IgnoredAny", 50, |n| decode(60, n, json::<IgnoredAny>)),
    case(DECODE_60, "ours", 50, |n| decode(60, n, Fulfilment::decode)),
    case(DECODE_60, "ours, with details", 50, |n| decode(60, n, details)),
    case(DECODE_60, "needed fields", 50, |n| decode(60, n, json::<peers::Delivery>)),
    case(DECODE_60, "all fields", 50, |n| decode(60, n, json::<FullDelivery>)),
    case(DECODE_60, "Value", 50, |n| decode(60, n, json::<serde_json::Value>)),
];

const fn case(
    group: &'static str,
    name: &'static str,
    times: u64,
    run: fn(u64) -> Duration,
) -> Case {
    Case { group, name, times, run }
}

/// Sends `n` requests, one after the other, and reads each answer to its end. As a server does it:
/// each request goes into the service as soon as it is there, and its future stays where it was made.
fn drive<S, B, R>(mut service: S, mut request: R, n: u64) -> Duration
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
    B: Answer,
    R: FnMut(u64) -> Request<Body>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let start = Instant::now();
        for number in 0..n {
            let Ok(()) = poll_fn(|cx| service.poll_ready(cx)).await;
            let Ok(mut answer) = pin!(service.call(request(number))).await;
            assert_eq!(answer.status(), StatusCode::OK);
            while let Some(frame) = answer.body_mut().frame().await {
                black_box(frame.expect("an answer"));
            }
        }
        start.elapsed()
    })
}

/// Answers at once.
async fn answer(request: Request<Body>) -> Result<Response<Full<Bytes>>, Infallible> {
    black_box(&request);
    Ok(Response::new(Full::new(Bytes::from_static(b"home"))))
}

/// What the loop itself costs.
async fn drop_it(request: Request<Body>) -> Result<Response<Empty<Bytes>>, Infallible> {
    black_box(&request);
    Ok(Response::new(Empty::new()))
}

fn layered<S: Service<Request<Body>>>(inner: S) -> Intercept<S, impl Fulfil> {
    let handler = fulfil_fn(async |_: Fulfilment| Ok::<_, Infallible>(Outcome::Fulfilled));
    Webhook::new(handler, Access::query("key", SECRET)).at(PATH).layer(inner)
}

/// The sizes of the future of an inner service alone, and of the same behind the layer.
pub fn future_sizes() -> (usize, usize) {
    let mut inner = service_fn(answer);
    let alone = size_of_val(&inner.call(get(0)));
    (alone, size_of_val(&layered(inner).call(get(0))))
}

fn get(_: u64) -> Request<Body> {
    Request::get("/").header("host", "example.com").body(Body::empty()).expect("a request")
}

/// The head of a delivery, as a sender's HTTP client writes it.
fn head() -> http::request::Builder {
    Request::post(format!("{PATH}?key={SECRET}"))
        .header("host", "example.com")
        .header("user-agent", "rest-client/2.1.0 (linux x86_64) ruby/3.2.2p53")
        .header("accept", "*/*")
        .header("accept-encoding", "gzip;q=1.0,deflate;q=0.6,identity;q=0.3")
        .header("content-type", "application/json")
        .header("content-length", payload::delivery(FIRST).len())
}

const FIRST: u64 = 1_000_000;

/// More than the memory store is told to remember, so that each is new when its turn comes again.
const RING: u64 = 2_000;

fn same(_: u64) -> u64 {
    0
}

fn unique(number: u64) -> u64 {
    number % RING
}

fn deliver(which: fn(u64) -> u64) -> impl FnMut(u64) -> Request<Body> {
    let head = head().body(()).expect("a request").into_parts().0;
    let payloads: Vec<Bytes> = (0..RING).map(|n| payload::delivery(FIRST + n)).collect();
    move |number| {
        let payload = payloads[which(number) as usize].clone();
        Request::from_parts(head.clone(), Body::from(payload))
    }
}

/// As a sender would write it that does not indent.
fn compact() -> impl FnMut(u64) -> Request<Body> {
    let mut head = head().body(()).expect("a request").into_parts().0;
    let payload: serde_json::Value =
        serde_json::from_slice(&payload::delivery(FIRST)).expect("JSON");
    let payload = Bytes::from(payload.to_string());
    head.headers.insert("content-length", payload.len().into());
    move |_| Request::from_parts(head.clone(), Body::from(payload.clone()))
}

/// With the signature under each name that one of the peers looks for.
fn signed() -> impl FnMut(u64) -> Request<Body> {
    let payload = payload::delivery(FIRST);
    let mac = Hmac::<sha2::Sha256>::new_from_slice(SECRET.as_bytes()).expect("any length");
    let signature = hex::encode(mac.chain_update(&payload).finalize().into_bytes());
    let head = head()
        .header("x-webhook-signature", &signature)
        .header("x-hub-signature-256", format!("sha256={signature}"));
    let head = head.body(()).expect("a request").into_parts().0;
    move |_| Request::from_parts(head.clone(), Body::from(payload.clone()))
}

fn decode<T, E: Debug>(promotions: usize, n: u64, decode: fn(Bytes) -> Result<T, E>) -> Duration {
    let payload = payload::with_promotions(promotions);
    let start = Instant::now();
    for _ in 0..n {
        black_box(decode(black_box(payload.clone())).expect("a fulfilment"));
    }
    start.elapsed()
}

fn json<T: DeserializeOwned>(payload: Bytes) -> Result<T, serde_json::Error> {
    serde_json::from_slice(&payload)
}

fn details(payload: Bytes) -> Result<(Fulfilment, Details), Box<dyn Error>> {
    let fulfilment = Fulfilment::decode(payload)?;
    let details = fulfilment.details()?;
    Ok((fulfilment, details))
}

pub fn find(group: &str, name: &str) -> Result<&'static Case, String> {
    let found = CASES.iter().find(|case| case.group == group && case.name == name);
    found.ok_or_else(|| format!("no case {group}, {name}"))
}
