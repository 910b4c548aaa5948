//! Shared by the two PostgreSQL stores: the table, and the methods.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use sqlx::{AssertSqlSafe, FromRow, PgPool, postgres::PgRow, query};
use tokio::sync::OnceCell;

use super::{
    Begin, Claim, End, InvalidNamespace, PostgresError, PostgresJournal, PostgresJournalTx,
    PostgresStore, PostgresTx, Record, State, Store,
    postgres_pool::{ANSWER_WITHIN, Connection, LIMIT, Pool, says},
    record::{CUT_OFF, Ended, decide, namespace, resolved},
    sql::{self, Problem, TABLE, within},
};
use crate::event::FulfilmentId;

/// How long a verb may take: not as long as an attempt waits for it.
const VERB_WITHIN: Duration = Duration::from_secs(7);

/// Begins a transaction in which no handler runs. The limits are the transaction's own, so a pooler
/// may hand the session to others.
pub(super) const BRIEF: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; \
    SET LOCAL statement_timeout = 4000; SET LOCAL lock_timeout = 3000; \
    SET LOCAL idle_in_transaction_session_timeout = 10000; SET LOCAL synchronous_commit = on";

/// The state that is shown: what is started is in doubt once its time is over. A start in the
/// future, after a clock was set back, counts as over.
const SHOWN: &str = "CASE WHEN f.state <> 'started' THEN f.state \
    WHEN f.started_at <= clock_timestamp() \
    AND clock_timestamp() < f.started_at + f.runs_within + interval '30 seconds' \
    THEN 'started' ELSE 'in_doubt' END";

macro_rules! store {
    ($store:ident, $tx:ident) => {
        impl $store {
            /// The SQL that creates the table `firstpromoter_fulfilments`, for migrations. It may run
            /// twice.
            #[doc = concat!("```sql\n", include_str!("schema/postgres.sql"), "```")]
            pub const SCHEMA: &str = include_str!("schema/postgres.sql");

            /// Creates a store in the database of `pool`, with connections of its own, opened by the
            /// connect options that the pool has at the time. See its type for an example.
            pub fn new(pool: PgPool) -> Self {
                Self(Table::new(pool, false))
            }

            /// Creates a store that takes its connections from a pool made for it alone, so that the
            /// pool's hooks run, such as an `after_connect` that sets a role. The connections do
            /// not go back to that pool. See [`PostgresStore`] for an example.
            pub fn with_dedicated_pool(pool: PgPool) -> Self {
                Self(Table::new(pool, true))
            }

            /// Separates the fulfilments of several FirstPromoter accounts, whose ids may be the same.
            /// Default: empty; the first account keeps that, because its records are not found in
            /// another namespace. See [`PostgresStore`] for an example.
            ///
            /// # Errors
            ///
            /// If it is longer than 200 bytes or has a control character.
            pub fn namespace(self, account: impl AsRef<str>) -> Result<Self, InvalidNamespace> {
                Ok(Self(Table { namespace: namespace(account.as_ref())?, ..self.0 }))
            }

            /// Sets the schema of the table. Default: the first of the `search_path` that has the
            /// table when the store is first used. See [`PostgresStore`] for an example.
            #[must_use]
            pub fn schema(self, name: impl AsRef<str>) -> Self {
                let schema = Some(name.as_ref().into());
                Self(Table { schema, found: Arc::default(), ..self.0 })
            }

            /// Creates the table, unless it exists. Several machines may do so at once. See
            /// [`PostgresStore`] for an example.
            ///
            /// # Errors
            ///
            /// If the database is out of reach or read-only, or the role may not create tables.
            pub async fn create_table(&self) -> Result<(), PostgresError> {
                bounded(self.0.create(Self::SCHEMA)).await
            }
        }

        impl Store for $store {
            type Tx = $tx;
            type Error = PostgresError;

            async fn begin(&self, claim: &Claim) -> Result<Begin<$tx>, PostgresError> {
                bounded(self.attempt(claim)).await
            }

            async fn end(&self, tx: $tx, end: End) -> Result<State, PostgresError> {
                self.finish(tx, end).await
            }

            async fn get(&self, id: FulfilmentId) -> Result<Option<Record>, PostgresError> {
                bounded(self.0.get(id)).await
            }

            async fn open(&self, limit: usize) -> Result<Vec<Record>, PostgresError> {
                bounded(self.0.open(limit)).await
            }

            async fn resolve(
                &self,
                id: FulfilmentId,
                fulfilled: bool,
            ) -> Result<bool, PostgresError> {
                bounded(self.0.resolve(id, fulfilled)).await
            }

            async fn forget(&self, id: FulfilmentId) -> Result<bool, PostgresError> {
                bounded(self.0.forget(id)).await
            }
        }
    };
}

