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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_one_path_with_or_without_a_slash() {
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
    fn refuses_paths_that_never_match() {
        for path in ["", "hook", "/a?b", "/a#b", "/{id}", "/*", "/:id", "/a/../b", "/a b", "/ä"] {
            assert!(never_matches(path).is_some(), "{path}");
        }
        for path in ["/", "/a", "/a/b/", "/a%20b", "/.well-known/a", "/a:b"] {
            assert_eq!(never_matches(path), None, "{path}");
        }
    }
}
