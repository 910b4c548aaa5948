//! "FirstPromoter took our answer for something else."
//!
//! Walks the table of verdicts: each is reached through the public API, as a service and behind the
//! layer, with its one status, one code and one short body. The README's table is compared with it.

use std::{
    collections::BTreeSet,
    error::Error,
    fmt,
    future::{pending, ready},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, future::LocalBoxFuture, stream};
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use serde_json::{Value, json};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_firstpromoter::{
    Access, BoxError, Fulfil, Outcome, Verdict, Webhook,
    api::Client,
    event::Fulfilment,
    fulfil_fn,
    store::{Begin, Claim, End, MemoryStore, MemoryTx, Store},
};

mod delivery;
#[path = "support/faulty.rs"]
mod faulty;

use delivery::{DOCUMENTED, KEY, LEAST, URI, access, documented, edited, full, never, post};
use faulty::{DOWN, Fault, Faulty};

type Body = UnsyncBoxBody<Bytes, Broken>;

#[derive(Clone, Copy, Debug)]
struct Broken;

type Answer = Response<Bytes>;

/// An error that panics when it is formatted.
#[derive(Debug)]
struct Unprintable;

impl fmt::Display for Unprintable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("{DOCUMENTED}")
    }
}

impl Error for Unprintable {}

/// What a handler does, and what it answers in doubt.
struct Scripted(Does, Says);

#[derive(Clone, Copy)]
enum Does {
    Fulfils,
    LeavesPending,
    CannotKnow,
    Fails,
    FailsUnprintably,
    PanicsInCall,
    PanicsInPoll,
    NeverEnds,
    IsNotCalled,
}

#[derive(Clone, Copy)]
enum Says {
    Fulfilled(Option<bool>),
    Fails,
    Panics,
}

use Does::*;

const UNKNOWN: Says = Says::Fulfilled(None);

impl Fulfil for Scripted {
    type Error = BoxError;

    fn fulfil(
        &self,
        fulfilment: Fulfilment,
    ) -> impl Future<Output = Result<Outcome, BoxError>> + Send {
        let Self(does, _) = *self;
        if matches!(does, PanicsInCall) {
            panic!("{:?} {DOCUMENTED}", fulfilment.promoter.email);
        }
        async move {
            match does {
                Fulfils => Ok(Outcome::Fulfilled),
                LeavesPending => Ok(Outcome::Pending),
                CannotKnow => Ok(Outcome::InDoubt(DOCUMENTED.to_owned())),
                Fails => Err(DOCUMENTED.into()),
                FailsUnprintably => Err(Unprintable.into()),
                NeverEnds => pending().await,
                IsNotCalled => Ok(never(fulfilment).await?),
                PanicsInCall | PanicsInPoll => panic!("{DOCUMENTED}"),
            }
        }
    }

    async fn was_fulfilled(&self, _: &Fulfilment) -> Result<Option<bool>, BoxError> {
        match self.1 {
            Says::Fulfilled(fulfilled) => Ok(fulfilled),
            Says::Fails => Err(Unprintable.into()),
            Says::Panics => panic!("{DOCUMENTED}"),
        }
    }
}

fn webhook<S: Store<Tx = MemoryTx>>(does: Does, store: S) -> Webhook {
    Webhook::new(Scripted(does, UNKNOWN), store, access())
}

fn plain(does: Does) -> Webhook {
    webhook(does, MemoryStore::new(1_000))
}

fn faulty(does: Does, begin: Fault, end: Fault) -> Webhook {
    webhook(does, Faulty::new(begin, end))
}

fn claim(body: &str) -> Claim {
    Claim::new(&Fulfilment::decode(body.to_owned()).expect("a fulfilment"))
}

/// Begins the attempt of another process.
async fn begun(store: &MemoryStore, body: &str) -> MemoryTx {
    match store.begin(&claim(body)).await {
        Ok(Begin::Run { tx, .. }) => tx,
        other => panic!("{other:?}"),
    }
}

