use std::{
    fmt,
    future::{Future, poll_fn},
    panic::AssertUnwindSafe,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::{Buf, Bytes, BytesMut};
use futures::{
    FutureExt,
    future::{BoxFuture, join_all},
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tower::Service;

use super::{
    Account, Case, Delivery, Fault, Mishap, Payload, Report, Status,
    oddity::{self, Expect},
};
use crate::{BoxError, Verdict, event::FulfilmentId};

/// How long the sender waits for an answer. Documented.
const SENDER_WITHIN: Duration = Duration::from_secs(15);

/// After a first delivery that ended in an error. Documented, "throughout the day".
const RETRIES: u32 = 7;

/// The spacing is unpublished; this one spreads the retries over the day.
const RETRY_EVERY: Duration = Duration::from_secs(3 * 60 * 60);

/// How often a fulfilment that is left pending is sent again here.
const CHECKS: u32 = 3;

/// How much of an answer the sender keeps.
const ANSWER_KEPT: usize = 1_000;

/// Simulates FirstPromoter against a service, as far as its protocol is known.
///
/// It waits 15 seconds for an answer. After an error it sends a fulfilment again, up to 7 times
/// throughout the day, and then holds it as pending with `has_issues`. What is left pending is sent
/// again on the next days.
///
/// The service is the whole application under test or a [`Webhook`](crate::Webhook) alone. Clones
/// share it, and the fulfilments.
///
/// The day passes at once on tokio's paused clock (`#[tokio::test(start_paused = true)]`). That clock
/// runs ahead of real databases and sockets: for an application that talks to them leave it running,
/// and shorten the day with [`retry_every`](FirstPromoter::retry_every).
///
/// ```
/// # use std::{convert::Infallible, time::Duration};
/// # use tower_firstpromoter::{Access, Outcome, Webhook, event::Fulfilment, fulfil_fn, store::MemoryStore};
/// use tower_firstpromoter::testkit::{FirstPromoter, Mishap, Payload, Status};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let access = Access::bearer("at least sixteen bytes")?;
/// let handler = fulfil_fn(async |_: Fulfilment| Err::<Outcome, _>("not today"));
/// let webhook = Webhook::new(handler, MemoryStore::new(10), access);
/// let sender = FirstPromoter::new(webhook, "/")
///     .header(http::header::AUTHORIZATION, "Bearer at least sixteen bytes".parse()?)
///     .retry_every(Duration::from_millis(10));
/// let case = sender.send(&Payload::new(1), Mishap::None).await;
/// assert_eq!((case.deliveries.len(), case.status), (8, Status::HasIssues));
///
/// let case = sender.retries(0).send(&Payload::new(2), Mishap::None).await;
/// assert_eq!(case.deliveries.len(), 1);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct FirstPromoter {
    post: Arc<Post>,
    uri: Uri,
    headers: HeaderMap,
    retry_every: Duration,
    retries: u32,
    account: Account,
}

/// The service, without its types.
type Post =
    dyn Fn(Request<Full<Bytes>>) -> BoxFuture<'static, Result<Answer, BoxError>> + Send + Sync;

struct Answer {
    status: StatusCode,
    verdict: Option<Verdict>,
}

impl FirstPromoter {
    /// Creates a sender to `url`, as it would be given to FirstPromoter: with the secret in it, and
    /// with or without a host. A `user:password@` is sent as HTTP Basic.
    ///
    /// An axum `Router`, an [`Intercept`](crate::intercept::Intercept) and a
    /// [`Webhook`](crate::Webhook) all fit; a service for one particular type of body does after
    /// tower's `map_request`.
    ///
    /// # Panics
    ///
    /// If `url` is not a URL.
    #[track_caller]
    pub fn new<S, B>(service: S, url: &str) -> Self
    where
        S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let uri = match Uri::try_from(url) {
            Ok(uri) => uri,
            Err(problem) => panic!("this is not a URL to send deliveries to: {problem}"),
        };
        let service = Mutex::new(service);
        let post = move |request| -> BoxFuture<'static, _> {
            let service = service.lock().unwrap_or_else(PoisonError::into_inner).clone();
            Box::pin(post(service, request))
        };
        Self {
            post: Arc::new(post),
            uri,
            headers: HeaderMap::new(),
            retry_every: RETRY_EVERY,
            retries: RETRIES,
            account: Account::new(),
        }
    }

    /// Adds a header to each delivery, as a proxy in front of the application does.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Sets the time between a delivery that ended in an error and the next. Default: 3 hours. What is
    /// left pending is sent again after 8 times that.
    #[must_use]
    pub fn retry_every(mut self, duration: Duration) -> Self {
        self.retry_every = duration;
        self
    }

    /// Sets how often a delivery that ended in an error is sent again. Default: 7. With 0, what is
    /// left pending is not sent again either.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Checks that a [`Webhook`](crate::Webhook) answers at this URL and accepts its secret, with a
    /// delivery that cannot be fulfilled.
    ///
    /// A mistyped path may be answered with `200` by a fallback, and FirstPromoter takes that for
    /// "fulfilled".
    ///
    /// # Errors
    ///
    /// If something else answers, or the webhook refuses the secret.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use tower_firstpromoter::{Access, Outcome, Webhook, event::Fulfilment, fulfil_fn, store::MemoryStore};
    /// # use tower_firstpromoter::testkit::FirstPromoter;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
    /// # let handler = fulfil_fn(async |_: Fulfilment| Ok::<_, Infallible>(Outcome::Fulfilled));
    /// # let access = Access::query("key", "at least sixteen bytes").unwrap();
    /// # let webhook = Webhook::new(handler, MemoryStore::new(10), access);
    /// let app = axum::Router::new()
    ///     .fallback(async || "the single page") // 200 for everything
    ///     .layer(webhook.at("/webhooks/firstpromoter"));
    ///
    /// let url = "/webhooks/firstpromoter?key=at+least+sixteen+bytes";
    /// assert!(FirstPromoter::new(app.clone(), url).check_path().await.is_ok());
    ///
    /// let mistyped = "/webhook/firstpromoter?key=at+least+sixteen+bytes";
    /// let problem = FirstPromoter::new(app, mistyped).check_path().await.unwrap_err();
    /// assert_eq!(problem.to_string(), "no webhook answered at this path, but something else: 200 OK");
    /// # }
    /// ```
    pub async fn check_path(&self) -> Result<(), NotIntercepted> {
        match timeout(SENDER_WITHIN, self.post(self.request(&Payload::raw(0, "{}")))).await {
            Ok(Ok(Answer { verdict: Some(Verdict::NotAFulfilment), .. })) => Ok(()),
            Ok(Ok(Answer { verdict: Some(verdict), .. })) => Err(NotIntercepted::Refused(verdict)),
            Ok(Ok(Answer { status, verdict: None })) => Err(NotIntercepted::Elsewhere(status)),
            Ok(Err(_)) | Err(_) => Err(NotIntercepted::NoAnswer),
        }
    }

    /// Sends one fulfilment, disturbed by `mishap`, until FirstPromoter would stop sending it.
    ///
    /// # Panics
    ///
    /// If a retry would really take hours, because the clock is not paused.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future hangs up.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use tower_firstpromoter::{Access, Outcome, Webhook, event::Fulfilment, fulfil_fn, store::MemoryStore};
    /// use tower_firstpromoter::{Verdict, testkit::{FirstPromoter, Mishap, Payload, Status}};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
    /// # let handler = fulfil_fn(async |_: Fulfilment| Ok::<_, Infallible>(Outcome::Fulfilled));
    /// # let app = Webhook::new(handler, MemoryStore::new(10), Access::anyone());
    /// # let sender = FirstPromoter::new(app, "/");
    /// let case = sender.send(&Payload::new(1), Mishap::AnswerLost).await;
    ///
    /// assert_eq!(case.status, Status::Completed);
    /// assert_eq!(case.deliveries.len(), 3); // two lost answers
    /// assert_eq!(case.deliveries[2].verdict, Some(Verdict::Fulfilled));
    /// # }
    /// ```
    pub async fn send(&self, payload: &Payload, mishap: Mishap) -> Case {
        self.run(payload, mishap, &async |_| None).await
    }

    /// Sends about 120 fulfilments, one for each [`Mishap`] and each known oddity of a payload, and
    /// judges what the receiver did with them. They are copies of `fulfilment` with ids that count
    /// up from its own.
    ///
    /// `fulfilment` must be one that the application fulfils: set a `cust_id` and a unit that it
    /// knows. `times_fulfilled` counts how often the application has fulfilled an id, best where
    /// the effect is stored. **The audit counts by fulfilment**: an application that only keeps a
    /// sum (`months = months + 3`) must add a ledger to be testable. In SQL it takes three lines,
    /// of which the second belongs in the transaction of the effect:
    ///
    /// ```sql
    /// CREATE TABLE ledger (fulfilment_id bigint NOT NULL); -- not unique: it is there to count
    /// INSERT INTO ledger (fulfilment_id) VALUES ($1);      -- in the handler, beside the `UPDATE`
    /// SELECT count(*) FROM ledger WHERE fulfilment_id = $1; -- in `times_fulfilled`
    /// ```
    ///
    /// If the URL has a query or a user, or there is an added [`header`](FirstPromoter::header), a
    /// stranger sends a fulfilment without them.
    ///
    /// [This module](super) shows an example.
    ///
    /// # Panics
    ///
    /// As [`send`](FirstPromoter::send).
    pub async fn audit(
        &self,
        fulfilment: &Payload,
        times_fulfilled: impl AsyncFn(FulfilmentId) -> usize,
    ) -> Report {
        let count = async |id| Some(times_fulfilled(id).await);
        let count = &count;
        let mut ids = fulfilment.id()..;
        let mut next = || fulfilment.renumbered(ids.next().unwrap_or(u64::MAX));
        let mut cases = Vec::new();

        for mishap in mishaps() {
            cases.push((self.run(&next(), mishap, count).await, Expect::Fulfilled));
        }
        // At once and the youngest first: for a receiver that identifies fulfilments by promoter,
        // amount and unit they are one.
        let mut equal: Vec<_> = (0..3).map(|_| next()).collect();
        equal.reverse();
        let equal = equal.iter().map(|payload| self.run(payload, Mishap::Duplicates(3), count));
        for case in join_all(equal).await {
            let name = "equal fulfilments at once".to_owned();
            cases.push((Case { name, ..case }, Expect::Fulfilled));
        }
        if let Some(stranger) = self.stranger() {
            let case = stranger.run(&next(), Mishap::None, count).await;
            cases.push((Case { name: "without the secret".to_owned(), ..case }, Expect::Refused));
        }
        for oddity in oddity::all(&next()) {
            let case = self.run(&oddity.payload, Mishap::None, count).await;
            cases.push((Case { name: oddity.name.to_owned(), ..case }, oddity.expect));
        }

        // Work that an early answer left behind has ended by now.
        self.wait(1).await;
        let mut judged = Vec::new();
        for (case, expect) in cases {
            let times = times_fulfilled(case.id).await;
            let fault = fault(&case, times, expect);
            judged.push(Case { fulfilled: Some(times), fault, ..case });
        }
        Report(judged)
    }

    /// Returns the account, which holds what was sent; its API is a tower service.
    ///
    /// ```
    /// # use std::{convert::Infallible, time::Duration};
    /// # use tower_firstpromoter::{Access, Outcome, Webhook, event::Fulfilment, fulfil_fn, store::MemoryStore};
    /// use tower_firstpromoter::{api, testkit::{FirstPromoter, Mishap, Payload, Status}};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let handler = fulfil_fn(async |_: Fulfilment| Ok::<_, Infallible>(Outcome::Fulfilled));
    /// # let (store, access) = (MemoryStore::new(10), Access::query("key", "at least sixteen bytes")?);
    /// # let webhook = Webhook::new(handler, store, access);
    /// let down = tower::service_fn(async |_| Err::<http::Response<String>, _>("out of order"));
    /// let sender = FirstPromoter::new(down, "/webhooks/firstpromoter");
    /// let case = sender.send(&Payload::new(1), Mishap::None).await;
    /// assert_eq!(case.status, Status::HasIssues); // it is not sent again
    ///
    /// let client = api::Client::new(sender.account(), "any key")?;
    /// let report = webhook.reconcile(&client).await;
    /// assert_eq!(report.fulfilled, [case.id]);
    /// assert_eq!(sender.account().completed(), [case.id]);
    /// # Ok(()) }
    /// ```
    pub fn account(&self) -> Account {
        self.account.clone()
    }

    /// Holds what a payload is about as pending, if it is a pending fulfilment.
    fn hold(&self, payload: &Payload) {
        let event = payload.get("/event/type").and_then(Value::as_str);
        let data = payload.get("/data").and_then(Value::as_object);
        let pending = data.is_some_and(|data| {
            matches!(data.get("status").and_then(Value::as_str), None | Some("pending"))
        });
        if event == Some("fulfilment_pending") && pending {
            self.account.add(payload);
        }
    }

    async fn run(
        &self,
        payload: &Payload,
        mishap: Mishap,
        count: &impl AsyncFn(FulfilmentId) -> Option<usize>,
    ) -> Case {
        self.hold(payload);
        let start = Instant::now();
        let mut deliveries = Vec::new();
        let (mut sent, mut errors, mut checks) = (0, 0, 0);
        let most_checks = CHECKS.min(self.retries);
        let mut status = loop {
            // Of the first two, the second keeps the `event.id`; then it changes now and then.
            let message = payload.clone().message(sent / 2);
            let first = deliveries.len();
            match mishap {
                Mishap::Duplicates(copies) if sent == 0 => {
                    let copies = (0..copies).map(|copy| {
                        let message = payload.clone().message(copy as u64 % 2);
                        async move { self.deliver(&message, Mishap::None, start, count).await }
                    });
                    deliveries.extend(join_all(copies).await);
                }
                _ => {
                    let mishap = if sent < 2 { mishap } else { Mishap::None };
                    deliveries.push(self.deliver(&message, mishap, start, count).await);
                }
            }
            sent += 1;
            match status(&deliveries[first..]) {
                Status::Pending if checks < most_checks => {
                    (errors, checks) = (0, checks + 1);
                    self.wait(8).await;
                }
                Status::HasIssues if errors < self.retries => {
                    errors += 1;
                    self.wait(1).await;
                }
                status => break status,
            }
            if self.account.is_completed(payload.id()) {
                break Status::Completed; // by API, meanwhile
            }
        };
        match status {
            _ if self.account.is_completed(payload.id()) => status = Status::Completed,
            Status::Completed => self.account.set(payload.id(), "status", "completed"),
            Status::HasIssues => self.account.set(payload.id(), "has_issues", true),
            Status::Pending => {}
        }
        if mishap == Mishap::LateCopy {
            self.wait(1).await;
            deliveries.push(self.deliver(payload, Mishap::None, start, count).await);
            status = self::status(&deliveries[deliveries.len() - 1..]);
        }
        Case {
            name: mishap.to_string(),
            id: payload.id().into(),
            deliveries,
            status,
            fulfilled: None,
            fault: None,
        }
    }

    async fn deliver(
        &self,
        payload: &Payload,
        mishap: Mishap,
        start: Instant,
        count: &impl AsyncFn(FulfilmentId) -> Option<usize>,
    ) -> Delivery {
        let sent = Instant::now();
        let answer = self.post(self.request(payload));
        let (within, waits) = match mishap {
            Mishap::HangUp(after) => (after.min(SENDER_WITHIN), usize::MAX),
            Mishap::HangUpAtWait(waits) => (SENDER_WITHIN, waits),
            _ => (SENDER_WITHIN, usize::MAX),
        };
        let answer = timeout(within, at_most(waits, answer)).await;
        let took = sent.elapsed();
        let at = sent.duration_since(start);
        let without_answer =
            |reason| Delivery { at, took, status: None, verdict: None, reason, fulfilled: None };
        let Answer { status, verdict } = match answer {
            Ok(Some(Ok(answer))) => answer,
            Ok(Some(Err(_))) => return without_answer("broken_off"),
            Ok(None) => return without_answer("hung_up"),
            Err(_) if within < SENDER_WITHIN => return without_answer("hung_up"),
            Err(_) => return without_answer("timed_out"),
        };
        let fulfilled =
            if status == StatusCode::OK { count(payload.id().into()).await } else { None };
        let lost = mishap == Mishap::AnswerLost;
        let reason = match verdict {
            _ if lost => "answer_lost",
            Some(verdict) => verdict.code(),
            None => "no_verdict",
        };
        let status = Some(status).filter(|_| !lost);
        Delivery { at, took, status, verdict, reason, fulfilled }
    }

    /// Turns a panic of the service into a connection that breaks off, as a server does.
    async fn post(&self, request: Request<Full<Bytes>>) -> Result<Answer, BoxError> {
        let answer = AssertUnwindSafe(async { (self.post)(request).await }).catch_unwind().await;
        answer.unwrap_or_else(|_panic| Err("the service panicked".into()))
    }

    fn request(&self, payload: &Payload) -> Request<Full<Bytes>> {
        let body = payload.to_bytes();
        let length = HeaderValue::from(body.len());
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = http::Method::POST;
        // What a server hands on: the path and the query alone.
        let path = self.uri.path_and_query().cloned();
        *request.uri_mut() = path.map_or_else(Uri::default, Uri::from);
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CONTENT_LENGTH, length);
        let (user, host) = self.authority();
        headers.extend(host.parse().map(|host| (header::HOST, host)));
        if let Some(user) = user {
            let user: Vec<_> = percent_encoding::percent_decode_str(user).collect();
            let basic = format!("Basic {}", BASE64_STANDARD.encode(user));
            headers.extend(basic.parse().map(|basic| (header::AUTHORIZATION, basic)));
        }
        headers.extend(self.headers.clone());
        request
    }

    fn authority(&self) -> (Option<&str>, &str) {
        let authority = self.uri.authority().map_or("localhost", |authority| authority.as_str());
        match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        }
    }

    /// Somebody who knows the path and not the secret.
    fn stranger(&self) -> Option<Self> {
        let (user, _) = self.authority();
        if user.is_none() && self.uri.query().is_none() && self.headers.is_empty() {
            return None;
        }
        let uri = Uri::try_from(self.uri.path()).ok()?;
        Some(Self { uri, headers: HeaderMap::new(), account: Account::new(), ..self.clone() })
    }

    async fn wait(&self, times: u32) {
        let end = Instant::now() + self.retry_every * times;
        if self.retry_every > Duration::from_secs(60) {
            assert!(
                clock_is_paused().await,
                "the next retry is hours away and the clock is not paused: use \
                 `#[tokio::test(start_paused = true)]`, or `FirstPromoter::retry_every`",
            );
        }
        sleep_until(end).await;
    }
}

