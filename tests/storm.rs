//! The storm: 64 deliveries at once of each of 1,000 fulfilments, to handlers that nap, fail in 20 %
//! of all calls, panic in 10 % and do not know in 5 %, sent again until the answer is `200`. In one
//! service, where the duplicates meet in the map of running attempts, and in eight services over one
//! store, where they meet in the store. Whatever happens, each takes effect once: none twice, none
//! lost.
//!
//! A harness that has never seen a double proves nothing, so it also runs two designs that are
//! known to be wrong, with a service that is cut off and restarted all the time: a store that
//! forgets, and a handler that runs doubts again blindly. It must catch both, and pass the right
//! design under the same cuts.

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
    BoxError, Fulfil, FulfilIn, Outcome, Webhook,
    event::Fulfilment,
    observe::DeliveryEvent,
    store::{
        MemoryStore, PostgresJournal, PostgresStore, PostgresTx, RedbStore, SqliteStore, SqliteTx,
        Store,
    },
};

use crate::{deliver::delivery, dice::Dice};

#[path = "support/deliver.rs"]
mod deliver;
#[path = "support/dice.rs"]
mod dice;
#[path = "support/postgres.rs"]
mod postgres;

const FULFILMENTS: u64 = 1_000;
const DUPLICATES: usize = 64;
const AT_ONCE: usize = 16;
const SERVICES: usize = 8;

