//! What every host must do with a webhook in it.

use std::{
    collections::HashMap,
    convert::Infallible,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture, stream};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use tower_firstpromoter::{
    Access, Fulfil, Outcome, Verdict, Webhook,
    event::{Fulfilment, Unit},
    store::MemoryStore,
};

/// Where the webhook is mounted.
pub const PATH: &str = "/webhooks/firstpromoter";
/// Where the application itself answers a `GET`, in [`OWN_STATUS`], [`OWN_HEADER`] and [`OWN_BODY`].
pub const OWN_PATH: &str = "/own";
pub const OWN_STATUS: u16 = 418;
pub const OWN_HEADER: (&str, &str) = ("x-own", "untouched");
pub const OWN_BODY: &str = "the application's own";

const SECRET: &str = "at least sixteen bytes";
const BODY_LIMIT: usize = 128 * 1024;
pub const DOCUMENTED: &str = include_str!("documented.json");
/// The unit that makes the handler panic.
const PANICS: &str = "panics";

/// A webhook, and how often its handler was called for which fulfilment.
pub fn webhook() -> (Webhook, Calls) {
    let calls = Calls::default();
    let access = Access::query("key", SECRET).expect("a secret");
    let webhook = Webhook::new(calls.clone(), MemoryStore::new(100), access).body_limit(BODY_LIMIT);
    (webhook, calls)
}

#[derive(Clone, Debug, Default)]
pub struct Calls(Arc<Mutex<HashMap<u64, u32>>>);

impl Calls {
    fn of(&self, id: u64) -> u32 {
        let calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        calls.get(&id).copied().unwrap_or_default()
    }

    fn total(&self) -> u32 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }
}

impl Fulfil for Calls {
    type Error = Infallible;

    async fn fulfil(&self, fulfilment: Fulfilment) -> Result<Outcome, Infallible> {
        {
            let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            *calls.entry(fulfilment.id.get()).or_default() += 1;
        }
        tokio::task::yield_now().await;
        match fulfilment.unit {
            Unit::FreeMonths => Ok(Outcome::Fulfilled),
            unit if unit.as_str() == PANICS => panic!("the handler panics, as this case wants it"),
            _ => Ok(Outcome::Pending),
        }
    }
}

/// A request's body, as hosts and the client take it.
pub type Upload = BoxBody<Bytes, Infallible>;

/// A request and how its body is sent.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub head: Request<()>,
    pub bytes: Bytes,
    pub manner: Manner,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// In one piece, with its length.
    Whole,
    /// In pieces, without.
    InPieces,
    /// Its length, and then nothing: whoever answers did not wait for it. A host that only knows
    /// whole bodies gets it whole.
    Announced,
}

impl Delivery {
    pub fn request(self) -> Request<Upload> {
        let bytes = self.bytes;
        let length = bytes.len();
        let upload = match self.manner {
            Manner::Whole => Full::new(bytes).boxed(),
            Manner::InPieces => {
                let pieces: Vec<_> = bytes.chunks(1000).map(Bytes::copy_from_slice).collect();
                BoxBody::new(StreamBody::new(stream::iter(
                    pieces.into_iter().map(|piece| Ok(Frame::data(piece))),
                )))
            }
            Manner::Announced => BoxBody::new(StreamBody::new(stream::pending())),
        };
        let mut request = self.head.map(|()| upload);
        if self.manner != Manner::InPieces && length > 0 {
            request.headers_mut().insert(http::header::CONTENT_LENGTH, length.into());
        }
        request
    }
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub verdict: Option<Verdict>,
    pub bytes: Bytes,
    pub trailers: Option<HeaderMap>,
}

impl Answer {
    pub async fn collect<B: Body<Error: fmt::Debug>>(response: Response<B>) -> Self {
        let (head, body) = response.into_parts();
        let body = body.collect().await.expect("the answer's body is whole");
        let trailers = body.trailers().cloned();
        Self {
            status: head.status,
            headers: head.headers,
            verdict: head.extensions.get().copied(),
            bytes: body.to_bytes(),
            trailers,
        }
    }
}

/// How a delivery reaches the host.
pub type Call = Box<dyn Fn(Delivery) -> BoxFuture<'static, Answer> + Send + Sync>;

pub fn call<C, Fut>(call: C) -> Call
where
    C: Fn(Delivery) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Answer> + Send + 'static,
{
    Box::new(move |delivery| call(delivery).boxed())
}

