use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::Arc,
    time::Duration,
};

use sqlx::{
    AssertSqlSafe, Connection, PgConnection, PgPool, Postgres, Transaction, query, query_as,
    raw_sql,
};

use super::{
    Begin, Claim, End, Record, State, Store,
    sql::{self, Problem},
};
use crate::event::FulfilmentId;

/// Remembers in PostgreSQL, on any number of machines. **Grant and record commit together.**
///
/// The transaction that holds a reward's row is lent to the handler, so with [`FulfilIn`] nothing
/// can come between the grant and the record that it was made: no lease, no clock, no doubt.
///
/// ```no_run
/// use sqlx::PgPool;
/// use tower_firstpromoter::{
///     Access, FulfilIn, Outcome, Webhook,
///     event::{Fulfilment, Unit},
///     once::{PostgresStore, PostgresTx},
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
///             .execute(&mut **tx) // in the store's transaction, not in one of the pool's
///             .await?;
///         Ok(if credited.rows_affected() == 1 { Outcome::Fulfilled } else { Outcome::Pending })
///     }
/// }
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let store = PostgresStore::new(PgPool::connect("postgres://localhost/app").await?);
/// store.create_table().await?; // or put `PostgresStore::SCHEMA` among your migrations
/// let webhook = Webhook::new(Credits, Access::query("key", "at least sixteen bytes")).once(store);
/// # Ok(()) }
/// ```
///
/// sqlx's runtime and TLS are the application's choice; this crate turns on neither.
///
/// # What holds
///
/// | event | with [`FulfilIn`], grant through the transaction | with a plain [`Fulfil`], grant elsewhere |
/// |---|---|---|
/// | duplicate after success | one read by primary key, `200` | the same |
/// | duplicate at once, same process | joins the running grant | the same |
/// | duplicate at once, other process or machine | the row is locked: `409` without waiting, and no connection is kept | the same |
/// | crash before the grant | rolled back, runs again | in doubt: [`was_granted`] is asked |
/// | crash between grant and record | cannot be: both are rolled back, runs again | in doubt: [`was_granted`] is asked |
/// | handler says `Err` | its writes are undone, the reason is kept, runs again | reason kept, runs again |
/// | handler panics | its writes are undone, runs again | in doubt: [`was_granted`] is asked |
/// | handler says pending | **its writes commit**, runs when asked again | noted, runs when asked again |
/// | handler is slow | goes on, idle up to [`max_idle`]; others hear `409` | the same |
/// | sender hangs up | nothing happens to the grant | the same |
/// | database down before | the handler is not called, `503` | the same |
/// | database down after | `503`; the row knows later whether it committed | recorded on another connection; else in doubt |
/// | machine frozen, wakes up | the server ended its session: its commit fails, undone | another machine finds it in doubt |
/// | clocks differ | no clock decides | the same |
/// | power loss | `synchronous_commit` is forced on | the same |
/// | failover to an asynchronous standby | record and grant vanish together | the record may vanish: use a synchronous one |
///
/// Calls to others, such as Stripe, are outside the transaction even in [`FulfilIn`]: give them
/// [`idempotency_key`](crate::event::Fulfilment::idempotency_key), or write an outbox row through
/// the transaction and send it later.
///
/// # Connections
///
/// Each running grant holds one connection of the pool until its handler returns; duplicates hold
/// none. A plain [`Fulfil`] whose handler uses the same pool needs another one meanwhile, so give
/// it a pool of its own, or grants that hold all connections wait for each other.
///
/// Nothing of ours outlives a transaction, as PgBouncer's transaction mode asks for. Prepared
/// statements need its `max_prepared_statements`, as everything in sqlx does.
///
/// # How a grant is begun
///
/// 1. Read the state. Most duplicates end here.
/// 2. Insert the row, if there is none, and commit, so that there is something to lock. Without
///    that, a second machine's insert would wait for the first one's whole grant.
/// 3. Lock it by `FOR NO KEY UPDATE SKIP LOCKED`. No row: somebody is at work on it, `Busy`.
/// 4. Set a savepoint, and lend the transaction. `Err` goes back to the savepoint, so that the
///    reason is written down without letting go of the row.
///
/// All that locks is `READ COMMITTED`, whatever the default is, and in each such transaction
/// `idle_in_transaction_session_timeout` makes the server let go of a row whose machine vanished.
///
/// A grant made *elsewhere* must leave a trace before its handler runs, and only a commit is one.
/// So between 3 and 4 the row becomes `started`, is committed and locked again, and whoever finds
/// it `started` and *not* locked knows of a cut-off attempt. For the round trip between commit and
/// lock another machine may see the same of a healthy attempt. Two things keep that harmless:
///
/// * It looks again for up to a second, by the database's own clock, before it calls it a doubt.
/// * Whoever takes up a doubt first commits a version of the row of its own, and an attempt goes on
///   only if it locks the very version that it committed (`xmin`). So if both were to go on, one
///   finds that it is too late and says `Busy`. The worst is a doubt about a grant that never ran.
///
/// [`Fulfil`]: crate::Fulfil
/// [`FulfilIn`]: crate::FulfilIn
/// [`was_granted`]: crate::Fulfil::was_granted
/// [`max_idle`]: PostgresStore::max_idle
#[derive(Clone)]
pub struct PostgresStore {
    pool: PgPool,
    namespace: Arc<str>,
    /// What begins each transaction that takes a row: one message, so that none is without limits.
    begin: Arc<str>,
}

