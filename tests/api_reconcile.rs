//! What FirstPromoter holds as pending is fulfilled once and completed once, whatever fails on the way.

mod support {
    pub(crate) mod http;
}

use std::{
    collections::BTreeMap,
    convert::Infallible,
    future::{Future, ready},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::future::{join, join_all};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tokio::time::Instant;
use tower::{Service, ServiceExt, service_fn};
use tower_firstpromoter::{
    Access, Fulfil, Outcome, Verdict, Webhook,
    api::{Client, Error, Failure, Reconciliation},
    event::{Fulfilment, FulfilmentId},
    observe::DeliveryEvent,
    store::MemoryStore,
    testkit::{Account, FirstPromoter, Mishap, Payload, Status},
};

use self::support::http::{client, serve};

const KEY: &str = "key-of-the-account-1f4e";

const SECRET: &str = "at-least-sixteen-bytes";

const EMAIL: &str = "jane.roe@example.com";

/// How often each fulfilment was fulfilled.
#[derive(Clone, Default)]
struct Credits(Arc<Mutex<BTreeMap<u64, u32>>>);

impl Fulfil for Credits {
    type Error = &'static str;

    async fn fulfil(&self, fulfilment: Fulfilment) -> Result<Outcome, Self::Error> {
        match fulfilment.unit.as_str() {
            "points" => return Ok(Outcome::Pending),
            "broken" => return Err("not today"),
            "unclear" => return Ok(Outcome::InDoubt("the bank did not answer".into())),
            "panic" => panic!("on purpose"),
            _ => {}
        }
        tokio::task::yield_now().await;
        *self.0.lock().expect("whole").entry(fulfilment.id.get()).or_default() += 1;
        Ok(Outcome::Fulfilled)
    }
}

impl Credits {
    fn times(&self, id: FulfilmentId) -> usize {
        self.0.lock().expect("whole").get(&id.get()).map_or(0, |times| *times as usize)
    }

    #[track_caller]
    fn assert_never_twice(&self) {
        let times = self.0.lock().expect("whole");
        assert!(times.values().all(|times| *times == 1), "{times:?}");
    }

    #[track_caller]
    fn assert_once_each(&self, ids: impl IntoIterator<Item = u64>) {
        let expected: BTreeMap<_, _> = ids.into_iter().map(|id| (id, 1)).collect();
        assert_eq!(*self.0.lock().expect("whole"), expected);
    }
}

fn webhook(credits: &Credits, store: &MemoryStore) -> Webhook {
    let access = Access::query("key", SECRET).expect("a secret");
    Webhook::new(credits.clone(), store.clone(), access)
}

fn payload(id: u64) -> Payload {
    let payload = Payload::new(id).promoter(id % 9).amount(3).unit("credits");
    payload.with("/data/promoter/email", EMAIL)
}

/// An account of 130 payouts on three pages, every fifth in cash; and the ids of the others.
fn account() -> (Account, Vec<u64>) {
    let account = Account::new();
    let ours = fill(&account);
    (account, ours)
}

fn fill(account: &Account) -> Vec<u64> {
    for id in 1..=130 {
        account.add(&if id % 5 == 0 { payload(id).unit("cash") } else { payload(id) });
    }
    (1..=130).filter(|id| id % 5 != 0).collect()
}

fn ids(ids: &[FulfilmentId]) -> Vec<u64> {
    ids.iter().map(|id| id.get()).collect()
}

/// Each of ours was written once, and nothing else.
#[track_caller]
fn completed_once_each(account: &Account, ours: &[u64]) {
    let mut updates = ids(&account.updates());
    updates.sort_unstable();
    assert_eq!(updates, ours);
    assert_eq!(ids(&account.completed()), ours);
    assert!(ids(&account.pending()).iter().all(|id| id % 5 == 0), "cash is touched");
}

fn in_process(account: &Account) -> Client {
    Client::new(account.clone(), KEY).expect("a client")
}

async fn deliver(webhook: &Webhook, payload: &Payload) -> Verdict {
    let request = Request::post(format!("/?key={SECRET}"))
        .header("content-type", "application/json")
        .body(Full::new(payload.to_bytes()))
        .expect("a request");
    let answer = webhook.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
    *answer.extensions().get().expect("a verdict")
}

#[tokio::test]
async fn one_run_is_enough_if_all_is_well() {
    let (account, ours) = account();
    let (credits, store) = (Credits::default(), MemoryStore::new(1_000));
    let client = client(&serve(account.clone()).await, KEY);
    let webhook = webhook(&credits, &store);
    let report = webhook.reconcile(&client).await;
    assert_eq!((ids(&report.fulfilled), ids(&report.completed)), (ours.clone(), ours.clone()));
    assert_eq!((report.skipped_cash.len(), report.failed.len(), report.error), (26, 0, None));
    credits.assert_once_each(ours.clone());
    completed_once_each(&account, &ours);

    let again = webhook.reconcile(&client).await;
    assert_eq!(
        (again.fulfilled.len(), again.completed.len(), again.skipped_cash.len()),
        (0, 0, 26)
    );
    completed_once_each(&account, &ours);
}

/// Every seventh call is answered with `500`: before it took effect, or after.
#[tokio::test]
async fn every_seventh_call_fails() {
    for takes_effect in [false, true] {
        let (account, ours) = account();
        let (credits, store) = (Credits::default(), MemoryStore::new(1_000));
        let client = client(&serve(failing(account.clone(), takes_effect)).await, KEY);
        let webhook = webhook(&credits, &store);
        let mut failed = 0;
        for _ in 0..9 {
            let report = webhook.reconcile(&client).await;
            credits.assert_once_each(ours.clone());
            failed += report.failed.len();
            for (_, failure) in &report.failed {
                let down = Error::Unavailable("status 500".into());
                assert_eq!(*failure, Failure::NotCompleted(down));
            }
            if account.pending().len() == 26 {
                break;
            }
        }
        assert!(failed > 10, "{failed} are too few to mean anything");
        completed_once_each(&account, &ours);
    }
}

fn failing<B: Send + 'static>(
    account: Account,
    takes_effect: bool,
) -> impl Service<
    Request<B>,
    Response = Response<Full<Bytes>>,
    Error = Infallible,
    Future = impl Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send,
