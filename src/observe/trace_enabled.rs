//! One span per delivery, and an event for whatever an operator should know of it.

use std::time::Duration;

use tracing::{
    Level, error,
    field::{Empty, display},
    info, warn,
};

use super::{Facts, Seen};
use crate::{Verdict, webhook::Ended};

/// Where all of it comes from, whatever the module is called.
const TARGET: &str = "tower_firstpromoter";

/// In bytes. The sender may write any text for a unit, up to the body's limit.
const LONGEST_UNIT: usize = 40;

/// The delivery's span.
#[derive(Clone, Debug)]
pub struct Span(tracing::Span);

impl Span {
    pub(crate) fn delivery() -> Self {
        // As severe as the most severe event in it: a filter that lets the event through must not
        // take away which reward it is about.
        Self(tracing::error_span!(
            target: TARGET,
            "firstpromoter.delivery",
            firstpromoter.fulfilment.id = Empty,
            firstpromoter.event.id = Empty,
            firstpromoter.unit = Empty,
            firstpromoter.amount = Empty,
            firstpromoter.attempt = Empty,
            firstpromoter.joined = Empty,
            firstpromoter.outcome = Empty,
            firstpromoter.duration = Empty,
            http.response.status_code = Empty,
            error.type = Empty,
            otel.status_code = Empty,
        ))
    }

    pub(crate) fn set_facts(&self, facts: &Facts) {
        if self.0.is_disabled() {
            return;
        }
        self.0.record("firstpromoter.fulfilment.id", facts.id.get());
        if let Some(id) = facts.event_id {
            self.0.record("firstpromoter.event.id", id);
        }
        self.0.record("firstpromoter.unit", bounded(facts.unit.as_str()));
        self.0.record("firstpromoter.amount", display(facts.amount));
    }

    pub(crate) fn set_end(&self, ended: Ended, elapsed: Duration) {
        if self.0.is_disabled() {
            return;
        }
        let Ended { verdict, attempt, joined } = ended;
        let (status, code) = (verdict.status(), verdict.code());
        if attempt > 0 {
            self.0.record("firstpromoter.attempt", attempt);
        }
        if joined {
            self.0.record("firstpromoter.joined", true);
        }
        self.0.record("firstpromoter.outcome", code);
        self.0.record("http.response.status_code", status.as_u16());
        if status.is_server_error() {
            self.0.record("error.type", code);
            self.0.record("otel.status_code", "ERROR");
        }
        self.set_duration(elapsed);
    }

    pub(crate) fn set_hung_up(&self, elapsed: Duration) {
        self.0.record("firstpromoter.outcome", "hung_up");
        self.set_duration(elapsed);
    }

    fn set_duration(&self, elapsed: Duration) {
        // Without a clock there is none.
        if cfg!(feature = "tokio") {
            self.0.record("firstpromoter.duration", elapsed.as_secs_f64());
        }
    }

    pub(crate) fn in_scope<T>(&self, work: impl FnOnce() -> T) -> T {
        self.0.in_scope(work)
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn instrument<F: Future>(&self, work: F) -> tracing::instrument::Instrumented<F> {
        tracing::Instrument::instrument(work, self.0.clone())
    }
}

fn bounded(text: &str) -> &str {
    let mut end = text.len().min(LONGEST_UNIT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// An event whose level is only known at run time, which the macros do not take.
macro_rules! event_at {
    ($level:expr, $fields:tt, $story:expr) => {
        match $level {
            Level::ERROR => error!(target: TARGET, $fields, "{}", $story),
            Level::WARN => warn!(target: TARGET, $fields, "{}", $story),
            _ => info!(target: TARGET, $fields, "{}", $story),
        }
    };
}

pub(super) fn tell(seen: &Seen<'_>) {
    match *seen {
        Seen::Answered { verdict: Verdict::Granted, attempt: 1.., joined: false, .. } => {
            info!(target: TARGET, "the reward is granted, and that is recorded");
        }
        Seen::Answered { verdict, problem, .. } => {
            event_at!(level(verdict), { firstpromoter.problem = problem }, story(verdict));
        }
        Seen::HungUp { facts: Some(_), .. } => {
            warn!(target: TARGET, "the sender hung up before there was an answer");
        }
        Seen::HungUp { facts: None, .. } => {
            warn!(target: TARGET, "the sender hung up before its delivery was read");
        }
        Seen::EndedLate { verdict, attempt, .. } => event_at!(
            level(verdict),
            { firstpromoter.outcome = verdict.code(), firstpromoter.attempt = attempt },
            "the grant ended when nobody waited any more; the next delivery hears how"
        ),
        Seen::HandlerFailed { error, .. } => {
            let story = "the handler returned an error";
            error!(target: TARGET, { exception.message = error }, "{story}");
        }
        Seen::HandlerPanicked { .. } => error!(target: TARGET, "the handler panicked"),
        Seen::StoreFailed { after_handler, error, .. } => {
            let story = if after_handler {
                "the store returned an error, so what the handler did may not be recorded"
            } else {
                "the store returned an error, so the handler was not called"
            };
            error!(target: TARGET, { exception.message = error }, "{story}");
        }
    }
}

/// How much it matters to whoever runs the receiver.
fn level(verdict: Verdict) -> Level {
    match verdict {
        // Part of a restart.
        Verdict::ShuttingDown => Level::WARN,
        // Part of every day: they come again, or need nobody.
        Verdict::InProgress | Verdict::OtherEvent => Level::INFO,
        verdict => match verdict.status() {
            status if status.is_success() => Level::INFO,
            status if status.is_server_error() => Level::ERROR,
            _ => Level::WARN,
        },
    }
}

/// What happened, as whoever runs the receiver would put it.
fn story(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Granted => "the reward is granted",
        Verdict::Pending => "the handler left the reward pending",
        Verdict::NotPending => "not granted: FirstPromoter no longer holds the reward as pending",
        Verdict::BodyBroken => "refused: the body broke off",
        Verdict::NotJson => "refused: the body is not JSON",
        Verdict::Unauthorized => "refused: no secret, or a wrong one",
        Verdict::MethodNotAllowed => "refused: not a POST",
        Verdict::BodyTimeout => "refused: the body did not arrive in time",
        Verdict::InProgress => "not yet: the reward is being granted, the next delivery hears how",
        Verdict::BodyTooLarge => "refused: the body is over the limit",
        Verdict::UnsupportedMediaType => "refused: not declared as plain JSON",
        Verdict::NotAFulfilment => "refused: not a fulfilment that can be granted",
        Verdict::OtherEvent => "refused: an event of another type",
        Verdict::Failed => "not granted: the handler failed, FirstPromoter sends it again",
        Verdict::Panicked => "the handler panicked: what it did is undone, or in doubt",
        Verdict::InDoubt => {
            "in doubt: an earlier attempt was cut off and may have granted the reward; settle it"
        }
        Verdict::StoreUnavailable => "not granted: the store is out of reach",
        Verdict::NotRecorded => "the end of the grant could not be recorded",
        Verdict::Overloaded => "not granted: as many grants are running as may run at once",
        Verdict::ShuttingDown => "not granted: the webhook is closed",
    }
}

/// `Access::anyone()` is in use.
pub(crate) fn access_is_open() {
    warn!(
        target: TARGET,
        "this webhook admits anyone: whoever reaches it can grant themselves rewards"
    );
}
