//! Shared by the two PostgreSQL stores: connections of their own, and the table.

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection as _, FromRow, PgConnection, PgPool,
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
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// How long a connection stays idle. Opening one takes milliseconds.
const IDLE_WITHIN: Duration = Duration::from_secs(60);

/// Begins a transaction in which no handler runs. The limits are the transaction's own, so a pooler
/// may hand the session to others.
pub(super) const BRIEF: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; \
    SET LOCAL statement_timeout = 4000; SET LOCAL lock_timeout = 3000; \
    SET LOCAL idle_in_transaction_session_timeout = 10000; SET LOCAL synchronous_commit = on";

/// Limits the rest of a message, whatever limit the database is set up with.
const LIMIT: &str = "SET LOCAL statement_timeout = 4000";

/// The state that is shown: what is started is in doubt once its time is over. A start in the
/// future, after a clock was set back, counts as over.
const SHOWN: &str = "CASE WHEN f.state <> 'started' THEN f.state \
    WHEN f.started_at <= clock_timestamp() \
    AND clock_timestamp() < f.started_at + f.runs_within + interval '30 seconds' \
    THEN 'started' ELSE 'in_doubt' END";

/// Tells one transaction from another, whatever the time zone: when it began, in microseconds.
const NOW: &str = "(extract(epoch FROM now()) * 1000000)::bigint";

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
    /// Whether sqlx may prepare statements by name, which older poolers confuse.
    named: bool,
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
        // Only the URL tells. Names and secrets have no place in it.
        let options = (*given.connect_options()).clone().username("_").password("_").host("_");
        let named = !options.to_url_lossy().as_str().contains("statement-cache-capacity=0");
        Arc::new(Self { given, dedicated, named, attempts, spare, idle: Mutex::default() })
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
    async fn send(&mut self, sql: &str) -> Result<Vec<PgRow>, Problem> {
        Ok(raw_sql(AssertSqlSafe(sql)).fetch_all(&mut self.raw).await?)
    }

    /// Undoes what the handler wrote and tells whether the transaction is the one that began at
    /// `now`. An error says that it is not, or that the connection is lost; `None`, that no answer
    /// comes.
    pub(super) async fn is_same(&mut self, now: i64) -> Option<Result<bool, Problem>> {
        let same = format!("ROLLBACK TO SAVEPOINT firstpromoter; {LIMIT}; SELECT {NOW} = {now}");
        let tell = async {
            let mut rows = self.send(&same).await;
            if rows.is_err() {
                // Somebody may have cancelled it.
                rows = self.send(&same).await;
            }
            first(&rows?).map(|(same,)| same)
        };
        timeout(ANSWER_WITHIN, tell).await.ok()
    }

    pub(super) async fn commit(mut self) -> Result<(), Problem> {
        self.send("COMMIT").await?;
        self.keep();
        Ok(())
    }

    /// Waits for the rollback, so that the fulfilment is free afterwards. If that fails the
    /// transaction ends with the connection.
    pub(super) async fn roll_back(mut self, keep: bool) {
        if let (Ok(Ok(_)), true) = (timeout(ANSWER_WITHIN, self.send("ROLLBACK")).await, keep) {
            self.keep();
        }
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
            if rows.is_empty() {
                return Err(Problem::NoTable(None));
            }
            let (name, encoding): (_, String) = first(&rows)?;
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
        format!("SELECT pg_try_advisory_xact_lock({})", self.key(id))
    }

    /// Begins a transaction by `begin`, if the record allows an attempt.
    pub(super) async fn begin(
        &self,
        claim: &Claim,
        begin: &str,
    ) -> Result<Begin<PostgresTx>, Problem> {
        let Found { name, .. } = self.found().await?;
        let (row, lock) = (self.row(claim.id()), self.lock(claim.id()));
        let read = format!(
            "{LIMIT}; SELECT pg_backend_pid(), \
             (SELECT f.promoter_id::text FROM {name} f WHERE {row} AND f.state = 'fulfilled')"
        );
        let (mut connection, rows) = self.pool.ask(&self.pool.attempts, &read).await?;
        let (session, fulfilled): (i32, Option<String>) = first(&rows)?;
        if let Some(promoter) = fulfilled {
            let known = sql::known("fulfilled", &promoter, 0)?;
            connection.keep();
            return Ok(no_attempt(Some(known), claim).unwrap_or(Begin::Fulfilled));
        }
        // An error of the handler's aborts only what follows the savepoint. Without it the server
        // would let go of the lock while the handler still runs.
        let begin = format!(
            "{begin}; {lock}, {NOW}, pg_backend_pid(), \
             current_setting('transaction_read_only') = 'on'; \
             SELECT {SHOWN}, f.promoter_id::text, f.attempts FROM {name} f WHERE {row}; \
             SAVEPOINT firstpromoter"
        );
        let Ok(begun) = timeout(ANSWER_WITHIN, connection.send(&begin)).await else {
            // A silent session may have the lock by now.
            self.end_session(session, claim.id(), false).await?;
            return Err(Problem::TimedOut);
        };
        let rows = begun?;
        let (locked, now, pid, read_only): (bool, _, _, bool) = first(&rows)?;
        let known = rows.get(1).map(|row| {
            let (state, promoter, attempts) = FromRow::from_row(row)?;
            sql::known(state, promoter, attempts)
        });
        let known = known.transpose()?;
        let busy = (!locked).then_some(Begin::Busy);
        if let Some(answer) = no_attempt(known, claim).or(busy) {
            connection.roll_back(true).await;
            return Ok(answer);
        }
        if read_only {
            return Err(Problem::ReadOnly);
        }
        let tx = |attempt| PostgresTx { connection, claim: claim.clone(), attempt, now, pid };
        Ok(decide(known, claim).with(tx))
    }

    /// Begins a transaction for a note, while its attempt holds the fulfilment's lock.
    pub(super) async fn begin_note(&self) -> Result<Connection, Problem> {
        Ok(self.pool.ask(&self.pool.spare, BRIEF).await?.0)
    }

    /// Writes the record of an attempt that ends, or starts as `run`. Returns whether it could: the
    /// record is not fulfilled, names the same promoter or never ran, and the transaction began at
    /// `now`.
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
             ON CONFLICT (namespace, id) DO UPDATE SET promoter_id = excluded.promoter_id, \
             unit = excluded.unit, amount = excluded.amount, cust_id = excluded.cust_id, \
             state = excluded.state, attempts = greatest(f.attempts, excluded.attempts), \
             reason = CASE \
             WHEN excluded.state IN ('started', 'in_doubt') AND f.state IN ('started', 'in_doubt') \
             THEN coalesce(excluded.reason, f.reason, '{CUT_OFF}') ELSE excluded.reason END, \
             run = excluded.run, runs_within = excluded.runs_within, \
             started_at = excluded.started_at, changed = clock_timestamp() \
             WHERE f.state <> 'fulfilled' AND (f.promoter_id = excluded.promoter_id \
             OR f.state = 'failed' AND f.attempts = 0)"
        );
        let written = query(AssertSqlSafe(write))
            .persistent(self.pool.named)
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
            .persistent(self.pool.named)
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

    /// Whether the session `pid` still has the fulfilment's lock, or is gone.
    pub(super) async fn is_locked_by(&self, pid: i32, id: FulfilmentId) -> Result<bool, Problem> {
        let gone = format!("NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = {pid})");
        let lock = self.lock_of(pid, id);
        self.tell(&format!("SELECT EXISTS (SELECT {lock}) OR {gone}")).await
    }

    /// Ends the session `pid` if it has the fulfilment's lock: one that is silent would keep it until
    /// the server notices. One that is at work, say on a COMMIT, is ended only if `busy`.
    pub(super) async fn end_session(
        &self,
        pid: i32,
        id: FulfilmentId,
        busy: bool,
    ) -> Result<bool, Problem> {
        let state = format!("(SELECT state FROM pg_stat_activity WHERE pid = {pid})");
        let ends = format!("({busy} OR {state} LIKE 'idle%') AND pg_terminate_backend({pid})");
        let lock = self.lock_of(pid, id);
        self.tell(&format!("SELECT coalesce((SELECT {ends} {lock}), false)")).await
    }

    fn lock_of(&self, pid: i32, id: FulfilmentId) -> String {
        format!(
            "FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid = {pid} \
             AND objsubid = 1 AND (classid::bigint << 32) | objid::bigint = {}",
            self.key(id)
        )
    }

    async fn tell(&self, sql: &str) -> Result<bool, Problem> {
        let tell = format!("{LIMIT}; {sql}");
        let (connection, rows) = self.pool.ask(&self.pool.spare, &tell).await?;
        connection.keep();
        first(&rows).map(|(answer,)| answer)
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
             RETURNING 1",
            self.found().await?.name,
            self.row(id)
        );
        let begin = format!("{BRIEF}; {}", self.lock(id));
        let (mut connection, rows) = self.pool.ask(&self.pool.spare, &begin).await?;
        let (locked,) = first(&rows)?;
        let changes = locked && !connection.send(&change).await?.is_empty();
        connection.commit().await?;
        Ok(changes)
    }

    pub(super) async fn create(&self, schema: &str) -> Result<(), Problem> {
        let path = self
            .schema
            .as_deref()
            .map(|schema| format!("SET LOCAL search_path = {};", identifier(schema)));
        let begin = format!(
            "{BRIEF}; {} SELECT current_setting('transaction_read_only') = 'on', \
             pg_advisory_xact_lock(hashtextextended('{TABLE}', 0)) IS NULL; \
             SELECT WHERE to_regclass('{TABLE}') IS NOT NULL",
            path.unwrap_or_default()
        );
        let (mut connection, rows) = self.pool.ask(&self.pool.spare, &begin).await?;
        if first(&rows).map(|(read_only, _): (bool, bool)| read_only)? {
            return Err(Problem::ReadOnly);
        }
        // A role that may use the table need not be one that may create it.
        if rows.len() == 1 {
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

fn first<'r, T: FromRow<'r, PgRow>>(rows: &'r [PgRow]) -> Result<T, Problem> {
    Ok(T::from_row(rows.first().ok_or(sqlx::Error::RowNotFound)?)?)
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
