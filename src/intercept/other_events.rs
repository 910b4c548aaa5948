use std::{fmt, mem, ops::ControlFlow};

use bytes::Bytes;
use http::{Request, Response};
use tower::Service;

use crate::webhook::{Delivered, ReplyBody};

/// Decides what an [`InterceptLayer`](super::InterceptLayer) does with events of other types:
/// [`Refuse`] or [`Pass`]. It cannot be implemented outside this crate.
/// [`InterceptLayer::pass_other_events`](super::InterceptLayer::pass_other_events) has an example.
// `Delivered` cannot be named outside.
pub trait OtherEvents<S: Service<Request<B>>, B>: Clone {
    /// What is held while a delivery is read, so that its request can be passed on.
    #[doc(hidden)]
    type Held;

    #[doc(hidden)]
    const PASS: bool;

    /// Takes the ready service and leaves a clone, which carries no readiness.
    #[doc(hidden)]
    fn hold(&self, inner: &mut S) -> Self::Held;

    /// Passes an event of another type on, or returns the answer.
    #[doc(hidden)]
    fn pass(
        held: &mut Self::Held,
        delivered: Delivered,
    ) -> ControlFlow<Response<ReplyBody>, S::Future>;
}

/// Refuses events of other types with `422`: the default. See [`OtherEvents`].
#[derive(Clone, Copy, Debug)]
pub struct Refuse;

impl<S: Service<Request<B>>, B> OtherEvents<S, B> for Refuse {
    type Held = ();

    const PASS: bool = false;

    fn hold(&self, _: &mut S) {}

    fn pass((): &mut (), delivered: Delivered) -> ControlFlow<Response<ReplyBody>, S::Future> {
        ControlFlow::Break(delivered.into_answer())
    }
}

/// Passes events of other types on to the inner service. See [`OtherEvents`].
pub struct Pass<B>(pub(super) fn(Bytes) -> B);

impl<S: Service<Request<B>> + Clone, B> OtherEvents<S, B> for Pass<B> {
    type Held = (S, fn(Bytes) -> B);

    const PASS: bool = true;

    fn hold(&self, inner: &mut S) -> Self::Held {
        let clone = inner.clone();
        (mem::replace(inner, clone), self.0)
    }

    fn pass(
        (inner, body): &mut Self::Held,
        delivered: Delivered,
    ) -> ControlFlow<Response<ReplyBody>, S::Future> {
        match delivered {
            Delivered::OtherEvent(request) => ControlFlow::Continue(inner.call(request.map(*body))),
            answer => ControlFlow::Break(answer.into_answer()),
        }
    }
}

impl<B> Clone for Pass<B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B> Copy for Pass<B> {}

impl<B> fmt::Debug for Pass<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pass")
    }
}
