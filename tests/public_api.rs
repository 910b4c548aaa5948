//! What applications rely on implicitly: which public types cross threads, are cloned, boxed and
//! passed on as errors, and what `Debug` hides.
//!
//! The first half fails by not compiling.

use std::{
    cell::Cell,
    convert::Infallible,
    error::Error,
    fmt::Debug,
    future::Ready,
    marker::PhantomPinned,
    mem::size_of,
    panic::{RefUnwindSafe, UnwindSafe},
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::FutureExt;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use tower::{Layer, Service, ServiceExt, service_fn, util::BoxCloneSyncService};
use tower_firstpromoter::{
    Access, BoxError, Fulfil, FulfilFn, InvalidAccess, Outcome, ReplyBody, Verdict, Webhook,
    WebhookFuture,
    api::{self, Client, Failure, InvalidClient, Mismatch, Pending, Reconciliation},
    event::{
        Amount, Balances, Campaign, DecodeError, Details, Event, Fulfilment, FulfilmentId,
        InvalidAmount, InvalidDetails, InvalidId, Profile, Promoter, PromoterDetails, PromoterId,
        Promotion, Reward, RewardKind, Secret, Status, Timestamp, Unit,
    },
    fulfil_fn,
    intercept::{Intercept, InterceptFuture, InterceptLayer, Pass, Refuse, ResponseBody},
    observe::{DeliveryEvent, DeliveryInfo, Metrics, Observer},
    store::{
        Begin, Claim, End, InvalidNamespace, MemoryStore, MemoryTx, PostgresError, PostgresJournal,
        PostgresJournalTx, PostgresStore, PostgresTx, Record, RedbError, RedbStore, RedbTx,
        SqliteError, SqliteStore, SqliteTx, State, Store,
    },
};

mod delivery;
use delivery::{QUIET, quiet};

/// A handler that is not `Clone`.
struct Handler;

impl Fulfil for Handler {
    type Error = Infallible;

    async fn fulfil(&self, _: Fulfilment) -> Result<Outcome, Infallible> {
        Ok(Outcome::Fulfilled)
    }
}

/// A body as inconvenient as it may be: neither `Sync` nor `Unpin`, and not `Clone`.
struct Upload {
    bytes: Cell<Bytes>,
    _pinned: PhantomPinned,
}

impl Upload {
    fn new(bytes: impl Into<Bytes>) -> Self {
        Self { bytes: Cell::new(bytes.into()), _pinned: PhantomPinned }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = self.bytes.take();
        Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
    }
}

/// An application keeps the webhook without naming a handler or a store.
#[derive(Clone, Debug)]
struct Application {
    webhook: Webhook,
}

type App = fn(Request<Upload>) -> Answer;
type AppService = tower::util::ServiceFn<App>;
type Answer = Ready<Result<Response<Full<Bytes>>, Infallible>>;

macro_rules! table {
    ($($($name:ty),+ $(,)?: $traits:tt;)+) => {
        $($(table!(@check $name, $traits);)+)+
    };
    (@check $name:ty, [$($bound:tt)+]) => {{
        fn check<T: $($bound)+>() {}
        check::<$name>();
    }};
}

#[test]
fn auto_traits() {
    table! {
        // What an application keeps and clones.
        Webhook, Application, Access, FulfilFn<App>, MemoryStore, PostgresJournal, PostgresStore,
        RedbStore, SqliteStore, Client, InterceptLayer, InterceptLayer<Pass<Upload>>, Refuse, Pass<Upload>,
        Intercept<AppService>, Intercept<AppService, Pass<Upload>>:
            [Clone + Debug + Send + Sync + Unpin + 'static];

        // What a server drives.
        WebhookFuture: [Debug + Send + Unpin + 'static];
        InterceptFuture<AppService, Refuse, Upload>: [Debug + Send + 'static];
        InterceptFuture<AppService, Pass<Upload>, Upload>: [Debug + Send + 'static];
        Webhook: [Service<Request<Upload>> + Service<Request<hyper::body::Incoming>>];
        Intercept<AppService>: [Service<Request<Upload>>];
        Intercept<AppService, Pass<Upload>>: [Service<Request<Upload>>];

        // What it sends: hosts ask for all of these, and the application's own body decides.
        ReplyBody, ResponseBody<Full<Bytes>>: [Debug + Send + Sync + Unpin + 'static];
        ResponseBody<Upload>: [Send + 'static];

        // Values, which may also cross a `catch_unwind`.
        Fulfilment, Event, Promoter, Details, PromoterDetails, Profile, Promotion, Campaign, Reward,
        Balances, Secret, Timestamp, Unit, Status, RewardKind, Amount, FulfilmentId, PromoterId,
        DeliveryInfo, Claim, Record, State, End, Verdict, Outcome, Pending, Reconciliation, Failure,
        Mismatch:
            [Clone + Debug + Send + Sync + Unpin + UnwindSafe + RefUnwindSafe + 'static];
        Amount, FulfilmentId, PromoterId, State, Verdict: [Copy + Eq + std::hash::Hash];
        Outcome: [Eq + std::hash::Hash];
        DeliveryEvent<'static>: [Copy + Debug + Send + Sync + Unpin];
        Metrics: [Observer + Debug + Unpin];
        Begin<MemoryTx>, MemoryTx: [Debug + Send + Sync + Unpin + 'static];
        PostgresJournalTx, PostgresTx, RedbTx, SqliteTx: [Debug + Send + 'static];

        // Errors, for `?` into anything.
        DecodeError, InvalidAccess, InvalidAmount, InvalidClient, InvalidDetails, InvalidId,
        InvalidNamespace, api::Error, PostgresError, RedbError, SqliteError:
            [Error + Into<BoxError> + Send + Sync + Unpin + 'static];
    }
}

#[test]
fn everything_public_is_in_this_file() {
    // `pub` in a private module, and so out of reach; the testkit is not under semver.
    const HIDDEN: [&str; 1] = ["Delivered"];
    let this = include_str!("public_api.rs");
    let mut missing = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().expect("the sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                if !path.ends_with("testkit") {
                    folders.push(path);
                }
                continue;
            }
            let source = std::fs::read_to_string(&path).expect("a source file");
            for line in source.lines().map(str::trim_start) {
                let kind = ["pub struct ", "pub enum "];
                let Some(rest) = kind.iter().find_map(|kind| line.strip_prefix(kind)) else {
                    continue;
                };
                let end = rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len());
                let name = &rest[..end];
                if name.starts_with('$') || name.is_empty() || HIDDEN.contains(&name) {
                    continue; // the ids are made by a macro
                }
                let known =
                    this.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == name);
                if !known {
                    missing.push(name.to_owned());
                }
            }
        }
    }
    assert!(missing.is_empty(), "not in `auto_traits`, or in `debug_redacts`: {missing:?}");
}

#[test]
fn other_requests_pay_no_more_than_a_pointer() {
    // axum's, tonic's and most others' are boxed; a large one would hide what ours adds.
    type Own = Pin<Box<dyn Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send>>;
    type Boxed = tower::util::ServiceFn<fn(Request<Upload>) -> Own>;
    let (own, ours) = (size_of::<Own>(), size_of::<InterceptFuture<Boxed, Refuse, Upload>>());
    assert!(ours <= own + size_of::<usize>(), "{ours} bytes, of which {own} are the application's");
}

fn deliver(body: impl Into<Bytes>) -> Request<Upload> {
    Request::post("/hook?key=KEPT-QUIET-in-the-query")
        .header("content-type", "application/json")
        .header("authorization", "Bearer KEPT-QUIET-in-a-header")
        .body(Upload::new(body))
        .expect("a request")
}

fn access() -> Access {
    Access::query("key", "KEPT-QUIET-in-the-query").expect("a secret")
}

async fn not_found(_: Request<Upload>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::builder().status(404).body(Full::default()).expect("a response"))
}

#[tokio::test]
async fn everything_can_be_boxed() {
    let webhook = Webhook::new(Handler, MemoryStore::new(1), access());
    let layer = webhook.clone().at("/hook");
    let Application { webhook } = Application { webhook };
    let body = quiet().to_string();
    let answer = BoxCloneSyncService::new(webhook).oneshot(deliver(body.clone())).await;
    assert_eq!(answer.expect("infallible").status(), 200);
    let intercept = BoxCloneSyncService::new(layer.layer(service_fn(not_found)));
    assert_eq!(intercept.oneshot(deliver(body)).await.expect("infallible").status(), 200);
    let _: &dyn Observer = &|_: &DeliveryEvent<'_>| {};
}

#[track_caller]
fn redacts(value: &dyn Debug) {
    for shown in [format!("{value:?}"), format!("{value:#?}")] {
        assert!(!shown.contains(QUIET), "{shown}");
    }
}

#[tokio::test]
async fn debug_redacts() {
    let body = quiet().to_string();
    let fulfilment = Fulfilment::decode(body.clone()).expect("a fulfilment");
    let details = fulfilment.details().expect("details");
    assert!(body.matches(QUIET).count() > 20);
    assert_eq!(
        details.promoter.auth_token.as_ref().map(|s| s.expose().contains(QUIET)),
        Some(true)
    );

    // An operator needs the customer's id; a claim and its record show it, and nothing else.
    let claim = Claim::new(&fulfilment);
    let customer = claim.cust_id.as_deref().expect("an id");
    redacts(&format!("{claim:?}").replace(customer, ""));
    let values: [&dyn Debug; 8] = [
        &fulfilment,
        &fulfilment.promoter,
        &details,
        &details.promoter,
        &details.promoter.profile,
        &details.campaign,
        &DeliveryInfo::from(&fulfilment),
        &Secret::from(QUIET),
    ];
    values.into_iter().for_each(redacts);

    let secret = "KEPT-QUIET-at-least-sixteen-bytes";
    let captured = secret.to_owned();
    redacts(&Access::custom(move |head| head.uri.path() == captured));

    let captured = secret.to_owned();
    let handler = fulfil_fn(move |_: Fulfilment| {
        let _ = &captured;
        async {
            tokio::task::yield_now().await;
            Err::<Outcome, _>(BoxError::from("down"))
        }
    });
    redacts(&handler);

    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    let store = MemoryStore::new(10);
    let webhook = Webhook::new(handler, store.clone(), access());
    let webhook = webhook.observe(move |event: &DeliveryEvent<'_>| {
        sink.lock().expect("no panic").push(format!("{event:?}"));
    });
    let layer = webhook.clone().at("/hook");
    let passing = layer.clone().pass_other_events(Upload::new);
    let mut intercept = layer.layer(service_fn(not_found));
    let mut passes = passing.layer(service_fn(not_found));
    redacts(&layer);
    redacts(&passing);
    redacts(&webhook);
    redacts(&webhook.clone().call(deliver(body.clone())));
    redacts(&intercept.call(deliver(body.clone())));
    redacts(&passes.call(deliver(body.clone())));

    assert!(webhook.clone().oneshot(deliver(body.clone())).now_or_never().is_none());
    let answer = webhook.clone().oneshot(deliver(body.clone())).await.expect("infallible");
    redacts(&answer);
    let answer = answer.into_body().collect().await.expect("whole").to_bytes();
    assert!(!String::from_utf8_lossy(&answer).contains(QUIET));

    let begun = store.begin(&claim).await.expect("infallible");
    redacts(&begun);
    redacts(&store);
    drop(begun);

    let seen = seen.lock().expect("no panic");
    assert!(seen.len() >= 3, "a hang-up, a failure and an answer: {seen:?}");
    redacts(&seen.join("\n").as_str());
}

#[test]
fn errors_do_not_quote_the_payload() {
    let text = quiet().to_string();
    // Wrong in all the ways which serde's own messages would quote.
    for body in [
        text[..text.len() / 2].to_owned(),
        text.replace(r#""amount":3"#, r#""amount":"KEPT-QUIET""#),
        text.replace(r#""id":2429153"#, r#""id":"KEPT-QUIET""#),
        text.replace("fulfilment_pending", "KEPT-QUIET"),
        text.replace(r#""amount":3"#, r#""amount":3,"amount":"KEPT-QUIET""#),
        format!(r#""{QUIET}""#),
        format!("{{{QUIET}"),
    ] {
        let error = Fulfilment::decode(body).expect_err("no fulfilment");
        redacts(&error);
        assert!(!error.to_string().contains(QUIET), "{error}");
    }
    for odd in [
        r#""campaign":{"name":"KEPT-QUIET","name":"KEPT-QUIET"},"x":{"#,
        r#""reward":{"id":"KEPT-QUIET","KEPT-QUIET":1,"id":1},"x":{"#,
    ] {
        let twice = text.replace(r#""campaign":{"#, odd);
        let fulfilment = Fulfilment::decode(twice).expect("not needed to fulfil");
        let error = fulfilment.details().expect_err("a member occurs twice");
        redacts(&error);
        assert!(!error.to_string().contains(QUIET), "{error}");
    }

    let error = QUIET.parse::<Amount>().expect_err("no number");
    redacts(&error);
    assert!(!error.to_string().contains(QUIET), "{error}");
    assert!(error.source().is_none());
}