const MAX_IDLE: Duration = Duration::from_secs(60);

/// How the transaction in which the handler runs is begun. Local, so that the session is left as
/// it was, even where a bouncer hands it to others.
fn begin(max_idle: Duration) -> Arc<str> {
    // Zero would mean never, and 24 days are all that fits.
    let idle = max_idle.as_millis().clamp(1, i32::MAX as u128);
    format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED; \
         SET LOCAL idle_in_transaction_session_timeout = {idle}; \
         SET LOCAL synchronous_commit = on"
    )
    .into()
}

const READ: &str = "SELECT state FROM firstpromoter_fulfilments \
    WHERE namespace = $1 AND id = $2::text::numeric";

const INSERT: &str = "INSERT INTO firstpromoter_fulfilments \
    (namespace, id, unit, amount, promoter_id) \
    VALUES ($1, $2::text::numeric, $3, $4::text::numeric, $5::text::numeric) \
    ON CONFLICT DO NOTHING";

const LOCK: &str = "SELECT state, attempts, changed > clock_timestamp() - interval '1 second' \
    FROM firstpromoter_fulfilments \
    WHERE namespace = $1 AND id = $2::text::numeric FOR NO KEY UPDATE SKIP LOCKED";

const START: &str = "UPDATE firstpromoter_fulfilments \
    SET state = 'started', attempts = attempts + 1, changed = clock_timestamp() \
    WHERE namespace = $1 AND id = $2::text::numeric RETURNING xmin::text";

/// Waits: only somebody who looked at the row in passing can have it.
const LOCK_AGAIN: &str = "SELECT xmin::text FROM firstpromoter_fulfilments \
    WHERE namespace = $1 AND id = $2::text::numeric FOR NO KEY UPDATE";

const SAVEPOINT: &str = "SAVEPOINT firstpromoter";

const END: &str = "UPDATE firstpromoter_fulfilments \
    SET state = $3, last_error = coalesce($4, last_error), attempts = attempts + $5, \
        changed = clock_timestamp() \
    WHERE namespace = $1 AND id = $2::text::numeric AND state <> 'granted' \
        AND set_config('synchronous_commit', 'on', true) = 'on'";

const AMEND: &str = "UPDATE firstpromoter_fulfilments \
    SET state = $3, last_error = coalesce($4, last_error), changed = clock_timestamp() \
    WHERE namespace = $1 AND id = $2::text::numeric AND state = 'started' AND xmin::text = $5 \
        AND set_config('synchronous_commit', 'on', true) = 'on'";

