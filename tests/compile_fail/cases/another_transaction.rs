//! A handler for the transaction of another store.

use tower_firstpromoter::{
    Access, BoxError, FulfilIn, Outcome, Webhook, event::Fulfilment, once::MemoryStore,
};

struct Credits;
struct Tx;

impl FulfilIn<Tx> for Credits {
    type Error = BoxError;

    async fn fulfil_in(&self, _: Fulfilment, _: &mut Tx) -> Result<Outcome, BoxError> {
        Ok(Outcome::Fulfilled)
    }
}

fn main() {
    let _ = Webhook::new(Credits, Access::anyone()).once(MemoryStore::new(1));
}
