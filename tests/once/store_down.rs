//! The store is out of reach. Before the grant: then there is none, because its traces could not be
//! told from none. After it: then nothing is confirmed, and the reward is in doubt.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use tower_firstpromoter::{
    Access, BoxError, Fulfil, Outcome, Verdict, Webhook,
    event::{Fulfilment, FulfilmentId},
    once::{Begin, Claim, End, MemoryStore, MemoryTx, Once, Record, Store},
};

use crate::{
    Log,
    delivery::{EMAIL, SECRET},
    send,
};

#[derive(Clone, Default)]
struct Faults {
    begin: Arc<AtomicBool>,
    end: Arc<AtomicBool>,
    panic: Arc<AtomicBool>,
}

struct Faulty {
    store: MemoryStore,
    faults: Faults,
}

impl Store for Faulty {
    type Tx = MemoryTx;
    type Error = BoxError;

    async fn begin(&self, claim: &Claim) -> Result<Begin<MemoryTx>, BoxError> {
        if self.faults.panic.load(Ordering::SeqCst) {
            std::panic::resume_unwind(Box::new("a bug in the store"));
        }
        if self.faults.begin.load(Ordering::SeqCst) {
            return Err("connection refused".into());
        }
        let Ok(begin) = self.store.begin(claim).await;
        Ok(begin)
    }

    async fn end(&self, tx: MemoryTx, end: End) -> Result<(), BoxError> {
        if self.faults.end.load(Ordering::SeqCst) {
            return Err(format!("connection reset at user {EMAIL}").into());
        }
        let Ok(()) = self.store.end(tx, end).await;
        Ok(())
    }

    async fn forget(&self, id: FulfilmentId) -> Result<bool, BoxError> {
        let Ok(forgot) = self.store.forget(id).await;
        Ok(forgot)
    }

    async fn in_doubt(&self) -> Result<Vec<Record>, BoxError> {
        let Ok(records) = self.store.in_doubt().await;
        Ok(records)
    }

    async fn settle(&self, id: FulfilmentId, granted: bool) -> Result<bool, BoxError> {
        let Ok(settled) = self.store.settle(id, granted).await;
        Ok(settled)
    }
}

#[derive(Clone, Default)]
struct Counting(Arc<AtomicU32>);

impl Counting {
    fn calls(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }
}

impl Fulfil for Counting {
    type Error = String;

    async fn fulfil(&self, fulfilment: Fulfilment) -> Result<Outcome, String> {
        self.0.fetch_add(1, Ordering::SeqCst);
        match fulfilment.id.get() {
            13 => Err("no such user".to_owned()),
            _ => Ok(Outcome::Fulfilled),
        }
    }

    async fn was_granted(&self, fulfilment: &Fulfilment) -> Result<Option<bool>, String> {
        Ok(Some(fulfilment.id.get() != 13))
    }
}

fn faulty() -> (Webhook<Once>, Faults, Counting, Log) {
    let (faults, handler, log) = (Faults::default(), Counting::default(), Log::default());
    let store = Faulty { store: MemoryStore::new(10), faults: faults.clone() };
    let webhook = Webhook::new(handler.clone(), Access::query("key", SECRET))
        .observe(log.observer())
        .once(store);
    (webhook, faults, handler, log)
}

#[tokio::test]
async fn before_the_grant() {
    let (webhook, faults, handler, log) = faulty();
    faults.begin.store(true, Ordering::SeqCst);
    assert_eq!(send(&webhook, 1).await, Verdict::StoreUnavailable);
    assert_eq!(handler.calls(), 0);
    assert_eq!(
        log.take(),
        [
            "store failed, after_handler false: connection refused",
            "answered store_unavailable, attempt 0",
        ]
    );
    faults.begin.store(false, Ordering::SeqCst);
    assert_eq!(send(&webhook, 1).await, Verdict::Granted);
    assert_eq!(handler.calls(), 1);
}

#[tokio::test]
async fn after_the_grant() {
    let (webhook, faults, handler, log) = faulty();
    faults.end.store(true, Ordering::SeqCst);
    assert_eq!(send(&webhook, 1).await, Verdict::NotRecorded);
    assert_eq!(
        log.take(),
        [
            "store failed, after_handler true: connection reset at user [redacted]",
            "answered not_recorded, attempt 1",
        ]
    );
    // In doubt by now, and `was_granted` knows; but that cannot be taken down, either.
    assert_eq!(send(&webhook, 1).await, Verdict::NotRecorded);
    faults.end.store(false, Ordering::SeqCst);
    assert_eq!(send(&webhook, 1).await, Verdict::Granted);
    assert_eq!(handler.calls(), 1);
}

/// The handler said that nothing was granted. Unless that is taken down, it must be asked again.
#[tokio::test]
async fn after_a_grant_that_failed() {
    let (webhook, faults, handler, _) = faulty();
    faults.end.store(true, Ordering::SeqCst);
    assert_eq!(send(&webhook, 13).await, Verdict::NotRecorded);
    faults.end.store(false, Ordering::SeqCst);
    assert_eq!(send(&webhook, 13).await, Verdict::Failed);
    assert_eq!(handler.calls(), 2);
}

/// A store's own panic takes one delivery with it, and not the reward's place at the desk.
#[tokio::test]
async fn in_a_panic_of_its_own() {
    let (webhook, faults, handler, _) = faulty();
    faults.panic.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        assert_eq!(send(&webhook, 1).await, Verdict::Panicked);
    }
    assert_eq!(handler.calls(), 0);
    faults.panic.store(false, Ordering::SeqCst);
    assert_eq!(send(&webhook, 1).await, Verdict::Granted);
}
