//! What is counted and timed: each case prepares a piece of work, which is then done `n` times.

use std::{
    convert::Infallible, fmt::Debug, future::poll_fn, hint::black_box, ops::Range, pin::pin,
};

use axum::body::Body;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use serde::de::{DeserializeOwned, IgnoredAny};
use tower::{Layer, Service, service_fn};
use tower_firstpromoter::event::Fulfilment;

use crate::{
    payload,
    peers::{self, Answer, PATH, REMEMBERED, SECRET},
};

/// So many that each comes again when the store has forgotten it, and so few that they stay in the cache,
/// as what a server has just read does.
const NEW: u64 = 2 * REMEMBERED;
const FIRST: u64 = 1_000_000;

/// Does the same thing so many times.
pub type Work = Box<dyn FnMut(u64)>;

pub struct Case {
    pub group: &'static str,
    pub name: &'static str,
    pub prepare: fn() -> Work,
}

impl Case {
    /// How often it is done when it is counted: what a heap does now and then must not show.
    pub fn times(&self) -> u64 {
        if self.group == PASS_THROUGH { 2_000 } else { 100 }
    }
}

pub const PASS_THROUGH: &str = "pass-through";
pub const DELIVERY: &str = "delivery";
pub const SIGNED: &str = "signed delivery";
pub const DECODE: &str = "decode 2.5 KB";
pub const DECODE_LONG: &str = "decode 60 KB";

/// In each group the first is what the loop itself costs, which is taken off the others.
pub const CASES: &[Case] = &[
    case(PASS_THROUGH, "request", || drive(service_fn(drop_it), get)),
    case(PASS_THROUGH, "async fn", || drive(service_fn(answer), get)),
    case(PASS_THROUGH, "async fn behind the layer", || {
        drive(peers::layer().layer(service_fn(answer)), get)
    }),
    case(PASS_THROUGH, "axum router", || drive(peers::application(), get)),
    case(PASS_THROUGH, "axum router behind the layer", || drive(peers::in_front(), get)),
    case(DELIVERY, "request", || drive(service_fn(drop_it), deliver(NEW))),
    case(DELIVERY, "by hand", || drive(peers::by_hand(), deliver(NEW))),
    case(DELIVERY, "axum Json<T>", || drive(peers::plain_axum(), deliver(NEW))),
    case(DELIVERY, "ours, new", || drive(peers::in_front(), deliver(NEW))),
    case(DELIVERY, "ours, duplicate", || drive(peers::in_front(), deliver(REMEMBERED))),
    case(DELIVERY, "ours, new, as an axum route", || {
        drive(peers::application().route_service(PATH, peers::webhook()), deliver(NEW))
    }),
    case(DELIVERY, "ours, new, as an axum layer", || {
        drive(peers::application().layer(peers::layer()), deliver(NEW))
    }),
    case(SIGNED, "request", || drive(service_fn(drop_it), deliver(NEW))),
    case(SIGNED, "ours", || drive(peers::signed(), deliver(NEW))),
    case(SIGNED, "webhook-verify", || drive(peers::webhook_verify(), deliver(NEW))),
    case(SIGNED, "tower-github-webhook", || drive(peers::github_webhook(), deliver(NEW))),
    case(DECODE, "payload", || decode(payload::delivery(FIRST), Ok::<_, Infallible>)),
    case(DECODE, "IgnoredAny", || decode(payload::delivery(FIRST), json::<IgnoredAny>)),
    case(DECODE, "ours", || decode(payload::delivery(FIRST), Fulfilment::decode)),
    case(DECODE, "needed fields", || decode(payload::delivery(FIRST), json::<peers::Delivery>)),
    case(DECODE_LONG, "payload", || decode(payload::long(), Ok::<_, Infallible>)),
    case(DECODE_LONG, "IgnoredAny", || decode(payload::long(), json::<IgnoredAny>)),
    case(DECODE_LONG, "ours", || decode(payload::long(), Fulfilment::decode)),
];

