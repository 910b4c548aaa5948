//! What an operator sees. Each kind of delivery is reported by a span, an event and metrics, as the
//! documentation lists them; no secret, e-mail address, query or body is in any of them; and whoever
//! observes cannot change what becomes of a fulfilment.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    convert::Infallible,
    future::pending,
    io,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::FutureExt;
use http::{Request, Response};
use http_body_util::channel::Channel;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use serde_json::{Value, json};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_firstpromoter::{
    Access, BoxError, Fulfil, Outcome, ReplyBody, Verdict, Webhook,
    event::{Fulfilment, FulfilmentId},
    observe::{DeliveryEvent, Metrics},
    store::{Begin, Claim, End, MemoryStore, Record, State, Store},
};
use tracing_subscriber::fmt::format::FmtSpan;

mod delivery;
use delivery::{QUIET, quiet, verdict};

const DOCS: &str = include_str!("../src/observe/mod.rs");
const METRICS_DOCS: &str = include_str!("../src/observe/metrics.rs");

/// What is known of a delivery by its end.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Known {
    Nothing,
    Secret,
    /// With the number of the handler's run.
    Fulfilment(u32),
}

#[tokio::test(start_paused = true)]
async fn each_kind_of_delivery_is_reported_as_documented() {
    use Known::{Fulfilment, Nothing, Secret};

    let expected = [
        (Verdict::Fulfilled, "INFO", Fulfilment(1)),
        (Verdict::Pending, "INFO", Fulfilment(1)),
        (Verdict::NotPending, "INFO", Fulfilment(0)),
        (Verdict::BodyBroken, "WARN", Secret),
        (Verdict::NotJson, "WARN", Secret),
        (Verdict::Unauthorized, "WARN", Nothing),
        (Verdict::MethodNotAllowed, "WARN", Nothing),
        (Verdict::BodyTimeout, "WARN", Secret),
        (Verdict::InProgress, "INFO", Fulfilment(0)),
        (Verdict::BodyTooLarge, "WARN", Secret),
        (Verdict::UnsupportedMediaType, "WARN", Nothing),
        (Verdict::NotAFulfilment, "WARN", Secret),
        (Verdict::OtherEvent, "INFO", Secret),
        (Verdict::Failed, "ERROR", Fulfilment(1)),
        (Verdict::Panicked, "ERROR", Fulfilment(1)),
        (Verdict::InDoubt, "ERROR", Fulfilment(0)),
        (Verdict::RecordMismatch, "ERROR", Fulfilment(0)),
        (Verdict::StoreUnavailable, "ERROR", Fulfilment(0)),
        (Verdict::NotRecorded, "ERROR", Fulfilment(1)),
        (Verdict::Overloaded, "ERROR", Fulfilment(0)),
        (Verdict::ShuttingDown, "WARN", Fulfilment(0)),
    ];
    assert_eq!(expected.map(|(verdict, ..)| verdict), *all());

    let mut seen = BTreeSet::new();
    for (verdict, level, known) in expected {
        let watch = Watch::start();
        assert_eq!(delivery::verdict(&end_in(verdict).await), verdict);

        let lines = watch.lines();
        let told = |line: &&Value| line["span"]["firstpromoter.outcome"] == verdict.code();
        let mut events = lines.iter().filter(told).filter(|line| line["message"] != "close");
        let event = events.next().unwrap_or_else(|| panic!("no event for {verdict:?}: {lines:#?}"));
        assert_eq!(event["level"], level, "{verdict:?}");
        assert_eq!(event["firstpromoter.problem"].is_string(), verdict == Verdict::NotAFulfilment);
        assert_eq!(events.next(), None, "{verdict:?} is reported twice");

        // The span as it was when it closed.
        let mut closed = lines.iter().filter(told).filter(|line| line["message"] == "close");
        let mut span = closed.next().expect("the span has closed")["span"].clone();
        assert_eq!(closed.next(), None, "{verdict:?} has two spans");
        let span = span.as_object_mut().expect("a span");
        assert_eq!(span.remove("name").expect("its name"), "firstpromoter.delivery");
        seen.extend(span.keys().cloned());
        assert!(span.remove("firstpromoter.duration").expect("a duration").is_f64());
        let mut fields = json!({
            "firstpromoter.outcome": verdict.code(),
            "http.response.status_code": verdict.status().as_u16(),
        });
        if known != Nothing {
            fields["firstpromoter.secret"] = json!(0);
        }
        if let Fulfilment(attempt) = known {
            fields["firstpromoter.fulfilment.id"] = json!(2429153);
            fields["firstpromoter.event.id"] = json!(13007875);
            fields["firstpromoter.unit"] = json!("free_months");
            fields["firstpromoter.amount"] = json!("3");
            if attempt > 0 {
                fields["firstpromoter.attempt"] = json!(attempt);
            }
        }
        if verdict == Verdict::InProgress {
            fields["firstpromoter.joined"] = json!(true);
        }
        if verdict.status().is_server_error() {
            fields["error.type"] = json!(verdict.code());
            fields["otel.status_code"] = json!("ERROR");
        }
        assert_eq!(Value::Object(span.clone()), fields, "{verdict:?}");

        for line in &lines {
            assert_eq!(line["target"], "tower_firstpromoter", "{line}");
            let names = line.as_object().expect("a line").keys().filter(|key| key.contains('.'));
            for name in names.filter(|name| !name.starts_with("time.")) {
                assert!(DOCS.contains(&format!("`{name}`")), "{name} is not documented");
            }
        }

        let code = verdict.code();
        let unit = if matches!(known, Fulfilment(_)) { "free_months" } else { "none" };
        for series in [
            format!("firstpromoter_deliveries_total{{code=\"{code}\",unit=\"{unit}\"}}"),
            format!("firstpromoter_delivery_duration_seconds_count{{code=\"{code}\"}}"),
        ] {
            assert!(number(&series) >= 1.0, "{series}");
        }
    }
    let seen: BTreeSet<_> = seen.iter().map(String::as_str).collect();
    assert_eq!(seen, documented(DOCS, "field of the span"));
}

