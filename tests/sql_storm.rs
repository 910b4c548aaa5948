//! The storm over SQL: many deliveries at once of each reward, to eight services over one database,
//! whose handlers nap, fail in 20 % of all calls and panic in 10 %, each *after* the write. Sent
//! again until the answer is `200`. Every reward is granted once: none twice, none lost.

mod support {
    pub(crate) mod deliver;
    pub(crate) mod dice;
    pub(crate) mod postgres;
}

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures::{
    StreamExt,
    future::{join_all, ready},
    stream,
};
use sqlx::{
    SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};
use tokio::time::sleep;
use tower_firstpromoter::{
    BoxError, Fulfil, FulfilIn, Outcome, Verdict, Webhook,
    event::Fulfilment,
    once::{Once, PostgresStore, PostgresTx, SqliteStore, SqliteTx},
};

use self::support::{
    deliver::{deliver, webhook},
    dice::Dice,
    postgres::{effects, grant, story},
};

const DUPLICATES: usize = 64;
const AT_ONCE: usize = 8;
const SERVICES: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn postgres_in_the_transaction() {
    story(|db| async move {
        let dice = Arc::new(Dice::new("PostgreSQL, in the transaction"));
        let pool = db.ready(2).await;
        let services = join_all((0..SERVICES).map(|_| async {
            webhook(InTx(Arc::clone(&dice)), PostgresStore::new(db.pool(8).await))
        }));
        storm(&services.await, 200).await;
        once_each(effects(&pool).await, 200);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn postgres_elsewhere() {
    story(|db| async move {
        db.ready(1).await;
        let handler = Elsewhere::new("PostgreSQL, elsewhere");
        let services = join_all((0..SERVICES).map(|_| async {
            webhook(Arc::clone(&handler), PostgresStore::new(db.pool(8).await))
        }));
        storm(&services.await, 100).await;
        once_each(handler.effects(), 100);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sqlite_in_the_transaction() {
    let dice = Arc::new(Dice::new("SQLite, in the transaction"));
    let directory = tempfile::tempdir().expect("a directory");
    let open = async || sqlite(directory.path()).await;
    let pool = open().await;
    let services = join_all(
        (0..SERVICES)
            .map(|_| async { webhook(InTx(Arc::clone(&dice)), SqliteStore::new(open().await)) }),
    );
    storm(&services.await, 100).await;
    let effects = sqlx::query_as("SELECT id, count(*) FROM effects GROUP BY id");
    once_each(effects.fetch_all(&pool).await.expect("the effects"), 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sqlite_elsewhere() {
    let handler = Elsewhere::new("SQLite, elsewhere");
    let directory = tempfile::tempdir().expect("a directory");
    let services = join_all((0..SERVICES).map(|_| async {
        let pool = sqlite(directory.path()).await;
        webhook(Arc::clone(&handler), SqliteStore::new(pool))
    }));
    storm(&services.await, 100).await;
    once_each(handler.effects(), 100);
}

async fn sqlite(directory: &std::path::Path) -> SqlitePool {
    let options = SqliteConnectOptions::new()
        .filename(directory.join("app.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal);
    let pool = SqlitePool::connect_with(options).await.expect("a database");
    SqliteStore::new(pool.clone()).create_table().await.expect("a table");
    let table = sqlx::raw_sql("CREATE TABLE IF NOT EXISTS effects (id INTEGER NOT NULL)");
    table.execute(&pool).await.expect("a table");
    pool
}

/// Sends each reward to all services until all of them know that it is granted.
async fn storm(services: &[Webhook<Once>], rewards: u64) {
    let (started, answers) = (Instant::now(), Mutex::new(BTreeMap::new()));
    stream::iter(0..rewards)
        .for_each_concurrent(AT_ONCE, async |id| {
            loop {
                let duplicates = services.iter().cycle().take(DUPLICATES);
                let heard = join_all(duplicates.map(|service| deliver(service, id))).await;
                let mut answers = answers.lock().expect("whole");
                for verdict in &heard {
                    *answers.entry(verdict.code()).or_insert(0) += 1;
                }
                if heard.iter().all(|verdict| *verdict == Verdict::Granted) {
                    break ready(()).await;
                }
            }
        })
        .await;
    let answers = answers.into_inner().expect("whole");
    println!("{rewards} rewards in {:.1?}: {answers:?}", started.elapsed());
    assert_eq!(answers.get("store_unavailable").or(answers.get("not_recorded")), None);
}

#[track_caller]
fn once_each(effects: Vec<(i64, i64)>, rewards: usize) {
    let doubled: Vec<_> = effects.iter().filter(|(_, times)| *times > 1).collect();
    assert_eq!((doubled.len(), effects.len()), (0, rewards), "twice, at all: {doubled:?}");
}

/// What becomes of a handler after its write.
async fn fate(dice: &Dice) -> Result<Outcome, BoxError> {
    sleep(Duration::from_micros(dice.roll(0..1_500))).await;
    match dice.roll(0..10) {
        0 | 1 => Err("on purpose".into()),
        // Without the hook, whose output would be the whole log.
        2 => std::panic::resume_unwind(Box::new("on purpose")),
        _ => Ok(Outcome::Fulfilled),
    }
}

struct InTx(Arc<Dice>);

impl FulfilIn<PostgresTx> for InTx {
    type Error = BoxError;

    async fn fulfil_in(&self, f: Fulfilment, tx: &mut PostgresTx) -> Result<Outcome, BoxError> {
        grant(f.id.get(), tx).await?;
        fate(&self.0).await
    }
}

impl FulfilIn<SqliteTx> for InTx {
    type Error = BoxError;

    async fn fulfil_in(&self, f: Fulfilment, tx: &mut SqliteTx) -> Result<Outcome, BoxError> {
        let id = f.id.get() as i64;
        sqlx::query("INSERT INTO effects VALUES (?)").bind(id).execute(&mut **tx).await?;
        fate(&self.0).await
    }
}

/// Grants in this process. Fails before, and panics before or after.
struct Elsewhere {
    grants: Mutex<HashMap<u64, i64>>,
    dice: Dice,
}

impl Elsewhere {
    fn new(name: &str) -> Arc<Self> {
        Arc::new(Self { grants: Mutex::default(), dice: Dice::new(name) })
    }

    fn effects(&self) -> Vec<(i64, i64)> {
        self.grants.lock().expect("whole").iter().map(|(id, times)| (*id as i64, *times)).collect()
    }
}

impl Fulfil for Elsewhere {
    type Error = BoxError;

    async fn fulfil(&self, f: Fulfilment) -> Result<Outcome, BoxError> {
        let outcome =
            if self.dice.roll(0..2) == 0 { fate(&self.dice).await? } else { Outcome::Fulfilled };
        *self.grants.lock().expect("whole").entry(f.id.get()).or_default() += 1;
        sleep(Duration::from_micros(self.dice.roll(0..1_500))).await;
        if self.dice.roll(0..20) == 0 {
            std::panic::resume_unwind(Box::new("on purpose"));
        }
        Ok(outcome)
    }

    async fn was_granted(&self, f: &Fulfilment) -> Result<Option<bool>, BoxError> {
        Ok(Some(self.grants.lock().expect("whole").contains_key(&f.id.get())))
    }
}
