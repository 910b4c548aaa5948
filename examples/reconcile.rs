//! The `axum` example with a FirstPromoter account: deliveries are confirmed by its API, and what
//! deliveries left open is reconciled, at the start and then regularly.
//!
//! `FIRSTPROMOTER_API_KEY` is the account's API key, `FIRSTPROMOTER_API` the API's base URL (default:
//! the real one, over TLS), `RECONCILE_EVERY` the time between two runs in seconds (default: 3600).
//! `PORT`, `WEBHOOK_KEY` and `DATABASE` are as in the axum example.

use std::{
    env,
    io::{self, Write},
    time::Duration,
};

use axum::{Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use futures::FutureExt;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{client::legacy, rt::TokioExecutor};
use sqlx::{
    SqlitePool, query, raw_sql,
    sqlite::{SqliteConnectOptions, SqliteJournalMode::Wal, SqlitePoolOptions},
};
use tokio::{
    net::TcpListener,
    signal,
    time::{interval, sleep},
};
use tower_firstpromoter::{
    Access, BoxError, FulfilIn, Outcome, Webhook, api,
    event::{Fulfilment, Unit},
    observe::DeliveryEvent,
    store::{SqliteStore, SqliteTx},
};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let or = |name, default: &str| env::var(name).unwrap_or_else(|_| default.to_owned());
    let key = or("WEBHOOK_KEY", "a-key-for-development");
    let file = SqliteConnectOptions::new().filename(or("DATABASE", "app.db"));
    let file = file.create_if_missing(true).journal_mode(Wal);
    let pool = SqlitePoolOptions::new().idle_timeout(None).max_lifetime(None); // sqlx#3645
    let pool = pool.connect_with(file).await?;
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
    let stop = stop_signal()?.shared();
    println!("listening on http://{}", listener.local_addr()?);
    if env::var_os("WEBHOOK_KEY").is_none() {
        eprintln!("WEBHOOK_KEY is not set, so the key is: {key}");
    }

    let every = Duration::from_secs(or("RECONCILE_EVERY", "3600").parse::<u64>()?.max(1));
    let serve = async {
        let reconciling = tokio::spawn(reconcile(webhook.clone(), client, every));
        axum::serve(listener, app).with_graceful_shutdown(stop.clone()).await?;
        reconciling.abort(); // the next run goes on where this one was
        webhook.close().await; // waits for running attempts
        Ok::<_, BoxError>(())
    };
    // Whatever takes longer to end is cut off, and undone.
    let limit = stop.clone().then(|()| sleep(Duration::from_secs(20)));
    tokio::select! { served = serve => served, () = limit => Ok(()) }
}

fn client() -> Result<api::Client, BoxError> {
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

    async fn fulfil_in(&self, f: Fulfilment, tx: &mut SqliteTx) -> Result<Outcome, BoxError> {
        let (Unit::FreeMonths | Unit::Credits | Unit::Points) = f.unit else {
            return Ok(Outcome::Pending); // stays visible in FirstPromoter's dashboard
        };
        if !f.amount.is_positive() {
            return Err("not an amount above zero".into()); // nothing takes effect
        }
        query("INSERT INTO grants VALUES (?, ?, ?, ?)")
            .bind(i64::try_from(f.id.get())?)
            .bind(i64::try_from(f.promoter.id.get())?)
            .bind(f.amount.to_string())
            .bind(f.unit.as_str())
            .execute(&mut **tx) // in the store's transaction, not in one of the pool's
            .await?;
        Ok(Outcome::Fulfilled)
    }
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
