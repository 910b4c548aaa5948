//! An axum application with its data in SQLite. A fulfilment and its record commit together, so
//! `kill -9` at any moment neither loses nor repeats one.
//!
//! `PORT` is the port (default: 3000; 0 picks one), `WEBHOOK_KEY` the secret in the webhook's URL, and
//! `DATABASE` the database file (default: `app.db`).

use std::{env, error::Error, future::IntoFuture, time::Duration};

use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::{
    SqlitePool, query, query_as, raw_sql,
    sqlite::{SqliteConnectOptions, SqliteJournalMode::Wal},
};
use tokio::{net::TcpListener, sync::oneshot, time::timeout};
use tower_firstpromoter::{
    Access, BoxError, FulfilIn, Outcome, Webhook,
    event::{Fulfilment, Unit},
    store::{SqliteStore, SqliteTx},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let or = |name, default: &str| env::var(name).unwrap_or_else(|_| default.to_owned());
    let key = or("WEBHOOK_KEY", "a-key-for-development");
    let file = SqliteConnectOptions::new().filename(or("DATABASE", "app.db"));
    let pool = SqlitePool::connect_with(file.create_if_missing(true).journal_mode(Wal)).await?;
    raw_sql(GRANTS).execute(&pool).await?;
    let store = SqliteStore::new(pool.clone());
    store.create_table().await?;

    let webhook = Webhook::new(Grants, store, Access::query("key", &key)?);
    let app = Router::new()
        .route("/", get("An application with promoters.\n"))
        .route("/grants", get(list).with_state(pool))
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
    // Time for answers and running attempts. Whatever takes longer is cut off.
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

const GRANTS: &str = "CREATE TABLE IF NOT EXISTS grants \
    (fulfilment INTEGER PRIMARY KEY, promoter INTEGER, amount TEXT, unit TEXT)";

struct Grants;

impl FulfilIn<SqliteTx> for Grants {
    type Error = BoxError;

    async fn fulfil_in(
        &self,
        fulfilment: Fulfilment,
        tx: &mut SqliteTx,
    ) -> Result<Outcome, BoxError> {
        let (Unit::FreeMonths | Unit::Credits | Unit::Points) = fulfilment.unit else {
            return Ok(Outcome::Pending); // stays visible in FirstPromoter's dashboard
        };
        if !fulfilment.amount.is_positive() {
            return Err("not an amount above zero".into()); // nothing takes effect
        }
        query("INSERT INTO grants VALUES (?, ?, ?, ?)")
            .bind(i64::try_from(fulfilment.id.get())?)
            .bind(i64::try_from(fulfilment.promoter.id.get())?)
            .bind(fulfilment.amount.to_string())
            .bind(fulfilment.unit.as_str())
            .execute(&mut **tx) // in the store's transaction, not in one of the pool's
            .await?;
        Ok(Outcome::Fulfilled)
    }
}

async fn list(State(pool): State<SqlitePool>) -> Result<Json<Vec<Grant>>, StatusCode> {
    let grants = query_as("SELECT * FROM grants ORDER BY fulfilment").fetch_all(&pool).await;
    let grants: Vec<(i64, i64, String, String)> =
        grants.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    Ok(Json(grants.into_iter().filter_map(Grant::of).collect()))
}

#[derive(Serialize)]
struct Grant {
    fulfilment: i64,
    promoter: i64,
    amount: Box<RawValue>, // a number with every digit that was sent
    unit: String,
}

impl Grant {
    fn of((fulfilment, promoter, amount, unit): (i64, i64, String, String)) -> Option<Self> {
        let amount = RawValue::from_string(amount).ok()?;
        Some(Self { fulfilment, promoter, amount, unit })
    }
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
