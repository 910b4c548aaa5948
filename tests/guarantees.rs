//! The table "What holds" in the guide on stores, cell by cell.
//!
//! Each row is played on each store, and what was observed is compared with the cell. Rows that need a
//! killed process, a cut network or a moved clock name the test that plays them.

mod delivery;
mod support {
    pub(crate) mod postgres;
}

use std::{
    fs,
    future::poll_fn,
    path::Path,
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use futures::future::{BoxFuture, join};
use serde_json::json;
use sqlx::{
    PgPool, SqlitePool, query, query_scalar, raw_sql,
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};
use tokio::{sync::Semaphore, time::timeout};
use tower::ServiceExt;
use tower_firstpromoter::{
    BoxError, Fulfil, FulfilIn, Outcome, Webhook,
    event::{Fulfilment, FulfilmentId},
    store::{
        ExternalEffects, MemoryStore, PostgresJournal, PostgresStore, PostgresTx, RedbStore,
        SqliteStore, SqliteTx, State, Store,
    },
};

use self::{
    delivery::{access, edited, full, post},
    support::postgres::story,
};

/// What a handler does after it took effect.
#[derive(Clone, Debug)]
enum Deed {
    Fulfil,
    Fail,
    Doubt,
    Pend,
    Panic,
    Sleep,
    Commit,
    /// Fulfils once it may.
    Wait(Arc<Gate>),
}

/// Holds a handler up.
#[derive(Debug)]
struct Gate {
    entered: Semaphore,
    open: Semaphore,
}

impl Gate {
    fn closed() -> Arc<Self> {
        Arc::new(Self { entered: Semaphore::new(0), open: Semaphore::new(0) })
    }

    async fn pass(&self) {
        self.entered.add_permits(1);
        self.open.acquire().await.expect("it is never closed for good").forget();
    }

    /// Polls a delivery until its handler is here.
    async fn holds(&self, delivery: impl Future<Output = u16> + Unpin) {
        tokio::select! {
            biased;
            status = delivery => panic!("it ended with {status}"),
            entered = self.entered.acquire() => entered.expect("open").forget(),
        }
    }
}

impl Deed {
    async fn outcome(self) -> Result<Outcome, BoxError> {
        match self {
            Self::Fail => Err("it failed".into()),
            Self::Doubt => Ok(Outcome::InDoubt("a call timed out".to_owned())),
            Self::Pend => Ok(Outcome::Pending),
            Self::Panic => panic!("it panicked"),
            Self::Sleep => std::future::pending().await,
            Self::Wait(gate) => {
                gate.pass().await;
                Ok(Outcome::Fulfilled)
            }
            Self::Fulfil | Self::Commit => Ok(Outcome::Fulfilled),
        }
    }
}

/// Effects made elsewhere.
#[derive(Clone, Default)]
struct Elsewhere(Arc<Mutex<Vec<i64>>>);

struct Plain(Elsewhere, Deed);

impl Fulfil for Plain {
    type Error = BoxError;

    async fn fulfil(&self, fulfilment: Fulfilment) -> Result<Outcome, BoxError> {
        self.0.0.lock().expect("no panic").push(fulfilment.id.get() as i64);
        self.1.clone().outcome().await
    }
}

struct InTx(Deed);

const EFFECT: &str = "INSERT INTO effects VALUES ($1)";

impl FulfilIn<PostgresTx> for InTx {
    type Error = BoxError;

    async fn fulfil_in(&self, f: Fulfilment, tx: &mut PostgresTx) -> Result<Outcome, BoxError> {
        query(EFFECT).bind(f.id.get() as i64).execute(&mut **tx).await?;
        if let Deed::Commit = self.0 {
            raw_sql("COMMIT").execute(&mut **tx).await?;
        }
        self.0.clone().outcome().await
    }
}

impl FulfilIn<SqliteTx> for InTx {
    type Error = BoxError;

    async fn fulfil_in(&self, f: Fulfilment, tx: &mut SqliteTx) -> Result<Outcome, BoxError> {
        query(EFFECT).bind(f.id.get() as i64).execute(&mut **tx).await?;
        if let Deed::Commit = self.0 {
            let _ = raw_sql("COMMIT").execute(&mut **tx).await; // refused
        }
        self.0.clone().outcome().await
    }
}

type Open = Box<dyn Fn(Deed) -> Result<Webhook, String> + Send + Sync>;

/// One column of the table.
struct Column {
    name: &'static str,
    transactional: bool,
    /// A webhook with this handler in this process, and one as in another process.
    webhook: Open,
    other: Open,
    effects: Box<dyn Fn(u64) -> BoxFuture<'static, usize> + Send + Sync>,
    state: Box<dyn Fn(u64) -> BoxFuture<'static, Option<State>> + Send + Sync>,
}

impl Column {
    fn transactional<S: Store>(
        name: &'static str,
        store: S,
        other: impl Fn() -> S + Send + Sync + 'static,
        effects: impl Fn(u64) -> BoxFuture<'static, usize> + Send + Sync + 'static,
    ) -> Self
    where
        InTx: FulfilIn<S::Tx>,
    {
        let this = store.clone();
        Self {
            name,
            transactional: true,
            webhook: Box::new(move |deed| Ok(Webhook::new(InTx(deed), this.clone(), access()))),
            other: Box::new(move |deed| Ok(Webhook::new(InTx(deed), other(), access()))),
            effects: Box::new(effects),
            state: state(store),
        }
    }

    fn journal<S: Store<Tx: ExternalEffects>>(
        name: &'static str,
        store: S,
        other: impl Fn() -> Result<S, String> + Send + Sync + 'static,
    ) -> Self {
        let (here, there, counted) = {
            let elsewhere = Elsewhere::default();
            (elsewhere.clone(), elsewhere.clone(), elsewhere)
        };
        let this = store.clone();
        Self {
            name,
            transactional: false,
            webhook: Box::new(move |deed| {
                Ok(Webhook::new(Plain(here.clone(), deed), this.clone(), access()))
            }),
            other: Box::new(move |deed| {
                Ok(Webhook::new(Plain(there.clone(), deed), other()?, access()))
            }),
            effects: Box::new(move |id| {
                let all = counted.0.lock().expect("no panic");
                let times = all.iter().filter(|found| **found == id as i64).count();
                Box::pin(async move { times })
            }),
            state: state(store),
        }
    }

    fn once(&self, deed: Deed) -> Webhook {
        (self.webhook)(deed).expect("a webhook").attempt_within(Duration::from_millis(500))
    }
}

fn state<S: Store>(
    store: S,
) -> Box<dyn Fn(u64) -> BoxFuture<'static, Option<State>> + Send + Sync> {
    Box::new(move |id| {
        let store = store.clone();
        Box::pin(async move {
            let record = store.get(FulfilmentId::from(id)).await;
            record.expect("a record can be read").map(|record| record.state)
        })
    })
}

