//! The axum application, seen by its operator: with `RUST_LOG=info`, which is also the default, the
//! log on standard error tells the story of each delivery, and `GET /metrics` serves the numbers as
//! Prometheus text.
//!
//! `PORT`, `WEBHOOK_KEY`, `FULFILMENTS` and `GRANTS` are as in the `axum` example.

use std::{
    env,
    error::Error,
    fs::{self, File},
    future::ready,
    io::{self, IsTerminal, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Json, Router, routing::get};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use serde::{Deserialize, Serialize};
use serde_json::{Deserializer, value::RawValue};
use tokio::{net::TcpListener, task::block_in_place, time::timeout};
use tower_firstpromoter::{
    Access, BoxError, Fulfil, Outcome, Webhook,
    event::{Fulfilment, Unit},
    once::RedbStore,
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
    let numbers =
        PrometheusBuilder::new().set_buckets_for_metric(duration, &buckets)?.install_recorder()?;

    let or = |name, default: &str| env::var(name).unwrap_or_else(|_| default.to_owned());
    let key = or("WEBHOOK_KEY", "a-key-for-development");
    let grants = Grants::open(or("GRANTS", "grants.jsonl"))?;
    let webhook = Webhook::new(grants.clone(), Access::query("key", &key))
        .once(RedbStore::open(or("FULFILMENTS", "fulfilments.redb"))?);

    let list = async move || grants.all().map(Json).map_err(|error| error.to_string());
    let metrics = move || {
        numbers.run_upkeep(); // what the exporter's own server would do
        ready(numbers.render())
    };
    let app = Router::new()
        .route("/", get("An application whose promoters are rewarded.\n"))
        .route("/grants", get(list))
        .route("/metrics", get(metrics))
        .layer(webhook.clone().at("/webhooks/firstpromoter"));

    let listener = TcpListener::bind(("127.0.0.1", or("PORT", "3000").parse()?)).await?;
    let stop = stop_signal()?;
    let mut lines = format!("listening on http://{}\n", listener.local_addr()?);
    if env::var_os("WEBHOOK_KEY").is_none() {
        lines += &format!("WEBHOOK_KEY is not set, so the key is: {key}\n");
    }
    print!("{lines}"); // all at once: whoever waits for the first line may then hang up
    axum::serve(listener, app).with_graceful_shutdown(stop).await?;
    info!("stopped listening");
    timeout(Duration::from_secs(15), webhook.close()).await?;
    info!("every grant has ended");
    Ok(())
}

/// What was granted: one line of JSON each, in a file that only grows.
#[derive(Clone)]
struct Grants {
    path: Arc<str>,
    file: Arc<Mutex<File>>,
}

#[derive(Deserialize, Serialize)]
struct Grant {
    fulfilment: u64,
    promoter: u64,
    amount: Box<RawValue>, // a number with every digit that was sent
    unit: String,
}

impl Grants {
    fn open(path: String) -> io::Result<Self> {
        let file = File::options().read(true).append(true).create(true).open(&path)?;
        // What stands behind the last whole line was torn by a crash and never promised.
        let bytes = fs::read(&path)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        file.set_len(whole as u64)?;
        file.sync_all()?;
        Ok(Self { path: path.into(), file: Arc::new(Mutex::new(file)) })
    }

    fn all(&self) -> io::Result<Vec<Grant>> {
        let _whole_lines_only = self.file.lock().expect("nobody failed to write");
        let lines = fs::read(&*self.path)?;
        Ok(Deserializer::from_slice(&lines).into_iter().collect::<Result<_, _>>()?)
    }
}

impl Fulfil for Grants {
    type Error = BoxError;

    async fn fulfil(&self, fulfilment: Fulfilment) -> Result<Outcome, BoxError> {
        let (Unit::FreeMonths | Unit::Credits | Unit::Points) = fulfilment.unit else {
            info!("this application does not grant this unit");
            return Ok(Outcome::Pending);
        };
        if !fulfilment.amount.is_positive() {
            return Err(format!("cannot grant {}", fulfilment.amount).into());
        }
        let grant = Grant {
            fulfilment: fulfilment.id.get(),
            promoter: fulfilment.promoter.id.get(),
            amount: RawValue::from_string(fulfilment.amount.to_string())?,
            unit: fulfilment.unit.to_string(),
        };
        let line = serde_json::to_string(&grant)? + "\n";
        // A failed write is no `Err`, which would say that nothing was granted. A panic says that
        // nobody knows, and poisons the lock, so that all stops until a restart.
        block_in_place(|| {
            let mut file = self.file.lock().expect("nobody failed to write");
            file.write_all(line.as_bytes()).expect("the grant can be written");
            file.sync_all().expect("the grant can be synced");
        });
        info!(promoter.id = grant.promoter, "written to the book of grants");
        Ok(Outcome::Fulfilled)
    }

    async fn was_granted(&self, fulfilment: &Fulfilment) -> Result<Option<bool>, BoxError> {
        let granted = self.all()?.iter().any(|grant| grant.fulfilment == fulfilment.id.get());
        info!(granted, "an earlier attempt was cut off, so the book of grants was looked into");
        Ok(Some(granted))
    }
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
