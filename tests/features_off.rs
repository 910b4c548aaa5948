//! Without features no database, logging or metrics is among the dependencies, and each feature
//! brings what it is named for.

use std::process::Command;

/// What each feature brings. All of it is absent without features.
const BROUGHT: [(&str, &[&str]); 7] = [
    ("redb", &["redb"]),
    ("postgres", &["sqlx", "sqlx-postgres"]),
    ("sqlite", &["sqlx", "sqlx-sqlite"]),
    ("api", &["jiff"]),
    ("hmac", &["hmac", "sha2", "hex"]),
    ("tracing", &["tracing"]),
    ("metrics", &["metrics"]),
];

#[test]
fn a_dependency_comes_with_its_feature_only() {
    let without = dependencies("");
    let has = |tree: &[String], name: &str| tree.iter().any(|found| found == name);
    assert!(has(&without, "http"), "the list is one: {without:?}");
    for (feature, brought) in BROUGHT {
        let with = dependencies(feature);
        for name in brought {
            assert!(!has(&without, name), "{name} is there without features");
            assert!(has(&with, name), "{feature} brings no {name}");
        }
    }
    // Of tokio: tasks, time and channels, but no sockets and no macros.
    assert!(has(&without, "tokio") && !has(&without, "mio") && !has(&without, "tokio-macros"));
}

#[test]
fn no_feature_is_on_by_default() {
    assert_eq!(tree(&[]), tree(&["--no-default-features"]));
}

/// The names of what a build with these features compiles in.
fn dependencies(features: &str) -> Vec<String> {
    let tree = tree(&["--no-default-features", "--features", features]);
    tree.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

fn tree(features: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["tree", "--edges", "normal", "--prefix", "none", "--offline"])
        .args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")])
        .args(features)
        .output()
        .expect("cargo, which runs this test, runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo tree: {said}");
    String::from_utf8(output.stdout).expect("UTF-8")
}