const FORGET: &str = "WITH free AS (SELECT namespace, id FROM firstpromoter_fulfilments \
        WHERE namespace = $1 AND id = $2::text::numeric FOR UPDATE SKIP LOCKED) \
    DELETE FROM firstpromoter_fulfilments AS f USING free \
    WHERE f.namespace = free.namespace AND f.id = free.id";

const IN_DOUBT: &str = "SELECT id::text, unit, amount::text, promoter_id::text, attempts, \
        last_error, (extract(epoch FROM first_seen) * 1000000)::bigint, \
        (extract(epoch FROM changed) * 1000000)::bigint \
    FROM firstpromoter_fulfilments WHERE namespace = $1 AND state = 'started' \
    ORDER BY changed FOR NO KEY UPDATE SKIP LOCKED";

const SETTLE: &str = "WITH free AS (SELECT namespace, id FROM firstpromoter_fulfilments \
        WHERE namespace = $1 AND id = $2::text::numeric AND state = 'started' \
        AND set_config('synchronous_commit', 'on', true) = 'on' FOR NO KEY UPDATE SKIP LOCKED) \
    UPDATE firstpromoter_fulfilments AS f SET state = $3, changed = clock_timestamp() FROM free \
    WHERE f.namespace = free.namespace AND f.id = free.id";

/// Of the advisory lock under which the table is created: "firstpro" in ASCII.
const CREATING: i64 = i64::from_be_bytes(*b"firstpro");

/// How long to wait before looking again at a row that may be about to be locked. Doubled each
/// time, so that the second in which it is not yet a doubt is over well before the last look.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LOOKS: u32 = 9;

/// How often it is tried to say on another connection how an attempt ended.
const AMENDS: u32 = 6;

impl PostgresStore {
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
    /// | `first_seen`, `changed` | when |
    ///
    /// No body, no address and no secret. What is open, for an operator:
    ///
    /// ```sql
    /// SELECT id, amount, unit, state, attempts, last_error, changed
    /// FROM firstpromoter_fulfilments WHERE namespace = '' AND state <> 'granted' ORDER BY changed;
    /// ```
    ///
    /// The name is unqualified: it is found by the `search_path`, which an application that wants
    /// it elsewhere sets for its role or its connections. Never delete the row of a granted reward.
    /// The row may be the target of a foreign key.
    pub const SCHEMA: &str = include_str!("schema/postgres.sql");

    /// A store in the database of this pool. See [`PostgresStore`] for an example.
    pub fn new(pool: PgPool) -> Self {
        Self { pool, namespace: "".into(), begin: begin(MAX_IDLE) }
    }

