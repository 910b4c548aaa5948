//! The API's client: which requests it sends, what it makes of each answer, and what it never writes.

use std::{
    convert::Infallible,
    future::{pending, ready},
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use serde_json::{Value, json};
use tokio::time::Instant;
use tower::{Service, ServiceExt, service_fn, util::BoxCloneService};
use tower_firstpromoter::{
    api::{Client, Error, InvalidClient, Mismatch},
    event::{Fulfilment, Unit},
    testkit::{Account, Payload},
};

const KEY: &str = "key-of-the-account-1f4e";

const TOKEN: &str = "2-log-in-to-the-dashboard";

const EMAIL: &str = "jane.roe@example.com";

/// The requests that were sent, without the path that all have: `GET list?page=1`.
type Log = Arc<Mutex<Vec<String>>>;

type Http = BoxCloneService<Request<Full<Bytes>>, Response<Full<Bytes>>, tower::BoxError>;

/// Keeps a line of each request on its way to `service`.
fn logged<S>(service: S) -> (Log, Http)
where
    S: Service<Request<Full<Bytes>>, Response = Response<Full<Bytes>>> + Clone + Send + 'static,
    S::Error: Into<tower::BoxError>,
    S::Future: Send,
{
    let log = Log::default();
    let lines = log.clone();
    let service = service.map_err(Into::into).map_request(move |request: Request<Full<Bytes>>| {
        let path = request.uri().path_and_query().expect("a path").as_str();
        let path = path.strip_prefix("/api/v1/payouts/").expect("the API's path");
        lines.lock().expect("whole").push(format!("{} {path}", request.method()));
        request
    });
    (log, BoxCloneService::new(service))
}

fn lines(log: &Log) -> Vec<String> {
    log.lock().expect("whole").clone()
}

#[track_caller]
fn nothing_written(log: &Log) {
    let puts: Vec<_> =
        lines(log).into_iter().filter(|line| !line.starts_with("GET list?")).collect();
    assert!(puts.is_empty(), "{puts:?}");
}

/// A service with one answer.
fn answers(status: u16, headers: &[(&'static str, &str)], body: impl Into<Bytes>) -> Http {
    let (mut head, ()) = Response::new(()).into_parts();
    head.status = StatusCode::from_u16(status).expect("a status");
    for (name, value) in headers {
        head.headers.insert(*name, value.parse().expect("a value"));
    }
    let body = body.into();
    BoxCloneService::new(service_fn(move |_| {
        ready(Ok(Response::from_parts(head.clone(), Full::new(body.clone()))))
    }))
}

fn client<S, B>(service: S) -> Client
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<tower::BoxError>,
    S::Future: Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<tower::BoxError>,
{
    Client::new(service, KEY).expect("a client")
}

fn payload(id: u64) -> Payload {
    let payload = Payload::new(id).promoter(7).amount(3).unit("credits");
    payload.with("/data/promoter/email", EMAIL).with("/data/promoter/auth_token", TOKEN)
}

fn fulfilment(payload: Payload) -> Fulfilment {
    Fulfilment::decode(payload).expect("a fulfilment")
}

fn account(payloads: impl IntoIterator<Item = Payload>) -> Account {
    let account = Account::new();
    payloads.into_iter().for_each(|payload| account.add(&payload));
    account
}

#[tokio::test]
async fn all_pages_are_read() {
    let cash = |id: u64| if id.is_multiple_of(5) { payload(id).unit("cash") } else { payload(id) };
    let (log, service) = logged(account((1..=130).map(cash)));
    let pending = client(service).pending().await.expect("a list");
    assert_eq!(pending.payouts.iter().map(|payout| payout.id.get()).min(), Some(1));
    assert_eq!((pending.payouts.len(), pending.unreadable), (130, 0));
    assert_eq!(pending.payouts.iter().filter(|payout| payout.unit == Unit::Cash).count(), 26);
    let pages = (1..=4).map(|page| format!("GET list?status=pending&page={page}"));
    assert_eq!(lines(&log), pages.collect::<Vec<_>>());
}

#[tokio::test]
async fn requests_are_as_documented() {
    let account = account([payload(1)]);
    let checked = account.clone().map_request(|request: Request<Full<Bytes>>| {
        assert_eq!(request.headers()["x-api-key"], KEY);
        assert!(!format!("{request:?}").contains(KEY), "the key is not marked as sensitive");
        assert!(!request.headers().contains_key("content-type"));
        assert_eq!(request.body().size_hint().exact(), Some(0));
        assert_eq!(request.uri().host(), Some("firstpromoter.com"));
        assert_eq!(request.uri().scheme_str(), Some("https"));
        request
    });
    let (log, service) = logged(checked);
    client(service).complete(&fulfilment(payload(1))).await.expect("completed");
    assert_eq!(
        lines(&log),
        ["GET list?promoter_id=7&status=pending&page=1", "PUT update?id=1&status=completed"],
    );
    assert_eq!(account.completed(), [1.into()]);
}

#[tokio::test]
async fn a_list_that_repeats_itself_ends() {
    let page: Vec<Value> = (1..=50).map(|id| payout(&payload(id))).collect();
    let (log, service) = logged(answers(200, &[], json!(page).to_string()));
    let client = client(service);
    assert_eq!(client.pending().await.expect("a list").payouts.len(), 50);
    assert_eq!(lines(&log).len(), 2);

    // Not even for an id that is not there.
    let unknown = client.complete(&fulfilment(payload(51))).await;
    assert_eq!(unknown, Err(Error::Mismatch(Mismatch::NotListed)));
    assert_eq!(lines(&log).len(), 6);
    nothing_written(&log);
}

#[tokio::test]
async fn a_list_without_an_end_is_given_up() {
    let (log, service) = logged(service_fn(|request: Request<Full<Bytes>>| {
        let query = request.uri().query().unwrap_or_default();
        let page: u64 = query.rsplit_once("page=").expect("a page").1.parse().expect("a number");
        let page = json!([payout(&payload(page))]).to_string();
        ready(Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(page)))))
    }));
    let error = client(service).pending().await.expect_err("no end");
    assert_eq!(error, Error::Unreadable("the list does not end within 500 pages"));
    assert_eq!(lines(&log).len(), 500);
}

