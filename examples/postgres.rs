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

use std::{collections::BTreeMap, env, error::Error, future::IntoFuture, time::Duration};

use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use sqlx::{PgPool, postgres::PgPoolOptions, query, query_as, raw_sql};
use tokio::{net::TcpListener, sync::oneshot, time::timeout};
use tower_firstpromoter::{
    Access, BoxError, FulfilIn, Outcome, Webhook,
    event::{Fulfilment, Unit},
    store::{PostgresStore, PostgresTx},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
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
    let stop = stop_signal()?;
    let mut lines = format!("listening on http://{}\n", listener.local_addr()?);
    if env::var_os("WEBHOOK_KEY").is_none() {
        lines += &format!("WEBHOOK_KEY is not set, so the key is: {key}\n");
    }
    print!("{lines}"); // in one write: a reader may close the pipe after the first line

    let (stop_serving, stopped) = oneshot::channel::<()>();
    let server = axum::serve(listener, app).with_graceful_shutdown(async { drop(stopped.await) });
    let server = tokio::spawn(server.into_future());
    stop.await;
    // Time for answers and running attempts. Whatever takes longer is cut off and undone.
    let ended = timeout(Duration::from_secs(20), async {
        drop(stop_serving);
        drop(server.await);
        webhook.close().await;
    });
    if ended.await.is_err() {
        eprintln!("some connections or attempts have not ended");
    }
    Ok(())
}

/// Under a lock, because two processes that create a table at once conflict.
const ACCOUNTS: &str = "BEGIN;
    SELECT pg_advisory_xact_lock(2429153);
    CREATE TABLE IF NOT EXISTS accounts (id text PRIMARY KEY, credits bigint NOT NULL);
    COMMIT";

struct Credit;

impl FulfilIn<PostgresTx> for Credit {
    type Error = BoxError;

    async fn fulfil_in(
        &self,
        fulfilment: Fulfilment,
        tx: &mut PostgresTx,
    ) -> Result<Outcome, BoxError> {
        let (Unit::Credits, Some(credits @ 1..), Some(account)) =
            (&fulfilment.unit, fulfilment.amount.whole(), &fulfilment.promoter.cust_id)
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

/// Resolves on SIGINT or SIGTERM, which are listened for from this call on.
#[cfg(unix)]
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};

    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
    })
}

#[cfg(not(unix))]
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    Ok(async { drop(tokio::signal::ctrl_c().await) })
}
