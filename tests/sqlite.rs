//! Effect and record are in one SQLite transaction, which the store alone can commit.

mod support {
    pub(crate) mod deliver;
}

use std::{
    future::Future,
    path::Path,
    pin::pin,
    process::Command,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use futures::future::join_all;
use sqlx::{
    Connection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use tower_firstpromoter::{
    BoxError, FulfilIn, Outcome, Verdict,
    event::Fulfilment,
    store::{Begin, Claim, End, SqliteStore, SqliteTx, State, Store},
    testkit::{Kind, namespace_contract, store_contract},
};

use self::support::deliver::{deliver, webhook};

const JOURNALS: [SqliteJournalMode; 2] = [SqliteJournalMode::Wal, SqliteJournalMode::Delete];

const LOST: &str = "the transaction ended before the handler did: nothing it wrote is kept";

/// A database in a directory of its own, with `effects`: what the handlers fulfil. It has no key, so
/// that every double shows.
struct Database {
    directory: TempDir,
    journal: SqliteJournalMode,
}

impl Database {
    async fn new(journal: SqliteJournalMode) -> (Self, SqlitePool) {
        let db = Self { directory: tempfile::tempdir().expect("a directory"), journal };
        let pool = db.pool().await;
        prepare(&pool).await;
        (db, pool)
    }

    fn options(&self) -> SqliteConnectOptions {
        options(&self.directory.path().join("app.db")).journal_mode(self.journal)
    }

    async fn pool(&self) -> SqlitePool {
        pool_of(6, self.options()).await
    }
}

fn options(path: &Path) -> SqliteConnectOptions {
    // Weaker than the store allows.
    let options = SqliteConnectOptions::new().synchronous(SqliteSynchronous::Off);
    options.filename(path).create_if_missing(true)
}

async fn pool_of(connections: u32, options: SqliteConnectOptions) -> SqlitePool {
    let pool = SqlitePoolOptions::new().max_connections(connections);
    pool.connect_with(options).await.expect("a database")
}

async fn memory(connections: u32) -> SqlitePool {
    let pool = pool_of(connections, "sqlite::memory:".parse().expect("options")).await;
    prepare(&pool).await;
    pool
}

async fn prepare(pool: &SqlitePool) {
    SqliteStore::new(pool.clone()).create_table().await.expect("a table");
    run(pool, "CREATE TABLE effects (id INTEGER NOT NULL)").await;
}

async fn run(pool: &SqlitePool, sql: &'static str) {
    sqlx::raw_sql(sql).execute(pool).await.expect("a statement of the test's");
}

async fn effects(pool: &SqlitePool) -> Vec<(i64, i64)> {
    sqlx::query_as("SELECT id, count(*) FROM effects GROUP BY id ORDER BY id")
        .fetch_all(pool)
        .await
        .expect("the effects")
}

fn claim_of(id: u64, amount: u64, promoter: u64) -> Claim {
    let body = format!(
        r#"{{"event":{{"type":"fulfilment_pending"}},"data":{{"id":{id},"amount":{amount},"unit":"credits","promoter":{{"id":{promoter},"cust_id":"ada"}}}}}}"#
    );
    Claim::new(&Fulfilment::decode(body).expect("a fulfilment"))
}

fn claim(id: u64) -> Claim {
    claim_of(id, 3, 7)
}

async fn begin(store: &SqliteStore, claim: &Claim) -> SqliteTx {
    match store.begin(claim).await.expect("a database") {
        Begin::Run { tx, .. } | Begin::InDoubt { tx, .. } => tx,
        other => panic!("no transaction: {other:?}"),
    }
}

/// What a handler does that swallows every error.
async fn write(tx: &mut SqliteTx, id: i64) {
    let _ = sqlx::query("INSERT INTO effects VALUES (?)").bind(id).execute(&mut **tx).await;
}

async fn fulfil(store: &SqliteStore, id: u64) -> State {
    let mut tx = begin(store, &claim(id)).await;
    write(&mut tx, id as i64).await;
    store.end(tx, End::Fulfilled).await.expect("a record")
}

#[track_caller]
fn told(record: Option<tower_firstpromoter::store::Record>) -> (State, u32, Option<String>) {
    let record = record.expect("a record");
    (record.state, record.attempts, record.reason)
}

/// No attempt of the store's has left anything behind that swallows or refuses the application's own
/// writes, on whichever connection of the pool.
async fn the_application_can_write(pool: &SqlitePool, other: &SqlitePool) {
    let mut conns = Vec::new();
    for _ in 0..pool.options().get_max_connections() {
        conns.push(pool.acquire().await.expect("a connection"));
    }
    for conn in &mut conns {
        sqlx::query("INSERT INTO effects VALUES (-1)").execute(&mut **conn).await.expect("a write");
        let (synchronous, patience): (i64, i64) = sqlx::query_as(
            "SELECT synchronous, timeout FROM pragma_synchronous, pragma_busy_timeout",
        )
        .fetch_one(&mut **conn)
        .await
        .expect("its settings");
        assert_eq!((synchronous, patience), (0, 5000), "as the application has set them");
    }
    let (seen,): (u32,) = sqlx::query_as("SELECT count(*) FROM effects WHERE id = -1")
        .fetch_one(other)
        .await
        .expect("the application's own");
    assert_eq!(seen as usize, conns.len(), "a write of the application's has vanished");
    drop(conns);
    run(pool, "DELETE FROM effects WHERE id = -1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_store_keeps_its_contract() {
    for journal in JOURNALS {
        let (_db, pool) = Database::new(journal).await;
        let store = SqliteStore::new(pool);
        store_contract(Kind::Transactional, async || store.clone()).await;
        let other = store.clone().namespace("another account").expect("a namespace");
        namespace_contract(&store, &other).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_decides_what_is_kept() {
    for journal in JOURNALS {
        let (_db, pool) = Database::new(journal).await;
        let store = SqliteStore::new(pool.clone());
        let why = || "why".to_owned();
        for (id, end, kept, state, runs, reason) in [
            (1, End::Fulfilled, 1, State::Fulfilled, 1, None),
            (2, End::Pending, 1, State::Pending, 1, None),
            (3, End::Failed(why()), 0, State::Failed, 1, Some("why")),
            (4, End::InDoubt(why()), 0, State::InDoubt, 1, Some("why")),
            (5, End::Interrupted(why()), 0, State::Failed, 1, Some("why")),
            (6, End::NotRun(why()), 0, State::Failed, 0, Some("why")),
            (7, End::WasFulfilled, 0, State::Fulfilled, 0, None),
            // A savepoint of the handler's, by a name that the store might use.
            (8, End::Failed("a \0 in it".into()), 0, State::Failed, 1, Some("a \0 in it")),
        ] {
            let mut tx = begin(&store, &claim(id)).await;
            write(&mut tx, id as i64).await;
            let savepoint = sqlx::raw_sql("SAVEPOINT firstpromoter").execute(&mut *tx).await;
            savepoint.expect("a savepoint");
            assert_eq!(store.end(tx, end.clone()).await.expect("a record"), state, "{end:?}");
            let there = effects(&pool).await.iter().filter(|(it, _)| *it == id as i64).count();
            assert_eq!(there, kept, "{end:?}");
            let record = store.get(id.into()).await.expect("a database");
            assert_eq!(told(record), (state, runs, reason.map(str::to_owned)), "{end:?}");
            match store.begin(&claim(id)).await.expect("a database") {
                Begin::Fulfilled => assert_eq!(state, State::Fulfilled),
                Begin::InDoubt { attempt: 2, .. } => assert_eq!(state, State::InDoubt),
                Begin::Run { attempt, .. } => {
                    assert!(matches!(state, State::Failed | State::Pending));
                    assert_eq!(attempt, runs + 1);
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

/// Whatever ends the transaction, nothing stays of the attempt, neither what it
/// wrote before nor what it goes on to write.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_ended_early_commits_nothing() {
    for journal in JOURNALS {
        let (db, pool) = Database::new(journal).await;
        run(
            &pool,
            "CREATE TABLE rolls (id INTEGER UNIQUE ON CONFLICT ROLLBACK);
             INSERT INTO rolls VALUES (1);
             CREATE TABLE raises (id INTEGER);
             CREATE TRIGGER raising BEFORE INSERT ON raises BEGIN SELECT RAISE(ROLLBACK, 'no'); END;
             CREATE TABLE keyed (id INTEGER UNIQUE); INSERT INTO keyed VALUES (1)",
        )
        .await;
        let store = SqliteStore::new(pool.clone());
        for (id, ends) in (1..).zip([
            "INSERT INTO rolls VALUES (1)",
            "INSERT INTO raises VALUES (1)",
            "INSERT OR ROLLBACK INTO keyed VALUES (1)",
            "COMMIT",
            "END; BEGIN IMMEDIATE",
            "ROLLBACK",
            "ROLLBACK; BEGIN IMMEDIATE",
            "ROLLBACK; BEGIN; SAVEPOINT firstpromoter",
            "RELEASE firstpromoter; COMMIT",
        ]) {
            for end in [End::Fulfilled, End::Pending, End::Failed("why".into())] {
                let mut tx = begin(&store, &claim(id)).await;
                write(&mut tx, id as i64).await;
                let _ = sqlx::raw_sql(ends).execute(&mut *tx).await;
                if ends.starts_with("RELEASE") {
                    // Nothing was released; the statement after it was not run.
                    let _ = sqlx::raw_sql("COMMIT").execute(&mut *tx).await;
                }
                write(&mut tx, id as i64).await;
                if let Ok(mut nested) = tx.begin().await {
                    let insert = sqlx::query("INSERT INTO effects VALUES (?)").bind(id as i64);
                    let _ = insert.execute(&mut *nested).await;
                    let _ = nested.commit().await;
                }
                let reason = if let End::Failed(why) = &end { why.clone() } else { LOST.into() };
                assert_eq!(store.end(tx, end).await.expect("a record"), State::Failed, "{ends}");
                let (state, _, why) = told(store.get(id.into()).await.expect("a database"));
                assert_eq!((state, why), (State::Failed, Some(reason)), "{ends}");
                assert_eq!(effects(&pool).await, [], "{ends}");
            }
            let mut tx = begin(&store, &claim(id)).await;
            let _ = sqlx::raw_sql(ends).execute(&mut *tx).await;
            let ended = store.end(tx, End::InDoubt("who knows".into())).await;
            assert_eq!(ended.expect("a record"), State::InDoubt, "{ends}");
            assert!(matches!(store.begin(&claim(id)).await, Ok(Begin::InDoubt { attempt: 5, .. })));
            the_application_can_write(&pool, &db.pool().await).await;
        }
        assert_eq!(fulfil(&store, 100).await, State::Fulfilled);
        assert_eq!(effects(&pool).await, [(100, 1)]);
    }
}

/// A full disk, played by a limit of pages.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_database_commits_nothing() {
    for journal in JOURNALS {
        let (db, pool) = Database::new(journal).await;
        run(&pool, "CREATE TABLE blobs (it BLOB)").await;
        let store = SqliteStore::new(pool_of(1, db.options()).await);
        for _ in 0..3 {
            let mut tx = begin(&store, &claim(1)).await;
            write(&mut tx, 1).await;
            let full = "PRAGMA max_page_count = 1; INSERT INTO blobs VALUES (zeroblob(1000000))";
            let full = sqlx::raw_sql(full).execute(&mut *tx).await.map(drop).expect_err("an error");
            assert!(full.to_string().contains("full"), "{full}");
            write(&mut tx, 1).await;
            // Room for the record, and for nothing large.
            let _ = sqlx::raw_sql("PRAGMA max_page_count = 1000000").execute(&mut *tx).await;
            assert_eq!(store.end(tx, End::Fulfilled).await.expect("a record"), State::Failed);
            assert_eq!(effects(&pool).await, []);
        }
        assert_eq!(fulfil(&store, 1).await, State::Fulfilled);
        assert_eq!(effects(&pool).await, [(1, 1)]);
    }
}

/// A full file system, then room again.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_commits_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let mount = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=512k", "tmpfs"])
        .arg(directory.path())
        .output();
    if !mount.as_ref().is_ok_and(|mount| mount.status.success()) {
        println!("skipped: a small tmpfs cannot be mounted here: {mount:?}");
        return;
    }
    struct Mounted<'a>(&'a Path);
    impl Drop for Mounted<'_> {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg("-l").arg(self.0).status();
        }
    }
    let _mounted = Mounted(directory.path());
    for (name, journal) in ["wal.db", "delete.db"].into_iter().zip(JOURNALS) {
        let options = options(&directory.path().join(name)).journal_mode(journal);
        let pool = pool_of(2, options.clone()).await;
        prepare(&pool).await;
        run(&pool, "CREATE TABLE blobs (it BLOB)").await;
        let store = SqliteStore::new(pool.clone());
        let filler = directory.path().join("filler");
        let mut ends = Vec::new();
        for _ in 0..3 {
            let mut tx = begin(&store, &claim(1)).await;
            write(&mut tx, 1).await;
            // All the room there is.
            let _ = std::fs::write(&filler, vec![0; 512 * 1024]);
            let blob = sqlx::raw_sql("INSERT INTO blobs VALUES (zeroblob(9000000))");
            assert!(blob.execute(&mut *tx).await.is_err(), "there is no room");
            write(&mut tx, 1).await;
            let ended = store.end(tx, End::Fulfilled).await;
            std::fs::remove_file(&filler).expect("room again");
            ends.push(format!("{ended:?}"));
            let fulfilled = matches!(ended, Ok(State::Fulfilled));
            assert_eq!(effects(&pool).await.len(), usize::from(fulfilled), "{ended:?}");
            if fulfilled {
                store.forget(1.into()).await.expect("room");
                run(&pool, "DELETE FROM effects").await;
            }
        }
        println!("{name}: {ends:?}");
        assert_eq!(fulfil(&store, 2).await, State::Fulfilled);
        assert_eq!(effects(&pool).await, [(2, 1)]);
        the_application_can_write(&pool, &pool_of(1, options).await).await;
        pool.close().await;
        for name in std::fs::read_dir(directory.path()).expect("it") {
            let _ = std::fs::remove_file(name.expect("a name").path());
        }
    }
}

/// What a handler leaves behind stays in no connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_nested_transaction_that_is_forgotten_is_not_left_in_the_pool() {
    for journal in JOURNALS {
        let (db, pool) = Database::new(journal).await;
        let store = SqliteStore::new(pool.clone());
        for (id, end) in (1..).zip([End::Fulfilled, End::Failed("why".into()), End::Pending]) {
            let mut tx = begin(&store, &claim(id)).await;
            std::mem::forget(tx.begin().await.expect("a nested one"));
            write(&mut tx, id as i64).await;
            std::mem::forget(tx.begin().await.expect("one more"));
            let kept = !matches!(end, End::Failed(_));
            let state = store.end(tx, end).await.expect("a record");
            assert_eq!(told(store.get(id.into()).await.expect("a database")).0, state);
            let there = effects(&pool).await.iter().any(|(it, _)| *it == id as i64);
            assert_eq!(there, kept, "{state}");
            the_application_can_write(&pool, &db.pool().await).await;

            let mut dropped = begin(&store, &claim(id + 100)).await;
            std::mem::forget(dropped.begin().await.expect("a nested one"));
            write(&mut dropped, id as i64 + 100).await;
            drop(dropped);
            let mut ended = begin(&store, &claim(id + 100)).await;
            std::mem::forget(ended.begin().await.expect("a nested one"));
            let _ = sqlx::raw_sql("ROLLBACK").execute(&mut *ended).await;
            write(&mut ended, id as i64 + 100).await;
            assert_eq!(store.end(ended, End::Fulfilled).await.expect("it"), State::Failed);
            the_application_can_write(&pool, &db.pool().await).await;
        }
        assert_eq!(effects(&pool).await, [(1, 1), (3, 1)]);
    }
}

/// What sqlx does when a nested transaction cannot begin: it rolls back everything.
#[tokio::test(flavor = "multi_thread")]
async fn a_nested_transaction_that_cannot_begin_undoes_the_attempt() {
    let (db, pool) = Database::new(SqliteJournalMode::Wal).await;
    let store = SqliteStore::new(pool.clone());
    for _ in 0..2 {
        let mut tx = begin(&store, &claim(1)).await;
        write(&mut tx, 1).await;
        tx.begin_with("BEGIN IMMEDIATE").await.map(drop).expect_err("an error");
        tx.ping().await.expect("the rollback");
        write(&mut tx, 1).await;
        assert_eq!(store.end(tx, End::Fulfilled).await.expect("a record"), State::Failed);
        assert_eq!(effects(&pool).await, []);
        the_application_can_write(&pool, &db.pool().await).await;
    }
    // Those that can, and one that is dropped.
    let mut tx = begin(&store, &claim(1)).await;
    let mut nested = tx.begin().await.expect("a nested one");
    sqlx::query("INSERT INTO effects VALUES (1)").execute(&mut *nested).await.expect("a write");
    nested.commit().await.expect("its end");
    let mut dropped = tx.begin().await.expect("a nested one");
    sqlx::query("INSERT INTO effects VALUES (2)").execute(&mut *dropped).await.expect("a write");
    drop(dropped);
    assert_eq!(store.end(tx, End::Fulfilled).await.expect("a record"), State::Fulfilled);
    assert_eq!(effects(&pool).await, [(1, 1)]);
}

/// A future may be dropped anywhere: what it has begun is undone, its connection is whole or gone.
#[tokio::test(flavor = "multi_thread")]
async fn futures_are_dropped_anywhere() {
    let (db, pool) = Database::new(SqliteJournalMode::Wal).await;
    let store = SqliteStore::new(pool.clone());
    for polls in 0..24 {
        if let Some(Ok(Begin::Run { tx, .. })) = polled(polls, store.begin(&claim(1))).await {
            drop(tx);
        }
        let tx = timeout(Duration::from_secs(5), async {
            loop {
                match store.begin(&claim(1)).await.expect("a database") {
                    Begin::Run { tx, .. } => break tx,
                    Begin::Busy => sleep(Duration::from_millis(1)).await,
                    other => panic!("{other:?}"),
                }
            }
        });
        let mut tx = tx.await.expect("let go");
        write(&mut tx, 1).await;
        // Sent, and not waited for.
        let _ = polled(1, sqlx::raw_sql("COMMIT").execute(&mut *tx)).await;
        let _ = polled(1, sqlx::raw_sql("INSERT INTO effects VALUES (1)").execute(&mut *tx)).await;
        let ended = polled(polls, store.end(tx, End::Fulfilled)).await;
        assert!(matches!(ended, None | Some(Ok(State::Failed))), "{ended:?}");
        the_application_can_write(&pool, &db.pool().await).await;
        assert_eq!(effects(&pool).await, [], "after {polls} polls");

        let mut tx = begin(&store, &claim(1000 + polls)).await;
        write(&mut tx, 1000).await;
        let ended = polled(polls, store.end(tx, End::Fulfilled)).await;
        the_application_can_write(&pool, &db.pool().await).await;
        let recorded = store.get((1000 + polls).into()).await.expect("a database");
        assert_eq!(effects(&pool).await.len(), usize::from(recorded.is_some()), "both or none");
        assert!(recorded.is_some() || ended.is_none(), "{ended:?}");
        run(&pool, "DELETE FROM effects").await;
    }
}

/// Polls so often, with what is waited for ready in between, then drops.
async fn polled<T>(polls: u64, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    for poll in 0..polls {
        if poll > 0 {
            sleep(Duration::from_millis(1)).await;
        }
        if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return Some(done);
        }
    }
    None
}

/// What a handler has sent and not waited for is over before its end is looked at.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_on_its_way_belongs_to_the_attempt() {
    let (_db, pool) = Database::new(SqliteJournalMode::Wal).await;
    let store = SqliteStore::new(pool.clone());
    let slow = "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 500000)
        SELECT count(*) FROM n";
    for (id, end, state) in
        [(1, End::Fulfilled, State::Failed), (2, End::InDoubt("who knows".into()), State::InDoubt)]
    {
        let mut tx = begin(&store, &claim(id)).await;
        write(&mut tx, id as i64).await;
        assert!(polled(1, sqlx::raw_sql(slow).execute(&mut *tx)).await.is_none());
        assert!(polled(1, sqlx::raw_sql("COMMIT").execute(&mut *tx)).await.is_none());
        assert_eq!(store.end(tx, end).await.expect("a record"), state);
        assert_eq!(told(store.get(id.into()).await.expect("a database")).0, state);
    }
    assert_eq!(effects(&pool).await, []);
}

/// Nothing is shared between pools.
#[tokio::test(flavor = "multi_thread")]
async fn databases_in_memory_are_unrelated() {
    for connections in [1, 4] {
        let (one, other) = (memory(connections).await, memory(connections).await);
        let stores = (SqliteStore::new(one.clone()), SqliteStore::new(other.clone()));
        let mut first = begin(&stores.0, &claim(1)).await;
        assert_eq!(
            timeout(Duration::from_secs(1), fulfil(&stores.1, 1)).await,
            Ok(State::Fulfilled)
        );
        assert!(matches!(stores.0.begin(&claim(1)).await, Ok(Begin::Busy)));
        write(&mut first, 1).await;
        stores.0.end(first, End::Failed("why".into())).await.expect("a record");
        assert_eq!((effects(&one).await, effects(&other).await), (vec![], vec![(1, 1)]));
        // Neither the drop of an attempt nor its early end takes a database in memory away.
        drop(begin(&stores.0, &claim(1)).await);
        let mut tx = begin(&stores.0, &claim(1)).await;
        let _ = sqlx::raw_sql("ROLLBACK").execute(&mut *tx).await;
        assert_eq!(stores.0.end(tx, End::Fulfilled).await.expect("a record"), State::Failed);
        assert_eq!(fulfil(&stores.0, 1).await, State::Fulfilled);
        assert_eq!(told(stores.0.get(1.into()).await.expect("it")), (State::Fulfilled, 3, None));
        assert_eq!(effects(&one).await, [(1, 1)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_of_one_will_do() {
    for journal in JOURNALS {
        let (db, _) = Database::new(journal).await;
        let pool = pool_of(1, db.options()).await;
        let store = SqliteStore::new(pool.clone());
        let mut tx = begin(&store, &claim(1)).await;
        write(&mut tx, 1).await;
        let asked = Instant::now();
        assert!(matches!(store.begin(&claim(1)).await, Ok(Begin::Busy)));
        assert!(!store.forget(1.into()).await.expect("it is held"));
        assert!(!store.resolve(1.into(), true).await.expect("it is held"));
        assert!(asked.elapsed() < Duration::from_millis(500), "it waited");
        let other = {
            let store = store.clone();
            tokio::spawn(async move { fulfil(&store, 2).await })
        };
        sleep(Duration::from_millis(100)).await;
        assert!(!other.is_finished(), "one attempt after the other");
        store.end(tx, End::Fulfilled).await.expect("a record");
        assert_eq!(other.await.expect("no panic"), State::Fulfilled);
        drop(begin(&store, &claim(3)).await);
        assert_eq!(fulfil(&store, 3).await, State::Fulfilled);
        assert_eq!(effects(&pool).await, [(1, 1), (2, 1), (3, 1)]);
        the_application_can_write(&pool, &db.pool().await).await;
    }
}

/// One file under two names, each with a pool and a store of its own.
#[tokio::test(flavor = "multi_thread")]
async fn one_file_under_two_names_is_one_database() {
    for journal in JOURNALS {
        let (db, pool) = Database::new(journal).await;
        let link = db.directory.path().join("link.db");
        std::os::unix::fs::symlink(db.directory.path().join("app.db"), &link).expect("a link");
        let linked = pool_of(2, options(&link).journal_mode(journal)).await;
        let (one, other) = (SqliteStore::new(pool.clone()), SqliteStore::new(linked));
        let mut tx = begin(&one, &claim(1)).await;
        write(&mut tx, 1).await;
        let asked = Instant::now();
        assert!(matches!(other.begin(&claim(1)).await, Ok(Begin::Busy)));
        assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
        one.end(tx, End::Fulfilled).await.expect("a record");
        assert!(matches!(other.begin(&claim(1)).await, Ok(Begin::Fulfilled)));
        assert_eq!(effects(&pool).await, [(1, 1)]);
    }
}

/// Another pool asks all the time. It may have what failed at once, and never what is in doubt, or
/// was fulfilled.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_begins_between_the_undoing_and_the_doubt() {
    for journal in JOURNALS {
        let (db, pool) = Database::new(journal).await;
        let store = SqliteStore::new(pool.clone());
        let other = SqliteStore::new(db.pool().await);
        for id in 0..40 {
            let mut tx = begin(&store, &claim(id)).await;
            write(&mut tx, id as i64).await;
            let asks = {
                let other = other.clone();
                async move {
                    loop {
                        match other.begin(&claim(id)).await.expect("a database") {
                            Begin::Busy => {}
                            Begin::InDoubt { attempt, .. } => return attempt,
                            answer => panic!("{answer:?}"),
                        }
                    }
                }
            };
            let asks = tokio::spawn(asks);
            sleep(Duration::from_millis(2)).await;
            let doubt = End::InDoubt("who knows".into());
            assert_eq!(store.end(tx, doubt).await.expect("a record"), State::InDoubt);
            assert_eq!(asks.await.expect("a doubt, and nothing else"), 2);
        }
        assert_eq!(effects(&pool).await, []);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_storm_of_duplicates_is_fulfilled_once() {
    for journal in JOURNALS {
        let (db, pool) = Database::new(journal).await;
        let mut stores = Vec::new();
        for _ in 0..2 {
            stores.push(SqliteStore::new(db.pool().await));
        }
        let storm = (0..40 * 16).map(|n| {
            let (id, store) = (n / 16, stores[n as usize % 2].clone());
            tokio::spawn(async move {
                for turn in 0.. {
                    let mut tx = match store.begin(&claim(id)).await.expect("a database") {
                        Begin::Fulfilled => return,
                        Begin::Busy => {
                            sleep(Duration::from_millis(1 + n % 7)).await;
                            continue;
                        }
                        Begin::Run { tx, .. } => tx,
                        other => panic!("{other:?}"),
                    };
                    write(&mut tx, id as i64).await;
                    sleep(Duration::from_millis(n % 3)).await;
                    match (n + turn) % 7 {
                        0 => drop(store.end(tx, End::Failed("why".into())).await.expect("it")),
                        1 => drop(tx),
                        _ => drop(store.end(tx, End::Fulfilled).await.expect("a record")),
                    }
                }
            })
        });
        for ended in join_all(storm).await {
            ended.expect("no panic");
        }
        assert_eq!(effects(&pool).await, (0..40).map(|id| (id, 1)).collect::<Vec<_>>());
    }
}

/// The record says what was last asked for, and names one promoter.
#[tokio::test(flavor = "multi_thread")]
async fn the_record_says_what_was_last_asked_for() {
    let (_db, pool) = Database::new(SqliteJournalMode::Wal).await;
    let store = SqliteStore::new(pool);
    let tx = begin(&store, &claim_of(u64::MAX, 3, 7)).await;
    store.end(tx, End::Failed("why".into())).await.expect("a record");
    assert!(matches!(store.begin(&claim_of(u64::MAX, 3, 8)).await, Ok(Begin::Mismatch)));
    let tx = begin(&store, &claim_of(u64::MAX, 5, 7)).await;
    store.end(tx, End::Fulfilled).await.expect("a record");
    assert!(matches!(store.begin(&claim_of(u64::MAX, 5, 8)).await, Ok(Begin::Mismatch)));
    let record = store.get(u64::MAX.into()).await.expect("a database").expect("a record");
    assert_eq!((record.amount.to_string(), record.unit.as_str()), ("5".to_owned(), "credits"));
    assert_eq!((record.promoter.get(), record.cust_id.as_deref()), (7, Some("ada")));
    assert_eq!((record.state, record.attempts, record.reason), (State::Fulfilled, 2, None));
    assert!(record.first_seen < record.changed);
    assert!(record.changed.elapsed().is_ok_and(|age| age < Duration::from_secs(60)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_and_resolves() {
    let (_db, pool) = Database::new(SqliteJournalMode::Wal).await;
    let store = SqliteStore::new(pool.clone());
    let other = store.clone().namespace("another account").expect("a namespace");
    for (id, end) in (1..).zip([
        End::Fulfilled,
        End::InDoubt("who knows".into()),
        End::Failed("why".into()),
        End::Pending,
        End::InDoubt("who knows".into()),
    ]) {
        let tx = begin(&store, &claim(id)).await;
        store.end(tx, end).await.expect("a record");
    }
    let open = async |store: &SqliteStore, limit| -> Vec<u64> {
        let open = store.open(limit).await.expect("a database");
        open.iter().map(|record| record.id.get()).collect()
    };
    assert_eq!(open(&store, usize::MAX).await, [5, 4, 3, 2]);
    assert_eq!(open(&store, 2).await, [5, 4]);
    assert_eq!(open(&other, 9).await, [0; 0]);
    assert!(!other.resolve(2.into(), true).await.expect("a database"));
    assert!(!other.forget(2.into()).await.expect("a database"));
    assert_eq!(other.get(2.into()).await.expect("a database"), None);
    for (id, fulfilled) in [(2, true), (5, false)] {
        assert!(store.resolve(id.into(), fulfilled).await.expect("a database"));
        assert!(!store.resolve(id.into(), fulfilled).await.expect("a database"));
    }
    assert!(!store.resolve(3.into(), true).await.expect("a database"), "it is in no doubt");
    assert_eq!(open(&store, 9).await, [5, 4, 3]);
    assert_eq!(told(store.get(2.into()).await.expect("it")), (State::Fulfilled, 1, None));
    let reason = Some("resolved: it was not fulfilled".to_owned());
    assert_eq!(told(store.get(5.into()).await.expect("it")), (State::Failed, 1, reason));
    assert!(matches!(store.begin(&claim(2)).await, Ok(Begin::Fulfilled)));
    assert!(matches!(store.begin(&claim(5)).await, Ok(Begin::Run { attempt: 2, .. })));
    assert!(store.forget(2.into()).await.expect("a database"));
    assert!(!store.forget(2.into()).await.expect("a database"));
    assert!(matches!(store.begin(&claim(2)).await, Ok(Begin::Run { attempt: 1, .. })));
    assert!(store.clone().namespace("x".repeat(201)).is_err(), "it is too long");

    let tx = begin(&store, &claim(6)).await;
    store.end(tx, End::InDoubt("who knows".into())).await.expect("a record");
    let tx = begin(&store, &claim(6)).await;
    store.end(tx, End::NotRun("nobody knows".into())).await.expect("a record");
    let reason = Some("who knows".to_owned());
    assert_eq!(told(store.get(6.into()).await.expect("it")), (State::InDoubt, 1, reason));
}

/// Whatever the application's connections are set to: what was fulfilled outlives a power failure.
#[tokio::test(flavor = "multi_thread")]
async fn commits_are_synced() {
    let (_db, pool) = Database::new(SqliteJournalMode::Wal).await;
    let store = SqliteStore::new(pool);
    let mut tx = begin(&store, &claim(1)).await;
    let level = sqlx::query_scalar("PRAGMA synchronous").fetch_one(&mut *tx).await;
    assert_eq!(level.ok(), Some(3), "EXTRA");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wait_for_another_attempt_of_the_store_is_bounded() {
    let (_db, pool) = Database::new(SqliteJournalMode::Wal).await;
    let store = SqliteStore::new(pool.clone());
    let mut tx = begin(&store, &claim(1)).await;
    write(&mut tx, 1).await;
    let asked = Instant::now();
    let (id, other) = (3.into(), claim(2));
    let (begins, resolves, forgets) =
        tokio::join!(store.begin(&other), store.resolve(id, true), store.forget(4.into()));
    assert!(matches!(begins, Ok(Begin::Busy)), "{begins:?}");
    assert!(!resolves.expect("no error") && !forgets.expect("no error"));
    let waited = asked.elapsed().as_secs();
    assert!((3..5).contains(&waited), "{waited} seconds");
    assert_eq!(store.end(tx, End::Fulfilled).await.expect("a record"), State::Fulfilled);
    assert_eq!(fulfil(&store, 2).await, State::Fulfilled);
    assert_eq!(effects(&pool).await, [(1, 1), (2, 1)]);
}

/// Somebody else writes and takes long about it, or reads where readers keep writers from committing.
#[tokio::test(flavor = "multi_thread")]
async fn waits_for_others_are_bounded() {
    for (journal, impatient) in JOURNALS.into_iter().zip([Duration::ZERO, Duration::from_secs(60)])
    {
        let (db, pool) = Database::new(journal).await;
        let store = SqliteStore::new(pool_of(2, db.options().busy_timeout(impatient)).await);
        let writer = pool.begin_with("BEGIN IMMEDIATE").await.expect("the write lock");
        let asked = Instant::now();
        assert!(matches!(store.begin(&claim(1)).await, Ok(Begin::Busy)));
        assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
        assert!(!store.forget(1.into()).await.expect("an attempt may be running"));
        writer.rollback().await.expect("the end of it");

        let mut tx = begin(&store, &claim(1)).await;
        write(&mut tx, 1).await;
        let reader = "BEGIN; SELECT count(*) FROM firstpromoter_fulfilments";
        let reader = pool.begin_with(reader).await.expect("their transaction");
        let end = store.end(tx, End::Fulfilled);
        let ends = async {
            sleep(Duration::from_millis(100)).await;
            reader.rollback().await.expect("the end of it");
        };
        assert_eq!(tokio::join!(end, ends).0.expect("in the end"), State::Fulfilled);

        // One that reads for ever.
        let mut tx = begin(&store, &claim(2)).await;
        write(&mut tx, 2).await;
        let reader = "BEGIN; SELECT count(*) FROM firstpromoter_fulfilments";
        let reader = pool.begin_with(reader).await.expect("their transaction");
        let asked = Instant::now();
        let ended = store.end(tx, End::Fulfilled).await;
        assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
        reader.rollback().await.expect("the end of it");
        assert_eq!(ended.is_ok(), journal == SqliteJournalMode::Wal, "{ended:?}");
        let kept = effects(&pool).await.len();
        assert_eq!(kept, if ended.is_ok() { 2 } else { 1 });
    }
}

/// A table that is missing or cannot be written is an error that says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_cannot_be_used_is_an_error() {
    let (db, pool) = Database::new(SqliteJournalMode::Delete).await;
    let read_only = SqliteStore::new(pool_of(2, db.options().read_only(true)).await);
    let readable = read_only.get(1.into()).await.expect("it can be read");
    assert_eq!(readable, None);
    let error = read_only.create_table().await.expect_err("an error");
    assert!(error.to_string().contains("readonly"), "{error}");
    assert!(read_only.begin(&claim(1)).await.is_err(), "no handler runs in vain");

    run(&pool, "DROP TABLE firstpromoter_fulfilments").await;
    let store = SqliteStore::new(pool);
    let error = store.begin(&claim(1)).await.map(drop).expect_err("an error");
    assert!(error.to_string().contains("`create_table`"), "{error}");
    store.create_table().await.expect("a table");
    store.create_table().await.expect("the same");
    assert_eq!(fulfil(&store, 1).await, State::Fulfilled);
}

/// What a handler does after it wrote its effect through the transaction.
#[derive(Clone, Copy, Debug)]
enum Does {
    Fulfils,
    Pends,
    Fails,
    Doubts,
    Panics,
    Commits,
    RollsBack,
    Forgets,
}

impl FulfilIn<SqliteTx> for Does {
    type Error = BoxError;

    async fn fulfil_in(&self, f: Fulfilment, tx: &mut SqliteTx) -> Result<Outcome, BoxError> {
        let id = f.id.get() as i64;
        write(tx, id).await;
        let ends = match self {
            Self::Fulfils => {
                sleep(Duration::from_millis(1)).await;
                return Ok(Outcome::Fulfilled);
            }
            Self::Pends => return Ok(Outcome::Pending),
            Self::Fails => return Err("no such account".into()),
            Self::Doubts => return Ok(Outcome::InDoubt("it timed out".into())),
            Self::Panics => panic!("on purpose"),
            Self::Commits => "COMMIT",
            Self::RollsBack => "ROLLBACK",
            Self::Forgets => {
                std::mem::forget(tx.begin().await?);
                return Err("forgets".into());
            }
        };
        let _ = sqlx::raw_sql(ends).execute(&mut **tx).await;
        write(tx, id).await;
        Ok(Outcome::Fulfilled)
    }

    async fn was_fulfilled(&self, f: &Fulfilment) -> Result<Option<bool>, BoxError> {
        Ok((f.id.get() == 5).then_some(false))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_is_answered_with_what_is_recorded() {
    for journal in JOURNALS {
        let (db, pool) = Database::new(journal).await;
        let store = SqliteStore::new(pool.clone());
        let fulfils = webhook(Does::Fulfils, store.clone());
        for (id, does, verdict, kept, state, again) in [
            (1, Does::Fulfils, Verdict::Fulfilled, 1, State::Fulfilled, Verdict::Fulfilled),
            (2, Does::Pends, Verdict::Pending, 1, State::Pending, Verdict::Fulfilled),
            (3, Does::Fails, Verdict::Failed, 0, State::Failed, Verdict::Fulfilled),
            (4, Does::Doubts, Verdict::InDoubt, 0, State::InDoubt, Verdict::InDoubt),
            (5, Does::Doubts, Verdict::InDoubt, 0, State::InDoubt, Verdict::Fulfilled),
            (6, Does::Panics, Verdict::Panicked, 0, State::Failed, Verdict::Fulfilled),
            (7, Does::Commits, Verdict::Failed, 0, State::Failed, Verdict::Fulfilled),
            (8, Does::RollsBack, Verdict::Failed, 0, State::Failed, Verdict::Fulfilled),
            (9, Does::Forgets, Verdict::Failed, 0, State::Failed, Verdict::Fulfilled),
        ] {
            assert_eq!(deliver(&webhook(does, store.clone()), id).await, verdict, "{does:?}");
            let there = effects(&pool).await.iter().filter(|(it, _)| *it == id as i64).count();
            assert_eq!(there, kept, "{does:?}");
            let (recorded, runs, _) = told(store.get(id.into()).await.expect("a database"));
            assert_eq!((recorded, runs), (state, 1), "{does:?}");
            assert_eq!(deliver(&fulfils, id).await, again, "{does:?}");
            the_application_can_write(&pool, &db.pool().await).await;
        }
        let once = [1, 3, 5, 6, 7, 8, 9].map(|id| (id, 1));
        let mut expected = once.to_vec();
        expected.insert(1, (2, 2));
        assert_eq!(
            effects(&pool).await,
            expected,
            "what was pending has run, and committed, twice"
        );
    }
}

/// Every retry had committed its later writes.
#[tokio::test(flavor = "multi_thread")]
async fn retries_of_a_handler_that_breaks_the_rule_take_no_effect() {
    let pool = memory(1).await;
    for does in [Does::Commits, Does::RollsBack] {
        let breaks = webhook(does, SqliteStore::new(pool.clone()));
        for _ in 0..8 {
            assert_eq!(deliver(&breaks, 1).await, Verdict::Failed);
            assert_eq!(effects(&pool).await, []);
        }
    }
    let fulfils = webhook(Does::Fulfils, SqliteStore::new(pool.clone()));
    assert_eq!(deliver(&fulfils, 1).await, Verdict::Fulfilled);
    assert_eq!(effects(&pool).await, [(1, 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_services_fulfil_each_once() {
    for journal in JOURNALS {
        let (db, pool) = Database::new(journal).await;
        let mut services = Vec::new();
        for _ in 0..2 {
            services.push(webhook(Does::Fulfils, SqliteStore::new(db.pool().await)));
        }
        let mut open: Vec<u64> = (100..140).collect();
        for round in 0.. {
            assert!(round < 50, "never all fulfilled: {open:?}");
            let answers = open.iter().flat_map(|id| (0..8).map(|n| (*id, n)));
            let answers = answers.map(async |(id, n)| (id, deliver(&services[n % 2], id).await));
            let answers = join_all(answers).await;
            for (id, verdict) in &answers {
                let expected = matches!(verdict, Verdict::Fulfilled | Verdict::InProgress);
                assert!(expected, "{id}: {verdict:?}");
            }
            open.retain(|id| !answers.contains(&(*id, Verdict::Fulfilled)));
            if open.is_empty() {
                break;
            }
        }
        assert_eq!(effects(&pool).await, (100..140).map(|id| (id, 1)).collect::<Vec<_>>());
    }
}

/// An attempt neither runs nor commits in what somebody has left open.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_left_in_a_transaction_is_closed() {
    let (db, _) = Database::new(SqliteJournalMode::Wal).await;
    for nested in [false, true] {
        let pool = pool_of(1, db.options()).await;
        let mut left = pool.acquire().await.expect("a connection");
        std::mem::forget(left.begin().await.expect("a transaction"));
        if nested {
            std::mem::forget(left.begin().await.expect("a nested one"));
        }
        drop(left);
        let store = SqliteStore::new(pool.clone());
        let id = 1 + u64::from(nested);
        store.begin(&claim(id)).await.map(drop).expect_err("an error");
        assert_eq!(fulfil(&store, id).await, State::Fulfilled);
        the_application_can_write(&pool, &db.pool().await).await;
        assert_eq!(effects(&db.pool().await).await.len(), id as usize);
    }
}

/// Where a transaction ended early, another process may have been quicker.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_note_does_not_undo_what_another_has_fulfilled() {
    let (db, pool) = Database::new(SqliteJournalMode::Wal).await;
    let (one, other) = (SqliteStore::new(pool.clone()), SqliteStore::new(db.pool().await));
    for (id, end) in (1..).zip([End::Fulfilled, End::Failed("why".into())]) {
        let mut tx = begin(&one, &claim(id)).await;
        let _ = sqlx::raw_sql("ROLLBACK").execute(&mut *tx).await;
        assert_eq!(fulfil(&other, id).await, State::Fulfilled);
        write(&mut tx, id as i64).await;
        assert_eq!(one.end(tx, end).await.expect("a record"), State::Fulfilled);
        let told = told(one.get(id.into()).await.expect("a database"));
        assert_eq!(told, (State::Fulfilled, 1, None));
    }
    assert_eq!(effects(&pool).await, [(1, 1), (2, 1)]);
}

/// A temporary table or a trigger of the connection's own goes before what has the same name.
#[tokio::test(flavor = "multi_thread")]
async fn a_temporary_table_of_the_same_name_is_not_the_record() {
    let (db, pool) = Database::new(SqliteJournalMode::Wal).await;
    let shadowed = pool_of(1, db.options()).await;
    run(
        &shadowed,
        "CREATE TEMP TABLE firstpromoter_fulfilments AS SELECT * FROM main.firstpromoter_fulfilments;
         CREATE UNIQUE INDEX temp.of_it ON firstpromoter_fulfilments (namespace, id)",
    )
    .await;
    let store = SqliteStore::new(shadowed);
    assert_eq!(fulfil(&store, 1).await, State::Fulfilled);
    let mut tx = begin(&store, &claim(2)).await;
    write(&mut tx, 2).await;
    store.end(tx, End::InDoubt("who knows".into())).await.expect("a record");

    let other = SqliteStore::new(pool);
    assert!(matches!(other.begin(&claim(1)).await, Ok(Begin::Fulfilled)));
    assert!(matches!(other.begin(&claim(2)).await, Ok(Begin::InDoubt { .. })));
    assert_eq!(store.open(10).await.expect("a database"), other.open(10).await.expect("it"));
    assert!(store.resolve(2.into(), false).await.expect("a database"));
    assert!(store.forget(2.into()).await.expect("a database"));
    assert_eq!(other.get(2.into()).await.expect("a database"), None);
}

/// The application's own trigger swallows the record.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_recorded_is_not_fulfilled() {
    let (_db, pool) = Database::new(SqliteJournalMode::Wal).await;
    run(
        &pool,
        "CREATE TRIGGER swallows BEFORE INSERT ON firstpromoter_fulfilments
         BEGIN SELECT RAISE(IGNORE); END",
    )
    .await;
    let store = SqliteStore::new(pool.clone());
    for end in [End::Fulfilled, End::Failed("why".into()), End::NotRun("why".into())] {
        let mut tx = begin(&store, &claim(1)).await;
        write(&mut tx, 1).await;
        let ended = store.end(tx, end.clone()).await;
        assert!(ended.is_err(), "{end:?}: {ended:?}");
        assert_eq!(effects(&pool).await, [], "{end:?}");
    }
}

/// Nobody is left to roll back: the connection is closed, and with it the transaction.
#[test]
fn what_a_runtime_leaves_open_when_it_ends_is_undone() {
    let directory = tempfile::tempdir().expect("a directory");
    let options = options(&directory.path().join("app.db"));
    let runtime = || tokio::runtime::Runtime::new().expect("a runtime");
    runtime().block_on(async { prepare(&pool_of(1, options.clone()).await).await });
    for (id, inside) in [(1, true), (2, false)] {
        let ends = runtime();
        let tx = ends.block_on(async {
            let store = SqliteStore::new(pool_of(1, options.clone()).await);
            let mut tx = begin(&store, &claim(id)).await;
            write(&mut tx, id as i64).await;
            tx
        });
        let mut outside = Some(tx);
        if inside {
            let tx = outside.take();
            ends.spawn(async move {
                let _tx = tx;
                std::future::pending::<()>().await;
            });
        }
        drop(ends);
        drop(outside);
        runtime().block_on(async {
            let pool = pool_of(1, options.clone()).await;
            assert_eq!(fulfil(&SqliteStore::new(pool.clone()), id).await, State::Fulfilled);
            assert_eq!(effects(&pool).await, (1..=id as i64).map(|id| (id, 1)).collect::<Vec<_>>());
        });
    }
}

/// The handler is cut off, or goes on without it, and its statement would run for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_never_ends_is_interrupted() {
    let (db, pool) = Database::new(SqliteJournalMode::Wal).await;
    let store = SqliteStore::new(pool.clone());
    let endless = "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n)
        SELECT count(*) FROM n";
    let mut tx = begin(&store, &claim(1)).await;
    write(&mut tx, 1).await;
    assert!(polled(1, sqlx::raw_sql(endless).execute(&mut *tx)).await.is_none());
    let cut_off = End::Interrupted("took longer than 60s".into());
    assert_eq!(store.end(tx, cut_off).await.expect("a record"), State::Failed);

    let mut tx = begin(&store, &claim(1)).await;
    assert!(polled(1, sqlx::raw_sql(endless).execute(&mut *tx)).await.is_none());
    drop(tx);
    assert_eq!(fulfil(&store, 1).await, State::Fulfilled);
    assert_eq!(effects(&pool).await, [(1, 1)]);
    the_application_can_write(&pool, &db.pool().await).await;
}
/// Of the second, sqlx's thread ends with the next statement.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_handler_sets_loses_no_doubt_and_does_not_stay() {
    let (db, pool) = Database::new(SqliteJournalMode::Wal).await;
    let store = SqliteStore::new(pool_of(1, db.options()).await);
    for (id, sets) in [(1, "PRAGMA query_only = ON"), (3, "PRAGMA count_changes = ON")] {
        let mut tx = begin(&store, &claim(id)).await;
        sqlx::raw_sql(sets).execute(&mut *tx).await.expect("a setting");
        write(&mut tx, id as i64).await;
        let doubt = End::InDoubt("who knows".into());
        assert_eq!(store.end(tx, doubt).await.expect("a record"), State::InDoubt, "{sets}");
        assert_eq!(told(store.get(id.into()).await.expect("a database")).0, State::InDoubt);
        assert_eq!(fulfil(&store, id + 1).await, State::Fulfilled, "{sets}");
    }
    assert_eq!(effects(&pool).await, [(2, 1), (4, 1)]);
    the_application_can_write(&pool, &db.pool().await).await;
}

/// A handler goes on after its transaction has ended, and another process has ended an attempt
/// meanwhile: what that one recorded stays, above all a doubt. Only a doubt of its own is added.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_failure_erases_no_doubt() {
    let (db, pool) = Database::new(JOURNALS[0]).await;
    let (store, other) = (SqliteStore::new(pool), SqliteStore::new(db.pool().await));
    let in_doubt = || End::InDoubt("a call timed out".into());
    let ends = [
        (End::Failed("no".into()), in_doubt(), None, State::InDoubt),
        (End::Interrupted("too long".into()), in_doubt(), None, State::InDoubt),
        (End::NotRun("not confirmed".into()), in_doubt(), None, State::InDoubt),
        (End::Fulfilled, in_doubt(), None, State::InDoubt),
        (End::Failed("no".into()), End::Pending, None, State::Pending),
        (in_doubt(), End::Pending, Some(State::InDoubt), State::InDoubt),
    ];
    for (id, (late, meanwhile, answer, left)) in (1..).zip(ends) {
        let mut first = begin(&store, &claim(id)).await;
        sqlx::raw_sql("ROLLBACK").execute(&mut *first).await.expect("a statement");
        let second = begin(&other, &claim(id)).await;
        other.end(second, meanwhile).await.expect("a record");
        let ended = store.end(first, late.clone()).await;
        assert_eq!(ended.as_ref().ok(), answer.as_ref(), "{late:?}: {ended:?}");
        let record = store.get(id.into()).await.expect("a database").expect("a record");
        assert_eq!((record.state, record.attempts), (left, 1), "{late:?}");
    }
}
