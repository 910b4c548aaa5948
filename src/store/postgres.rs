use std::{
    fmt,
    ops::{Deref, DerefMut},
    time::Duration,
};

use sqlx::{Connection as _, PgConnection, PgPool};
use tokio::time::timeout;

use super::{
    Begin, Claim, End, InvalidNamespace, Record, State, Store,
    postgres_table::{Connection, Table, bounded, milliseconds},
    record::{Attempt, Ended},
    sql::Problem,
};
use crate::event::FulfilmentId;

/// The time between the limit of an attempt and the one at which the server ends it, in
/// milliseconds.
const MARGIN: i32 = 30_000;

/// How long a write may take, and a commit. A write waits for a lock for 3 seconds at most.
const WRITE_WITHIN: Duration = Duration::from_millis(3_300);

/// Records attempts in PostgreSQL, for any number of machines. **Effect and record commit
/// together.**
///
/// The handler writes through the transaction in which the record is written, so one that is cut
/// off is undone and runs again. The guide `stores` lists what each failure leaves.
///
/// ```no_run
/// use sqlx::PgPool;
/// use tower_firstpromoter::{
///     Access, FulfilIn, Outcome, Webhook,
///     event::{Fulfilment, Unit},
///     store::{PostgresStore, PostgresTx},
/// };
///
/// struct Credits;
///
/// impl FulfilIn<PostgresTx> for Credits {
///     type Error = sqlx::Error;
///
///     async fn fulfil_in(&self, fulfilment: Fulfilment, tx: &mut PostgresTx) -> Result<Outcome, sqlx::Error> {
///         let (Unit::Credits, Some(Ok(credits)), Some(user)) =
///             (&fulfilment.unit, fulfilment.amount.whole().map(i64::try_from), &fulfilment.promoter.cust_id)
///         else {
///             return Ok(Outcome::Pending);
///         };
///         let credited = sqlx::query("UPDATE accounts SET credits = credits + $1::bigint WHERE id = $2")
///             .bind(credits)
///             .bind(user)
///             .execute(&mut **tx) // in the store's transaction
///             .await?;
///         Ok(if credited.rows_affected() == 1 { Outcome::Fulfilled } else { Outcome::Pending })
///     }
/// }
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let store = PostgresStore::new(PgPool::connect("postgres://localhost/app").await?); // sqlx 0.9
/// store.create_table().await?; // or add `PostgresStore::SCHEMA` to the migrations
/// let webhook = Webhook::new(Credits, store, Access::query("key", "at least sixteen bytes")?);
/// # Ok(()) }
/// ```
///
/// sqlx's runtime and TLS are the application's choice; this crate turns on neither.
///
/// # Connections
///
/// The store opens connections of its own, by the connect options that the pool has at the time, so
/// a handler may use the application's pool freely. Each running attempt holds one, at most
/// [`concurrency_limit`](PostgresStore::concurrency_limit), and everything else two more. The
/// server ends those of a vanished process 30 seconds after the attempt's limit.
///
/// The pool's hooks, such as an `after_connect` that sets a role, do not run for them; see
/// [`with_dedicated_pool`](PostgresStore::with_dedicated_pool). What a handler sets for the session
/// stays on its connection, so use `SET LOCAL`; set a role back before returning, since the record
/// is written with it.
///
/// # PgBouncer
///
/// In transaction mode, give PgBouncer `ignore_startup_parameters = extra_float_digits` and ten
/// server connections for the store of each process. sqlx prepares statements by name, which needs
/// version 1.21 and `max_prepared_statements`. With an older version set
/// `statement_cache_capacity(0)` in the pool's connect options, which the store then follows, and
/// either call `.persistent(false)` on each query of the handler or set PgBouncer's
/// `server_reset_query_always = 1`.
///
/// # The row
///
/// The record's row is written at the end of the attempt. A foreign key to it therefore has to be
/// `DEFERRABLE INITIALLY DEFERRED`.
#[derive(Clone, Debug)]
pub struct PostgresStore(Table);

impl PostgresStore {
    /// The SQL that creates the table `firstpromoter_fulfilments`, for migrations. It may run twice.
    ///
    /// ```
    /// use tower_firstpromoter::store::PostgresStore;
    ///
    /// assert!(PostgresStore::SCHEMA.contains("CREATE TABLE IF NOT EXISTS firstpromoter_fulfilments"));
    /// ```
    pub const SCHEMA: &str = include_str!("schema/postgres.sql");

    /// Creates a store in the database of `pool`, with connections of its own. See [`PostgresStore`]
    /// for an example.
    pub fn new(pool: PgPool) -> Self {
        Self(Table::new(pool, false))
    }

