//! A closure without `fulfil_fn` around it.

use tower_firstpromoter::{
    Access, BoxError, Outcome, Webhook, event::Fulfilment, store::MemoryStore,
};

fn main() {
    let handler = async |_: Fulfilment| Ok::<_, BoxError>(Outcome::Fulfilled);
    let _ = Webhook::new(handler, MemoryStore::new(1), Access::anyone());
}