async fn clock_is_paused() -> bool {
    const SHORT: Duration = Duration::from_millis(500);
    // A busy machine can make one sleep slow on a paused clock, too.
    for _ in 0..3 {
        let start = std::time::Instant::now();
        sleep(SHORT).await;
        if start.elapsed() < SHORT / 2 {
            return true;
        }
    }
    false
}

impl fmt::Debug for FirstPromoter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL is the secret.
        f.debug_struct("FirstPromoter")
            .field("retry_every", &self.retry_every)
            .finish_non_exhaustive()
    }
}

/// The error of [`FirstPromoter::check_path`], which has an example: fulfilments sent to this URL
/// would be lost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotIntercepted {
    /// Something else answered, with this status.
    #[error("no webhook answered at this path, but something else: {0}")]
    Elsewhere(StatusCode),
    /// A webhook answered, and refused the delivery.
    #[error("a webhook answered at this path, and refused the delivery: {}", .0.code())]
    Refused(Verdict),
    /// Nothing answered.
    #[error("nothing answered at this path")]
    NoAnswer,
}

async fn post<S, B>(mut service: S, request: Request<Full<Bytes>>) -> Result<Answer, BoxError>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    B: Body,
    B::Error: Into<BoxError>,
{
    poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into)?;
    let (head, body) = service.call(request).await.map_err(Into::into)?.into_parts();
    let mut body = pin!(body);
    let mut kept = BytesMut::new();
    while kept.len() < ANSWER_KEPT {
        let Some(frame) = body.frame().await else { break };
        if let Ok(mut data) = frame.map_err(Into::into)?.into_data() {
            let room = data.remaining().min(ANSWER_KEPT - kept.len());
            kept.extend_from_slice(&data.copy_to_bytes(room));
        }
    }
    let verdict = head.extensions.get::<Verdict>().copied();
    Ok(Answer { status: head.status, verdict: verdict.or_else(|| verdict_in(&kept)) })
}

