//! Two processes that fulfil from one SQLite file are killed with `kill -9` at random moments, and what
//! they were sent is sent again. Every fulfilment takes effect, and once.

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
    BoxError, FulfilIn, Outcome,
    event::Fulfilment,
    store::{SqliteStore, SqliteTx, Store},
};

use self::support::{
    deliver::webhook,
    machine::{self, once_each, play, role},
};

async fn open(path: &str, mode: &str) -> SqlitePool {
    let journal = match mode {
        "wal" => SqliteJournalMode::Wal,
        "delete" => SqliteJournalMode::Delete,
        other => panic!("no such mode: {other}"),
    };
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    SqlitePool::connect_with(options.journal_mode(journal)).await.expect("a database")
}

async fn killed(mode: &'static str, longest: u64) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("app.db").display().to_string();
    let pool = open(&path, mode).await;
    let store = SqliteStore::new(pool.clone());
    store.create_table().await.expect("a table");
    let table = sqlx::raw_sql("CREATE TABLE effects (id INTEGER NOT NULL)");
    table.execute(&pool).await.expect("a table");

    let fulfilled = machine::killed(&path, mode, 2, 15, longest).await;

    let effects: Vec<_> = sqlx::query_as("SELECT id, count(*) FROM effects GROUP BY id")
        .fetch_all(&pool)
        .await
        .expect("the effects");
    once_each(&effects, fulfilled);
    let open = store.open(usize::MAX).await.expect("a database");
    assert!(open.is_empty(), "{open:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_with_a_write_ahead_log() {
    killed("wal", 400).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_with_a_rollback_journal() {
    killed("delete", 1_000).await;
}

/// Not a test, but what the other processes run.
#[tokio::test(flavor = "multi_thread")]
async fn machine() {
    let Some((path, mode)) = role() else { return };
    play(webhook(Credits, SqliteStore::new(open(&path, &mode).await))).await;
}

struct Credits;

impl FulfilIn<SqliteTx> for Credits {
    type Error = BoxError;

    async fn fulfil_in(&self, f: Fulfilment, tx: &mut SqliteTx) -> Result<Outcome, BoxError> {
        let id = f.id.get() as i64;
        sqlx::query("INSERT INTO effects VALUES (?)").bind(id).execute(&mut **tx).await?;
        sleep(Duration::from_millis(f.id.get() % 3)).await;
        // Random by the clock: an error after the write must undo it.
        match SystemTime::UNIX_EPOCH.elapsed()?.subsec_micros() % 5 {
            0 => Err("on purpose".into()),
            _ => Ok(Outcome::Fulfilled),
        }
    }
}