/// What is particular to a host and the way it mounts the webhook.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// Whether [`Verdict`] is still in the response's extensions when the host has it.
    pub keeps_verdict: bool,
    /// Whether a slash at the end of the path is let through to the webhook. (The routers that do
    /// not need a second route where the URL given to FirstPromoter has one.)
    pub takes_slash: bool,
    /// What a path that nobody has is answered with.
    pub nowhere: u16,
    /// Whether an application is mounted beside the webhook at all.
    pub has_app: bool,
    /// Whether the application's own answer ends in trailers which arrive.
    pub own_trailers: bool,
}

/// In process, beside an application that answers `404` to what it does not know.
pub const HOST: Host = Host {
    keeps_verdict: true,
    takes_slash: true,
    nowhere: 404,
    has_app: true,
    own_trailers: false,
};

struct Case {
    name: &'static str,
    method: Method,
    path: &'static str,
    key: &'static str,
    content_type: &'static str,
    bytes: Bytes,
    manner: Manner,
    expected: Verdict,
    /// Which fulfilment it is for, and how often the handler was called for it by then.
    calls: Option<(u64, u32)>,
}

/// A good delivery of the documented payload, from which cases differ in one thing.
fn case(name: &'static str, expected: Verdict) -> Case {
    Case {
        name,
        method: Method::POST,
        path: PATH,
        key: "at+least+sixteen+bytes",
        content_type: "application/json",
        bytes: Bytes::from_static(DOCUMENTED.as_bytes()),
        manner: Manner::Whole,
        expected,
        calls: None,
    }
}

fn delivery(id: u64, unit: &str, note: &str) -> Bytes {
    let body = serde_json::json!({
        "event": { "id": 1, "type": "fulfilment_pending" },
        "data": { "id": id, "amount": 3, "unit": unit, "promoter": { "id": 7, "note": note } },
    });
    body.to_string().into()
}

fn cases() -> Vec<Case> {
    let documented = 2429153;
    let long_note = "n".repeat(BODY_LIMIT * 3 / 4);
    let too_long = Bytes::from(vec![b' '; BODY_LIMIT + 1]);
    vec![
        Case {
            calls: Some((documented, 1)),
            ..case("the documented payload is fulfilled", Verdict::Fulfilled)
        },
        Case {
            manner: Manner::InPieces,
            calls: Some((documented, 1)),
            ..case("a duplicate is answered without another call", Verdict::Fulfilled)
        },
        Case {
            bytes: delivery(2, "credits", ""),
            calls: Some((2, 1)),
            ..case("a unit that is not delivered stays pending", Verdict::Pending)
        },
        Case {
            bytes: delivery(3, "free_months", &long_note),
            manner: Manner::InPieces,
            calls: Some((3, 1)),
            ..case("a body far larger than a host's usual is read", Verdict::Fulfilled)
        },
        Case { key: "", ..case("no secret", Verdict::Unauthorized) },
        Case { key: "at+least+sixteen+byteS", ..case("a wrong secret", Verdict::Unauthorized) },
        Case {
            method: Method::GET,
            bytes: Bytes::new(),
            ..case("a health check by GET", Verdict::MethodNotAllowed)
        },
        Case { method: Method::PUT, ..case("another method", Verdict::MethodNotAllowed) },
        Case {
            content_type: "application/x-www-form-urlencoded",
            ..case("a form", Verdict::UnsupportedMediaType)
        },
        Case {
            bytes: too_long.clone(),
            manner: Manner::Announced,
            ..case("a body announced as too large", Verdict::BodyTooLarge)
        },
        Case {
            bytes: too_long,
            manner: Manner::InPieces,
            ..case("a body that turns out too large", Verdict::BodyTooLarge)
        },
        Case { bytes: "fulfilled?".into(), ..case("no JSON", Verdict::NotJson) },
        Case { bytes: "".into(), ..case("an empty body", Verdict::NotJson) },
        Case {
            bytes: r#"{"event":{"type":"fulfilment_pending"},"data":{"test":true}}"#.into(),
            ..case("a test delivery", Verdict::NotAFulfilment)
        },
        Case {
            bytes: r#"{"event":{"type":"reward_created"},"data":{"id":4}}"#.into(),
            ..case("an event of another type", Verdict::OtherEvent)
        },
        Case {
            bytes: delivery(5, PANICS, ""),
            calls: Some((5, 1)),
            ..case("a handler that panics", Verdict::Panicked)
        },
        Case {
            bytes: delivery(5, PANICS, ""),
            calls: Some((5, 1)),
            ..case("the fulfilment it left in doubt", Verdict::InDoubt)
        },
        Case {
            bytes: delivery(6, "free_months", ""),
            calls: Some((6, 1)),
            ..case("the host serves on", Verdict::Fulfilled)
        },
    ]
}

