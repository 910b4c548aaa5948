use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    ops::{Deref, DerefMut},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sqlx::{
    AssertSqlSafe, Connection, Sqlite, SqliteConnection, SqlitePool,
    pool::PoolConnection,
    query, query_as, raw_sql,
    sqlite::SqliteArguments,
};
use tokio::{
    runtime::Handle,
    sync::{Mutex as Queue, OwnedMutexGuard as Turn},
    time::timeout,
};

use super::{
    Begin, Claim, End, InvalidNamespace, Record, State, Store,
    held::{Held, HeldSet},
    record::{self, Attempt, Ended, decide, resolved},
    sql::{self, Problem},
};
use crate::event::FulfilmentId;

/// Records attempts in the application's SQLite database. **Effect and record commit together.**
///
/// Its handler implements [`FulfilIn`](crate::FulfilIn) and writes through the [`SqliteTx`], which
/// holds the database's write lock. So attempts run one after the other, and every other write waits
/// until the handler returns: do in it what is in the database, and nothing that takes long. Needs
/// sqlx 0.9.
///
/// ```
/// use sqlx::SqlitePool;
/// use tower_firstpromoter::{
///     Access, FulfilIn, Outcome, Webhook,
///     event::{Fulfilment, Unit},
///     store::{SqliteStore, SqliteTx},
/// };
///
/// struct Credits;
///
/// impl FulfilIn<SqliteTx> for Credits {
///     type Error = sqlx::Error;
///
///     async fn fulfil_in(&self, fulfilment: Fulfilment, tx: &mut SqliteTx) -> Result<Outcome, sqlx::Error> {
///         let (Unit::Credits, Some(Ok(credits)), Some(user)) =
///             (&fulfilment.unit, fulfilment.amount.whole().map(i64::try_from), &fulfilment.promoter.cust_id)
///         else {
///             return Ok(Outcome::Pending);
///         };
///         let credited = sqlx::query("UPDATE accounts SET credits = credits + ? WHERE id = ?")
///             .bind(credits)
///             .bind(user)
///             .execute(&mut **tx)
///             .await?;
///         Ok(if credited.rows_affected() == 1 { Outcome::Fulfilled } else { Outcome::Pending })
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let url = format!("sqlite:{}?mode=rwc", directory.path().join("app.db").display());
/// let store = SqliteStore::new(SqlitePool::connect(&url).await?);
/// store.create_table().await?; // or add `SqliteStore::SCHEMA` to your migrations
/// let webhook = Webhook::new(Credits, store, Access::query("key", "at least sixteen bytes")?);
/// # Ok(()) }
/// ```
///
/// # Waiting
///
/// An attempt waits at most 3 seconds for another one of this store, and 2 seconds for another
/// process or pool that writes; then it is [`Begin::Busy`]. No verb takes longer than 7 seconds.
///
/// # The pool
///
/// An attempt holds one connection of the given pool, and a pool of one will do. Then nothing that
/// runs during an attempt may ask the pool for another, `was_fulfilled` included.
///
/// During an attempt the store replaces the connection's commit and rollback hooks, and sets
/// `synchronous` to `EXTRA` and `busy_timeout` to 2 seconds. Afterwards it restores both settings and
/// removes its hooks; hooks of the application's on that connection are gone.
#[derive(Clone)]
pub struct SqliteStore {
    pool: SqlitePool,
    namespace: Arc<str>,
    held: HeldSet,
    /// Attempts wait for the write lock here: first come, first served, without a connection.
    queue: Arc<Queue<()>>,
}

/// Limit of every verb.
const LIMIT: Duration = Duration::from_secs(7);

/// Limit of the wait for the other attempts of a store.
const TURN: Duration = Duration::from_secs(3);

/// `EXTRA` also makes the end of a rollback journal durable. SQLite's own wait is for other processes
/// and pools.
const SETTINGS: &str = "PRAGMA synchronous = EXTRA; PRAGMA busy_timeout = 2000";

/// Fails where the table is missing or read-only: `BEGIN IMMEDIATE` does not.
const TOUCH: &str = "DELETE FROM firstpromoter_fulfilments WHERE 0";