> + Clone
+ Send {
    let calls = Arc::new(AtomicU64::new(0));
    service_fn(move |request: Request<B>| {
        let (calls, account) = (calls.clone(), account.clone());
        async move {
            let fails = calls.fetch_add(1, Ordering::SeqCst) % 7 == 6;
            if !fails || takes_effect {
                let answer = account.oneshot(request).await;
                if !fails {
                    return answer;
                }
            }
            let mut answer = Response::new(Full::default());
            *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            Ok(answer)
        }
    })
}

/// Two machines over one store start at the same moment, and deliveries arrive meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_at_once_beside_deliveries() {
    let (credits, store) = (Credits::default(), MemoryStore::new(1_000));
    let (one, two) = (webhook(&credits, &store), webhook(&credits, &store));
    let sender = FirstPromoter::new(one.clone(), &format!("/?key={SECRET}")).retries(0);
    let account = sender.account();
    let ours = fill(&account);
    let url = serve(account.clone()).await;
    let (client, other) = (client(&url, KEY), client(&url, KEY));
    let deliveries = ours.iter().filter(|id| *id % 3 == 0).map(|&id| {
        let sender = sender.clone();
        async move { sender.send(&payload(id), Mishap::None).await }
    });
    let (_, (first, second)) =
        join(join_all(deliveries), join(one.reconcile(&client), two.reconcile(&other))).await;
    credits.assert_never_twice();
    // The list changes while it is read, and one may have left what the other was at.
    let last = one.reconcile(&client).await;
    credits.assert_once_each(ours.clone());
    assert_eq!(ids(&account.completed()), ours);
    assert_eq!(account.pending().len(), 26);
    let mut updates = ids(&account.updates());
    updates.sort_unstable();
    let completed: usize = [&first, &second, &last].iter().map(|run| run.completed.len()).sum();
    assert_eq!(completed, updates.len());
    updates.dedup();
    assert_eq!(completed, updates.len(), "written twice");
}