    /// Creates a store that takes its connections from a pool made for it alone, so that the pool's
    /// hooks run. The connections do not go back to that pool.
    ///
    /// ```no_run
    /// use sqlx::{Executor, postgres::PgPoolOptions};
    /// use tower_firstpromoter::store::PostgresStore;
    ///
    /// # fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = PgPoolOptions::new()
    ///     .after_connect(|connection, _| Box::pin(async move {
    ///         connection.execute("SET ROLE billing").await.map(drop)
    ///     }))
    ///     .connect_lazy("postgres://localhost/app")?;
    /// let store = PostgresStore::with_dedicated_pool(pool);
    /// # Ok(()) }
    /// ```
    pub fn with_dedicated_pool(pool: PgPool) -> Self {
        Self(Table::new(pool, true))
    }

    /// Separates the fulfilments of several FirstPromoter accounts, whose ids may be the same.
    /// Default: empty; the first account keeps that, because its records are not found in another
    /// namespace.
    ///
    /// # Errors
    ///
    /// If it is longer than 200 bytes or has a control character.
    ///
    /// ```no_run
    /// # use tower_firstpromoter::store::PostgresStore;
    /// # fn example(pool: sqlx::PgPool) -> Result<(), Box<dyn std::error::Error>> {
    /// let store = PostgresStore::new(pool);
    /// let (ours, partners) = (store.clone().namespace("ours")?, store.namespace("partners")?);
    /// # Ok(()) }
    /// ```
    pub fn namespace(self, account: impl AsRef<str>) -> Result<Self, InvalidNamespace> {
        self.0.with_namespace(account.as_ref()).map(Self)
    }

    /// Sets the schema of the table. Default: the first of the `search_path` that has the table when
    /// the store is first used.
    ///
    /// ```no_run
    /// # use tower_firstpromoter::store::PostgresStore;
    /// # fn example(pool: sqlx::PgPool) {
    /// let store = PostgresStore::new(pool).schema("billing");
    /// # }
    /// ```
    #[must_use]
    pub fn schema(self, name: impl AsRef<str>) -> Self {
        Self(self.0.with_schema(name.as_ref()))
    }

    /// Sets how many attempts may run at once, each with a connection. Default: 8. A further one
    /// waits at most 5 seconds for a connection.
    ///
    /// # Panics
    ///
    /// If `attempts` is 0.
    ///
    /// ```no_run
    /// # use tower_firstpromoter::store::PostgresStore;
    /// # fn example(pool: sqlx::PgPool) {
    /// let store = PostgresStore::new(pool).concurrency_limit(2);
    /// # }
    /// ```
    #[must_use]
    #[track_caller]
    pub fn concurrency_limit(self, attempts: usize) -> Self {
        Self(self.0.with_limit(attempts))
    }

    /// Creates the table, unless it exists. Several machines may do so at once. See
    /// [`PostgresStore`] for an example.
    ///
    /// # Errors
    ///
    /// If the database is out of reach or read-only, or the role may not create tables.
    pub async fn create_table(&self) -> Result<(), PostgresError> {
        Ok(bounded(self.0.create(Self::SCHEMA)).await?)
    }

    async fn try_end(&self, tx: PostgresTx, mut end: End) -> Result<State, Problem> {
        let PostgresTx { mut connection, claim, attempt, now, pid } = tx;
        let mut silent = false;
        if matches!(end, End::Fulfilled | End::WasFulfilled | End::Pending) {
            let ended = attempt.ended(end, true);
            let write = self.0.write(&mut connection, &claim, &ended, None, Some(now));
            let problem = match timeout(WRITE_WITHIN, write).await {
                Ok(Ok(true)) => match timeout(WRITE_WITHIN, connection.commit()).await {
                    Ok(committed) => return committed.map(|()| ended.state),
                    Err(_) => return Err(Problem::TimedOut),
                },
                Ok(Ok(false)) => Problem::Lost,
                Ok(Err(problem)) => problem,
                Err(_) => {
                    silent = true;
                    Problem::TimedOut
                }
            };
            end = End::Failed(problem.to_string());
        }

        // The rest is undone. While the reason is noted on another connection, the transaction keeps
        // the lock, so that nobody begins in between.
        let same = if silent { None } else { connection.is_same(now).await };
        let (silent, keep) = (same.is_none(), matches!(same, Some(Ok(true))));
        let ours = match same {
            Some(Ok(same)) => same,
            // Where the connection is lost, the transaction is, too.
            Some(Err(_)) => connection.raw.ping().await.is_err(),
            None => self.0.is_locked_by(pid, claim.id()).await.unwrap_or(false),
        };
        if !ours && !matches!(end, End::InDoubt(_)) {
            end = End::InDoubt("the handler ended the transaction by itself".to_owned());
        }
        let ended = attempt.ended(end, true);
        let noted = self.note(&claim, &ended).await;
        if silent {
            // The server may be at work on a statement of the handler's, for hours.
            let _ = self.0.end_session(pid, claim.id(), true).await;
        } else {
            connection.roll_back(keep).await;
        }
        match noted {
            // It runs again with or without a note.
            Err(_) if ended.state == State::Failed && !attempt.in_doubt => Ok(State::Failed),
            noted => noted,
        }
    }

