use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, Mutex, PoisonError},
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
        self.with(|held| held.insert(key.clone())).then(|| Held { set: self.clone(), key })
    }

    #[allow(dead_code, reason = "for stores that list what nobody holds")]
    pub(super) fn contains(&self, namespace: &Arc<str>, id: FulfilmentId) -> bool {
        self.with(|held| held.contains(&(Arc::clone(namespace), id)))
    }

    /// Runs `work` at a moment at which nothing is taken or released, and returns what was held.
    #[allow(dead_code, reason = "for stores whose records tell what is held at another moment")]
    pub(super) fn meanwhile<T>(&self, work: impl FnOnce() -> T) -> (HashSet<Key>, T) {
        self.with(|held| (held.clone(), work()))
    }

    fn with<T>(&self, work: impl FnOnce(&mut HashSet<Key>) -> T) -> T {
        // Nothing panics while this is locked.
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A fulfilment that is held until this drops: the only place where it is released.
pub(super) struct Held {
    set: HeldSet,
    key: Key,
}

impl Held {
    pub(super) fn id(&self) -> FulfilmentId {
        self.key.1
    }

    #[allow(dead_code, reason = "for stores of several namespaces")]
    pub(super) fn key(&self) -> &Key {
        &self.key
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set.with(|held| held.remove(&self.key));
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key.1.fmt(f)
    }
}
