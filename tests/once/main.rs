//! Granted once: one failure story a file.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering},
};

use tokio::sync::Semaphore;
use tower::ServiceExt;
use tower_firstpromoter::{
    Access, Fulfil, Outcome, Verdict, Webhook,
    event::Fulfilment,
    observe::Seen,
    once::{MemoryStore, Once},
};

use crate::delivery::{SECRET, delivery};

mod close;
mod deadline;
#[path = "../support/delivery.rs"]
mod delivery;
mod hang_up;
mod joined;
mod no_timer;
mod overload;
mod panic;
mod private;
mod store_down;

/// Sends one delivery of this reward and waits for how it ends.
async fn send(webhook: &Webhook<Once>, id: u64) -> Verdict {
    let answer = webhook.clone().oneshot(delivery(id)).await.expect("infallible");
    let verdict = *answer.extensions().get().expect("every answer bears its verdict");
    assert_eq!(answer.status(), Verdict::status(verdict));
    verdict
}

/// A webhook with a memory.
fn webhook(handler: impl Fulfil) -> Webhook<Once> {
    Webhook::new(handler, Access::query("key", SECRET)).once(MemoryStore::new(10_000))
}

/// Grants when it is told to, and counts.
#[derive(Clone)]
struct Gate {
    calls: Arc<AtomicU32>,
    open: Arc<Semaphore>,
}

impl Gate {
    fn closed() -> Self {
        Self { calls: Arc::default(), open: Arc::new(Semaphore::new(0)) }
    }

    fn open(&self) {
        self.open.add_permits(Semaphore::MAX_PERMITS / 2);
    }

    fn calls(&self) -> u32 {
        self.calls.load(Ordering::SeqCst)
    }

    /// Until so many calls were made.
    async fn called(&self, times: u32) {
        while self.calls() < times {
            tokio::task::yield_now().await;
        }
    }
}

impl Fulfil for Gate {
    type Error = std::convert::Infallible;

    async fn fulfil(&self, _: Fulfilment) -> Result<Outcome, Self::Error> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let _ = self.open.acquire().await;
        Ok(Outcome::Fulfilled)
    }
}

/// What an observer was told, in its `Debug` form without the time.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn observer(&self) -> impl Fn(&Seen<'_>) + Send + Sync + 'static {
        let log = self.clone();
        move |seen| {
            let line = match seen {
                Seen::Answered { verdict, attempt, joined, .. } => {
                    let joined = if *joined { ", joined" } else { "" };
                    format!("answered {}, attempt {attempt}{joined}", verdict.code())
                }
                Seen::HungUp { facts, .. } => {
                    format!("hung up on {:?}", facts.map(|facts| facts.id.get()))
                }
                Seen::EndedLate { verdict, attempt, .. } => {
                    format!("ended late {}, attempt {attempt}", verdict.code())
                }
                Seen::HandlerFailed { error, .. } => format!("failed: {error}"),
                Seen::HandlerPanicked { .. } => "panicked".to_owned(),
                Seen::StoreFailed { after_handler, error, .. } => {
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

    /// Until this was seen.
    async fn saw(&self, line: &str) {
        while !self.0.lock().expect("whole").iter().any(|seen| seen == line) {
            tokio::task::yield_now().await;
        }
    }
}
