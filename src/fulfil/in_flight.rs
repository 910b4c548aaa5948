//! The attempts that are running: one task for each fulfilment, to which deliveries listen.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{FutureExt, future::BoxFuture};
use tokio::sync::watch;

use super::{AttemptSettings, FulfilIn, attempt::attempt};
use crate::{
    Verdict,
    event::{Fulfilment, FulfilmentId, PromoterId},
    observe::{DeliveryEvent, DeliveryInfo, Span},
    store::Store,
};

/// The limit of attempts that run at once: a flood of ids must exhaust neither memory nor the store's
/// connections.
const MOST_RUNNING: usize = 256;

/// How an attempt ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) verdict: Verdict,
    /// The number of the handler's run; 0 if it did not run.
    pub(crate) attempt: u32,
}

impl From<Verdict> for Ended {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, attempt: 0 }
    }
}

/// Where an attempt is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Progress {
    Beginning,
    Running,
    Ending,
    Ended(Ended),
}

/// Attempts, without the types of handler and store.
pub(crate) trait Attempts: Send + Sync {
    /// Starts an attempt, or joins the one that is running.
    fn listen(
        self: Arc<Self>,
        fulfilment: Fulfilment,
        settings: &Arc<AttemptSettings>,
        span: &Span,
    ) -> Result<Listener, Verdict>;

    /// Refuses further attempts, and resolves when the running ones have ended.
    fn close(&self) -> BoxFuture<'static, ()>;
}

/// The attempts of one handler and one store.
pub(crate) struct InFlight<H, S> {
    handler: Arc<H>,
    store: S,
    running: Mutex<Running>,
    /// How many tasks have not ended, for `close`.
    tasks: watch::Sender<usize>,
}

/// With the promoter: a delivery of another account must not get this attempt's verdict.
type Key = (FulfilmentId, PromoterId);

#[derive(Default)]
struct Running {
    attempts: HashMap<Key, watch::Sender<Progress>>,
    closed: bool,
}

impl<H, S> InFlight<H, S> {
    pub(crate) fn new(handler: H, store: S) -> Self {
        let (handler, tasks) = (Arc::new(handler), watch::Sender::new(0));
        Self { handler, store, running: Mutex::default(), tasks }
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        // Nothing panics while this is locked.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<H, S> Attempts for InFlight<H, S>
where
    H: FulfilIn<S::Tx>,
    S: Store,
{
    fn listen(
        self: Arc<Self>,
        fulfilment: Fulfilment,
        settings: &Arc<AttemptSettings>,
        span: &Span,
    ) -> Result<Listener, Verdict> {
        let key = (fulfilment.id, fulfilment.promoter.id);
        let mut running = self.running();
        let Running { attempts, closed } = &mut *running;
        let room = attempts.len() < MOST_RUNNING;
        let progress = match attempts.entry(key) {
            Entry::Occupied(attempt) => return Ok(Listener::new(attempt.get(), true)),
            Entry::Vacant(_) if *closed => return Err(Verdict::ShuttingDown),
            Entry::Vacant(_) if !room => return Err(Verdict::Overloaded),
            Entry::Vacant(slot) => slot.insert(watch::Sender::new(Progress::Beginning)).clone(),
        };
        drop(running);

        let listener = Listener::new(&progress, false);
        // From here on the guards remove the attempt, in whichever way it ends.
        let in_flight = RemoveOnDrop { in_flight: Arc::clone(&self), key };
        let task = TaskGuard::new(self.tasks.clone());
        // Boxed once, and not held in each future on its way to the handler.
        let (settings, fulfilment) = (Arc::clone(settings), Box::new(fulfilment));
        let mut run = Box::pin(async move {
            let _task = task;
            let info = DeliveryInfo::from(&*fulfilment);
            let InFlight { handler, store, .. } = &*in_flight.in_flight;
            let ended = attempt(handler, store, fulfilment, &info, &settings, &progress).await;
            // Removed before the listeners are told: a later delivery must ask the store.
            drop(in_flight);
            if progress.receiver_count() == 0 {
                let Ended { verdict, attempt } = ended;
                settings.observers.emit(&DeliveryEvent::EndedLate {
                    verdict,
                    info: &info,
                    attempt,
                });
            }
            progress.send_replace(Progress::Ended(ended));
        });
        // One that never waits is over now. Nothing can drop it in between.
        if run.as_mut().now_or_never().is_none() {
            tokio::spawn(span.instrument(run));
        }
        Ok(listener)
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        self.running().closed = true;
        let mut tasks = self.tasks.subscribe();
        Box::pin(async move {
            // An error means that the webhook is gone, and every task with it.
            let _ = tasks.wait_for(|tasks| *tasks == 0).await;
        })
    }
}

/// Removes an attempt from the map. It is there until this drops, so it cannot be a successor's.
struct RemoveOnDrop<H, S> {
    in_flight: Arc<InFlight<H, S>>,
    key: Key,
}

impl<H, S> Drop for RemoveOnDrop<H, S> {
    fn drop(&mut self) {
        self.in_flight.running().attempts.remove(&self.key);
    }
}

/// Counts a task until it ends.
struct TaskGuard(watch::Sender<usize>);

impl TaskGuard {
    fn new(tasks: watch::Sender<usize>) -> Self {
        tasks.send_if_modified(|tasks| {
            *tasks += 1;
            false // nobody waits for more of them
        });
        Self(tasks)
    }
}

impl Drop for TaskGuard {
    fn drop(&mut self) {
        let Self(tasks) = self;
        tasks.send_if_modified(|running| {
            *running -= 1;
            *running == 0 && tasks.receiver_count() > 0
        });
    }
}

/// Listens to an attempt. Dropping it changes nothing for the attempt.
pub(crate) struct Listener {
    progress: watch::Receiver<Progress>,
    /// Whether another delivery had started the attempt.
    pub(crate) joined: bool,
}

impl Listener {
    fn new(progress: &watch::Sender<Progress>, joined: bool) -> Self {
        Self { progress: progress.subscribe(), joined }
    }

    /// Waits for the attempt's end. Cancel-safe.
    pub(crate) async fn ended(&mut self) -> Ended {
        let ended = self.progress.wait_for(|progress| matches!(progress, Progress::Ended(_))).await;
        match ended.map(|progress| *progress) {
            Ok(Progress::Ended(ended)) => ended,
            // The task ended without a verdict: its runtime was shut down.
            _ => self.unfinished().into(),
        }
    }

    /// Returns the verdict for a delivery that cannot wait any longer.
    pub(crate) fn unfinished(&self) -> Verdict {
        match *self.progress.borrow() {
            Progress::Beginning => Verdict::StoreUnavailable,
            Progress::Running => Verdict::InProgress,
            Progress::Ending => Verdict::NotRecorded,
            Progress::Ended(ended) => ended.verdict,
        }
    }
}
