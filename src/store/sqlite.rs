use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use sqlx::{
    AssertSqlSafe, Connection, Row, Sqlite, SqliteConnection, SqlitePool, pool::PoolConnection,
    query, query::Query, query_as, raw_sql, sqlite::SqliteArguments,
};
use tokio::{runtime::Handle, sync::Mutex as Queue, sync::OwnedMutexGuard, time::timeout};

use super::{
    Begin, Claim, End, InvalidNamespace, Record, State, Store,
    held::{Held, HeldSet},
    record::{self, Attempt, decide, resolved},
    sql::{self, Problem},
};
use crate::event::FulfilmentId;

/// Records attempts in the application's SQLite database. **Effect and record commit together.**
///
/// Its handler implements [`FulfilIn`](crate::FulfilIn) and writes through the [`SqliteTx`], which
/// holds the database's write lock: attempts run one after the other, and all other writes wait for
/// the handler. Needs sqlx 0.9.
///
/// ```
/// use tower_firstpromoter::{
///     Access, FulfilIn, Outcome, Webhook, event::Fulfilment, store::{SqliteStore, SqliteTx, Store},
/// };
///
/// struct Credits;
///
/// impl FulfilIn<SqliteTx> for Credits {
///     type Error = sqlx::Error;
///
///     async fn fulfil_in(&self, f: Fulfilment, tx: &mut SqliteTx) -> Result<Outcome, sqlx::Error> {
///         let Some(Ok(credits @ 1..)) = f.amount.whole().map(i64::try_from) else {
///             return Ok(Outcome::Pending);
///         };
///         let credit = sqlx::query("UPDATE accounts SET credits = credits + ? WHERE id = ?");
///         let credit = credit.bind(credits).bind(&f.promoter.cust_id);
///         let credited = credit.execute(&mut **tx).await?;
///         Ok(if credited.rows_affected() == 1 { Outcome::Fulfilled } else { Outcome::Pending })
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = SqliteStore::new(sqlx::SqlitePool::connect("sqlite::memory:").await?);
/// let partners = store.clone().namespace("partners")?; // another FirstPromoter account
/// assert!(store.get(1.into()).await.unwrap_err().to_string().contains("call `create_table`"));
/// store.create_table().await?; // or add `SqliteStore::SCHEMA` to your migrations
/// let webhook = Webhook::new(Credits, store, Access::query("key", "at least sixteen bytes")?);
/// # Ok(()) }
/// ```
///
/// An attempt waits 3 seconds for another one of this store and 1 second for another process or
/// pool that writes; then it is [`Begin::Busy`], and `resolve` and `forget` return `false`. No
/// method takes longer than 7 seconds.
///
/// An attempt holds one connection of the pool. With a pool of one, nothing that runs during an
/// attempt may ask the pool for another, `was_fulfilled` included; with a database in memory, nobody
/// else can read the records meanwhile. On that connection `synchronous` is `EXTRA`, `busy_timeout`
/// is 1 second, and the store's commit hook and progress handler take the place of the application's;
/// afterwards both settings are restored, and the store's hook and handler removed. What the handler
/// left running when it ended or was cut off is interrupted.
#[derive(Clone)]
pub struct SqliteStore {
    pool: SqlitePool,
    namespace: Arc<str>,
    held: HeldSet,
    /// Attempts wait for the write lock here: first come, first served, without a connection.
    queue: Arc<Queue<()>>,
}

type Turn = Option<OwnedMutexGuard<()>>;
type Result<T, E = Problem> = std::result::Result<T, E>;

// The limits of the wait for a turn, of a statement that the handler left running, of every method.
const TURN: Duration = Duration::from_secs(3);
const GRACE: Duration = Duration::from_secs(2);
const LIMIT: Duration = Duration::from_secs(7);

// `main`, because a temporary table of the same name would go first.
const ROWS: &str = "SELECT id, unit, amount, promoter_id, cust_id, state, attempts, reason, \
    first_seen, changed FROM main.firstpromoter_fulfilments WHERE namespace = ?";

/// The transaction may have been lost, and another attempt have ended since: only a doubt is added.
const RECORD: &str = "INSERT INTO main.firstpromoter_fulfilments AS f (namespace, id, unit, amount, \
    promoter_id, cust_id, state, attempts, reason, first_seen, changed) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?10) \
    ON CONFLICT (namespace, id) DO UPDATE SET promoter_id = excluded.promoter_id, \
    unit = excluded.unit, amount = excluded.amount, cust_id = excluded.cust_id, \
    state = excluded.state, attempts = excluded.attempts, \
    reason = iif(excluded.state = 'in_doubt', coalesce(excluded.reason, f.reason), excluded.reason), \
    changed = excluded.changed WHERE f.state <> 'fulfilled' \
    AND (f.attempts < ?11 OR excluded.state = 'in_doubt' AND excluded.reason IS NOT NULL)";

