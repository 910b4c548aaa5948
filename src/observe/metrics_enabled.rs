//! The same facts as numbers, through the `metrics` facade.

use std::sync::Once;

use metrics::{Unit::Seconds, counter, describe_counter, describe_histogram, histogram};

use super::{Facts, Seen};
use crate::{Verdict, event::Unit};

const DELIVERIES: &str = "firstpromoter_deliveries_total";
const DURATION: &str = "firstpromoter_delivery_duration_seconds";
const JOINED: &str = "firstpromoter_joined_deliveries_total";
const IN_DOUBT: &str = "firstpromoter_in_doubt_total";
const HANG_UPS: &str = "firstpromoter_hang_ups_total";
const LATE_ENDS: &str = "firstpromoter_late_ends_total";
const HANDLER_ERRORS: &str = "firstpromoter_handler_errors_total";
const PANICS: &str = "firstpromoter_panics_total";
const STORE_ERRORS: &str = "firstpromoter_store_errors_total";

pub(super) fn tell(seen: &Seen<'_>) {
    introduce();
    match *seen {
        Seen::Answered { verdict, facts, joined, elapsed, .. } => {
            let code = verdict.code();
            counter!(DELIVERIES, "code" => code, "unit" => unit(facts)).increment(1);
            // Without a clock it is always zero.
            if cfg!(feature = "tokio") {
                histogram!(DURATION, "code" => code).record(elapsed);
            }
            if joined {
                counter!(JOINED).increment(1);
            }
            if verdict == Verdict::InDoubt {
                counter!(IN_DOUBT).increment(1);
            }
        }
        Seen::HungUp { .. } => counter!(HANG_UPS).increment(1),
        Seen::EndedLate { verdict, .. } => {
            counter!(LATE_ENDS, "code" => verdict.code()).increment(1);
        }
        Seen::HandlerFailed { .. } => counter!(HANDLER_ERRORS).increment(1),
        Seen::HandlerPanicked { .. } => counter!(PANICS).increment(1),
        Seen::StoreFailed { after_handler, .. } => {
            counter!(STORE_ERRORS, "after_handler" => if after_handler { "true" } else { "false" })
                .increment(1);
        }
    }
}

/// A label must not grow with what the sender makes up.
fn unit(facts: Option<&Facts>) -> &'static str {
    let Some(facts) = facts else { return "none" };
    match &facts.unit {
        Unit::FreeMonths => "free_months",
        Unit::Credits => "credits",
        Unit::Points => "points",
        Unit::Cash => "cash",
        Unit::DiscountPercent => "discount_per",
        Unit::MoneyDiscount => "mon_discount",
        Unit::Discount => "discount",
        Unit::Other(_) => "other",
    }
}

/// At the first delivery, and not when a webhook is built: by then the application has installed
/// its recorder.
fn introduce() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        describe_counter!(DELIVERIES, "Deliveries answered, by outcome and unit.");
        describe_histogram!(DURATION, Seconds, "From a delivery's head to its answer, by outcome.");
        describe_counter!(JOINED, "Deliveries that heard the end of a grant begun by another.");
        describe_counter!(IN_DOUBT, "Deliveries of rewards in doubt, which an operator settles.");
        describe_counter!(HANG_UPS, "Deliveries whose sender hung up before the answer.");
        describe_counter!(LATE_ENDS, "Grants that ended when nobody waited any more, by outcome.");
        describe_counter!(HANDLER_ERRORS, "Errors returned by the handler.");
        describe_counter!(PANICS, "Panics of the handler.");
        describe_counter!(STORE_ERRORS, "Errors returned by the store.");
        // An alert on an increase needs the zero before it.
        for name in [JOINED, IN_DOUBT, HANG_UPS, HANDLER_ERRORS, PANICS] {
            counter!(name).increment(0);
        }
        for after_handler in ["false", "true"] {
            counter!(STORE_ERRORS, "after_handler" => after_handler).increment(0);
        }
    });
}