/// Extensions do not go over the wire, but the code does.
fn verdict_in(answer: &[u8]) -> Option<Verdict> {
    let answer: Value = serde_json::from_slice(answer).ok()?;
    let code = answer.get("code")?.as_str()?;
    Verdict::ALL.iter().copied().find(|verdict| verdict.code() == code)
}

/// `None` if the future still waits after it has waited so many times.
async fn at_most<F: Future>(waits: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = waits;
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => {
            left = left.saturating_sub(1);
            if left == 0 { Poll::Ready(None) } else { Poll::Pending }
        }
    })
    .await
}

/// The sender's view of answers to the same delivery: one `200` is enough.
fn status(deliveries: &[Delivery]) -> Status {
    let statuses = || deliveries.iter().filter_map(|delivery| delivery.status);
    if statuses().any(|status| status == StatusCode::OK) {
        Status::Completed
    } else if statuses().any(|status| status.is_success()) {
        Status::Pending
    } else {
        Status::HasIssues
    }
}

fn mishaps() -> impl Iterator<Item = Mishap> {
    let hang_ups = [0, 1, 5, 20, 100, 500, 2_000, 9_000, 12_000];
    [Mishap::None, Mishap::AnswerLost, Mishap::LateCopy]
        .into_iter()
        .chain([2, 8, 64].map(Mishap::Duplicates))
        .chain((1..=8).map(Mishap::HangUpAtWait))
        .chain(hang_ups.map(|ms| Mishap::HangUp(Duration::from_millis(ms))))
}

fn fault(case: &Case, times: usize, expect: Expect) -> Option<Fault> {
    let ok = case.deliveries.iter().any(|delivery| delivery.fulfilled.is_some());
    let false_ok = case.deliveries.iter().any(|delivery| delivery.fulfilled == Some(0));
    match expect {
        Expect::Refused | Expect::Ignored if times > 0 => Some(Fault::WronglyFulfilled),
        Expect::Refused if ok => Some(Fault::FalseOk),
        Expect::Refused | Expect::Ignored => None,
        _ if times > 1 => Some(Fault::FulfilledTwice),
        _ if false_ok || (ok && times == 0) => Some(Fault::FalseOk),
        _ if times == 1 && case.status != Status::Completed => Some(Fault::NoOk),
        Expect::Fulfilled if times == 0 => Some(Fault::Lost),
        _ => None,
    }
}
