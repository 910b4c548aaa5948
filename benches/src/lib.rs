//! `tower-firstpromoter` beside what one would write, or take, instead. README.md tells what is
//! measured and how; `run` is the command.

pub mod cases;
pub mod payload;
pub mod peers;