/// FirstPromoter gives up on what it sent on three days without an answer.
#[tokio::test(start_paused = true)]
async fn an_outage_of_three_days() {
    let (credits, store) = (Credits::default(), MemoryStore::new(1_000));
    let webhook = webhook(&credits, &store);
    let (up, application) = (Arc::new(AtomicBool::new(true)), webhook.clone());
    let power = up.clone();
    let service = service_fn(move |request: Request<Full<Bytes>>| {
        let (up, application) = (up.load(Ordering::SeqCst), application.clone());
        async move {
            match up {
                true => application.oneshot(request).await.map_err(tower::BoxError::from),
                false => Err("connection refused".into()),
            }
        }
    });
    let sender = FirstPromoter::new(service, &format!("/?key={SECRET}"));
    let account = sender.account();
    let day = async |ids: std::ops::RangeInclusive<u64>, mishap| {
        let sent = ids.map(|id| (sender.clone(), payload(id)));
        let sent = sent.map(|(sender, payload)| async move { sender.send(&payload, mishap).await });
        join_all(sent).await
    };

    // Before: all is well.
    for case in day(1..=20, Mishap::None).await {
        assert_eq!(case.status, Status::Completed);
    }
    power.store(false, Ordering::SeqCst);
    let start = Instant::now();
    for ids in [21..=60, 61..=100, 101..=140] {
        for case in day(ids, Mishap::None).await {
            assert_eq!((case.status, case.deliveries.len()), (Status::HasIssues, 8));
        }
        account.add(&payload(1_000 + start.elapsed().as_secs()).unit("cash"));
        tokio::time::sleep(Duration::from_secs(3 * 3600)).await;
    }
    assert!(start.elapsed() >= Duration::from_secs(3 * 86_400));
    power.store(true, Ordering::SeqCst);
    credits.assert_once_each(1..=20);
    assert_eq!(account.pending().len(), 123);

    let client = in_process(&account);
    let (_, report) = join(day(141..=160, Mishap::AnswerLost), webhook.reconcile(&client)).await;
    assert!((120..=140).contains(&report.completed.len()), "{report}");
    let again = webhook.reconcile(&client).await;
    assert_eq!((again.completed.len(), again.skipped_cash.len()), (0, 3));
    credits.assert_once_each(1..=160);
    assert_eq!(ids(&account.completed()), (1..=160).collect::<Vec<_>>());
    sender.audit(&payload(10_000), async |id| credits.times(id)).await.assert_ok();
}

#[tokio::test(start_paused = true)]
async fn a_200_that_got_lost_is_completed() {
    let account = Account::new();
    account.add(&payload(1));
    let (credits, store) = (Credits::default(), MemoryStore::new(10));
    let webhook = webhook(&credits, &store);
    assert_eq!(deliver(&webhook, &payload(1)).await, Verdict::Fulfilled);
    assert_eq!(ids(&account.pending()), [1]);

    let report = webhook.reconcile(&in_process(&account)).await;
    assert_eq!((ids(&report.fulfilled), ids(&report.completed)), (vec![1], vec![1]));
    credits.assert_once_each([1]);
    assert_eq!(ids(&account.completed()), [1]);
}

