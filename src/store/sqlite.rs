use std::{
    collections::{HashMap, HashSet},
    fmt,
    fs::{File, TryLockError},
    ops::{Deref, DerefMut},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use sqlx::{
    Connection, Sqlite, SqliteConnection, SqlitePool, Transaction, query, query_as, raw_sql,
};
use tokio::{
    sync::{Mutex as Queue, OwnedMutexGuard as Turn},
    time::{sleep, timeout},
};

use super::{
    Begin, Claim, End, Record, State, Store,
    sql::{self, Problem},
};
use crate::event::FulfilmentId;

/// Remembers in SQLite, for applications whose data is there. **Grant and record commit together.**
///
/// The transaction that holds the database's write lock is lent to the handler, so with
/// [`FulfilIn`] nothing can come between the grant and the record that it was made.
///
/// **One slow grant holds up all other writes.** SQLite has a single write lock, so with
/// [`FulfilIn`] grants run one after the other, and whatever else the application writes waits until
/// the handler returns. Do there what is in the database, and nothing that takes long.
///
/// ```
/// use sqlx::SqlitePool;
/// use tower_firstpromoter::{
///     Access, FulfilIn, Outcome, Webhook,
///     event::{Fulfilment, Unit},
///     once::{SqliteStore, SqliteTx},
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
///             .execute(&mut **tx) // in the store's transaction, not in one of the pool's
///             .await?;
///         Ok(if credited.rows_affected() == 1 { Outcome::Fulfilled } else { Outcome::Pending })
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let url = format!("sqlite:{}?mode=rwc", directory.path().join("app.db").display());
/// let store = SqliteStore::new(SqlitePool::connect(&url).await?);
/// store.create_table().await?; // or put `SqliteStore::SCHEMA` among your migrations
/// let webhook = Webhook::new(Credits, Access::query("key", "at least sixteen bytes")).once(store);
/// # Ok(()) }
/// ```
///
/// # What holds
///
/// | event | with [`FulfilIn`], grant through the transaction | with a plain [`Fulfil`], grant elsewhere |
/// |---|---|---|
/// | duplicate after success | one read by primary key, `200` | the same |
/// | duplicate at once, same process | joins the running grant | the same |
/// | duplicate at once, other process | waits for the write lock as long as the pool's `busy_timeout` says, then `409` | refused with `503`: one process at a time |
/// | another reward at once | waits for its turn, up to 5 seconds, then `409` | both run |
/// | crash before the grant | rolled back, runs again | in doubt: [`was_granted`] is asked |
/// | crash between grant and record | cannot be: both are rolled back, runs again | in doubt: [`was_granted`] is asked |
/// | handler says `Err` | its writes are undone, the reason is kept, runs again | reason kept, runs again |
/// | handler panics | its writes are undone, runs again | in doubt: [`was_granted`] is asked |
/// | handler says pending | **its writes commit**, runs when asked again | noted, runs when asked again |
/// | handler is slow | goes on, **and holds up every other write** | goes on |
/// | sender hangs up | nothing happens to the grant | the same |
/// | database out of reach before | the handler is not called, `503` | the same |
/// | database out of reach after | `503`, undone | in doubt |
/// | machine frozen, wakes up | keeps its lock: nobody else could run | the same |
/// | clocks differ | no clock decides | the same |
/// | power loss | `synchronous = EXTRA` is forced on | the same |
///
/// A connection of the pool on which a grant was made keeps `synchronous = EXTRA`, as SQLite has it.
/// An application that writes much with less gives the store a pool of its own.
///
/// # Grants made elsewhere
///
/// A plain [`Fulfil`] does not hold the write lock while it runs, so its handler may write to the
/// same database by itself. Its intention is committed before and its end after, and what tells a
/// grant that runs from one that was cut off is the process: a lock on a file beside the database,
/// `app.db-firstpromoter`, which the first such grant takes and the operating system lets go of
/// when the process ends. A second process gets an error until then. **For several processes on one
/// database the handler must be a [`FulfilIn`]**, which needs no such file.
///
/// [`Fulfil`]: crate::Fulfil
/// [`FulfilIn`]: crate::FulfilIn
/// [`was_granted`]: crate::Fulfil::was_granted
#[derive(Clone)]
pub struct SqliteStore {
    pool: SqlitePool,
    namespace: Arc<str>,
    database: Arc<Database>,
}

/// The write lock is taken first: a transaction that reads first cannot always get it later. EXTRA
/// is FULL where the journal is a WAL; it cannot be set once the transaction has begun, and stays.
const BEGIN: &str = "PRAGMA synchronous = EXTRA; BEGIN IMMEDIATE";

const READ: &str =
    "SELECT state, attempts FROM firstpromoter_fulfilments WHERE namespace = ? AND id = ?";

const INSERT: &str = "INSERT INTO firstpromoter_fulfilments \
    (namespace, id, unit, amount, promoter_id, first_seen, changed) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6) ON CONFLICT DO NOTHING";

const START: &str = "UPDATE firstpromoter_fulfilments \
    SET state = 'started', attempts = attempts + 1, changed = ?3 \
    WHERE namespace = ?1 AND id = ?2";

const END: &str = "UPDATE firstpromoter_fulfilments \
    SET state = ?3, last_error = coalesce(?4, last_error), attempts = attempts + ?5, changed = ?6 \
    WHERE namespace = ?1 AND id = ?2 AND state <> 'granted'";

const FORGET: &str = "DELETE FROM firstpromoter_fulfilments WHERE namespace = ? AND id = ?";

const IN_DOUBT: &str = "SELECT id, unit, amount, promoter_id, attempts, last_error, first_seen, \
    changed FROM firstpromoter_fulfilments WHERE namespace = ? AND state = 'started' \
    ORDER BY changed";

const SETTLE: &str = "UPDATE firstpromoter_fulfilments SET state = ?3, changed = ?4 \
    WHERE namespace = ?1 AND id = ?2 AND state = 'started'";

/// How long a grant waits for the others of its process. SQLite's own wait between processes is
/// the pool's `busy_timeout`, which is the same unless told otherwise.
const TURN: Duration = Duration::from_secs(5);

/// Before the end of a grant made elsewhere is tried to be written again; the pool's
/// `busy_timeout`, which may be none, has passed by then.
const PAUSE: Duration = Duration::from_millis(20);

impl SqliteStore {
    /// The SQL that makes the table, for those who keep all tables in their migrations. Running it
    /// twice does no harm.
    ///
    /// | column | of `firstpromoter_fulfilments` |
    /// |---|---|
    /// | `namespace`, `id` | the account and the reward: the primary key |
    /// | `unit`, `amount`, `promoter_id` | what was earned, and by whom |
    /// | `state` | `new`, `started`, `granted`, `pending` or `failed`, as in [`State`] |
    /// | `attempts` | grants begun; one that was cut off and rolled back is not counted |
    /// | `last_error` | why the last attempt that failed did |
    /// | `first_seen`, `changed` | when, in microseconds since 1970 |
    ///
    /// No body, no address and no secret. What is open, for an operator:
    ///
    /// ```sql
    /// SELECT id, amount, unit, state, attempts, last_error, datetime(changed / 1000000, 'unixepoch')
    /// FROM firstpromoter_fulfilments WHERE namespace = '' AND state <> 'granted' ORDER BY changed;
    /// ```
    ///
    /// Never delete the row of a granted reward.
    pub const SCHEMA: &str = include_str!("schema/sqlite.sql");

    /// A store in the database of this pool. See [`SqliteStore`] for an example.
    pub fn new(pool: SqlitePool) -> Self {
        let database = Database::of(&pool);
        Self { pool, namespace: "".into(), database }
    }

    /// Keeps the rewards of several FirstPromoter accounts apart, whose ids may be the same. Empty
    /// unless told otherwise.
    ///
    /// ```
    /// # use tower_firstpromoter::once::SqliteStore;
    /// # fn example(pool: sqlx::SqlitePool) {
    /// let store = SqliteStore::new(pool);
    /// let (ours, partners) = (store.clone().namespace("ours"), store.namespace("partners"));
    /// # }
    /// ```
    #[must_use]
    pub fn namespace(mut self, account: impl Into<String>) -> Self {
        self.namespace = sql::text(account).into();
        self
    }

    /// Creates the table, unless there is one. See [`SqliteStore`] for an example.
    ///
    /// # Errors
    ///
    /// If the database is out of reach, or busy for longer than the pool waits.
    ///
    /// # Cancel safety
    ///
    /// Do not drop the future half-way: sqlx would return a connection to the pool that is still
    /// inside a transaction ([sqlx#4393](https://github.com/transact-rs/sqlx/issues/4393)).
    pub async fn create_table(&self) -> Result<(), SqliteError> {
        let mut tx = self.pool.begin_with(BEGIN).await?;
        raw_sql(Self::SCHEMA).execute(&mut *tx).await?;
        Ok(tx.commit().await?)
    }

    /// The one write transaction of this process, within [`TURN`].
    async fn write(&self) -> Result<Write, Problem> {
        let turn = Arc::clone(&self.database.queue).lock_owned();
        self.write_at(timeout(TURN, turn).await.map_err(|_| Problem::Busy)?).await
    }

    async fn write_at(&self, turn: Turn<()>) -> Result<Write, Problem> {
        Ok(Write { tx: self.pool.begin_with(BEGIN).await?, _turn: turn })
    }

    async fn try_begin(&self, claim: &Claim) -> Result<Begin<SqliteTx>, Problem> {
        let id = claim.id().to_string();
        let known: Option<(String, i32)> =
            query_as(READ).bind(&*self.namespace).bind(&id).fetch_optional(&self.pool).await?;
        if known.is_some_and(|(state, _)| state == State::Granted.as_str()) {
            return Ok(Begin::Granted);
        }
        let Some(held) = self.hold(claim.id()) else { return Ok(Begin::Busy) };
        if !claim.in_tx() {
            self.database.own()?;
        }
        let mut write = self.write().await?;
        let (before, attempts) = match self.enter(&mut write.tx, claim, &id).await {
            Ok((State::Granted, _)) => {
                write.abandon().await;
                return Ok(Begin::Granted);
            }
            Ok(entered) => entered,
            Err(problem) => {
                write.abandon().await;
                return Err(problem);
            }
        };
        let write = if claim.in_tx() {
            Some(write)
        } else {
            write.commit().await?;
            None
        };
        let attempt = sql::count(attempts).saturating_add(1);
        let tx = SqliteTx { write, held };
        Ok(match before {
            State::Started => Begin::InDoubt { tx, attempt },
            _ => Begin::Run { tx, attempt },
        })
    }

    /// Makes the row if there is none, says how it stood, and takes down that a grant begins: in a
    /// savepoint behind which only the handler's writes are, or as `started`.
    async fn enter(
        &self,
        tx: &mut SqliteConnection,
        claim: &Claim,
        id: &str,
    ) -> Result<(State, i32), Problem> {
        query(INSERT)
            .bind(&*self.namespace)
            .bind(id)
            .bind(sql::text(claim.unit().as_str()))
            .bind(claim.amount().to_string())
            .bind(claim.promoter().to_string())
            .bind(sql::now())
            .execute(&mut *tx)
            .await?;
        let (before, attempts): (String, i32) =
            query_as(READ).bind(&*self.namespace).bind(id).fetch_one(&mut *tx).await?;
        let before = sql::state(&before)?;
        match before {
            State::Granted => return Ok((before, attempts)),
            // Unless it is ours to know that nobody is at it, somebody may be.
            State::Started => self.database.own()?,
            _ => {}
        }
        if claim.in_tx() {
            raw_sql("SAVEPOINT firstpromoter").execute(tx).await?;
        } else {
            let start = query(START).bind(&*self.namespace).bind(id).bind(sql::now());
            start.execute(tx).await?;
        }
        Ok((before, attempts))
    }

    async fn try_end(&self, tx: SqliteTx, end: End) -> Result<(), Problem> {
        // Held until the end is written.
        let SqliteTx { write, held } = tx;
        let (state, error) = sql::end(end);
        if let Some(write) = write {
            return self.write_end(write, true, held.id, state, &error).await;
        }
        // It is granted, or it is not: that must be written, however long others write.
        loop {
            let turn = Arc::clone(&self.database.queue).lock_owned().await;
            let ended = match self.write_at(turn).await {
                Ok(write) => self.write_end(write, false, held.id, state, &error).await,
                Err(problem) => Err(problem),
            };
            match ended {
                Err(problem) if problem.is_busy() => sleep(PAUSE).await,
                ended => return ended,
            }
        }
    }

    async fn write_end(
        &self,
        mut write: Write,
        in_tx: bool,
        id: FulfilmentId,
        state: State,
        error: &Option<String>,
    ) -> Result<(), Problem> {
        let ended = async {
            if in_tx {
                // Both fail if the handler ended the transaction by itself.
                let savepoint = match state {
                    State::Failed => "ROLLBACK TO firstpromoter",
                    _ => "RELEASE firstpromoter",
                };
                raw_sql(savepoint).execute(&mut *write.tx).await?;
            }
            let ended = query(END)
                .bind(&*self.namespace)
                .bind(id.to_string())
                .bind(state.as_str())
                .bind(error)
                .bind(i32::from(in_tx))
                .bind(sql::now())
                .execute(&mut *write.tx)
                .await?;
            if ended.rows_affected() == 1 { Ok(()) } else { Err(Problem::Lost) }
        };
        match ended.await {
            Ok(()) => Ok(write.commit().await?),
            Err(problem) => {
                write.abandon().await;
                Err(problem)
            }
        }
    }

    async fn try_forget(&self, id: FulfilmentId) -> Result<bool, Problem> {
        let Some(held) = self.hold(id) else { return Ok(false) };
        let mut write = self.write().await?;
        let id = held.id.to_string();
        let known: Option<(String, i32)> =
            query_as(READ).bind(&*self.namespace).bind(&id).fetch_optional(&mut *write.tx).await?;
        match known {
            None => return Ok(false),
            Some((state, _)) if state == State::Started.as_str() => self.database.own()?,
            Some(_) => {}
        }
        query(FORGET).bind(&*self.namespace).bind(&id).execute(&mut *write.tx).await?;
        write.commit().await?;
        Ok(true)
    }

    async fn try_in_doubt(&self) -> Result<Vec<Record>, Problem> {
        let rows: Vec<sql::Row> =
            query_as(IN_DOUBT).bind(&*self.namespace).fetch_all(&self.pool).await?;
        let records = rows.into_iter().map(sql::record).collect::<Result<Vec<_>, _>>()?;
        if !records.is_empty() {
            self.database.own()?;
        }
        // Some of them may be running, or may have ended since they were read.
        let mut in_doubt = Vec::new();
        for record in records {
            let Some(held) = self.hold(record.id) else { continue };
            let id = held.id.to_string();
            let now: Option<(String, i32)> =
                query_as(READ).bind(&*self.namespace).bind(&id).fetch_optional(&self.pool).await?;
            if now.is_some_and(|(state, _)| state == State::Started.as_str()) {
                in_doubt.push(record);
            }
        }
        Ok(in_doubt)
    }

    async fn try_settle(&self, id: FulfilmentId, granted: bool) -> Result<bool, Problem> {
        let Some(held) = self.hold(id) else { return Ok(false) };
        let mut write = self.write().await?;
        let settled = query(SETTLE)
            .bind(&*self.namespace)
            .bind(held.id.to_string())
            .bind(if granted { State::Granted } else { State::New }.as_str())
            .bind(sql::now())
            .execute(&mut *write.tx)
            .await?;
        if settled.rows_affected() == 0 {
            return Ok(false);
        }
        self.database.own()?;
        write.commit().await?;
        Ok(true)
    }

    fn hold(&self, id: FulfilmentId) -> Option<Held> {
        let key = (Arc::clone(&self.namespace), id);
        self.database.held().insert(key).then(|| Held {
            database: Arc::clone(&self.database),
            namespace: Arc::clone(&self.namespace),
            id,
        })
    }
}

impl Store for SqliteStore {
    type Tx = SqliteTx;
    type Error = SqliteError;

    const UNDOES: bool = true;

    async fn begin(&self, claim: &Claim) -> Result<Begin<SqliteTx>, SqliteError> {
        match self.try_begin(claim).await {
            // Another process has the write lock, perhaps for this very reward.
            Err(problem) if problem.is_busy() => Ok(Begin::Busy),
            begun => Ok(begun?),
        }
    }

    async fn end(&self, tx: SqliteTx, end: End) -> Result<(), SqliteError> {
        Ok(self.try_end(tx, end).await?)
    }

    async fn forget(&self, id: FulfilmentId) -> Result<bool, SqliteError> {
        Ok(self.try_forget(id).await?)
    }

    async fn in_doubt(&self) -> Result<Vec<Record>, SqliteError> {
        Ok(self.try_in_doubt().await?)
    }

    async fn settle(&self, id: FulfilmentId, granted: bool) -> Result<bool, SqliteError> {
        Ok(self.try_settle(id, granted).await?)
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

/// One database, for all stores of this process that are on it.
struct Database {
    /// The rewards that are being granted by this process.
    held: Mutex<HashSet<(Arc<str>, FulfilmentId)>>,
    /// Who waits for the write lock waits here: first come, first served, without a connection.
    queue: Arc<Queue<()>>,
    /// Beside the database; `None` if that is in memory.
    lock_file: Option<PathBuf>,
    locked: Mutex<Option<File>>,
}

impl Database {
    fn of(pool: &SqlitePool) -> Arc<Self> {
        static ALL: Mutex<Option<HashMap<PathBuf, Weak<Database>>>> = Mutex::new(None);

        let options = pool.connect_options();
        let path = options.get_filename();
        let in_memory = path == Path::new(":memory:")
            || path.to_str().is_some_and(|path| path.starts_with("file:sqlx-in-memory-"));
        let path = if in_memory { path.to_owned() } else { absolute(path) };
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        let all = all.get_or_insert_default();
        if let Some(known) = all.get(&path).and_then(Weak::upgrade) {
            return known;
        }
        all.retain(|_, database| database.strong_count() > 0);
        let lock_file = (!in_memory).then(|| {
            let mut lock_file = path.clone().into_os_string();
            lock_file.push("-firstpromoter");
            lock_file.into()
        });
        let database = Arc::new(Self {
            held: Mutex::default(),
            queue: Arc::default(),
            lock_file,
            locked: Mutex::default(),
        });
        all.insert(path, Arc::downgrade(&database));
        database
    }

    fn held(&self) -> MutexGuard<'_, HashSet<(Arc<str>, FulfilmentId)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes sure that no other process is in the middle of a grant made elsewhere.
    #[allow(
        clippy::incompatible_msrv,
        reason = "the `sqlite` feature asks for more anyway: sqlx does"
    )]
    fn own(&self) -> Result<(), Problem> {
        let Some(path) = &self.lock_file else { return Ok(()) };
        let mut locked = self.locked.lock().unwrap_or_else(PoisonError::into_inner);
        if locked.is_none() {
            let options = File::options().create(true).truncate(false).write(true).open(path);
            let file = options.map_err(Problem::LockFile)?;
            file.try_lock().map_err(|error| match error {
                TryLockError::WouldBlock => Problem::Elsewhere,
                TryLockError::Error(error) => Problem::LockFile(error),
            })?;
            *locked = Some(file);
        }
        Ok(())
    }
}

/// The file need not be there yet, but where it will be is.
fn absolute(path: &Path) -> PathBuf {
    let here = path.canonicalize().ok();
    here.or_else(|| {
        let parent = path.parent().filter(|parent| *parent != Path::new(""));
        let parent = parent.unwrap_or(Path::new(".")).canonicalize().ok()?;
        Some(parent.join(path.file_name()?))
    })
    .unwrap_or_else(|| path.to_owned())
}

/// A reward that this process is at. Dropping it is the one place where it is let go.
struct Held {
    database: Arc<Database>,
    namespace: Arc<str>,
    id: FulfilmentId,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.database.held().remove(&(Arc::clone(&self.namespace), self.id));
    }
}