const KNOWN: &str = "SELECT state, promoter_id, attempts FROM firstpromoter_fulfilments \
    WHERE namespace = ? AND id = ?";

const RECORD: &str = "INSERT INTO firstpromoter_fulfilments AS f (namespace, id, unit, amount, \
    promoter_id, cust_id, state, attempts, reason, first_seen, changed) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?10) \
    ON CONFLICT (namespace, id) DO UPDATE SET unit = excluded.unit, amount = excluded.amount, \
    cust_id = excluded.cust_id, state = excluded.state, attempts = excluded.attempts, \
    reason = excluded.reason, changed = excluded.changed WHERE f.state <> 'fulfilled'";

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, unit, amount, promoter_id, cust_id, state, attempts, reason, first_seen, ",
            "changed FROM firstpromoter_fulfilments WHERE namespace = ? AND ",
            $rest
        )
    };
}

const RESOLVE: &str = "UPDATE firstpromoter_fulfilments SET state = ?3, reason = ?4, changed = ?5 \
    WHERE namespace = ?1 AND id = ?2 AND state = 'in_doubt'";

const FORGET: &str = "DELETE FROM firstpromoter_fulfilments WHERE namespace = ? AND id = ?";

/// The reason of an attempt whose handler ended its transaction, or did not notice that SQLite had.
const LOST: &str = "the transaction ended before the handler did: nothing it wrote is kept";

impl SqliteStore {
    /// The SQL that creates the table, for your migrations. Running it twice does no harm.
    ///
    /// | column | of `firstpromoter_fulfilments` |
    /// |---|---|
    /// | `namespace`, `id` | the account and the fulfilment: the primary key |
    /// | `unit`, `amount`, `promoter_id`, `cust_id` | what was last asked for, and for whom |
    /// | `state` | `in_doubt`, `fulfilled`, `pending` or `failed`, as in [`State`] |
    /// | `attempts`, `reason` | the runs of the handler, and why the latest did not fulfil |
    /// | `first_seen`, `changed` | when, in microseconds since 1970 |
    ///
    /// Never delete a fulfilled row: its fulfilment would run again.
    pub const SCHEMA: &str = include_str!("schema/sqlite.sql");

    /// Creates a store in the database of `pool`. See [`SqliteStore`] for an example.
    pub fn new(pool: SqlitePool) -> Self {
        Self { pool, namespace: "".into(), held: HeldSet::default(), queue: Arc::default() }
    }

    /// Keeps the fulfilments of several FirstPromoter accounts apart, whose ids may be the same.
    /// Default: empty. A namespace that is set later does not find what was recorded before.
    ///
    /// # Errors
    ///
    /// If it is longer than 200 bytes or has a control character.
    ///
    /// ```
    /// # use tower_firstpromoter::store::{InvalidNamespace, SqliteStore};
    /// # fn example(pool: sqlx::SqlitePool) -> Result<(), InvalidNamespace> {
    /// let store = SqliteStore::new(pool);
    /// let (ours, partners) = (store.clone().namespace("ours")?, store.namespace("partners")?);
    /// # Ok(()) }
    /// ```
    pub fn namespace(self, account: impl AsRef<str>) -> Result<Self, InvalidNamespace> {
        Ok(Self { namespace: record::namespace(account.as_ref())?, ..self })
    }

    /// Creates the table unless there is one. See [`SqliteStore`] for an example.
    ///
    /// # Errors
    ///
    /// If the database is out of reach, read-only, or busy for too long.
    pub async fn create_table(&self) -> Result<(), SqliteError> {
        within(async { Ok(self.write(self.turn().await?, Self::SCHEMA).await?.commit().await?) })
            .await
    }

    async fn turn(&self) -> Result<Arc<Turn<()>>, Problem> {
        let turn = timeout(TURN, Arc::clone(&self.queue).lock_owned()).await;
        Ok(Arc::new(turn.map_err(|_elapsed| Problem::Busy)?))
    }

