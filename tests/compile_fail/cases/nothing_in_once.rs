//! A type that was forgotten to be made a handler, with a store.

use tower_firstpromoter::{Access, Webhook, once::MemoryStore};

struct Credits;

fn main() {
    let _ = Webhook::new(Credits, Access::anyone()).once(MemoryStore::new(1));
}