/// What the attempt itself reports, before the delivery's end.
#[tokio::test(start_paused = true)]
async fn each_error_is_reported_as_it_is() {
    for (verdict, message, reason) in [
        (Verdict::Failed, "the handler returned an error", "no such user"),
        (
            Verdict::Panicked,
            "the handler was interrupted; the attempt is in doubt",
            "panicked: the handler's own",
        ),
        (
            Verdict::InDoubt,
            "whether the attempt took effect is not known",
            "`was_fulfilled` does not know",
        ),
        (
            Verdict::StoreUnavailable,
            "the store failed; the handler was not called",
            "the store's own",
        ),
        (
            Verdict::NotRecorded,
            "the store failed after the handler; its effect may not be recorded",
            "the store's own",
        ),
    ] {
        let watch = Watch::start();
        end_in(verdict).await;
        let lines = watch.lines();
        let mut lines = lines.iter().filter(|line| line["message"] == message);
        let line = lines.next().unwrap_or_else(|| panic!("{verdict:?} is not reported"));
        assert_eq!((&line["level"], &line["exception.message"]), (&json!("ERROR"), &json!(reason)));
        assert_eq!(line["span"]["firstpromoter.fulfilment.id"], 2429153);
        assert_eq!(lines.next(), None, "{verdict:?} is reported twice");
    }
}

