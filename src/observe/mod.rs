//! Reports what happens to deliveries.
//!
//! Each [`DeliveryEvent`] goes to `tracing`, with that feature, and to each [`Observer`], such as
//! `Metrics`. The crate puts no secret, e-mail address, query string or body into it; errors of the
//! handler and the store are reported as they are. [`Observer`] has an example.
//!
//! # Spans and events (feature `tracing`)
//!
//! Each delivery is a span, `firstpromoter.delivery`, with the target `tower_firstpromoter`. The
//! handler runs in it, also after the delivery has ended. A duplicate that joins a running attempt has
//! a span of its own. Field names are OpenTelemetry's where it has one. The span of an event that is
//! [passed on](crate::intercept::InterceptLayer::pass_other_events) ends without an outcome.
//!
//! | field of the span | meaning |
//! |---|---|
//! | `firstpromoter.fulfilment.id` | `data.id` |
//! | `firstpromoter.event.id` | `event.id` |
//! | `firstpromoter.unit` | `data.unit`, its first 40 bytes |
//! | `firstpromoter.amount` | `data.amount` |
//! | `firstpromoter.secret` | the position of the secret that admitted the delivery, from 0 |
//! | `firstpromoter.attempt` | the number of the handler's run |
//! | `firstpromoter.joined` | `true` if another delivery had started the attempt |
//! | `firstpromoter.outcome` | the verdict's [`code`](Verdict::code), or `hung_up` |
//! | `firstpromoter.duration` | seconds from the head to the answer |
//! | `http.response.status_code` | the status of the answer |
//! | `error.type` | the verdict's code, if the status is a `5xx` |
//! | `otel.status_code` | `ERROR`, if the status is a `5xx` |
//!
//! | event | level | fields of its own |
//! |---|---|---|
//! | answered `200`, `202`, `409`, or `422` to another event | info | |
//! | answered another `4xx` | warn | `firstpromoter.problem`, if the body lacks something |
//! | answered `5xx` | error; warn while shutting down | |
//! | the sender hung up | warn | |
//! | an attempt ended and no delivery was waiting | as for an answer with its verdict | `firstpromoter.outcome`, `firstpromoter.attempt` |
//! | the handler returned an error, panicked or took too long; a doubt; not confirmed | error | `exception.message` |
//! | the store returned an error | error | `exception.message` |
//! | a webhook with [`Access::anyone`](crate::Access::anyone) was created | warn | |

#[cfg(feature = "metrics")]
mod metrics;
#[cfg_attr(not(feature = "tracing"), path = "trace_disabled.rs")]
#[cfg_attr(feature = "tracing", path = "trace_enabled.rs")]
mod trace;

