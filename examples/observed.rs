//! The `axum` example, seen by its operator: the log on standard error (`RUST_LOG`, default: `info`)
//! reports what became of each delivery, and `GET /metrics` serves the metrics as Prometheus text.
//!
//! `PORT` and `WEBHOOK_KEY` are as in the `axum` example; `DATABASE` is the database file (default:
//! `observed.db`).

use std::{
    env,
    future::ready,
    io::{self, IsTerminal},
    time::Duration,
};

use axum::{Router, routing::get};
use futures::FutureExt;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use sqlx::{
    query, raw_sql,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions},
};
use tokio::{net::TcpListener, signal, time::sleep};
use tower_firstpromoter::{
    Access, BoxError, FulfilIn, Outcome, Webhook,
    event::{Fulfilment, Unit},
    observe::Metrics,
    store::{SqliteStore, SqliteTx},
};
use tracing::{info, level_filters::LevelFilter, warn};
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let level = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into());
    tracing_subscriber::fmt()
        .with_env_filter(level.from_env()?)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    // A histogram needs its buckets; the sender gives up after 15 seconds.
    let duration = Matcher::Full("firstpromoter_delivery_duration_seconds".to_owned());
    let buckets = [0.005, 0.02, 0.1, 0.5, 2.0, 5.0, 10.0, 15.0];
    let recorder =
        PrometheusBuilder::new().set_buckets_for_metric(duration, &buckets)?.install_recorder()?;

    let or = |name, default: &str| env::var(name).unwrap_or_else(|_| default.to_owned());
    let key = or("WEBHOOK_KEY", "a-key-for-development");
    let file = SqliteConnectOptions::new().filename(or("DATABASE", "observed.db"));
    let pool = SqlitePoolOptions::new().idle_timeout(None).max_lifetime(None); // sqlx#3645
    let pool = pool.connect_with(file.create_if_missing(true)).await?;
    raw_sql("CREATE TABLE IF NOT EXISTS accounts (id TEXT PRIMARY KEY, credits INTEGER NOT NULL)")
        .execute(&pool)
        .await?;
    let store = SqliteStore::new(pool);
    store.create_table().await?;

    let webhook = Webhook::new(Credit, store, Access::query("key", &key)?).observe(Metrics::new());
    let metrics = move || {
        recorder.run_upkeep(); // what the exporter's own server would do
        ready(recorder.render())
    };
    let app = Router::new()
        .route("/", get("An application with promoters.\n"))
        .route("/metrics", get(metrics))
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
        info!("every attempt has ended");
        Ok::<_, BoxError>(())
    };
    // Whatever takes longer to end is cut off, and undone.
    let limit = stop.clone().then(|()| sleep(Duration::from_secs(20)));
    tokio::select! {
        served = serve => served,
        () = limit => {
            warn!("some connections or attempts have not ended");
            Ok(())
        }
    }
}

struct Credit;

impl FulfilIn<SqliteTx> for Credit {
    type Error = BoxError;

    async fn fulfil_in(&self, f: Fulfilment, tx: &mut SqliteTx) -> Result<Outcome, BoxError> {
        let (Unit::Credits, Some(account)) = (&f.unit, &f.promoter.cust_id) else {
            info!("left pending: not credits, or an unknown user");
            return Ok(Outcome::Pending);
        };
        let credits = f.amount.whole().filter(|credits| *credits > 0);
        query(
            "INSERT INTO accounts VALUES (?, ?) \
             ON CONFLICT (id) DO UPDATE SET credits = credits + excluded.credits",
        )
        .bind(account)
        .bind(i64::try_from(credits.ok_or("credits are whole and above zero")?)?)
        .execute(&mut **tx)
        .await?;
        info!("credited"); // in the delivery's span
        Ok(Outcome::Fulfilled)
    }
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