async fn status(webhook: &Webhook, id: u64) -> u16 {
    let body = full(edited([("/data/id", json!(id))]));
    let Ok(answer) = webhook.clone().oneshot(post(body)).await;
    answer.status().as_u16()
}

/// Plays one row on one store, and says what was observed in the words of the cell.
async fn play(row: &str, column: &Column, id: u64) -> String {
    let words = async |undone: &str, else_: &str| {
        let (effects, state) = ((column.effects)(id).await, (column.state)(id).await);
        match state {
            Some(State::Failed) if column.transactional && effects == 0 => undone.to_owned(),
            Some(State::InDoubt) if !column.transactional || effects == 0 => else_.to_owned(),
            state => format!("{state:?} with {effects} effects"),
        }
    };
    match row {
        "duplicate after success" => {
            let webhook = column.once(Deed::Fulfil);
            let statuses = [status(&webhook, id).await, status(&webhook, id).await];
            assert_eq!((statuses, (column.effects)(id).await), ([200, 200], 1), "{}", column.name);
            "`200`".to_owned()
        }
        "duplicate at once, same process" => {
            let gate = Gate::closed();
            let webhook = (column.webhook)(Deed::Wait(gate.clone())).expect("a webhook");
            let (mut first, mut second) =
                (Box::pin(status(&webhook, id)), Box::pin(status(&webhook, id)));
            gate.holds(&mut first).await;
            assert!(poll_fn(|cx| Poll::Ready(second.as_mut().poll(cx))).await.is_pending());
            gate.open.add_permits(1);
            assert_eq!((join(first, second).await, (column.effects)(id).await), ((200, 200), 1));
            "joins the attempt".to_owned()
        }
        "duplicate at once, other process" => {
            let gate = Gate::closed();
            let webhook = (column.webhook)(Deed::Wait(gate.clone())).expect("a webhook");
            let mut first = Box::pin(status(&webhook, id));
            gate.holds(&mut first).await;
            let other = match (column.other)(Deed::Fulfil) {
                Ok(other) => timeout(Duration::from_secs(6), status(&other, id)).await.ok(),
                Err(error) => {
                    gate.open.add_permits(1);
                    first.await;
                    return error;
                }
            };
            gate.open.add_permits(1);
            first.await;
            match (other, (column.effects)(id).await) {
                (Some(409), 1) => "`409`".to_owned(),
                (Some(200), 2) => "**fulfilled twice**".to_owned(),
                other => format!("{other:?}"),
            }
        }
        "handler returns an error" => {
            assert_eq!(status(&column.once(Deed::Fail), id).await, 500);
            if column.transactional {
                return words("undone", "in doubt").await;
            }
            again(column, id).await
        }
        "handler says `InDoubt`" => {
            assert_eq!(status(&column.once(Deed::Doubt), id).await, 500);
            let doubt = if column.transactional { "writes undone, in doubt" } else { "in doubt" };
            words("undone", doubt).await
        }
        "handler says `Pending`" => {
            assert_eq!(status(&column.once(Deed::Pend), id).await, 202);
            match ((column.state)(id).await, (column.effects)(id).await) {
                (Some(State::Pending), 1) if column.transactional => "**its writes commit**".into(),
                (Some(State::Pending), 1) => again(column, id).await,
                other => format!("{other:?}"),
            }
        }
        "handler panics" => {
            assert_eq!(status(&column.once(Deed::Panic), id).await, 500);
            words("undone", "in doubt").await
        }
        "handler takes too long" => {
            assert_eq!(status(&column.once(Deed::Sleep), id).await, 500);
            words("undone", "in doubt").await
        }
        "handler ends the transaction itself" if column.transactional => {
            assert_eq!(status(&column.once(Deed::Commit), id).await, 500);
            match ((column.state)(id).await, (column.effects)(id).await) {
                // The effect is there, so it must not run again by itself.
                (Some(State::InDoubt), 1) => "in doubt".to_owned(),
                (Some(State::Failed), 0) => "undone".to_owned(),
                other => format!("{other:?}"),
            }
        }
        "handler ends the transaction itself" => "–".to_owned(),
        "sender hangs up" => {
            let gate = Gate::closed();
            let webhook = (column.webhook)(Deed::Wait(gate.clone())).expect("a webhook");
            let mut first = Box::pin(status(&webhook, id));
            gate.holds(&mut first).await;
            drop(first);
            gate.open.add_permits(1);
            webhook.close().await;
            let state = (column.state)(id).await;
            assert_eq!((state, (column.effects)(id).await), (Some(State::Fulfilled), 1));
            "the attempt goes on".to_owned()
        }
        row => panic!("the row {row:?} is played by no test"),
    }
}

