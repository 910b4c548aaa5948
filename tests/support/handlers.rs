//! Handlers whose effect is a row in `effects`, written by a statement of up to 30 ms.

use std::time::Duration;

use sqlx::PgPool;
use tokio::time::sleep;
use tower_firstpromoter::{Fulfil, FulfilIn, Outcome, event::Fulfilment, store::PostgresTx};

use super::postgres::{run, take_effect};

/// In the transaction, with a statement after its effect.
pub(crate) struct InTx;

impl FulfilIn<PostgresTx> for InTx {
    type Error = sqlx::Error;

    async fn fulfil_in(&self, f: Fulfilment, tx: &mut PostgresTx) -> sqlx::Result<Outcome> {
        take_effect(f.id.get(), tx).await?;
        if f.id.get() % 2 == 0 {
            sqlx::query("SELECT pg_sleep(random() * 0.03)").execute(&mut **tx).await?;
        }
        Ok(Outcome::Fulfilled)
    }
}

/// Through the application's pool.
pub(crate) struct Elsewhere(pub(crate) PgPool);

impl Fulfil for Elsewhere {
    type Error = sqlx::Error;

    async fn fulfil(&self, f: Fulfilment) -> sqlx::Result<Outcome> {
        let insert = sqlx::query("INSERT INTO effects SELECT $1 FROM pg_sleep(random() * 0.03)");
        let insert = insert.bind(f.id.get() as i64);
        Ok(match insert.execute(&self.0).await {
            Ok(_) => Outcome::Fulfilled,
            Err(error) => Outcome::InDoubt(error.to_string()),
        })
    }

    async fn was_fulfilled(&self, f: &Fulfilment) -> sqlx::Result<Option<bool>> {
        let taken = sqlx::query_scalar("SELECT EXISTS (SELECT FROM effects WHERE id = $1)");
        Ok(Some(taken.bind(f.id.get() as i64).fetch_one(&self.0).await?))
    }
}

/// Ages what is started by an attempt whose time is long over, as if another half minute had passed.
pub(crate) async fn time_passes(pool: &PgPool) {
    loop {
        sleep(Duration::from_millis(200)).await;
        let started = "state = 'started' AND started_at < clock_timestamp() - interval '2 seconds'";
        let age =
            "UPDATE firstpromoter_fulfilments SET started_at = started_at - interval '1 hour'";
        run(pool, format!("{age} WHERE {started}")).await;
    }
}
