//! The storm: 64 deliveries at once of each of 1,000 rewards, to handlers that nap, fail in 20 % of
//! all calls and panic in 10 %, sent again until the answer is `200`. In one service, where the
//! duplicates meet at the desk, and in eight services over one store, where they meet in the store.
//! Grants are made elsewhere, or in the store's own transaction where it has one. Whatever happens, every reward is granted once: none twice, none lost.
//!
//! A harness that has never seen a double proves nothing. So it also plays two designs that are
//! known to be wrong, with a service that is cut off and started again all the time: a store that
//! forgets, and one that is sure but whose doubts are run again blindly. It must catch both, and
//! must not catch the right design under the same cuts.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use sqlx::{
    PgPool, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};
use tokio::{
    runtime::{Builder, Handle},
    task::spawn_blocking,
    time::{sleep, timeout},
};
use tower::ServiceExt;
use tower_firstpromoter::{
    Access, BoxError, Fulfil, FulfilIn, Outcome, Webhook,
    event::Fulfilment,
    observe::Seen,
    once::{MemoryStore, Once, PostgresStore, PostgresTx, RedbStore, SqliteStore, SqliteTx, Store},
};

use crate::{
    delivery::{SECRET, delivery},
    dice::Dice,
};

#[path = "support/delivery.rs"]
mod delivery;
#[path = "support/dice.rs"]
mod dice;
#[path = "support/postgres.rs"]
mod postgres;

const REWARDS: u64 = 1_000;
const DUPLICATES: usize = 64;
const AT_ONCE: usize = 16;
const SERVICES: usize = 8;

/// So many doubles are no accident, and a design that makes them need not be watched to the end.
const ENOUGH: usize = 20;

