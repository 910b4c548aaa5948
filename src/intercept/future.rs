use std::{
    fmt,
    future::Future,
    ops::ControlFlow,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower::Service;

use super::{OtherEvents, ResponseBody};
use crate::webhook::Delivered;

pin_project! {
    /// Response future of [`Intercept`](super::Intercept). [`Webhook::at`](crate::Webhook::at) has an
    /// example.
    ///
    /// # Cancel safety
    ///
    /// That of the inner service's future; for a delivery, that of
    /// [`WebhookFuture`](crate::WebhookFuture).
    pub struct InterceptFuture<S, P, B>
    where
        S: Service<Request<B>>,
        P: OtherEvents<S, B>,
    {
        #[pin]
        kind: Kind<S::Future, P::Held>,
    }
}

pin_project! {
    #[project = KindProj]
    enum Kind<Fut, Held> {
        Inner { #[pin] future: Fut },
        // Boxed, so that other requests' futures stay as small as the application's own.
        Webhook { delivery: BoxFuture<'static, Delivered>, held: Held },
    }
}

impl<S, P, B> InterceptFuture<S, P, B>
where
    S: Service<Request<B>>,
    P: OtherEvents<S, B>,
{
    #[inline]
    pub(super) fn inner(future: S::Future) -> Self {
        Self { kind: Kind::Inner { future } }
    }

    #[inline]
    pub(super) fn webhook(delivery: BoxFuture<'static, Delivered>, held: P::Held) -> Self {
        Self { kind: Kind::Webhook { delivery, held } }
    }
}

impl<S, P, B, ResBody> Future for InterceptFuture<S, P, B>
where
    S: Service<Request<B>, Response = Response<ResBody>>,
    P: OtherEvents<S, B>,
    ResBody: Body<Data = Bytes>,
{
    type Output = Result<Response<ResponseBody<ResBody>>, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut kind = self.project().kind;
        loop {
            let (delivery, held) = match kind.as_mut().project() {
                KindProj::Inner { future } => {
                    return future.poll(cx).map_ok(|response| response.map(ResponseBody::app));
                }
                KindProj::Webhook { delivery, held } => (delivery, held),
            };
            match P::pass(held, ready!(delivery.as_mut().poll(cx))) {
                ControlFlow::Continue(future) => kind.set(Kind::Inner { future }),
                ControlFlow::Break(answer) => {
                    return Poll::Ready(Ok(answer.map(ResponseBody::webhook)));
                }
            }
        }
    }
}

impl<S, P, B> fmt::Debug for InterceptFuture<S, P, B>
where
    S: Service<Request<B>>,
    P: OtherEvents<S, B>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InterceptFuture(..)")
    }
}