store!(PostgresStore, PostgresTx);
store!(PostgresJournal, PostgresJournalTx);

/// Limits a verb. It may be dropped anywhere, since its connection is closed then.
pub(super) async fn bounded<T>(
    verb: impl Future<Output = Result<T, Problem>>,
) -> Result<T, PostgresError> {
    Ok(within(VERB_WITHIN, verb).await?)
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
        let pool = Pool::new(given, dedicated, 10);
        Self { pool, namespace: "".into(), schema: None, found: Arc::default() }
    }

    #[track_caller]
    pub(super) fn with_limit(self, attempts: usize) -> Self {
        Self { pool: Pool::new(self.pool.given.clone(), self.pool.dedicated, attempts), ..self }
    }

    /// Resolves the table once, so that no later `search_path` leads to another.
    async fn found(&self) -> Result<&Found, Problem> {
        let find = async || {
            let schema = self.schema.as_deref().map(|schema| sql::identifier(schema) + ".");
            let name = sql::literal(&(schema.unwrap_or_default() + TABLE));
            let find = format!(
                "SELECT format('%I.%I', n.nspname, c.relname), current_setting('server_encoding') \
                 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                 WHERE c.oid = to_regclass({name})"
            );
            let rows = self.read(&find).await?;
            let row = rows.first().ok_or(Problem::NoTable(None))?;
            let (name, encoding): (_, String) = FromRow::from_row(row)?;
            Ok::<_, Problem>(Found { name, utf8: encoding == "UTF8" })
        };
        match self.found.get_or_try_init(find).await? {
            Found { utf8: false, .. } if !self.namespace.is_ascii() => Err(Problem::Namespace),
            found => Ok(found),
        }
    }

    /// Asks what changes nothing.
    async fn read(&self, sql: &str) -> Result<Vec<PgRow>, Problem> {
        let (connection, rows) =
            self.pool.ask(&self.pool.spare, &format!("{LIMIT}; {sql}")).await?;
        connection.keep();
        Ok(rows)
    }

    fn row(&self, id: FulfilmentId) -> String {
        format!("f.namespace = {} AND f.id = {id}", sql::literal(&self.namespace))
    }

    /// The key of the fulfilment's advisory lock: its FNV-1a hash, on every machine and in every
    /// version the same.
    fn key(&self, id: FulfilmentId) -> i64 {
        let hash = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        let text = format!("{TABLE}:{}:{id}", self.namespace);
        text.bytes().fold(0xcbf2_9ce4_8422_2325, hash) as i64
    }

    /// Takes the fulfilment's lock for the transaction, if it is free. It is a statement of its own,
    /// so that the snapshot of the next one is not older than the lock.
    fn lock(&self, id: FulfilmentId) -> String {
        format!("SELECT pg_try_advisory_xact_lock('{}')", self.key(id))
    }

    /// Begins a transaction by `begin`, if the record allows an attempt.
    ///
    /// The server plans each of these statements anew, so they are as plain as can be.
    pub(super) async fn begin(
        &self,
        claim: &Claim,
        begin: &str,
    ) -> Result<Begin<PostgresTx>, Problem> {
        let table = &self.found().await?.name;
        let (row, lock) = (self.row(claim.id), self.lock(claim.id));
        let read = format!(
            "SELECT f.promoter_id::text FROM {table} f WHERE {row} AND f.state = 'fulfilled'"
        );
        let (mut connection, rows) = self.pool.ask(&self.pool.attempts, &read).await?;
        if !rows.is_empty() {
            connection.keep();
            let same = says(&rows, &claim.promoter.to_string());
            return Ok(if same { Begin::Fulfilled } else { Begin::Mismatch });
        }
        // Random, since the server may have sessions of many machines. In a comment, so that statistics
        // of statements do not tell it from others.
        let name = format!("attempt {:x}", RandomState::new().hash_one(claim.id));
        // An error of the handler's aborts only what follows the savepoint. Without it the server
        // would let go of the lock while the handler still runs.
        let begin = format!(
            "{begin}; {lock} /* {name} */, txid_current(), pg_backend_pid(), \
             current_setting('transaction_read_only'); \
             SELECT f.state, f.promoter_id::text, f.attempts FROM {table} f WHERE {row}; \
             SAVEPOINT firstpromoter"
        );
        let begun = within(ANSWER_WITHIN, connection.send(&begin)).await;
        if begun.is_err() {
            // A silent session may have the lock by now. Behind a pooler it may be any.
            let _ = self.end_holder(&format!("query LIKE '%{name}%'"), claim.id).await;
        }
        let rows = begun?;
        let (locked, xid, pid, read_only): (bool, _, _, String) = first(&rows)?;
        let known = match rows.get(1).map(sql::known).transpose()? {
            // Whether its time is over is not asked of every record.
            Some((State::Started, ..)) => self.get(claim.id).await?.map(|record| record.known()),
            known => known,
        };
        let started = matches!(known, Some((State::Started, ..)));
        let answer = match decide(known, claim, drop) {
            Begin::Fulfilled => Begin::Fulfilled,
            Begin::Mismatch => Begin::Mismatch,
            _ if started || !locked => Begin::Busy,
            _ if read_only == "on" => return Err(Problem::ReadOnly),
            _ => {
                let tx =
                    |attempt| PostgresTx { connection, claim: claim.clone(), attempt, xid, pid };
                return Ok(decide(known, claim, tx));
            }
        };
        self.rolled_back(connection.end("ROLLBACK"), pid, claim.id).await;
        Ok(answer)
    }

    /// Records, on another connection, the end of an attempt that is undone, or that started as `run`.
    /// Returns the state that was written, or `Fulfilled` if somebody else has recorded that.
    pub(super) async fn note(
        &self,
        claim: &Claim,
        ended: &Ended,
        run: Option<i64>,
    ) -> Result<State, Problem> {
        let slots = if run.is_some() { &self.pool.attempts } else { &self.pool.spare };
        let (mut connection, _) = self.pool.ask(slots, BRIEF).await?;
        let written = self.write(&mut connection, claim, ended, run, None).await?;
        connection.end("COMMIT").await?;
        if written {
            return Ok(ended.state);
        }
        let record = self.get(claim.id).await?;
        let same = |it: Record| it.state == State::Fulfilled && it.promoter == claim.promoter;
        if record.is_some_and(same) { Ok(State::Fulfilled) } else { Err(Problem::Lost) }
    }

    /// Writes the record of an attempt that starts or ends, and returns whether it did. It does not
    /// where the record is fulfilled, or names another promoter and has run. With `xid`, the
    /// transaction must be that one; with `run`, an attempt that ends must be the started one. With
    /// neither, no other attempt may have ended since; but a doubt is always recorded.
    pub(super) async fn write(
        &self,
        connection: &mut Connection,
        claim: &Claim,
        ended: &Ended,
        run: Option<i64>,
        xid: Option<i64>,
    ) -> Result<bool, Problem> {
        let (Found { name, .. }, namespace) = (self.found().await?, sql::literal(&self.namespace));
        let doubts = ended.state == State::InDoubt && ended.reason.is_some();
        let only = match (run, xid) {
            (Some(_), _) if ended.state != State::Started => {
                "AND f.run = $9 AND f.state = 'started'".to_owned()
            }
            // The attempt's session may be lost, its lock with it, and another one have ended.
            (None, None) if !doubts => format!("AND f.attempts < {}", ended.number),
            _ => String::new(),
        };
        let write = format!(
            "INSERT INTO {name} AS f (namespace, id, unit, amount, promoter_id, cust_id, state, \
             attempts, reason, run, runs_within, started_at) \
             SELECT {namespace}, $1::text::numeric, $2, $3::text::numeric, $4::text::numeric, $5, $6, \
             $7, $8, $9, $10 * interval '1 millisecond', \
             CASE $6 WHEN 'started' THEN clock_timestamp() END \
             WHERE ($11::bigint IS NULL OR txid_current() = $11) \
             AND set_config('synchronous_commit', 'on', true) = 'on' \
             AND set_config('lock_timeout', '3000', true) <> '' \
             ON CONFLICT (namespace, id) DO UPDATE SET promoter_id = excluded.promoter_id, \
             unit = excluded.unit, amount = excluded.amount, cust_id = excluded.cust_id, \
             state = excluded.state, attempts = excluded.attempts, \
             reason = CASE \
             WHEN excluded.state IN ('started', 'in_doubt') AND f.state IN ('started', 'in_doubt') \
             THEN coalesce(excluded.reason, f.reason, '{CUT_OFF}') ELSE excluded.reason END, \
             run = excluded.run, runs_within = excluded.runs_within, \
             started_at = excluded.started_at, changed = clock_timestamp() \
             WHERE f.state <> 'fulfilled' AND (f.promoter_id = excluded.promoter_id \
             OR f.state = 'failed' AND f.attempts = 0) {only} \
             RETURNING 'written in ' || coalesce($11, 0)"
        );
        let written = query(AssertSqlSafe(write))
            .persistent(self.pool.named)
            .bind(claim.id.to_string())
            .bind(self.text(claim.unit.as_str()))
            .bind(claim.amount.to_string())
            .bind(claim.promoter.to_string())
            .bind(claim.cust_id.as_deref().map(|text| self.text(text)))
            .bind(ended.state.as_str())
            .bind(i64::from(ended.attempts))
            .bind(ended.reason.as_deref().map(|text| self.text(text)))
            .bind(run)
            .bind(run.map(|_| milliseconds(claim.attempt_within)))
            .bind(xid)
            .fetch_all(&mut connection.opened.raw)
            .await?;
        Ok(says(&written, &format!("written in {}", xid.unwrap_or(0))))
    }

    /// Whether the session `pid` is still in the transaction `xid`, or is gone.
    pub(super) async fn is_undone(&self, pid: i32, xid: i64) -> Result<bool, Problem> {
        let ask = format!(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE pid = {pid} AND transactionid::text = '{}') \
             OR NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = {pid})",
            xid as u32 // without the epoch
        );
        first(&self.read(&ask).await?).map(|(undone,)| undone)
    }

    /// Waits for a rollback, so that the fulfilment is free afterwards. What is silent is ended.
    pub(super) async fn rolled_back<T>(
        &self,
        rollback: impl Future<Output = Result<T, Problem>>,
        pid: i32,
        id: FulfilmentId,
    ) {
        if within(ANSWER_WITHIN, rollback).await.is_err() {
            let _ = self.end_session(pid, id).await;
        }
    }

    /// Ends the session `pid`, unless it is at work on a COMMIT.
    pub(super) async fn end_session(&self, pid: i32, id: FulfilmentId) -> Result<(), Problem> {
        self.end_holder(&format!("pid = {pid} AND query NOT LIKE 'COMMIT%'"), id).await
    }

    /// Ends a session if it has the fulfilment's lock, which a silent one would keep until the server
    /// notices.
    async fn end_holder(&self, which: &str, id: FulfilmentId) -> Result<(), Problem> {
        let end = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity JOIN pg_locks USING (pid) \
             WHERE {which} AND granted AND locktype = 'advisory' AND objsubid = 1 \
             AND (classid::bigint << 32) | objid::bigint = '{}'",
            self.key(id)
        );
        self.read(&end).await.map(drop)
    }

    pub(super) async fn get(&self, id: FulfilmentId) -> Result<Option<Record>, Problem> {
        Ok(self.records(&self.row(id)).await?.pop())
    }

    pub(super) async fn open(&self, limit: usize) -> Result<Vec<Record>, Problem> {
        let (namespace, limit) = (sql::literal(&self.namespace), sql::limit(limit));
        let open = format!("f.namespace = {namespace} AND f.state <> 'fulfilled'");
        self.records(&format!("{open} ORDER BY f.changed DESC LIMIT {limit}")).await
    }

    async fn records(&self, which: &str) -> Result<Vec<Record>, Problem> {
        let read = format!(
            "SELECT f.id::text, f.unit, f.amount::text, f.promoter_id::text, f.cust_id, {SHOWN}, \
             f.attempts, \
             CASE {SHOWN} WHEN 'in_doubt' THEN coalesce(f.reason, '{CUT_OFF}') ELSE f.reason END, \
             (extract(epoch FROM f.first_seen) * 1000000)::bigint, \
             (extract(epoch FROM f.changed) * 1000000)::bigint FROM {} f WHERE {which}",
            self.found().await?.name
        );
        let rows = self.read(&read).await?;
        rows.iter().map(|row| sql::record(sql::Row::from_row(row)?)).collect()
    }

    pub(super) async fn resolve(&self, id: FulfilmentId, fulfilled: bool) -> Result<bool, Problem> {
        let (state, reason) = resolved(fulfilled);
        let reason = reason.map_or("NULL".into(), sql::literal);
        let Found { name, .. } = self.found().await?;
        let set = format!("state = '{state}', reason = {reason}, changed = clock_timestamp()");
        self.change(id, &format!("UPDATE {name} f SET {set}"), "= 'in_doubt'").await
    }

    pub(super) async fn forget(&self, id: FulfilmentId) -> Result<bool, Problem> {
        let Found { name, .. } = self.found().await?;
        self.change(id, &format!("DELETE FROM {name} f"), "<> 'started'").await
    }

    /// Changes a record in a state that fits, unless an attempt is running.
    async fn change(&self, id: FulfilmentId, verb: &str, state: &str) -> Result<bool, Problem> {
        let change = format!("{verb} WHERE {} AND ({SHOWN}) {state} RETURNING 1", self.row(id));
        let begin = format!("{BRIEF}; {}", self.lock(id));
        let (mut connection, rows) = self.pool.ask(&self.pool.spare, &begin).await?;
        let (locked,) = first(&rows)?;
        let changes = locked && !connection.send(&change).await?.is_empty();
        connection.end("COMMIT").await?;
        Ok(changes)
    }

    pub(super) async fn create(&self, schema: &str) -> Result<(), Problem> {
        let path = self.schema.as_deref().map(sql::identifier);
        let path = path.map(|schema| format!("SET LOCAL search_path = {schema};"));
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
        connection.end("COMMIT").await
    }

    /// Replaces what the database refuses: NUL, and in another encoding than UTF-8 what is not ASCII.
    fn text(&self, text: &str) -> String {
        let utf8 = self.found.get().is_some_and(|found| found.utf8);
        text.replace(|c: char| c == '\0' || !(utf8 || c.is_ascii()), "?")
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

fn first<'r, T: FromRow<'r, PgRow>>(rows: &'r [PgRow]) -> Result<T, Problem> {
    Ok(T::from_row(rows.first().ok_or(sqlx::Error::RowNotFound)?)?)
}

/// For `SET` and `interval`: 24 days of it.
pub(super) fn milliseconds(time: Duration) -> i32 {
    time.as_millis().clamp(1, i32::MAX as u128) as i32
}