/// The database's write lock. Fields drop in this order: first the rollback is sent off.
struct Write {
    tx: Transaction<'static, Sqlite>,
    _turn: Turn<()>,
}

impl Write {
    async fn commit(mut self) -> sqlx::Result<()> {
        let committed = raw_sql("COMMIT").execute(&mut *self.tx).await;
        self.abandon().await;
        committed.map(|_| ())
    }

    /// SQLite ends a transaction by itself when the disk is full, and a handler may have ended it.
    /// sqlx does not notice: its rollback would fail, and the connection never begin another. So it
    /// is given one to roll back; if there still is one, that `BEGIN` does nothing. The other way
    /// round, sqlx may have ended it itself (a nested one that could not begin), and rolls back none.
    async fn abandon(mut self) {
        if self.tx.is_in_transaction() {
            let _ = raw_sql("BEGIN").execute(&mut *self.tx).await;
            let _ = self.tx.rollback().await;
        } else {
            let _ = raw_sql("ROLLBACK").execute(&mut *self.tx).await;
        }
    }
}

/// The open transaction in which a reward is granted, of a [`SqliteStore`].
///
/// It dereferences to [`SqliteConnection`]: write the grant through `&mut **tx`, as the example of
/// [`SqliteStore`] does. It is committed when the handler returns `Ok`, so leave `COMMIT` and
/// `ROLLBACK` alone, `INSERT OR ROLLBACK` as well; savepoints, such as those of sqlx's nested
/// transactions, are welcome. If a nested transaction cannot begin, or its beginning is dropped
/// half-way, sqlx rolls back everything: return the error, since what was written then would commit
/// by itself.
///
/// # Panics
///
/// Dereferencing panics after that, as soon as sqlx's own thread has rolled back. And a grant made
/// elsewhere ([`Claim::in_tx`] is false) has no transaction, so it panics, too; a handler that
/// implements [`FulfilIn`](crate::FulfilIn) never meets such a one.
pub struct SqliteTx {
    write: Option<Write>,
    held: Held,
}