#[tokio::test]
async fn what_cannot_be_read_is_skipped_and_counted() {
    let mut odd = payout(&payload(2));
    odd["campaign"]["color"] = json!([7]);
    odd["promoter"]["current_balance"] = json!("none");
    let lacking = |member| {
        let mut payout = payout(&payload(3));
        payout.as_object_mut().expect("an object").remove(member);
        payout.to_string()
    };
    let twice = r#"{"id":9,"id":10,"amount":3,"unit":"credits","promoter":{"id":7}}"#;
    let huge = r#"{"id":1e999,"amount":3,"unit":"credits","promoter":{"id":7}}"#;
    let page = [
        payout(&payload(1)).to_string(),
        odd.to_string(),
        "null".to_owned(),
        "[]".to_owned(),
        r#""7""#.to_owned(),
        lacking("amount"),
        lacking("id"),
        twice.to_owned(),
        huge.to_owned(),
        payout(&payload(4).with("/data/status", "completed")).to_string(),
    ];
    let page = format!("[{}]", page.join(","));
    let (log, service) = logged(answers(200, &[], page));
    let pending = client(service).pending().await.expect("a list");
    let ids: Vec<_> = pending.payouts.iter().map(|payout| payout.id.get()).collect();
    // What is not pending is neither: the filter was not heeded.
    assert_eq!((ids, pending.unreadable), (vec![1, 2], 7));
    assert_eq!(lines(&log).len(), 2, "the second page brought nothing new");
}

#[tokio::test]
async fn a_payout_is_a_fulfilment_without_an_event() {
    let text = r#"{"id":90,"amount":20,"unit":"credits","status":"pending","has_issues":true,
        "promoter":{"id":234,"status":"active"},"campaign":{"name":"C"}}"#;
    let pending = client(answers(200, &[], format!(" [ {text} ] "))).pending().await;
    let [payout] = &pending.expect("a list").payouts[..] else { panic!("one payout") };
    let body = format!(r#"{{"data":{text},"event":{{"type":"fulfilment_pending"}}}}"#);
    let delivered = Fulfilment::decode(body).expect("a fulfilment");
    assert_eq!(payout.as_bytes(), text);
    assert_eq!((payout.id.get(), payout.has_issues), (90, true));
    assert_eq!(format!("{payout:?}"), format!("{delivered:?}"));
    let details = payout.details().expect("details");
    assert_eq!(details.campaign.as_ref().and_then(|c| c.name.as_deref()), Some("C"));
    assert_eq!(format!("{details:?}"), format!("{:?}", delivered.details().expect("details")));
}

