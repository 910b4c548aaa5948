use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower::Service;

use super::{InterceptFuture, ResponseBody, layer::Path};
use crate::webhook::{Delivery, Handler, Webhook};

/// An application with a webhook in front. Made by [`InterceptLayer`](super::InterceptLayer).
///
/// ```
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_firstpromoter::intercept::Intercept;
/// # use tower_firstpromoter::{Access, Outcome, Webhook, event::Fulfilment, fulfil_fn};
/// # use std::convert::Infallible;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let handler = fulfil_fn(async |_: Fulfilment| Ok::<_, Infallible>(Outcome::Fulfilled));
/// # let webhook = Webhook::new(handler, Access::query("key", "at least sixteen bytes"));
///
/// let app = service_fn(async |_| Ok::<_, Infallible>(http::Response::new("Hello".to_owned())));
/// let app: Intercept<_, _> = webhook.at("/webhooks/firstpromoter").layer(app);
///
/// let home = http::Request::get("/").body(String::new())?;
/// assert_eq!(app.clone().oneshot(home).await?.status(), 200);
/// let stranger = http::Request::post("/webhooks/firstpromoter").body(String::new())?;
/// assert_eq!(app.oneshot(stranger).await?.status(), 401);
/// # Ok(()) }
/// ```
pub struct Intercept<S, F> {
    inner: S,
    webhook: Webhook<F>,
    path: Path,
}

impl<S, F> Intercept<S, F> {
    pub(super) fn new(inner: S, webhook: Webhook<F>, path: Path) -> Self {
        Self { inner, webhook, path }
    }
}

impl<S, F: Handler> Intercept<S, F> {
    /// Out of the way, so that `call` is small enough to vanish in what calls it.
    #[inline(never)]
    fn deliver<B: Body>(&self, request: Request<B>) -> Pin<Box<Delivery<B>>> {
        Box::pin(self.webhook.deliver(request))
    }
}

impl<S: Clone, F> Clone for Intercept<S, F> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), webhook: self.webhook.clone(), path: self.path.clone() }
    }
}

impl<S: fmt::Debug, F> fmt::Debug for Intercept<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intercept")
            .field("inner", &self.inner)
            .field("webhook", &self.webhook)
            .field("path", &self.path)
            .finish()
    }
}

impl<S, F, B, ResBody> Service<Request<B>> for Intercept<S, F>
where
    S: Service<Request<B>, Response = Response<ResBody>>,
    F: Handler,
    B: Body,
    ResBody: Body<Data = Bytes>,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = InterceptFuture<S::Future, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Request<B>) -> Self::Future {
        if self.path.matches(request.uri().path()) {
            InterceptFuture::webhook(self.deliver(request))
        } else {
            InterceptFuture::inner(self.inner.call(request))
        }
    }
}
