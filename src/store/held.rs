use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::event::FulfilmentId;

pub(super) type Key = (Arc<str>, FulfilmentId);

/// The fulfilments of one store that have an attempt in this process.
#[derive(Clone, Default)]
pub(super) struct HeldSet(Arc<Mutex<HashSet<Key>>>);

impl HeldSet {
    /// Takes the fulfilment, unless it is held.
    pub(super) fn take(&self, namespace: &Arc<str>, id: FulfilmentId) -> Option<Held> {
        let key = (Arc::clone(namespace), id);
        self.lock().insert(key.clone()).then(|| Held { set: self.clone(), key })
    }

    pub(super) fn contains(&self, namespace: &Arc<str>, id: FulfilmentId) -> bool {
        self.lock().contains(&(Arc::clone(namespace), id))
    }

    /// Locks the set: nothing is taken or released meanwhile.
    pub(super) fn lock(&self) -> MutexGuard<'_, HashSet<Key>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A fulfilment that is held until this drops: the only place where it is released.
pub(super) struct Held {
    set: HeldSet,
    pub(super) key: Key,
}

impl Held {
    pub(super) fn id(&self) -> FulfilmentId {
        self.key.1
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set.lock().remove(&self.key);
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key.1.fmt(f)
    }
}