/// Fails if the table is missing or read-only, which `BEGIN IMMEDIATE` does not.
const TOUCH: &str = "DELETE FROM main.firstpromoter_fulfilments WHERE 0";

impl SqliteStore {
    /// The SQL that creates the table, for your migrations. Running it twice does no harm.
    #[doc = concat!("```sql\n", include_str!("schema/sqlite.sql"), "```")]
    pub const SCHEMA: &str = include_str!("schema/sqlite.sql");

    /// Creates a store in the database of `pool`. See [`SqliteStore`] for an example.
    pub fn new(pool: SqlitePool) -> Self {
        Self { pool, namespace: "".into(), held: HeldSet::default(), queue: Arc::default() }
    }

    /// Separates the fulfilments of an account, as [`Store`] says. See [`SqliteStore`] for an example.
    ///
    /// # Errors
    ///
    /// See [`InvalidNamespace`].
    pub fn namespace(self, account: impl AsRef<str>) -> Result<Self, InvalidNamespace> {
        Ok(Self { namespace: record::namespace(account.as_ref())?, ..self })
    }

    /// Creates the table, unless it exists. See [`SqliteStore`] for an example.
    ///
    /// # Errors
    ///
    /// If the database is out of reach, read-only, or busy for too long.
    pub async fn create_table(&self) -> Result<(), SqliteError> {
        let create = raw_sql(AssertSqlSafe(format!("{}; {TOUCH}", Self::SCHEMA)));
        bounded(async { Ok(create.execute(&self.pool).await.map(drop)?) }).await
    }

    async fn turn(&self) -> Turn {
        timeout(TURN, Arc::clone(&self.queue).lock_owned()).await.ok()
    }

    async fn find(&self, conn: &mut SqliteConnection, id: FulfilmentId) -> Result<Option<Record>> {
        let row = query_as(AssertSqlSafe(format!("{ROWS} AND id = ?")));
        let row = row.bind(&*self.namespace).bind(id.to_string()).fetch_optional(conn).await?;
        row.map(sql::record).transpose()
    }

    async fn try_begin(&self, claim: &Claim) -> Result<Begin<SqliteTx>> {
        if self.held.contains(&self.namespace, claim.id) {
            return Ok(Begin::Busy);
        }
        // Most duplicates end here, without the write lock.
        let found = self.find(&mut *self.pool.acquire().await?, claim.id).await?;
        match decide(found.as_ref().map(Record::known), claim, drop) {
            Begin::Fulfilled => return Ok(Begin::Fulfilled),
            Begin::Mismatch => return Ok(Begin::Mismatch),
            _ => {}
        }
        let held = self.held.take(&self.namespace, claim.id);
        let Some(held) = held else { return Ok(Begin::Busy) };
        let turn @ Some(_) = self.turn().await else { return Ok(Begin::Busy) };
        let mut write = Write::begin(&self.pool, turn).await?;
        let found = self.find(write.conn(), claim.id).await?;
        let tx = |attempt| SqliteTx { write, held, claim: claim.clone(), attempt };
        Ok(decide(found.as_ref().map(Record::known), claim, tx))
    }

    async fn try_end(&self, tx: SqliteTx, end: End) -> Result<State> {
        let SqliteTx { mut write, held: _until_recorded, claim, attempt } = tx;
        let keeps = matches!(end, End::Fulfilled | End::Pending);
        let mut ended = attempt.ended(end, true);
        // Fails if the transaction has ended: the savepoint ended with it. What is undone keeps the
        // write lock, so that nobody begins before the doubt is recorded.
        let undo = if keeps { "RELEASE" } else { "PRAGMA query_only = OFF; ROLLBACK TO" };
        let undo = format!("{undo} firstpromoter_{:p}", write.gate);
        let mut done = timeout(GRACE, write.run(&undo)).await;
        if done.is_err() {
            write.interrupt().await;
            done = Ok(write.run(&undo).await);
        }
        if !matches!(done, Ok(Ok(()))) {
            if keeps {
                // No commit has passed the gate.
                let lost = "the transaction ended before the handler did: nothing it wrote is kept";
                ended = attempt.ended(End::Failed(lost.to_owned()), true);
            }
            let turn = write.turn.take();
            let _ = write.clean().await;
            write = Write::begin(&self.pool, turn).await?;
        }
        let record = query(RECORD)
            .bind(&*self.namespace)
            .bind(claim.id.to_string())
            .bind(claim.unit.as_str())
            .bind(claim.amount.to_string())
            .bind(claim.promoter.to_string())
            .bind(&claim.cust_id)
            .bind(ended.state.as_str())
            .bind(i64::from(ended.attempts))
            .bind(ended.reason)
            .bind(sql::now())
            .bind(i64::from(ended.number));
        if record.execute(write.conn()).await?.rows_affected() == 0 {
            // What became fulfilled meanwhile stays so; a trigger may have swallowed the record, too.
            let found = self.find(write.conn(), claim.id).await?;
            let Begin::Fulfilled = decide(found.as_ref().map(Record::known), &claim, drop) else {
                return Err(Problem::Lost);
            };
            ended.state = State::Fulfilled;
        }
        write.commit().await?;
        Ok(ended.state)
    }