#[tokio::test(start_paused = true)]
async fn the_metrics_are_those_documented() {
    let names = documented(METRICS_DOCS, "metric");
    for &verdict in all() {
        end_in(verdict).await;
    }
    hang_up_and_end_late().await;
    let text = NUMBERS.render();
    let named = |start: &str| -> BTreeSet<&str> {
        let rest = text.lines().filter_map(|line| line.strip_prefix(start));
        rest.filter_map(|rest| rest.split(' ').next()).collect()
    };
    assert_eq!(named("# TYPE "), names, "{text}");
    assert_eq!(named("# HELP "), names, "each is described");
    for (name, labels) in [
        ("in_doubt", ""),
        ("handler_errors", ""),
        ("handler_interruptions", ""),
        ("store_errors", r#"{after_handler="false"}"#),
        ("store_errors", r#"{after_handler="true"}"#),
    ] {
        assert!(number(&format!("firstpromoter_{name}_total{labels}")) >= 1.0, "{name}: {text}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_delivery_is_counted_once() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let guard = metrics::set_default_local_recorder(&recorder);
    hang_up_and_end_late().await;
    drop(guard);
    assert_eq!(
        counted(&handle),
        [
            r#"firstpromoter_deliveries_total{code="fulfilled",unit="free_months"} 3"#,
            r#"firstpromoter_deliveries_total{code="in_progress",unit="free_months"} 1"#,
            "firstpromoter_hang_ups_total 1",
            "firstpromoter_joined_deliveries_total 2",
            r#"firstpromoter_late_ends_total{code="fulfilled"} 1"#,
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn an_attempt_is_followed_past_the_hang_up() {
    let watch = Watch::start();
    hang_up_and_end_late().await;
    let lines = watch.lines();
    let story: Vec<_> = lines
        .iter()
        .map(|line| (line["message"].as_str().unwrap_or_default(), &line["span"]))
        .map(|(message, span)| (message, span["firstpromoter.outcome"].as_str().unwrap_or("-")))
        .collect();
    assert_eq!(
        story,
        [
            // The second delivery joins the first one's attempt, and its deadline passes.
            ("an attempt is running; the next delivery gets its verdict", "in_progress"),
            ("close", "in_progress"),
            ("the sender hung up before the answer", "hung_up"),
            ("the handler's own line", "hung_up"),
            (
                "an attempt ended and no delivery was waiting; the next one gets its verdict",
                "hung_up"
            ),
            ("close", "hung_up"),
            ("fulfilled, and recorded", "fulfilled"),
            ("close", "fulfilled"),
            ("fulfilled, and recorded", "fulfilled"),
            ("close", "fulfilled"),
            ("fulfilled, and recorded", "fulfilled"),
            ("close", "fulfilled"),
        ],
        "{lines:#?}"
    );
    let late = &lines[4];
    assert_eq!(
        (&late["level"], &late["firstpromoter.outcome"]),
        (&json!("INFO"), &json!("fulfilled"))
    );
    assert_eq!(late["firstpromoter.attempt"], 1);
    assert_eq!(late["span"]["firstpromoter.fulfilment.id"], 2429153, "the task carries the span");
    let joined: Vec<_> =
        lines.iter().filter(|line| line["span"]["firstpromoter.joined"] == true).collect();
    assert_eq!(joined.len(), 4, "an event and a close of two spans: {joined:#?}");
}

#[tokio::test(start_paused = true)]
async fn nothing_private_is_reported() {
    let watch = Watch::start();
    let seen = Arc::new(Mutex::new(String::new()));
    for access in [query(), Access::basic("sender", PASSWORD).expect("a secret")] {
        for &verdict in all() {
            let sink = Arc::clone(&seen);
            let observer = move |event: &DeliveryEvent<'_>| {
                *sink.lock().expect("no panic") += &format!("{event:?}\n");
            };
            assert_eq!(
                delivery::verdict(&end_in_with(verdict, access.clone(), observer).await),
                verdict
            );
        }
    }
    let seen = seen.lock().expect("no panic");
    let captured = format!("{}\n{}\n{seen}", watch.text(), NUMBERS.render());
    assert!(
        captured.contains("no such user") && captured.contains("the store's own"),
        "{captured}"
    );
    for private in [QUIET, "?key=", "Basic ", &basic_token()] {
        assert!(!captured.contains(private), "{private} was reported: {captured}");
    }
}

#[tokio::test]
async fn a_senders_words_are_kept_short() {
    let watch = Watch::start();
    let mut body = quiet();
    body["data"]["unit"] =
        json!(format!("{}\u{e4}\n\u{1b}[2J{}", "x".repeat(39), "y".repeat(9_000)));
    let answer = send(&webhook(Does::Fulfil), request(&body).await).await;
    assert_eq!(verdict(&answer), Verdict::Fulfilled);
    let close = watch.lines().pop().expect("a line");
    assert_eq!(close["span"]["firstpromoter.unit"], "x".repeat(39));
    assert!(number(r#"firstpromoter_deliveries_total{code="fulfilled",unit="other"}"#) >= 1.0);
}

#[test]
fn an_open_webhook_is_warned_of_when_it_is_built() {
    let watch = Watch::start();
    let open = Webhook::new(Does::Fulfil, MemoryStore::new(1), Access::anyone());
    drop(open.clone());
    let lines = watch.lines();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert_eq!(lines[0]["level"], "WARN");
    assert!(lines[0]["message"].as_str().is_some_and(|text| text.contains("admits anyone")));
    let _ = webhook(Does::Fulfil);
    assert_eq!(watch.lines().len(), 1, "and of no other");
}

#[tokio::test]
async fn other_requests_are_not_reported() {
    let watch = Watch::start();
    let home = service_fn(async |_: Request<Upload>| {
        Ok::<_, Infallible>(Response::new(ReplyBody::default()))
    });
    let mut app = webhook(Does::Fulfil).at("/hook").layer(home);
    let answer = app.ready().await.expect("ready").call(request(&json!({})).await).await;
    assert!(answer.expect("an answer").extensions().get::<Verdict>().is_none());
    assert_eq!(watch.text(), "");
}

#[tokio::test(start_paused = true)]
async fn an_observer_that_panics_changes_nothing() {
    for &verdict in all() {
        let answer = end_in_with(verdict, query(), |_| panic!("the observer's own")).await;
        assert_eq!(delivery::verdict(&answer), verdict);
    }
    // Not even where a second panic would abort the process.
    let webhook = Webhook::new(Does::Never, MemoryStore::new(1), query())
        .observe(|_: &DeliveryEvent<'_>| panic!("the observer's own"));
    let request = request(&quiet()).await;
    let server = tokio::spawn(async move {
        let mut delivery = webhook.oneshot(request);
        assert!((&mut delivery).now_or_never().is_none());
        panic!("the server's own");
    });
    assert!(server.await.is_err_and(|error| error.is_panic()));
}

/// Panics the first time that a counter is wanted.
struct PanicsOnce(PrometheusRecorder, AtomicBool);

impl Recorder for PanicsOnce {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, text: SharedString) {
        self.0.describe_counter(key, unit, text);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, text: SharedString) {
        self.0.describe_gauge(key, unit, text);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, text: SharedString) {
        self.0.describe_histogram(key, unit, text);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        assert!(self.1.swap(true, Ordering::Relaxed), "the recorder's own");
        self.0.register_counter(key, metadata)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.0.register_gauge(key, metadata)
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        self.0.register_histogram(key, metadata)
    }
}

#[tokio::test]
async fn a_recorder_that_panics_once_silences_nobody() {
    let watch = Watch::start();
    let recorder = PanicsOnce(PrometheusBuilder::new().build_recorder(), AtomicBool::new(false));
    let handle = recorder.0.handle();
    let guard = metrics::set_default_local_recorder(&recorder);
    let seen = Arc::new(Mutex::new(0));
    let sink = Arc::clone(&seen);
    let webhook = webhook(Does::Fulfil)
        .observe(move |_: &DeliveryEvent<'_>| *sink.lock().expect("no panic") += 1);
    for _ in 0..3 {
        assert_eq!(verdict(&send(&webhook, request(&quiet()).await).await), Verdict::Fulfilled);
    }
    drop(guard);
    assert_eq!(*seen.lock().expect("no panic"), 3, "the next observer hears everything");
    let events = watch.lines();
    let events = events.iter().filter(|line| line["message"] == "fulfilled, and recorded");
    assert_eq!(events.count(), 3, "and so does the log");
    let delivered = r#"firstpromoter_deliveries_total{code="fulfilled",unit="free_months"} 2"#;
    assert_eq!(counted(&handle), [delivered], "and the metrics count on");
}

// ---- deliveries of each kind

type Upload = Channel<Bytes, io::Error>;

/// Every verdict that needs no API of FirstPromoter's.
fn all() -> &'static [Verdict] {
    static ALL: LazyLock<Vec<Verdict>> = LazyLock::new(|| {
        let all = Verdict::ALL.iter().copied();
        all.filter(|verdict| *verdict != Verdict::NotConfirmed).collect()
    });
    &ALL
}

/// What the handler does.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Does {
    Fulfil,
    FulfilSlowly,
    Leave,
    Fail,
    Panic,
    Never,
}

impl Fulfil for Does {
    type Error = BoxError;

    async fn fulfil(&self, _: Fulfilment) -> Result<Outcome, BoxError> {
        match self {
            Does::Fulfil => {
                tokio::task::yield_now().await; // a second delivery joins it
                Ok(Outcome::Fulfilled)
            }
            Does::FulfilSlowly => {
                tokio::time::sleep(Duration::from_secs(20)).await;
                tracing::info!("the handler's own line");
                Ok(Outcome::Fulfilled)
            }
            Does::Leave => Ok(Outcome::Pending),
            Does::Fail => Err("no such user".into()),
            Does::Panic => panic!("the handler's own"),
            Does::Never => pending().await,
        }
    }
}

/// A store that fails at one of its verbs.
#[derive(Clone)]
struct Broken {
    at_end: bool,
}

impl Store for Broken {
    type Tx = tower_firstpromoter::store::MemoryTx;
    type Error = BoxError;

    async fn begin(&self, claim: &Claim) -> Result<Begin<Self::Tx>, BoxError> {
        if self.at_end {
            Ok(MemoryStore::new(1).begin(claim).await?)
        } else {
            Err("the store's own".into())
        }
    }

    async fn end(&self, _: Self::Tx, _: End) -> Result<State, BoxError> {
        Err("the store's own".into())
    }

    async fn get(&self, _: FulfilmentId) -> Result<Option<Record>, BoxError> {
        Ok(None)
    }

    async fn open(&self, _: usize) -> Result<Vec<Record>, BoxError> {
        Ok(Vec::new())
    }

    async fn resolve(&self, _: FulfilmentId, _: bool) -> Result<bool, BoxError> {
        Ok(false)
    }

    async fn forget(&self, _: FulfilmentId) -> Result<bool, BoxError> {
        Ok(false)
    }
}

const PASSWORD: &str = "KEPT-QUIET in the URL";

fn query() -> Access {
    Access::query("key", "KEPT-QUIET in the query").expect("a secret")
}

fn basic_token() -> String {
    use base64::{Engine, prelude::BASE64_STANDARD};
    BASE64_STANDARD.encode(format!("sender:{PASSWORD}"))
}

fn webhook(does: Does) -> Webhook {
    Webhook::new(does, MemoryStore::new(1_000), query()).observe(Metrics::new())
}

async fn end_in(verdict: Verdict) -> Response<ReplyBody> {
    end_in_with(verdict, query(), |_| {}).await
}

/// Makes one delivery end in this verdict. Its request satisfies both kinds of access used here.
async fn end_in_with(
    verdict: Verdict,
    access: Access,
    observer: impl Fn(&DeliveryEvent<'_>) + Send + Sync + 'static,
) -> Response<ReplyBody> {
    LazyLock::force(&NUMBERS);
    let does = match verdict {
        Verdict::Pending => Does::Leave,
        Verdict::Failed => Does::Fail,
        Verdict::Panicked | Verdict::InDoubt => Does::Panic,
        Verdict::InProgress | Verdict::Overloaded => Does::Never,
        _ => Does::Fulfil,
    };
    let webhook = match verdict {
        Verdict::StoreUnavailable => Webhook::new(does, Broken { at_end: false }, access),
        Verdict::NotRecorded => Webhook::new(does, Broken { at_end: true }, access),
        _ => Webhook::new(does, MemoryStore::new(1_000), access),
    };
    let webhook = webhook.observe(observer).observe(Metrics::new()).body_limit(8 * 1024);

    let good = quiet();
    let mut body = good.clone();
    match verdict {
        Verdict::NotPending => body["data"]["status"] = json!("completed"),
        Verdict::NotAFulfilment => body["data"]["amount"] = json!(QUIET),
        Verdict::OtherEvent => body["event"]["type"] = json!(QUIET),
        Verdict::NotJson => body = json!(null),
        Verdict::BodyTooLarge => body["data"]["note"] = json!("x".repeat(8 * 1024)),
        _ => {}
    }
    let mut sent = request(&body).await;
    let (mut upload, mut running) = (None, Vec::new());
    match verdict {
        Verdict::Unauthorized => {
            sent.headers_mut().remove("authorization");
            *sent.uri_mut() = "/?key=KEPT-QUIET+and+wrong".parse().expect("a URI");
        }
        Verdict::MethodNotAllowed => *sent.method_mut() = http::Method::GET,
        Verdict::UnsupportedMediaType => drop(sent.headers_mut().remove("content-type")),
        Verdict::NotJson => *sent.body_mut() = text(QUIET).await,
        Verdict::BodyBroken => {
            let (sender, body) = Channel::new(1);
            sender.abort(io::Error::other(QUIET));
            *sent.body_mut() = body;
        }
        Verdict::BodyTimeout => {
            let (sender, body) = Channel::new(1);
            upload = Some(sender);
            *sent.body_mut() = body;
        }
        Verdict::InDoubt => {
            let first = send(&webhook, request(&good).await).await;
            assert_eq!(delivery::verdict(&first), Verdict::Panicked);
        }
        Verdict::RecordMismatch => {
            let mut other = good.clone();
            other["data"]["promoter"]["id"] = json!(8);
            other["event"]["id"] = json!(1);
            let first = send(&webhook, request(&other).await).await;
            assert_eq!(delivery::verdict(&first), Verdict::Fulfilled);
        }
        Verdict::InProgress => running.push(start(&webhook, &good).await),
        Verdict::Overloaded => {
            for id in 0..256 {
                let mut other = good.clone();
                other["data"]["id"] = json!(id);
                running.push(start(&webhook, &other).await);
            }
        }
        Verdict::ShuttingDown => webhook.close().await,
        _ => {}
    }
    let answer = send(&webhook, sent).await;
    drop((upload, running));
    answer
}

/// One delivery is answered with 409 at its deadline. The one whose attempt it joined hangs up, and
/// the attempt ends late; a third is answered from the record. Then two wait for one attempt.
async fn hang_up_and_end_late() {
    LazyLock::force(&NUMBERS);
    let service = webhook(Does::FulfilSlowly);
    let first = start(&service, &quiet()).await;
    assert_eq!(verdict(&send(&service, request(&quiet()).await).await), Verdict::InProgress);
    drop(first);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(verdict(&send(&service, request(&quiet()).await).await), Verdict::Fulfilled);

    let service = webhook(Does::Fulfil);
    let (first, second) = (request(&quiet()).await, request(&quiet()).await);
    let (first, second) = tokio::join!(send(&service, first), send(&service, second));
    assert_eq!([verdict(&first), verdict(&second)], [Verdict::Fulfilled; 2]);
}

/// A delivery whose attempt is running.
async fn start(webhook: &Webhook, body: &Value) -> impl Future + use<> {
    let mut delivery = Box::pin(webhook.clone().oneshot(request(body).await));
    // Tokio's channels are budgeted, and a turn of the task's is not enough for all.
    tokio::task::yield_now().await;
    assert!(delivery.as_mut().now_or_never().is_none());
    delivery
}

async fn send(webhook: &Webhook, request: Request<Upload>) -> Response<ReplyBody> {
    webhook.clone().oneshot(request).await.expect("a webhook never fails")
}

async fn text(text: &str) -> Upload {
    let (mut sender, channel) = Channel::new(1);
    sender.send_data(Bytes::copy_from_slice(text.as_bytes())).await.expect("room for one frame");
    channel
}

async fn request(body: &Value) -> Request<Upload> {
    Request::post("/?key=KEPT-QUIET+in+the+query")
        .header("authorization", format!("Basic {}", basic_token()))
        .header("content-type", "application/json")
        .body(text(&body.to_string()).await)
        .expect("a request")
}

// ---- what is captured

/// All tests of this process count together.
static NUMBERS: LazyLock<PrometheusHandle> =
    LazyLock::new(|| PrometheusBuilder::new().install_recorder().expect("the only recorder"));

fn number(series: &str) -> f64 {
    let text = NUMBERS.render();
    let mut values = text.lines().filter_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    values.next().map_or(0.0, |value| value.parse().expect("a number"))
}

/// The counters that are not zero.
fn counted(handle: &PrometheusHandle) -> Vec<String> {
    let text = handle.render();
    let lines = text.lines().filter(|line| !line.starts_with('#') && line.contains("_total"));
    let mut counted: Vec<_> =
        lines.filter(|line| !line.ends_with(" 0")).map(str::to_owned).collect();
    counted.sort_unstable();
    counted
}

/// What is told to `tracing`, as lines of JSON. One subscriber for the process, because callsites
/// cache whether anybody listens; each test has a thread of its own, and so its own lines.
static SUBSCRIBER: LazyLock<()> = LazyLock::new(|| {
    let subscriber = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_span_events(FmtSpan::CLOSE)
        .with_max_level(tracing::Level::TRACE)
        .with_writer(|| ThisThread)
        .finish();
    tracing::subscriber::set_global_default(subscriber).expect("the only subscriber");
});

thread_local! {
    static LINES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

struct ThisThread;

impl io::Write for ThisThread {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LINES.with_borrow_mut(|lines| lines.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// From its start on.
struct Watch;

impl Watch {
    fn start() -> Self {
        LazyLock::force(&SUBSCRIBER);
        LazyLock::force(&NUMBERS);
        LINES.with_borrow_mut(Vec::clear);
        Self
    }

    fn text(&self) -> String {
        String::from_utf8(LINES.with_borrow(Clone::clone)).expect("UTF-8")
    }

    fn lines(&self) -> Vec<Value> {
        let text = self.text();
        text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }
}

/// The names in the first column of the table with this heading.
fn documented(docs: &'static str, heading: &str) -> BTreeSet<&'static str> {
    let start = docs.find(&format!("| {heading} |")).expect("a table with this heading");
    let rows = docs[start..].lines().skip(2).take_while(|line| line.contains(" | "));
    rows.filter_map(|row| row.split('`').nth(1)).collect()
}
