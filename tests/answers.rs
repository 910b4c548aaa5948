//! "FirstPromoter took our answer for something else."
//!
//! The table of answers: every way in which a delivery can end, each reached through the public
//! API, as a service and behind the layer, with its one status, one code and one short body.

use std::{
    collections::HashSet,
    error::Error,
    fmt,
    future::{pending, ready},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, future::LocalBoxFuture, stream};
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use serde_json::{Value, json};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_firstpromoter::{
    Access, BoxError, Fulfil, Outcome, Verdict, Webhook,
    event::{Fulfilment, FulfilmentId},
    fulfil_fn,
    once::{Begin, Claim, End, MemoryStore, Record, Store},
};

mod delivery;
use delivery::{DOCUMENTED, KEY, LEAST, URI, access, documented, edited, full, never, post};

type Body = UnsyncBoxBody<Bytes, Broken>;
#[derive(Clone, Copy, Debug)]
struct Broken;

type Answer = Response<Bytes>;

/// What the table says, word for word.
const TABLE: [(Verdict, u16, &str); 20] = [
    (Verdict::Granted, 200, "granted"),
    (Verdict::Pending, 202, "pending"),
    (Verdict::NotPending, 202, "not_pending"),
    (Verdict::BodyBroken, 400, "body_broken"),
    (Verdict::NotJson, 400, "not_json"),
    (Verdict::Unauthorized, 401, "unauthorized"),
    (Verdict::MethodNotAllowed, 405, "method_not_allowed"),
    (Verdict::BodyTimeout, 408, "body_timeout"),
    (Verdict::InProgress, 409, "in_progress"),
    (Verdict::BodyTooLarge, 413, "body_too_large"),
    (Verdict::UnsupportedMediaType, 415, "unsupported_media_type"),
    (Verdict::NotAFulfilment, 422, "not_a_fulfilment"),
    (Verdict::OtherEvent, 422, "other_event"),
    (Verdict::Failed, 500, "failed"),
    (Verdict::Panicked, 500, "panicked"),
    (Verdict::InDoubt, 500, "in_doubt"),
    (Verdict::StoreUnavailable, 503, "store_unavailable"),
    (Verdict::NotRecorded, 503, "not_recorded"),
    (Verdict::Overloaded, 503, "overloaded"),
    (Verdict::ShuttingDown, 503, "shutting_down"),
];

/// A store that gives the answers it is told to.
#[derive(Clone, Copy)]
struct Fake {
    begin: fn() -> Result<Begin<()>, &'static str>,
    end: Result<(), &'static str>,
}

const RUN: fn() -> Result<Begin<()>, &'static str> = || Ok(Begin::Run { tx: (), attempt: 1 });
const DOUBT: fn() -> Result<Begin<()>, &'static str> = || Ok(Begin::InDoubt { tx: (), attempt: 2 });
const DOWN: &str = "postgres://user:password@db is down";

impl Store for Fake {
    type Tx = ();
    type Error = &'static str;

    async fn begin(&self, _: &Claim) -> Result<Begin<()>, &'static str> {
        (self.begin)()
    }
    async fn end(&self, (): (), _: End) -> Result<(), &'static str> {
        self.end
    }
    async fn forget(&self, _: FulfilmentId) -> Result<bool, &'static str> {
        Err(DOWN)
    }
    async fn in_doubt(&self) -> Result<Vec<Record>, &'static str> {
        Err(DOWN)
    }
    async fn settle(&self, _: FulfilmentId, _: bool) -> Result<bool, &'static str> {
        Err(DOWN)
    }
}

/// An error that panics when it is printed.
#[derive(Debug)]
struct Unprintable;

impl fmt::Display for Unprintable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("{DOCUMENTED}")
    }
}

impl Error for Unprintable {}

/// What a handler does, and what it says when it is asked in doubt.
#[derive(Clone, Copy)]
struct Scripted(Does, Says);