    /// Changes the record of a fulfilment, unless an attempt is running, or may be.
    async fn change(
        &self,
        id: FulfilmentId,
        change: Query<'_, Sqlite, SqliteArguments>,
    ) -> Result<bool, SqliteError> {
        let Some(_held) = self.held.take(&self.namespace, id) else { return Ok(false) };
        let changed = bounded(async {
            let turn @ Some(_) = self.turn().await else { return Ok(false) };
            let mut write = Write::begin(&self.pool, turn).await?;
            let changed = change.execute(write.conn()).await?.rows_affected() == 1;
            write.commit().await?;
            Ok(changed)
        });
        unless_busy(changed.await, false)
    }
}

/// Runs a method within [`LIMIT`]; what is dropped is undone.
async fn bounded<T>(method: impl Future<Output = Result<T>>) -> Result<T, SqliteError> {
    Ok(sql::within(LIMIT, method).await?)
}

impl Store for SqliteStore {
    type Tx = SqliteTx;
    type Error = SqliteError;

    async fn begin(&self, claim: &Claim) -> Result<Begin<SqliteTx>, SqliteError> {
        unless_busy(bounded(self.try_begin(claim)).await, Begin::Busy)
    }

    async fn end(&self, tx: SqliteTx, end: End) -> Result<State, SqliteError> {
        bounded(self.try_end(tx, end)).await
    }

    async fn get(&self, id: FulfilmentId) -> Result<Option<Record>, SqliteError> {
        bounded(async { self.find(&mut *self.pool.acquire().await?, id).await }).await
    }

    async fn open(&self, limit: usize) -> Result<Vec<Record>, SqliteError> {
        let open = format!("{ROWS} AND state <> 'fulfilled' ORDER BY changed DESC LIMIT ?");
        let open = query_as(AssertSqlSafe(open)).bind(&*self.namespace).bind(sql::limit(limit));
        bounded(async { open.fetch_all(&self.pool).await?.into_iter().map(sql::record).collect() })
            .await
    }

    async fn resolve(&self, id: FulfilmentId, fulfilled: bool) -> Result<bool, SqliteError> {
        let (state, reason) = resolved(fulfilled);
        let resolve = "UPDATE main.firstpromoter_fulfilments SET state = ?3, reason = ?4, changed = ?5 \
            WHERE namespace = ?1 AND id = ?2 AND state = 'in_doubt'";
        let resolve = query(resolve).bind(&*self.namespace).bind(id.to_string());
        self.change(id, resolve.bind(state.as_str()).bind(reason).bind(sql::now())).await
    }

