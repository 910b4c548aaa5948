use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::{InterceptLayer, ResponseBody, layer::Path};
use crate::webhook::{Delivered, Delivery, Handler, Webhook};

/// An [`InterceptLayer`] that hands events of other types on. Made by
/// [`InterceptLayer::pass_other_events`], where there is an example.
#[must_use]
pub struct PassOtherEventsLayer<F, B> {
    layer: InterceptLayer<F>,
    body: fn(Bytes) -> B,
}

impl<F, B> PassOtherEventsLayer<F, B> {
    pub(super) fn new(layer: InterceptLayer<F>, body: fn(Bytes) -> B) -> Self {
        Self { layer, body }
    }
}

impl<S, F: Handler, B> Layer<S> for PassOtherEventsLayer<F, B> {
    type Service = PassOtherEvents<S, F, B>;

    fn layer(&self, inner: S) -> PassOtherEvents<S, F, B> {
        let (webhook, path) = self.layer.parts();
        PassOtherEvents { inner, webhook, path, body: self.body }
    }
}

impl<F, B> Clone for PassOtherEventsLayer<F, B> {
    fn clone(&self) -> Self {
        Self { layer: self.layer.clone(), body: self.body }
    }
}

impl<F, B> fmt::Debug for PassOtherEventsLayer<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PassOtherEventsLayer").field("layer", &self.layer).finish_non_exhaustive()
    }
}

/// An application with a webhook in front that hands events of other types on. Made by
/// [`PassOtherEventsLayer`]; there is an example at [`InterceptLayer::pass_other_events`].
pub struct PassOtherEvents<S, F, B> {
    inner: S,
    webhook: Webhook<F>,
    path: Path,
    body: fn(Bytes) -> B,
}

impl<S: Clone, F, B> Clone for PassOtherEvents<S, F, B> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            webhook: self.webhook.clone(),
            path: self.path.clone(),
            body: self.body,
        }
    }
}

impl<S: fmt::Debug, F, B> fmt::Debug for PassOtherEvents<S, F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PassOtherEvents")
            .field("inner", &self.inner)
            .field("webhook", &self.webhook)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl<S, F, B, ResBody> Service<Request<B>> for PassOtherEvents<S, F, B>
where
    S: Service<Request<B>, Response = Response<ResBody>> + Clone,
    F: Handler,
    B: Body,
    ResBody: Body<Data = Bytes>,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = PassOtherEventsFuture<S, S::Future, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let kind = if self.path.matches(request.uri().path()) {
            // The one that was made ready goes along: a clone carries no readiness.
            let clone = self.inner.clone();
            let inner = mem::replace(&mut self.inner, clone);
            let delivery = self.webhook.deliver_or_hand_back(request);
            Kind::Webhook { delivery: Box::pin(delivery), inner, body: self.body }
        } else {
            Kind::Inner { future: self.inner.call(request) }
        };
        PassOtherEventsFuture { kind }
    }
}

pin_project! {
    /// The future of a [`PassOtherEvents`]'s response. See
    /// [`InterceptLayer::pass_other_events`] for an example.
    ///
    /// # Cancel safety
    ///
    /// As the application's own; for a delivery as [`WebhookFuture`](crate::webhook::WebhookFuture).
    pub struct PassOtherEventsFuture<S, Fut, B> {
        #[pin]
        kind: Kind<S, Fut, B>,
    }
}

pin_project! {
    #[project = KindProj]
    enum Kind<S, Fut, B> {
        Inner { #[pin] future: Fut },
        Webhook { delivery: Pin<Box<Delivery<B>>>, inner: S, body: fn(Bytes) -> B },
    }
}

impl<S, B, ResBody> Future for PassOtherEventsFuture<S, S::Future, B>
where
    S: Service<Request<B>, Response = Response<ResBody>>,
    B: Body,
{
    type Output = Result<Response<ResponseBody<ResBody>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut kind = self.project().kind;
        loop {
            let future = match kind.as_mut().project() {
                KindProj::Inner { future } => {
                    return future.poll(cx).map_ok(|response| response.map(ResponseBody::app));
                }
                KindProj::Webhook { delivery, inner, body } => {
                    match ready!(delivery.as_mut().poll(cx)) {
                        Delivered::Answer(answer) => {
                            return Poll::Ready(Ok(answer.map(ResponseBody::webhook)));
                        }
                        Delivered::OtherEvent(request) => inner.call(request.map(*body)),
                    }
                }
            };
            kind.set(Kind::Inner { future });
        }
    }
}

impl<S, Fut, B> fmt::Debug for PassOtherEventsFuture<S, Fut, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PassOtherEventsFuture(..)")
    }
}