/// Of the pool, in which each running grant holds one.
const CONNECTIONS: u32 = 32;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory() {
    for services in [1, SERVICES] {
        let handler = Handler::new("memory", services);
        let store = MemoryStore::new(usize::MAX);
        storm(webhooks(&handler, &store, services)).await.expect_each_once(&handler).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn redb() {
    for services in [1, SERVICES] {
        let handler = Handler::new("redb", services);
        let dir = tempfile::tempdir().expect("a directory");
        let store = RedbStore::open(dir.path().join("fulfilments.redb")).expect("opens");
        storm(webhooks(&handler, &store, services)).await.expect_each_once(&handler).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sqlite_in_its_transaction() {
    for services in [1, SERVICES] {
        let dir = tempfile::tempdir().expect("a directory");
        let pool = sqlite_pool(dir.path()).await;
        let store = SqliteStore::new(pool.clone());
        let handler = InSqlite::new("SQLite, in its transaction", services, pool);
        storm(webhooks(&handler, &store, services)).await.expect_each_once(&handler).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sqlite_and_elsewhere() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = SqliteStore::new(sqlite_pool(dir.path()).await);
    let handler = Handler::new("SQLite, elsewhere", SERVICES);
    storm(webhooks(&handler, &store, SERVICES)).await.expect_each_once(&handler).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn postgres_in_its_transaction() {
    for services in [1, SERVICES] {
        postgres::story(async move |database| {
            let pool = database.ready(CONNECTIONS).await;
            let store = PostgresStore::new(pool.clone());
            let handler = InPostgres::new("PostgreSQL, in its transaction", services, pool);
            storm(webhooks(&handler, &store, services)).await.expect_each_once(&handler).await;
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn postgres_and_elsewhere() {
    postgres::story(async move |database| {
        let store = PostgresStore::new(database.ready(CONNECTIONS).await);
        let handler = Handler::new("PostgreSQL, elsewhere", SERVICES);
        storm(webhooks(&handler, &store, SERVICES)).await.expect_each_once(&handler).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn redb_cut_off_all_the_time() {
    let handler = Handler::new("redb, cut off", 1);
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("fulfilments.redb");
    let start = || webhook(&handler, &RedbStore::open(&path).expect("opens"));
    storm_with_cuts(&handler, start).await.expect_each_once(&handler).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn wrong_memory_across_restarts_is_seen() {
    let handler = Handler::new("WRONG: memory, cut off", 1);
    let start = || webhook(&handler, &MemoryStore::new(usize::MAX));
    storm_with_cuts(&handler, start).await.expect_doubles(&handler).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn wrong_blind_runs_of_doubts_are_seen() {
    let handler = Handler::new("WRONG: doubts run blindly, cut off", 1);
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("fulfilments.redb");
    let start = || {
        // Declared, and not true.
        webhook(&handler, &RedbStore::open(&path).expect("opens")).handler_is_idempotent()
    };
    storm_with_cuts(&handler, start).await.expect_doubles(&handler).await;
}

fn webhook<S, H>(handler: &H, store: &S) -> Webhook<Once>
where
    S: Store + Clone,
    H: FulfilIn<S::Tx> + Effects + Clone,
{
    Webhook::new(handler.clone(), Access::query("key", SECRET))
        .observe(handler.weather().observer())
        .once(store.clone())
}

fn webhooks<S, H>(handler: &H, store: &S, services: usize) -> Vec<Webhook<Once>>
where
    S: Store + Clone,
    H: FulfilIn<S::Tx> + Effects + Clone,
{
    (0..services).map(|_| webhook(handler, store)).collect()
}

async fn sqlite_pool(directory: &Path) -> SqlitePool {
    let options = SqliteConnectOptions::new()
        .filename(directory.join("app.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal);
    let pool = SqlitePool::connect_with(options).await.expect("a database");
    SqliteStore::new(pool.clone()).create_table().await.expect("a table");
    let effects = "CREATE TABLE effects (id INTEGER NOT NULL)";
    sqlx::query(effects).execute(&pool).await.expect("a table");
    pool
}

/// What befalls every handler.
struct Weather {
    name: String,
    dice: Dice,
    /// What the store's errors were, which no double may come of, either.
    store_failed: Arc<Mutex<BTreeMap<String, u64>>>,
}

enum Fate {
    Fails,
    PanicsBefore,
    PanicsAfter,
    Grants,
}

impl Weather {
    fn new(store: &str, services: usize) -> Arc<Self> {
        let name = format!("{store}, {services} service(s)");
        Arc::new(Self { dice: Dice::new(&name), name, store_failed: Arc::default() })
    }

    fn observer(&self) -> impl Fn(&Seen<'_>) + Send + Sync + 'static {
        let store_failed = Arc::clone(&self.store_failed);
        move |seen| {
            if let Seen::StoreFailed { error, .. } = seen {
                *store_failed.lock().expect("whole").entry(error.to_string()).or_default() += 1;
            }
        }
    }

    async fn nap(&self) {
        match self.dice.roll(0..3) {
            0 => {}
            1 => tokio::task::yield_now().await,
            _ => sleep(Duration::from_micros(self.dice.roll(1..1_000))).await,
        }
    }

    fn fate(&self) -> Fate {
        match self.dice.roll(0..20) {
            0..4 => Fate::Fails,
            4 => Fate::PanicsBefore,
            5 => Fate::PanicsAfter,
            _ => Fate::Grants,
        }
    }
}

/// What was granted, and how often. Nothing in it is idempotent: each grant counts.
trait Effects {
    fn weather(&self) -> &Weather;

    async fn granted(&self) -> HashMap<u64, u32>;
}

/// Grants elsewhere.
#[derive(Clone)]
struct Handler {
    weather: Arc<Weather>,
    granted: Arc<Mutex<HashMap<u64, u32>>>,
}

impl Handler {
    fn new(store: &str, services: usize) -> Self {
        Self { weather: Weather::new(store, services), granted: Arc::default() }
    }
}

impl Effects for Handler {
    fn weather(&self) -> &Weather {
        &self.weather
    }

    async fn granted(&self) -> HashMap<u64, u32> {
        self.granted.lock().expect("whole").clone()
    }
}

impl Fulfil for Handler {
    type Error = String;

    async fn fulfil(&self, fulfilment: Fulfilment) -> Result<Outcome, String> {
        self.weather.nap().await;
        let grant = || {
            let mut granted = self.granted.lock().expect("whole");
            *granted.entry(fulfilment.id.get()).or_default() += 1;
        };
        match self.weather.fate() {
            Fate::Fails => return Err("nothing granted, call me again".to_owned()),
            Fate::PanicsBefore => panic("before the grant"),
            Fate::PanicsAfter => {
                grant();
                panic("after the grant");
            }
            Fate::Grants => grant(),
        }
        self.weather.nap().await;
        Ok(Outcome::Fulfilled)
    }

    async fn was_granted(&self, fulfilment: &Fulfilment) -> Result<Option<bool>, String> {
        Ok(Some(self.granted.lock().expect("whole").contains_key(&fulfilment.id.get())))
    }
}

/// A handler that grants in the store's transaction. It fails after it has written, so that its
/// writes must be undone.
macro_rules! grants_in {
    ($tx:ty, $name:ident, $pool:ty) => {
        #[derive(Clone)]
        struct $name {
            weather: Arc<Weather>,
            pool: $pool,
        }

        impl $name {
            fn new(store: &str, services: usize, pool: $pool) -> Self {
                Self { weather: Weather::new(store, services), pool }
            }
        }

        impl Effects for $name {
            fn weather(&self) -> &Weather {
                &self.weather
            }

            async fn granted(&self) -> HashMap<u64, u32> {
                let rows: Vec<(i64, i64)> =
                    sqlx::query_as("SELECT id, count(*) FROM effects GROUP BY id")
                        .fetch_all(&self.pool)
                        .await
                        .expect("the effects");
                rows.into_iter().map(|(id, times)| (id as u64, times as u32)).collect()
            }
        }

        impl FulfilIn<$tx> for $name {
            type Error = BoxError;

            async fn fulfil_in(&self, f: Fulfilment, tx: &mut $tx) -> Result<Outcome, BoxError> {
                self.weather.nap().await;
                let fate = self.weather.fate();
                if let Fate::PanicsBefore = fate {
                    panic("before the grant");
                }
                let id = f.id.get() as i64;
                sqlx::query("INSERT INTO effects VALUES ($1)").bind(id).execute(&mut **tx).await?;
                match fate {
                    Fate::Fails => return Err("undo it, and call me again".into()),
                    Fate::PanicsAfter => panic("after the grant"),
                    _ => {}
                }
                self.weather.nap().await;
                Ok(Outcome::Fulfilled)
            }
        }
    };
}

grants_in!(SqliteTx, InSqlite, SqlitePool);
grants_in!(PostgresTx, InPostgres, PgPool);

/// Without the hook, whose output would be the whole log.
fn panic(when: &'static str) -> ! {
    std::panic::resume_unwind(Box::new(when))
}

/// What was heard.
#[derive(Default)]
struct Heard {
    acknowledged: HashSet<u64>,
    answers: BTreeMap<u16, u64>,
    cuts: u32,
    took: Duration,
}

impl Heard {
    async fn expect_each_once(&self, effects: &impl Effects) {
        let (doubles, lost) = self.report(effects).await;
        assert_eq!((doubles, lost), (0, 0), "granted twice, lost");
        assert_eq!(self.acknowledged.len() as u64, REWARDS, "every one was answered with 200");
    }

    async fn expect_doubles(&self, effects: &impl Effects) {
        let (doubles, _) = self.report(effects).await;
        assert!(doubles > 0, "the storm does not see what is wrong with this design");
    }

    async fn report(&self, effects: &impl Effects) -> (usize, usize) {
        let granted = effects.granted().await;
        let doubles = doubles(&granted);
        let lost = self.acknowledged.iter().filter(|id| !granted.contains_key(id)).count();
        let Self { answers, cuts, took, .. } = self;
        println!(
            "{}: {} requests in {took:.1?}, {cuts} cuts, {doubles} doubles, {lost} lost, {answers:?}, \
             store errors {:?}",
            effects.weather().name,
            answers.values().sum::<u64>(),
            effects.weather().store_failed.lock().expect("whole"),
        );
        (doubles, lost)
    }
}

fn doubles(granted: &HashMap<u64, u32>) -> usize {
    granted.values().filter(|times| **times > 1).count()
}

async fn storm(services: Vec<Webhook<Once>>) -> Heard {
    let (start, heard) = (Instant::now(), Mutex::default());
    deliver(&Handle::current(), &services, &heard).await;
    Heard { took: start.elapsed(), ..heard.into_inner().expect("whole") }
}

/// The service has a runtime of its own, which ends at any moment: what was running stops at its
/// next `await`, as in a process that is killed. Whoever was not answered sends it again.
async fn storm_with_cuts(handler: &Handler, service: impl Fn() -> Webhook<Once>) -> Heard {
    let (start, heard, mut cuts) = (Instant::now(), Mutex::default(), 0);
    loop {
        let process =
            Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let services = [service()];
        let life = Duration::from_millis(handler.weather.dice.roll(40..250));
        let ended = timeout(life, deliver(process.handle(), &services, &heard)).await.is_ok();
        drop(services);
        let end = move || process.shutdown_timeout(Duration::from_secs(5));
        spawn_blocking(end).await.expect("no panic");
        if ended || doubles(&handler.granted().await) >= ENOUGH {
            return Heard { took: start.elapsed(), cuts, ..heard.into_inner().expect("whole") };
        }
        cuts += 1;
    }
}

/// Sends every reward that is not acknowledged, until it is.
async fn deliver(process: &Handle, services: &[Webhook<Once>], heard: &Mutex<Heard>) {
    let acknowledged = heard.lock().expect("whole").acknowledged.clone();
    stream::iter((1..=REWARDS).filter(|id| !acknowledged.contains(id)))
        .for_each_concurrent(AT_ONCE, |id| async move {
            loop {
                let duplicates: Vec<_> = services
                    .iter()
                    .cycle()
                    .take(DUPLICATES)
                    .map(|service| process.spawn(service.clone().oneshot(delivery(id))))
                    .collect();
                for duplicate in duplicates {
                    // Cut off, the connection breaks.
                    let Ok(Ok(answer)) = duplicate.await else { continue };
                    let status = answer.status().as_u16();
                    let mut heard = heard.lock().expect("whole");
                    *heard.answers.entry(status).or_default() += 1;
                    if status == 200 {
                        heard.acknowledged.insert(id);
                    }
                }
                if heard.lock().expect("whole").acknowledged.contains(&id) {
                    break;
                }
            }
        })
        .await;
}
