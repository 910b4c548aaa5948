//! A type that is no handler, on a store of each kind.

use tower_firstpromoter::{
    Access, Webhook,
    store::{MemoryStore, PostgresStore},
};

struct Credits;

fn on_postgres(store: PostgresStore) -> Webhook {
    Webhook::new(Credits, store, Access::anyone())
}

fn main() {
    let _ = Webhook::new(Credits, MemoryStore::new(1), Access::anyone());
}
