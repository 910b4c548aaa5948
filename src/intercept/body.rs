use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::webhook::ReplyBody;

pin_project! {
    /// Response body of [`Intercept`](super::Intercept): the application's own, or a webhook's
    /// answer. Its error is the application's. [`Webhook::at`](crate::Webhook::at) has an example.
    #[derive(Debug)]
    pub struct ResponseBody<B> {
        #[pin]
        inner: Inner<B>,
    }
}

pin_project! {
    #[project = InnerProj]
    #[derive(Debug)]
    enum Inner<B> {
        App { #[pin] body: B },
        Webhook { #[pin] body: ReplyBody },
    }
}

impl<B> ResponseBody<B> {
    pub(super) fn app(body: B) -> Self {
        Self { inner: Inner::App { body } }
    }

    pub(super) fn webhook(body: ReplyBody) -> Self {
        Self { inner: Inner::Webhook { body } }
    }
}

impl<B: Body<Data = Bytes>> Body for ResponseBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().inner.project() {
            InnerProj::App { body } => body.poll_frame(cx),
            // Matched by hand: `map` would move the application's frames once more as well.
            InnerProj::Webhook { body } => match body.poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(frame))),
                Poll::Ready(Some(Err(never))) => match never {},
                Poll::Ready(None) => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::App { body } => body.is_end_stream(),
            Inner::Webhook { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::App { body } => body.size_hint(),
            Inner::Webhook { body } => body.size_hint(),
        }
    }
}
