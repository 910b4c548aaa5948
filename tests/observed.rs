//! What an operator gets to see. A delivery of each kind is told by a span, an event and numbers, in
//! exactly the words that the documentation lists; what the application must keep to itself is in
//! none of them, not even when a handler's or a store's error quotes it; and whoever watches cannot
//! change what becomes of a reward.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    convert::Infallible,
    future::{pending, ready},
    io,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures::FutureExt;
use http::{Request, Response};
use http_body_util::channel::Channel;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use serde_json::{Value, json};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_firstpromoter::{
    Access, BoxError, Fulfil, Outcome, ReplyBody, Verdict, Webhook,
    event::{Fulfilment, FulfilmentId},
    observe::Seen,
    once::{Begin, Claim, End, MemoryStore, Once, Record, Store},
};
use tracing_subscriber::fmt::format::FmtSpan;

const KEY: &str = "the key in the query, 2026";
const PASSWORD: &str = "the password in the URL, 2026";
const DOCS: &str = include_str!("../src/observe/mod.rs");

#[tokio::test(start_paused = true)]
async fn each_kind_of_delivery_is_told_as_documented() {
    let fields = documented("field of the span");
    let expected = [
        // verdict, level, whether the reward was known, attempt
        (Verdict::Granted, "INFO", true, 1),
        (Verdict::Pending, "INFO", true, 1),
        (Verdict::NotPending, "INFO", true, 0),
        (Verdict::BodyBroken, "WARN", false, 0),
        (Verdict::NotJson, "WARN", false, 0),
        (Verdict::Unauthorized, "WARN", false, 0),
        (Verdict::MethodNotAllowed, "WARN", false, 0),
        (Verdict::BodyTimeout, "WARN", false, 0),
        (Verdict::InProgress, "INFO", true, 0),
        (Verdict::BodyTooLarge, "WARN", false, 0),
        (Verdict::UnsupportedMediaType, "WARN", false, 0),
        (Verdict::NotAFulfilment, "WARN", false, 0),
        (Verdict::OtherEvent, "INFO", false, 0),
        (Verdict::Failed, "ERROR", true, 1),
        (Verdict::Panicked, "ERROR", true, 1),
        (Verdict::InDoubt, "ERROR", true, 2),
        (Verdict::StoreUnavailable, "ERROR", true, 0),
        (Verdict::NotRecorded, "ERROR", true, 1),
        (Verdict::Overloaded, "ERROR", true, 0),
        (Verdict::ShuttingDown, "WARN", true, 0),
    ];
    assert_eq!(expected.map(|(verdict, ..)| verdict), *Verdict::ALL);

    for (verdict, level, known, attempt) in expected {
        let watch = Watch::start();
        let answer = end_in(verdict, Access::query("key", KEY)).await;
        assert_eq!(answer.extensions().get(), Some(&verdict));

        let lines = watch.lines();
        let told = |line: &&Value| line["span"]["firstpromoter.outcome"] == verdict.code();
        let mut events = lines.iter().filter(told).filter(|line| line["message"] != "close");
        let event = events.next().unwrap_or_else(|| panic!("no event for {verdict:?}: {lines:#?}"));
        assert_eq!(event["level"], level, "{verdict:?}");
        assert_eq!(event["target"], "tower_firstpromoter");
        assert_eq!(events.next(), None, "{verdict:?} is told twice");

        // The span as it was when it closed.
        let mut closed = lines.iter().filter(told).filter(|line| line["message"] == "close");
        let mut span = closed.next().expect("the span has closed")["span"].clone();
        assert_eq!(closed.next(), None, "{verdict:?} has two spans");
        let span = span.as_object_mut().expect("a span");
        assert_eq!(span.remove("name").expect("its name"), "firstpromoter.delivery");
        assert!(span.remove("firstpromoter.duration").expect("a duration").is_f64());
        let mut facts = json!({
            "firstpromoter.outcome": verdict.code(),
            "http.response.status_code": verdict.status().as_u16(),
        });
        if known {
            facts["firstpromoter.fulfilment.id"] = json!(2429153);
            facts["firstpromoter.event.id"] = json!(13007875);
            facts["firstpromoter.unit"] = json!("free_months");
            facts["firstpromoter.amount"] = json!("3");
        }
        if attempt > 0 {
            facts["firstpromoter.attempt"] = json!(attempt);
        }
        if verdict.status().is_server_error() {
            facts["error.type"] = json!(verdict.code());
            facts["otel.status_code"] = json!("ERROR");
        }
        assert_eq!(Value::Object(span.clone()), facts, "{verdict:?}");
        for field in span.keys() {
            assert!(fields.contains(&**field), "{field} is not documented");
        }

        let unit = if known { "free_months" } else { "none" };
        let code = verdict.code();
        let series = format!("firstpromoter_deliveries_total{{code=\"{code}\",unit=\"{unit}\"}}");
        assert!(number(&series) >= 1.0, "{series}");
        let series = format!("firstpromoter_delivery_duration_seconds_count{{code=\"{code}\"}}");
        assert!(number(&series) >= 1.0, "{series}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_numbers_are_those_documented() {
    let names = documented("metric");
    for &verdict in Verdict::ALL {
        end_in(verdict, Access::query("key", KEY)).await;
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
        ("panics", ""),
        ("store_errors", r#"{after_handler="false"}"#),
        ("store_errors", r#"{after_handler="true"}"#),
    ] {
        assert!(number(&format!("firstpromoter_{name}_total{labels}")) >= 1.0, "{name}: {text}");
    }

    // Counted apart from the other tests.
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let guard = metrics::set_default_local_recorder(&recorder);
    hang_up_and_end_late().await;
    drop(guard);
    let text = handle.render();
    let mut counted: Vec<_> = text.lines().filter(|line| line.contains("_total")).collect();
    counted.retain(|line| !line.starts_with('#'));
    counted.sort_unstable();
    assert_eq!(
        counted,
        [
            r#"firstpromoter_deliveries_total{code="granted",unit="free_months"} 3"#,
            r#"firstpromoter_deliveries_total{code="in_progress",unit="free_months"} 1"#,
            "firstpromoter_hang_ups_total 1",
            "firstpromoter_joined_deliveries_total 1",
            r#"firstpromoter_late_ends_total{code="granted"} 1"#,
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_grant_is_followed_past_the_hang_up() {
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
            // The second delivery waits for the first one's grant, and is gone at the deadline.
            ("not yet: the reward is being granted, the next delivery hears how", "in_progress"),
            ("close", "in_progress"),
            ("the sender hung up before there was an answer", "hung_up"),
            ("the handler says so itself", "hung_up"),
            ("the grant ended when nobody waited any more; the next delivery hears how", "hung_up"),
            ("close", "hung_up"),
            ("the reward is granted", "granted"),
            ("close", "granted"),
            ("the reward is granted", "granted"),
            ("close", "granted"),
            ("the reward is granted, and that is recorded", "granted"),
            ("close", "granted"),
        ],
        "{lines:#?}"
    );
    let late = &lines[4];
    assert_eq!(late["firstpromoter.outcome"], "granted");
    assert_eq!(late["firstpromoter.attempt"], 1);
    assert_eq!(late["span"]["firstpromoter.fulfilment.id"], 2429153, "the task carries the span");
    let joined: Vec<_> =
        lines.iter().filter(|line| line["span"]["firstpromoter.joined"] == true).collect();
    assert_eq!(joined.len(), 2, "an event and a close: {joined:#?}");
}

#[tokio::test(start_paused = true)]
async fn nothing_private_is_seen() {
    let watch = Watch::start();
    let seen = Arc::new(Mutex::new(String::new()));
    let end_seen = async |verdict, access: &Access| {
        let seen = Arc::clone(&seen);
        end_in_observed(verdict, access.clone(), move |fact| {
            use std::fmt::Write;
            writeln!(seen.lock().expect("seen"), "{fact:?}").expect("a string");
        })
        .await;
    };
    let query = Access::query("key", KEY);
    for access in [&query, &Access::basic("sender", PASSWORD)] {
        for &verdict in Verdict::ALL {
            end_seen(verdict, access).await;
        }
    }
    let mut private = private(&delivery());
    assert!(private.len() > 30, "the payload has much to hide");
    for first in (0..private.len()).step_by(QUOTES) {
        QUOTED.set(first);
        for verdict in [Verdict::Failed, Verdict::StoreUnavailable, Verdict::NotRecorded] {
            end_seen(verdict, &query).await;
        }
    }
    let seen = seen.lock().expect("seen");
    let captured = format!("{}\n{}\n{seen}", watch.text(), NUMBERS.render());
    assert!(captured.contains("no user [redacted]"), "the errors are there: {captured}");
    assert!(captured.contains("the row of [redacted]"), "{captured}");

    // As they stand, and once and twice quoted, because what is captured is quoted itself.
    let inside = |text: &String| format!("{text:?}")[1..].trim_end_matches('"').to_owned();
    let quoted: Vec<_> = private.iter().map(inside).collect();
    private.extend(quoted.iter().map(inside));
    private.extend(quoted);
    private.extend([KEY.to_owned(), wire(KEY), PASSWORD.to_owned(), basic_token()]);
    let captured = captured.to_lowercase();
    for text in private {
        assert!(!captured.contains(&text.to_lowercase()), "{text} was seen");
    }
    for text in ["?key=", "the body's own words", "Campaign Name"] {
        assert!(!captured.contains(&text.to_lowercase()), "{text} was seen");
    }
}

#[tokio::test]
async fn text_of_the_senders_own_making_is_kept_short() {
    let watch = Watch::start();
    let mut delivery = delivery();
    delivery["data"]["unit"] =
        json!(format!("{}\u{e4}\n\u{1b}[2J{}", "x".repeat(39), "y".repeat(9_000)));
    let answer = send(&webhook(Does::Grant).service, request(&delivery.to_string()).await).await;
    assert_eq!(answer.status(), 200);
    let close = watch.lines().pop().expect("a line");
    assert_eq!(close["span"]["firstpromoter.unit"], "x".repeat(39));
    assert!(number(r#"firstpromoter_deliveries_total{code="granted",unit="other"}"#) >= 1.0);
}

#[test]
fn an_open_webhook_is_warned_of_when_it_is_built() {
    let watch = Watch::start();
    let open = Webhook::new(Handler { does: Does::Grant }, Access::anyone());
    drop(open.clone());
    let lines = watch.lines();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert_eq!(lines[0]["level"], "WARN");
    assert!(lines[0]["message"].as_str().is_some_and(|text| text.contains("admits anyone")));
    let _ = Webhook::new(Handler { does: Does::Grant }, Access::query("key", KEY));
    assert_eq!(watch.lines().len(), 1, "and no other is");
}

#[tokio::test]
async fn other_routes_are_not_seen() {
    let watch = Watch::start();
    let home = service_fn(async |_: Request<Channel<Bytes, io::Error>>| {
        Ok::<_, Infallible>(Response::new(ReplyBody::default()))
    });
    let mut app = webhook(Does::Grant).service.at("/hook").layer(home);
    let other = request("{}").await.map(|body| body);
    let answer = app.ready().await.expect("ready").call(other).await.expect("an answer");
    assert!(answer.extensions().get::<Verdict>().is_none());
    assert_eq!(watch.text(), "");
}

#[tokio::test(start_paused = true)]
async fn an_observer_that_panics_changes_nothing() {
    for &verdict in Verdict::ALL {
        let answer =
            end_in_observed(verdict, Access::query("key", KEY), |_| panic!("watch out")).await;
        assert_eq!(answer.extensions().get(), Some(&verdict));
    }
    // Not even where a second panic would abort the process.
    let webhook = Webhook::new(Handler { does: Does::Never }, Access::query("key", KEY))
        .observe(|_: &Seen<'_>| panic!("watch out"));
    let request = request(&delivery().to_string()).await;
    let delivery = tokio::spawn(async move {
        let _unanswered = webhook.oneshot(request);
        panic!("the server's own");
    });
    assert!(delivery.await.is_err_and(|error| error.is_panic()));
}

// ---- deliveries of each kind

/// What the handler does with a reward.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Does {
    Grant,
    GrantSlowly,
    Leave,
    Fail,
    Panic,
    Never,
}

struct Handler {
    does: Does,
}

impl Fulfil for Handler {
    type Error = BoxError;

    async fn fulfil(&self, fulfilment: Fulfilment) -> Result<Outcome, BoxError> {
        match self.does {
            Does::Grant => Ok(Outcome::Fulfilled),
            Does::GrantSlowly => {
                tokio::time::sleep(Duration::from_secs(20)).await;
                tracing::info!("the handler says so itself");
                Ok(Outcome::Fulfilled)
            }
            Does::Leave => Ok(Outcome::Pending),
            Does::Fail => Err(indiscreet("no user", &fulfilment)),
            Does::Panic => panic!("the handler's own"),
            Does::Never => pending().await,
        }
    }
}

thread_local! {
    /// Which of the private texts come next in an error; all of them would not fit into one.
    static QUOTED: Cell<usize> = const { Cell::new(0) };
}

const QUOTES: usize = 10;

/// An error that quotes some of what there is to quote, as it stands and as `{:?}` has it.
fn indiscreet(start: &str, fulfilment: &Fulfilment) -> BoxError {
    let body = serde_json::from_slice(fulfilment.as_bytes()).expect("JSON");
    let quoted: String = private(&body)
        .iter()
        .skip(QUOTED.get())
        .take(QUOTES)
        .map(|text| format!(" {text} {text:?}"))
        .collect();
    format!("{start}{quoted}").into()
}

/// What must not be seen of a delivery. The address in lower case as well, as handlers look it up.
fn private(body: &Value) -> Vec<String> {
    let promoter = &body["data"]["promoter"];
    let mut private = Vec::new();
    texts(promoter, &mut private);
    texts(&body["data"]["campaign"]["default_webhook_url"], &mut private);
    private.push(promoter["cust_id"].to_string());
    private.push(promoter["email"].as_str().expect("a text").to_lowercase());
    private
}

/// A store that fails at one of its verbs, with the words of a constraint.
struct Broken {
    at_end: bool,
}

impl Store for Broken {
    type Tx = ();
    type Error = BoxError;

    async fn begin(&self, _: &Claim) -> Result<Begin<()>, BoxError> {
        let fulfilment = Fulfilment::decode(delivery().to_string())?;
        if self.at_end {
            Ok(Begin::Run { tx: (), attempt: 1 })
        } else {
            Err(indiscreet("the row of", &fulfilment))
        }
    }

    async fn end(&self, (): (), _: End) -> Result<(), BoxError> {
        Err(indiscreet("the row of", &Fulfilment::decode(delivery().to_string())?))
    }

    fn forget(&self, _: FulfilmentId) -> impl Future<Output = Result<bool, BoxError>> + Send {
        ready(Ok(false))
    }

    fn in_doubt(&self) -> impl Future<Output = Result<Vec<Record>, BoxError>> + Send {
        ready(Ok(Vec::new()))
    }

    fn settle(
        &self,
        _: FulfilmentId,
        _: bool,
    ) -> impl Future<Output = Result<bool, BoxError>> + Send {
        ready(Ok(false))
    }
}

struct Built {
    service: Webhook<Once>,
}

fn webhook(does: Does) -> Built {
    let webhook = Webhook::new(Handler { does }, Access::query("key", KEY));
    Built { service: webhook.once(MemoryStore::new(1_000)) }
}

async fn end_in(verdict: Verdict, access: Access) -> Response<ReplyBody> {
    end_in_observed(verdict, access, |_| {}).await
}

/// Makes one delivery end in this verdict. Its request satisfies both kinds of access used here.
async fn end_in_observed(
    verdict: Verdict,
    access: Access,
    observer: impl Fn(&Seen<'_>) + Send + Sync + 'static,
) -> Response<ReplyBody> {
    LazyLock::force(&NUMBERS);
    let does = match verdict {
        Verdict::Pending => Does::Leave,
        Verdict::Failed => Does::Fail,
        Verdict::Panicked | Verdict::InDoubt => Does::Panic,
        Verdict::InProgress | Verdict::Overloaded => Does::Never,
        _ => Does::Grant,
    };
    let plain = Webhook::new(Handler { does }, access).observe(observer);
    let webhook = match verdict {
        Verdict::StoreUnavailable => plain.once(Broken { at_end: false }),
        Verdict::NotRecorded => plain.once(Broken { at_end: true }),
        Verdict::BodyTooLarge => plain.body_limit(64).once(MemoryStore::new(1_000)),
        _ => plain.once(MemoryStore::new(1_000)),
    };

    let mut body = delivery();
    match verdict {
        Verdict::NotPending => body["data"]["status"] = json!("completed"),
        Verdict::NotAFulfilment => body["data"]["amount"] = json!("the body's own words"),
        Verdict::OtherEvent => body["event"]["type"] = json!("the body's own words"),
        _ => {}
    }
    let mut text = body.to_string();
    if verdict == Verdict::NotJson {
        text.push_str("the body's own words");
    }
    let mut sent = request(&text).await;
    let (mut upload, mut running) = (None, Vec::new());
    match verdict {
        Verdict::Unauthorized => {
            sent.headers_mut().remove("authorization");
            *sent.uri_mut() = "/?key=the+body's+own+words".parse().expect("a URI");
        }
        Verdict::MethodNotAllowed => *sent.method_mut() = http::Method::GET,
        Verdict::UnsupportedMediaType => {
            sent.headers_mut().remove("content-type");
        }
        Verdict::BodyBroken => {
            let (sender, body) = Channel::new(1);
            sender.abort(io::Error::other("the body's own words"));
            *sent.body_mut() = body;
        }
        Verdict::BodyTimeout => {
            let (sender, body) = Channel::new(1);
            upload = Some(sender);
            *sent.body_mut() = body;
        }
        Verdict::InDoubt => {
            let first = send(&webhook, request(&text).await).await;
            assert_eq!(first.extensions().get(), Some(&Verdict::Panicked));
        }
        Verdict::InProgress => {
            // By another delivery, whose span the grant keeps open.
            let delivery = webhook.clone().oneshot(request(&text).await);
            running.push(Box::pin(delivery));
            assert!(running.last_mut().expect("it").now_or_never().is_none());
        }
        Verdict::Overloaded => {
            for id in 0..256 {
                let mut other = delivery();
                other["data"]["id"] = json!(id);
                let delivery = webhook.clone().oneshot(request(&other.to_string()).await);
                // Tokio's channels are budgeted, and a turn of the task's is not enough for all.
                tokio::task::yield_now().await;
                running.push(Box::pin(delivery));
                assert!(running.last_mut().expect("it").now_or_never().is_none());
            }
        }
        Verdict::ShuttingDown => webhook.close().await,
        _ => {}
    }
    let answer = send(&webhook, sent).await;
    drop((upload, running));
    answer
}

/// One delivery hears 409 at the deadline. A second one of the same reward hangs up, its grant ends
/// late; a third hears of it. Then two that wait for one grant.
async fn hang_up_and_end_late() {
    LazyLock::force(&NUMBERS);
    let text = delivery().to_string();
    let Built { service } = webhook(Does::GrantSlowly);
    let mut first = Box::pin(service.clone().oneshot(request(&text).await));
    assert!((&mut first).now_or_never().is_none());
    assert_eq!(send(&service, request(&text).await).await.status(), 409);
    drop(first);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(send(&service, request(&text).await).await.status(), 200);

    let service = webhook(Does::Grant).service;
    let (first, second) =
        tokio::join!(send(&service, request(&text).await), send(&service, request(&text).await));
    assert_eq!(
        (first.status(), second.status()),
        (200.try_into().expect("a status"), second.status())
    );
}

async fn send(
    webhook: &Webhook<Once>,
    request: Request<Channel<Bytes, io::Error>>,
) -> Response<ReplyBody> {
    webhook.clone().oneshot(request).await.expect("a webhook never fails")
}

async fn request(body: &str) -> Request<Channel<Bytes, io::Error>> {
    let (mut sender, channel) = Channel::new(1);
    sender.send_data(Bytes::copy_from_slice(body.as_bytes())).await.expect("room for one frame");
    Request::post(format!("/?key={}", wire(KEY)))
        .header("authorization", format!("Basic {}", basic_token()))
        .header("content-type", "application/json")
        .body(channel)
        .expect("a request")
}

fn wire(text: &str) -> String {
    text.replace(' ', "+")
}

fn basic_token() -> String {
    use base64::{Engine, prelude::BASE64_STANDARD};
    BASE64_STANDARD.encode(format!("sender:{PASSWORD}"))
}

/// The documented delivery, with something private wherever there is room for it.
fn delivery() -> Value {
    serde_json::from_str(DELIVERY).expect("JSON")
}

const DELIVERY: &str = r##"{
  "event": { "id": 13007875, "type": "fulfilment_pending", "created_at": "2023-08-23T11:06:02.663Z" },
  "data": {
    "id": 2429153, "status": "pending", "amount": 3, "unit": "free_months",
    "date_paid": null, "due_date": null, "created_at": "2023-08-23T11:06:02.607Z",
    "has_issues": false,
    "reward": {
      "id": 109465, "amount": null, "type": "per_promotion", "unit": "free_months",
      "name": "Free subscription months", "per_of_sale": 0, "default_promo_code": null
    },
    "promoter": {
      "id": 5272969, "status": "active", "cust_id": 900719925, "email": "Ada.Promoter@Example.com",
      "created_at": "2023-02-08T06:25:28.004Z", "temp_password": "s3cret-temp",
      "default_promotion_id": 5680057, "pref": "i790yc6", "default_ref_id": "referralid18",
      "note": "pays late, be kind", "parent_promoter_id": null,
      "w8_form_url": "https://forms.example.com/w8/ada",
      "w9_form_url": "https://forms.example.com/w9/ada",
      "earnings_balance": { "cash": 882, "free_months": 3 },
      "current_balance": { "cash": -882, "free_months": 3 },
      "paid_balance": null, "auth_token": "2-5P1Shfk2nnKaZrYFZExh-sfCThGt-2",
      "profile": {
        "id": 5306304, "first_name": "Adalbert", "last_name": "Lovelace",
        "website": "https://ada.example.com", "company_name": "Engines Ltd",
        "phone_number": "+44 20 7946 0958", "address": "12 St James's Square\r\nLondon",
        "vat_id": "GB123456789", "country": "United Kingdom",
        "paypal_email": "money@ada.example.com", "avatar_url": "https://ada.example.com/face.png",
        "description": "writes notes on engines",
        "social_accounts": {
          "twitter": { "url": "https://x.example.com/ada" },
          "youtube": { "url": "https://video.example.com/ada" },
          "facebook": { "url": "https://book.example.com/ada" },
          "linkedin": { "url": "https://in.example.com/ada" },
          "instagram": { "url": "https://pic.example.com/ada" },
          "tiktok": { "url": "https://tok.example.com/ada" }
        }
      },
      "promotions": [
        {
          "id": 5680057, "status": "offer_running", "ref_id": "adaref99",
          "promo_code": "ADA20OFF", "campaign_id": 17476, "campaign_name": "Friends of engines",
          "referral_link": "https://a.example.com/?fpr=ada", "current_referral_reward": null
        },
        {
          "id": 5680058, "status": "offer_inactive", "ref_id": "adaref100",
          "promo_code": "ADA30OFF", "campaign_id": 17477, "campaign_name": "Foes of engines",
          "referral_link": "https://b.example.com/?fpr=ada", "current_referral_reward": null
        }
      ]
    },
    "campaign": {
      "id": 17476, "name": "Campaign Name", "landing_url": "https://www.your-company.com",
      "description": "Private campaign with 2 plans", "private": false, "color": "#42a5f5",
      "default_webhook_url": "https://hook.example.com/?key=the+key+in+the+query,+2026",
      "auto_approve_rewards": true, "auto_approve_promoters": false, "offer": null,
      "referral_reward": {
        "id": 90548, "amount": null, "type": "per_referral", "unit": "cash",
        "name": "35% recurring commission", "per_of_sale": 35, "default_promo_code": null
      },
      "promotion_reward": null, "target_reward": null
    }
  }
}"##;

fn texts(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.clone()),
        Value::Array(values) => values.iter().for_each(|value| texts(value, found)),
        Value::Object(members) => members.values().for_each(|value| texts(value, found)),
        _ => {}
    }
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
fn documented(heading: &str) -> BTreeSet<&'static str> {
    let start = DOCS.find(&format!("//! | {heading} |")).expect("a table with this heading");
    let rows = DOCS[start..].lines().skip(2).take_while(|line| line.starts_with("//! |"));
    rows.filter_map(|row| row.split('`').nth(1)).collect()
}