const fn case(group: &'static str, name: &'static str, prepare: fn() -> Work) -> Case {
    Case { group, name, prepare }
}

/// Sends requests, one after the other, and reads each answer to its end. As a server does it: within
/// a task, each request goes into the service as soon as it is there, and its future stays where it was
/// made.
fn drive<S, B, R>(service: S, request: R) -> Work
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Send + 'static,
    S::Future: Send,
    B: Answer,
    R: FnMut() -> Request<Body> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let mut kept = Some((service, request));
    Box::new(move |n| {
        let (mut service, mut request) = kept.take().expect("given back");
        let task = runtime.spawn(async move {
            for _ in 0..n {
                let Ok(()) = poll_fn(|cx| service.poll_ready(cx)).await;
                let Ok(mut answer) = pin!(service.call(request())).await;
                assert_eq!(answer.status(), StatusCode::OK);
                while let Some(frame) = answer.body_mut().frame().await {
                    black_box(frame.expect("an answer"));
                }
            }
            (service, request)
        });
        kept = Some(runtime.block_on(task).expect("no panic"));
    })
}

async fn answer(request: Request<Body>) -> Result<Response<Full<Bytes>>, Infallible> {
    black_box(&request);
    Ok(Response::new(Full::new(Bytes::from_static(b"home"))))
}

/// What the loop itself costs.
async fn drop_it(request: Request<Body>) -> Result<Response<Empty<Bytes>>, Infallible> {
    black_box(&request);
    Ok(Response::new(Empty::new()))
}

fn get() -> Request<Body> {
    Request::get("/").header("host", "example.com").body(Body::empty()).expect("a request")
}

/// Deliveries of so many fulfilments in turn, signed under each name that one of the peers looks for.
fn deliver(fulfilments: u64) -> impl FnMut() -> Request<Body> {
    let deliveries: Vec<_> = (0..fulfilments)
        .map(|number| {
            let payload = payload::delivery(FIRST + number);
            let mac = Hmac::<sha2::Sha256>::new_from_slice(SECRET.as_bytes()).expect("any length");
            let signature = hex::encode(mac.chain_update(&payload).finalize().into_bytes());
            // As a sender's HTTP client writes it.
            let head = Request::post(format!("{PATH}?key={SECRET}"))
                .header("host", "example.com")
                .header("user-agent", "rest-client/2.1.0 (linux x86_64) ruby/3.2.2p53")
                .header("accept", "*/*")
                .header("accept-encoding", "gzip;q=1.0,deflate;q=0.6,identity;q=0.3")
                .header("content-type", "application/json")
                .header("content-length", payload.len())
                .header("x-webhook-signature", &signature)
                .header("x-hub-signature-256", format!("sha256={signature}"));
            let head = head.body(()).expect("a request").into_parts().0;
            // The first clone allocates what later ones share.
            drop((head.clone(), payload.clone()));
            (head, payload)
        })
        .collect();
    let mut next = 0;
    move || {
        let (head, payload) = &deliveries[next];
        next = (next + 1) % deliveries.len();
        Request::from_parts(head.clone(), Body::from(payload.clone()))
    }
}

fn decode<T: 'static, E: Debug + 'static>(
    payload: Bytes,
    decode: fn(Bytes) -> Result<T, E>,
) -> Work {
    Box::new(move |n| {
        for _ in 0..n {
            black_box(decode(black_box(payload.clone())).expect("a fulfilment"));
        }
    })
}

fn json<T: DeserializeOwned>(payload: Bytes) -> Result<T, serde_json::Error> {
    serde_json::from_slice(&payload)
}

/// How often each case is timed.
pub const ROUNDS: usize = 5;

/// The cases of each group, by their numbers.
pub fn groups() -> impl Iterator<Item = Range<usize>> {
    CASES.chunk_by(|one, next| one.group == next.group).scan(0, |next, group| {
        let first = *next;
        *next += group.len();
        Some(first..*next)
    })
}