use std::{
    any::Any,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use crate::{
    Verdict,
    event::{Amount, Fulfilment, FulfilmentId, Unit},
};

#[cfg(feature = "metrics")]
pub use self::metrics::Metrics;
pub(crate) use self::trace::{Span, access_is_open};

/// Receives delivery events. Called on the request path; must not block.
///
/// Any `Fn(&DeliveryEvent<'_>)` is an observer.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use tower_firstpromoter::{Access, Outcome, Webhook, event::Fulfilment, fulfil_fn, observe::DeliveryEvent};
/// # use tower_firstpromoter::store::MemoryStore;
/// # let handler = fulfil_fn(async |_: Fulfilment| Ok::<_, std::convert::Infallible>(Outcome::Fulfilled));
/// # let store = MemoryStore::new(10);
///
/// static REFUSED: AtomicU64 = AtomicU64::new(0);
///
/// let webhook = Webhook::new(handler, store, Access::query("key", "at least sixteen bytes")?)
///     .observe(|event: &DeliveryEvent<'_>| match event {
///         DeliveryEvent::Answered { verdict, .. } if !verdict.status().is_success() => {
///             REFUSED.fetch_add(1, Ordering::Relaxed);
///         }
///         DeliveryEvent::InDoubt { info, reason, .. } => eprintln!("{}: {reason}", info.id),
///         _ => {}
///     });
/// # Ok::<(), tower_firstpromoter::InvalidAccess>(())
/// ```
pub trait Observer: Send + Sync + 'static {
    /// Receives one event. See [`Observer`] for an example.
    ///
    /// # Panics
    ///
    /// A panic is caught; it changes nothing for the delivery and for other observers.
    fn observe(&self, event: &DeliveryEvent<'_>);
}

impl<C: Fn(&DeliveryEvent<'_>) + Send + Sync + 'static> Observer for C {
    fn observe(&self, event: &DeliveryEvent<'_>) {
        self(event);
    }
}

/// An event in the course of a delivery. See [`Observer`] for an example.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum DeliveryEvent<'a> {
    /// A delivery was answered, or [`Webhook::fulfil`](crate::Webhook::fulfil) returned.
    #[non_exhaustive]
    Answered {
        /// How it ended.
        verdict: Verdict,
        /// The fulfilment, if the body was decoded.
        info: Option<&'a DeliveryInfo>,
        /// The number of the handler's run; 0 if it did not run.
        attempt: u32,
        /// Whether another delivery had started the attempt.
        joined: bool,
        /// The position of the secret that admitted the delivery: 0 is the first one, 1 the first
        /// given to [`or_secret`](crate::Access::or_secret). A secret that admits no more
        /// deliveries can be removed.
        secret: Option<usize>,
        /// What the body lacks, if it was refused for that.
        problem: Option<&'static str>,
        /// The time from the request's head to the answer.
        elapsed: Duration,
    },
    /// The sender hung up before the answer. An attempt that has begun goes on.
    #[non_exhaustive]
    HungUp {
        /// The fulfilment, if the body was decoded.
        info: Option<&'a DeliveryInfo>,
        /// The time from the request's head to the hang-up.
        elapsed: Duration,
    },
    /// An attempt ended and no delivery was waiting. The next delivery gets this verdict.
    #[non_exhaustive]
    EndedLate {
        /// How it ended.
        verdict: Verdict,
        /// The fulfilment.
        info: &'a DeliveryInfo,
        /// The number of the handler's run; 0 if it did not run.
        attempt: u32,
    },
    /// The handler returned an error.
    #[non_exhaustive]
    HandlerFailed {
        /// The fulfilment.
        info: &'a DeliveryInfo,
        /// The error's text, at most 300 characters.
        error: &'a str,
    },
    /// The handler panicked, or was dropped at its time limit.
    #[non_exhaustive]
    HandlerInterrupted {
        /// The fulfilment.
        info: &'a DeliveryInfo,
        /// The panic's message, or the time limit; at most 300 characters.
        reason: &'a str,
        /// Whether the store has undone the attempt; else it is in doubt.
        undone: bool,
    },
    /// The handler, or `was_fulfilled`, does not know whether an attempt took effect.
    #[non_exhaustive]
    InDoubt {
        /// The fulfilment.
        info: &'a DeliveryInfo,
        /// The handler's reason, at most 300 characters.
        reason: &'a str,
    },
    /// FirstPromoter's API did not confirm the fulfilment.
    #[non_exhaustive]
    NotConfirmed {
        /// The fulfilment.
        info: &'a DeliveryInfo,
        /// The reason.
        reason: &'a str,
    },
    /// The store returned an error, panicked, or did not answer in time.
    #[non_exhaustive]
    StoreFailed {
        /// The fulfilment.
        info: &'a DeliveryInfo,
        /// Whether the handler had already run: then its effect may not be recorded.
        after_handler: bool,
        /// The error's text, at most 300 characters.
        error: &'a str,
    },
}

/// Identifies a fulfilment in a log. See [`Observer`] for an example.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeliveryInfo {
    /// `data.id`.
    pub id: FulfilmentId,
    /// `event.id`.
    pub event_id: Option<u64>,
    /// `data.unit`.
    pub unit: Unit,
    /// `data.amount`.
    pub amount: Amount,
}

impl From<&Fulfilment> for DeliveryInfo {
    fn from(fulfilment: &Fulfilment) -> Self {
        Self {
            id: fulfilment.id,
            event_id: fulfilment.event.id,
            unit: fulfilment.unit.clone(),
            amount: fulfilment.amount,
        }
    }
}

/// The observers of a webhook.
#[derive(Clone, Default)]
pub(crate) struct Observers(Vec<Arc<dyn Observer>>);

impl Observers {
    pub(crate) fn add(&mut self, observer: impl Observer) {
        self.0.push(Arc::new(observer));
    }

    pub(crate) fn emit(&self, event: &DeliveryEvent<'_>) {
        // Each guarded on its own: a panic must not affect the fulfilment, keep the event from
        // another observer, or abort in a `drop`.
        let guarded = |observe: &dyn Fn()| {
            drop(catch_unwind(AssertUnwindSafe(observe)).map_err(message));
        };
        guarded(&|| trace::emit(event));
        for observer in &self.0 {
            guarded(&|| observer.observe(event));
        }
    }
}

/// Takes the message out of a panic. A payload of another type is not dropped: that may panic again.
pub(crate) fn message(panic: Box<dyn Any + Send>) -> String {
    match panic.downcast::<&str>().map_err(|panic| panic.downcast::<String>()) {
        Ok(message) => (*message).to_owned(),
        Err(Ok(message)) => *message,
        Err(Err(panic)) => {
            mem::forget(panic);
            "without a message".to_owned()
        }
    }
}
