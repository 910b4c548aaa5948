//! An axum application with a home page, whose users' rewards are granted once behind it.
//!
//! `PORT` is where it listens (3000; 0 picks one), `WEBHOOK_KEY` the secret in the webhook's URL,
//! `FULFILMENTS` the record of what was granted (`fulfilments.redb`) and `GRANTS` the grants
//! themselves (`grants.jsonl`), which stand for this application's own database.

use std::{
    env,
    error::Error,
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Json, Router, extract::State, routing::get};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::{net::TcpListener, task::block_in_place, time::timeout};
use tower_firstpromoter::{
    Access, Fulfil, Outcome, Webhook,
    event::{Fulfilment, Unit},
    once::RedbStore,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let or = |name, default: &str| env::var(name).unwrap_or_else(|_| default.to_owned());
    let key = or("WEBHOOK_KEY", "a-key-for-development");
    let grants = Grants::open(&or("GRANTS", "grants.jsonl"))?;
    let webhook = Webhook::new(grants.clone(), Access::query("key", &key))
        .once(RedbStore::open(or("FULFILMENTS", "fulfilments.redb"))?);

    let app = Router::new()
        .route("/", get(async || "An application whose promoters are rewarded.\n"))
        .route("/grants", get(list).with_state(grants))
        .layer(webhook.clone().at("/webhooks/firstpromoter"));

    let listener = TcpListener::bind(("127.0.0.1", or("PORT", "3000").parse()?)).await?;
    let stop = stop_signal()?;
    let mut lines = format!("listening on http://{}\n", listener.local_addr()?);
    if env::var_os("WEBHOOK_KEY").is_none() {
        lines += &format!("WEBHOOK_KEY is not set, so the key is: {key}\n");
    }
    print!("{lines}"); // all at once: whoever waits for the first line may then hang up
    axum::serve(listener, app).with_graceful_shutdown(stop).await?;
    // The senders have their answers; grants that took longer than an answer may still run.
    timeout(Duration::from_secs(15), webhook.close()).await?;
    Ok(())
}

async fn list(State(grants): State<Grants>) -> Json<Vec<Grant>> {
    Json(grants.book().all.clone())
}

/// What was granted: one line of JSON each, in a file that only grows.
#[derive(Clone)]
struct Grants(Arc<Mutex<Book>>);

struct Book {
    file: File,
    /// Of the whole lines in it. What stands behind them was torn by a crash and never promised.
    length: u64,
    all: Vec<Grant>,
}

#[derive(Clone, Deserialize, Serialize)]
struct Grant {
    fulfilment: u64,
    promoter: u64,
    amount: Box<RawValue>, // a number with every digit that was sent
    unit: String,
}

impl Grants {
    fn open(path: &str) -> io::Result<Self> {
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let length = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let lines = serde_json::Deserializer::from_slice(&bytes[..length]).into_iter();
        let all = lines.collect::<Result<_, _>>()?;
        file.sync_all()?; // they count from now on, so they must outlive a power cut
        Ok(Self(Arc::new(Mutex::new(Book { file, length: length as u64, all }))))
    }

    fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Book {
    fn append(&mut self, grant: Grant) -> io::Result<()> {
        let line = serde_json::to_string(&grant)? + "\n";
        self.file.set_len(self.length)?;
        self.file.seek(SeekFrom::Start(self.length))?;
        self.file.write_all(line.as_bytes())?;
        self.file.sync_all()?;
        self.length += line.len() as u64;
        self.all.push(grant);
        Ok(())
    }
}

impl Fulfil for Grants {
    type Error = Box<dyn Error + Send + Sync>;

    async fn fulfil(&self, fulfilment: Fulfilment) -> Result<Outcome, Self::Error> {
        let (Unit::FreeMonths | Unit::Credits | Unit::Points) = fulfilment.unit else {
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
        // An `Err` would say that nothing was granted. After a failed write nobody knows, and that
        // is what a panic says: `was_granted` is asked before the next attempt.
        block_in_place(|| self.book().append(grant)).expect("the grant can be written");
        Ok(Outcome::Fulfilled)
    }

    async fn was_granted(&self, fulfilment: &Fulfilment) -> Result<Option<bool>, Self::Error> {
        let id = fulfilment.id.get();
        Ok(Some(self.book().all.iter().any(|grant| grant.fulfilment == id)))
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
