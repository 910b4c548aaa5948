use std::{
    fmt,
    ops::{Deref, DerefMut},
    time::Duration,
};

use sqlx::{Connection as _, PgConnection};

use super::{
    Begin, Claim, End, State,
    postgres_pool::Connection,
    postgres_table::{Table, bounded, milliseconds},
    record::Attempt,
    sql::{Problem, within},
};

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
///     Access, FulfilIn, Outcome, Webhook, event::Fulfilment, store::{PostgresStore, PostgresTx},
/// };
///
/// struct Credits;
///
/// impl FulfilIn<PostgresTx> for Credits {
///     type Error = sqlx::Error;
///
///     async fn fulfil_in(&self, f: Fulfilment, tx: &mut PostgresTx) -> Result<Outcome, sqlx::Error> {
///         let Some(Ok(credits @ 1..)) = f.amount.whole().map(i64::try_from) else {
///             return Ok(Outcome::Pending);
///         };
///         let credit = sqlx::query("UPDATE accounts SET credits = credits + $1 WHERE id = $2");
///         let credit = credit.bind(credits).bind(&f.promoter.cust_id);
///         let credited = credit.execute(&mut **tx).await?; // in the store's transaction
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
/// sqlx's runtime and TLS are the application's choice; this crate turns on neither. The store opens
/// connections of its own; the guide `stores` describes them and the settings for PgBouncer. What a
/// handler sets for the session stays on its connection, so use `SET LOCAL`; set a role back before
/// returning, since the record is written with it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use sqlx::PgPool;
/// use tower_firstpromoter::store::{PostgresError, PostgresStore, Store};
///
/// let pool = PgPool::connect_lazy("postgres://127.0.0.1:1/nowhere")?;
/// let store = PostgresStore::new(pool).schema("billing").concurrency_limit(2).namespace("partners")?;
/// let error: PostgresError = store.get(1.into()).await.unwrap_err();
/// assert!(error.to_string().contains("refused"), "{error}");
///
/// let pool_with_hooks = PgPool::connect_lazy("postgres://127.0.0.1:1/nowhere")?;
/// let store = PostgresStore::with_dedicated_pool(pool_with_hooks);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct PostgresStore(pub(super) Table);

impl PostgresStore {
    /// Sets how many attempts may run at once, each with a connection. Default: 10. A further one
    /// waits at most 5 seconds for a connection. See [`PostgresStore`] for an example.
    ///
    /// # Panics
    ///
    /// If `attempts` is 0.
    #[must_use]
    #[track_caller]
    pub fn concurrency_limit(self, attempts: usize) -> Self {
        Self(self.0.with_limit(attempts))
    }

    pub(super) async fn attempt(&self, claim: &Claim) -> Result<Begin<PostgresTx>, Problem> {
        let idle = milliseconds(claim.attempt_within).saturating_add(MARGIN);
        let begin = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; \
             SET LOCAL idle_in_transaction_session_timeout = {idle}"
        );
        self.0.begin(claim, &begin).await
    }

    pub(super) async fn finish(&self, tx: PostgresTx, end: End) -> Result<State, PostgresError> {
        let (pid, id) = (tx.pid, tx.claim.id);
        let ended = bounded(self.try_end(tx, end)).await;
        if ended.is_err() {
            // It may be silent, and have the lock still.
            let _ = bounded(self.0.end_session(pid, id)).await;
        }
        ended
    }

    async fn try_end(&self, tx: PostgresTx, mut end: End) -> Result<State, Problem> {
        let PostgresTx { mut connection, claim, attempt, xid, pid } = tx;
        let mut silent = false;
        if matches!(end, End::Fulfilled | End::WasFulfilled | End::Pending) {
            let ended = attempt.ended(end, true);
            let write = self.0.write(&mut connection, &claim, &ended, None, Some(xid));
            let problem = match within(WRITE_WITHIN, write).await {
                Ok(true) => {
                    let committed = within(WRITE_WITHIN, connection.end("COMMIT")).await;
                    return committed.map(|()| ended.state);
                }
                Ok(false) => Problem::Lost,
                Err(problem) => problem,
            };
            silent = matches!(problem, Problem::TimedOut);
            end = End::Failed(problem.to_string());
        }

        // The rest is undone. While the reason is noted on another connection, the transaction keeps
        // the lock, so that nobody begins in between.
        let same = if silent { None } else { connection.is_in(xid).await };
        let ours = match same {
            Some(same) => same,
            None => self.0.is_undone(pid, xid).await.unwrap_or(false),
        };
        if !ours && !matches!(end, End::InDoubt(_)) {
            end = End::InDoubt("the handler ended the transaction by itself".to_owned());
        }
        let noted = self.0.note(&claim, &attempt.ended(end, true), None).await;
        let rollback = async {
            if same.is_some() { connection.send("ROLLBACK").await } else { Err(Problem::TimedOut) }
        };
        self.0.rolled_back(rollback, pid, claim.id).await;
        noted
    }
}

/// The transaction of one attempt, of a [`PostgresStore`].
///
/// It dereferences to [`PgConnection`]: write through `&mut **tx`, as the example of
/// [`PostgresStore`] does. The store commits it or rolls it back; a handler that does so itself
/// leaves the fulfilment in doubt, or runs again if its connection is lost as well. Savepoints, such
/// as sqlx's nested transactions, are allowed.
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
    /// The server's id of the transaction, and its session.
    pub(super) xid: i64,
    pub(super) pid: i32,
}

impl Deref for PostgresTx {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection.opened.raw
    }
}

impl DerefMut for PostgresTx {
    #[track_caller]
    fn deref_mut(&mut self) -> &mut PgConnection {
        assert!(
            self.connection.opened.raw.is_in_transaction(),
            "the transaction has ended: a nested one could not begin"
        );
        &mut self.connection.opened.raw
    }
}

impl fmt::Debug for PostgresTx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PostgresTx").field(&self.claim.id).finish()
    }
}

/// The error of [`PostgresStore`], which has an example, and of
/// [`PostgresJournal`](super::PostgresJournal).
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct PostgresError(#[from] Problem);
