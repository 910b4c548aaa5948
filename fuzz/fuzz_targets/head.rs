//! See `laws/head.rs`.
#![no_main]

#[path = "../laws/head.rs"]
mod head;

libfuzzer_sys::fuzz_target!(|input: &[u8]| head::check(input));
