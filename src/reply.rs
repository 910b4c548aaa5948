//! The few words sent back. FirstPromoter shows the first 1,000 characters of an answer to the
//! account's owner, so each says what happened and what follows, and nothing about the machine.

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

/// The body of an answer: one short JSON object, `{"code": …, "message": …}`.
///
/// ```
/// use http_body::Body;
/// use tower_firstpromoter::ReplyBody;
///
/// // What a service that wraps this one may rely on: the length is known, nothing fails.
/// assert_eq!(ReplyBody::default().size_hint().exact(), Some(0));
/// ```
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

macro_rules! reply {
    ($code:literal, $message:literal) => {
        concat!(r#"{"code":""#, $code, r#"","message":""#, $message, "\"}\n")
    };
}

const fn text(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Granted => reply!("granted", "The reward is granted."),
        Verdict::Pending => reply!("pending", "The application left the reward pending."),
        Verdict::NotPending => {
            reply!("not_pending", "data.status is not pending, so nothing was granted.")
        }
        Verdict::BodyBroken => reply!("body_broken", "The body broke off."),
        Verdict::NotJson => reply!("not_json", "The body is not JSON."),
        Verdict::Unauthorized => {
            reply!("unauthorized", "The webhook's URL lacks the secret, or has a wrong one.")
        }
        Verdict::MethodNotAllowed => reply!("method_not_allowed", "Deliveries are sent by POST."),
        Verdict::BodyTimeout => reply!("body_timeout", "The body did not arrive in time."),
        Verdict::InProgress => {
            reply!("in_progress", "The reward is being granted right now. Send it again.")
        }
        Verdict::BodyTooLarge => reply!("body_too_large", "The body is over the limit."),
        Verdict::UnsupportedMediaType => {
            reply!("unsupported_media_type", "The body must be uncompressed application/json.")
        }
        Verdict::NotAFulfilment => {
            reply!("not_a_fulfilment", "The body is not a fulfilment that can be granted.")
        }
        Verdict::OtherEvent => {
            reply!("other_event", "Only fulfilment_pending events are handled here.")
        }
        Verdict::Failed => reply!("failed", "The reward could not be granted. Send it again."),
        Verdict::Panicked => reply!("panicked", "The grant broke off. Send it again."),
        Verdict::InDoubt => reply!(
            "in_doubt",
            "An earlier attempt was cut off. Whether it granted the reward must be settled first."
        ),
        Verdict::StoreUnavailable => {
            reply!("store_unavailable", "The record of grants is out of reach. Send it again.")
        }
        Verdict::NotRecorded => {
            reply!("not_recorded", "The end of the grant could not be recorded. Send it again.")
        }
        Verdict::Overloaded => reply!("overloaded", "Too many grants are running. Send it again."),
        Verdict::ShuttingDown => {
            reply!("shutting_down", "The application is shutting down. Send it again.")
        }
    }
}

/// The answer for a verdict, and no other way to make one.
pub(crate) fn reply(verdict: Verdict, problem: Option<&'static str>) -> Response<ReplyBody> {
    let body = match problem {
        None => Bytes::from_static(text(verdict).as_bytes()),
        Some(problem) => explained(verdict, problem),
    };
    let mut response = Response::new(ReplyBody(Full::new(body)));
    *response.status_mut() = verdict.status();
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.extensions_mut().insert(verdict);
    response
}

#[cold]
fn explained(verdict: Verdict, problem: &'static str) -> Bytes {
    let code = verdict.code();
    let mut body = serde_json::json!({ "code": code, "message": problem }).to_string();
    body.push('\n');
    body.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_is_short_json_that_names_its_code() {
        for &verdict in Verdict::ALL {
            let body: serde_json::Value = serde_json::from_str(text(verdict)).expect("JSON");
            assert_eq!(body["code"], verdict.code());
            assert!(text(verdict).len() < 1_000);
        }
    }
}
