//! Processes that grant from one SQLite file are killed with `kill -9` at random moments, and what
//! they were sent is sent again. Through the store's transaction there may be two of them; of those
//! that grant elsewhere there is one at a time.

mod support {
    pub(crate) mod deliver;
    pub(crate) mod machine;
}

use std::time::{Duration, SystemTime};

use sqlx::{
    SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};
use tokio::time::sleep;
use tower_firstpromoter::{
    BoxError, Fulfil, FulfilIn, Outcome,
    event::Fulfilment,
    once::{SqliteStore, SqliteTx, Store},
};

use self::support::{
    deliver::webhook,
    machine::{self, Machine, once_each, play, role},
};

async fn open(path: &str) -> SqlitePool {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal);
    SqlitePool::connect_with(options).await.expect("a database")
}

async fn killed(mode: &'static str, processes: u64, kills: u32, longest: u64) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("app.db").display().to_string();
    let pool = open(&path).await;
    let store = SqliteStore::new(pool.clone());
    store.create_table().await.expect("a table");
    let table = sqlx::raw_sql("CREATE TABLE effects (id INTEGER NOT NULL)");
    table.execute(&pool).await.expect("a table");

    let granted = machine::killed(&path, mode, processes, kills, longest).await;

    let effects: Vec<_> = sqlx::query_as("SELECT id, count(*) FROM effects GROUP BY id")
        .fetch_all(&pool)
        .await
        .expect("the effects");
    once_each(&effects, granted);
    let doubts = store.in_doubt().await.expect("a database");
    assert!(doubts.is_empty(), "{doubts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_granting_in_the_transaction() {
    killed("in_tx", 2, 15, 400).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_granting_elsewhere() {
    killed("elsewhere", 1, 15, 400).await;
}

/// Two processes could not tell each other's running grants from doubts.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_may_not_grant_elsewhere() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("app.db").display().to_string();
    let pool = open(&path).await;
    let store = SqliteStore::new(pool.clone());
    store.create_table().await.expect("a table");
    let table = sqlx::raw_sql("CREATE TABLE effects (id INTEGER NOT NULL)");
    table.execute(&pool).await.expect("a table");

    let mut first = Machine::start(&path, "elsewhere").await;
    first.send(1).await;
    assert_eq!(first.answer().await, (1, "granted".to_owned()));
    let mut second = Machine::start(&path, "elsewhere").await;
    second.send(1).await;
    assert_eq!(second.answer().await, (1, "granted".to_owned()), "what is over, anyone may know");
    second.send(2).await;
    assert_eq!(second.answer().await, (2, "store_unavailable".to_owned()));
    // With the transaction there is nothing to refuse.
    let mut third = Machine::start(&path, "in_tx").await;
    while {
        third.send(3).await;
        third.answer().await.1 != "granted"
    } {}

    first.kill().await;
    second.send(2).await;
    assert_eq!(second.answer().await, (2, "granted".to_owned()));
    second.kill().await;
    third.kill().await;
}

/// Not a story: what the other processes run.
#[tokio::test(flavor = "multi_thread")]
async fn machine() {
    let Some((path, mode)) = role() else { return };
    let pool = open(&path).await;
    let store = SqliteStore::new(pool.clone());
    play(match mode.as_str() {
        "elsewhere" => webhook(Elsewhere(pool), store),
        "in_tx" => webhook(InTx, store),
        other => panic!("no such mode: {other}"),
    })
    .await;
}

struct InTx;

impl FulfilIn<SqliteTx> for InTx {
    type Error = BoxError;

    async fn fulfil_in(&self, f: Fulfilment, tx: &mut SqliteTx) -> Result<Outcome, BoxError> {
        let id = f.id.get() as i64;
        sqlx::query("INSERT INTO effects VALUES (?)").bind(id).execute(&mut **tx).await?;
        sleep(Duration::from_millis(f.id.get() % 3)).await;
        // The clock is the dice: an error after the write must undo it.
        match SystemTime::UNIX_EPOCH.elapsed()?.subsec_micros() % 5 {
            0 => Err("on purpose".into()),
            _ => Ok(Outcome::Fulfilled),
        }
    }
}

/// Grants on a connection of its own, so that no rollback undoes it.
struct Elsewhere(SqlitePool);

impl Fulfil for Elsewhere {
    type Error = sqlx::Error;

    async fn fulfil(&self, f: Fulfilment) -> Result<Outcome, sqlx::Error> {
        sleep(Duration::from_millis(f.id.get() % 3)).await;
        let id = f.id.get() as i64;
        sqlx::query("INSERT INTO effects VALUES (?)").bind(id).execute(&self.0).await?;
        sleep(Duration::from_millis(f.id.get() % 3)).await;
        Ok(Outcome::Fulfilled)
    }

    async fn was_granted(&self, f: &Fulfilment) -> Result<Option<bool>, sqlx::Error> {
        let (granted,): (bool,) =
            sqlx::query_as("SELECT EXISTS (SELECT * FROM effects WHERE id = ?)")
                .bind(f.id.get() as i64)
                .fetch_one(&self.0)
                .await?;
        Ok(Some(granted))
    }
}
