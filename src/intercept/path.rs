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
    let printable = path.bytes().all(|byte| (0x21..=0x7e).contains(&byte));
    let problems = [
        (!path.starts_with('/'), "it must start with `/`"),
        (path.contains("//"), "it has two slashes in a row"),
        (path.contains(['?', '#']), "it must have no query and no fragment"),
        (
            path.contains(['{', '}', '*', '<', '>']) || path.contains("/:"),
            "it is compared as it stands, without parameters and wildcards",
        ),
        (
            path.split('/').any(|segment| segment == "." || segment == ".."),
            "clients resolve `.` and `..` before they send",
        ),
        (
            !printable || PathAndQuery::try_from(path).is_err(),
            "it must be percent-encoded, as it comes over the wire",
        ),
    ];
    problems.into_iter().find_map(|(found, problem)| found.then_some(problem))
}
