//! Authorizes, reads and decodes deliveries, and answers them.

mod access;
mod admit;
mod deliver;
mod read;
mod reply;
mod settings;

use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use http::{Request, Response};
use http_body::Body;
use tower::Service;

use self::settings::Settings;
#[cfg(feature = "api")]
use crate::fulfil::Confirm;
use crate::{
    Verdict,
    event::Fulfilment,
    fulfil::{Attempts, FulfilIn, InFlight, Listener},
    observe::{self, Observer, Span},
    store::Store,
};

pub(crate) use self::deliver::Delivered;
pub use self::{
    access::{Access, InvalidAccess},
    reply::ReplyBody,
};

/// Receives FirstPromoter's deliveries and fulfils each fulfilment once.
///
/// It is a [`Service`] for requests with any body, to be mounted where a framework takes services;
/// [`at`](Webhook::at) turns it into a layer around an application. Cheap to clone.
///
/// ```
/// use std::{convert::Infallible, time::Duration};
/// use tower::ServiceExt;
/// use tower_firstpromoter::{
///     Access, Outcome, Verdict, Webhook, event::Fulfilment, fulfil_fn, store::MemoryStore,
/// };
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let handler = fulfil_fn(async |fulfilment: Fulfilment| {
///     // … put the credits into the database …
///     Ok::<_, Infallible>(Outcome::Fulfilled)
/// });
/// let access = Access::query("key", "at least sixteen bytes")?;
/// let webhook = Webhook::new(handler, MemoryStore::new(1_000), access)
///     .body_limit(1024 * 1024)
///     .answer_within(Duration::from_secs(5))
///     .attempt_within(Duration::from_secs(20));
///
/// let delivery = http::Request::post("/?key=at+least+sixteen+bytes")
///     .header("content-type", "application/json")
///     .body(r#"{
///         "event": { "type": "fulfilment_pending" },
///         "data": { "id": 2429153, "amount": 3, "unit": "credits", "promoter": { "id": 7 } }
///     }"#.to_owned())?;
/// let lost = Fulfilment::decode(delivery.body().clone())?;
/// let answer = webhook.clone().oneshot(delivery).await?;
/// assert_eq!(answer.status(), 200);
/// assert_eq!(answer.extensions().get(), Some(&Verdict::Fulfilled));
///
/// assert_eq!(webhook.fulfil(lost).await, Verdict::Fulfilled); // a replay, without HTTP
/// let all_ended = tokio::time::timeout(Duration::from_secs(15), webhook.close()).await.is_ok();
/// # assert!(all_ended);
/// # Ok(()) }
/// ```
///
/// # Panics
///
/// The response future panics outside of a tokio runtime, or in one without its timer.
#[derive(Clone)]
#[must_use]
pub struct Webhook {
    attempts: Arc<dyn Attempts>,
    settings: Arc<Settings>,
}

impl Webhook {
    /// Creates a webhook that passes authorized deliveries to `handler` and records its attempts in
    /// `store`. See [`Webhook`] for an example.
    pub fn new<H, S>(handler: H, store: S, access: Access) -> Self
    where
        H: FulfilIn<S::Tx>,
        S: Store,
    {
        if access.is_open() {
            observe::access_is_open();
        }
        let attempts = Arc::new(InFlight::new(handler, store));
        Self { attempts, settings: Arc::new(Settings::new(access)) }
    }

    /// Sets the largest body that is read, in bytes. Default: 256 KiB; a typical delivery has 2.5
    /// KB. See [`Webhook`] for an example.
    pub fn body_limit(mut self, bytes: usize) -> Self {
        self.settings_mut().body_limit = bytes;
        self
    }

    /// Sets how long a delivery may take, from its head to its answer. Default: 10 seconds.
    ///
    /// A body that is not complete by then is answered with `408`. An attempt that has not ended by
    /// then goes on, and the answer tells its phase: `503` (`store_unavailable`) if it has not
    /// begun, `409` (`in_progress`) while the handler runs, `503` (`not_recorded`) while its end is
    /// being recorded.
    ///
    /// A handler that blocks its thread delays its delivery's answer: use `spawn_blocking`.
    /// FirstPromoter gives up after 15 seconds; stay well below that. See [`Webhook`] for an example.
    pub fn answer_within(mut self, limit: Duration) -> Self {
        self.settings_mut().answer_within = limit;
        self
    }

    /// Sets how long the handler may run for one fulfilment. Default: 60 seconds.
    ///
    /// The handler's future is dropped then: a transactional store undoes what it did, a journal
    /// records it as in doubt. Dropping stops neither `spawn_blocking` nor a frozen machine, so
    /// give such calls an [idempotency key](Fulfilment::idempotency_key). See [`Webhook`] for an example.
    pub fn attempt_within(mut self, limit: Duration) -> Self {
        self.settings_mut().attempt().attempt_within = limit;
        self
    }

    /// Adds an observer. See [`Observer`] for an example.
    pub fn observe(mut self, observer: impl Observer) -> Self {
        self.settings_mut().attempt().observers.add(observer);
        self
    }

    /// Runs an attempt for `fulfilment` as a delivery does, without HTTP and without a deadline: for
    /// replays, and for fulfilments that FirstPromoter no longer sends. Returns how it ended. See
    /// [`Webhook`] for an example.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the waiting; the attempt goes on.
    pub async fn fulfil(&self, fulfilment: Fulfilment) -> Verdict {
        self.fulfil_and_tell(fulfilment).await.0
    }

    /// Also returns whether the handler ran for this call.
    pub(crate) async fn fulfil_and_tell(&self, fulfilment: Fulfilment) -> (Verdict, bool) {
        let span = Span::delivery();
        span.instrument(deliver::fulfil(self, fulfilment, &span)).await
    }

    /// Sets who confirms a fulfilment before the handler runs.
    #[cfg(feature = "api")]
    pub(crate) fn set_confirm(mut self, confirm: Arc<dyn Confirm>) -> Self {
        self.settings_mut().attempt().confirm = Some(confirm);
        self
    }

    /// Stops accepting fulfilments and waits for running attempts; affects all clones.
    ///
    /// New deliveries are answered with `503` (`shutting_down`); those of a running attempt still
    /// get its verdict. An attempt takes at most `attempt_within` plus 16 seconds, so this returns.
    /// Call it after the server has stopped, within a time limit of your own, as the example of
    /// [`Webhook`] shows.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the waiting; the webhook stays closed.
    pub async fn close(&self) {
        self.attempts.close().await;
    }

    pub(crate) fn has_secret_path(&self) -> bool {
        self.settings.access.is_secret_path()
    }

    /// Handles a request, boxed; with `pass`, it returns events of other types.
    pub(crate) fn deliver<B>(&self, request: Request<B>, pass: bool) -> Delivering
    where
        B: Body + Send + 'static,
    {
        let span = Span::delivery();
        Box::pin(span.clone().instrument(deliver::deliver(self.clone(), request, pass, span)))
    }

    fn listen(&self, fulfilment: Fulfilment, span: &Span) -> Result<Listener, Verdict> {
        Arc::clone(&self.attempts).listen(fulfilment, &self.settings.attempt, span)
    }

    fn settings_mut(&mut self) -> &mut Settings {
        Arc::make_mut(&mut self.settings)
    }
}

impl<B> Service<Request<B>> for Webhook
where
    B: Body + Send + 'static,
{
    type Response = Response<ReplyBody>;
    type Error = Infallible;
    type Future = WebhookFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> WebhookFuture {
        WebhookFuture(self.deliver(request, false))
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { access, body_limit, answer_within, attempt } = &*self.settings;
        f.debug_struct("Webhook")
            .field("access", access)
            .field("body_limit", body_limit)
            .field("answer_within", answer_within)
            .field("attempt_within", &attempt.attempt_within)
            .finish_non_exhaustive()
    }
}

/// Response future of [`Webhook`], which has an example.
///
/// # Cancel safety
///
/// If it is dropped before the body is read, the delivery has no effect; later, the attempt goes
/// on.
pub struct WebhookFuture(Delivering);

type Delivering = BoxFuture<'static, Delivered>;

impl Future for WebhookFuture {
    type Output = Result<Response<ReplyBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx).map(|delivered| Ok(delivered.into_answer()))
    }
}

impl fmt::Debug for WebhookFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookFuture(..)")
    }
}
