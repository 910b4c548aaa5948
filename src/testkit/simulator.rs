use std::{
    error::Error,
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
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tower::Service;

use super::{Attempt, Course, Expect, Fault, Mishap, Payload, Report, Shown};
use crate::{BoxError, Verdict, event::FulfilmentId};

/// After which the sender gives up on a delivery. Documented.
const TIME_OUT: Duration = Duration::from_secs(15);

/// After a first delivery that ended in an error. Documented, "throughout the day".
const RETRIES: u32 = 7;

/// The spacing is unpublished; this one spreads the retries over the day.
const RETRY_EVERY: Duration = Duration::from_secs(3 * 60 * 60);

/// How often a reward that is left pending is looked at again here.
const CHECKS: u32 = 3;

/// As much of an answer as the sender keeps.
const ANSWER_KEPT: usize = 1_000;

/// Plays FirstPromoter against a service, as far as its protocol is known: 15 seconds for an answer,
/// 7 retries over the day, a reward that is left pending fired again at the next checks, and
/// `has_issues` after the last error.
///
/// The service is the application under test as a whole, or a [`Webhook`](crate::Webhook) alone;
/// cheap to clone, and shared by the clones.
///
/// The day passes at once on tokio's paused clock (`#[tokio::test(start_paused = true)]`). That
/// clock runs ahead of real databases and sockets, so for an application which talks to them leave
/// it running, and shorten the day with [`retry_every`](FirstPromoter::retry_every).
///
/// ```
/// # use std::convert::Infallible;
/// # use tower_firstpromoter::{Access, Outcome, Webhook, event::Fulfilment, fulfil_fn};
/// use tower_firstpromoter::testkit::{FirstPromoter, Mishap, Payload, Shown};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
/// # let handler = fulfil_fn(async |_: Fulfilment| Ok::<_, Infallible>(Outcome::Fulfilled));
/// # let app = Webhook::new(handler, Access::query("key", "at least sixteen bytes"));
/// let sender = FirstPromoter::new(app, "/webhooks/firstpromoter?key=at+least+sixteen+bytes");
/// let course = sender.send(&Payload::new(1), Mishap::None).await;
/// assert_eq!(course.shown, Shown::Fulfilled);
/// # }
/// ```
#[derive(Clone)]
pub struct FirstPromoter {
    post: Arc<Post>,
    uri: Uri,
    headers: HeaderMap,
    retry_every: Duration,
    retries: u32,
}

/// The service, without its types.
type Post =
    dyn Fn(Request<Full<Bytes>>) -> BoxFuture<'static, Result<Answer, BoxError>> + Send + Sync;

/// What came back, as far as it matters.
struct Answer {
    status: StatusCode,
    verdict: Option<Verdict>,
}

impl FirstPromoter {
    /// A sender of deliveries to `url`, as it would be given to FirstPromoter: with the secret in
    /// it, and with or without a host. A `user:password@` in front of the host is sent as HTTP
    /// Basic.
    ///
    /// An axum `Router`, an [`Intercept`](crate::intercept::Intercept) and a
    /// [`Webhook`](crate::Webhook) all fit. A service for one particular type of body does after
    /// tower's `map_request`. See [`FirstPromoter`] for an example.
    ///
    /// # Panics
    ///
    /// If `url` is no URL.
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
        let headers = HeaderMap::new();
        let (retry_every, retries) = (RETRY_EVERY, RETRIES);
        Self { post: Arc::new(post), uri, headers, retry_every, retries }
    }

    /// Adds a header to each delivery, as a proxy in front of the application would.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use tower_firstpromoter::{Access, Outcome, Webhook, event::Fulfilment, fulfil_fn};
    /// # use tower_firstpromoter::testkit::FirstPromoter;
    /// use http::{HeaderValue, header::AUTHORIZATION};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
    /// # let handler = fulfil_fn(async |_: Fulfilment| Ok::<_, Infallible>(Outcome::Fulfilled));
    /// let app = Webhook::new(handler, Access::bearer("at least sixteen bytes"));
    /// let sender = FirstPromoter::new(app, "/webhooks/firstpromoter")
    ///     .header(AUTHORIZATION, HeaderValue::from_static("Bearer at least sixteen bytes"));
    /// sender.check_path().await.unwrap();
    /// # }
    /// ```
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// The time from a delivery that ended in an error to the next: 3 hours unless told otherwise. A
    /// reward that is left pending is fired again after 8 times that.
    ///
    /// ```
    /// # use std::{convert::Infallible, time::Duration};
    /// # use tower_firstpromoter::{Access, Outcome, Webhook, event::Fulfilment, fulfil_fn};
    /// # use tower_firstpromoter::testkit::{FirstPromoter, Mishap, Payload, Shown};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() { // the real clock
    /// let handler = fulfil_fn(async |_: Fulfilment| Err::<Outcome, _>("not today"));
    /// # let app = Webhook::new(handler, Access::anyone());
    /// let sender = FirstPromoter::new(app, "/").retry_every(Duration::from_millis(10));
    /// let course = sender.send(&Payload::new(1), Mishap::None).await;
    /// assert_eq!(course.attempts.len(), 8);
    /// assert_eq!(course.shown, Shown::HasIssues);
    /// # }
    /// ```
    #[must_use]
    pub fn retry_every(mut self, duration: Duration) -> Self {
        self.retry_every = duration;
        self
    }

    /// How often a delivery that ended in an error is sent again: 7 times unless told otherwise.
    ///
    /// With 0, a reward that is left pending is not fired again, either: there is one delivery.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use tower_firstpromoter::{Access, Outcome, Webhook, event::Fulfilment, fulfil_fn};
    /// # use tower_firstpromoter::testkit::{FirstPromoter, Mishap, Payload, Shown};
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
    /// let handler = fulfil_fn(async |_: Fulfilment| Ok::<_, Infallible>(Outcome::Pending));
    /// # let app = Webhook::new(handler, Access::anyone());
    /// let course = FirstPromoter::new(app, "/").retries(0).send(&Payload::new(1), Mishap::None).await;
    /// assert_eq!(course.attempts.len(), 1);
    /// # }
    /// ```
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Checks that a [`Webhook`](crate::Webhook) answers at this URL and lets this sender in, with a
    /// delivery that cannot be granted.
    ///
    /// A mistyped path may well be answered with `200`, by a fallback that answers whatever it is
    /// asked. FirstPromoter takes that for "granted".
    ///
    /// # Errors
    ///
    /// If something else answers, or the secret is wrong.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use tower::Layer;
    /// # use tower_firstpromoter::{Access, Outcome, Webhook, event::Fulfilment, fulfil_fn};
    /// # use tower_firstpromoter::testkit::FirstPromoter;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
    /// # let handler = fulfil_fn(async |_: Fulfilment| Ok::<_, Infallible>(Outcome::Fulfilled));
    /// let webhook = Webhook::new(handler, Access::query("key", "at least sixteen bytes"));
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
        match timeout(TIME_OUT, self.post(self.request(&Payload::raw(0, "{}")))).await {
            Ok(Ok(Answer { verdict: Some(Verdict::NotAFulfilment), .. })) => Ok(()),
            Ok(Ok(Answer { verdict: Some(verdict), .. })) => Err(NotIntercepted::Refused(verdict)),
            Ok(Ok(Answer { status, verdict: None })) => Err(NotIntercepted::Elsewhere(status)),
            Ok(Err(_)) | Err(_) => Err(NotIntercepted::Silent),
        }
    }

    /// Sends one reward, with this going wrong on the way, until FirstPromoter is done with it.
    ///
    /// # Panics
    ///
    /// If a retry would really take hours, because the clock is not paused.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it hangs up.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use tower_firstpromoter::{Access, Outcome, Webhook, event::Fulfilment, fulfil_fn, once::MemoryStore};
    /// use tower_firstpromoter::{Verdict, testkit::{FirstPromoter, Mishap, Payload, Shown}};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
    /// # let handler = fulfil_fn(async |_: Fulfilment| Ok::<_, Infallible>(Outcome::Fulfilled));
    /// # let app = Webhook::new(handler, Access::anyone()).once(MemoryStore::new(10));
    /// # let sender = FirstPromoter::new(app, "/");
    /// let course = sender.send(&Payload::new(1), Mishap::AnswerLost).await;
    ///
    /// assert_eq!(course.shown, Shown::Fulfilled);
    /// assert_eq!(course.attempts.len(), 3); // two lost answers
    /// assert_eq!(course.attempts[2].verdict, Some(Verdict::Granted));
    /// # }
    /// ```
    pub async fn send(&self, payload: &Payload, mishap: Mishap) -> Course {
        self.run(payload, mishap, &async |_| None).await
    }

    /// Sends some 120 rewards, with every [`Mishap`] and every [oddity](Payload::oddities), and
    /// judges what the receiver made of them. They equal this one but for their ids, which count up
    /// from its `data.id`.
    ///
    /// `reward` is to be one that the application grants, so give it a `cust_id` and a `unit` that
    /// the application knows. `granted` says how often the application has granted a reward: the
    /// best place to look is the one where a user's reward ends up.
    ///
    /// Where the URL has a query or a user, or there is an added [`header`](FirstPromoter::header),
    /// a stranger tries as well, without them.
    ///
    /// # Panics
    ///
    /// As [`send`](FirstPromoter::send).
    ///
    /// ```
    /// # use std::{convert::Infallible, sync::{Arc, Mutex}};
    /// # use tower_firstpromoter::{Access, Outcome, Webhook, event::Fulfilment, fulfil_fn};
    /// use tower_firstpromoter::{once::MemoryStore, testkit::{Fault, FirstPromoter, Payload}};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
    /// let db = Arc::new(Mutex::new(Vec::new()));
    /// let grants = db.clone();
    /// let handler = fulfil_fn(move |fulfilment: Fulfilment| {
    ///     grants.lock().unwrap().push(fulfilment.id);
    ///     async { Ok::<_, Infallible>(Outcome::Fulfilled) }
    /// });
    /// let webhook = Webhook::new(handler, Access::query("key", "at least sixteen bytes"));
    /// let times_granted = async |id| db.lock().unwrap().iter().filter(|found| **found == id).count();
    ///
    /// // Without a store, a second delivery grants a second time.
    /// let sender = FirstPromoter::new(webhook.clone(), "/?key=at+least+sixteen+bytes");
    /// let report = sender.audit(&Payload::new(1), times_granted).await;
    /// assert!(report.faults().all(|course| course.fault == Some(Fault::GrantedAgain)));
    /// assert!(report.faults().any(|course| course.name == "the answer is lost"));
    ///
    /// // With one, all is well.
    /// let sender = FirstPromoter::new(webhook.once(MemoryStore::new(1_000)), "/?key=at+least+sixteen+bytes");
    /// sender.audit(&Payload::new(1_000), times_granted).await.assert_ok();
    /// # }
    /// ```
    pub async fn audit(
        &self,
        reward: &Payload,
        granted: impl AsyncFn(FulfilmentId) -> usize,
    ) -> Report {
        let count = async |id| Some(granted(id).await);
        let count = &count;
        let mut ids = reward.id()..;
        let mut next = || reward.renumbered(ids.next().unwrap_or(u64::MAX));
        let mut courses = Vec::new();

        for mishap in mishaps() {
            let course = self.run(&next(), mishap, count).await;
            courses.push((course, Expect::Granted));
        }
        // At once and the youngest first; whoever tells rewards apart by who, what and how much
        // takes them for one.
        let mut equal: Vec<_> = (0..3).map(|_| next()).collect();
        equal.reverse();
        let equal = equal.iter().map(|payload| self.run(payload, Mishap::Duplicates(3), count));
        for mut course in join_all(equal).await {
            course.name = "equal rewards at once".to_owned();
            courses.push((course, Expect::Granted));
        }
        if let Some(stranger) = self.stranger() {
            let mut course = stranger.run(&next(), Mishap::None, count).await;
            course.name = "without the secret".to_owned();
            courses.push((course, Expect::Refused));
        }
        for oddity in next().oddities() {
            let mut course = self.run(&oddity.payload, Mishap::None, count).await;
            course.name = oddity.name.to_owned();
            courses.push((course, oddity.expect));
        }

        // What an early answer left behind has ended by now.
        self.wait(1).await;
        let mut judged = Vec::new();
        for (mut course, expect) in courses {
            let times = granted(course.id).await;
            course.granted = Some(times);
            course.fault = fault(&course, times, expect);
            judged.push(course);
        }
        Report::new(judged)
    }

    async fn run(
        &self,
        payload: &Payload,
        mishap: Mishap,
        count: &impl AsyncFn(FulfilmentId) -> Option<usize>,
    ) -> Course {
        let start = Instant::now();
        let mut attempts = Vec::new();
        let (mut sent, mut errors, mut checks) = (0, 0, 0);
        let most_checks = CHECKS.min(self.retries);
        let shown = loop {
            // Of the first two, the second keeps the `event.id`; then it changes now and then.
            let message = payload.clone().message(sent / 2);
            let first = attempts.len();
            match mishap {
                Mishap::Duplicates(copies) if sent == 0 => {
                    let copies = (0..copies).map(|copy| {
                        let message = payload.clone().message(copy as u64 % 2);
                        async move { self.deliver(&message, Mishap::None, start, count).await }
                    });
                    attempts.extend(join_all(copies).await);
                }
                _ => {
                    let mishap = if sent < 2 { mishap } else { Mishap::None };
                    attempts.push(self.deliver(&message, mishap, start, count).await);
                }
            }
            sent += 1;
            match shown(&attempts[first..]) {
                Shown::Fulfilled => break Shown::Fulfilled,
                Shown::Pending if checks == most_checks => break Shown::Pending,
                Shown::Pending => {
                    (errors, checks) = (0, checks + 1);
                    self.wait(8).await;
                }
                Shown::HasIssues if errors == self.retries => break Shown::HasIssues,
                Shown::HasIssues => {
                    errors += 1;
                    self.wait(1).await;
                }
            }
        };
        let mut course = Course {
            name: mishap.to_string(),
            id: payload.id().into(),
            attempts,
            shown,
            granted: None,
            fault: None,
        };
        if mishap == Mishap::LateCopy {
            self.wait(1).await;
            let copy = self.deliver(payload, Mishap::None, start, count).await;
            course.shown = self::shown(std::slice::from_ref(&copy));
            course.attempts.push(copy);
        }
        course
    }

    async fn deliver(
        &self,
        payload: &Payload,
        mishap: Mishap,
        start: Instant,
        count: &impl AsyncFn(FulfilmentId) -> Option<usize>,
    ) -> Attempt {
        let sent = Instant::now();
        let answer = self.post(self.request(payload));
        let patience = match mishap {
            Mishap::HangUp(after) => after.min(TIME_OUT),
            _ => TIME_OUT,
        };
        let waits = match mishap {
            Mishap::HangUpAtWait(waits) => waits,
            _ => usize::MAX,
        };
        let mut attempt = Attempt {
            at: sent.duration_since(start),
            took: Duration::ZERO,
            status: None,
            verdict: None,
            reason: "timed_out",
            granted: None,
        };
        let answer = timeout(patience, at_most(waits, answer)).await;
        attempt.took = sent.elapsed();
        match answer {
            Ok(Some(Ok(Answer { status, verdict }))) => {
                if status == StatusCode::OK {
                    attempt.granted = count(payload.id().into()).await;
                }
                attempt.status = Some(status).filter(|_| mishap != Mishap::AnswerLost);
                attempt.verdict = verdict;
                attempt.reason = match (mishap, verdict) {
                    (Mishap::AnswerLost, _) => "answer_lost",
                    (_, Some(verdict)) => verdict.code(),
                    (_, None) => "no_verdict",
                };
            }
            Ok(Some(Err(_))) => attempt.reason = "broken_off",
            Ok(None) => attempt.reason = "hung_up",
            Err(_) if patience < TIME_OUT => attempt.reason = "hung_up",
            Err(_) => {}
        }
        attempt
    }

    /// A panic in the service is a connection that breaks off, as it is in a server.
    async fn post(&self, request: Request<Full<Bytes>>) -> Result<Answer, BoxError> {
        let answer = async { (self.post)(request).await };
        match AssertUnwindSafe(answer).catch_unwind().await {
            Ok(answer) => answer,
            Err(_panic) => Err("the service panicked".into()),
        }
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
        if let Ok(host) = HeaderValue::from_str(host) {
            headers.insert(header::HOST, host);
        }
        if let Some(user) = user {
            let token = BASE64_STANDARD
                .encode(percent_encoding::percent_decode_str(user).collect::<Vec<_>>());
            if let Ok(basic) = HeaderValue::from_str(&format!("Basic {token}")) {
                headers.insert(header::AUTHORIZATION, basic);
            }
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
        Some(Self { uri, headers: HeaderMap::new(), ..self.clone() })
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

/// Long enough to tell a running clock from a paused one.
const GLANCE: Duration = Duration::from_millis(500);

async fn clock_is_paused() -> bool {
    // A busy machine can make one glance slow on a paused clock, too.
    for _ in 0..3 {
        let start = std::time::Instant::now();
        sleep(GLANCE).await;
        if start.elapsed() < GLANCE / 2 {
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

/// The answer to [`FirstPromoter::check_path`], where there is an example: rewards sent to this URL
/// would be lost.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotIntercepted {
    /// Something else has answered, with this status.
    Elsewhere(StatusCode),
    /// A webhook has answered, and would refuse every delivery.
    Refused(Verdict),
    /// Nothing has answered.
    Silent,
}

impl fmt::Display for NotIntercepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Elsewhere(status) => {
                write!(f, "no webhook answered at this path, but something else: {status}")
            }
            Self::Refused(Verdict::Unauthorized) => {
                f.write_str("a webhook answered at this path, and the URL lacks the right secret")
            }
            Self::Refused(verdict) => {
                write!(f, "a webhook answered at this path, and refused: {}", verdict.code())
            }
            Self::Silent => f.write_str("nothing answered at this path"),
        }
    }
}

impl fmt::Debug for NotIntercepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What a test that expects it to be intercepted prints.
        fmt::Display::fmt(self, f)
    }
}