/// What is delivered again runs again.
async fn again(column: &Column, id: u64) -> String {
    let before = (column.effects)(id).await;
    let second = column.once(Deed::Fulfil);
    assert_eq!((status(&second, id).await, (column.effects)(id).await), (200, before + 1));
    "runs again".to_owned()
}

/// Rows that need a killed process, a cut network, a full disk or a moved clock: for each cell the
/// test that plays it.
const ELSEWHERE: [(&str, [&str; 5]); 5] = [
    (
        "crash during the attempt",
        [
            "postgres_kill.rs: killed_with_a_store",
            "sqlite_kill.rs: killed_with_a_write_ahead_log",
            "postgres_kill.rs: killed_with_a_journal",
            "kill_nine.rs: nobody_can_tell",
            "storm.rs: wrong_memory_across_restarts_is_seen",
        ],
    ),
    (
        "store unavailable before",
        [
            "postgres_example.rs: a_database_that_is_down_loses_nothing",
            "sqlite.rs: a_database_that_cannot_be_used_is_an_error",
            "postgres_silent.rs: a_journal_holds_no_connection_meanwhile",
            "redb_power_loss.rs: after_the_first_failed_write_there_is_no_other",
            "–",
        ],
    ),
    (
        "store unavailable after",
        [
            "postgres_silent.rs: effect_and_record_stay_together",
            "sqlite.rs: a_full_disk_commits_nothing",
            "postgres_journal.rs: sessions_that_end_at_any_time_lose_no_end",
            "redb_power_loss.rs: power_loss_takes_nothing_that_was_said",
            "–",
        ],
    ),
    (
        "machine frozen, wakes up",
        [
            "postgres_kill.rs: frozen_with_a_store",
            "sqlite.rs: waits_for_others_are_bounded",
            "postgres_kill.rs: frozen_with_a_journal",
            "redb.rs: a_file_in_use_by_another_process_is_waited_for_and_then_an_error",
            "–",
        ],
    ),
    (
        "power loss",
        [
            "postgres.rs: settings_of_the_handler_change_neither_the_record_nor_its_durability",
            "sqlite.rs: commits_are_synced",
            "postgres.rs: settings_of_the_handler_change_neither_the_record_nor_its_durability",
            "redb_power_loss.rs: power_loss_takes_nothing_that_was_said",
            "storm.rs: wrong_memory_across_restarts_is_seen",
        ],
    ),
];

