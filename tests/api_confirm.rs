//! Only what the account holds as pending reaches the handler of a webhook that confirms.

use std::{
    convert::Infallible,
    future::{pending, ready},
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tokio::time::Instant;
use tower::{ServiceExt, service_fn};
use tower_firstpromoter::{
    Access, Outcome, Verdict, Webhook,
    api::Client,
    event::Fulfilment,
    fulfil_fn,
    observe::DeliveryEvent,
    store::MemoryStore,
    testkit::{Account, Payload},
};

const KEY: &str = "key-of-the-account-1f4e";

const SECRET: &str = "at-least-sixteen-bytes";

const EMAIL: &str = "jane.roe@example.com";

/// A webhook that confirms, how often its handler ran, and why something was not confirmed.
#[derive(Clone)]
struct Story {
    webhook: Webhook,
    runs: Arc<AtomicU32>,
    reasons: Arc<Mutex<Vec<String>>>,
}

impl Story {
    fn new(client: Client) -> Self {
        let (runs, reasons) = (Arc::<AtomicU32>::default(), Arc::<Mutex<Vec<_>>>::default());
        let (ran, told) = (runs.clone(), reasons.clone());
        let handler = fulfil_fn(move |_: Fulfilment| {
            ran.fetch_add(1, Ordering::SeqCst);
            ready(Ok::<_, Infallible>(Outcome::Fulfilled))
        });
        let access = Access::query("key", SECRET).expect("a secret");
        let webhook = Webhook::new(handler, MemoryStore::new(1_000), access)
            .confirm_with(client)
            .observe(move |event: &DeliveryEvent<'_>| {
                if let DeliveryEvent::NotConfirmed { reason, .. } = event {
                    told.lock().expect("whole").push((*reason).to_owned());
                }
            });
        Self { webhook, runs, reasons }
    }

    async fn deliver(&self, payload: &Payload, secret: &str) -> Verdict {
        let request = Request::post(format!("/?key={secret}"))
            .header("content-type", "application/json")
            .body(Full::new(payload.to_bytes()))
            .expect("a request");
        let answer = self.webhook.clone().oneshot(request).await;
        let answer = answer.unwrap_or_else(|never| match never {});
        let verdict: Verdict = *answer.extensions().get().expect("a verdict");
        assert_eq!(answer.status(), verdict.status());
        verdict
    }

    fn runs(&self) -> u32 {
        self.runs.load(Ordering::SeqCst)
    }

    fn last_reason(&self) -> String {
        self.reasons.lock().expect("whole").last().expect("a reason").clone()
    }
}

fn payload(id: u64) -> Payload {
    let payload = Payload::new(id).promoter(7).amount(3).unit("credits");
    payload.with("/data/promoter/email", EMAIL)
}

fn in_process(account: &Account) -> Client {
    Client::new(account.clone(), KEY).expect("a client")
}

