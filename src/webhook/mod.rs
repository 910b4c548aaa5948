//! May it come in, and what does it say?
//!
//! A request travels `admit → read → decode → grant`. The first step looks at the head only, so
//! that a stranger's body is never read; [`Verdict`](crate::Verdict) lists where it can end.
//! [`Webhook`] has an example.

mod access;
mod admit;
mod future;
mod grant;
mod read;
mod settings;

use std::{
    convert::Infallible,
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use http_body::Body;
use tower::Service;

#[cfg(feature = "tokio")]
use crate::{
    FulfilIn,
    once::{Once, Store},
};
use crate::{
    ReplyBody,
    intercept::InterceptLayer,
    observe::{self, Observer},
};
#[cfg(feature = "tokio")]
use std::time::Duration;

pub use self::{access::Access, future::WebhookFuture};
pub(crate) use self::{
    future::{Delivered, Delivery},
    grant::{Ended, Handler},
    settings::Settings,
};

/// Receives FirstPromoter's fulfilments and has them granted.
///
/// It is a [`Service`] for requests with any body, to be mounted where a framework takes services;
/// [`at`](Webhook::at) makes a layer of it, to be wrapped around an application. Cheap to clone.
///
/// ```
/// use std::convert::Infallible;
/// use tower::ServiceExt;
/// use tower_firstpromoter::{Access, Outcome, Verdict, Webhook, event::Fulfilment, fulfil_fn};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let handler = fulfil_fn(async |fulfilment: Fulfilment| {
///     // … put the reward into the database …
///     Ok::<_, Infallible>(Outcome::Fulfilled)
/// });
/// let webhook = Webhook::new(handler, Access::query("key", "at least sixteen bytes"));
///
/// let delivery = http::Request::post("/?key=at+least+sixteen+bytes")
///     .header("content-type", "application/json")
///     .body(r#"{
///         "event": { "type": "fulfilment_pending" },
///         "data": { "id": 2429153, "amount": 3, "unit": "credits", "promoter": { "id": 7 } }
///     }"#.to_owned())?;
/// let answer = webhook.oneshot(delivery).await?;
/// assert_eq!(answer.status(), 200);
/// assert_eq!(answer.extensions().get(), Some(&Verdict::Granted));
/// # Ok(()) }
/// ```
#[must_use]
pub struct Webhook<F> {
    handler: Arc<F>,
    settings: Arc<Settings>,
}

impl<F> Webhook<F> {
    /// A webhook that has `handler` grant what those with `access` send.
    ///
    /// ```
    /// use tower_firstpromoter::{Access, Outcome, Webhook, event::Fulfilment, fulfil_fn};
    ///
    /// let handler = fulfil_fn(async |_: Fulfilment| Ok::<_, std::io::Error>(Outcome::Pending));
    /// let webhook = Webhook::new(handler, Access::query("key", "at least sixteen bytes"));
    /// ```
    pub fn new(handler: F, access: Access) -> Self {
        if access.is_open() {
            observe::access_is_open();
        }
        Self { handler: Arc::new(handler), settings: Arc::new(Settings::new(access)) }
    }

    /// The largest body that is read, in bytes; larger ones are answered with `413`. 256 KiB unless
    /// told otherwise, where a usual delivery has 2.5 KB.
    ///
    /// ```
    /// # use tower_firstpromoter::{Access, Outcome, Webhook, event::Fulfilment, fulfil_fn};
    /// # let handler = fulfil_fn(async |_: Fulfilment| Ok::<_, std::convert::Infallible>(Outcome::Fulfilled));
    /// let webhook = Webhook::new(handler, Access::query("key", "at least sixteen bytes"))
    ///     .body_limit(1024 * 1024);
    /// ```
    pub fn body_limit(mut self, bytes: usize) -> Self {
        Arc::make_mut(&mut self.settings).body_limit = bytes;
        self
    }

    /// Tells `observer` what happens; another call replaces it. See [`Observer`] for an example.
    pub fn observe(mut self, observer: impl Observer) -> Self {
        Arc::make_mut(&mut self.settings).observers.set(observer);
        self
    }

    /// How long a delivery may take, from its head to its answer: 10 seconds unless told otherwise.
    ///
    /// An upload that is not complete by then is answered with `408`. A grant with a store that is
    /// not complete by then is answered with `409` and goes on; the next delivery hears its end. A
    /// grant without a store is left alone, because stopping it half-way would lose it.
    ///
    /// FirstPromoter gives up after 15 seconds, so stay well below that.
    ///
    /// # Panics
    ///
    /// A delivery that has to wait panics on a tokio runtime that was built without `enable_time`; its
    /// grant goes on. On a runtime other than tokio's it has no limit.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tower_firstpromoter::{Access, Outcome, Webhook, event::Fulfilment, fulfil_fn};
    /// # let handler = fulfil_fn(async |_: Fulfilment| Ok::<_, std::convert::Infallible>(Outcome::Fulfilled));
    /// let webhook = Webhook::new(handler, Access::query("key", "at least sixteen bytes"))
    ///     .answer_within(Duration::from_secs(5));
    /// ```
    #[cfg(feature = "tokio")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tokio")))]
    pub fn answer_within(mut self, duration: Duration) -> Self {
        Arc::make_mut(&mut self.settings).answer_within = duration;
        self
    }

    /// Grants each reward once, and remembers it in `store`.
    ///
    /// The handler then runs in a task of its own on the current tokio runtime, so a delivery's
    /// future must be polled within one, or it panics. See [`once`](crate::once) for what it buys.
    ///
    /// ```
    /// use tower_firstpromoter::once::MemoryStore; // forgets: see its page for those that do not
    /// # use tower_firstpromoter::{Access, Outcome, Webhook, event::Fulfilment, fulfil_fn};
    /// # let handler = fulfil_fn(async |_: Fulfilment| Ok::<_, std::convert::Infallible>(Outcome::Fulfilled));
    /// let webhook = Webhook::new(handler, Access::query("key", "at least sixteen bytes"))
    ///     .once(MemoryStore::new(10_000));
    /// ```
    #[cfg(feature = "tokio")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tokio")))]
    pub fn once<S>(self, store: S) -> Webhook<Once>
    where
        S: Store,
        F: FulfilIn<S::Tx>,
    {
        Webhook { handler: Arc::new(Once::new(self.handler, store)), settings: self.settings }
    }
}

impl<F> Webhook<F> {
    /// A layer that answers requests to `path` with this webhook and hands all others to the
    /// service within, untouched.
    ///
    /// The path is compared byte for byte with the request's, and one slash at the end of either
    /// makes no difference, because a redirect would be an error to FirstPromoter. With
    /// [`Access::secret_path`] it is the path above the secret.
    ///
    /// # Panics
    ///
    /// If `path` can never match: it must start with `/`, be written as it comes over the wire
    /// (percent-encoded, without `.`, `..` and `//`), and have no query, no wildcard and no parameter.
    /// With [`Access::secret_path`] also if it is `/`, below which every short path would be ours.
    ///
    /// ```
    /// use tower::{Layer, service_fn};
    /// # use tower_firstpromoter::{Access, Outcome, Webhook, event::Fulfilment, fulfil_fn};
    /// # let handler = fulfil_fn(async |_: Fulfilment| Ok::<_, std::convert::Infallible>(Outcome::Fulfilled));
    /// # let app = service_fn(async |_: http::Request<String>| Ok::<_, std::convert::Infallible>(http::Response::new(String::new())));
    /// let webhook = Webhook::new(handler, Access::query("key", "at least sixteen bytes"));
    /// let app = webhook.at("/webhooks/firstpromoter").layer(app);
    /// ```
    #[track_caller]
    pub fn at(self, path: &str) -> InterceptLayer<F>
    where
        // Here and not on the block, so that its absence is explained and not called a missing method.
        F: Handler,
    {
        InterceptLayer::new(self, path)
    }
}

impl<F: Handler> Webhook<F> {
    pub(crate) fn deliver<B: Body>(&self, request: Request<B>) -> Delivery<B> {
        Delivery::new(self.handler(), Arc::clone(&self.settings), request, false)
    }

    /// Hands another event's request back whole.
    pub(crate) fn deliver_or_hand_back<B: Body>(&self, request: Request<B>) -> Delivery<B> {
        Delivery::new(self.handler(), Arc::clone(&self.settings), request, true)
    }

    fn handler(&self) -> Arc<dyn Handler> {
        Arc::clone(&self.handler) as _
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }
}

#[cfg(feature = "tokio")]
#[cfg_attr(docsrs, doc(cfg(feature = "tokio")))]
impl Webhook<Once> {
    /// Declares that granting the same reward twice does no harm, because the handler sees to it
    /// (by [`idempotency_key`](crate::event::Fulfilment::idempotency_key), or a unique index).
    ///
    /// A reward in doubt is then granted again instead of asking
    /// [`was_granted`](crate::Fulfil::was_granted).
    ///
    /// ```
    /// # use tower_firstpromoter::{Access, Outcome, Webhook, event::Fulfilment, fulfil_fn, once::MemoryStore};
    /// # let handler = fulfil_fn(async |_: Fulfilment| Ok::<_, std::convert::Infallible>(Outcome::Fulfilled));
    /// let webhook = Webhook::new(handler, Access::query("key", "at least sixteen bytes"))
    ///     .once(MemoryStore::new(10_000))
    ///     .handler_is_idempotent();
    /// ```
    pub fn handler_is_idempotent(mut self) -> Self {
        Arc::make_mut(&mut self.settings).handler_is_idempotent = true;
        self
    }

    /// Takes on no new grants, in no clone of this webhook, and returns when the running ones have
    /// ended. New deliveries are answered with `503` from then on; those of a running grant still
    /// hear its end.
    ///
    /// Call it after the server has stopped, and under a time-out of your own:
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// # use std::time::Duration;
    /// # use tower_firstpromoter::{Access, Outcome, Webhook, event::Fulfilment, fulfil_fn, once::MemoryStore};
    /// # let handler = fulfil_fn(async |_: Fulfilment| Ok::<_, std::convert::Infallible>(Outcome::Fulfilled));
    /// # let webhook = Webhook::new(handler, Access::query("key", "at least sixteen bytes")).once(MemoryStore::new(10_000));
    /// let all_ended = tokio::time::timeout(Duration::from_secs(15), webhook.close()).await.is_ok();
    /// # assert!(all_ended);
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the waiting and nothing else; the webhook stays closed.
    pub async fn close(&self) {
        self.handler.close().await;
    }
}

impl<F: Handler, B: Body> Service<Request<B>> for Webhook<F> {
    type Response = Response<ReplyBody>;
    type Error = Infallible;
    type Future = WebhookFuture<B>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> WebhookFuture<B> {
        WebhookFuture::new(self.deliver(request))
    }
}

impl<F> Clone for Webhook<F> {
    fn clone(&self) -> Self {
        Self { handler: Arc::clone(&self.handler), settings: Arc::clone(&self.settings) }
    }
}

impl<F> fmt::Debug for Webhook<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook")
            .field("handler", &std::any::type_name::<F>())
            .field("settings", &self.settings)
            .finish()
    }
}