#[tokio::test(start_paused = true)]
async fn only_what_is_fulfilled_is_completed() {
    let created = |seconds: i64| {
        (jiff::Timestamp::now() - jiff::SignedDuration::from_secs(seconds)).to_string()
    };
    let account = Account::new();
    for payload in [
        payload(1),
        payload(2).unit("points"),
        payload(3).unit("broken"),
        payload(4).unit("unclear"),
        payload(5).unit("panic"),
        payload(6).unit("cash"),
        payload(7).unit("CASH"),
        payload(8).with("/data/created_at", created(30)),
        payload(9).with("/data/created_at", created(90)),
        payload(10).with("/data/created_at", created(-30)),
        payload(11).with("/data/created_at", created(-86_400)),
        payload(12).with("/data/created_at", "yesterday"),
        payload(13).amount("three"),
    ] {
        account.add(&payload);
    }
    let (credits, store) = (Credits::default(), MemoryStore::new(100));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let webhook = webhook(&credits, &store).observe(move |event: &DeliveryEvent<'_>| {
        if let DeliveryEvent::Answered { verdict, info: Some(info), .. } = event {
            log.lock().expect("whole").push((info.id.get(), verdict.code()));
        }
    });
    let report = webhook.reconcile(&in_process(&account)).await;
    assert_eq!(ids(&report.fulfilled), [1, 9, 11, 12]);
    assert_eq!(ids(&report.completed), [1, 9, 11, 12]);
    assert_eq!(ids(&report.left_pending), [2, 8, 10]);
    assert_eq!(ids(&report.in_doubt), [4]);
    assert_eq!(ids(&report.skipped_cash), [6, 7]);
    assert_eq!(report.unreadable, 1);
    let failed: Vec<_> =
        report.failed.iter().map(|(id, why)| (id.get(), why.to_string())).collect();
    assert_eq!(failed, [(3, "failed".to_owned()), (5, "panicked".to_owned())]);
    assert_eq!(ids(&account.completed()), [1, 9, 11, 12]);
    assert_eq!(ids(&account.updates()).len(), 4);
    credits.assert_once_each([1, 9, 11, 12]);

    let mut seen = seen.lock().expect("whole").clone();
    seen.sort_unstable();
    assert_eq!(seen.len(), 8, "the observer hears of each: {seen:?}");
    assert_eq!(
        report.to_string(),
        "fulfilled          4  1, 9, 11, 12\n\
         completed          4  1, 9, 11, 12\n\
         left pending       3  2, 8, 10\n\
         failed             2  3, 5\n\
         in doubt           1  4\n\
         skipped, cash      2  6, 7\n\
         unreadable         1\n\
         3: failed\n\
         5: panicked\n",
    );
}

/// What had been read is worked on; the next run goes on.
#[tokio::test(start_paused = true)]
async fn a_list_breaks_off() {
    let (account, ours) = account();
    let (credits, store) = (Credits::default(), MemoryStore::new(1_000));
    let webhook = webhook(&credits, &store);
    let api = account.clone();
    let breaking = service_fn(move |request: Request<Full<Bytes>>| {
        let query = request.uri().query().unwrap_or_default().to_owned();
        let api = api.clone();
        async move {
            match query.ends_with("page=2") && query.starts_with("status") {
                true => Ok(Response::new(Full::new(Bytes::from("<html>")))),
                false => api.oneshot(request).await,
            }
        }
    });
    let report = webhook.reconcile(&Client::new(breaking, KEY).expect("a client")).await;
    assert_eq!(report.error, Some(Error::Unreadable("it is not a JSON array")));
    assert_eq!((report.completed.len(), report.skipped_cash.len()), (40, 10));
    assert!(report.to_string().ends_with(
        "the list was not read to its end: FirstPromoter's answer cannot be read: it is not a JSON array\n"
    ));
    let report = webhook.reconcile(&in_process(&account)).await;
    assert_eq!((report.completed.len(), report.error), (64, None));
    credits.assert_once_each(ours.clone());
    completed_once_each(&account, &ours);
}

