use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;

use crate::Verdict;

/// The body of an answer: one short JSON object, `{"code": …, "message": …}`, of known length. The
/// example of [`Webhook`](crate::Webhook) gets one.
#[derive(Debug, Default)]
pub struct ReplyBody(Full<Bytes>);

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// Creates the answer of a verdict; there is no other way to create one.
pub(super) fn reply(verdict: Verdict, problem: Option<&'static str>) -> Response<ReplyBody> {
    let body = match problem {
        None => Bytes::from_static(verdict.answer().as_bytes()),
        Some(problem) => {
            let body = serde_json::json!({ "code": verdict.code(), "message": problem });
            format!("{body}\n").into()
        }
    };
    let mut response = Response::new(ReplyBody(Full::new(body)));
    *response.status_mut() = verdict.status();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if verdict == Verdict::MethodNotAllowed {
        headers.insert(header::ALLOW, HeaderValue::from_static("POST"));
    }
    response.extensions_mut().insert(verdict);
    response
}
