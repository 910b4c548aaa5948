//! The modules of this crate import in one direction: `.ci/import-law` lets `src/` pass, and finds
//! each way to break the law.
#![cfg(unix)]

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn law(src: &Path) -> Output {
    Command::new(format!("{ROOT}/.ci/import-law")).arg(src).output().expect("bash and awk")
}

#[test]
fn the_sources_keep_the_law() {
    let output = law(&Path::new(ROOT).join("src"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn each_way_to_break_it_is_found() {
    let copy = tempfile::tempdir().expect("a directory");
    let src = copy.path().join("src");
    let copied = Command::new("cp").arg("-r").arg(format!("{ROOT}/src")).arg(&src).status();
    assert!(copied.expect("cp").success());

    let lower = |room: &str, other: &str| format!("`{room}` imports from `{other}`");
    let root = |name: &str| format!("`{name}` is imported from the root; name its module");
    for (file, source, expected) in [
        // One direction.
        ("event/a.rs", "use crate::store::Store;", Some((1, lower("event", "store")))),
        ("store/a.rs", "use crate::fulfil::Fulfil;", Some((1, lower("store", "fulfil")))),
        ("fulfil/a.rs", "\nuse crate::webhook::Access;", Some((2, lower("fulfil", "webhook")))),
        ("webhook/a.rs", "use crate::intercept::Pass;", Some((1, lower("webhook", "intercept")))),
        ("verdict/a.rs", "use crate::fulfil::Outcome;", Some((1, lower("verdict", "fulfil")))),
        ("observe/a.rs", "use crate::store::State;", Some((1, lower("observe", "store")))),
        ("webhook/a.rs", "use crate::api::Client;", Some((1, lower("webhook", "api")))),
        ("intercept/a.rs", "use crate::api::Client;", Some((1, lower("intercept", "api")))),
        ("api/a.rs", "use crate::intercept::Pass;", Some((1, lower("api", "intercept")))),
        ("api/a.rs", "use crate::testkit::Simulator;", Some((1, lower("api", "testkit")))),
        ("event/a.rs", "use crate::Verdict;", Some((1, lower("event", "verdict")))),
        // Names at the root, which would hide the module.
        ("store/a.rs", "use crate::Fulfil;", Some((1, root("Fulfil")))),
        (
            "testkit/a.rs",
            "use crate::{\n    Verdict,\n    Webhook,\n};",
            Some((3, root("Webhook"))),
        ),
        ("store/a.rs", "use crate::*;", Some((1, root("*")))),
        ("store/a.rs", "use crate as root;", Some((1, root("crate")))),
        ("clock/mod.rs", "mod disabled;", Some((1, "`clock` has no place in the law".to_owned()))),
        // However it is written.
        (
            "store/a.rs",
            "use crate::{\n    event::{\n        Amount, FulfilmentId,\n    },\n    fulfil::{self, Fulfil},\n};",
            Some((5, lower("store", "fulfil"))),
        ),
        ("store/a.rs", "fn f(_: crate::webhook::Access) {}", Some((1, lower("store", "webhook")))),
        ("store/a.rs", "use super::super::fulfil::Fulfil;", Some((1, lower("store", "fulfil")))),
        ("store/a.rs", "use super::{super::fulfil};", Some((1, lower("store", "fulfil")))),
        ("store/a/mod.rs", "use super::super::fulfil;", Some((1, lower("store", "fulfil")))),
        (
            "store/a.rs",
            "mod tests {\n    use super::super::super::fulfil;\n}",
            Some((2, lower("store", "fulfil"))),
        ),
        // And what keeps it.
        ("store/a.rs", "//! [`Webhook`](crate::Webhook)\n/// crate::fulfil\n// crate::api", None),
        ("store/a.rs", "use super::*;\npub(crate) fn f(_: super::held::Held) {}", None),
        ("store/a.rs", "mod tests {\n    use super::super::held;\n}", None),
        ("webhook/a.rs", "use crate::{BoxError, Verdict, event, store::Store, webhook};", None),
        (
            "api/a.rs",
            "use crate::{\n    fulfil::Fulfil,\n    observe::Span,\n    webhook::Webhook,\n};",
            None,
        ),
        ("testkit/a.rs", "use crate::{BoxError, api::Client, intercept::Pass};", None),
    ] {
        let path = src.join(file);
        fs::create_dir_all(path.parent().expect("a room")).expect("a room");
        fs::write(&path, source).expect("a file");
        let output = law(&src);
        fs::remove_file(path).expect("the file");
        let expected = expected.map(|(line, what)| format!("src/{file}:{line}: {what}\n"));
        let found = String::from_utf8_lossy(&output.stdout);
        let found: String = found.lines().filter(|line| line.contains(file)).collect();
        assert_eq!(found, expected.as_deref().unwrap_or_default().trim_end(), "{file}: {source}");
        assert_eq!(output.status.success(), expected.is_none(), "{file}: {source}");
    }
}
