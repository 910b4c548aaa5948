//! Benchmarks of `tower-firstpromoter` against alternatives; see README.md.

pub mod cases;
pub mod payload;
pub mod peers;
