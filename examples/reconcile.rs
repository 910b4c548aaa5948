//! The `axum` example with a FirstPromoter account: deliveries are confirmed by its API, and what
//! deliveries left open is reconciled, at the start and then regularly.
//!
//! `FIRSTPROMOTER_API_KEY` is the account's API key, `FIRSTPROMOTER_API` the API's base URL (default:
//! the real one, over TLS), `RECONCILE_EVERY` the time between two runs in seconds (default: 3600).
//! `PORT`, `WEBHOOK_KEY` and `DATABASE` are as in the axum example.

use std::{
    env,
    error::Error,
    future::IntoFuture,
    io::{self, Write},
    time::Duration,
};

use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{client::legacy, rt::TokioExecutor};
use serde_json::{Number, Value, json};
use sqlx::{
    SqlitePool, query, query_as, raw_sql,
    sqlite::{SqliteConnectOptions, SqliteJournalMode::Wal},
};
use tokio::{
    net::TcpListener,
    sync::oneshot,
    time::{interval, timeout},
};
use tower_firstpromoter::{
    Access, BoxError, FulfilIn, Outcome, Webhook, api,
    event::{Fulfilment, Unit},
    observe::DeliveryEvent,
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

    let client = client()?;
    let webhook =
        Webhook::new(Grants, store, Access::query("key", &key)?).confirm_with(client.clone());
    let webhook = webhook.observe(|event: &DeliveryEvent<'_>| {
        if let DeliveryEvent::NotConfirmed { info, reason, .. } = event {
            eprintln!("fulfilment {} is not confirmed: {reason}", info.id);
        }
    });
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

    let every = Duration::from_secs(or("RECONCILE_EVERY", "3600").parse::<u64>()?.max(1));
    let reconciling = tokio::spawn(reconcile(webhook.clone(), client, every));
    let (stop_serving, stopped) = oneshot::channel::<()>();
    let server = axum::serve(listener, app).with_graceful_shutdown(async { drop(stopped.await) });
    let server = tokio::spawn(server.into_future());
    stop.await;
    reconciling.abort(); // the next run goes on where this one was
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

fn client() -> Result<api::Client, Box<dyn Error>> {
    let tls = HttpsConnectorBuilder::new().with_webpki_roots().https_or_http().enable_http1();
    let http = legacy::Client::builder(TokioExecutor::new()).build(tls.build());
    let key = env::var("FIRSTPROMOTER_API_KEY").map_err(|_| "set FIRSTPROMOTER_API_KEY")?;
    let client = api::Client::new(http, &key)?;
    Ok(match env::var("FIRSTPROMOTER_API") {
        Ok(url) => client.base_url(&url)?,
        Err(_) => client,
    })
}

async fn reconcile(webhook: Webhook, client: api::Client, every: Duration) {
    let mut runs = interval(every); // the first one at once
    loop {
        runs.tick().await;
        let report = webhook.reconcile(&client).await;
        let _ = writeln!(io::stdout(), "{report}"); // its reader may be gone
    }
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

async fn list(State(pool): State<SqlitePool>) -> Result<Json<Vec<Value>>, StatusCode> {
    let grants: Vec<(i64, i64, String, String)> = query_as("SELECT * FROM grants ORDER BY rowid")
        .fetch_all(&pool)
        .await
        .map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    let grants = grants.into_iter().map(|(fulfilment, promoter, amount, unit)| {
        let amount = amount.parse::<Number>().ok();
        json!({ "fulfilment": fulfilment, "promoter": promoter, "amount": amount, "unit": unit })
    });
    Ok(Json(grants.collect()))
}

/// Resolves on SIGINT or SIGTERM, which are listened for from this call on.
#[cfg(unix)]
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};

    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
    })
}

#[cfg(not(unix))]
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    Ok(async { drop(tokio::signal::ctrl_c().await) })
}
