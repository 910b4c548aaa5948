//! One run of the handler for one fulfilment, and what can go wrong in it: one kind of failure in
//! each file, on a paused clock wherever time passes.

use std::{
    convert::Infallible,
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Semaphore, task::JoinHandle};
use tower_firstpromoter::{
    Fulfil, Outcome, Verdict, Webhook,
    event::{Fulfilment, FulfilmentId},
    observe::DeliveryEvent,
    store::{MemoryStore, Record, State, Store},
};

use crate::deliver::deliver;

mod close;
mod deadline;
#[path = "../support/deliver.rs"]
mod deliver;
mod doubts;
mod errors;
#[path = "../support/faulty.rs"]
mod faulty;
mod hang_up;
mod joined;
mod never_ends;
mod observers;
mod overload;
mod payloads;
mod replay;
mod secrets;
mod store_down;
mod store_silent;
mod undoing;

const SECOND: Duration = Duration::from_secs(1);

/// A webhook with a `MemoryStore`.
fn webhook(handler: impl Fulfil) -> Webhook {
    deliver::webhook(handler, MemoryStore::new(10_000))
}

/// Sends one delivery of this fulfilment in a task of its own.
fn sent(webhook: &Webhook, id: u64) -> JoinHandle<Verdict> {
    let webhook = webhook.clone();
    tokio::spawn(async move { deliver(&webhook, id).await })
}

fn fulfilment(id: u64) -> Fulfilment {
    Fulfilment::decode(deliver::body(id)).expect("a fulfilment")
}

async fn record(store: &impl Store, id: u64) -> Record {
    store.get(FulfilmentId::from(id)).await.expect("readable").expect("a record")
}

async fn in_doubt(store: &impl Store) -> Vec<u64> {
    let open = store.open(1_000).await.expect("readable");
    let doubts = open.iter().filter(|record| record.state == State::InDoubt);
    doubts.map(|record| record.id.get()).collect()
}

/// Fulfils when it is told to, and counts.
#[derive(Clone)]
struct Gate {
    calls: Arc<AtomicU32>,
    open: Arc<Semaphore>,
}

impl Gate {
    fn closed() -> Self {
        Self { calls: Arc::default(), open: Arc::new(Semaphore::new(0)) }
    }

    fn opened() -> Self {
        let gate = Self::closed();
        gate.open();
        gate
    }

    fn open(&self) {
        self.open.add_permits(Semaphore::MAX_PERMITS / 2);
    }

    fn calls(&self) -> u32 {
        self.calls.load(Ordering::SeqCst)
    }

    /// Waits for so many calls.
    async fn called(&self, times: u32) {
        while self.calls() < times {
            tokio::task::yield_now().await;
        }
    }
}

impl Fulfil for Gate {
    type Error = Infallible;

    async fn fulfil(&self, _: Fulfilment) -> Result<Outcome, Infallible> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let _ = self.open.acquire().await;
        Ok(Outcome::Fulfilled)
    }
}

/// A handler that never ends.
async fn never_ends(_: Fulfilment) -> Result<Outcome, Infallible> {
    pending().await
}

/// What an observer was told, without the time.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn observer(&self) -> impl Fn(&DeliveryEvent<'_>) + Send + Sync + 'static {
        let log = self.clone();
        move |event| {
            let line = match event {
                DeliveryEvent::Answered { verdict, attempt, joined, .. } => {
                    let joined = if *joined { ", joined" } else { "" };
                    format!("answered {}, attempt {attempt}{joined}", verdict.code())
                }
                DeliveryEvent::HungUp { info, .. } => {
                    format!("hung up on {:?}", info.map(|info| info.id.get()))
                }
                DeliveryEvent::EndedLate { verdict, attempt, .. } => {
                    format!("ended late {}, attempt {attempt}", verdict.code())
                }
                DeliveryEvent::HandlerFailed { error, .. } => format!("failed: {error}"),
                DeliveryEvent::HandlerInterrupted { reason, undone, .. } => {
                    format!("interrupted, undone {undone}: {reason}")
                }
                DeliveryEvent::InDoubt { reason, .. } => format!("in doubt: {reason}"),
                DeliveryEvent::StoreFailed { after_handler, error, .. } => {
                    format!("store failed, after_handler {after_handler}: {error}")
                }
                other => format!("{other:?}"),
            };
            log.0.lock().expect("whole").push(line);
        }
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("whole"))
    }

    /// Waits for this line.
    async fn saw(&self, line: &str) {
        while !self.0.lock().expect("whole").iter().any(|seen| seen == line) {
            tokio::task::yield_now().await;
        }
    }
}
