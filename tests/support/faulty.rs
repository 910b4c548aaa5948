//! A memory store whose `begin` and `end` fail as they are told.

#![allow(dead_code, reason = "each test binary uses its part of this")]

use std::{
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use tower_firstpromoter::{
    BoxError,
    event::FulfilmentId,
    store::{Begin, Claim, End, MemoryStore, MemoryTx, Record, State, Store},
};

pub(crate) const DOWN: &str = "postgres://user:password@db is down";

#[derive(Clone, Copy)]
pub(crate) enum Fault {
    None,
    /// Returns an error, or panics in making it.
    Fails(fn() -> BoxError),
    /// As `Fails`, after it waited for something.
    FailsLater(fn() -> BoxError),
    /// Does nothing and never returns.
    Hangs,
    /// Works after this time.
    WorksAfter(Duration),
    /// Works at once, and returns after this time.
    ReturnsAfter(Duration),
}

impl Fault {
    pub(crate) const DOWN: Self = Self::Fails(|| DOWN.into());

    async fn before(self) -> Result<(), BoxError> {
        match self {
            Self::Fails(error) => Err(error()),
            Self::FailsLater(error) => {
                tokio::task::yield_now().await;
                Err(error())
            }
            Self::Hangs => pending().await,
            Self::WorksAfter(time) => {
                tokio::time::sleep(time).await;
                Ok(())
            }
            Self::None | Self::ReturnsAfter(_) => Ok(()),
        }
    }

    async fn after(self) {
        if let Self::ReturnsAfter(time) = self {
            tokio::time::sleep(time).await;
        }
    }
}

#[derive(Clone)]
pub(crate) struct Faulty {
    pub(crate) store: MemoryStore,
    /// Of `begin` and of `end`.
    faults: Arc<Mutex<(Fault, Fault)>>,
}

impl Faulty {
    pub(crate) fn new(begin: Fault, end: Fault) -> Self {
        Self { store: MemoryStore::new(1_000), faults: Arc::new(Mutex::new((begin, end))) }
    }

    pub(crate) fn set(&self, begin: Fault, end: Fault) {
        *self.faults.lock().expect("whole") = (begin, end);
    }

    fn faults(&self) -> (Fault, Fault) {
        *self.faults.lock().expect("whole")
    }
}

impl Store for Faulty {
    type Tx = MemoryTx;
    type Error = BoxError;

    async fn begin(&self, claim: &Claim) -> Result<Begin<MemoryTx>, BoxError> {
        let (fault, _) = self.faults();
        fault.before().await?;
        let begun = self.store.begin(claim).await?;
        fault.after().await;
        Ok(begun)
    }

    async fn end(&self, tx: MemoryTx, end: End) -> Result<State, BoxError> {
        let (_, fault) = self.faults();
        fault.before().await?;
        let state = self.store.end(tx, end).await?;
        fault.after().await;
        Ok(state)
    }

    async fn get(&self, id: FulfilmentId) -> Result<Option<Record>, BoxError> {
        Ok(self.store.get(id).await?)
    }

    async fn open(&self, limit: usize) -> Result<Vec<Record>, BoxError> {
        Ok(self.store.open(limit).await?)
    }

    async fn resolve(&self, id: FulfilmentId, fulfilled: bool) -> Result<bool, BoxError> {
        Ok(self.store.resolve(id, fulfilled).await?)
    }

    async fn forget(&self, id: FulfilmentId) -> Result<bool, BoxError> {
        Ok(self.store.forget(id).await?)
    }
}