#[tokio::test(start_paused = true)]
async fn a_forged_delivery_pays_nobody() {
    let account = Account::new();
    account.add(&payload(1));
    account.add(&payload(2).with("/data/status", "completed"));
    account.add(&payload(3).with("/data/status", "processing"));
    let story = Story::new(in_process(&account));
    for (forged, reason) in [
        (payload(1).amount(9_999), "the account's payout has another amount"),
        (payload(1).unit("points"), "the account's payout has another unit"),
        (payload(1).promoter(8), "the account lists no such payout of this promoter"),
        (payload(2), "the account lists no such payout of this promoter"),
        (payload(3), "the account lists no such payout of this promoter"),
        (payload(4), "the account lists no such payout of this promoter"),
    ] {
        assert_eq!(story.deliver(&forged, SECRET).await, Verdict::NotConfirmed);
        assert_eq!(story.last_reason(), reason);
    }
    assert_eq!(Verdict::NotConfirmed.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(story.runs(), 0);

    // The attempts leave nothing behind that keeps the real one out, or another one in.
    assert_eq!(story.deliver(&payload(1).promoter(8), SECRET).await, Verdict::NotConfirmed);
    for _ in 0..2 {
        assert_eq!(story.deliver(&payload(1), SECRET).await, Verdict::Fulfilled);
    }
    assert_eq!(story.deliver(&payload(1).promoter(8), SECRET).await, Verdict::RecordMismatch);
    assert_eq!(story.runs(), 1);
    assert_eq!(account.updates(), []);
}

#[tokio::test(start_paused = true)]
async fn duplicates_and_strangers_cost_no_call() {
    let account = Account::new();
    account.add(&payload(1));
    let story = Story::new(in_process(&account));
    for _ in 0..50 {
        let wrong = story.deliver(&payload(1), "not-the-right-secret").await;
        assert_eq!(wrong, Verdict::Unauthorized);
    }
    assert_eq!(account.calls(), 0);
    let crowd =
        (0..50).map(|_| story.clone()).map(async |story| story.deliver(&payload(1), SECRET).await);
    for verdict in futures::future::join_all(crowd).await {
        assert_eq!(verdict, Verdict::Fulfilled);
    }
    assert_eq!((story.runs(), account.calls()), (1, 1));
    for _ in 0..50 {
        assert_eq!(story.deliver(&payload(1), SECRET).await, Verdict::Fulfilled);
    }
    assert_eq!((story.runs(), account.calls()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn only_the_pages_of_the_promoter_are_read() {
    let account = Account::new();
    for id in 1..=500 {
        account.add(&payload(id).promoter(8));
    }
    // The oldest of 60: on the second page.
    for id in 501..=560 {
        account.add(&payload(id));
    }
    let story = Story::new(in_process(&account));
    assert_eq!(story.deliver(&payload(501), SECRET).await, Verdict::Fulfilled);
    assert_eq!(account.calls(), 2);
}

/// The ids of the list are others than those of the deliveries: what is documented nowhere.
#[tokio::test(start_paused = true)]
async fn ids_that_do_not_match_fulfil_nothing() {
    let account = Account::new();
    for id in 1..=20 {
        account.add(&payload(1_000 + id));
    }
    let story = Story::new(in_process(&account));
    for id in 1..=20 {
        assert_eq!(story.deliver(&payload(id), SECRET).await, Verdict::NotConfirmed);
        assert_eq!(story.last_reason(), "the account lists no such payout of this promoter");
    }
    assert_eq!(story.runs(), 0);
    assert_eq!((account.pending().len(), account.updates().len()), (20, 0));
}

#[tokio::test(start_paused = true)]
async fn an_api_that_fails_confirms_nothing() {
    for (status, body, reason) in [
        (200, "<html>".to_owned(), "FirstPromoter's answer cannot be read: it is not a JSON array"),
        (200, " ".repeat(9 << 20), "FirstPromoter's answer cannot be read: it is over 8 MiB"),
        (401, format!("{KEY:?}"), "FirstPromoter refused the API key"),
        (404, String::new(), "FirstPromoter answered: not found"),
        (
            422,
            format!(r#"{{"error":"{KEY} of {EMAIL}"}}"#),
            "FirstPromoter rejected the request: [redacted] of [redacted]",
        ),
        (429, String::new(), "FirstPromoter's rate limit is reached"),
        (500, String::new(), "FirstPromoter's API is unavailable: status 500"),
    ] {
        let service = service_fn(move |_: Request<Full<Bytes>>| {
            let mut answer = Response::new(Full::new(Bytes::from(body.clone())));
            *answer.status_mut() = StatusCode::from_u16(status).expect("a status");
            ready(Ok::<_, Infallible>(answer))
        });
        let story = Story::new(Client::new(service, KEY).expect("a client"));
        assert_eq!(story.deliver(&payload(1), SECRET).await, Verdict::NotConfirmed);
        assert_eq!((story.last_reason().as_str(), story.runs()), (reason, 0));
    }
}

/// Within the time that the sender waits, and also if every page takes its time.
#[tokio::test(start_paused = true)]
async fn an_api_that_hangs_confirms_nothing() {
    let hanging =
        service_fn(|_: Request<Full<Bytes>>| pending::<io::Result<Response<Full<Bytes>>>>());
    let page = Arc::new(AtomicU32::new(100));
    let slow = service_fn(move |_: Request<Full<Bytes>>| {
        let id = u64::from(page.fetch_add(1, Ordering::SeqCst));
        async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let body: serde_json::Value =
                serde_json::from_slice(&payload(id).to_bytes()).expect("JSON");
            let page = serde_json::json!([body["data"]]).to_string();
            io::Result::Ok(Response::new(Full::new(Bytes::from(page))))
        }
    });
    let clients = [Client::new(hanging, KEY), Client::new(slow, KEY)];
    for client in clients {
        let (story, start) = (Story::new(client.expect("a client")), Instant::now());
        assert_eq!(story.deliver(&payload(1), SECRET).await, Verdict::NotConfirmed);
        assert_eq!(start.elapsed(), Duration::from_secs(5));
        assert_eq!(story.last_reason(), "FirstPromoter's API is unavailable: no answer in time");
        assert_eq!(story.runs(), 0);
    }
}
