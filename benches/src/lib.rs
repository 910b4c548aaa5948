//! Benchmarks of `tower-firstpromoter` against alternatives. README.md says what is measured and
//! how; `run` is the command.

pub mod cases;
pub mod payload;
pub mod peers;
