use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::Response;
use http_body::Body;
use pin_project_lite::pin_project;

use super::ResponseBody;
use crate::webhook::Delivery;

pin_project! {
    /// The future of an [`Intercept`](super::Intercept)'s response, where there is an example.
    ///
    /// # Cancel safety
    ///
    /// As the application's own; for a delivery as [`WebhookFuture`](crate::webhook::WebhookFuture).
    pub struct InterceptFuture<Fut, B> {
        #[pin]
        kind: Kind<Fut, B>,
    }
}

pin_project! {
    #[project = KindProj]
    enum Kind<Fut, B> {
        Inner { #[pin] future: Fut },
        // Boxed, so that all other requests' futures stay as small as the application's own.
        Webhook { delivery: Pin<Box<Delivery<B>>> },
    }
}

impl<Fut, B> InterceptFuture<Fut, B> {
    #[inline]
    pub(super) fn inner(future: Fut) -> Self {
        Self { kind: Kind::Inner { future } }
    }

    #[inline]
    pub(super) fn webhook(delivery: Pin<Box<Delivery<B>>>) -> Self {
        Self { kind: Kind::Webhook { delivery } }
    }
}

impl<Fut, B, ResBody, E> Future for InterceptFuture<Fut, B>
where
    Fut: Future<Output = Result<Response<ResBody>, E>>,
    B: Body,
{
    type Output = Result<Response<ResponseBody<ResBody>>, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().kind.project() {
            KindProj::Inner { future } => {
                future.poll(cx).map_ok(|response| response.map(ResponseBody::app))
            }
            KindProj::Webhook { delivery } => delivery
                .as_mut()
                .poll_answer(cx)
                .map(|answer| Ok(answer.map(ResponseBody::webhook))),
        }
    }
}

impl<Fut, B> fmt::Debug for InterceptFuture<Fut, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InterceptFuture(..)")
    }
}