    /// Keeps the rewards of several FirstPromoter accounts apart, whose ids may be the same. Empty
    /// unless told otherwise.
    ///
    /// ```no_run
    /// # use tower_firstpromoter::once::PostgresStore;
    /// # async fn example(pool: sqlx::PgPool) -> Result<(), Box<dyn std::error::Error>> {
    /// let store = PostgresStore::new(pool);
    /// let (ours, partners) = (store.clone().namespace("ours"), store.namespace("partners"));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn namespace(mut self, account: impl Into<String>) -> Self {
        self.namespace = sql::text(account).into();
        self
    }

    /// How long a grant may leave its transaction idle before the server ends it: 60 seconds unless
    /// told otherwise. Whole milliseconds, at least one.
    ///
    /// It is what frees the row of a machine that froze or vanished. Time inside a statement does
    /// not count; time that the handler spends on anything else does. A handler that takes longer
    /// loses its transaction: with [`FulfilIn`](crate::FulfilIn) its writes are undone and the
    /// delivery ends in `503`. With a plain [`Fulfil`](crate::Fulfil) it goes on, and a delivery
    /// that comes meanwhile finds the reward in doubt, so be sure that its own time-outs are
    /// shorter than this.
    ///
    /// ```no_run
    /// # use tower_firstpromoter::once::PostgresStore;
    /// # async fn example(pool: sqlx::PgPool) -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::time::Duration;
    /// let store = PostgresStore::new(pool).max_idle(Duration::from_secs(20));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn max_idle(mut self, idle: Duration) -> Self {
        self.begin = begin(idle);
        self
    }

    /// Creates the table, unless there is one. Several machines may do so at once. See
    /// [`PostgresStore`] for an example.
    ///
    /// # Errors
    ///
    /// If the database is out of reach, or the role may not create tables.
    ///
    /// # Cancel safety
    ///
    /// Do not drop the future half-way: sqlx would return a connection to the pool that is still
    /// inside a transaction ([sqlx#4393](https://github.com/transact-rs/sqlx/issues/4393)).
    pub async fn create_table(&self) -> Result<(), PostgresError> {
        let mut tx = self.pool.begin_with("BEGIN ISOLATION LEVEL READ COMMITTED").await?;
        query("SELECT pg_advisory_xact_lock($1)").bind(CREATING).execute(&mut *tx).await?;
        // A role that may use the table need not be one that may create it.
        let (there,): (bool,) =
            query_as("SELECT to_regclass('firstpromoter_fulfilments') IS NOT NULL")
                .fetch_one(&mut *tx)
                .await?;
        if !there {
            raw_sql(Self::SCHEMA).execute(&mut *tx).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Looks once. `None` if the row tells of an attempt that is about to lock it, or never will.
    async fn look(&self, claim: &Claim) -> Result<Option<Begin<PostgresTx>>, PostgresError> {
        let id = claim.id().to_string();
        let known: Option<(String,)> =
            query_as(READ).bind(&*self.namespace).bind(&id).fetch_optional(&self.pool).await?;
        let mut tx = match known.as_ref().map(|(state,)| sql::state(state)).transpose()? {
            Some(State::Granted) => return Ok(Some(Begin::Granted)),
            Some(_) => self.pool.begin_with(AssertSqlSafe(Arc::clone(&self.begin))).await?,
            None => match self.insert(claim, &id).await? {
                Some(tx) => tx,
                None => return Ok(Some(Begin::Busy)),
            },
        };
        let locked: Option<(String, i32, bool)> =
            query_as(LOCK).bind(&*self.namespace).bind(&id).fetch_optional(&mut *tx).await?;
        let Some((before, attempts, fresh)) = locked else {
            return let_go(tx, Some(Begin::Busy)).await;
        };
        let before = sql::state(&before)?;
        match before {
            State::Granted => return let_go(tx, Some(Begin::Granted)).await,
            State::Started if fresh => return let_go(tx, None).await,
            _ => {}
        }
        let started = if claim.in_tx() {
            raw_sql(SAVEPOINT).execute(&mut *tx).await?;
            None
        } else {
            let (version,): (String,) =
                query_as(START).bind(&*self.namespace).bind(&id).fetch_one(&mut *tx).await?;
            match self.lock_again(&mut tx, &id).await {
                Ok(Some(now)) if now == version => {}
                Ok(_) => return let_go(tx, Some(Begin::Busy)).await,
                Err(problem) => {
                    // Nothing was granted, so let it not look like a doubt, if that can be helped.
                    drop(tx);
                    self.amend(&id, &version, before, &None).await;
                    return Err(problem);
                }
            }
            Some(version)
        };
        let attempt = sql::count(attempts).saturating_add(1);
        let tx = PostgresTx { tx, id, started };
        Ok(Some(match before {
            State::Started => Begin::InDoubt { tx, attempt },
            _ => Begin::Run { tx, attempt },
        }))
    }

    /// Makes the row, and returns the transaction that may lock it. `None` if another machine has
    /// been inserting it for a second.
    async fn insert(
        &self,
        claim: &Claim,
        id: &str,
    ) -> Result<Option<Transaction<'static, Postgres>>, PostgresError> {
        // It waits for another machine's insert, which commits at once unless that machine froze.
        let begin = AssertSqlSafe(format!("{}; SET LOCAL lock_timeout = 1000", self.begin));
        let mut tx = self.pool.begin_with(begin).await?;
        let inserted = query(INSERT)
            .bind(&*self.namespace)
            .bind(id)
            .bind(sql::text(claim.unit().as_str()))
            .bind(claim.amount().to_string())
            .bind(claim.promoter().to_string())
            .execute(&mut *tx)
            .await;
        match inserted {
            Ok(_) => {
                self.next_transaction(&mut tx).await?;
                Ok(Some(tx))
            }
            Err(error) if is_lock_timeout(&error) => let_go(tx, None).await,
            Err(error) => Err(error.into()),
        }
    }

    /// Commits, locks the row again, sets the savepoint, and says which version of the row it is.
    async fn lock_again(
        &self,
        tx: &mut Transaction<'static, Postgres>,
        id: &str,
    ) -> Result<Option<String>, PostgresError> {
        self.next_transaction(tx).await?;
        let lock = query_as(LOCK_AGAIN).bind(&*self.namespace).bind(id);
        let locked: Option<(String,)> = lock.fetch_optional(&mut **tx).await?;
        raw_sql(SAVEPOINT).execute(&mut **tx).await?;
        Ok(locked.map(|(version,)| version))
    }

    /// Says on another connection how a started attempt ended. `false` if that is not known, or the
    /// row is no longer as the attempt left it, so that another has begun.
    async fn amend(&self, id: &str, version: &str, state: State, error: &Option<String>) -> bool {
        let mut pause = FIRST_PAUSE;
        for _ in 0..AMENDS {
            let amended = query(AMEND)
                .bind(&*self.namespace)
                .bind(id)
                .bind(state.as_str())
                .bind(error)
                .bind(version)
                .execute(&self.pool)
                .await;
            match amended {
                Ok(amended) => return amended.rows_affected() == 1,
                // The pool itself has tried for long enough.
                Err(sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed) => return false,
                // What cut the first connection may be cutting the others just now.
                Err(_) => tokio::time::sleep(pause).await,
            }
            pause *= 2;
        }
        false
    }

    /// Writes down how the grant ended, in the transaction in which it was made.
    async fn commit(
        &self,
        mut tx: Transaction<'static, Postgres>,
        id: &str,
        counted: bool,
        state: State,
        error: &Option<String>,
    ) -> Result<(), Problem> {
        // Both fail if the handler ended the transaction, and so lost the row, by itself.
        let savepoint = match state {
            State::Failed => "ROLLBACK TO SAVEPOINT firstpromoter",
            _ => "RELEASE SAVEPOINT firstpromoter",
        };
        raw_sql(savepoint).execute(&mut *tx).await?;
        let ended = query(END)
            .bind(&*self.namespace)
            .bind(id)
            .bind(state.as_str())
            .bind(error)
            .bind(i32::from(!counted))
            .execute(&mut *tx)
            .await?;
        if ended.rows_affected() != 1 {
            return Err(Problem::Lost);
        }
        Ok(tx.commit().await?)
    }

    /// Commits and begins again in one message, so that the connection stays ours and the gap
    /// between the two is as short as can be.
    async fn next_transaction(
        &self,
        tx: &mut Transaction<'static, Postgres>,
    ) -> Result<(), PostgresError> {
        let sql = AssertSqlSafe(format!("COMMIT; {}", self.begin));
        raw_sql(sql).execute(&mut **tx).await?;
        Ok(())
    }
}

