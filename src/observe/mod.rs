//! What an operator gets to see.
//!
//! Everything worth knowing about a delivery passes through here once, as a [`Seen`]: to `tracing`
//! and `metrics` where those features are on, and to an [`Observer`] of the application's own.
//! None of it holds a secret, an e-mail address, the query string or the body. Requests to other
//! paths are not seen at all. [`Observer`] has an example.
//!
//! # Spans and events (`tracing`)
//!
//! Each delivery is a span, `firstpromoter.delivery`, with the target `tower_firstpromoter`. The
//! handler runs in it, also when that goes on after the delivery, so that its own log lines belong
//! to the reward. A duplicate that waits for a running grant has a span of its own. Fields are
//! recorded as they become known; their names are OpenTelemetry's where it has one. An event that is
//! [handed on](crate::intercept::InterceptLayer::pass_other_events) is the application's: its span
//! ends without an outcome, and it is not counted.
//!
//! | field of the span | what it says |
//! |---|---|
//! | `firstpromoter.fulfilment.id` | `data.id` |
//! | `firstpromoter.event.id` | `event.id`, where there is one |
//! | `firstpromoter.unit` | `data.unit`, its first 40 bytes |
//! | `firstpromoter.amount` | `data.amount`, exactly |
//! | `firstpromoter.attempt` | how often a grant was begun, where it was begun this time |
//! | `firstpromoter.joined` | `true` if it heard the end of a grant that another delivery had begun |
//! | `firstpromoter.outcome` | the [`code`](Verdict::code) of how it ended, or `hung_up` |
//! | `firstpromoter.duration` | seconds from the head to the answer; needs the `tokio` feature |
//! | `http.response.status_code` | what the sender was told |
//! | `error.type` | the same as the outcome, if that is a `5xx` |
//! | `otel.status_code` | `ERROR`, if that is a `5xx` |
//!
//! | event | level | fields of its own |
//! |---|---|---|
//! | answered `200`, `202`, `409`, or `422` to another event | info | |
//! | any other refusal | warn | `firstpromoter.problem`, if a body lacks something |
//! | answered `5xx` | error, and warn while shutting down | |
//! | the sender hung up | warn | |
//! | a grant ended when nobody waited any more | as the answer would have been | `firstpromoter.outcome`, `firstpromoter.attempt` |
//! | the handler or the store returned an error | error | `exception.message`, the first 300 characters |
//! | the handler panicked | error | |
//! | a webhook with [`Access::anyone`](crate::Access::anyone) was built | warn | |
//!
//! # Numbers (`metrics`)
//!
//! The first delivery registers these with whichever recorder the application has installed.
//!
//! | metric | labels | what it counts |
//! |---|---|---|
//! | `firstpromoter_deliveries_total` | `code`, `unit` | deliveries answered |
//! | `firstpromoter_delivery_duration_seconds` | `code` | a histogram, from the head to the answer; needs the `tokio` feature |
//! | `firstpromoter_joined_deliveries_total` | | those that heard the end of a grant begun by another one |
//! | `firstpromoter_in_doubt_total` | | those of rewards in doubt: an operator has to look |
//! | `firstpromoter_hang_ups_total` | | senders that were gone before the answer |
//! | `firstpromoter_late_ends_total` | `code` | grants that ended when nobody waited any more |
//! | `firstpromoter_handler_errors_total` | | errors of the handler |
//! | `firstpromoter_panics_total` | | panics of the handler |
//! | `firstpromoter_store_errors_total` | `after_handler` | errors of the store, before the handler was called or after |
//!
//! `code` is a [`Verdict::code`]. `unit` is a unit that this crate knows, `other`, or `none` where
//! the body was not read so far. So no label grows with what a sender makes up.

#[cfg_attr(not(feature = "metrics"), path = "metrics_disabled.rs")]
#[cfg_attr(feature = "metrics", path = "metrics_enabled.rs")]
mod metrics;
#[cfg_attr(not(feature = "tracing"), path = "trace_disabled.rs")]
#[cfg_attr(feature = "tracing", path = "trace_enabled.rs")]
mod trace;

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use crate::{
    Verdict,
    event::{Amount, Fulfilment, FulfilmentId, Unit},
};

pub(crate) use self::trace::{Span, access_is_open};

