//! An axum application with accounts in PostgreSQL. A fulfilment credits an account in the transaction
//! that also records it, so any number of these processes may share the database.
//!
//! `DATABASE_URL` is the database, `PORT` the port (default: 3000; 0 picks one) and `WEBHOOK_KEY` the
//! secret in the webhook's URL:
//!
//! ```sh
//! DATABASE_URL=postgres://postgres@localhost/postgres cargo run --example postgres
//! curl 'localhost:3000/webhooks/firstpromoter?key=a-key-for-development' --json '{
//!     "event": { "type": "fulfilment_pending" },
//!     "data": { "id": 1, "amount": 3, "unit": "credits", "promoter": { "id": 7, "cust_id": "ada" } }
//! }'
//! curl localhost:3000/accounts
//! ```

use std::{collections::BTreeMap, env, io, time::Duration};

use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use futures::FutureExt;
use sqlx::{PgPool, postgres::PgPoolOptions, query, query_as, raw_sql};
use tokio::{net::TcpListener, signal, time::sleep};
use tower_firstpromoter::{
    Access, BoxError, FulfilIn, Outcome, Webhook,
    event::{Fulfilment, Unit},
    store::{PostgresStore, PostgresTx},
};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let or = |name, default: &str| env::var(name).unwrap_or_else(|_| default.to_owned());
    let key = or("WEBHOOK_KEY", "a-key-for-development");
    let database = env::var("DATABASE_URL").map_err(|_| "DATABASE_URL is not set")?;
    let pool = PgPoolOptions::new().max_connections(10).connect(&database).await?;
    raw_sql(ACCOUNTS).execute(&pool).await?;
    let store = PostgresStore::new(pool.clone());
    store.create_table().await?;

    let webhook = Webhook::new(Credit, store, Access::query("key", &key)?);
    let app = Router::new()
        .route("/accounts", get(accounts).with_state(pool))
        .layer(webhook.clone().at("/webhooks/firstpromoter"));

    let listener = TcpListener::bind(("127.0.0.1", or("PORT", "3000").parse()?)).await?;
    let stop = stop_signal()?.shared();
    println!("listening on http://{}", listener.local_addr()?);
    if env::var_os("WEBHOOK_KEY").is_none() {
        eprintln!("WEBHOOK_KEY is not set, so the key is: {key}");
    }

    let serve = async {
        axum::serve(listener, app).with_graceful_shutdown(stop.clone()).await?;
        webhook.close().await; // waits for running attempts
        Ok::<_, BoxError>(())
    };
    // Whatever takes longer to end is cut off, and undone.
    let limit = stop.clone().then(|()| sleep(Duration::from_secs(20)));
    tokio::select! { served = serve => served, () = limit => Ok(()) }
}

/// Under a lock, because two processes that create a table at once conflict.
const ACCOUNTS: &str = "BEGIN;
    SELECT pg_advisory_xact_lock(2429153);
    CREATE TABLE IF NOT EXISTS accounts (id text PRIMARY KEY, credits bigint NOT NULL);
    COMMIT";

struct Credit;

impl FulfilIn<PostgresTx> for Credit {
    type Error = BoxError;

    async fn fulfil_in(&self, f: Fulfilment, tx: &mut PostgresTx) -> Result<Outcome, BoxError> {
        let (Unit::Credits, Some(credits @ 1..), Some(account)) =
            (&f.unit, f.amount.whole(), &f.promoter.cust_id)
        else {
            return Ok(Outcome::Pending); // for a person to look at
        };
        query(
            "INSERT INTO accounts VALUES ($1, $2) \
             ON CONFLICT (id) DO UPDATE SET credits = accounts.credits + excluded.credits",
        )
        .bind(account)
        .bind(i64::try_from(credits)?)
        .execute(&mut **tx) // in the store's transaction, not in one of the pool's
        .await?;
        Ok(Outcome::Fulfilled)
    }
}

async fn accounts(State(pool): State<PgPool>) -> Result<Json<BTreeMap<String, i64>>, StatusCode> {
    let accounts: Result<Vec<(String, i64)>, _> =
        query_as("SELECT id, credits FROM accounts").fetch_all(&pool).await;
    let accounts = accounts.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    Ok(Json(accounts.into_iter().collect()))
}

/// Resolves when the process is asked to end, which is listened for from this call on.
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    let mut terminate = signal::unix::signal(signal::unix::SignalKind::terminate())?;
    #[cfg(windows)]
    let mut terminate = signal::windows::ctrl_close()?;
    Ok(async move {
        tokio::select! { _ = signal::ctrl_c() => {}, _ = terminate.recv() => {} }
    })
}
