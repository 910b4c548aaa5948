use std::sync::atomic::{AtomicBool, Ordering};

use metrics::{Unit::Seconds, counter, describe_counter, describe_histogram, histogram};

use super::{DeliveryEvent, DeliveryInfo, Observer};
use crate::{Verdict, event::Unit};

const DELIVERIES: &str = "firstpromoter_deliveries_total";
const DURATION: &str = "firstpromoter_delivery_duration_seconds";
const JOINED: &str = "firstpromoter_joined_deliveries_total";
const IN_DOUBT: &str = "firstpromoter_in_doubt_total";
const HANG_UPS: &str = "firstpromoter_hang_ups_total";
const LATE_ENDS: &str = "firstpromoter_late_ends_total";
const HANDLER_ERRORS: &str = "firstpromoter_handler_errors_total";
const INTERRUPTIONS: &str = "firstpromoter_handler_interruptions_total";
const STORE_ERRORS: &str = "firstpromoter_store_errors_total";

/// An [`Observer`] that counts through the `metrics` facade.
///
/// The first event registers these metrics with the recorder that the application has installed:
///
/// | metric | labels | counts |
/// |---|---|---|
/// | `firstpromoter_deliveries_total` | `code`, `unit` | deliveries answered |
/// | `firstpromoter_delivery_duration_seconds` | `code` | a histogram, from the head to the answer |
/// | `firstpromoter_joined_deliveries_total` | | deliveries that joined a running attempt |
/// | `firstpromoter_in_doubt_total` | | answers `in_doubt`, and interrupted attempts that are in doubt: an operator resolves them |
/// | `firstpromoter_hang_ups_total` | | senders that hung up before the answer |
/// | `firstpromoter_late_ends_total` | `code` | attempts that ended when no delivery was waiting |
/// | `firstpromoter_handler_errors_total` | | errors of the handler |
/// | `firstpromoter_handler_interruptions_total` | | panics and timeouts of the handler |
/// | `firstpromoter_store_errors_total` | `after_handler` | errors of the store, before or after the handler |
///
/// `code` is a [`Verdict::code`]. `unit` is a unit that this crate knows, `other`, or `none` where
/// the body was not decoded, so no sender can create labels.
///
/// ```
/// use tower_firstpromoter::{Access, Outcome, Webhook, event::Fulfilment, fulfil_fn, observe::Metrics};
/// # use tower_firstpromoter::store::MemoryStore;
/// # let handler = fulfil_fn(async |_: Fulfilment| Ok::<_, std::convert::Infallible>(Outcome::Fulfilled));
/// # let store = MemoryStore::new(10);
///
/// let webhook = Webhook::new(handler, store, Access::query("key", "at least sixteen bytes")?)
///     .observe(Metrics::new());
/// # Ok::<(), tower_firstpromoter::InvalidAccess>(())
/// ```
#[derive(Debug)]
pub struct Metrics {
    described: AtomicBool,
}

impl Metrics {
    /// Creates the observer. See [`Metrics`] for an example.
    #[expect(clippy::new_without_default, reason = "one way to create it")]
    pub fn new() -> Self {
        Self { described: AtomicBool::new(false) }
    }
}

impl Observer for Metrics {
    fn observe(&self, event: &DeliveryEvent<'_>) {
        // At the first event, when the application has installed its recorder.
        if !self.described.swap(true, Ordering::Relaxed) {
            describe();
        }
        match *event {
            DeliveryEvent::Answered { verdict, info, joined, elapsed, .. } => {
                let code = verdict.code();
                counter!(DELIVERIES, "code" => code, "unit" => unit(info)).increment(1);
                histogram!(DURATION, "code" => code).record(elapsed);
                if joined {
                    counter!(JOINED).increment(1);
                }
                if verdict == Verdict::InDoubt {
                    counter!(IN_DOUBT).increment(1);
                }
            }
            DeliveryEvent::HungUp { .. } => counter!(HANG_UPS).increment(1),
            DeliveryEvent::EndedLate { verdict, .. } => {
                counter!(LATE_ENDS, "code" => verdict.code()).increment(1);
            }
            DeliveryEvent::HandlerFailed { .. } => counter!(HANDLER_ERRORS).increment(1),
            DeliveryEvent::HandlerInterrupted { undone, .. } => {
                counter!(INTERRUPTIONS).increment(1);
                if !undone {
                    counter!(IN_DOUBT).increment(1);
                }
            }
            DeliveryEvent::StoreFailed { after_handler, .. } => {
                let after_handler = if after_handler { "true" } else { "false" };
                counter!(STORE_ERRORS, "after_handler" => after_handler).increment(1);
            }
            // Counted by the verdict's code.
            DeliveryEvent::InDoubt { .. } | DeliveryEvent::NotConfirmed { .. } => {}
        }
    }
}

/// A label must not have as many values as a sender likes.
fn unit(info: Option<&DeliveryInfo>) -> String {
    match info.map(|info| &info.unit) {
        None => "none".to_owned(),
        Some(Unit::Other(_)) => "other".to_owned(),
        Some(known) => known.as_str().to_owned(),
    }
}

fn describe() {
    describe_counter!(DELIVERIES, "Deliveries answered, by code and unit.");
    describe_histogram!(DURATION, Seconds, "From a delivery's head to its answer, by code.");
    describe_counter!(JOINED, "Deliveries that joined a running attempt.");
    describe_counter!(IN_DOUBT, "Answers `in_doubt`, and interrupted attempts that are in doubt.");
    describe_counter!(HANG_UPS, "Deliveries whose sender hung up before the answer.");
    describe_counter!(LATE_ENDS, "Attempts that ended when no delivery was waiting, by code.");
    describe_counter!(HANDLER_ERRORS, "Errors of the handler.");
    describe_counter!(INTERRUPTIONS, "Panics and timeouts of the handler.");
    describe_counter!(STORE_ERRORS, "Errors of the store.");
    // An alert on an increase needs the zero before it.
    for name in [JOINED, IN_DOUBT, HANG_UPS, HANDLER_ERRORS, INTERRUPTIONS] {
        counter!(name).increment(0);
    }
    for after_handler in ["false", "true"] {
        counter!(STORE_ERRORS, "after_handler" => after_handler).increment(0);
    }
}