    /// Begins a transaction that only the store can commit, with `first` in it.
    async fn write(&self, turn: Arc<Turn<()>>, first: &str) -> Result<Write, Problem> {
        let mut write = Write {
            conn: Some(self.pool.acquire().await?),
            _turn: turn,
            gate: Arc::default(),
            savepoint: RandomState::new().hash_one(()),
            settings: None,
            ending: false,
        };
        write.begin(first).await?;
        Ok(write)
    }

    async fn known(
        &self,
        conn: &mut SqliteConnection,
        id: FulfilmentId,
    ) -> Result<Option<sql::Known>, Problem> {
        let known = query_as(KNOWN).bind(&*self.namespace).bind(id.to_string());
        let known: Option<(String, String, i64)> = known.fetch_optional(conn).await?;
        known.map(|(state, promoter, runs)| sql::known(&state, &promoter, runs)).transpose()
    }

    async fn try_begin(&self, claim: &Claim) -> Result<Begin<SqliteTx>, Problem> {
        if self.held.contains(&self.namespace, claim.id()) {
            return Ok(Begin::Busy);
        }
        // Most duplicates end here, without the write lock.
        let known = self.known(&mut *self.pool.acquire().await?, claim.id()).await?;
        match decide(known, claim) {
            Begin::Fulfilled => return Ok(Begin::Fulfilled),
            Begin::Mismatch => return Ok(Begin::Mismatch),
            Begin::Run { .. } | Begin::InDoubt { .. } | Begin::Busy => {}
        }
        let Some(held) = self.held.take(&self.namespace, claim.id()) else {
            return Ok(Begin::Busy);
        };
        let mut write = self.write(self.turn().await?, "").await?;
        let known = self.known(write.conn(), claim.id()).await?;
        let claim = claim.clone();
        Ok(decide(known, &claim.clone()).with(|attempt| SqliteTx { write, held, claim, attempt }))
    }

    async fn try_end(&self, tx: SqliteTx, end: End) -> Result<State, Problem> {
        let SqliteTx { mut write, held: _until_recorded, claim, attempt } = tx;
        let keeps = matches!(end, End::Fulfilled | End::Pending);
        let mut ended = attempt.ended(end, true);
        // Statements whose futures the handler dropped may still be on their way.
        write.conn().ping().await?;
        if write.gate.lost.load(Ordering::SeqCst) {
            // Nothing has passed the gate, so it is known that nothing took effect.
            if keeps {
                ended = attempt.ended(End::Failed(LOST.to_owned()), true);
            }
            let turn = Arc::clone(&write._turn);
            write.undo().await;
            write = self.write(turn, "").await?;
        } else if !keeps {
            // The write lock is kept: nobody can begin between the undoing and the record of it.
            write.run(format!("ROLLBACK TO firstpromoter_{}", write.savepoint)).await?;
        }
        let recorded = self.record(write.conn(), &claim, &ended).await?;
        write.commit().await?;
        Ok(if recorded { ended.state } else { State::Fulfilled })
    }

    /// Writes the record, unless it says that the fulfilment is fulfilled.
    async fn record(
        &self,
        conn: &mut SqliteConnection,
        claim: &Claim,
        ended: &Ended,
    ) -> sqlx::Result<bool> {
        let recorded = query(RECORD)
            .bind(&*self.namespace)
            .bind(claim.id().to_string())
            .bind(sql::text(claim.unit().as_str()))
            .bind(claim.amount().to_string())
            .bind(claim.promoter().to_string())
            .bind(claim.cust_id().map(sql::text))
            .bind(ended.state.as_str())
            .bind(i64::from(ended.attempts))
            .bind(ended.reason.as_deref().map(sql::text))
            .bind(sql::now());
        Ok(recorded.execute(conn).await?.rows_affected() == 1)
    }

    /// Changes the record of a fulfilment that nobody is at work on.
    async fn change(
        &self,
        id: FulfilmentId,
        change: sqlx::query::Query<'_, Sqlite, SqliteArguments>,
    ) -> Result<bool, Problem> {
        let Some(_held) = self.held.take(&self.namespace, id) else { return Ok(false) };
        let mut write = self.write(self.turn().await?, "").await?;
        let changed = change.execute(write.conn()).await?.rows_affected() == 1;
        write.commit().await?;
        Ok(changed)
    }
}

