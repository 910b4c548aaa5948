use std::sync::Arc;

use http::uri::PathAndQuery;

/// The webhook's path.
#[derive(Clone, Debug)]
pub(super) struct Path {
    /// Without a trailing slash.
    base: Arc<str>,
    /// Whether one more segment, the secret, follows.
    secret_below: bool,
}

impl Path {
    #[track_caller]
    pub(super) fn new(path: &str, secret_below: bool) -> Self {
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
        // The length alone tells most of an application's paths apart from the webhook's.
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
        return Some("it has two slashes in a row");
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
