use std::{
    cmp::Reverse,
    collections::{HashMap, VecDeque},
    convert::Infallible,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    Begin, Claim, End, ExternalEffects, Record, State, Store,
    held::{Held, HeldSet},
    record::Attempt,
};
use crate::event::FulfilmentId;

/// Records attempts in memory. **It forgets all when the process ends**, and the oldest when full.
///
/// For tests, and for handlers that are idempotent by themselves. Clones share their records.
///
/// ```
/// use tower_firstpromoter::store::MemoryStore;
///
/// let store = MemoryStore::new(10_000); // records, about 200 bytes each
/// assert_eq!(format!("{store:?}"), "MemoryStore { capacity: 10000, records: 0 }");
/// ```
#[derive(Clone)]
pub struct MemoryStore {
    memory: Arc<Mutex<Memory>>,
    /// Taken and released while `memory` is locked, or by the drop of a `Tx` that has not ended.
    held: HeldSet,
    namespace: Arc<str>,
}

struct Memory {
    capacity: usize,
    records: HashMap<FulfilmentId, Record>,
    /// Oldest first.
    order: VecDeque<FulfilmentId>,
}

impl MemoryStore {
    /// Creates a store of `capacity` records. Records that are started or in doubt are kept beyond
    /// it. See [`MemoryStore`] for an example.
    ///
    /// # Panics
    ///
    /// If `capacity` is 0.
    #[track_caller]
    pub fn new(capacity: usize) -> Self {
        assert!(capacity > 0, "a `MemoryStore` without records would fulfil every duplicate again");
        let (records, order) = (HashMap::new(), VecDeque::new());
        let memory = Arc::new(Mutex::new(Memory { capacity, records, order }));
        Self { memory, held: HeldSet::default(), namespace: "".into() }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shown(&self, record: &Record) -> Record {
        record.clone().shown(self.held.contains(&self.namespace, record.id))
    }
}

impl Memory {
    fn make_room(&mut self) {
        while self.records.len() >= self.capacity {
            let ended = |id| !matches!(self.records[id].state, State::Started | State::InDoubt);
            let oldest = self.order.iter().position(ended);
            let Some(id) = oldest.and_then(|at| self.order.remove(at)) else { return };
            self.records.remove(&id);
        }
    }
}

impl Store for MemoryStore {
    type Tx = MemoryTx;
    type Error = Infallible;

    async fn begin(&self, claim: &Claim) -> Result<Begin<MemoryTx>, Infallible> {
        let mut memory = self.memory();
        let Some(held) = self.held.take(&self.namespace, claim.id) else { return Ok(Begin::Busy) };
        let mut record = memory.records.get(&claim.id).cloned();
        if record.is_none() {
            memory.make_room();
            memory.order.push_back(claim.id);
        }
        let answer = Record::begin(&mut record, claim, |attempt| MemoryTx { held, attempt });
        memory.records.extend(record.map(|record| (claim.id, record)));
        Ok(answer)
    }

    async fn end(&self, tx: MemoryTx, end: End) -> Result<State, Infallible> {
        let mut memory = self.memory();
        let MemoryTx { held, attempt } = tx;
        let record = memory.records.get_mut(&held.id()).expect("kept while it is held");
        Ok(record.end(attempt, end))
    }

    async fn get(&self, id: FulfilmentId) -> Result<Option<Record>, Infallible> {
        Ok(self.memory().records.get(&id).map(|record| self.shown(record)))
    }

    async fn open(&self, limit: usize) -> Result<Vec<Record>, Infallible> {
        let memory = self.memory();
        let open = memory.records.values().filter(|record| record.state != State::Fulfilled);
        let mut open: Vec<_> = open.map(|record| self.shown(record)).collect();
        open.sort_by_key(|record| Reverse(record.changed));
        open.truncate(limit);
        Ok(open)
    }

    async fn resolve(&self, id: FulfilmentId, fulfilled: bool) -> Result<bool, Infallible> {
        let mut memory = self.memory();
        let Some(_held) = self.held.take(&self.namespace, id) else { return Ok(false) };
        Ok(memory.records.get_mut(&id).is_some_and(|record| record.resolve(fulfilled)))
    }

    async fn forget(&self, id: FulfilmentId) -> Result<bool, Infallible> {
        let mut memory = self.memory();
        let Some(_held) = self.held.take(&self.namespace, id) else { return Ok(false) };
        memory.order.retain(|known| *known != id);
        Ok(memory.records.remove(&id).is_some())
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let memory = self.memory();
        f.debug_struct("MemoryStore")
            .field("capacity", &memory.capacity)
            .field("records", &memory.records.len())
            .finish()
    }
}

/// The right to run one attempt, of a [`MemoryStore`]. See [`Store`] for an example.
#[derive(Debug)]
pub struct MemoryTx {
    held: Held,
    attempt: Attempt,
}

impl ExternalEffects for MemoryTx {}
