//! The likely mistakes, and what the compiler says to them: it must name the trait that is missing,
//! and what to do about it, in words a user of this crate knows.
//!
//! After an intended change, `TRYBUILD=overwrite cargo test` records the new messages.

use std::{
    io::{self, Write},
    process::Command,
};

/// The compiler whose words are pinned. Another one words its errors in another way.
const PINNED: &str = "rustc 1.95.";

#[test]
fn what_the_compiler_says() {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("--version").output().expect("a compiler");
    let version = String::from_utf8_lossy(&version.stdout);
    if !version.starts_with(PINNED) {
        // Past the harness, which keeps what a passing test prints.
        let why = format!("its errors are pinned for {PINNED}x, and this is {}", version.trim());
        drop(writeln!(io::stderr(), "compile_fail not run: {why}"));
        return;
    }
    trybuild::TestCases::new().compile_fail("cases/*.rs");
}
