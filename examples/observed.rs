//! The `axum` example, seen by its operator: the log on standard error (`RUST_LOG`, default: `info`)
//! reports what became of each delivery, and `GET /metrics` serves the metrics as Prometheus text.
//!
//! `PORT`, `WEBHOOK_KEY` and `DATABASE` are as in the `axum` example.

use std::{
    env,
    error::Error,
    future::{IntoFuture, ready},
    io::{self, IsTerminal},
    time::Duration,
};

use axum::{Router, routing::get};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use sqlx::{SqlitePool, query, raw_sql, sqlite::SqliteConnectOptions};
use tokio::{net::TcpListener, sync::oneshot, time::timeout};
use tower_firstpromoter::{
    Access, BoxError, FulfilIn, Outcome, Webhook,
    event::{Fulfilment, Unit},
    observe::Metrics,
    store::{SqliteStore, SqliteTx},
};
use tracing::{info, level_filters::LevelFilter};
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
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
    let file = SqliteConnectOptions::new().filename(or("DATABASE", "app.db"));
    let pool = SqlitePool::connect_with(file.create_if_missing(true)).await?;
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
    info!("stopping");
    // Time for answers and running attempts. Whatever takes longer is cut off and undone.
    let ended = timeout(Duration::from_secs(20), async {
        drop(stop_serving);
        drop(server.await);
        webhook.close().await;
    });
    match ended.await {
        Ok(()) => info!("every attempt has ended"),
        Err(_elapsed) => tracing::warn!("some connections or attempts have not ended"),
    }
    Ok(())
}

struct Credit;

impl FulfilIn<SqliteTx> for Credit {
    type Error = BoxError;

    async fn fulfil_in(
        &self,
        fulfilment: Fulfilment,
        tx: &mut SqliteTx,
    ) -> Result<Outcome, BoxError> {
        let (Unit::Credits, Some(account)) = (&fulfilment.unit, &fulfilment.promoter.cust_id)
        else {
            info!("left pending: not credits, or an unknown user");
            return Ok(Outcome::Pending);
        };
        let credits = fulfilment.amount.whole().filter(|credits| *credits > 0);
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
