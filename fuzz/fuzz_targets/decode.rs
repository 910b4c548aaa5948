//! See `laws/decode.rs`.
#![no_main]

#[path = "../laws/decode.rs"]
mod decode;

libfuzzer_sys::fuzz_target!(|input: &[u8]| decode::check(input));