    async fn forget(&self, id: FulfilmentId) -> Result<bool, SqliteError> {
        let forget = "DELETE FROM main.firstpromoter_fulfilments WHERE namespace = ? AND id = ?";
        self.change(id, query(forget).bind(&*self.namespace).bind(id.to_string())).await
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

/// A write transaction that only the store can commit.
#[derive(Default)]
struct Write {
    conn: Option<PoolConnection<Sqlite>>,
    turn: Turn,
    /// Lets the store's own commit through.
    gate: Arc<AtomicBool>,
    /// Interrupts the statement that runs.
    interrupts: Arc<AtomicBool>,
    /// What restores the connection's settings.
    settings: String,
    /// Dropped from now on, it is closed.
    ending: bool,
}

impl Write {
    fn conn(&mut self) -> &mut SqliteConnection {
        self.conn.as_mut().expect("held until the end")
    }

    async fn run(&mut self, sql: &str) -> sqlx::Result<()> {
        raw_sql(AssertSqlSafe(sql)).execute(self.conn()).await.map(drop)
    }

    async fn begin(pool: &SqlitePool, turn: Turn) -> sqlx::Result<Self> {
        let mut write = Self::default();
        (write.conn, write.turn) = (Some(pool.acquire().await?), turn);
        let (gate, interrupts) = (Arc::clone(&write.gate), Arc::clone(&write.interrupts));
        let mut handle = write.conn().lock_handle().await?;
        handle.set_commit_hook(move || gate.load(SeqCst));
        // Asked every 10,000 operations, which is about once in a millisecond.
        handle.set_progress_handler(10_000, move || !interrupts.load(SeqCst));
        drop(handle);
        let settings = "SELECT printf('PRAGMA synchronous = %d; PRAGMA busy_timeout = %d; \
            PRAGMA query_only = %d', synchronous, timeout, query_only) \
            FROM pragma_synchronous, pragma_busy_timeout, pragma_query_only; \
            PRAGMA synchronous = EXTRA; PRAGMA busy_timeout = 1000";
        write.settings = raw_sql(settings).fetch_all(write.conn()).await?[0].try_get(0)?;
        // sqlx counts it, so that the handler may nest transactions. `clean` ends it.
        std::mem::forget(write.conn().begin_with("BEGIN IMMEDIATE").await?);
        // With the gate's address in it, no handler uses the name by accident.
        write.run(&format!("{TOUCH}; SAVEPOINT firstpromoter_{:p}", write.gate)).await?;
        Ok(write)
    }

    /// Interrupts what the handler left running.
    async fn interrupt(&mut self) {
        self.interrupts.store(true, SeqCst);
        let _ = self.conn().ping().await;
        self.interrupts.store(false, SeqCst);
    }

    async fn commit(mut self) -> sqlx::Result<()> {
        self.ending = true;
        self.gate.store(true, SeqCst);
        let committed = self.run("COMMIT").await;
        let _ = self.clean().await;
        committed
    }

    /// Rolls back what is left, restores the connection and gives it back.
    async fn clean(mut self) -> sqlx::Result<()> {
        self.ending = true;
        // sqlx counts a transaction until it rolls one back: SQLite needs one here, too.
        let _ = self.run("BEGIN").await;
        // Within a transaction that it counts, sqlx refuses this and rolls back.
        let _ = self.conn().begin_with("BEGIN").await.map(drop);
        // For one that it does not count.
        let _ = self.run("ROLLBACK").await;
        // SQLite refuses these within a transaction.
        let settings = self.settings.clone();
        self.run(&settings).await?;
        let mut handle = self.conn().lock_handle().await?;
        handle.remove_commit_hook();
        handle.remove_progress_handler();
        drop(handle);
        if !self.conn().is_in_transaction() {
            self.conn = None;
        }
        Ok(())
    }
}

impl Drop for Write {
    fn drop(&mut self) {
        if self.conn.is_none() {
            return;
        }
        let mut write = std::mem::take(self);
        // A runtime that ends drops it again.
        let ending = std::mem::replace(&mut write.ending, true);
        match Handle::try_current() {
            Ok(runtime) if !ending => drop(runtime.spawn(async {
                write.interrupt().await;
                write.clean().await
            })),
            _ => drop(write.conn.take().map(PoolConnection::detach)), // which closes it
        }
    }
}

/// The open transaction of an attempt, of a [`SqliteStore`].
///
/// It dereferences to [`SqliteConnection`]: write through `&mut **tx`, as the example of
/// [`SqliteStore`] does. Nested transactions are allowed. Only the store commits it: a `COMMIT` of
/// the handler's fails and rolls back, as SQLite itself does when the disk is full or a conflict is
/// resolved by `ROLLBACK`. After that every write fails, and the attempt is recorded as failed.
pub struct SqliteTx {
    // Dropped in this order: the next attempt waits for the rollback.
    write: Write,
    held: Held,
    claim: Claim,
    attempt: Attempt,
}

impl Deref for SqliteTx {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        self.write.conn.as_ref().expect("held until the end")
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

/// The error of a [`SqliteStore`], which has an example.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct SqliteError(#[from] Problem);

/// Returns `busy` if somebody else has the write lock, perhaps for this very fulfilment.
fn unless_busy<T>(done: Result<T, SqliteError>, busy: T) -> Result<T, SqliteError> {
    let Err(SqliteError(Problem::Sql(sqlx::Error::Database(error)))) = &done else { return done };
    // SQLITE_BUSY or SQLITE_LOCKED, which extended codes have in their low byte.
    let code = error.code().and_then(|code| code.parse::<i32>().ok());
    if code.is_some_and(|code| matches!(code & 0xff, 5 | 6)) { Ok(busy) } else { done }
}
