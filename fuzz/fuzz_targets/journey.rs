//! See `laws/journey.rs`.
#![no_main]

#[path = "../laws/journey.rs"]
mod journey;

libfuzzer_sys::fuzz_target!(|input: &[u8]| journey::check(input));