/// Is told what happens to deliveries.
///
/// Called in the middle of things: an implementation should count or send, and return. Any
/// `Fn(&Seen<'_>)` is one.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use tower_firstpromoter::{Access, Outcome, Webhook, event::Fulfilment, fulfil_fn, observe::Seen};
/// # use std::convert::Infallible;
/// # let handler = fulfil_fn(async |_: Fulfilment| Ok::<_, Infallible>(Outcome::Fulfilled));
///
/// static REFUSED: AtomicU64 = AtomicU64::new(0);
///
/// let webhook = Webhook::new(handler, Access::query("key", "at least sixteen bytes"))
///     .observe(|seen: &Seen<'_>| {
///         if let Seen::Answered { verdict, .. } = seen {
///             if !verdict.status().is_success() {
///                 REFUSED.fetch_add(1, Ordering::Relaxed);
///             }
///         }
///     });
/// ```
pub trait Observer: Send + Sync + 'static {
    /// One thing has happened. See [`Observer`] for an example.
    ///
    /// # Panics
    ///
    /// A panic is caught and changes nothing: neither the answer nor the grant.
    fn observe(&self, seen: &Seen<'_>);
}

impl<C: Fn(&Seen<'_>) + Send + Sync + 'static> Observer for C {
    fn observe(&self, seen: &Seen<'_>) {
        self(seen);
    }
}

/// One thing that has happened. See [`Observer`] for an example.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Seen<'a> {
    /// A delivery was answered.
    #[non_exhaustive]
    Answered {
        /// How it ended.
        verdict: Verdict,
        /// Which reward it was for, if it was read so far.
        facts: Option<&'a Facts>,
        /// How often a grant of this reward was begun, this time included; 0 without a store, or
        /// when it was not begun this time.
        attempt: u32,
        /// Whether it waited for a grant that another delivery had begun.
        joined: bool,
        /// What exactly is wrong with the body, if that is why it was refused.
        problem: Option<&'static str>,
        /// From the request's head to the answer. Zero without the `tokio` feature.
        elapsed: Duration,
    },
    /// The sender hung up before there was an answer. With a store, the grant goes on.
    #[non_exhaustive]
    HungUp {
        /// Which reward it was for, if it was read so far.
        facts: Option<&'a Facts>,
        /// From the request's head to the hang-up. Zero without the `tokio` feature.
        elapsed: Duration,
    },
    /// A grant has ended after everybody who waited for it was gone. The next delivery of the
    /// reward hears this verdict.
    #[non_exhaustive]
    EndedLate {
        /// How it ended.
        verdict: Verdict,
        /// Which reward it was for.
        facts: &'a Facts,
        /// How often a grant of this reward was begun.
        attempt: u32,
    },
    /// The handler returned an error.
    #[non_exhaustive]
    HandlerFailed {
        /// Which reward it was for.
        facts: &'a Facts,
        /// The first 300 characters of the error's text.
        error: &'a str,
    },
    /// The handler panicked.
    #[non_exhaustive]
    HandlerPanicked {
        /// Which reward it was for.
        facts: &'a Facts,
    },
    /// The store returned an error.
    #[non_exhaustive]
    StoreFailed {
        /// Which reward it was for.
        facts: &'a Facts,
        /// Whether the handler had already run: then what it did is not recorded.
        after_handler: bool,
        /// The first 300 characters of the error's text.
        error: &'a str,
    },
}

/// What identifies a reward in a log.
///
/// ```
/// use tower_firstpromoter::{event::Fulfilment, observe::Facts};
/// # let body = r#"{"event":{"id":9,"type":"fulfilment_pending"},"data":{"id":1,"amount":3,"unit":"credits","promoter":{"id":7}}}"#;
///
/// let facts = Facts::from(&Fulfilment::decode(body)?);
/// assert_eq!(facts.id.get(), 1);
/// assert_eq!(facts.event_id, Some(9));
/// # Ok::<(), tower_firstpromoter::event::DecodeError>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Facts {
    /// `data.id`.
    pub id: FulfilmentId,
    /// `event.id`.
    pub event_id: Option<u64>,
    /// `data.unit`.
    pub unit: Unit,
    /// `data.amount`.
    pub amount: Amount,
}

impl From<&Fulfilment> for Facts {
    fn from(fulfilment: &Fulfilment) -> Self {
        Self {
            id: fulfilment.id,
            event_id: fulfilment.event.id,
            unit: fulfilment.unit.clone(),
            amount: fulfilment.amount,
        }
    }
}

/// All who are told.
#[derive(Clone, Default)]
pub(crate) struct Observers(Option<Arc<dyn Observer>>);

impl Observers {
    pub(crate) fn set(&mut self, observer: impl Observer) {
        self.0 = Some(Arc::new(observer));
    }

    pub(crate) fn tell(&self, seen: &Seen<'_>) {
        // Who watches must not decide what becomes of a reward, nor abort in a `drop`.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            trace::tell(seen);
            metrics::tell(seen);
            if let Some(observer) = &self.0 {
                observer.observe(seen);
            }
        }));
    }
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Some(..)" } else { "None" })
    }
}
