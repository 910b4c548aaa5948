//! A transactional store: what a handler puts into `writes` is kept with the record or not at all.

use std::sync::{Arc, Mutex};

use tower_firstpromoter::{
    event::FulfilmentId,
    store::{Begin, Claim, End, MemoryStore, MemoryTx, Record, State, Store},
};

#[derive(Clone)]
pub(crate) struct Undoing {
    store: MemoryStore,
    kept: Arc<Mutex<Vec<u64>>>,
}

pub(crate) struct UndoingTx {
    tx: MemoryTx,
    pub(crate) writes: Vec<u64>,
}

impl Undoing {
    pub(crate) fn new() -> Self {
        Self { store: MemoryStore::new(1_000), kept: Arc::default() }
    }

    pub(crate) fn kept(&self) -> Vec<u64> {
        self.kept.lock().expect("whole").clone()
    }
}

impl Store for Undoing {
    type Tx = UndoingTx;
    type Error = std::convert::Infallible;

    async fn begin(&self, claim: &Claim) -> Result<Begin<UndoingTx>, Self::Error> {
        let with = |tx| UndoingTx { tx, writes: Vec::new() };
        Ok(match self.store.begin(claim).await? {
            Begin::Run { tx, attempt } => Begin::Run { tx: with(tx), attempt },
            Begin::InDoubt { tx, attempt } => Begin::InDoubt { tx: with(tx), attempt },
            Begin::Fulfilled => Begin::Fulfilled,
            Begin::Busy => Begin::Busy,
            Begin::Mismatch => Begin::Mismatch,
        })
    }

    async fn end(&self, tx: UndoingTx, end: End) -> Result<State, Self::Error> {
        let end = match end {
            End::Interrupted(reason) => End::Failed(reason),
            end => end,
        };
        if matches!(end, End::Fulfilled | End::Pending) {
            self.kept.lock().expect("whole").extend(tx.writes);
        }
        self.store.end(tx.tx, end).await
    }

    async fn get(&self, id: FulfilmentId) -> Result<Option<Record>, Self::Error> {
        self.store.get(id).await
    }

    async fn open(&self, limit: usize) -> Result<Vec<Record>, Self::Error> {
        self.store.open(limit).await
    }

    async fn resolve(&self, id: FulfilmentId, fulfilled: bool) -> Result<bool, Self::Error> {
        self.store.resolve(id, fulfilled).await
    }

    async fn forget(&self, id: FulfilmentId) -> Result<bool, Self::Error> {
        self.store.forget(id).await
    }
}