/// Runs a verb within [`LIMIT`]. What is dropped then undoes itself.
async fn within<T>(verb: impl Future<Output = Result<T, Problem>>) -> Result<T, SqliteError> {
    let done = timeout(LIMIT, verb).await;
    Ok(done.unwrap_or_else(|_elapsed| Err(sqlx::Error::PoolTimedOut.into()))?)
}

impl Store for SqliteStore {
    type Tx = SqliteTx;
    type Error = SqliteError;

    async fn begin(&self, claim: &Claim) -> Result<Begin<SqliteTx>, SqliteError> {
        within(async {
            match self.try_begin(claim).await {
                // Somebody else has the write lock, perhaps for this very fulfilment.
                Err(problem) if is_busy(&problem) => Ok(Begin::Busy),
                begun => begun,
            }
        })
        .await
    }

    async fn end(&self, tx: SqliteTx, end: End) -> Result<State, SqliteError> {
        within(self.try_end(tx, end)).await
    }

    async fn get(&self, id: FulfilmentId) -> Result<Option<Record>, SqliteError> {
        within(async {
            let row = query_as(select!("id = ?")).bind(&*self.namespace).bind(id.to_string());
            row.fetch_optional(&self.pool).await?.map(sql::record).transpose()
        })
        .await
    }

    async fn open(&self, limit: usize) -> Result<Vec<Record>, SqliteError> {
        within(async {
            let rows = query_as(select!("state <> 'fulfilled' ORDER BY changed DESC LIMIT ?"))
                .bind(&*self.namespace)
                .bind(sql::limit(limit));
            rows.fetch_all(&self.pool).await?.into_iter().map(sql::record).collect()
        })
        .await
    }

    async fn resolve(&self, id: FulfilmentId, fulfilled: bool) -> Result<bool, SqliteError> {
        let (state, reason) = resolved(fulfilled);
        let resolve = query(RESOLVE).bind(&*self.namespace).bind(id.to_string());
        let resolve = resolve.bind(state.as_str()).bind(reason).bind(sql::now());
        within(self.change(id, resolve)).await
    }

