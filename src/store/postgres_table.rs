//! Shares between the two PostgreSQL stores: connections of their own, and the table.

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use sqlx::{
    AssertSqlSafe, Connection as _, FromRow, PgConnection, PgPool, Row,
    postgres::{PgConnectOptions, PgRow},
    query, raw_sql,
};
use tokio::{
    sync::{OnceCell, OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{
    Begin, Claim, InvalidNamespace, Record, State,
    postgres::PostgresTx,
    record::{CUT_OFF, Ended, decide, namespace, resolved},
    sql::{self, Known, Problem, TABLE},
};
use crate::event::FulfilmentId;

/// How long a verb may take: not as long as an attempt waits for it.
const VERB_WITHIN: Duration = Duration::from_secs(7);

/// How long to wait for a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// How long to wait for an answer that is due at once.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// How long a connection stays idle. Opening one takes milliseconds.
const IDLE_WITHIN: Duration = Duration::from_secs(60);

/// Begins a transaction in which no handler runs. The limits are the transaction's own, so a pooler
/// may hand the session to others.
pub(super) const BRIEF: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; \
    SET LOCAL statement_timeout = 4000; SET LOCAL lock_timeout = 3000; \
    SET LOCAL idle_in_transaction_session_timeout = 10000; SET LOCAL synchronous_commit = on";

/// Limits the rest of a message, whatever limit the database has been set up with.
pub(super) const LIMIT: &str = "SET LOCAL statement_timeout = 4000";

/// The state that is shown: what is started is in doubt once its time is over. A start in the
/// future, after a clock was set back, counts as over.
const SHOWN: &str = "CASE WHEN f.state <> 'started' THEN f.state \
    WHEN f.started_at <= clock_timestamp() \
    AND clock_timestamp() < f.started_at + f.runs_within + interval '30 seconds' \
    THEN 'started' ELSE 'in_doubt' END";

/// Tells one transaction from another, whatever the time zone: when it began, in microseconds.
pub(super) const NOW: &str = "(extract(epoch FROM now()) * 1000000)::bigint";

/// Limits a verb. It may be dropped anywhere, since its connection is closed then.
pub(super) async fn bounded<T>(
    verb: impl Future<Output = Result<T, Problem>>,
) -> Result<T, Problem> {
    timeout(VERB_WITHIN, verb).await.unwrap_or(Err(Problem::TimedOut))
}

/// A few connections that nobody else can use. sqlx's own pool pings whatever it takes back.
struct Pool {
    given: PgPool,
    /// Whether `given` was made for the store, so that its hooks run.
    dedicated: bool,
    attempts: Arc<Semaphore>,
    /// For notes, while attempts hold all of theirs, and for the other verbs.
    spare: Arc<Semaphore>,
    idle: Mutex<Vec<(PgConnection, Arc<PgConnectOptions>, Instant)>>,
}

/// A connection of the store's own. Dropped, it is closed: what became of it is not known.
pub(super) struct Connection {
    pub(super) raw: PgConnection,
    options: Arc<PgConnectOptions>,
    pool: Arc<Pool>,
    permit: OwnedSemaphorePermit,
}

impl Pool {
    #[track_caller]
    fn new(given: PgPool, dedicated: bool, attempts: usize) -> Arc<Self> {
        assert!(attempts > 0, "without attempts every delivery is answered with 503");
        let [attempts, spare] = [attempts, 2].map(|size| Arc::new(Semaphore::new(size)));
        Arc::new(Self { given, dedicated, attempts, spare, idle: Mutex::default() })
    }

    /// Sends a message that may be sent twice, since nothing has happened yet. So a connection that
    /// broke while it was idle shows without a ping.
    async fn ask(
        self: &Arc<Self>,
        slots: &Arc<Semaphore>,
        sql: &str,
    ) -> Result<(Connection, Vec<PgRow>), Problem> {
        let slot = timeout(CONNECT_WITHIN, Arc::clone(slots).acquire_owned()).await;
        let Ok(Ok(mut permit)) = slot else { return Err(sqlx::Error::PoolTimedOut.into()) };
        if let Some((raw, options)) = self.reusable() {
            let mut reused = Connection { raw, options, pool: Arc::clone(self), permit };
            if let Ok(Ok(rows)) = timeout(ANSWER_WITHIN, reused.send(sql)).await {
                return Ok((reused, rows));
            }
            permit = reused.permit;
            // What broke this one may have broken the others.
            self.idle().clear();
        }
        let connecting = timeout(CONNECT_WITHIN, self.connect()).await;
        let (raw, options) = connecting.unwrap_or(Err(sqlx::Error::PoolTimedOut))?;
        let mut new = Connection { raw, options, pool: Arc::clone(self), permit };
        let rows = new.send(sql).await?;
        Ok((new, rows))
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(PgConnection, Arc<PgConnectOptions>, Instant)>> {
        // Nothing panics while this is locked.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection used last, unless it is too old or its options have changed since.
    fn reusable(&self) -> Option<(PgConnection, Arc<PgConnectOptions>)> {
        let now = self.given.connect_options();
        std::iter::from_fn(|| self.idle().pop())
            .find(|(_, then, since)| since.elapsed() < IDLE_WITHIN && Arc::ptr_eq(then, &now))
            .map(|(raw, options, _)| (raw, options))
    }

    async fn connect(&self) -> sqlx::Result<(PgConnection, Arc<PgConnectOptions>)> {
        let options = self.given.connect_options();
        let mut raw = if self.dedicated {
            self.given.acquire().await?.detach()
        } else {
            PgConnection::connect_with(&options).await?
        };
        // The store begins and ends transactions by messages of its own, which say more than sqlx's.
        // sqlx is left to believe that one is always open: what a handler begins is a savepoint.
        std::mem::forget(raw.begin().await?);
        raw_sql("ROLLBACK").execute(&mut raw).await?;
        Ok((raw, options))
    }
}

impl Connection {
    /// Sends one message and returns the rows of all its statements.
    pub(super) async fn send(&mut self, sql: &str) -> Result<Vec<PgRow>, Problem> {
        Ok(raw_sql(AssertSqlSafe(sql)).fetch_all(&mut self.raw).await?)
    }

    pub(super) async fn commit(mut self) -> Result<(), Problem> {
        self.send("COMMIT").await?;
        self.keep();
        Ok(())
    }

    /// Waits for the rollback, so that the fulfilment is free afterwards. Returns whether it is: if
    /// not, the transaction ends when the server learns that the connection is closed.
    pub(super) async fn roll_back(mut self, keep: bool) -> bool {
        let answer = timeout(ANSWER_WITHIN, self.send("ROLLBACK")).await;
        let rolled_back = matches!(answer, Ok(Ok(_)));
        if rolled_back && keep {
            self.keep();
        }
        rolled_back
    }

    /// Keeps the connection for the next one: its work has ended cleanly.
    fn keep(self) {
        // sqlx no longer believes it after it rolled back what a handler left half begun.
        if self.raw.is_in_transaction() {
            self.pool.idle().push((self.raw, self.options, Instant::now()));
        }
    }
}

/// The records of one account.
#[derive(Clone)]
pub(super) struct Table {
    pool: Arc<Pool>,
    namespace: Arc<str>,
    schema: Option<Arc<str>>,
    found: Arc<OnceCell<Found>>,
}

struct Found {
    /// Schema and name, quoted.
    name: String,
    utf8: bool,
}

impl Table {
    pub(super) fn new(given: PgPool, dedicated: bool) -> Self {
        let pool = Pool::new(given, dedicated, 8);
        Self { pool, namespace: "".into(), schema: None, found: Arc::default() }
    }

    pub(super) fn with_namespace(self, account: &str) -> Result<Self, InvalidNamespace> {
        Ok(Self { namespace: namespace(account)?, ..self })
    }

    pub(super) fn with_schema(self, schema: &str) -> Self {
        Self { schema: Some(schema.into()), found: Arc::default(), ..self }
    }

    #[track_caller]
    pub(super) fn with_limit(self, attempts: usize) -> Self {
        Self { pool: Pool::new(self.pool.given.clone(), self.pool.dedicated, attempts), ..self }
    }

    /// Resolves the table once, so that no later `search_path` leads to another.
    async fn found(&self) -> Result<&Found, Problem> {
        let find = async || {
            let schema = self.schema.as_deref().map(|schema| identifier(schema) + ".");
            let name = literal(&(schema.unwrap_or_default() + TABLE));
            let find = format!(
                "{LIMIT}; SELECT format('%I.%I', n.nspname, c.relname), \
                 current_setting('server_encoding') FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                 WHERE c.oid = to_regclass({name})"
            );
            let (connection, rows) = self.pool.ask(&self.pool.spare, &find).await?;
            connection.keep();
            let (name, encoding): (String, String) =
                FromRow::from_row(rows.first().ok_or(Problem::NoTable(None))?)?;
            Ok::<_, Problem>(Found { name, utf8: encoding == "UTF8" })
        };
        match self.found.get_or_try_init(find).await? {
            Found { utf8: false, .. } if !self.namespace.is_ascii() => Err(Problem::Namespace),
            found => Ok(found),
        }
    }

    fn row(&self, id: FulfilmentId) -> String {
        format!("f.namespace = {} AND f.id = {id}", literal(&self.namespace))
    }

    /// The key of the fulfilment's advisory lock.
    fn key(&self, id: FulfilmentId) -> String {
        let text = literal(&format!("{TABLE}:{}:{id}", self.namespace));
        format!("hashtextextended({text}, 0)")
    }

    /// Takes the fulfilment's lock for the transaction, if it is free. It is a statement of its own,
    /// so that the snapshot of the next one is not older than the lock.
    fn lock(&self, id: FulfilmentId) -> String {
        let lock = format!("pg_try_advisory_xact_lock({})::text", self.key(id));
        format!("SELECT set_config('firstpromoter.locked', {lock}, true)")
    }

    /// Begins a transaction by `begin`, if the record allows an attempt.
    pub(super) async fn begin(
        &self,
        claim: &Claim,
        begin: &str,
    ) -> Result<Begin<PostgresTx>, Problem> {
        let Found { name, .. } = self.found().await?;
        let (row, lock) = (self.row(claim.id()), self.lock(claim.id()));
        let known = format!("{SHOWN}, f.promoter_id::text, f.attempts");
        let read = format!(
            "{LIMIT}; SELECT pg_backend_pid(), {known} \
             FROM (VALUES (1)) one LEFT JOIN {name} f ON {row}"
        );
        let (mut connection, rows) = self.pool.ask(&self.pool.attempts, &read).await?;
        let before = rows.last().ok_or(sqlx::Error::RowNotFound)?;
        if let Some(answer) = no_attempt(known_in(before, 1)?, claim) {
            connection.keep();
            return Ok(answer);
        }
        // An error of the handler's aborts only what follows the savepoint. Without it the server
        // would let go of the lock while the handler still runs.
        let begin = format!(
            "{begin}; {lock}; SELECT current_setting('firstpromoter.locked') = 'true', {NOW}, \
             pg_backend_pid(), current_setting('transaction_read_only') = 'on', {known} \
             FROM (VALUES (1)) one LEFT JOIN {name} f ON {row}; SAVEPOINT firstpromoter"
        );
        let Ok(rows) = timeout(ANSWER_WITHIN, connection.send(&begin)).await else {
            let _ = self.end_session(before.try_get(0)?, claim.id()).await;
            return Err(Problem::TimedOut);
        };
        let rows = rows?;
        let row = rows.last().ok_or(sqlx::Error::RowNotFound)?;
        if row.try_get(3)? {
            return Err(Problem::ReadOnly);
        }
        let (locked, known): (bool, _) = (row.try_get(0)?, known_in(row, 4)?);
        let answer = if locked { no_attempt(known, claim) } else { Some(Begin::Busy) };
        if let Some(answer) = answer {
            connection.roll_back(true).await;
            return Ok(answer);
        }
        let (now, pid) = (row.try_get(1)?, row.try_get(2)?);
        let tx = |attempt| PostgresTx { connection, claim: claim.clone(), attempt, now, pid };
        Ok(decide(known, claim).with(tx))
    }

    /// Begins a transaction for a note, while its attempt holds the fulfilment's lock.
    pub(super) async fn begin_note(&self) -> Result<Connection, Problem> {
        Ok(self.pool.ask(&self.pool.spare, BRIEF).await?.0)
    }

    /// Writes the record of an attempt that ends, or starts as `run`. Returns whether it could: the
    /// record is not fulfilled, the promoter is the same, and the transaction began at `now`.
    pub(super) async fn write(
        &self,
        connection: &mut Connection,
        claim: &Claim,
        ended: &Ended,
        run: Option<i64>,
        now: Option<i64>,
    ) -> Result<bool, Problem> {
        let Found { name, .. } = self.found().await?;
        let write = format!(
            "INSERT INTO {name} AS f (namespace, id, unit, amount, promoter_id, cust_id, state, \
             attempts, reason, run, runs_within, started_at) \
             SELECT $1, $2::text::numeric, $3, $4::text::numeric, $5::text::numeric, $6, $7, $8, $9, \
             $10, $11 * interval '1 millisecond', \
             CASE WHEN $10 IS NOT NULL THEN clock_timestamp() END \
             WHERE coalesce($12 = {NOW}, true) \
             AND set_config('synchronous_commit', 'on', true) = 'on' \
             AND set_config('lock_timeout', '3000', true) <> '' \
             ON CONFLICT (namespace, id) DO UPDATE SET unit = excluded.unit, \
             amount = excluded.amount, cust_id = excluded.cust_id, state = excluded.state, \
             attempts = greatest(f.attempts, excluded.attempts), reason = CASE \
             WHEN excluded.state IN ('started', 'in_doubt') AND f.state IN ('started', 'in_doubt') \
             THEN coalesce(excluded.reason, f.reason, '{CUT_OFF}') ELSE excluded.reason END, \
             run = excluded.run, runs_within = excluded.runs_within, \
             started_at = excluded.started_at, changed = clock_timestamp() \
             WHERE f.state <> 'fulfilled' AND f.promoter_id = excluded.promoter_id"
        );
        let written = query(AssertSqlSafe(write))
            .persistent(false)
            .bind(&*self.namespace)
            .bind(claim.id().to_string())
            .bind(self.text(claim.unit().as_str()))
            .bind(claim.amount().to_string())
            .bind(claim.promoter().to_string())
            .bind(claim.cust_id().map(|text| self.text(text)))
            .bind(ended.state.as_str())
            .bind(i64::from(ended.attempts))
            .bind(ended.reason.as_deref().map(|text| self.text(text)))
            .bind(run)
            .bind(run.map(|_| milliseconds(claim.attempt_within())))
            .bind(now)
            .execute(&mut connection.raw)
            .await?;
        Ok(written.rows_affected() == 1)
    }

    /// Records how the attempt `run` ended, unless it is no longer that attempt's to say.
    pub(super) async fn finish(
        &self,
        id: FulfilmentId,
        run: i64,
        ended: &Ended,
    ) -> Result<bool, Problem> {
        let finish = format!(
            "UPDATE {} f SET state = $1, attempts = $3, changed = clock_timestamp(), \
             reason = CASE $1 WHEN 'in_doubt' THEN coalesce($2, f.reason) ELSE $2 END \
             WHERE {} AND f.run = $4 AND f.state IN ('started', $1)",
            self.found().await?.name,
            self.row(id)
        );
        let (mut connection, _) = self.pool.ask(&self.pool.attempts, BRIEF).await?;
        let finished = query(AssertSqlSafe(finish))
            .persistent(false)
            .bind(ended.state.as_str())
            .bind(ended.reason.as_deref().map(|text| self.text(text)))
            .bind(i64::from(ended.attempts))
            .bind(run)
            .execute(&mut connection.raw)
            .await?;
        connection.commit().await?;
        Ok(finished.rows_affected() == 1)
    }

    /// Reads what somebody else decided, after an end that could not be recorded.
    pub(super) async fn decided(&self, claim: &Claim) -> Result<State, Problem> {
        let record = self.get(claim.id()).await?;
        let fulfilled = record.is_some_and(|record| {
            record.state == State::Fulfilled && record.promoter == claim.promoter()
        });
        if fulfilled { Ok(State::Fulfilled) } else { Err(Problem::Lost) }
    }

    /// Whether the session `pid` has the fulfilment's lock.
    pub(super) async fn is_locked_by(&self, pid: i32, id: FulfilmentId) -> Result<bool, Problem> {
        Ok(!self.locks("pid", pid, id).await?.is_empty())
    }

    /// Ends the session `pid` if it has the fulfilment's lock: one whose connection fell silent has
    /// it until its idle timeout, and one whose statement runs until that ends. What it was about to
    /// commit is undone, unless it waits for its standby.
    pub(super) async fn end_session(&self, pid: i32, id: FulfilmentId) -> Result<(), Problem> {
        let end = "CASE WHEN (SELECT wait_event FROM pg_stat_activity a WHERE a.pid = l.pid) \
             IS DISTINCT FROM 'SyncRep' THEN pg_terminate_backend(pid) END";
        self.locks(end, pid, id).await.map(drop)
    }

    async fn locks(&self, what: &str, pid: i32, id: FulfilmentId) -> Result<Vec<PgRow>, Problem> {
        let locks = format!(
            "{LIMIT}; SELECT {what} FROM pg_locks l \
             WHERE locktype = 'advisory' AND granted AND pid = {pid} AND objsubid = 1 AND (classid::bigint << 32) | objid::bigint = {}",
            self.key(id)
        );
        let (connection, rows) = self.pool.ask(&self.pool.spare, &locks).await?;
        connection.keep();
        Ok(rows)
    }

    pub(super) async fn get(&self, id: FulfilmentId) -> Result<Option<Record>, Problem> {
        Ok(self.records(&self.row(id)).await?.pop())
    }

    pub(super) async fn open(&self, limit: usize) -> Result<Vec<Record>, Problem> {
        let (namespace, limit) = (literal(&self.namespace), sql::limit(limit));
        let open = format!("f.namespace = {namespace} AND f.state <> 'fulfilled'");
        self.records(&format!("{open} ORDER BY f.changed DESC LIMIT {limit}")).await
    }

    async fn records(&self, which: &str) -> Result<Vec<Record>, Problem> {
        let read = format!(
            "{LIMIT}; SELECT f.id::text, f.unit, f.amount::text, \
             f.promoter_id::text, f.cust_id, {SHOWN}, f.attempts, \
             CASE {SHOWN} WHEN 'in_doubt' THEN coalesce(f.reason, '{CUT_OFF}') ELSE f.reason END, \
             (extract(epoch FROM f.first_seen) * 1000000)::bigint, \
             (extract(epoch FROM f.changed) * 1000000)::bigint FROM {} f WHERE {which}",
            self.found().await?.name
        );
        let (connection, rows) = self.pool.ask(&self.pool.spare, &read).await?;
        connection.keep();
        rows.iter().map(|row| sql::record(sql::Row::from_row(row)?)).collect()
    }

    pub(super) async fn resolve(&self, id: FulfilmentId, fulfilled: bool) -> Result<bool, Problem> {
        let (state, reason) = resolved(fulfilled);
        let reason = reason.map_or("NULL".into(), literal);
        let set = format!("SET state = '{state}', reason = {reason}, changed = clock_timestamp()");
        self.change(id, "UPDATE", &set, "= 'in_doubt'").await
    }

    pub(super) async fn forget(&self, id: FulfilmentId) -> Result<bool, Problem> {
        self.change(id, "DELETE FROM", "", "<> 'started'").await
    }

    /// Changes a record in a state that fits, unless an attempt is running.
    async fn change(
        &self,
        id: FulfilmentId,
        verb: &str,
        set: &str,
        state: &str,
    ) -> Result<bool, Problem> {
        let change = format!(
            "{verb} {} f {set} WHERE {} AND ({SHOWN}) {state} \
             AND current_setting('firstpromoter.locked') = 'true' RETURNING 1",
            self.found().await?.name,
            self.row(id)
        );
        let begin = format!("{BRIEF}; {}", self.lock(id));
        let (mut connection, _) = self.pool.ask(&self.pool.spare, &begin).await?;
        let changed = connection.send(&change).await?;
        connection.commit().await?;
        Ok(!changed.is_empty())
    }

    pub(super) async fn create(&self, schema: &str) -> Result<(), Problem> {
        let path = self
            .schema
            .as_deref()
            .map(|schema| format!("SET LOCAL search_path = {};", identifier(schema)));
        let begin = format!(
            "{BRIEF}; {} SELECT pg_advisory_xact_lock(hashtextextended('{TABLE}', 0)); \
             SELECT to_regclass('{TABLE}') IS NOT NULL, \
             current_setting('transaction_read_only') = 'on'",
            path.unwrap_or_default()
        );
        let (mut connection, rows) = self.pool.ask(&self.pool.spare, &begin).await?;
        let row = rows.last().ok_or(sqlx::Error::RowNotFound)?;
        if row.try_get(1)? {
            return Err(Problem::ReadOnly);
        }
        // A role that may use the table need not be one that may create it.
        if !row.try_get(0)? {
            connection.send(schema).await?;
        }
        connection.commit().await
    }

    /// Replaces what the database cannot hold: words never decide a state.
    fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match self.found.get() {
            Some(Found { utf8: true, .. }) => sql::text(text),
            _ => sql::ascii(text),
        }
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

/// Answers what the record alone decides: no attempt begins.
fn no_attempt<Tx>(known: Option<Known>, claim: &Claim) -> Option<Begin<Tx>> {
    match (decide(known, claim), known) {
        (Begin::InDoubt { .. }, Some((State::Started, ..))) => Some(Begin::Busy),
        (Begin::Run { .. } | Begin::InDoubt { .. }, _) => None,
        (Begin::Fulfilled, _) => Some(Begin::Fulfilled),
        (Begin::Busy, _) => Some(Begin::Busy),
        (Begin::Mismatch, _) => Some(Begin::Mismatch),
    }
}

/// State, promoter and attempts, in this column and the next two.
fn known_in(row: &PgRow, column: usize) -> Result<Option<Known>, Problem> {
    let Some(promoter) = row.try_get::<Option<&str>, _>(column + 1)? else { return Ok(None) };
    sql::known(row.try_get(column)?, promoter, row.try_get(column + 2)?).map(Some)
}

/// For `SET` and `interval`: 24 days of it.
pub(super) fn milliseconds(time: Duration) -> i32 {
    time.as_millis().clamp(1, i32::MAX as u128) as i32
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Quotes a text, whatever `standard_conforming_strings` says. What runs outside of a transaction is
/// sent with it, in one message: a pooler may come between a statement and its parameters.
fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}
