//! What an operator gets to see.
//!
//! Everything worth knowing about a delivery passes through here once, as a [`Seen`]: to `tracing`
//! and `metrics` where those features are on, and to an [`Observer`] of the application's own.
//! None of it holds a secret, an e-mail address, the query string or the body.

#[cfg_attr(not(feature = "metrics"), path = "metrics_disabled.rs")]
#[cfg_attr(feature = "metrics", path = "metrics_enabled.rs")]
mod metrics;
#[cfg_attr(not(feature = "tracing"), path = "trace_disabled.rs")]
#[cfg_attr(feature = "tracing", path = "trace_enabled.rs")]
mod trace;

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    Verdict,
    event::{Amount, Fulfilment, FulfilmentId, Unit},
};

pub(crate) use self::trace::Span;

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
    /// One thing has happened.
    ///
    /// # Panics
    ///
    /// A panic ends the delivery in an error; a grant that is already recorded stays recorded.
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
        /// The error's text, without what the payload holds of secrets and personal data.
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
        /// The error's text.
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
        trace::tell(seen);
        metrics::tell(seen);
        if let Some(observer) = &self.0 {
            observer.observe(seen);
        }
    }
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Some(..)" } else { "None" })
    }
}

pub(crate) use self::trace::access_is_open;