impl Case {
    fn delivery(&self, path: &str) -> Delivery {
        let uri =
            if self.key.is_empty() { path.into() } else { format!("{path}?key={}", self.key) };
        let head = Request::builder()
            .method(self.method.clone())
            .uri(uri)
            .header("content-type", self.content_type)
            .header("host", "shop.example.com")
            .body(())
            .expect("a request");
        Delivery { head, bytes: self.bytes.clone(), manner: self.manner }
    }
}

/// Runs them all. `calls` are those of the webhook which is mounted behind `call`.
pub async fn run(host: Host, calls: &Calls, call: Call) {
    let mut expected_total = 0;
    for case in cases() {
        let before = calls.total();
        let answer = call(case.delivery(case.path)).await;
        check(&case, host, &answer);
        if let Some((id, times)) = case.calls {
            assert_eq!(calls.of(id), times, "calls of the handler for {id}: {}", case.name);
            expected_total = calls.total();
        }
        assert_eq!(
            calls.total(),
            before.max(expected_total),
            "calls of the handler: {}",
            case.name
        );
    }

    let slash = Case {
        bytes: delivery(7, "free_months", ""),
        ..case("a slash at the end", Verdict::Fulfilled)
    };
    let answer = call(slash.delivery(&format!("{PATH}/"))).await;
    if host.takes_slash {
        check(&slash, host, &answer);
        assert_eq!(calls.of(7), 1, "{}", slash.name);
    } else {
        assert_eq!(answer.status, host.nowhere, "{}: answered like an unknown path", slash.name);
        assert_eq!(calls.of(7), 0, "{}", slash.name);
    }

    if host.has_app {
        beside(host, calls, &call).await;
    }
}

/// With `pass_other_events`, in front of an application that answers [`PATH`] with what it was sent.
pub async fn run_passing(calls: &Calls, call: Call) {
    let fulfilled = case("a fulfilment is not passed on", Verdict::Fulfilled);
    let answer = call(fulfilled.delivery(PATH)).await;
    check(&fulfilled, Host { keeps_verdict: answer.verdict.is_some(), ..HOST }, &answer);

    for manner in [Manner::Whole, Manner::InPieces] {
        let mut other = case("an event of another type", Verdict::OtherEvent);
        let note = "n".repeat(10_000);
        other.bytes = format!(r#"{{"event":{{"type":"reward_created"}},"note":"{note}"}}"#).into();
        other.manner = manner;
        let answer = call(other.delivery(PATH)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.bytes, other.bytes, "the application got it whole");
        assert_eq!(answer.verdict, None, "the application answered, so no verdict");

        other.key = "";
        let answer = call(other.delivery(PATH)).await;
        assert_eq!(answer.status, 401, "a stranger's is not passed on: {answer:?}");
    }
    assert_eq!(calls.total(), 1, "one fulfilment");
}

/// The application around it.
async fn beside(host: Host, calls: &Calls, call: &Call) {
    let before = calls.total();
    let mut own = case("the application's own route", Verdict::Fulfilled).delivery(OWN_PATH);
    *own.head.method_mut() = Method::GET;
    own.bytes = Bytes::new();
    let answer = call(own).await;
    assert_eq!(answer.status, OWN_STATUS, "{answer:?}");
    assert_eq!(answer.headers[OWN_HEADER.0], OWN_HEADER.1, "{answer:?}");
    assert_eq!(answer.bytes, OWN_BODY, "{answer:?}");
    assert_eq!(answer.verdict, None, "no delivery, so no verdict");
    if host.own_trailers {
        let trailers = answer.trailers.expect("the application's own trailers");
        assert_eq!(trailers[OWN_HEADER.0], OWN_HEADER.1);
    }

    let mistyped = case("a mistyped path", Verdict::Fulfilled).delivery("/webhooks/firstpromotor");
    let answer = call(mistyped).await;
    assert_eq!(answer.status, host.nowhere, "what the host itself says to unknown paths");
    assert_eq!(answer.verdict, None, "no delivery, so no verdict");
    assert_eq!(calls.total(), before, "nothing was fulfilled beside the webhook");
}

fn check(case: &Case, host: Host, answer: &Answer) {
    let Case { name, expected, .. } = case;
    assert_eq!(answer.status, expected.status(), "{name}: {answer:?}");
    assert_eq!(answer.headers["content-type"], "application/json", "{name}: {answer:?}");
    let body: serde_json::Value = serde_json::from_slice(&answer.bytes).expect("a JSON body");
    assert_eq!(body["code"], expected.code(), "{name}: {answer:?}");
    assert_eq!(answer.verdict, host.keeps_verdict.then_some(*expected), "{name}: {answer:?}");
    if *expected == Verdict::MethodNotAllowed {
        assert_eq!(answer.headers["allow"], "POST", "{name}: {answer:?}");
    }
}