/// So many doubles are no accident, and a design that makes them need not be watched to the end.
const ENOUGH: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory() {
    for services in [1, SERVICES] {
        let handler = Elsewhere::new("MemoryStore", services);
        let store = MemoryStore::new(usize::MAX);
        storm(webhooks(&handler, &store, services)).await.expect_each_once(&handler).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn redb() {
    for services in [1, SERVICES] {
        let handler = Elsewhere::new("RedbStore", services);
        let dir = tempfile::tempdir().expect("a directory");
        let store = RedbStore::open(dir.path().join("fulfilments.redb")).expect("opens");
        storm(webhooks(&handler, &store, services)).await.expect_each_once(&handler).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sqlite() {
    for services in [1, SERVICES] {
        let dir = tempfile::tempdir().expect("a directory");
        let pool = sqlite_pool(dir.path()).await;
        let store = SqliteStore::new(pool.clone());
        let handler = InSqlite::new("SqliteStore", services, pool);
        storm(webhooks(&handler, &store, services)).await.expect_each_once(&handler).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn postgres_store() {
    for services in [1, SERVICES] {
        postgres::story(async move |database| {
            let pool = database.ready(4).await;
            let store = PostgresStore::new(pool.clone());
            let handler = InPostgres::new("PostgresStore", services, pool);
            storm(webhooks(&handler, &store, services)).await.expect_each_once(&handler).await;
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn postgres_journal() {
    for services in [1, SERVICES] {
        postgres::story(async move |database| {
            let store = PostgresJournal::new(database.ready(4).await);
            let handler = Elsewhere::new("PostgresJournal", services);
            storm(webhooks(&handler, &store, services)).await.expect_each_once(&handler).await;
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn redb_cut_off_all_the_time() {
    let handler = Elsewhere::new("RedbStore, cut off", 1);
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("fulfilments.redb");
    let start = || webhook(&handler, &RedbStore::open(&path).expect("opens"));
    storm_with_cuts(&handler, start).await.expect_each_once(&handler).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn wrong_memory_across_restarts_is_seen() {
    let handler = Elsewhere::new("WRONG: MemoryStore, cut off", 1);
    let start = || webhook(&handler, &MemoryStore::new(usize::MAX));
    storm_with_cuts(&handler, start).await.expect_doubles(&handler).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn wrong_blind_runs_of_doubts_are_seen() {
    let handler = Blind(Elsewhere::new("WRONG: doubts run blindly, cut off", 1));
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("fulfilments.redb");
    let start = || webhook(&handler, &RedbStore::open(&path).expect("opens"));
    storm_with_cuts(&handler, start).await.expect_doubles(&handler).await;
}

fn webhook<S, H>(handler: &H, store: &S) -> Webhook
where
    S: Store,
    H: FulfilIn<S::Tx> + Effects + Clone,
{
    deliver::webhook(handler.clone(), store.clone()).observe(handler.weather().observer())
}

fn webhooks<S, H>(handler: &H, store: &S, services: usize) -> Vec<Webhook>
where
    S: Store,
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
    /// The store's errors, which no double may come of, either.
    store_failed: Arc<Mutex<BTreeMap<String, u64>>>,
}

#[derive(Clone, Copy)]
enum Fate {
    Fails,
    PanicsBefore,
    PanicsAfter,
    CannotKnowBefore,
    CannotKnowAfter,
    Fulfils,
}

use Fate::*;

impl Weather {
    fn new(store: &str, services: usize) -> Arc<Self> {
        let name = format!("{store}, {services} service(s)");
        Arc::new(Self { dice: Dice::new(&name), name, store_failed: Arc::default() })
    }

    fn observer(&self) -> impl Fn(&DeliveryEvent<'_>) + Send + Sync + 'static {
        let store_failed = Arc::clone(&self.store_failed);
        move |event| {
            if let DeliveryEvent::StoreFailed { error, .. } = event {
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
        match self.dice.roll(0..40) {
            0..8 => Fails,
            8..10 => PanicsBefore,
            10..12 => PanicsAfter,
            12 => CannotKnowBefore,
            13 => CannotKnowAfter,
            _ => Fulfils,
        }
    }
}

/// What took effect, and how often. Nothing in it is idempotent: each effect counts.
trait Effects {
    fn weather(&self) -> &Weather;

    async fn effects(&self) -> HashMap<u64, u32>;
}

/// Its effect is outside the store.
#[derive(Clone)]
struct Elsewhere {
    weather: Arc<Weather>,
    effects: Arc<Mutex<HashMap<u64, u32>>>,
}

impl Elsewhere {
    fn new(store: &str, services: usize) -> Self {
        Self { weather: Weather::new(store, services), effects: Arc::default() }
    }
}

impl Effects for Elsewhere {
    fn weather(&self) -> &Weather {
        &self.weather
    }

    async fn effects(&self) -> HashMap<u64, u32> {
        self.effects.lock().expect("whole").clone()
    }
}

impl Fulfil for Elsewhere {
    type Error = BoxError;

    async fn fulfil(&self, fulfilment: Fulfilment) -> Result<Outcome, BoxError> {
        self.weather.nap().await;
        let fate = self.weather.fate();
        match fate {
            Fails => return Err("nothing took effect, call me again".into()),
            PanicsBefore => panic("before the effect"),
            CannotKnowBefore => return Ok(Outcome::InDoubt("before the effect".to_owned())),
            _ => {}
        }
        *self.effects.lock().expect("whole").entry(fulfilment.id.get()).or_default() += 1;
        match fate {
            PanicsAfter => panic("after the effect"),
            CannotKnowAfter => return Ok(Outcome::InDoubt("after the effect".to_owned())),
            _ => {}
        }
        self.weather.nap().await;
        Ok(Outcome::Fulfilled)
    }

    async fn was_fulfilled(&self, fulfilment: &Fulfilment) -> Result<Option<bool>, BoxError> {
        Ok(Some(self.effects.lock().expect("whole").contains_key(&fulfilment.id.get())))
    }
}

/// Says that a doubt did not take effect, and does not know it.
#[derive(Clone)]
struct Blind(Elsewhere);

impl Effects for Blind {
    fn weather(&self) -> &Weather {
        self.0.weather()
    }

    async fn effects(&self) -> HashMap<u64, u32> {
        self.0.effects().await
    }
}

impl Fulfil for Blind {
    type Error = BoxError;

    async fn fulfil(&self, fulfilment: Fulfilment) -> Result<Outcome, BoxError> {
        self.0.fulfil(fulfilment).await
    }

    async fn was_fulfilled(&self, _: &Fulfilment) -> Result<Option<bool>, BoxError> {
        Ok(Some(false))
    }
}

/// A handler whose effect is in the store's transaction. Whatever goes wrong does so after it has
/// written, so that its writes must be undone.
macro_rules! in_transaction {
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

            async fn effects(&self) -> HashMap<u64, u32> {
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
                if let PanicsBefore = fate {
                    panic("before the effect");
                }
                let id = f.id.get() as i64;
                sqlx::query("INSERT INTO effects VALUES ($1)").bind(id).execute(&mut **tx).await?;
                match fate {
                    Fails => return Err("undo it, and call me again".into()),
                    PanicsAfter => panic("after the effect"),
                    CannotKnowBefore | CannotKnowAfter => {
                        return Ok(Outcome::InDoubt("a call to another service".to_owned()));
                    }
                    _ => {}
                }
                self.weather.nap().await;
                Ok(Outcome::Fulfilled)
            }

            /// The writes were undone, and there is no other service.
            async fn was_fulfilled(&self, _: &Fulfilment) -> Result<Option<bool>, BoxError> {
                Ok(Some(false))
            }
        }
    };
}

in_transaction!(SqliteTx, InSqlite, SqlitePool);
in_transaction!(PostgresTx, InPostgres, PgPool);

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
        assert_eq!((doubles, lost), (0, 0), "doubles, lost");
        assert_eq!(self.acknowledged.len() as u64, FULFILMENTS, "every one was answered with 200");
    }

    async fn expect_doubles(&self, effects: &impl Effects) {
        let (doubles, _) = self.report(effects).await;
        assert!(doubles > 0, "the storm does not see what is wrong with this design");
    }

    async fn report(&self, effects: &impl Effects) -> (usize, usize) {
        let counts = effects.effects().await;
        let doubles = doubles(&counts);
        let lost = self.acknowledged.iter().filter(|id| !counts.contains_key(id)).count();
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

fn doubles(effects: &HashMap<u64, u32>) -> usize {
    effects.values().filter(|times| **times > 1).count()
}

async fn storm(services: Vec<Webhook>) -> Heard {
    let (start, heard) = (Instant::now(), Mutex::default());
    deliver(&Handle::current(), &services, &heard).await;
    Heard { took: start.elapsed(), ..heard.into_inner().expect("whole") }
}

/// The service has a runtime of its own, which ends at any moment: what was running stops at its
/// next `await`, as in a process that is killed. Whoever was not answered sends it again.
async fn storm_with_cuts(handler: &impl Effects, service: impl Fn() -> Webhook) -> Heard {
    let (start, heard, mut cuts) = (Instant::now(), Mutex::default(), 0);
    loop {
        let process =
            Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let services = [service()];
        let life = Duration::from_millis(handler.weather().dice.roll(40..250));
        let ended = timeout(life, deliver(process.handle(), &services, &heard)).await.is_ok();
        drop(services);
        let end = move || process.shutdown_timeout(Duration::from_secs(5));
        spawn_blocking(end).await.expect("no panic");
        if ended || doubles(&handler.effects().await) >= ENOUGH {
            return Heard { took: start.elapsed(), cuts, ..heard.into_inner().expect("whole") };
        }
        cuts += 1;
    }
}

/// Sends every fulfilment that is not acknowledged, until it is.
async fn deliver(process: &Handle, services: &[Webhook], heard: &Mutex<Heard>) {
    let acknowledged = heard.lock().expect("whole").acknowledged.clone();
    stream::iter((1..=FULFILMENTS).filter(|id| !acknowledged.contains(id)))
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