/// The rows of the table: the event, and its cells.
fn table() -> Vec<Vec<String>> {
    let guide = include_str!("../src/guide/stores.md");
    let (_, table) = guide.split_once("# What holds").expect("the table's heading");
    let lines = table.lines().filter(|line| line.starts_with('|'));
    let rows = lines.map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().into()));
    let rows: Vec<Vec<String>> = rows.map(Iterator::collect).collect();
    let columns = [
        "event",
        "`PostgresStore`",
        "`SqliteStore`",
        "`PostgresJournal`",
        "`RedbStore`",
        "`MemoryStore`",
    ];
    assert_eq!(rows[0], columns);
    rows.into_iter().skip(2).collect()
}

async fn columns(pool: PgPool, files: &Path) -> Vec<Column> {
    let again = pool.clone();
    let (postgres, journal) =
        (PostgresStore::new(pool.clone()), PostgresJournal::new(pool.clone()));
    let in_postgres = move |id: u64| -> BoxFuture<'static, usize> {
        let pool = pool.clone();
        Box::pin(async move {
            let times = query_scalar::<_, i64>("SELECT count(*) FROM effects WHERE id = $1");
            times.bind(id as i64).fetch_one(&pool).await.expect("a count") as usize
        })
    };

    let file = SqliteConnectOptions::new().filename(files.join("app.db")).create_if_missing(true);
    let file = file.journal_mode(SqliteJournalMode::Wal);
    let pool = SqlitePool::connect_with(file.clone()).await.expect("a database");
    raw_sql("CREATE TABLE effects (id INTEGER)").execute(&pool).await.expect("a table");
    let sqlite = SqliteStore::new(pool.clone());
    sqlite.create_table().await.expect("a table");
    let in_sqlite = move |id: u64| -> BoxFuture<'static, usize> {
        let pool = pool.clone();
        Box::pin(async move {
            let times = query_scalar::<_, i64>("SELECT count(*) FROM effects WHERE id = $1");
            times.bind(id as i64).fetch_one(&pool).await.expect("a count") as usize
        })
    };

    let redb = files.join("fulfilments.redb");
    vec![
        Column::transactional(
            "PostgresStore",
            postgres,
            {
                let again = again.clone();
                move || PostgresStore::new(again.clone())
            },
            in_postgres,
        ),
        Column::transactional(
            "SqliteStore",
            sqlite,
            move || SqliteStore::new(SqlitePool::connect_lazy_with(file.clone())),
            in_sqlite,
        ),
        Column::journal("PostgresJournal", journal, move || {
            Ok(PostgresJournal::new(again.clone()))
        }),
        Column::journal("RedbStore", RedbStore::open(&redb).expect("a file"), move || {
            RedbStore::open(&redb).map_err(|_| "cannot open the file".to_owned())
        }),
        Column::journal("MemoryStore", MemoryStore::new(100), || Ok(MemoryStore::new(100))),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn each_cell_of_the_guide_is_what_happens() {
    story(|db| async move {
        let files = tempfile::tempdir().expect("a directory");
        let columns = columns(db.ready(10).await, files.path()).await;
        let mut wrong = Vec::new();
        for (row, first_id) in table().iter().zip((0..).step_by(10)) {
            let [event, cells @ ..] = &row[..] else { panic!("an empty row") };
            if let Some((_, tests)) = ELSEWHERE.iter().find(|(played, _)| played == event) {
                tests.iter().zip(cells).for_each(|(test, cell)| is_there(test, event, cell));
                continue;
            }
            // The PostgreSQL stores share a table, so each cell has a fulfilment of its own.
            for ((column, cell), id) in columns.iter().zip(cells).zip(first_id..) {
                let seen = play(event, column, id).await;
                if !cell.starts_with(&seen) {
                    wrong.push(format!("{}, {event}: {seen}, the guide says {cell}", column.name));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    })
    .await;
}

/// A cell that a test elsewhere plays: `file: function`.
#[track_caller]
fn is_there(test: &str, event: &str, cell: &str) {
    let Some((file, function)) = test.split_once(": ") else {
        assert_eq!(test, cell, "{event}");
        return;
    };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
    assert!(text.contains(&format!("fn {function}(")), "{event}: {function} is not in {file}");
}