#[derive(Clone, Copy)]
enum Does {
    Answer(Outcome),
    Fail,
    FailUnprintably,
    PanicInCall,
    PanicInPoll,
    Nap,
    Never,
}

#[derive(Clone, Copy)]
enum Says {
    Granted(Option<bool>),
    Fail,
    Panic,
}

impl Fulfil for Scripted {
    type Error = BoxError;

    fn fulfil(
        &self,
        fulfilment: Fulfilment,
    ) -> impl Future<Output = Result<Outcome, BoxError>> + Send {
        let Self(does, _) = *self;
        if matches!(does, Does::PanicInCall) {
            panic!("{:?} {DOCUMENTED}", fulfilment.promoter.email);
        }
        async move {
            match does {
                Does::Answer(outcome) => Ok(outcome),
                Does::Fail => Err(DOCUMENTED.into()),
                Does::FailUnprintably => Err(Unprintable.into()),
                Does::Nap => pending().await,
                Does::Never => Ok(never(fulfilment).await?),
                Does::PanicInCall | Does::PanicInPoll => panic!("{DOCUMENTED}"),
            }
        }
    }

    async fn was_granted(&self, _: &Fulfilment) -> Result<Option<bool>, BoxError> {
        match self.1 {
            Says::Granted(granted) => Ok(granted),
            Says::Fail => Err(Unprintable.into()),
            Says::Panic => panic!("{DOCUMENTED}"),
        }
    }
}

const FULFILLED: Does = Does::Answer(Outcome::Fulfilled);
const PENDING: Does = Does::Answer(Outcome::Pending);
const UNKNOWN: Says = Says::Granted(None);

fn body(text: impl Into<Bytes>) -> Body {
    full(text).map_err(|never| match never {}).boxed_unsync()
}

fn frames(text: &'static str, last: Option<Result<&'static str, Broken>>) -> Body {
    let frame = |text: &'static str| Frame::data(Bytes::from_static(text.as_bytes()));
    let rest = last
        .map_or_else(|| stream::pending().boxed(), |last| stream::iter([last.map(frame)]).boxed());
    StreamBody::new(stream::iter([Ok(frame(text))]).chain(rest)).boxed_unsync()
}

/// One delivery's answer by a service; its body in one piece.
async fn ask<S, B>(service: S, request: Request<Body>) -> Answer
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Error: std::fmt::Debug,
    B: http_body::Body<Data = Bytes, Error: std::fmt::Debug>,
{
    let (head, body) = service.oneshot(request).await.expect("an answer").into_parts();
    let length = body.size_hint().exact();
    let bytes = body.collect().await.expect("its body").to_bytes();
    assert_eq!(length, Some(bytes.len() as u64), "the length of an answer is known");
    Response::from_parts(head, bytes)
}

/// A row: what is done, and how that must end.
type Row = (&'static str, Verdict, LocalBoxFuture<'static, Vec<Answer>>);

/// A delivery to a webhook, on its own and behind the layer.
macro_rules! row {
    ($what:literal, $verdict:ident, $webhook:expr, $request:expr) => {{
        let answers: LocalBoxFuture<'static, Vec<Answer>> = Box::pin(async move {
            let app = service_fn(|_: Request<Body>| ready(Err::<Response<Body>, _>("not ours")));
            vec![
                ask($webhook, $request).await,
                ask($webhook.at("/hook").layer(app), $request).await,
            ]
        });
        ($what, Verdict::$verdict, answers) as Row
    }};
}