/// Whatever is answered to the list, nothing is fulfilled and nothing is written.
#[tokio::test(start_paused = true)]
async fn without_a_list_nothing_happens() {
    for (status, body, expected) in [
        (401, r#""Unauthorized""#.to_owned(), Error::Unauthorized),
        (404, r#"{"error":"Not found"}"#.to_owned(), Error::NotFound),
        (422, r#"{"error":"No."}"#.to_owned(), Error::Rejected("No.".into())),
        (500, String::new(), Error::Unavailable("status 500".into())),
        (200, "<html>".to_owned(), Error::Unreadable("it is not a JSON array")),
        (200, " ".repeat(9 << 20), Error::Unreadable("it is over 8 MiB")),
    ] {
        let methods = Arc::new(Mutex::new(Vec::new()));
        let log = methods.clone();
        let service = service_fn(move |request: Request<Full<Bytes>>| {
            log.lock().expect("whole").push(request.method().clone());
            let mut answer = Response::new(Full::new(Bytes::from(body.clone())));
            *answer.status_mut() = StatusCode::from_u16(status).expect("a status");
            ready(Ok::<_, Infallible>(answer))
        });
        let credits = Credits::default();
        let webhook = webhook(&credits, &MemoryStore::new(10));
        let client = Client::new(service, KEY).expect("a client");
        let report = webhook.reconcile(&client).await;
        assert_eq!(report.error, Some(expected));
        assert_eq!(*methods.lock().expect("whole"), [http::Method::GET]);
        credits.assert_once_each([]);
    }
}

/// More than the limit lets through is done by the next runs.
#[tokio::test(start_paused = true)]
async fn the_rate_limit_is_reached() {
    let (account, ours) = account();
    let account = account.rate_limit(100);
    let (credits, store) = (Credits::default(), MemoryStore::new(1_000));
    let (webhook, client) = (webhook(&credits, &store), in_process(&account));
    let report = webhook.reconcile(&client).await;
    let (_, failure) = report.failed.first().expect("more than the limit");
    assert!(failure.to_string().starts_with(
        "fulfilled, but not completed: FirstPromoter's rate limit is reached; it asks to wait "
    ));
    let mut runs = 1;
    while account.pending().len() > 26 {
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let _ = webhook.reconcile(&client).await;
        runs += 1;
    }
    assert!((3..6).contains(&runs), "{runs}");
    credits.assert_once_each(ours.clone());
    completed_once_each(&account, &ours);
}

#[tokio::test(start_paused = true)]
async fn a_closed_webhook_fulfils_nothing() {
    let (account, _) = account();
    let credits = Credits::default();
    let webhook = webhook(&credits, &MemoryStore::new(1_000));
    webhook.close().await;
    let report = webhook.reconcile(&in_process(&account)).await;
    assert!(report.failed.iter().all(|(_, why)| *why == Failure::Verdict(Verdict::ShuttingDown)));
    assert_eq!(report.failed.len(), 104);
    credits.assert_once_each([]);
    assert_eq!(account.updates(), []);
}

/// It can run in a task of its own, and what it says is fit for a log.
#[tokio::test(start_paused = true)]
async fn the_report_is_private_and_short() {
    let (account, _) = account();
    let account = account.fail_every(7);
    let webhook = webhook(&Credits::default(), &MemoryStore::new(1_000));
    let client = in_process(&account);
    let run = tokio::spawn(async move { webhook.reconcile(&client).await });
    let report: Reconciliation = run.await.expect("a report");
    for text in [report.to_string(), format!("{report:?}")] {
        for private in [KEY, EMAIL, SECRET] {
            assert!(!text.contains(private), "{text}");
        }
    }
    let text = report.to_string();
    assert!(text.contains("1, 2, 3, 4, 6, ") && text.contains(" and 84 more\n"), "{text}");
    assert!(text.lines().all(|line| line.len() < 200), "{text}");
}
