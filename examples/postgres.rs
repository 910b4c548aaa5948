//! An axum application with accounts in PostgreSQL. A reward credits an account in the transaction
//! that also records that it was granted, so any number of these processes may share the database.
//!
//! `DATABASE_URL` is the database, `PORT` where it listens (3000; 0 picks one) and `WEBHOOK_KEY` the
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

use std::{collections::BTreeMap, env, error::Error, io, time::Duration};

use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use sqlx::{PgPool, postgres::PgPoolOptions, query, query_as, raw_sql};
use tokio::{net::TcpListener, time::timeout};
use tower_firstpromoter::{
    Access, FulfilIn, Outcome, Webhook,
    event::{Fulfilment, Unit},
    once::{PostgresStore, PostgresTx},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let database = env::var("DATABASE_URL").map_err(|_| "DATABASE_URL is not set")?;
    let port = env::var("PORT").map_or(Ok(3000), |port| port.parse())?;
    let key = env::var("WEBHOOK_KEY");
    let key = key.as_deref().unwrap_or("a-key-for-development");

    let pool = PgPoolOptions::new().max_connections(10).connect(&database).await?;
    let store = PostgresStore::new(pool.clone());
    store.create_table().await?;
    raw_sql(ACCOUNTS).execute(&pool).await?;

    let webhook = Webhook::new(Credit, Access::query("key", key)).once(store);
    let app = Router::new()
        .route("/accounts", get(accounts).with_state(pool))
        .layer(webhook.clone().at("/webhooks/firstpromoter"));

    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let stop = stop_signal()?;
    println!("listening on http://{}", listener.local_addr()?);
    if env::var_os("WEBHOOK_KEY").is_none() {
        println!("WEBHOOK_KEY is not set, so the key is: {key}");
    }
    axum::serve(listener, app).with_graceful_shutdown(stop).await?;
    // The senders have their answers; grants that took longer than an answer may still run.
    timeout(Duration::from_secs(15), webhook.close()).await?;
    Ok(())
}

/// Under a lock, because two that create a table at once get in each other's way.
const ACCOUNTS: &str = "BEGIN;
    SELECT pg_advisory_xact_lock(2429153);
    CREATE TABLE IF NOT EXISTS accounts (id text PRIMARY KEY, credits bigint NOT NULL);
    COMMIT";

struct Credit;

impl FulfilIn<PostgresTx> for Credit {
    type Error = Box<dyn Error + Send + Sync>;

    async fn fulfil_in(
        &self,
        fulfilment: Fulfilment,
        tx: &mut PostgresTx,
    ) -> Result<Outcome, Self::Error> {
        let (Unit::Credits, Some(account)) = (&fulfilment.unit, &fulfilment.promoter.cust_id)
        else {
            return Ok(Outcome::Pending); // for a person to look at
        };
        let credits = fulfilment.amount.whole().ok_or("credits are whole")?;
        query(
            "INSERT INTO accounts VALUES ($1, $2) \
             ON CONFLICT (id) DO UPDATE SET credits = accounts.credits + excluded.credits",
        )
        .bind(account)
        .bind(i64::try_from(credits)?)
        .execute(&mut **tx)
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

/// Resolves on SIGINT or SIGTERM, which are listened for from this call on.
#[cfg(unix)]
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
    })
}

#[cfg(not(unix))]
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    Ok(async { tokio::signal::ctrl_c().await.expect("the signal can be listened for") })
}