impl Error for NotIntercepted {}

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
    let answer: serde_json::Value = serde_json::from_slice(answer).ok()?;
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

/// What the sender makes of answers to the same delivery: one that says "granted" is enough.
fn shown(attempts: &[Attempt]) -> Shown {
    let statuses = || attempts.iter().filter_map(|attempt| attempt.status);
    if statuses().any(|status| status == StatusCode::OK) {
        Shown::Fulfilled
    } else if statuses().any(|status| status.is_success()) {
        Shown::Pending
    } else {
        Shown::HasIssues
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

fn fault(course: &Course, granted: usize, expect: Expect) -> Option<Fault> {
    let told_ok = course.attempts.iter().any(|attempt| attempt.granted.is_some());
    let untrue_ok = course.attempts.iter().any(|attempt| attempt.granted == Some(0));
    let confirmed = course.shown == Shown::Fulfilled;
    match expect {
        Expect::Refused | Expect::Ignored if granted > 0 => Some(Fault::WronglyGranted),
        Expect::Refused if told_ok => Some(Fault::UntrueOk),
        Expect::Refused | Expect::Ignored => None,
        _ if granted > 1 => Some(Fault::GrantedAgain),
        _ if untrue_ok || (told_ok && granted == 0) => Some(Fault::UntrueOk),
        _ if granted == 1 && !confirmed => Some(Fault::Unconfirmed),
        Expect::Granted if granted == 0 => Some(Fault::Lost),
        _ => None,
    }
}
