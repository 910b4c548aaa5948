//! Receives FirstPromoter's fulfilment webhook and grants each reward once.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

mod clock;
pub mod event;
mod fulfil;
pub mod intercept;
pub mod observe;
#[cfg(feature = "tokio")]
#[cfg_attr(docsrs, doc(cfg(feature = "tokio")))]
pub mod once;
mod reply;
#[cfg(feature = "testkit")]
#[cfg_attr(docsrs, doc(cfg(feature = "testkit")))]
pub mod testkit;
mod verdict;
pub mod webhook;

pub use self::{
    fulfil::{
        BoxError, BoxFulfil, Fulfil, FulfilFn, FulfilIn, FulfilService, Outcome, fulfil_fn,
        fulfil_service,
    },
    reply::ReplyBody,
    verdict::Verdict,
    webhook::{Access, Webhook},
};

/// Runs the code in the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