async fn fulfilled_before() -> MemoryStore {
    let store = MemoryStore::new(10);
    let Ok(_) = store.end(begun(&store, DOCUMENTED).await, End::Fulfilled).await;
    store
}

/// An attempt of an earlier process was cut off.
async fn in_doubt(does: Does, says: Says, end: Fault) -> Webhook {
    let faulty = Faulty::new(Fault::None, end);
    drop(begun(&faulty.store, DOCUMENTED).await);
    Webhook::new(Scripted(does, says), faulty, access())
}

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
    S::Error: fmt::Debug,
    B: http_body::Body<Data = Bytes, Error: fmt::Debug>,
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
    ($what:literal, $verdict:ident, $webhook:expr) => {
        row!($what, $verdict, $webhook, post(body(DOCUMENTED)))
    };
}

fn rows() -> Vec<Row> {
    let mut rows = refused();
    rows.extend(attempted());
    rows.extend(stored());
    rows.push(("257 at once", Verdict::Overloaded, Box::pin(overloaded())));
    rows
}

/// Ends before the handler.
fn refused() -> Vec<Row> {
    let sent = |text: String| post(body(text));
    let status = move |status: &str| sent(edited([("/data/status", json!(status))]));
    let without = move |head: &str| {
        let mut request = post(body(DOCUMENTED));
        request.headers_mut().remove(head).expect("the header was there");
        request
    };
    let refuses = || plain(IsNotCalled);
    vec![
        row!("completed", NotPending, refuses(), status("completed")),
        row!("processing", NotPending, refuses(), status("processing")),
        row!("failed there", NotPending, refuses(), status("failed")),
        row!("cancelled", NotPending, refuses(), status("cancelled")),
        row!("an unknown status", NotPending, refuses(), status("Pending?")),
        row!(
            "not pending, and the store is down",
            NotPending,
            faulty(IsNotCalled, Fault::DOWN, Fault::DOWN),
            status("completed")
        ),
        row!("broken off", BodyBroken, refuses(), post(frames(DOCUMENTED, Some(Err(Broken))))),
        row!("half of it", NotJson, refuses(), post(body(&DOCUMENTED[..900]))),
        row!("nothing", NotJson, refuses(), post(body(""))),
        row!("a form", NotJson, refuses(), post(body("event=fulfilment_pending"))),
        row!("more behind it", NotJson, refuses(), post(body(format!("{LEAST}{LEAST}")))),
        row!("not UTF-8", NotJson, refuses(), post(body(&b"{\"event\xff\": 1}"[..]))),
        row!("no secret", Unauthorized, refuses(), {
            let mut request = post(body(DOCUMENTED));
            *request.uri_mut() = "/hook".parse().expect("a URI");
            request
        }),
        row!("GET", MethodNotAllowed, refuses(), {
            let mut request = post(body(DOCUMENTED));
            *request.method_mut() = http::Method::GET;
            request
        }),
        row!("stalled", BodyTimeout, refuses(), post(frames(DOCUMENTED, None))),
        row!("large", BodyTooLarge, refuses().body_limit(DOCUMENTED.len() - 1)),
        row!("no type", UnsupportedMediaType, refuses(), without("content-type")),
        row!("compressed", UnsupportedMediaType, refuses(), {
            let mut request = post(body(DOCUMENTED));
            request.headers_mut().insert("content-encoding", "br".parse().expect("a value"));
            request
        }),
        row!("a test", NotAFulfilment, refuses(), post(body(r#"{"test":true}"#))),
        row!("an array", NotAFulfilment, refuses(), post(body(format!("[{LEAST}]")))),
        row!(
            "no promoter",
            NotAFulfilment,
            refuses(),
            sent(edited([("/data/promoter", json!(null))]))
        ),
        row!(
            "another event",
            OtherEvent,
            refuses(),
            sent(edited([("/event/type", json!("promoter_accepted"))]))
        ),
        row!("closed", ShuttingDown, {
            let webhook = refuses();
            webhook.close().await;
            webhook
        }),
    ]
}

/// Ends by the handler's word.
fn attempted() -> Vec<Row> {
    let says = Says::Fulfilled;
    vec![
        row!("fulfilled", Fulfilled, plain(Fulfils)),
        row!("the least that can be", Fulfilled, plain(Fulfils), post(body(LEAST))),
        row!(
            "no status",
            Fulfilled,
            plain(Fulfils),
            post(body(edited([("/data/status", json!(null))])))
        ),
        row!("pending", Pending, plain(LeavesPending)),
        row!("an error", Failed, plain(Fails)),
        row!("an error that panics", Failed, plain(FailsUnprintably)),
        row!("a panic in the call", Panicked, plain(PanicsInCall)),
        row!("a panic later", Panicked, plain(PanicsInPoll)),
        row!("the handler cannot know", InDoubt, plain(CannotKnow)),
        row!("cut off", InDoubt, plain(NeverEnds).attempt_within(Duration::from_secs(5))),
        row!("past the deadline", InProgress, plain(NeverEnds)),
        row!("the API is down", NotConfirmed, {
            let down = |_: Request<Full<Bytes>>| ready(Err::<Response<Full<Bytes>>, _>(DOWN));
            let client = Client::new(service_fn(down), "key").expect("a client");
            plain(IsNotCalled).confirm_with(client)
        }),
        row!("in doubt", InDoubt, in_doubt(IsNotCalled, UNKNOWN, Fault::None).await),
        row!("in doubt, asked in vain", InDoubt, {
            in_doubt(IsNotCalled, Says::Fails, Fault::None).await
        }),
        row!("in doubt, and a panic", InDoubt, {
            in_doubt(IsNotCalled, Says::Panics, Fault::None).await
        }),
        row!("in doubt, and it was", Fulfilled, {
            in_doubt(IsNotCalled, says(Some(true)), Fault::None).await
        }),
        row!("in doubt, and it was not", Fulfilled, {
            in_doubt(Fulfils, says(Some(false)), Fault::None).await
        }),
    ]
}

/// Ends by the store's word.
fn stored() -> Vec<Row> {
    let hangs = Fault::Hangs;
    vec![
        row!("fulfilled before", Fulfilled, webhook(IsNotCalled, fulfilled_before().await)),
        row!("another promoter's", RecordMismatch, {
            let store = MemoryStore::new(10);
            let other = edited([("/data/promoter/id", json!(8))]);
            let Ok(_) = store.end(begun(&store, &other).await, End::Fulfilled).await;
            webhook(IsNotCalled, store)
        }),
        row!("busy elsewhere", InProgress, {
            let store = MemoryStore::new(10);
            std::mem::forget(begun(&store, DOCUMENTED).await);
            webhook(IsNotCalled, store)
        }),
        row!("down", StoreUnavailable, faulty(IsNotCalled, Fault::DOWN, Fault::None)),
        row!("it panics", StoreUnavailable, {
            faulty(IsNotCalled, Fault::Fails(|| panic!("{DOWN}")), Fault::None)
        }),
        row!("silent", StoreUnavailable, faulty(IsNotCalled, hangs, Fault::None)),
        row!("silent past the deadline", StoreUnavailable, {
            faulty(IsNotCalled, hangs, Fault::None).answer_within(Duration::from_secs(1))
        }),
        row!("fulfilled and lost", NotRecorded, faulty(Fulfils, Fault::None, Fault::DOWN)),
        row!("pending and lost", NotRecorded, faulty(LeavesPending, Fault::None, Fault::DOWN)),
        row!("failed and lost", NotRecorded, faulty(Fails, Fault::None, Fault::DOWN)),
        row!("fulfilled, then silent", NotRecorded, faulty(Fulfils, Fault::None, hangs)),
        row!("then silent past the deadline", NotRecorded, {
            faulty(Fulfils, Fault::None, hangs).answer_within(Duration::from_secs(1))
        }),
        row!("in doubt, it was, and lost", NotRecorded, {
            in_doubt(IsNotCalled, Says::Fulfilled(Some(true)), Fault::DOWN).await
        }),
    ]
}

/// As many attempts as may run are running; the next one is refused, and those go on.
async fn overloaded() -> Vec<Answer> {
    let webhook = plain(NeverEnds).answer_within(Duration::from_millis(100));
    for id in 1..=256 {
        let request = post(body(edited([("/data/id", json!(id))])));
        assert_eq!(ask(webhook.clone(), request).await.status(), 409);
    }
    vec![ask(webhook, post(body(edited([("/data/id", json!(257))])))).await]
}

#[tokio::test(start_paused = true)]
async fn every_end_of_a_delivery() {
    let mut reached = BTreeSet::new();
    for (what, verdict, answers) in rows() {
        for answer in answers.await {
            assert_eq!(delivery::verdict(&answer), verdict, "{what}");
            assert_eq!(answer.status(), Verdict::status(verdict), "{what}");
            assert_eq!(answer.headers()["content-type"], "application/json", "{what}");

            let text = std::str::from_utf8(answer.body()).expect("a text");
            let said: Value = serde_json::from_str(text).expect("JSON");
            assert_eq!(said["code"], verdict.code(), "{what}");
            assert!(said["message"].as_str().is_some_and(|message| message.len() > 10), "{what}");
            assert_eq!(said.as_object().map(|said| said.len()), Some(2), "{what}");
            assert!(text.chars().count() < 1_000 && text.ends_with("}\n"), "{what}");
            assert_tells_nothing(text, answer.headers());
        }
        reached.insert(verdict.code());
    }
    let all: BTreeSet<_> = Verdict::ALL.iter().map(|verdict| verdict.code()).collect();
    assert_eq!(reached, all, "each verdict of the table has a row here");
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
fn one_end_has_one_code_and_a_200_has_one_source() {
    let codes: BTreeSet<_> = Verdict::ALL.iter().map(|verdict| verdict.code()).collect();
    assert_eq!(codes.len(), Verdict::ALL.len());
    let ok: Vec<_> = Verdict::ALL.iter().filter(|verdict| verdict.status() == 200).collect();
    assert_eq!(ok, [&Verdict::Fulfilled]);
}

#[test]
fn the_readme_has_the_same_table() {
    let mut lines = include_str!("../README.md").lines();
    lines.find(|line| *line == "| status | code | when |").expect("the README has the table");
    let mut readme = Vec::new();
    for row in lines.skip(1).take_while(|line| line.starts_with('|')) {
        let mut cells = row.split('|').skip(1);
        let status = cells.next().map(|cell| cell.trim().trim_matches('`').parse::<u16>());
        let status = status.expect("a cell").expect("a status");
        // What stands between backticks.
        let codes = cells.next().expect("a cell").split('`').skip(1).step_by(2);
        readme.extend(codes.map(|code| (status, code)));
    }
    let mut table: Vec<_> =
        Verdict::ALL.iter().map(|verdict| (verdict.status().as_u16(), verdict.code())).collect();
    readme.sort_unstable();
    table.sort_unstable();
    assert_eq!(readme, table);
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
        (Access::secret_path("at-least-sixteen-bytes"), None),
        (Access::signature(secret), None),
        (Ok(Access::custom(|_| false)), None),
    ] {
        let access = access.expect("a secret");
        let what = format!("{access:?}");
        let webhook = Webhook::new(fulfil_fn(never), MemoryStore::new(1), access);
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

/// The answer says what is wrong with a payload, because its sender may read it, but quotes nothing
/// of it.
#[tokio::test]
async fn a_refused_payload_is_explained() {
    let mut wrong = documented();
    wrong["data"]["amount"] = json!("promoter@example.com");
    let answer = ask(plain(IsNotCalled), post(body(wrong.to_string()))).await;
    assert_eq!(
        answer.body(),
        "{\"code\":\"not_a_fulfilment\",\"message\":\"data.amount is not a number\"}\n"
    );
}
