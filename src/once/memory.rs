use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    fmt,
    future::{Future, ready},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use super::{Begin, Claim, End, Record, State, Store};
use crate::event::FulfilmentId;

/// **Forgets everything when the process ends**, and the oldest rewards when it is full.
///
/// For tests, and for handlers that are idempotent by themselves, which it spares the duplicates
/// that arrive while the process runs. Where a double grant would cost anything, use a store that
/// remembers. Clones share what they know.
///
/// ```
/// use tower_firstpromoter::once::MemoryStore;
///
/// let store = MemoryStore::new(10_000); // rewards remembered, at about 200 bytes each
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
    /// Remembers this many rewards, and more only while they are being granted or in doubt.
    ///
    /// # Panics
    ///
    /// If that is none.
    ///
    /// ```
    /// use tower_firstpromoter::once::MemoryStore;
    ///
    /// let store = MemoryStore::new(1_000);
    /// assert_eq!(format!("{store:?}"), "MemoryStore { capacity: 1000, known: 0 }");
    /// ```
    #[track_caller]
    pub fn new(capacity: usize) -> Self {
        assert!(
            capacity > 0,
            "a `MemoryStore` that remembers nothing grants every duplicate again"
        );
        Self(Arc::new(Mutex::new(Memory {
            capacity,
            records: HashMap::new(),
            order: VecDeque::new(),
        })))
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_begin(&self, claim: &Claim) -> Begin<MemoryTx> {
        let mut memory = self.memory();
        let now = SystemTime::now();
        if !memory.records.contains_key(&claim.id()) {
            memory.make_room();
            memory.order.push_back(claim.id());
        }
        let entry = memory
            .records
            .entry(claim.id())
            .or_insert_with(|| Entry { record: Record::of(claim, now), held: false });
        if entry.held {
            return Begin::Busy;
        }
        let before = entry.record.state;
        if before == State::Granted {
            return Begin::Granted;
        }
        entry.held = true;
        entry.record.state = State::Started;
        entry.record.attempts = entry.record.attempts.saturating_add(1);
        entry.record.changed = now;
        let attempt = entry.record.attempts;
        let tx = MemoryTx { store: self.clone(), id: claim.id(), end: None };
        match before {
            State::Started => Begin::InDoubt { tx, attempt },
            _ => Begin::Run { tx, attempt },
        }
    }
}

impl Memory {
    fn make_room(&mut self) {
        // Each is looked at once at most: what is being granted or in doubt goes to the back.
        for _ in 0..self.order.len() {
            if self.records.len() < self.capacity {
                return;
            }
            let Some(id) = self.order.pop_front() else { return };
            match self.records.get(&id) {
                Some(entry) if entry.record.state == State::Started => self.order.push_back(id),
                _ => {
                    self.records.remove(&id);
                }
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

    fn end(
        &self,
        mut tx: MemoryTx,
        end: End,
    ) -> impl Future<Output = Result<(), Infallible>> + Send {
        // The drop writes it down and gives the right back: one place for both.
        tx.end = Some(end);
        drop(tx);
        ready(Ok(()))
    }

    fn forget(&self, id: FulfilmentId) -> impl Future<Output = Result<bool, Infallible>> + Send {
        let mut memory = self.memory();
        let forgets = memory.records.get(&id).is_some_and(|entry| !entry.held);
        if forgets {
            memory.records.remove(&id);
            memory.order.retain(|known| *known != id);
        }
        ready(Ok(forgets))
    }

    fn in_doubt(&self) -> impl Future<Output = Result<Vec<Record>, Infallible>> + Send {
        let memory = self.memory();
        let doubted = memory.records.values().filter(|entry| entry.is_in_doubt());
        ready(Ok(doubted.map(|entry| entry.record.clone()).collect()))
    }

    fn settle(
        &self,
        id: FulfilmentId,
        granted: bool,
    ) -> impl Future<Output = Result<bool, Infallible>> + Send {
        let mut memory = self.memory();
        let entry = memory.records.get_mut(&id).filter(|entry| entry.is_in_doubt());
        let settles = entry.is_some();
        if let Some(entry) = entry {
            entry.record.state = if granted { State::Granted } else { State::New };
            entry.record.changed = SystemTime::now();
        }
        ready(Ok(settles))
    }
}

impl Entry {
    fn is_in_doubt(&self) -> bool {
        self.record.state == State::Started && !self.held
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let memory = self.memory();
        f.debug_struct("MemoryStore")
            .field("capacity", &memory.capacity)
            .field("known", &memory.records.len())
            .finish()
    }
}

/// The right to grant one reward, of a [`MemoryStore`]. See [`Store`] for an example.
pub struct MemoryTx {
    store: MemoryStore,
    id: FulfilmentId,
    end: Option<End>,
}

impl Drop for MemoryTx {
    fn drop(&mut self) {
        let mut memory = self.store.memory();
        let Some(entry) = memory.records.get_mut(&self.id) else { return };
        entry.held = false;
        entry.record.changed = SystemTime::now();
        match self.end.take() {
            Some(End::Granted) => entry.record.state = State::Granted,
            Some(End::Pending) => entry.record.state = State::Pending,
            Some(End::Failed(reason)) => {
                entry.record.state = State::Failed;
                entry.record.last_error = Some(reason);
            }
            None => {}
        }
    }
}

impl fmt::Debug for MemoryTx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MemoryTx").field(&self.id).finish()
    }
}
