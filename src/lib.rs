//! Stub of the second edition.
#![allow(missing_docs, rustdoc::broken_intra_doc_links)]
pub mod event;
pub mod store;
mod verdict;
pub use verdict::Verdict;
/// Any error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
#[cfg(feature = "testkit")]
pub mod testkit;
