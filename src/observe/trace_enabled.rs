//! Writes one span for each delivery, and an event for what an operator should know of it.

use std::time::Duration;

use tracing::{
    Instrument, error,
    field::{Empty, display},
    info,
    instrument::Instrumented,
    warn,
};

use super::{DeliveryEvent, DeliveryInfo};
use crate::{Verdict, verdict::Level};

/// The target of every span and event, whatever the module is called.
const TARGET: &str = "tower_firstpromoter";

/// In bytes. A unit may be as long as the body.
const LONGEST_UNIT: usize = 40;

/// The delivery's span.
#[derive(Clone, Debug)]
pub(crate) struct Span(tracing::Span);

impl Span {
    pub(crate) fn delivery() -> Self {
        // As severe as the most severe event in it: a filter that lets the event through must not
        // drop the fields that identify its fulfilment.
        Self(tracing::error_span!(
            target: TARGET,
            "firstpromoter.delivery",
            firstpromoter.fulfilment.id = Empty,
            firstpromoter.event.id = Empty,
            firstpromoter.unit = Empty,
            firstpromoter.amount = Empty,
            firstpromoter.secret = Empty,
            firstpromoter.attempt = Empty,
            firstpromoter.joined = Empty,
            firstpromoter.outcome = Empty,
            firstpromoter.duration = Empty,
            http.response.status_code = Empty,
            error.type = Empty,
            otel.status_code = Empty,
        ))
    }

    pub(crate) fn current() -> Self {
        Self(tracing::Span::current())
    }

    pub(crate) fn set_secret(&self, position: usize) {
        self.0.record("firstpromoter.secret", position);
    }

    pub(crate) fn set_info(&self, info: &DeliveryInfo) {
        if self.0.is_disabled() {
            return;
        }
        self.0.record("firstpromoter.fulfilment.id", info.id.get());
        if let Some(id) = info.event_id {
            self.0.record("firstpromoter.event.id", id);
        }
        self.0.record("firstpromoter.unit", shortened(info.unit.as_str()));
        self.0.record("firstpromoter.amount", display(info.amount));
    }

    pub(crate) fn set_end(&self, verdict: Verdict, attempt: u32, joined: bool, elapsed: Duration) {
        if self.0.is_disabled() {
            return;
        }
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
        self.0.record("firstpromoter.duration", elapsed.as_secs_f64());
    }

    pub(crate) fn set_hung_up(&self, elapsed: Duration) {
        self.0.record("firstpromoter.outcome", "hung_up");
        self.0.record("firstpromoter.duration", elapsed.as_secs_f64());
    }

    pub(crate) fn instrument<F: Future>(&self, work: F) -> Instrumented<F> {
        work.instrument(self.0.clone())
    }
}

fn shortened(text: &str) -> &str {
    let mut end = text.len().min(LONGEST_UNIT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// An event whose level is only known at run time, which the macros do not take.
macro_rules! event_at {
    ($level:expr, $fields:tt, $line:expr) => {
        match $level {
            Level::Error => error!(target: TARGET, $fields, "{}", $line),
            Level::Warn => warn!(target: TARGET, $fields, "{}", $line),
            Level::Info => info!(target: TARGET, $fields, "{}", $line),
        }
    };
}

pub(super) fn emit(event: &DeliveryEvent<'_>) {
    let failed = |line: &str, reason: &str| {
        error!(target: TARGET, { exception.message = reason }, "{line}");
    };
    match *event {
        DeliveryEvent::Answered { verdict, problem, .. } => {
            event_at!(verdict.level(), { firstpromoter.problem = problem }, verdict.log());
        }
        DeliveryEvent::HungUp { info: Some(_), .. } => {
            warn!(target: TARGET, "the sender hung up before the answer");
        }
        DeliveryEvent::HungUp { info: None, .. } => {
            warn!(target: TARGET, "the sender hung up before its delivery was read");
        }
        DeliveryEvent::EndedLate { verdict, attempt, .. } => event_at!(
            verdict.level(),
            { firstpromoter.outcome = verdict.code(), firstpromoter.attempt = attempt },
            "an attempt ended and no delivery was waiting; the next one gets its verdict"
        ),
        DeliveryEvent::HandlerFailed { error, .. } => {
            failed("the handler returned an error", error);
        }
        DeliveryEvent::HandlerInterrupted { reason, undone: true, .. } => {
            failed("the handler was interrupted; the store has undone the attempt", reason);
        }
        DeliveryEvent::HandlerInterrupted { reason, undone: false, .. } => {
            failed("the handler was interrupted; the attempt is in doubt", reason);
        }
        DeliveryEvent::InDoubt { reason, .. } => {
            failed("whether the attempt took effect is not known", reason);
        }
        DeliveryEvent::NotConfirmed { reason, .. } => {
            failed("FirstPromoter's API did not confirm the fulfilment", reason);
        }
        DeliveryEvent::StoreFailed { after_handler: false, error, .. } => {
            failed("the store failed; the handler was not called", error);
        }
        DeliveryEvent::StoreFailed { after_handler: true, error, .. } => {
            failed("the store failed after the handler; its effect may not be recorded", error);
        }
    }
}

/// Reports that `Access::anyone()` is in use.
pub(crate) fn access_is_open() {
    warn!(
        target: TARGET,
        "this webhook admits anyone: whoever reaches it can forge deliveries"
    );
}
