use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower::Service;

use super::{InterceptFuture, OtherEvents, Refuse, ResponseBody, path::Path};
use crate::webhook::Webhook;

/// An application with a webhook in front. Created by [`InterceptLayer`](super::InterceptLayer);
/// [`Webhook::at`] has an example.
#[derive(Clone, Debug)]
pub struct Intercept<S, P = Refuse> {
    pub(super) inner: S,
    pub(super) webhook: Webhook,
    pub(super) path: Path,
    pub(super) other_events: P,
}

impl<S, P, B, ResBody> Service<Request<B>> for Intercept<S, P>
where
    S: Service<Request<B>, Response = Response<ResBody>>,
    P: OtherEvents<S, B>,
    B: Body + Send + 'static,
    ResBody: Body<Data = Bytes>,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = InterceptFuture<S, P, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Request<B>) -> Self::Future {
        if self.path.matches(request.uri().path()) {
            self.deliver(request)
        } else {
            InterceptFuture::inner(self.inner.call(request))
        }
    }
}

impl<S, P> Intercept<S, P> {
    // Not inlined, so that `call` is small enough to be.
    #[inline(never)]
    fn deliver<B>(&mut self, request: Request<B>) -> InterceptFuture<S, P, B>
    where
        S: Service<Request<B>>,
        P: OtherEvents<S, B>,
        B: Body + Send + 'static,
    {
        let held = self.other_events.hold(&mut self.inner);
        InterceptFuture::webhook(self.webhook.deliver(request, P::PASS), held)
    }
}
