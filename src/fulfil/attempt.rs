//! One run of the handler for one fulfilment.

use std::{
    fmt::{self, Write as _},
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::FutureExt;
use tokio::{sync::watch, time::timeout};

use super::{
    AttemptSettings, FulfilIn, Outcome,
    in_flight::{Ended, Progress},
};
use crate::{
    BoxError, Verdict,
    event::Fulfilment,
    observe::{DeliveryEvent, DeliveryInfo, Span, message},
    store::{Begin, Claim, End, State, Store},
};

/// The longest reason in a log or a record, in characters.
const LONGEST_REASON: usize = 300;

/// Limit of `begin`, and of `end`. Below the deadline of a delivery.
const STORE_WITHIN: Duration = Duration::from_secs(8);

/// What came of calling the handler.
enum Handled {
    Outcome(Outcome),
    Error(String),
    Panic(String),
    Timeout(String),
    /// Not called: FirstPromoter's API did not confirm the fulfilment.
    NotConfirmed(String),
    /// Not called: `was_fulfilled` returned `Some(true)`.
    WasFulfilled,
    /// Not called: the fulfilment stays in doubt.
    StaysInDoubt(String),
}

/// Runs one attempt: begin, handler, end. Each step is bounded.
pub(super) async fn attempt<H, S>(
    handler: &Arc<H>,
    store: &S,
    fulfilment: Box<Fulfilment>,
    info: &DeliveryInfo,
    settings: &AttemptSettings,
    progress: &watch::Sender<Progress>,
) -> Ended
where
    H: FulfilIn<S::Tx>,
    S: Store,
{
    let emit = |event: DeliveryEvent<'_>| settings.observers.emit(&event);
    let store_failed = |after_handler, error: &str| {
        emit(DeliveryEvent::StoreFailed { info, after_handler, error });
    };

    let claim = Claim { attempt_within: settings.attempt_within, ..Claim::new(&fulfilment) };
    let (mut tx, number, in_doubt) = match begin(store.clone(), claim).await {
        Ok(Begin::Run { tx, attempt }) => (tx, attempt, false),
        Ok(Begin::InDoubt { tx, attempt }) => (tx, attempt, true),
        Ok(Begin::Fulfilled) => return Verdict::Fulfilled.into(),
        Ok(Begin::Busy) => return Verdict::InProgress.into(),
        Ok(Begin::Mismatch) => return Verdict::RecordMismatch.into(),
        Err(error) => {
            store_failed(false, &error);
            return Verdict::StoreUnavailable.into();
        }
    };

    set_progress(progress, Progress::Running);
    let handled = call(&**handler, fulfilment, &mut tx, in_doubt, settings).await;

    set_progress(progress, Progress::Ending);
    let end = match &handled {
        Handled::Outcome(Outcome::Fulfilled) => End::Fulfilled,
        Handled::Outcome(Outcome::Pending) => End::Pending,
        Handled::Outcome(Outcome::InDoubt(reason)) => End::InDoubt(reason.clone()),
        Handled::Error(error) => End::Failed(error.clone()),
        Handled::Panic(reason) | Handled::Timeout(reason) => End::Interrupted(reason.clone()),
        Handled::NotConfirmed(reason) | Handled::StaysInDoubt(reason) => {
            End::NotRun(reason.clone())
        }
        Handled::WasFulfilled => End::WasFulfilled,
    };
    let ended = self::end(store.clone(), tx, end).await;

    let undone = matches!(ended, Ok(State::Failed));
    match &handled {
        Handled::Error(error) => emit(DeliveryEvent::HandlerFailed { info, error }),
        Handled::Panic(reason) | Handled::Timeout(reason) => {
            emit(DeliveryEvent::HandlerInterrupted { info, reason, undone });
        }
        Handled::Outcome(Outcome::InDoubt(reason)) | Handled::StaysInDoubt(reason) => {
            emit(DeliveryEvent::InDoubt { info, reason });
        }
        Handled::NotConfirmed(reason) => emit(DeliveryEvent::NotConfirmed { info, reason }),
        Handled::Outcome(_) | Handled::WasFulfilled => {
            if let Ok(state @ (State::Failed | State::InDoubt)) = ended {
                let error = format!("the handler's transaction was lost; the record is {state}");
                store_failed(true, &error);
            }
        }
    }

    let ran = !matches!(
        handled,
        Handled::NotConfirmed(_) | Handled::WasFulfilled | Handled::StaysInDoubt(_)
    );
    let verdict = match ended {
        Ok(State::Fulfilled) => Verdict::Fulfilled,
        Ok(_) if matches!(handled, Handled::NotConfirmed(_)) => Verdict::NotConfirmed,
        Ok(_) if matches!(handled, Handled::Panic(_)) => Verdict::Panicked,
        Ok(State::Pending) => Verdict::Pending,
        Ok(State::Failed) => Verdict::Failed,
        Ok(State::InDoubt) => Verdict::InDoubt,
        Ok(State::Started) => Verdict::NotRecorded,
        Err(error) => {
            store_failed(true, &error);
            Verdict::NotRecorded
        }
    };
    Ended { verdict, attempt: if ran { number } else { 0 } }
}

/// Sets the phase. Wakes no listener: each reads it only at its deadline.
fn set_progress(progress: &watch::Sender<Progress>, phase: Progress) {
    progress.send_if_modified(|progress| {
        *progress = phase;
        false
    });
}

/// Calls the handler, for at most `attempt_within`, and catches its panic.
async fn call<H, Tx>(
    handler: &H,
    fulfilment: Box<Fulfilment>,
    tx: &mut Tx,
    in_doubt: bool,
    settings: &AttemptSettings,
) -> Handled
where
    H: FulfilIn<Tx>,
{
    let called = AtomicBool::new(false);
    let work = async {
        if in_doubt {
            match handler.was_fulfilled(&fulfilment).await {
                Ok(Some(true)) => return Handled::WasFulfilled,
                Ok(Some(false)) => {}
                Ok(None) => {
                    return Handled::StaysInDoubt("`was_fulfilled` does not know".to_owned());
                }
                Err(error) => return Handled::StaysInDoubt(text(error)),
            }
        }
        if let Some(confirm) = &settings.confirm {
            if let Err(reason) = confirm.confirm(&fulfilment).await {
                return Handled::NotConfirmed(reason);
            }
        }
        called.store(true, Ordering::Relaxed);
        match handler.fulfil_in(*fulfilment, tx).await {
            Ok(Outcome::InDoubt(reason)) => {
                Handled::Outcome(Outcome::InDoubt(shortened(format_args!("{reason}"))))
            }
            Ok(outcome) => Handled::Outcome(outcome),
            Err(error) => Handled::Error(text(error)),
        }
    };
    // Dropped inside the guard at the end of its time: a drop may panic as well.
    let work = async { timeout(settings.attempt_within, work).await };
    let handled = AssertUnwindSafe(work).catch_unwind().await;
    let not_called = |reason| {
        if in_doubt { Handled::StaysInDoubt(reason) } else { Handled::NotConfirmed(reason) }
    };
    let called = called.load(Ordering::Relaxed);
    match handled {
        Ok(Ok(handled)) => handled,
        Err(panic) => {
            let reason = shortened(format_args!("panicked: {}", message(panic)));
            if called { Handled::Panic(reason) } else { not_called(reason) }
        }
        Ok(Err(_elapsed)) => {
            let reason = format!("took longer than {:?}", settings.attempt_within);
            if called { Handled::Timeout(reason) } else { not_called(reason) }
        }
    }
}

async fn begin<S: Store>(store: S, claim: Claim) -> Result<Begin<S::Tx>, String> {
    let begun = {
        let store = store.clone();
        async move { store.begin(&claim).await }
    };
    let late = async move |begun| {
        // The handler will not run: that must not look like a doubt.
        if let Ok(Begin::Run { tx, .. }) = begun {
            let _ = store.end(tx, End::NotRun("the store answered too late".to_owned())).await;
        }
    };
    bounded(begun, late).await?.map_err(text)
}

async fn end<S: Store>(store: S, tx: S::Tx, end: End) -> Result<State, String> {
    bounded(async move { store.end(tx, end).await }, async |_late| ()).await?.map_err(text)
}

/// Waits for `work` at most [`STORE_WITHIN`]. It is never dropped: if it takes longer it goes on in a
/// task of its own, and its answer goes to `late`.
async fn bounded<T, W, L>(work: W, late: impl FnOnce(T) -> L + Send + 'static) -> Result<T, String>
where
    T: Send + 'static,
    W: Future<Output = T> + Send + 'static,
    L: Future<Output = ()> + Send,
{
    let mut work = Box::pin(AssertUnwindSafe(work).catch_unwind().map(|it| it.map_err(message)));
    // A timer costs more than a store in memory.
    let answer = match work.as_mut().now_or_never() {
        Some(answer) => Ok(answer),
        None => timeout(STORE_WITHIN, &mut work).await,
    };
    if let Ok(answer) = answer {
        return answer.map_err(|_message| "the store panicked".to_owned());
    }
    tokio::spawn(Span::current().instrument(async move {
        if let Ok(unheard) = work.await {
            late(unheard).await;
        }
    }));
    Err(format!("the store did not answer within {} s", STORE_WITHIN.as_secs()))
}

/// Formats an error of the application, whose formatting may fail or panic.
fn text(error: impl Into<BoxError>) -> String {
    catch_unwind(AssertUnwindSafe(|| shortened(format_args!("{}", error.into()))))
        .map_err(message)
        .unwrap_or_else(|_message| "without a text".to_owned())
}

/// Formats at most [`LONGEST_REASON`] characters.
fn shortened(text: fmt::Arguments<'_>) -> String {
    struct Shortened {
        text: String,
        left: usize,
    }

    impl fmt::Write for Shortened {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            for character in text.chars() {
                self.left = self.left.checked_sub(1).ok_or(fmt::Error)?;
                self.text.push(character);
            }
            Ok(())
        }
    }

    let mut shortened = Shortened { text: String::new(), left: LONGEST_REASON };
    // An error means that the limit is reached, or that the text cannot be formatted further.
    let _ = shortened.write_fmt(text);
    if shortened.text.is_empty() {
        shortened.text.push_str("without a text");
    }
    shortened.text
}
