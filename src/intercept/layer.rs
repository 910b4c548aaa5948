use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::uri::PathAndQuery;
use tower::Layer;

use super::{Intercept, PassOtherEventsLayer};
use crate::webhook::{Handler, Webhook};

/// Answers the requests to one path with a [`Webhook`]. Made by [`Webhook::at`], where there is an
/// example.
///
/// It must stand outside of whatever could answer in its place, such as a body limit, a redirect or
/// a login, and see the path as it comes over the wire.
#[must_use]
pub struct InterceptLayer<F> {
    webhook: Webhook<F>,
    path: Path,
}

impl<F: Handler> InterceptLayer<F> {
    #[track_caller]
    pub(crate) fn new(webhook: Webhook<F>, path: &str) -> Self {
        let secret_below = webhook.settings().access.is_secret_path();
        Self { webhook, path: Path::new(path, secret_below) }
    }

    /// Hands events of other types on to the service within instead of refusing them with `422`,
    /// for a URL at which all of FirstPromoter's events arrive.
    ///
    /// The request comes with every header as it came and its body whole, in one piece, which
    /// `body` turns into the type that the service takes. It has passed the [`Access`](crate::Access)
    /// check. As it may be called, the service within is held ready while a delivery is read and
    /// granted, which counts against a concurrency limit in it.
    ///
    /// ```
    /// use axum::{Router, body::Body, routing::post};
    /// # use tower_firstpromoter::{Access, Outcome, Webhook, event::Fulfilment, fulfil_fn};
    /// # let handler = fulfil_fn(async |_: Fulfilment| Ok::<_, std::convert::Infallible>(Outcome::Fulfilled));
    /// # async fn other_events() {}
    ///
    /// let webhook = Webhook::new(handler, Access::query("key", "at least sixteen bytes"));
    /// let app: Router = Router::new()
    ///     .route("/webhooks/firstpromoter", post(other_events))
    ///     .layer(webhook.at("/webhooks/firstpromoter").pass_other_events(Body::from));
    /// ```
    pub fn pass_other_events<B>(self, body: fn(Bytes) -> B) -> PassOtherEventsLayer<F, B> {
        PassOtherEventsLayer::new(self, body)
    }

    pub(super) fn parts(&self) -> (Webhook<F>, Path) {
        (self.webhook.clone(), self.path.clone())
    }
}

impl<S, F: Handler> Layer<S> for InterceptLayer<F> {
    type Service = Intercept<S, F>;

    fn layer(&self, inner: S) -> Intercept<S, F> {
        Intercept::new(inner, self.webhook.clone(), self.path.clone())
    }
}

impl<F> Clone for InterceptLayer<F> {
    fn clone(&self) -> Self {
        Self { webhook: self.webhook.clone(), path: self.path.clone() }
    }
}

impl<F> fmt::Debug for InterceptLayer<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InterceptLayer")
            .field("webhook", &self.webhook)
            .field("path", &self.path)
            .finish()
    }
}

/// The path that is ours.
#[derive(Clone, Debug)]
pub(super) struct Path {
    /// Without a slash at its end.
    base: Arc<str>,
    /// Whether one more segment, the secret, belongs to it.
    secret_below: bool,
}

impl Path {
    #[track_caller]
    fn new(path: &str, secret_below: bool) -> Self {
        assert!(
            !(secret_below && path == "/"),
            "`Webhook::at(\"/\")` with a secret path would take every path of one segment",
        );
        if let Some(problem) = never_matches(path) {
            panic!("`Webhook::at({path:?})` would never match a request: {problem}");
        }
        Self { base: path.strip_suffix('/').unwrap_or(path).into(), secret_below }
    }

    #[inline]
    pub(super) fn matches(&self, path: &str) -> bool {
        // The length alone tells most of an application's paths apart from ours.
        let longer = path.len().wrapping_sub(self.base.len());
        (longer <= 1 || self.secret_below) && self.compare(path)
    }

    #[inline(never)]
    fn compare(&self, path: &str) -> bool {
        let Some(rest) = path.strip_prefix(&*self.base) else { return false };
        match rest {
            "" | "/" => true,
            rest => self.secret_below && is_segment(rest),
        }
    }
}

/// `/SECRET` or `/SECRET/`.
fn is_segment(rest: &str) -> bool {
    rest.strip_prefix('/')
        .is_some_and(|segment| !segment.strip_suffix('/').unwrap_or(segment).contains('/'))
}

fn never_matches(path: &str) -> Option<&'static str> {
    if !path.starts_with('/') {
        return Some("it must start with `/`");
    }
    if path.contains("//") {
        return Some("it has two slashes in a row, as no URL of a sender has");
    }
    if path.contains(['?', '#']) {
        return Some("it must have no query and no fragment");
    }
    if path.contains(['{', '}', '*', '<', '>']) || path.contains("/:") {
        return Some("it is compared as it stands, without parameters and wildcards");
    }
    if path.split('/').any(|segment| segment == "." || segment == "..") {
        return Some("clients resolve `.` and `..` before they send");
    }
    if path.bytes().any(|byte| !(0x21..=0x7e).contains(&byte))
        || PathAndQuery::try_from(path).is_err()
    {
        return Some("it must be percent-encoded, as it comes over the wire");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_requests_are_ours() {
        for (path, secret_below, request, expected) in [
            ("/hook", false, "/hook", true),
            ("/hook", false, "/hook/", true),
            ("/hook/", false, "/hook", true),
            ("/hook", false, "/hook//", false),
            ("/hook", false, "/hooks", false),
            ("/hook", false, "/hook/secret", false),
            ("/hook", false, "/Hook", false),
            ("/hook", false, "/", false),
            ("/hook", false, "*", false),
            ("/", false, "/", true),
            ("/", false, "/hook", false),
            ("/h%6Fok", false, "/hook", false),
            ("/hook", true, "/hook/secret", true),
            ("/hook", true, "/hook/secret/", true),
            ("/hook", true, "/hook", true),
            ("/hook", true, "/hook/secret/more", false),
            ("/hook", true, "/hooksecret", false),
        ] {
            let found = Path::new(path, secret_below).matches(request);
            assert_eq!(found, expected, "{path} {secret_below} {request}");
        }
    }

    #[test]
    fn paths_that_never_match() {
        for path in ["", "hook", "/a?b", "/a#b", "/{id}", "/*", "/:id", "/a/../b", "/a b", "/ä"] {
            assert!(never_matches(path).is_some(), "{path}");
        }
        for path in ["/", "/a", "/a/b/", "/a%20b", "/.well-known/a", "/a:b"] {
            assert_eq!(never_matches(path), None, "{path}");
        }
    }
}
