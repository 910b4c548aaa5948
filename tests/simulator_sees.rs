//! The audit finds the faults of receivers that are wrong in common ways, and none in correct ones.

use std::{
    collections::HashSet,
    convert::Infallible,
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use tokio::time::sleep;
use tower::{Layer, Service, service_fn};
use tower_firstpromoter::{
    Access, BoxError, Outcome, Webhook,
    event::{Fulfilment, FulfilmentId},
    fulfil_fn,
    store::MemoryStore,
    testkit::{
        Fault::{self, FalseOk, FulfilledTwice, Lost, NoOk, WronglyFulfilled},
        FirstPromoter, Mishap, NotIntercepted, Payload, Report, Status,
    },
};

const URL: &str = "https://app.example/hook?key=at+least+sixteen+bytes";

/// What was fulfilled, and what a receiver has noted besides.
#[derive(Clone, Default)]
struct Db(Arc<Mutex<Tables>>);

#[derive(Default)]
struct Tables {
    fulfilled: Vec<u64>,
    seen: HashSet<String>,
}

impl Db {
    fn fulfil(&self, data: &Value) -> StatusCode {
        self.fulfil_id(data["id"].as_u64().unwrap_or_default());
        StatusCode::OK
    }

    fn fulfil_id(&self, id: u64) {
        self.0.lock().expect("nothing panics under this lock").fulfilled.push(id);
    }

    fn times_fulfilled(&self, id: FulfilmentId) -> usize {
        let tables = self.0.lock().expect("nothing panics under this lock");
        tables.fulfilled.iter().filter(|found| **found == id.get()).count()
    }

    /// Whether this is the first time.
    fn note(&self, key: impl ToString) -> bool {
        self.0.lock().expect("nothing panics under this lock").seen.insert(key.to_string())
    }

    fn knows(&self, key: impl ToString) -> bool {
        self.0.lock().expect("nothing panics under this lock").seen.contains(&key.to_string())
    }
}

/// A receiver that somebody wrote by hand. It sees bodies that are pending fulfilments only, unless
/// it wants to see others; the rest is refused for it.
fn by_hand<R, Fut>(
    receive: R,
) -> impl Service<Request<Full<Bytes>>, Response = Response<String>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ 'static
where
    R: Fn(Value) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = StatusCode> + Send + 'static,
{
    service_fn(move |request: Request<Full<Bytes>>| {
        let receive = receive.clone();
        async move {
            let known = request.uri().query().is_some();
            let Ok(body) = request.into_body().collect().await;
            let body = body.to_bytes();
            let status = if known && Fulfilment::decode(body.clone()).is_ok_and(is_pending) {
                receive(serde_json::from_slice(&body).expect("it was read before")).await
            } else {
                StatusCode::BAD_REQUEST
            };
            Ok(Response::builder().status(status).body(String::new()).expect("a response"))
        }
    })
}

fn is_pending(fulfilment: Fulfilment) -> bool {
    fulfilment.status.as_str() == "pending"
}

async fn audit<S>(db: &Db, receiver: S) -> Report
where
    S: Service<Request<Full<Bytes>>, Response = Response<String>, Future: Send>
        + Clone
        + Send
        + 'static,
    S::Error: Into<BoxError>,
{
    let sender = FirstPromoter::new(receiver, URL);
    sender.audit(&Payload::new(1), async |id| db.times_fulfilled(id)).await
}

/// The faults found, each once.
fn faults(report: &Report) -> HashSet<Fault> {
    report.faults().filter_map(|case| case.fault).collect()
}

#[track_caller]
fn fault_at(report: &Report, name: &str) -> Option<Fault> {
    let case = report.cases().iter().find(|case| case.name == name);
    case.unwrap_or_else(|| panic!("nothing was tried by the name of `{name}`")).fault
}

macro_rules! receiver {
    ($db:ident, |$body:ident| $receive:expr) => {{
        let known = $db.clone();
        by_hand(move |$body: Value| {
            #[allow(unused_variables, reason = "some receivers keep nothing")]
            let $db = known.clone();
            async move { $receive }
        })
    }};
}

#[tokio::test(start_paused = true)]
async fn one_that_answers_200_to_everything() {
    let db = Db::default();
    let anything = service_fn(async |_: Request<Full<Bytes>>| {
        Ok::<_, Infallible>(Response::new(String::new()))
    });
    let report = audit(&db, anything).await;
    assert_eq!(faults(&report), [FalseOk].into());
    for name in ["no mishap", "a test delivery", "half a body", "without the secret"] {
        assert_eq!(fault_at(&report, name), Some(FalseOk), "{name}");
    }
    // Of an event of another type, a 200 says nothing.
    assert_eq!(fault_at(&report, "the event promoter_signs_up"), None);
}

#[tokio::test(start_paused = true)]
async fn one_that_deduplicates_on_the_event() {
    let db = Db::default();
    let receiver = receiver!(db, |body| {
        if db.note(&body["event"]["id"]) { db.fulfil(&body["data"]) } else { StatusCode::OK }
    });
    let report = audit(&db, receiver).await;
    // A retry with another `event.id` is fulfilled again …
    assert_eq!(fault_at(&report, "the answer is lost"), Some(FulfilledTwice));
    assert_eq!(fault_at(&report, "8 deliveries at once"), Some(FulfilledTwice));
    // … and without a mishap nothing is wrong.
    assert_eq!(fault_at(&report, "no mishap"), None);

    let db = Db::default();
    let receiver = receiver!(db, |body| {
        if !db.note(&body["event"]["id"]) {
            return StatusCode::OK;
        }
        sleep(Duration::from_millis(10)).await;
        db.fulfil(&body["data"])
    });
    let report = audit(&db, receiver).await;
    // It recorded the message, the sender hung up, and the retry is "known".
    assert_eq!(fault_at(&report, "the sender hangs up after 5ms"), Some(FalseOk));
}

#[tokio::test(start_paused = true)]
async fn one_that_deduplicates_on_who_and_what() {
    let db = Db::default();
    let receiver = receiver!(db, |body| {
        let data = &body["data"];
        let key = format!("{} {} {}", data["promoter"]["id"], data["amount"], data["unit"]);
        if db.note(key) { db.fulfil(data) } else { StatusCode::OK }
    });
    let report = audit(&db, receiver).await;
    assert_eq!(fault_at(&report, "equal fulfilments at once"), Some(FalseOk));
}

#[tokio::test(start_paused = true)]
async fn one_that_keeps_the_last_id_only() {
    let db = Db::default();
    let receiver = receiver!(db, |body| {
        let id = body["data"]["id"].as_u64().unwrap_or_default();
        if (id..id + 1_000).any(|newer| db.knows(newer)) {
            return StatusCode::OK;
        }
        db.note(id);
        db.fulfil(&body["data"])
    });
    let report = audit(&db, receiver).await;
    assert_eq!(fault_at(&report, "the answer is lost"), None);
    let equal = report.cases().iter().filter(|case| case.name == "equal fulfilments at once");
    let faults: Vec<_> = equal.map(|case| case.fault).collect();
    assert_eq!(faults, [None, Some(FalseOk), Some(FalseOk)], "the youngest came first");
}

#[tokio::test(start_paused = true)]
async fn one_whose_work_ends_with_the_connection() {
    // Too slow for any delivery to see its end, however often it is sent.
    let db = Db::default();
    let receiver = receiver!(db, |body| {
        sleep(Duration::from_secs(20)).await;
        db.fulfil(&body["data"])
    });
    let report = audit(&db, receiver).await;
    let case = report.cases().first().expect("some were sent");
    assert_eq!(
        (case.fault, case.status, case.deliveries.len()),
        (Some(Lost), Status::HasIssues, 8)
    );
    assert!(case.deliveries.iter().all(|delivery| delivery.reason == "timed_out"));
    assert!(case.deliveries.iter().all(|delivery| delivery.took == Duration::from_secs(15)));
    let hours = case.deliveries.last().map(|delivery| delivery.at.as_secs() / 3600);
    assert_eq!(hours, Some(21), "the retries are spread over the day");

    // Quick, but in two steps: fulfilled, and not noted.
    let db = Db::default();
    let receiver = receiver!(db, |body| {
        let id = &body["data"]["id"];
        if !db.knows(id) {
            db.fulfil(&body["data"]);
            tokio::task::yield_now().await;
            db.note(id);
        }
        StatusCode::OK
    });
    let report = audit(&db, receiver).await;
    assert_eq!(fault_at(&report, "no mishap"), None);
    assert_eq!(fault_at(&report, "the sender hangs up at wait 1"), Some(FulfilledTwice));
}

#[tokio::test(start_paused = true)]
async fn one_that_answers_before_it_fulfils() {
    // The work is done a moment later, if the process lives.
    let db = Db::default();
    let receiver = receiver!(db, |body| {
        if db.note(&body["data"]["id"]) {
            tokio::spawn(async move {
                sleep(Duration::from_millis(100)).await;
                db.fulfil(&body["data"]);
            });
        }
        StatusCode::OK
    });
    let report = audit(&db, receiver).await;
    assert_eq!(fault_at(&report, "no mishap"), Some(FalseOk));
    assert_eq!(report.cases()[0].fulfilled, Some(1), "it was fulfilled in the end");

    // The job panics, and nobody hears of it.
    let db = Db::default();
    let receiver = receiver!(db, |body| {
        tokio::spawn(async move { body["data"]["id"].as_str().map(drop) });
        StatusCode::OK
    });
    assert_eq!(faults(&audit(&db, receiver).await), [FalseOk].into());
}

#[tokio::test(start_paused = true)]
async fn one_that_looks_and_then_fulfils() {
    let db = Db::default();
    let receiver = receiver!(db, |body| {
        let id = &body["data"]["id"];
        if !db.knows(id) {
            sleep(Duration::from_millis(1)).await;
            db.fulfil(&body["data"]);
            db.note(id);
        }
        StatusCode::OK
    });
    let report = audit(&db, receiver).await;
    assert_eq!(fault_at(&report, "no mishap"), None);
    assert_eq!(fault_at(&report, "2 deliveries at once"), Some(FulfilledTwice));
    assert_eq!(fault_at(&report, "64 deliveries at once"), Some(FulfilledTwice));
}

#[tokio::test(start_paused = true)]
async fn one_that_refuses_what_it_fulfilled_before() {
    for status in [StatusCode::CONFLICT, StatusCode::ACCEPTED] {
        let db = Db::default();
        let receiver = receiver!(db, |body| {
            if db.note(&body["data"]["id"]) { db.fulfil(&body["data"]) } else { status }
        });
        let report = audit(&db, receiver).await;
        assert_eq!(fault_at(&report, "no mishap"), None);
        assert_eq!(fault_at(&report, "the answer is lost"), Some(NoOk), "{status}");
        assert_eq!(fault_at(&report, "a copy arrives late"), Some(NoOk), "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_wants_members_it_does_not_need() {
    let db = Db::default();
    let receiver = receiver!(db, |body| {
        let color = &body["data"]["campaign"]["color"];
        match (color.as_str(), db.note(&body["data"]["id"])) {
            (Some(_), true) => db.fulfil(&body["data"]),
            (Some(_), false) => StatusCode::OK,
            (None, _) => StatusCode::UNPROCESSABLE_ENTITY,
        }
    });
    let report = audit(&db, receiver).await;
    let odd: Vec<_> = report.faults().map(|case| case.name.as_str()).collect();
    assert!(report.faults().any(|case| case.name == "data.campaign is null"), "{odd:?}");
    assert_eq!(
        fault_at(&report, "data.campaign has a member of another type"),
        Some(Lost),
        "{odd:?}"
    );
    assert_eq!(fault_at(&report, "no mishap"), None);
}

#[tokio::test(start_paused = true)]
async fn one_that_loses_digits() {
    let db = Db::default();
    let receiver = receiver!(db, |body| {
        let id = body["data"]["id"].as_f64().unwrap_or_default() as u64;
        if db.note(id) {
            db.fulfil_id(id);
        }
        StatusCode::OK
    });
    let report = audit(&db, receiver).await;
    assert_eq!(fault_at(&report, "no mishap"), None);
    assert_eq!(fault_at(&report, "data.id needs 63 bits"), Some(FalseOk));
}

#[tokio::test(start_paused = true)]
async fn one_that_fulfils_whatever_has_an_id() {
    let db = Db::default();
    let tables = db.clone();
    let receiver = service_fn(move |request: Request<Full<Bytes>>| {
        let db = tables.clone();
        async move {
            let Ok(body) = request.into_body().collect().await;
            let body: Value = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
            if body["data"]["id"].is_u64() && db.note(&body["data"]["id"]) {
                db.fulfil(&body["data"]);
            }
            Ok::<_, Infallible>(Response::new(String::new()))
        }
    });
    let report = audit(&db, receiver).await;
    for name in [
        "without the secret",
        "data.status is processing",
        "data.status is completed",
        "data.amount is absent",
        "the event promoter_signs_up",
    ] {
        assert_eq!(fault_at(&report, name), Some(WronglyFulfilled), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_fulfils_the_wrong_thing_later() {
    let db = Db::default();
    let tables = db.clone();
    let receiver = service_fn(move |request: Request<Full<Bytes>>| {
        let db = tables.clone();
        async move {
            let Ok(body) = request.into_body().collect().await;
            tokio::spawn(async move {
                sleep(Duration::from_secs(60)).await;
                let body: Value = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
                db.fulfil(&body["data"]);
            });
            Ok::<_, Infallible>(Response::new(String::new()))
        }
    });
    let report = audit(&db, receiver).await;
    assert_eq!(fault_at(&report, "the event reward_created"), Some(WronglyFulfilled));
}

#[tokio::test(start_paused = true)]
async fn one_that_always_fails_or_breaks_off() {
    let db = Db::default();
    let receiver = receiver!(db, |_body| StatusCode::INTERNAL_SERVER_ERROR);
    let report = audit(&db, receiver).await;
    let case = &report.cases()[0];
    assert_eq!(
        (case.fault, case.status, case.deliveries.len()),
        (Some(Lost), Status::HasIssues, 8)
    );

    let panics = service_fn(|_: Request<Full<Bytes>>| async {
        if true {
            panic!("on purpose");
        }
        Ok::<_, Infallible>(Response::new(String::new()))
    });
    let sender = FirstPromoter::new(panics, URL);
    let case = sender.send(&Payload::new(1), Mishap::None).await;
    assert_eq!(case.status, Status::HasIssues);
    assert!(case.deliveries.iter().all(|delivery| delivery.reason == "broken_off"));
    assert_eq!(sender.check_path().await, Err(NotIntercepted::NoAnswer));
}

#[tokio::test(start_paused = true)]
async fn a_fulfilment_left_pending_is_sent_again() {
    let receiver = by_hand(async |_| StatusCode::NO_CONTENT);
    let case = FirstPromoter::new(receiver, URL).send(&Payload::new(1), Mishap::None).await;
    assert_eq!(case.status, Status::Pending);
    let days: Vec<_> =
        case.deliveries.iter().map(|delivery| delivery.at.as_secs() / 86_400).collect();
    assert_eq!(days, [0, 1, 2, 3]);
}

/// How a correct receiver's handler may behave.
#[derive(Clone, Copy, Debug)]
enum Behaviour {
    Quick,
    /// It waits before it fulfilled, and after that.
    Waits(Duration),
    /// It fails at first.
    FailsTwice,
    /// It leaves each fulfilment pending at first.
    NotToday,
}

fn right(db: &Db, behaviour: Behaviour) -> Webhook {
    let db = db.clone();
    let handler = fulfil_fn(move |fulfilment: Fulfilment| {
        let db = db.clone();
        async move {
            let id = fulfilment.id.get();
            let known = fulfilment.promoter.cust_id.is_some();
            if !known || !fulfilment.amount.is_positive() {
                return Ok(Outcome::Pending);
            }
            match behaviour {
                Behaviour::Quick => db.fulfil_id(id),
                Behaviour::Waits(wait) => {
                    sleep(wait).await;
                    db.fulfil_id(id);
                    sleep(wait).await;
                }
                Behaviour::FailsTwice if db.note(format!("{id} 1")) => return Err("no"),
                Behaviour::FailsTwice if db.note(format!("{id} 2")) => return Err("no"),
                Behaviour::NotToday if db.note(id) => return Ok(Outcome::Pending),
                Behaviour::FailsTwice | Behaviour::NotToday => db.fulfil_id(id),
            }
            Ok(Outcome::Fulfilled)
        }
    });
    let access = Access::query("key", "at least sixteen bytes").expect("long enough");
    Webhook::new(handler, MemoryStore::new(1_000), access)
}

#[tokio::test(start_paused = true)]
async fn right_ones() {
    for behaviour in [
        Behaviour::Quick,
        Behaviour::Waits(Duration::from_millis(3)),
        Behaviour::Waits(Duration::from_secs(10)), // past the deadline and the sender's time limit
        Behaviour::FailsTwice,
        Behaviour::NotToday,
    ] {
        let db = Db::default();
        let app = axum::Router::new()
            .fallback(async || "the single page")
            .layer(right(&db, behaviour).at("/hook"));
        let sender = FirstPromoter::new(app, URL);
        sender.check_path().await.expect("it is intercepted");
        let report = sender.audit(&Payload::new(1), async |id| db.times_fulfilled(id)).await;
        assert_eq!(report.faults().count(), 0, "{behaviour:?}: {report}");
        report.assert_ok();
        assert!(report.cases().len() > 100, "much was tried");
    }
}

#[tokio::test(start_paused = true)]
async fn a_path_that_is_not_intercepted() {
    let db = Db::default();
    let app = |body: &'static str| {
        let inner = service_fn(move |_: Request<Full<Bytes>>| async move {
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(body)))
        });
        right(&db, Behaviour::Quick).at("/hook").layer(inner)
    };
    let check = async |url, body| FirstPromoter::new(app(body), url).check_path().await;

    let elsewhere = Err(NotIntercepted::Elsewhere(StatusCode::OK));
    assert_eq!(check(URL, "").await, Ok(()));
    assert_eq!(check("/hook/?key=at+least+sixteen+bytes", "").await, Ok(()));
    for url in ["/hooks?key=at+least+sixteen+bytes", "/", "/Hook", "https://app.example"] {
        assert_eq!(check(url, "hello").await, elsewhere, "{url}");
        assert_eq!(check(url, r#"{"code":"ok"}"#).await, elsewhere, "{url}");
    }
    let problem = check("/hook?key=another", "").await.expect_err("the secret is wrong");
    let refused = "a webhook answered at this path, and refused the delivery: unauthorized";
    assert_eq!(problem.to_string(), refused);

    // Where the extensions got lost on the way, as over a wire, the body tells.
    let over_the_wire = r#"{"code":"not_a_fulfilment","message":"event.type is missing"}"#;
    assert_eq!(check("/elsewhere", over_the_wire).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_user_and_a_password_in_the_url() {
    let handler = fulfil_fn(async |_: Fulfilment| Ok::<_, Infallible>(Outcome::Fulfilled));
    let access = Access::basic("fp", "at least sixteen bytes").expect("long enough");
    let webhook = Webhook::new(handler, MemoryStore::new(10), access);
    let url = "https://fp:at%20least%20sixteen%20bytes@app.example:8443/hook";
    FirstPromoter::new(webhook, url).check_path().await.expect("the password is right");
}

#[tokio::test]
#[should_panic(expected = "the clock is not paused")]
async fn nobody_waits_for_hours_by_mistake() {
    let receiver = by_hand(async |_| StatusCode::INTERNAL_SERVER_ERROR);
    let sender = FirstPromoter::new(receiver, URL);
    let payload = Payload::new(1);
    let case = sender.send(&payload, Mishap::None);
    tokio::time::timeout(Duration::from_secs(60), case).await.expect("it does not wait");
}

#[tokio::test(start_paused = true)]
async fn many_fulfilments_in_tasks_of_their_own() {
    let db = Db::default();
    let sender = FirstPromoter::new(right(&db, Behaviour::FailsTwice), URL);
    let mut storm = tokio::task::JoinSet::new();
    for id in 0..100 {
        let sender = sender.clone();
        storm.spawn(async move { sender.send(&Payload::new(id), Mishap::Duplicates(8)).await });
    }
    while let Some(case) = storm.join_next().await {
        let case = case.expect("no task panics");
        assert_eq!(case.status, Status::Completed, "{case}");
        assert_eq!(db.times_fulfilled(case.id), 1, "{case}");
    }
}

#[test]
fn nothing_secret_in_debug() {
    let receiver = by_hand(async |_| StatusCode::OK);
    let debug = format!("{:?} {:?}", FirstPromoter::new(receiver, URL), Payload::new(1));
    for secret in ["sixteen", "invented", "example", "user-1"] {
        assert!(!debug.contains(secret), "{debug}");
    }
}