    async fn forget(&self, id: FulfilmentId) -> Result<bool, SqliteError> {
        let forget = query(FORGET).bind(&*self.namespace).bind(id.to_string());
        within(self.change(id, forget)).await
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

/// What decides on a connection's commits.
#[derive(Default)]
struct Gate {
    open: AtomicBool,
    lost: AtomicBool,
}

/// A write transaction that only the store can commit.
struct Write {
    conn: Option<PoolConnection<Sqlite>>,
    _turn: Arc<Turn<()>>,
    gate: Arc<Gate>,
    /// Its name cannot be guessed, so no handler can move it.
    savepoint: u64,
    /// `synchronous` and `busy_timeout`, as they were.
    settings: Option<(i64, i64)>,
    ending: bool,
}

impl Write {
    fn conn(&mut self) -> &mut SqliteConnection {
        self.conn.as_mut().expect(HELD)
    }

    async fn run(&mut self, sql: String) -> sqlx::Result<()> {
        raw_sql(AssertSqlSafe(sql)).execute(self.conn()).await.map(drop)
    }

    async fn begin(&mut self, first: &str) -> sqlx::Result<()> {
        let (gate, lost) = (Arc::clone(&self.gate), Arc::clone(&self.gate));
        let mut handle = self.conn().lock_handle().await?;
        handle.set_commit_hook(move || {
            gate.open.load(Ordering::SeqCst) && !gate.lost.load(Ordering::SeqCst)
        });
        handle.set_rollback_hook(move || lost.lost.store(true, Ordering::SeqCst));
        drop(handle);
        let settings = "SELECT synchronous, timeout FROM pragma_synchronous, pragma_busy_timeout";
        self.settings = Some(query_as(settings).fetch_one(self.conn()).await?);
        self.run(SETTINGS.to_owned()).await?;
        // sqlx counts it, so that the handler may nest transactions; its own end cannot be dropped.
        std::mem::forget(self.conn().begin_with("BEGIN IMMEDIATE").await?);
        self.run(format!("{first}; {TOUCH}; SAVEPOINT firstpromoter_{}", self.savepoint)).await
    }

    async fn commit(mut self) -> sqlx::Result<()> {
        self.ending = true;
        self.gate.open.store(true, Ordering::SeqCst);
        let committed = self.run("COMMIT".to_owned()).await;
        self.undo().await;
        committed
    }

    /// Rolls back what there is, and gives the connection back if that is certain.
    async fn undo(mut self) {
        self.ending = true;
        if self.clean().await.is_ok() {
            self.conn = None;
        }
    }

    async fn clean(&mut self) -> sqlx::Result<()> {
        // SQLite may have no transaction where sqlx counts one, and the other way round.
        let _ = self.run("BEGIN".to_owned()).await;
        if self.conn().is_in_transaction() {
            // What sqlx refuses to begin it rolls back, and counts one less.
            let _ = self.conn().begin_with("BEGIN").await.map(drop);
            self.conn().ping().await?;
            if self.conn().is_in_transaction() {
                return Err(sqlx::Error::InvalidSavePointStatement);
            }
        } else {
            self.run("ROLLBACK".to_owned()).await?;
        }
        if let Some((synchronous, timeout)) = self.settings {
            let settings =
                format!("PRAGMA synchronous = {synchronous}; PRAGMA busy_timeout = {timeout}");
            self.run(settings).await?;
        }
        let mut handle = self.conn().lock_handle().await?;
        handle.remove_commit_hook();
        handle.remove_rollback_hook();
        Ok(())
    }
}

impl Drop for Write {
    fn drop(&mut self) {
        let Some(conn) = self.conn.take() else { return };
        match Handle::try_current() {
            Ok(runtime) if !self.ending => {
                let (gate, turn) = (Arc::clone(&self.gate), Arc::clone(&self._turn));
                let (conn, ending) = (Some(conn), true);
                drop(runtime.spawn(Self { conn, gate, _turn: turn, ending, ..*self }.undo()));
            }
            _ => drop(conn.detach()), // which closes it
        }
    }
}

const HELD: &str = "a connection until the end";

/// The open transaction of an attempt, of a [`SqliteStore`].
///
/// It dereferences to [`SqliteConnection`]: write through `&mut **tx`, as the example of
/// [`SqliteStore`] does. Nested transactions are allowed. The store alone can commit it: a `COMMIT` of
/// the handler's fails and rolls back, as SQLite itself does when the disk is full or a conflict is
/// resolved by `ROLLBACK`. After that every write fails, and the attempt is recorded as failed.
pub struct SqliteTx {
    // In this order: the next attempt waits for the rollback, and no attempt is refused because of it.
    write: Write,
    held: Held,
    claim: Claim,
    attempt: Attempt,
}

impl Deref for SqliteTx {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        self.write.conn.as_ref().expect(HELD)
    }
}

impl DerefMut for SqliteTx {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        self.write.conn()
    }
}

impl fmt::Debug for SqliteTx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SqliteTx").field(&self.held.id()).finish()
    }
}

/// The error of a [`SqliteStore`].
///
/// ```
/// use tower_firstpromoter::store::SqliteStore;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// # let pool = sqlx::SqlitePool::connect("sqlite::memory:").await.unwrap();
/// # use tower_firstpromoter::store::Store;
/// let error = SqliteStore::new(pool).get(1.into()).await.unwrap_err();
/// assert!(error.to_string().contains("create_table"));
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct SqliteError(#[from] Problem);

/// Whether somebody else has the write lock.
fn is_busy(problem: &Problem) -> bool {
    match problem {
        Problem::Busy => true,
        Problem::Sql(sqlx::Error::Database(error)) => {
            // Extended codes have the primary one, SQLITE_BUSY or SQLITE_LOCKED, in their low byte.
            let code = error.code().and_then(|code| code.parse::<i32>().ok());
            code.is_some_and(|code| matches!(code & 0xff, 5 | 6))
        }
        _ => false,
    }
}