    /// Records on another connection how an attempt ended that is undone.
    async fn note(&self, claim: &Claim, ended: &Ended) -> Result<State, Problem> {
        let mut connection = self.0.begin_note().await?;
        let written = self.0.write(&mut connection, claim, ended, None, None).await?;
        connection.commit().await?;
        if written { Ok(ended.state) } else { self.0.decided(claim).await }
    }
}

impl Store for PostgresStore {
    type Tx = PostgresTx;
    type Error = PostgresError;

    async fn begin(&self, claim: &Claim) -> Result<Begin<PostgresTx>, PostgresError> {
        let idle = milliseconds(claim.attempt_within()).saturating_add(MARGIN);
        let begin = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; \
             SET LOCAL idle_in_transaction_session_timeout = {idle}"
        );
        Ok(bounded(self.0.begin(claim, &begin)).await?)
    }

    async fn end(&self, tx: PostgresTx, end: End) -> Result<State, PostgresError> {
        let (pid, id) = (tx.pid, tx.claim.id());
        let ended = bounded(self.try_end(tx, end)).await;
        if ended.is_err() {
            // It may be silent, and have the lock still.
            let _ = bounded(self.0.end_session(pid, id, false)).await;
        }
        Ok(ended?)
    }

    async fn get(&self, id: FulfilmentId) -> Result<Option<Record>, PostgresError> {
        Ok(bounded(self.0.get(id)).await?)
    }

    async fn open(&self, limit: usize) -> Result<Vec<Record>, PostgresError> {
        Ok(bounded(self.0.open(limit)).await?)
    }

    async fn resolve(&self, id: FulfilmentId, fulfilled: bool) -> Result<bool, PostgresError> {
        Ok(bounded(self.0.resolve(id, fulfilled)).await?)
    }

    async fn forget(&self, id: FulfilmentId) -> Result<bool, PostgresError> {
        Ok(bounded(self.0.forget(id)).await?)
    }
}

/// The transaction of one attempt, of a [`PostgresStore`].
///
/// It dereferences to [`PgConnection`]: write through `&mut **tx`, as the example of
/// [`PostgresStore`] does. The store commits it or rolls it back; a handler that does so itself
/// leaves the fulfilment in doubt. Savepoints, such as sqlx's nested transactions, are allowed.
///
/// # Panics
///
/// Dereferencing panics after the beginning of a nested transaction failed or was dropped half-way,
/// say by a timeout: sqlx has rolled back everything, and what was written now would commit by
/// itself. Return the error instead.
pub struct PostgresTx {
    pub(super) connection: Connection,
    pub(super) claim: Claim,
    pub(super) attempt: Attempt,
    /// When the transaction began, and in which session.
    pub(super) now: i64,
    pub(super) pid: i32,
}

impl Deref for PostgresTx {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection.raw
    }
}

impl DerefMut for PostgresTx {
    #[track_caller]
    fn deref_mut(&mut self) -> &mut PgConnection {
        assert!(
            self.connection.raw.is_in_transaction(),
            "the transaction has ended: a nested one could not begin"
        );
        &mut self.connection.raw
    }
}

impl fmt::Debug for PostgresTx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PostgresTx").field(&self.claim.id()).finish()
    }
}

/// The error of [`PostgresStore`] and [`PostgresJournal`](super::PostgresJournal).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), sqlx::Error> {
/// use sqlx::PgPool;
/// use tower_firstpromoter::store::{PostgresError, PostgresStore, Store};
///
/// let store = PostgresStore::new(PgPool::connect_lazy("postgres://127.0.0.1:1/nowhere")?);
/// let error: PostgresError = store.get(1.into()).await.unwrap_err();
/// assert!(error.to_string().contains("refused"), "{error}");
/// # Ok(()) }
/// ```
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct PostgresError(#[from] Problem);