/// Ends a transaction that only looked. If that fails the connection is gone, and the locks with it.
async fn let_go<T>(tx: Transaction<'static, Postgres>, answer: T) -> Result<T, PostgresError> {
    let _ = tx.rollback().await;
    Ok(answer)
}

fn is_lock_timeout(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == "55P03")
}

impl Store for PostgresStore {
    type Tx = PostgresTx;
    type Error = PostgresError;

    const UNDOES: bool = true;

    async fn begin(&self, claim: &Claim) -> Result<Begin<PostgresTx>, PostgresError> {
        let mut pause = FIRST_PAUSE;
        for _ in 0..LOOKS {
            if let Some(begin) = self.look(claim).await? {
                return Ok(begin);
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        Ok(Begin::Busy)
    }

    async fn end(&self, tx: PostgresTx, end: End) -> Result<(), PostgresError> {
        let PostgresTx { tx, id, started } = tx;
        let (state, error) = sql::end(end);
        let problem = match self.commit(tx, &id, started.is_some(), state, &error).await {
            Ok(()) => return Ok(()),
            Err(problem) => problem,
        };
        // A grant made elsewhere is not undone with the connection, so it is worth another try.
        if let Some(version) = started {
            if self.amend(&id, &version, state, &error).await {
                return Ok(());
            }
        }
        Err(problem.into())
    }

    async fn forget(&self, id: FulfilmentId) -> Result<bool, PostgresError> {
        let forgotten =
            query(FORGET).bind(&*self.namespace).bind(id.to_string()).execute(&self.pool).await?;
        Ok(forgotten.rows_affected() == 1)
    }

    async fn in_doubt(&self) -> Result<Vec<Record>, PostgresError> {
        let rows: Vec<sql::Row> =
            query_as(IN_DOUBT).bind(&*self.namespace).fetch_all(&self.pool).await?;
        Ok(rows.into_iter().map(sql::record).collect::<Result<_, _>>()?)
    }

    async fn settle(&self, id: FulfilmentId, granted: bool) -> Result<bool, PostgresError> {
        let state = if granted { State::Granted } else { State::New };
        let settled = query(SETTLE)
            .bind(&*self.namespace)
            .bind(id.to_string())
            .bind(state.as_str())
            .execute(&self.pool)
            .await?;
        Ok(settled.rows_affected() == 1)
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

/// The open transaction that holds a reward's row, of a [`PostgresStore`].
///
/// It dereferences to [`PgConnection`]: write the grant through `&mut **tx`, as the example of
/// [`PostgresStore`] does. It is committed when the handler returns `Ok`, so leave `COMMIT` and
/// `ROLLBACK` alone; savepoints, such as those of sqlx's nested transactions, are welcome. What is
/// set for the transaction (`SET LOCAL search_path`, `ROLE`) still holds when the record is written,
/// so set it back.
///
/// # Panics
///
/// If a nested transaction could not begin, or its beginning was dropped half-way, say by a time-out,
/// dereferencing panics from then on: sqlx has rolled back everything, and what was written now would
/// commit by itself. Return the error instead.
pub struct PostgresTx {
    tx: Transaction<'static, Postgres>,
    id: String,
    /// The version of the row that says so, if the intention is committed already.
    started: Option<String>,
}

impl Deref for PostgresTx {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.tx
    }
}

impl DerefMut for PostgresTx {
    #[track_caller]
    fn deref_mut(&mut self) -> &mut PgConnection {
        assert!(self.tx.is_in_transaction(), "{}", sql::ENDED);
        &mut self.tx
    }
}

impl fmt::Debug for PostgresTx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PostgresTx").field(&self.id).finish()
    }
}

/// The record could not be kept in, or read from, a [`PostgresStore`].
///
/// ```
/// use tower_firstpromoter::once::PostgresError;
///
/// let error = PostgresError::from(sqlx::Error::PoolClosed);
/// assert_eq!(error.to_string(), sqlx::Error::PoolClosed.to_string());
/// ```
#[derive(Debug)]
pub struct PostgresError(Problem);

impl fmt::Display for PostgresError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for PostgresError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

impl From<sqlx::Error> for PostgresError {
    fn from(error: sqlx::Error) -> Self {
        Self(error.into())
    }
}

impl From<Problem> for PostgresError {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}