#[tokio::test]
async fn answers_that_are_no_list_are_typed_errors() {
    let long = "x".repeat(9_000);
    let large = vec![b' '; 9 << 20];
    let soon = jiff_date(1_000);
    for (status, headers, body, expected) in [
        (401, vec![], r#""Unauthorized""#.into(), Error::Unauthorized),
        (403, vec![], String::new().into_bytes(), Error::Unauthorized),
        (404, vec![], r#"{"error":"Payment not found"}"#.into(), Error::NotFound),
        (422, vec![], r#"{"error":"Not so."}"#.into(), Error::Rejected("Not so.".into())),
        (422, vec![], r#"{"message":"Nor so."}"#.into(), Error::Rejected("Nor so.".into())),
        (400, vec![], b"<html>".to_vec(), Error::Rejected("status 400".into())),
        (422, vec![], json!(long).to_string().into(), Error::Rejected("x".repeat(300))),
        (
            422,
            vec![],
            json!({ "error": format!("{EMAIL} may not use\n{KEY}") }).to_string().into(),
            Error::Rejected("[redacted] may not use [redacted]".into()),
        ),
        (429, vec![], vec![], limited(None)),
        (429, vec![("retry-after", "17")], vec![], limited(Some(17))),
        (429, vec![("retry-after", "soon")], vec![], limited(None)),
        (429, vec![("retry-after", "99999999999999999999")], vec![], limited(None)),
        (429, vec![("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT")], vec![], limited(Some(0))),
        (500, vec![], vec![], Error::Unavailable("status 500".into())),
        (503, vec![], large.clone(), Error::Unavailable("status 503".into())),
        (302, vec![("location", "/login")], vec![], Error::Unavailable("status 302".into())),
        (200, vec![], b"<html>".to_vec(), Error::Unreadable("it is not a JSON array")),
        (200, vec![], b"[{}".to_vec(), Error::Unreadable("it is not a JSON array")),
        (200, vec![], br#"{"data":[]}"#.to_vec(), Error::Unreadable("it is not a JSON array")),
        (204, vec![], vec![], Error::Unreadable("it is not a JSON array")),
        (200, vec![], large, Error::Unreadable("it is over 8 MiB")),
    ] {
        let (log, service) = logged(answers(status, &headers, body));
        let client = client(service);
        let error = client.pending().await.expect_err("no list");
        assert_eq!(error, expected, "{status}");
        let error = client.complete(&fulfilment(payload(1))).await.expect_err("no list");
        assert_eq!(error, expected, "{status}");
        assert_eq!(lines(&log).len(), 2, "it is not asked again");
        nothing_written(&log);
        private(&format!("{error} {error:?}"));
    }
    let (_, service) = logged(answers(429, &[("retry-after", &soon)], vec![]));
    let Err(Error::RateLimited { retry_after: Some(wait) }) = client(service).pending().await
    else {
        panic!("a date is read, too");
    };
    assert!((900..=1_000).contains(&wait.as_secs()), "{wait:?}");
}

fn limited(seconds: Option<u64>) -> Error {
    let mut error = Error::RateLimited { retry_after: None };
    if let Error::RateLimited { retry_after, .. } = &mut error {
        *retry_after = seconds.map(Duration::from_secs);
    }
    error
}

/// So many seconds from now, as HTTP writes a date.
fn jiff_date(seconds: i64) -> String {
    let date = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
    jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&date).expect("a date")
}

#[tokio::test(start_paused = true)]
async fn nothing_hangs() {
    /// Where the service stops.
    #[derive(Clone, Copy)]
    struct Hangs(u8);

    impl Service<Request<Full<Bytes>>> for Hangs {
        type Response = Response<BoxBody<Bytes, io::Error>>;
        type Error = io::Error;
        type Future = BoxFuture<'static, io::Result<Self::Response>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            if self.0 == 0 { Poll::Pending } else { Poll::Ready(Ok(())) }
        }

        fn call(&mut self, _: Request<Full<Bytes>>) -> Self::Future {
            if self.0 == 1 {
                return Box::pin(pending());
            }
            Box::pin(ready(Ok(Response::new(BodyExt::boxed(Endless)))))
        }
    }

    struct Endless;

    impl Body for Endless {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
            Poll::Pending
        }
    }

    for place in 0..3 {
        let (client, start) = (client(Hangs(place)), Instant::now());
        let error = client.pending().await.expect_err("no answer");
        assert_eq!(error, Error::Unavailable("no answer in time".into()));
        assert_eq!(start.elapsed(), Duration::from_secs(10));
    }
}

#[tokio::test]
async fn errors_of_the_way_are_told_with_their_causes() {
    #[derive(Debug, thiserror::Error)]
    #[error("cannot connect with {KEY}")]
    struct Broken(#[source] io::Error);

    let service = service_fn(|_: Request<Full<Bytes>>| {
        let cause = io::Error::other(format!("refused for {EMAIL}"));
        ready(Err::<Response<Full<Bytes>>, _>(Broken(cause)))
    });
    let error = client(service).pending().await.expect_err("no connection");
    let text = "cannot connect with [redacted]: refused for [redacted]";
    assert_eq!(error, Error::Unavailable(text.into()));
}

#[tokio::test]
async fn only_what_is_the_same_is_completed() {
    let known = [
        payload(1),
        payload(2).unit("cash"),
        payload(3).with("/data/status", "processing"),
        payload(4).with("/data/status", "cancelled"),
        payload(5).promoter(8),
        payload(6).unit("free_months"),
    ];
    let account = account(known);
    let (log, service) = logged(account.clone());
    let client = client(service);
    for (expected, mismatch) in [
        (payload(1).amount(4), Mismatch::Amount),
        (payload(1).amount("3.01"), Mismatch::Amount),
        (payload(1).unit("points"), Mismatch::Unit),
        (payload(1).promoter(8), Mismatch::NotListed),
        (payload(2).unit("cash"), Mismatch::Cash),
        (payload(2).unit(" Cash"), Mismatch::Cash),
        (payload(2), Mismatch::Unit),
        (payload(3), Mismatch::Status("processing".into())),
        (payload(4), Mismatch::Status("cancelled".into())),
        (payload(5), Mismatch::NotListed),
        (payload(7), Mismatch::NotListed),
    ] {
        let expected = fulfilment(expected);
        let refused = client.complete(&expected).await;
        assert_eq!(refused, Err(Error::Mismatch(mismatch)), "{expected:?}");
    }
    nothing_written(&log);
    assert_eq!(account.completed(), []);

    // Other spellings of the same.
    for same in [payload(1).amount("3.0"), payload(6).unit("free_month")] {
        client.complete(&fulfilment(same)).await.expect("completed");
    }
    assert_eq!(account.completed(), [1.into(), 6.into()]);
}

#[tokio::test]
async fn a_filter_that_is_not_heeded_changes_nothing() {
    // Everybody's payouts, whatever was asked for.
    let page = json!([
        payout(&payload(1).promoter(8)),
        payout(&payload(2).with("/data/status", "failed")),
        payout(&payload(3).unit("cash")),
    ]);
    let (log, service) = logged(answers(200, &[], page.to_string()));
    let client = client(service);
    for (expected, mismatch) in [
        (payload(1), Mismatch::Promoter),
        (payload(2), Mismatch::Status("failed".into())),
        (payload(3), Mismatch::Unit),
    ] {
        let refused = client.complete(&fulfilment(expected)).await;
        assert_eq!(refused, Err(Error::Mismatch(mismatch)));
    }
    nothing_written(&log);
}

#[tokio::test]
async fn completing_twice_is_harmless() {
    let account = account((1..=60).map(payload));
    let client = client(account.clone());
    for _ in 0..3 {
        client.complete(&fulfilment(payload(1))).await.expect("completed");
    }
    assert_eq!(account.updates(), [1.into()]);
    // What was completed in another amount is not what was to be completed.
    let other = client.complete(&fulfilment(payload(1).amount(4))).await;
    assert_eq!(other, Err(Error::Mismatch(Mismatch::Amount)));
}

#[tokio::test]
async fn the_answer_to_an_update_is_compared() {
    let completed = || payload(1).with("/data/status", "completed");
    let unreadable = || Error::Unreadable("it is not a payout");
    let compared = [
        (payout(&payload(2).with("/data/status", "completed")), Error::Mismatch(Mismatch::Answer)),
        (payout(&payload(1)), Error::Mismatch(Mismatch::Answer)),
        (payout(&completed().amount(4)), Error::Mismatch(Mismatch::Answer)),
        (payout(&completed().promoter(8)), Error::Mismatch(Mismatch::Answer)),
        (json!(null), unreadable()),
        (json!([payout(&completed())]), unreadable()),
    ];
    let compared = compared.map(|(answer, expected)| (Bytes::from(answer.to_string()), expected));
    // As strict as the body of a delivery.
    let refused: [&[u8]; 6] = [
        b"{\"id\":1",
        b"[\"\xff\"]",
        b"1e400",
        b"{\"id\":1,\"id\":1,\"amount\":3,\"unit\":\"credits\",\"promoter\":{\"id\":7}}",
        b"{\"id\":1,\"unit\":\"credits\",\"promoter\":{\"id\":7}}",
        b"{\"id\":1,\"amount\":3,\"unit\":\"credits\",\"promoter\":1e400}",
    ];
    let refused = refused.map(|answer| (Bytes::from_static(answer), unreadable()));
    for (answer, expected) in compared.into_iter().chain(refused) {
        let list = json!([payout(&payload(1))]).to_string();
        let client = client(service_fn(move |request: Request<Full<Bytes>>| {
            let is_update = request.method() == Method::PUT;
            let body = if is_update { answer.clone() } else { list.clone().into() };
            ready(Ok::<_, Infallible>(Response::new(Full::new(body))))
        }));
        assert_eq!(client.complete(&fulfilment(payload(1))).await, Err(expected));
    }
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for key in ["", " ", "key ", "\tkey", "k\ney", "k\u{0}ey", "k\u{7f}ey", "schlüssel"] {
        let refused = Client::new(Account::new(), key).expect_err("no key");
        assert_eq!(refused, InvalidClient::Key, "{key:?}");
    }
    for url in [
        "",
        "/",
        "firstpromoter.com",
        "ftp://firstpromoter.com",
        "http://",
        "https://a b/",
        "http://user:password@127.0.0.1",
        "http://127.0.0.1/?key=1",
        "http://127.0.0.1/#top",
    ] {
        let refused = client(Account::new()).base_url(url).expect_err("no base URL");
        assert_eq!(refused, InvalidClient::BaseUrl, "{url:?}");
    }
}

#[tokio::test]
async fn a_base_url_may_name_the_api_or_not() {
    for (url, expected) in [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/api/v1/payouts/list"),
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080/api/v1/payouts/list"),
        ("https://firstpromoter.com/api/v1", "https://firstpromoter.com/api/v1/payouts/list"),
        (
            "https://firstpromoter.com/api/v1/payouts/",
            "https://firstpromoter.com/api/v1/payouts/list",
        ),
        ("https://proxy.test/fp", "https://proxy.test/fp/api/v1/payouts/list"),
    ] {
        let service = service_fn(move |request: Request<Full<Bytes>>| {
            let uri = request.uri().to_string();
            assert_eq!(uri.split_once('?').expect("a query").0, expected);
            ready(Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("[]")))))
        });
        let client = client(service).base_url(url).expect("a base URL");
        assert!(client.pending().await.expect("a list").payouts.is_empty());
    }
}

#[tokio::test]
async fn what_is_printed_is_private() {
    let account = account([payload(1)]);
    let client = client(account.clone());
    let pending = client.pending().await.expect("a list");
    private(&format!("{client:?} {:?} {account:?} {pending:?}", client.clone()));
}

/// The object that the API's list has for this payload.
fn payout(payload: &Payload) -> Value {
    let body: Value = serde_json::from_slice(&payload.to_bytes()).expect("JSON");
    body["data"].clone()
}

#[track_caller]
fn private(text: &str) {
    assert!(!text.contains(KEY) && !text.contains(EMAIL) && !text.contains(TOKEN), "{text}");
}
