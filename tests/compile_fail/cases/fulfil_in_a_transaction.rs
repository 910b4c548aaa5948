//! A handler with effects elsewhere, on stores that undo only what is written through them.

use tower_firstpromoter::{
    Access, BoxError, Fulfil, FulfilIn, Outcome, Webhook,
    event::Fulfilment,
    fulfil_fn,
    store::{PostgresStore, SqliteStore},
};

struct Credits;

impl Fulfil for Credits {
    type Error = BoxError;

    async fn fulfil(&self, _: Fulfilment) -> Result<Outcome, BoxError> {
        Ok(Outcome::Fulfilled)
    }
}

fn on_postgres(store: PostgresStore) -> Webhook {
    Webhook::new(Credits, store, Access::anyone())
}

fn on_sqlite(store: SqliteStore) -> Webhook {
    let handler = fulfil_fn(async |_: Fulfilment| Ok::<_, BoxError>(Outcome::Fulfilled));
    Webhook::new(handler, store, Access::anyone())
}

struct Logged<H>(H);

impl<H: FulfilIn<Tx>, Tx: Send> FulfilIn<Tx> for Logged<H> {
    type Error = H::Error;

    async fn fulfil_in(&self, fulfilment: Fulfilment, tx: &mut Tx) -> Result<Outcome, H::Error> {
        self.0.fulfil_in(fulfilment, tx).await
    }
}

fn wrapped(store: PostgresStore) -> Webhook {
    Webhook::new(Logged(Credits), store, Access::anyone())
}

fn main() {}
