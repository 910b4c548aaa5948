//! The twin of `trace_enabled.rs` for builds without the feature.

use std::time::Duration;

use super::{DeliveryEvent, DeliveryInfo};
use crate::Verdict;

/// The delivery's span.
#[derive(Clone, Debug)]
pub(crate) struct Span;

impl Span {
    pub(crate) fn delivery() -> Self {
        Self
    }

    pub(crate) fn current() -> Self {
        Self
    }

    pub(crate) fn set_secret(&self, _: usize) {}

    pub(crate) fn set_info(&self, _: &DeliveryInfo) {}

    pub(crate) fn set_end(&self, _: Verdict, _attempt: u32, _joined: bool, _elapsed: Duration) {}

    pub(crate) fn set_hung_up(&self, _elapsed: Duration) {}

    pub(crate) fn instrument<F: Future>(&self, work: F) -> F {
        work
    }
}

pub(super) fn emit(_: &DeliveryEvent<'_>) {}

/// Reports that `Access::anyone()` is in use.
pub(crate) fn access_is_open() {}
