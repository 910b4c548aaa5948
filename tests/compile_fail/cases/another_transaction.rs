//! A handler for the transaction of another store.

use tower_firstpromoter::{
    Access, BoxError, FulfilIn, Outcome, Webhook,
    event::Fulfilment,
    store::{PostgresTx, SqliteStore},
};

struct Credits;

impl FulfilIn<PostgresTx> for Credits {
    type Error = BoxError;

    async fn fulfil_in(&self, _: Fulfilment, _: &mut PostgresTx) -> Result<Outcome, BoxError> {
        Ok(Outcome::Fulfilled)
    }
}

fn webhook(store: SqliteStore) -> Webhook {
    Webhook::new(Credits, store, Access::anyone())
}

fn main() {}
