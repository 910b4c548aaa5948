use std::{panic::AssertUnwindSafe, sync::Arc};

use futures::{FutureExt, future::BoxFuture};

use super::Settings;
use crate::{
    BoxError, Fulfil, Outcome, Verdict,
    event::Fulfilment,
    observe::{Facts, Seen, Span},
};

/// How a grant ended, for all who wait for it.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    pub(crate) verdict: Verdict,
    pub(crate) attempt: u32,
    pub(crate) joined: bool,
}

impl Ended {
    pub(crate) fn at(verdict: Verdict) -> Self {
        Self { verdict, attempt: 0, joined: false }
    }
}

/// What a webhook has its rewards granted by: a plain handler, or one that remembers.
// Not for users to implement, though it stands in bounds they meet: so it speaks of `Fulfil`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot grant rewards",
    label = "this handler does not implement `Fulfil`"
)]
pub trait Handler: Send + Sync + 'static {
    #[doc(hidden)]
    fn grant(
        self: Arc<Self>,
        fulfilment: Fulfilment,
        settings: &Arc<Settings>,
        span: &Span,
    ) -> BoxFuture<'static, Ended>;

    /// Whether a grant goes on when the future that `grant` returned is dropped.
    #[doc(hidden)]
    fn goes_on_alone(&self) -> bool;
}

impl<F: Fulfil> Handler for F {
    fn grant(
        self: Arc<Self>,
        fulfilment: Fulfilment,
        settings: &Arc<Settings>,
        _: &Span,
    ) -> BoxFuture<'static, Ended> {
        let settings = Arc::clone(settings);
        Box::pin(async move {
            // The handler takes the fulfilment with it; this is what a failure is told by.
            let facts = Facts::from(&fulfilment);
            let granted = async {
                let outcome = self.fulfil(fulfilment).await;
                outcome.map_err(|error| {
                    BoxError::to_string(&error.into()).chars().take(300).collect::<String>()
                })
            };
            Ended::at(match AssertUnwindSafe(granted).catch_unwind().await {
                Ok(Ok(Outcome::Fulfilled)) => Verdict::Granted,
                Ok(Ok(Outcome::Pending)) => Verdict::Pending,
                Ok(Err(error)) => {
                    settings.observers.tell(&Seen::HandlerFailed { facts: &facts, error: &error });
                    Verdict::Failed
                }
                Err(_panic) => {
                    settings.observers.tell(&Seen::HandlerPanicked { facts: &facts });
                    Verdict::Panicked
                }
            })
        })
    }

    fn goes_on_alone(&self) -> bool {
        false
    }
}
