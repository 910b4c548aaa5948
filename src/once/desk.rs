//! One detached task per reward, to which requests listen.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures::{
    FutureExt,
    channel::oneshot,
    future::{BoxFuture, Shared, join_all},
};

use super::{Begin, Claim, End, Store};
use crate::{
    BoxError, FulfilIn, Outcome, Verdict,
    event::{Fulfilment, FulfilmentId},
    observe::{Facts, Seen, Span},
    webhook::{Ended, Handler, Settings},
};

/// So many rewards may be in the making at once; further ones are told to come back. A flood of ids
/// must exhaust neither memory nor the store's connections.
const MOST_RUNNING: usize = 256;

/// The handler of a [`Webhook`](crate::Webhook) that grants once, made by
/// [`Webhook::once`](crate::Webhook::once), where there is an example.
#[derive(Clone)]
pub struct Once(Arc<dyn Listen>);

impl Once {
    pub(crate) fn new<F, S>(handler: Arc<F>, store: S) -> Self
    where
        F: FulfilIn<S::Tx>,
        S: Store,
    {
        Self(Arc::new(Desk { handler, store, running: Mutex::default() }))
    }

    pub(crate) async fn close(&self) {
        let running = self.0.close();
        join_all(running).await;
    }
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Once(..)")
    }
}

impl Handler for Once {
    fn grant(
        self: Arc<Self>,
        fulfilment: Fulfilment,
        settings: &Arc<Settings>,
        span: &Span,
    ) -> BoxFuture<'static, Ended> {
        match Arc::clone(&self.0).listen(fulfilment, settings, span) {
            Ok(listener) => Box::pin(listener),
            Err(verdict) => Box::pin(std::future::ready(Ended::at(verdict))),
        }
    }

    fn goes_on_alone(&self) -> bool {
        true
    }
}

/// A [`Desk`] whose handler and store nobody needs to know.
trait Listen: Send + Sync {
    fn listen(
        self: Arc<Self>,
        fulfilment: Fulfilment,
        settings: &Arc<Settings>,
        span: &Span,
    ) -> Result<Listener, Verdict>;

    fn close(&self) -> Vec<Shared<oneshot::Receiver<Ended>>>;
}

struct Desk<F, S> {
    handler: Arc<F>,
    store: S,
    running: Mutex<Running>,
}

#[derive(Default)]
struct Running {
    grants: HashMap<FulfilmentId, Grant>,
    closed: bool,
}

/// A grant in the making.
#[derive(Clone)]
struct Grant {
    end: Shared<oneshot::Receiver<Ended>>,
    listeners: Arc<AtomicUsize>,
}

impl Grant {
    fn listener(&self, joined: bool) -> Listener {
        self.listeners.fetch_add(1, Ordering::Relaxed);
        Listener { grant: self.clone(), joined }
    }
}

/// A request that waits for a grant's end. Dropping it takes nothing from the grant.
struct Listener {
    grant: Grant,
    joined: bool,
}

impl Future for Listener {
    type Output = Ended;

    fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<Ended> {
        let joined = self.joined;
        self.grant.end.poll_unpin(cx).map(|end| match end {
            Ok(end) => Ended { joined, ..end },
            // The task is gone without a word: the store panicked, or the runtime went down.
            Err(oneshot::Canceled) => Ended { joined, ..Ended::at(Verdict::Panicked) },
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.grant.listeners.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<F, S> Desk<F, S> {
    /// Nothing panics while this is held, so a poisoned lock is as good as any.
    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F, S> Listen for Desk<F, S>
where
    F: FulfilIn<S::Tx>,
    S: Store,
{
    fn listen(
        self: Arc<Self>,
        fulfilment: Fulfilment,
        settings: &Arc<Settings>,
        span: &Span,
    ) -> Result<Listener, Verdict> {
        let id = fulfilment.id;
        let mut running = self.running();
        let Running { grants, closed } = &mut *running;
        let room = grants.len() < MOST_RUNNING;
        let slot = match grants.entry(id) {
            Entry::Occupied(grant) => return Ok(grant.get().listener(true)),
            Entry::Vacant(_) if *closed => return Err(Verdict::ShuttingDown),
            Entry::Vacant(_) if !room => return Err(Verdict::Overloaded),
            Entry::Vacant(slot) => slot,
        };
        let (speak, end) = oneshot::channel();
        let grant = Grant { end: end.shared(), listeners: Arc::default() };
        let listener = grant.listener(false);
        let listeners = Arc::clone(&grant.listeners);
        slot.insert(grant);
        drop(running);

        // From here on the guard is what takes the grant off the desk, in whichever way it ends.
        let leave = Leave { desk: Arc::clone(&self), id };
        let settings = Arc::clone(settings);
        tokio::spawn(span.instrument(async move {
            let facts = Facts::from(&fulfilment);
            let ended = leave.desk.run(fulfilment, &facts, &settings).await;
            // First leave, then speak: whoever comes later must ask the store, not us.
            drop(leave);
            if listeners.load(Ordering::Relaxed) == 0 {
                let Ended { verdict, attempt, .. } = ended;
                settings.observers.tell(&Seen::EndedLate { verdict, facts: &facts, attempt });
            }
            // Last of all: `close` returns by it.
            let _ = speak.send(ended);
        }));
        Ok(listener)
    }

    fn close(&self) -> Vec<Shared<oneshot::Receiver<Ended>>> {
        let mut running = self.running();
        running.closed = true;
        running.grants.values().map(|grant| grant.end.clone()).collect()
    }
}

/// Takes a grant off the desk. It stands there until this one drops, so it cannot be a successor's.
struct Leave<F, S> {
    desk: Arc<Desk<F, S>>,
    id: FulfilmentId,
}

impl<F, S> Drop for Leave<F, S> {
    fn drop(&mut self) {
        self.desk.running().grants.remove(&self.id);
    }
}

impl<F, S> Desk<F, S>
where
    F: FulfilIn<S::Tx>,
    S: Store,
{
    async fn run(&self, fulfilment: Fulfilment, facts: &Facts, settings: &Settings) -> Ended {
        let cut = |error: BoxError| error.to_string().chars().take(300).collect::<String>();
        let store_failed = |error: BoxError, after_handler| {
            let error = cut(error);
            settings.observers.tell(&Seen::StoreFailed { facts, after_handler, error: &error });
        };

        let claim = Claim::from(&fulfilment).with_in_tx(F::IN_TX && S::UNDOES);
        let begun = self.store.begin(&claim).await.map_err(Into::into);
        let (mut tx, attempt) = match begun {
            Ok(Begin::Granted) => return Ended::at(Verdict::Granted),
            Ok(Begin::Busy) => return Ended::at(Verdict::InProgress),
            Ok(Begin::Run { tx, attempt }) => (tx, attempt),
            Ok(Begin::InDoubt { tx, attempt }) => {
                let granted = if settings.handler_is_idempotent {
                    Some(false)
                } else {
                    self.was_granted(&fulfilment, facts, settings).await
                };
                match granted {
                    Some(false) => (tx, attempt),
                    Some(true) => {
                        let verdict = match self.store.end(tx, End::Granted).await {
                            Ok(()) => Verdict::Granted,
                            Err(error) => {
                                store_failed(error.into(), true);
                                Verdict::NotRecorded
                            }
                        };
                        return Ended { attempt, ..Ended::at(verdict) };
                    }
                    // Dropping the transaction leaves the doubt where it is.
                    None => return Ended { attempt, ..Ended::at(Verdict::InDoubt) },
                }
            }
            Err(error) => {
                store_failed(error, false);
                return Ended::at(Verdict::StoreUnavailable);
            }
        };

        let handled = async {
            let outcome = self.handler.fulfil_in(fulfilment, &mut tx).await;
            outcome.map_err(|error| cut(error.into()))
        };
        let handled = AssertUnwindSafe(handled).catch_unwind().await;

        let (end, verdict) = match handled {
            Ok(Ok(Outcome::Fulfilled)) => (End::Granted, Verdict::Granted),
            Ok(Ok(Outcome::Pending)) => (End::Pending, Verdict::Pending),
            Ok(Err(error)) => {
                settings.observers.tell(&Seen::HandlerFailed { facts, error: &error });
                (End::Failed(error), Verdict::Failed)
            }
            Err(_panic) => {
                settings.observers.tell(&Seen::HandlerPanicked { facts });
                if !claim.in_tx() {
                    // What did it do? The dropped transaction says that nobody knows.
                    return Ended { attempt, ..Ended::at(Verdict::Panicked) };
                }
                (End::Failed("the handler panicked".to_owned()), Verdict::Panicked)
            }
        };
        let verdict = match self.store.end(tx, end).await {
            Ok(()) => verdict,
            Err(error) => {
                store_failed(error.into(), true);
                Verdict::NotRecorded
            }
        };
        Ended { attempt, ..Ended::at(verdict) }
    }

    async fn was_granted(
        &self,
        fulfilment: &Fulfilment,
        facts: &Facts,
        settings: &Settings,
    ) -> Option<bool> {
        let asked = async {
            let granted = self.handler.was_granted(fulfilment).await;
            granted.map_err(|error| {
                BoxError::to_string(&error.into()).chars().take(300).collect::<String>()
            })
        };
        match AssertUnwindSafe(asked).catch_unwind().await {
            Ok(Ok(granted)) => granted,
            Ok(Err(error)) => {
                settings.observers.tell(&Seen::HandlerFailed { facts, error: &error });
                None
            }
            Err(_panic) => {
                settings.observers.tell(&Seen::HandlerPanicked { facts });
                None
            }
        }
    }
}
