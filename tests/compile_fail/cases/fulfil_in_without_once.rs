//! A handler for a transaction, and no store which has one.

use tower_firstpromoter::{
    Access, BoxError, FulfilIn, Outcome, Webhook, event::Fulfilment, once::MemoryTx,
};

struct Credits;

impl FulfilIn<MemoryTx> for Credits {
    type Error = BoxError;

    async fn fulfil_in(&self, _: Fulfilment, _: &mut MemoryTx) -> Result<Outcome, BoxError> {
        Ok(Outcome::Fulfilled)
    }
}

fn main() {
    let _ = Webhook::new(Credits, Access::anyone()).at("/webhooks/firstpromoter");
}
