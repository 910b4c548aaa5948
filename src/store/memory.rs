use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    fmt,
    future::{Future, ready},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use super::{
    Begin, Claim, End, ExternalEffects, Record, State, Store,
    record::{Attempt, resolved},
};
use crate::event::FulfilmentId;

/// A journal in memory. **It forgets everything when the process ends**, and the oldest records when
/// it is full.
///
/// For tests, and for handlers that are idempotent by themselves. Clones share their records.
///
/// ```
/// use tower_firstpromoter::store::MemoryStore;
///
/// let store = MemoryStore::new(10_000); // records, about 200 bytes each
/// ```
#[derive(Clone)]
pub struct MemoryStore(Arc<Mutex<Memory>>);

struct Memory {
    capacity: usize,
    records: HashMap<FulfilmentId, Entry>,
    /// Oldest first.
    order: VecDeque<FulfilmentId>,
}

struct Entry {
    record: Record,
    held: bool,
}

impl MemoryStore {
    /// Creates a store of `capacity` records. Records that are started or in doubt are kept beyond
    /// it.
    ///
    /// # Panics
    ///
    /// If `capacity` is 0.
    ///
    /// ```
    /// use tower_firstpromoter::store::MemoryStore;
    ///
    /// let store = MemoryStore::new(1_000);
    /// assert_eq!(format!("{store:?}"), "MemoryStore { capacity: 1000, records: 0 }");
    /// ```
    #[track_caller]
    pub fn new(capacity: usize) -> Self {
        assert!(capacity > 0, "a `MemoryStore` without records would fulfil every duplicate again");
        let (records, order) = (HashMap::new(), VecDeque::new());
        Self(Arc::new(Mutex::new(Memory { capacity, records, order })))
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // Nothing panics while this is locked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_begin(&self, claim: &Claim) -> Begin<MemoryTx> {
        let mut memory = self.memory();
        let before = match memory.records.get(&claim.id()) {
            Some(entry) if entry.held => return Begin::Busy,
            Some(entry) => Some(entry.record.clone()),
            None => {
                memory.make_room();
                memory.order.push_back(claim.id());
                None
            }
        };
        let (answer, record) = Record::begun(before, claim, SystemTime::now());
        if let Some(record) = record {
            memory.records.insert(claim.id(), Entry { record, held: true });
        }
        answer.with(|attempt| MemoryTx { store: self.clone(), id: claim.id(), attempt, end: None })
    }
}

impl Memory {
    fn make_room(&mut self) {
        // Each is looked at once at most: what is started or in doubt goes to the back.
        for _ in 0..self.order.len() {
            if self.records.len() < self.capacity {
                return;
            }
            let Some(id) = self.order.pop_front() else { return };
            match self.records.get(&id).map(|entry| entry.record.state) {
                Some(State::Started | State::InDoubt) => self.order.push_back(id),
                _ => drop(self.records.remove(&id)),
            }
        }
    }
}

impl Store for MemoryStore {
    type Tx = MemoryTx;
    type Error = Infallible;

    fn begin(
        &self,
        claim: &Claim,
    ) -> impl Future<Output = Result<Begin<MemoryTx>, Infallible>> + Send {
        ready(Ok(self.try_begin(claim)))
    }

    async fn end(&self, mut tx: MemoryTx, end: End) -> Result<State, Infallible> {
        // The drop records it and releases the id: one place for both.
        let state = tx.attempt.ended(end.clone(), false).state;
        tx.end = Some(end);
        Ok(state)
    }

    async fn get(&self, id: FulfilmentId) -> Result<Option<Record>, Infallible> {
        Ok(self.memory().records.get(&id).map(Entry::shown))
    }

    async fn open(&self, limit: usize) -> Result<Vec<Record>, Infallible> {
        let memory = self.memory();
        let open = memory.records.values().filter(|entry| entry.record.state != State::Fulfilled);
        let mut open: Vec<_> = open.map(Entry::shown).collect();
        open.sort_by_key(|record| std::cmp::Reverse(record.changed));
        open.truncate(limit);
        Ok(open)
    }

    async fn resolve(&self, id: FulfilmentId, fulfilled: bool) -> Result<bool, Infallible> {
        let mut memory = self.memory();
        let Some(entry) = memory.records.get_mut(&id) else { return Ok(false) };
        if entry.shown().state != State::InDoubt {
            return Ok(false);
        }
        let (state, reason) = resolved(fulfilled);
        entry.record.state = state;
        entry.record.reason = reason.map(str::to_owned);
        entry.record.changed = SystemTime::now();
        Ok(true)
    }

    async fn forget(&self, id: FulfilmentId) -> Result<bool, Infallible> {
        let mut memory = self.memory();
        let forgets = memory.records.get(&id).is_some_and(|entry| !entry.held);
        if forgets {
            memory.records.remove(&id);
            memory.order.retain(|known| *known != id);
        }
        Ok(forgets)
    }
}

impl Entry {
    fn shown(&self) -> Record {
        self.record.clone().shown(self.held)
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
pub struct MemoryTx {
    store: MemoryStore,
    id: FulfilmentId,
    attempt: Attempt,
    end: Option<End>,
}

impl ExternalEffects for MemoryTx {}

impl Drop for MemoryTx {
    fn drop(&mut self) {
        let mut memory = self.store.memory();
        let Some(entry) = memory.records.get_mut(&self.id) else { return };
        entry.held = false;
        if let Some(end) = self.end.take() {
            entry.record.end(self.attempt, end, SystemTime::now());
        }
    }
}

impl fmt::Debug for MemoryTx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MemoryTx").field(&self.id).finish()
    }
}
