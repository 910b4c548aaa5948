//! An axum application with its data in SQLite. A fulfilment and its record commit together, so
//! `kill -9` at any moment neither loses nor repeats one.
//!
//! `PORT` is the port (default: 3000; 0 picks one), `WEBHOOK_KEY` the secret in the webhook's URL, and
//! `DATABASE` the database file (default: `app.db`).

use std::{env, io, time::Duration};

use axum::{Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use futures::FutureExt;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode::Wal, SqlitePool, SqlitePoolOptions};
use tokio::{net::TcpListener, signal, time::sleep};
use tower_firstpromoter::{
    Access, BoxError, FulfilIn, Outcome, Webhook,
    event::{Fulfilment, Unit},
    store::{SqliteStore, SqliteTx},
};

const GRANTS: &str = "CREATE TABLE IF NOT EXISTS grants \
    (fulfilment INTEGER PRIMARY KEY, promoter INTEGER, amount TEXT, unit TEXT)";

struct Grants;

impl FulfilIn<SqliteTx> for Grants {
    type Error = BoxError;

    async fn fulfil_in(&self, f: Fulfilment, tx: &mut SqliteTx) -> Result<Outcome, BoxError> {
        let (Unit::FreeMonths | Unit::Credits | Unit::Points) = f.unit else {
            return Ok(Outcome::Pending); // stays visible in FirstPromoter's dashboard
        };
        if !f.amount.is_positive() {
            return Err("not an amount above zero".into()); // nothing takes effect
        }
        sqlx::query("INSERT INTO grants VALUES (?, ?, ?, ?)")
            .bind(i64::try_from(f.id.get())?)
            .bind(i64::try_from(f.promoter.id.get())?)
            .bind(f.amount.to_string())
            .bind(f.unit.as_str())
            .execute(&mut **tx) // in the store's transaction, not in one of the pool's
            .await?;
        Ok(Outcome::Fulfilled)
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let or = |name, default: &str| env::var(name).unwrap_or_else(|_| default.to_owned());
    let key = or("WEBHOOK_KEY", "a-key-for-development");
    let file = SqliteConnectOptions::new().filename(or("DATABASE", "app.db"));
    let file = file.create_if_missing(true).journal_mode(Wal);
    let pool = SqlitePoolOptions::new().idle_timeout(None).max_lifetime(None); // sqlx#3645
    let pool = pool.connect_with(file).await?;
    sqlx::query(GRANTS).execute(&pool).await?;
    let store = SqliteStore::new(pool.clone());
    store.create_table().await?;

    let webhook = Webhook::new(Grants, store, Access::query("key", &key)?);
    let app = Router::new()
        .route("/", get("An application with promoters.\n"))
        .route("/grants", get(list).with_state(pool))
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

/// Answers with the grants as JSON, whose amounts have every digit that was sent.
async fn list(State(pool): State<SqlitePool>) -> Result<impl IntoResponse, StatusCode> {
    let json = sqlx::query_scalar::<_, String>(
        "SELECT json_group_array(json_object('fulfilment', fulfilment, 'promoter', promoter, \
         'amount', json(amount), 'unit', unit) ORDER BY fulfilment) FROM grants",
    );
    let json = json.fetch_one(&pool).await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    Ok(([("content-type", "application/json")], json))
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