const NO_TRANSACTION: &str = "a grant made elsewhere than in the database has no transaction";

impl Deref for SqliteTx {
    type Target = SqliteConnection;

    #[track_caller]
    fn deref(&self) -> &SqliteConnection {
        &self.write.as_ref().expect(NO_TRANSACTION).tx
    }
}

impl DerefMut for SqliteTx {
    #[track_caller]
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        let tx = &mut self.write.as_mut().expect(NO_TRANSACTION).tx;
        assert!(tx.is_in_transaction(), "{}", sql::ENDED);
        tx
    }
}

impl fmt::Debug for SqliteTx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SqliteTx").field(&self.held.id).finish()
    }
}

/// The record could not be kept in, or read from, a [`SqliteStore`].
///
/// ```
/// use tower_firstpromoter::once::SqliteError;
///
/// let error = SqliteError::from(sqlx::Error::PoolClosed);
/// assert_eq!(error.to_string(), sqlx::Error::PoolClosed.to_string());
/// ```
#[derive(Debug)]
pub struct SqliteError(Problem);

impl fmt::Display for SqliteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for SqliteError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

impl From<sqlx::Error> for SqliteError {
    fn from(error: sqlx::Error) -> Self {
        Self(error.into())
    }
}

impl From<Problem> for SqliteError {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}