fn rows() -> Vec<Row> {
    let plain = |does| Webhook::new(Scripted(does, UNKNOWN), access());
    let stored = |does, says, begin, end| {
        Webhook::new(Scripted(does, says), access()).once(Fake { begin, end })
    };
    let example = || post(body(DOCUMENTED));
    let sent = |text: String| post(body(text));
    let status = move |status: &str| sent(edited([("/data/status", json!(status))]));
    let without = move |head: &str| {
        let mut request = example();
        request.headers_mut().remove(head).expect("the header was there");
        request
    };
    vec![
        row!("fulfilled", Granted, plain(FULFILLED), example()),
        row!("as little as can be granted", Granted, plain(FULFILLED), post(body(LEAST))),
        row!("no status", Granted, plain(FULFILLED), sent(edited([("/data/status", json!(null))]))),
        row!("and recorded", Granted, stored(FULFILLED, UNKNOWN, RUN, Ok(())), example()),
        row!(
            "granted before",
            Granted,
            stored(Does::Never, UNKNOWN, || Ok(Begin::Granted), Err(DOWN)),
            example()
        ),
        row!(
            "in doubt, and it was",
            Granted,
            stored(Does::Never, Says::Granted(Some(true)), DOUBT, Ok(())),
            example()
        ),
        row!(
            "in doubt, and it was not",
            Granted,
            stored(FULFILLED, Says::Granted(Some(false)), DOUBT, Ok(())),
            example()
        ),
        row!(
            "in doubt, and it does not matter",
            Granted,
            stored(FULFILLED, Says::Panic, DOUBT, Ok(())).handler_is_idempotent(),
            example()
        ),
        row!("pending", Pending, plain(PENDING), example()),
        row!("recorded as pending", Pending, stored(PENDING, UNKNOWN, RUN, Ok(())), example()),
        row!("completed", NotPending, plain(Does::Never), status("completed")),
        row!("processing", NotPending, plain(Does::Never), status("processing")),
        row!("failed there", NotPending, plain(Does::Never), status("failed")),
        row!("cancelled", NotPending, plain(Does::Never), status("cancelled")),
        row!("something new", NotPending, plain(Does::Never), status("Pending?")),
        row!(
            "not pending, store or not",
            NotPending,
            stored(Does::Never, UNKNOWN, || Err(DOWN), Err(DOWN)),
            status("completed")
        ),
        row!(
            "broken off",
            BodyBroken,
            plain(Does::Never),
            post(frames(DOCUMENTED, Some(Err(Broken))))
        ),
        row!("half of it", NotJson, plain(Does::Never), post(body(&DOCUMENTED[..900]))),
        row!("nothing", NotJson, plain(Does::Never), post(body(""))),
        row!("a form", NotJson, plain(Does::Never), post(body("event=fulfilment_pending"))),
        row!("more behind it", NotJson, plain(Does::Never), post(body(format!("{LEAST}{LEAST}")))),
        row!("not UTF-8", NotJson, plain(Does::Never), post(body(&b"{\"event\xff\": 1}"[..]))),
        row!("no secret", Unauthorized, plain(Does::Never), {
            let mut request = example();
            *request.uri_mut() = "/hook".parse().expect("a URI");
            request
        }),
        row!("GET", MethodNotAllowed, plain(Does::Never), {
            let mut request = example();
            *request.method_mut() = http::Method::GET;
            request
        }),
        row!("stalled", BodyTimeout, plain(Does::Never), post(frames(DOCUMENTED, None))),
        row!(
            "busy elsewhere",
            InProgress,
            stored(Does::Never, UNKNOWN, || Ok(Begin::Busy), Err(DOWN)),
            example()
        ),
        row!("past the deadline", InProgress, stored(Does::Nap, UNKNOWN, RUN, Ok(())), example()),
        row!("large", BodyTooLarge, plain(Does::Never).body_limit(DOCUMENTED.len() - 1), example()),
        row!("no type", UnsupportedMediaType, plain(Does::Never), without("content-type")),
        row!("compressed", UnsupportedMediaType, plain(Does::Never), {
            let mut request = example();
            request.headers_mut().insert("content-encoding", "br".parse().expect("a value"));
            request
        }),
        row!("a test", NotAFulfilment, plain(Does::Never), post(body(r#"{"test":true}"#))),
        row!("an array", NotAFulfilment, plain(Does::Never), post(body(format!("[{LEAST}]")))),
        row!(
            "no promoter",
            NotAFulfilment,
            plain(Does::Never),
            sent(edited([("/data/promoter", json!(null))]))
        ),
        row!(
            "another event",
            OtherEvent,
            plain(Does::Never),
            sent(edited([("/event/type", json!("promoter_accepted"))]))
        ),
        row!("an error", Failed, plain(Does::Fail), example()),
        row!("an error, recorded", Failed, stored(Does::Fail, UNKNOWN, RUN, Ok(())), example()),
        row!("a panic at once", Panicked, plain(Does::PanicInCall), example()),
        row!("an error that panics", Panicked, plain(Does::FailUnprintably), example()),
        row!(
            "an error that panics, with a store",
            Panicked,
            stored(Does::FailUnprintably, UNKNOWN, RUN, Ok(())),
            example()
        ),
        row!("a panic later", Panicked, plain(Does::PanicInPoll), example()),
        row!(
            "a panic at once, with a store",
            Panicked,
            stored(Does::PanicInCall, UNKNOWN, RUN, Ok(())),
            example()
        ),
        row!(
            "a panic later, with a store",
            Panicked,
            stored(Does::PanicInPoll, UNKNOWN, RUN, Ok(())),
            example()
        ),
        row!(
            "a store that panics",
            Panicked,
            stored(Does::Never, UNKNOWN, || panic!("{DOWN}"), Ok(())),
            example()
        ),
        row!("in doubt", InDoubt, stored(Does::Never, UNKNOWN, DOUBT, Ok(())), example()),
        row!(
            "in doubt, asked in vain",
            InDoubt,
            stored(Does::Never, Says::Fail, DOUBT, Ok(())),
            example()
        ),
        row!(
            "in doubt, and a panic",
            InDoubt,
            stored(Does::Never, Says::Panic, DOUBT, Ok(())),
            example()
        ),
        row!(
            "no record to begin with",
            StoreUnavailable,
            stored(Does::Never, UNKNOWN, || Err(DOWN), Ok(())),
            example()
        ),
        row!(
            "granted and not recorded",
            NotRecorded,
            stored(FULFILLED, UNKNOWN, RUN, Err(DOWN)),
            example()
        ),
        row!("pending, lost", NotRecorded, stored(PENDING, UNKNOWN, RUN, Err(DOWN)), example()),
        row!("failed, lost", NotRecorded, stored(Does::Fail, UNKNOWN, RUN, Err(DOWN)), example()),
        row!(
            "in doubt, it was, and lost again",
            NotRecorded,
            stored(Does::Never, Says::Granted(Some(true)), DOUBT, Err(DOWN)),
            example()
        ),
        ("257 at once", Verdict::Overloaded, Box::pin(overloaded())),
        row!(
            "closed",
            ShuttingDown,
            {
                let webhook = stored(Does::Never, UNKNOWN, RUN, Ok(()));
                webhook.close().await;
                webhook
            },
            example()
        ),
    ]
}

/// As many grants as may run are running; the next one is refused, and those go on.
async fn overloaded() -> Vec<Answer> {
    let webhook = Webhook::new(Scripted(Does::Nap, UNKNOWN), access())
        .once(MemoryStore::new(1_000))
        .answer_within(Duration::from_secs(1));
    for id in 1..=256 {
        let request = post(body(edited([("/data/id", json!(id))])));
        assert_eq!(ask(webhook.clone(), request).await.status(), 409);
    }
    vec![ask(webhook, post(body(edited([("/data/id", json!(257))])))).await]
}

#[tokio::test(start_paused = true)]
async fn every_end_of_a_delivery() {
    let mut reached = HashSet::new();
    for (what, expected, answers) in rows() {
        let (_, status, code) =
            TABLE.into_iter().find(|row| row.0 == expected).expect("a verdict of the table");
        for answer in answers.await {
            let found = delivery::verdict(&answer);
            assert_eq!(found, expected, "{what}");
            assert_eq!(answer.status(), status, "{what}");
            assert_eq!(answer.headers()["content-type"], "application/json", "{what}");

            let text = std::str::from_utf8(answer.body()).expect("a text");
            let said: Value = serde_json::from_str(text).expect("JSON");
            assert_eq!(said["code"], code, "{what}");
            assert!(said["message"].as_str().is_some_and(|message| message.len() > 10), "{what}");
            assert_eq!(said.as_object().map(|said| said.len()), Some(2), "{what}");
            assert!(text.chars().count() < 1_000 && text.ends_with("}\n"), "{what}");
            assert_tells_nothing(text, answer.headers());
        }
        reached.insert(expected);
    }
    for &verdict in Verdict::ALL {
        assert!(reached.contains(&verdict), "{verdict:?} was never reached");
    }
}

/// Neither a secret nor anything of the payload, of the handler's error or of the store's.
#[track_caller]
fn assert_tells_nothing(text: &str, headers: &HeaderMap) {
    let all = format!("{text} {headers:?}");
    for private in
        [KEY, "16%2B", "2-5P1Shf", "promoter@", "your-webhook-url", "5272969", "postgres"]
    {
        assert!(!all.contains(private), "{private} in {all}");
    }
}

#[test]
fn the_table_is_what_the_crate_says() {
    for (verdict, status, code) in TABLE {
        assert_eq!((verdict.status().as_u16(), verdict.code()), (status, code));
    }
    assert_eq!(TABLE.map(|row| row.0), *Verdict::ALL);
    let codes: HashSet<_> = TABLE.iter().map(|row| row.2).collect();
    assert_eq!(codes.len(), TABLE.len(), "one end, one code");
    let granted = TABLE.iter().filter(|row| row.1 == 200);
    assert_eq!(granted.count(), 1, "a 200 has one source");
}

#[test]
fn the_readme_has_every_row() {
    let readme = include_str!("../README.md");
    for (verdict, status, code) in TABLE {
        let row = readme.lines().find(|line| {
            line.starts_with(&format!("| {status} |")) && line.contains(&format!("`{code}`"))
        });
        assert!(row.is_some(), "{verdict:?} has no row in the README");
    }
}

/// Headers that some of the answers must have, and others must not.
#[tokio::test]
async fn allow_and_the_challenges() {
    let secret = "at least sixteen bytes";
    for (access, challenge) in [
        (Access::query("key", secret), None),
        (Access::bearer(secret), Some("Bearer")),
        (Access::basic("us", secret), Some("Basic realm=\"webhook\"")),
        (Access::header(http::header::COOKIE, secret), None),
        (Access::secret_path(secret), None),
        (Access::signature(secret), None),
        (Access::custom(|_| false), None),
    ] {
        let what = format!("{access:?}");
        let webhook = Webhook::new(fulfil_fn(never), access);
        let answer = ask(webhook.clone(), post(body(DOCUMENTED))).await;
        assert_eq!(answer.status(), 401, "{what}");
        let found = answer.headers().get("www-authenticate");
        assert_eq!(found.map(|value| value.as_bytes()), challenge.map(str::as_bytes), "{what}");
        assert_eq!(answer.headers().get("allow"), None, "{what}");

        for method in ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "post", "PURGE"] {
            let request = Request::builder().method(method).uri(URI).body(body(DOCUMENTED));
            let answer = ask(webhook.clone(), request.expect("a request")).await;
            assert_eq!(answer.status(), 405, "{method}");
            assert_eq!(answer.headers()["allow"], "POST", "{method}");
        }
    }
}

/// What is wrong with a payload is said, because its author reads the answer; what it says is not.
#[tokio::test]
async fn a_refused_payload_is_explained() {
    let webhook = Webhook::new(fulfil_fn(never), access());
    let mut wrong = documented();
    wrong["data"]["amount"] = json!("promoter@example.com");
    let answer = ask(webhook, post(body(wrong.to_string()))).await;
    assert_eq!(
        answer.body(),
        "{\"code\":\"not_a_fulfilment\",\"message\":\"data.amount is not a number\"}\n"
    );
}
