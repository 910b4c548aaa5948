//! Grant and record are in one SQLite transaction, so they happen together or not at all. And a
//! grant that is made elsewhere is in doubt when it was cut off, and in one process at a time.

mod support {
    pub(crate) mod deliver;
}

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use sqlx::{
    Connection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tempfile::TempDir;
use tower_firstpromoter::{
    BoxError, Fulfil, FulfilIn, Outcome, Verdict,
    event::Fulfilment,
    once::{Begin, Claim, End, SqliteStore, SqliteTx, State, Store},
    testkit::{namespace_contract, store_contract},
};

use self::support::deliver::{body, deliver, webhook};

/// A database in a directory of its own, with `effects`: what the handlers grant. It has no key, so
/// that every double shows.
struct Database {
    directory: TempDir,
    journal: SqliteJournalMode,
}

impl Database {
    async fn new(journal: SqliteJournalMode) -> (Self, SqlitePool) {
        let db = Self { directory: tempfile::tempdir().expect("a directory"), journal };
        let pool = db.pool().await;
        SqliteStore::new(pool.clone()).create_table().await.expect("a table");
        run(&pool, "CREATE TABLE effects (id INTEGER NOT NULL)").await;
        (db, pool)
    }

    async fn pool(&self) -> SqlitePool {
        let options = SqliteConnectOptions::new()
            .filename(self.directory.path().join("app.db"))
            .create_if_missing(true)
            .journal_mode(self.journal)
            // Weaker than the store allows.
            .synchronous(SqliteSynchronous::Off);
        SqlitePoolOptions::new().max_connections(6).connect_with(options).await.expect("a database")
    }
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

async fn row(pool: &SqlitePool, id: u64) -> (String, i32, Option<String>) {
    sqlx::query_as("SELECT state, attempts, last_error FROM firstpromoter_fulfilments WHERE id = ?")
        .bind(id.to_string())
        .fetch_one(pool)
        .await
        .expect("a row")
}

fn claim(id: u64, in_tx: bool) -> Claim {
    Claim::from(&Fulfilment::decode(body(id)).expect("a fulfilment")).with_in_tx(in_tx)
}

async fn begin(store: &SqliteStore, claim: &Claim) -> (&'static str, SqliteTx, u32) {
    match store.begin(claim).await.expect("a database") {
        Begin::Run { tx, attempt } => ("run", tx, attempt),
        Begin::InDoubt { tx, attempt } => ("in doubt", tx, attempt),
        other => panic!("no transaction: {other:?}"),
    }
}

/// Writes the grant through the transaction, then does as it is told.
struct Then<F>(F);

impl<F, Fut> FulfilIn<SqliteTx> for Then<F>
where
    F: Fn(u64) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Outcome, BoxError>> + Send,
{
    type Error = BoxError;

    async fn fulfil_in(&self, f: Fulfilment, tx: &mut SqliteTx) -> Result<Outcome, BoxError> {
        let id = f.id.get() as i64;
        sqlx::query("INSERT INTO effects VALUES (?)").bind(id).execute(&mut **tx).await?;
        (self.0)(f.id.get()).await
    }
}

async fn fulfilled(_: u64) -> Result<Outcome, BoxError> {
    tokio::time::sleep(Duration::from_millis(1)).await;
    Ok(Outcome::Fulfilled)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_decides_what_is_kept() {
    let (_db, pool) = Database::new(SqliteJournalMode::Wal).await;
    // What the handler does after its write, what the sender hears, whether the write stays, and
    // what the row says.
    let panics = |_| async { panic!("on purpose") };
    let fails = |_| async { Err("no such account: ada@example.com".into()) };
    let pends = |_| async { Ok(Outcome::Pending) };
    let store = || SqliteStore::new(pool.clone());
    let failing = webhook(Then(fails), store());
    let panicking = webhook(Then(panics), store());
    let pending = webhook(Then(pends), store());
    let granting = webhook(Then(fulfilled), store());
    for (id, first, verdict, kept, state, error) in [
        (1, &failing, Verdict::Failed, 0, "failed", Some("no such account: [redacted]")),
        (2, &panicking, Verdict::Panicked, 0, "failed", Some("the handler panicked")),
        (3, &pending, Verdict::Pending, 1, "pending", None),
        (4, &granting, Verdict::Granted, 1, "granted", None),
    ] {
        assert_eq!(deliver(first, id).await, verdict);
        let there = effects(&pool).await.iter().filter(|(it, _)| *it == id as i64).count();
        assert_eq!(there, kept, "{verdict:?}");
        let told = row(&pool, id).await;
        assert_eq!((told.0.as_str(), told.1, told.2.as_deref()), (state, 1, error));

        // Only what was granted is not run again.
        assert_eq!(deliver(&granting, id).await, Verdict::Granted);
        assert_eq!(row(&pool, id).await.1, if id == 4 { 1 } else { 2 });
    }
    assert_eq!(effects(&pool).await, [(1, 1), (2, 1), (3, 2), (4, 1)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_store_keeps_its_contract() {
    for journal in [SqliteJournalMode::Wal, SqliteJournalMode::Delete] {
        let (_db, pool) = Database::new(journal).await;
        let store = || SqliteStore::new(pool.clone());
        store_contract(async || store()).await;
        namespace_contract(&store(), &store().namespace("another account")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_stores_of_a_process_know_what_it_is_at() {
    let (_db, pool) = Database::new(SqliteJournalMode::Delete).await;
    let store = SqliteStore::new(pool.clone());
    for (in_tx, second) in [(true, "run"), (false, "in doubt")] {
        let id = 10 + u64::from(in_tx);
        let claim = claim(id, in_tx);
        let (how, first, attempt) = begin(&store, &claim).await;
        assert_eq!((how, attempt), ("run", 1));
        // Another store of this process knows as well.
        let other = SqliteStore::new(pool.clone());
        let asked = Instant::now();
        assert!(matches!(other.begin(&claim).await, Ok(Begin::Busy)));
        assert!(!other.forget(claim.id()).await.expect("a database"));
        assert!(!other.settle(claim.id(), true).await.expect("a database"));
        assert!(other.in_doubt().await.expect("a database").is_empty());
        assert!(asked.elapsed() < Duration::from_secs(1), "it waited");

        drop(first);
        assert_eq!(other.in_doubt().await.expect("a database").len(), usize::from(!in_tx));
        let (how, again, attempt) = begin(&other, &claim).await;
        assert_eq!((how, attempt), (second, if in_tx { 1 } else { 2 }));
        store.end(again, End::Failed("nope".into())).await.expect("a record");
        assert_eq!(row(&pool, id).await.2.as_deref(), Some("nope"));
        let (how, again, _) = begin(&store, &claim).await;
        assert_eq!(how, "run");
        store.end(again, End::Granted).await.expect("a record");
        assert!(matches!(store.begin(&claim).await, Ok(Begin::Granted)));
        assert!(store.forget(claim.id()).await.expect("a database"));
        assert!(!store.forget(claim.id()).await.expect("a database"));
        let (how, again, attempt) = begin(&store, &claim).await;
        assert_eq!((how, attempt), ("run", 1));
        store.end(again, End::Granted).await.expect("a record");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_settles_a_doubt() {
    let (_db, pool) = Database::new(SqliteJournalMode::Wal).await;
    let store = SqliteStore::new(pool.clone());
    let other = store.clone().namespace("another account");
    for (id, granted) in [(u64::MAX, true), (2, false)] {
        let claim = claim(id, false);
        drop(begin(&store, &claim).await);
        let doubts = store.in_doubt().await.expect("a database");
        let [doubt] = doubts.as_slice() else { panic!("{doubts:?}") };
        assert_eq!((doubt.id, doubt.state, doubt.attempts), (id.into(), State::Started, 1));
        assert_eq!((doubt.unit.as_str(), doubt.amount.to_string()), ("credits", "3".into()));
        assert_eq!((doubt.promoter.get(), &doubt.last_error), (7, &None));
        assert!(doubt.first_seen <= doubt.changed);
        assert!(doubt.changed.elapsed().is_ok_and(|age| age < Duration::from_secs(60)));

        assert!(other.in_doubt().await.expect("a database").is_empty());
        assert!(!other.settle(claim.id(), granted).await.expect("a database"));
        assert!(!other.forget(claim.id()).await.expect("a database"));
        assert!(store.settle(claim.id(), granted).await.expect("a database"));
        assert!(!store.settle(claim.id(), granted).await.expect("a database"));
        match store.begin(&claim).await.expect("a database") {
            Begin::Granted => assert!(granted),
            Begin::Run { attempt: 2, .. } => assert!(!granted),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_services_grant_each_reward_once() {
    for journal in [SqliteJournalMode::Wal, SqliteJournalMode::Delete] {
        let (db, pool) = Database::new(journal).await;
        let services = join_all(
            (0..2).map(|_| async { webhook(Then(fulfilled), SqliteStore::new(db.pool().await)) }),
        )
        .await;
        let mut open: Vec<u64> = (0..40).collect();
        for round in 0.. {
            assert!(round < 50, "never all granted: {open:?}");
            let answers = open.iter().flat_map(|id| (0..8).map(|n| (*id, n)));
            let answers = answers.map(async |(id, n)| (id, deliver(&services[n % 2], id).await));
            let answers = join_all(answers).await;
            for (id, verdict) in &answers {
                let expected = matches!(verdict, Verdict::Granted | Verdict::InProgress);
                assert!(expected, "{id}: {verdict:?}");
            }
            open.retain(|id| !answers.contains(&(*id, Verdict::Granted)));
            if open.is_empty() {
                break;
            }
        }
        assert_eq!(effects(&pool).await, (0..40).map(|id| (id, 1)).collect::<Vec<_>>());
    }
}

/// Grants elsewhere; here, of all places, in the same database.
#[derive(Clone)]
struct Elsewhere {
    pool: SqlitePool,
    calls: Arc<AtomicU32>,
    panics: Arc<AtomicBool>,
    answer: Option<bool>,
}

impl Fulfil for Elsewhere {
    type Error = BoxError;

    async fn fulfil(&self, f: Fulfilment) -> Result<Outcome, BoxError> {
        let id = f.id.get() as i64;
        sqlx::query("INSERT INTO effects VALUES (?)").bind(id).execute(&self.pool).await?;
        self.calls.fetch_add(1, Ordering::SeqCst);
        assert!(!self.panics.load(Ordering::SeqCst), "on purpose");
        Ok(Outcome::Fulfilled)
    }

    async fn was_granted(&self, _: &Fulfilment) -> Result<Option<bool>, BoxError> {
        Ok(self.answer)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_elsewhere_that_was_cut_off_is_asked_about() {
    let (_db, pool) = Database::new(SqliteJournalMode::Wal).await;
    for (id, answer, then, calls) in [
        (1, None, Verdict::InDoubt, 1),
        (2, Some(true), Verdict::Granted, 1),
        (3, Some(false), Verdict::Granted, 2),
    ] {
        let handler =
            Elsewhere { pool: pool.clone(), calls: Arc::default(), panics: Arc::default(), answer };
        let webhook = webhook(handler.clone(), SqliteStore::new(pool.clone()));
        handler.panics.store(true, Ordering::SeqCst);
        assert_eq!(deliver(&webhook, id).await, Verdict::Panicked);
        handler.panics.store(false, Ordering::SeqCst);
        assert_eq!(deliver(&webhook, id).await, then);
        assert_eq!(handler.calls.load(Ordering::SeqCst), calls);
        let crowd = join_all((0..50).map(|_| deliver(&webhook, 100 + id))).await;
        assert!(crowd.iter().all(|verdict| *verdict == Verdict::Granted), "{crowd:?}");
    }
    let twice: Vec<_> = effects(&pool).await.into_iter().filter(|(_, times)| *times > 1).collect();
    assert_eq!(twice, [(3, 2)], "the one that was said not to be granted, although it was");
}

/// Whatever the application's connections are set to: a grant outlives a power failure.
#[tokio::test(flavor = "multi_thread")]
async fn grants_are_synced() {
    let (_db, pool) = Database::new(SqliteJournalMode::Wal).await;
    let store = SqliteStore::new(pool);
    let (_, mut tx, _) = begin(&store, &claim(1, true)).await;
    let level: i64 =
        sqlx::query_scalar("PRAGMA synchronous").fetch_one(&mut *tx).await.expect("it");
    assert_eq!(level, 3, "EXTRA");
}

/// Somebody else writes and takes long about it: the sender is told to come back.
#[tokio::test(flavor = "multi_thread")]
async fn a_busy_database_is_in_progress() {
    let (db, pool) = Database::new(SqliteJournalMode::Wal).await;
    run(&pool, "PRAGMA user_version").await;
    let options = SqliteConnectOptions::new()
        .filename(db.directory.path().join("app.db"))
        .busy_timeout(Duration::from_millis(50));
    let impatient = SqlitePoolOptions::new().connect_with(options).await.expect("a database");
    let webhook = webhook(Then(fulfilled), SqliteStore::new(impatient));
    let writer = pool.begin_with("BEGIN IMMEDIATE").await.expect("the write lock");
    assert_eq!(deliver(&webhook, 1).await, Verdict::InProgress);
    writer.rollback().await.expect("the end of it");
    assert_eq!(deliver(&webhook, 1).await, Verdict::Granted);
}

/// A grant that is made already is no doubt because somebody else writes, or reads where readers keep
/// writers from committing: its end waits for them.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_grant_elsewhere_waits_for_other_writers() {
    for (journal, other) in [
        (SqliteJournalMode::Wal, "BEGIN IMMEDIATE"),
        (SqliteJournalMode::Delete, "BEGIN; SELECT count(*) FROM firstpromoter_fulfilments"),
    ] {
        let (db, pool) = Database::new(journal).await;
        let options = SqliteConnectOptions::new()
            .filename(db.directory.path().join("app.db"))
            .busy_timeout(Duration::ZERO);
        let impatient = SqlitePoolOptions::new().connect_with(options).await.expect("a database");
        let store = SqliteStore::new(impatient);
        let (_, tx, _) = begin(&store, &claim(1, false)).await;
        let other = pool.begin_with(other).await.expect("their transaction");
        let end = store.end(tx, End::Granted);
        let ends = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            other.rollback().await.expect("the end of it");
        };
        let (ended, ()) = tokio::join!(end, ends);
        ended.expect("it is written in the end");
        assert_eq!(row(&pool, 1).await, ("granted".to_owned(), 1, None));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_ends_its_transaction_is_not_believed() {
    struct Breaks(&'static str);

    impl FulfilIn<SqliteTx> for Breaks {
        type Error = BoxError;

        async fn fulfil_in(&self, _: Fulfilment, tx: &mut SqliteTx) -> Result<Outcome, BoxError> {
            let _ = sqlx::raw_sql(self.0).execute(&mut **tx).await;
            Ok(Outcome::Fulfilled)
        }
    }

    let (_db, pool) = Database::new(SqliteJournalMode::Wal).await;
    for (id, statement) in [(1, "COMMIT"), (2, "ROLLBACK"), (3, "COMMIT; BEGIN")] {
        let webhook = webhook(Breaks(statement), SqliteStore::new(pool.clone()));
        assert_eq!(deliver(&webhook, id).await, Verdict::NotRecorded, "{statement}");
    }
    assert_eq!(
        deliver(&webhook(Then(fulfilled), SqliteStore::new(pool)), 1).await,
        Verdict::Granted
    );
}

/// What sqlx does when a nested transaction cannot begin: it rolls back everything, and takes the
/// connection for one without a transaction. Nothing may be written through it any more, and it must
/// not go back to the pool in the middle of a transaction that nobody ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_nested_transaction_that_never_began_leaves_the_database_usable() {
    /// Returns the error, or goes on.
    struct Nests {
        goes_on: bool,
    }

    impl FulfilIn<SqliteTx> for Nests {
        type Error = BoxError;

        async fn fulfil_in(&self, f: Fulfilment, tx: &mut SqliteTx) -> Result<Outcome, BoxError> {
            // sqlx refuses: nested ones begin with a savepoint.
            let refused = tx.begin_with("BEGIN IMMEDIATE").await.map(drop);
            if !self.goes_on {
                refused?;
            }
            // By then sqlx's thread has rolled back.
            tx.ping().await?;
            let id = f.id.get() as i64;
            sqlx::query("INSERT INTO effects VALUES (?)").bind(id).execute(&mut **tx).await?;
            Ok(Outcome::Fulfilled)
        }
    }

    let (db, pool) = Database::new(SqliteJournalMode::Wal).await;
    let store = SqliteStore::new(pool.clone());
    for goes_on in [false, true] {
        let nests = webhook(Nests { goes_on }, store.clone());
        assert_eq!(deliver(&nests, 1).await, Verdict::NotRecorded);
    }
    assert_eq!(effects(&pool).await, [], "nothing was granted");
    let healthy = webhook(Then(fulfilled), store);
    for id in 2..8 {
        assert_eq!(deliver(&healthy, id).await, Verdict::Granted, "{id}");
    }
    // Neither the application on this pool nor anyone else finds it locked.
    for pool in [pool, db.pool().await] {
        run(&pool, "INSERT INTO effects VALUES (100)").await;
    }
}

#[tokio::test]
async fn in_memory_there_is_no_file_to_lock() {
    let pool =
        SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await.expect("it");
    let store = SqliteStore::new(pool);
    store.create_table().await.expect("a table");
    let (_, tx, _) = begin(&store, &claim(1, false)).await;
    store.end(tx, End::Granted).await.expect("a record");
    assert!(matches!(store.begin(&claim(1, true)).await, Ok(Begin::Granted)));
}
