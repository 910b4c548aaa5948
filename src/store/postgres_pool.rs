//! Connections of the PostgreSQL stores' own.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection as _, PgConnection, PgPool, Row,
    postgres::{PgConnectOptions, PgRow},
    raw_sql,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::sql::{Problem, within};

/// How long to wait for a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// How long to wait for an answer that is due at once.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// How long a connection stays idle. Opening one takes milliseconds.
const IDLE_WITHIN: Duration = Duration::from_secs(60);

/// Limits the rest of a message, whatever limit the database is set up with.
pub(super) const LIMIT: &str = "SET LOCAL statement_timeout = 4000";

/// A few connections that nobody else can use. sqlx's own pool pings whatever it takes back.
pub(super) struct Pool {
    pub(super) given: PgPool,
    /// Whether `given` was made for the store, so that its hooks run.
    pub(super) dedicated: bool,
    /// Whether sqlx may prepare statements by name, which older poolers confuse.
    pub(super) named: bool,
    pub(super) attempts: Arc<Slots>,
    /// For notes, while attempts hold all of theirs, and for the other verbs. What a handler sets for
    /// its session reaches none of them.
    pub(super) spare: Arc<Slots>,
}

pub(super) struct Slots {
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Opened>>,
}

/// An open connection, with the options that it was opened with.
pub(super) struct Opened {
    pub(super) raw: PgConnection,
    options: Arc<PgConnectOptions>,
    used: Instant,
}

/// A connection of the store's own. Dropped, it is closed: what became of it is not known.
pub(super) struct Connection {
    pub(super) opened: Opened,
    slots: Arc<Slots>,
    permit: OwnedSemaphorePermit,
}

impl Pool {
    #[track_caller]
    pub(super) fn new(given: PgPool, dedicated: bool, attempts: usize) -> Arc<Self> {
        assert!(attempts > 0, "without attempts every delivery is answered with 503");
        let [attempts, spare] = [attempts, 2].map(|size| {
            let permits = Arc::new(Semaphore::new(size));
            Arc::new(Slots { permits, idle: Mutex::default() })
        });
        // Only the URL tells. Names and secrets have no place in it.
        let options = (*given.connect_options()).clone().username("_").password("_").host("_");
        let named = !options.to_url_lossy().as_str().contains("statement-cache-capacity=0");
        Arc::new(Self { given, dedicated, named, attempts, spare })
    }

    /// Sends a message that may be sent twice, since nothing has happened yet. So a connection that
    /// broke while it was idle shows without a ping.
    pub(super) async fn ask(
        &self,
        slots: &Arc<Slots>,
        sql: &str,
    ) -> Result<(Connection, Vec<PgRow>), Problem> {
        let slot = timeout(CONNECT_WITHIN, Arc::clone(&slots.permits).acquire_owned()).await;
        let Ok(Ok(mut permit)) = slot else { return Err(sqlx::Error::PoolTimedOut.into()) };
        if let Some(opened) = slots.reusable(&self.given.connect_options()) {
            let mut reused = Connection { opened, slots: Arc::clone(slots), permit };
            if let Ok(rows) = within(ANSWER_WITHIN, reused.send(sql)).await {
                return Ok((reused, rows));
            }
            permit = reused.permit;
            // What broke this one may have broken the others.
            slots.idle().clear();
        }
        let opened = within(CONNECT_WITHIN, self.connect()).await?;
        let mut new = Connection { opened, slots: Arc::clone(slots), permit };
        // Without a limit, a session that waits for a lock outlives its connection. Of reused
        // connections there are never more than slots.
        let rows = new.send(&format!("{LIMIT}; {sql}")).await?;
        Ok((new, rows))
    }

    async fn connect(&self) -> sqlx::Result<Opened> {
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
        Ok(Opened { raw, options, used: Instant::now() })
    }
}

impl Slots {
    fn idle(&self) -> MutexGuard<'_, Vec<Opened>> {
        // Nothing panics while this is locked.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection used last, unless it is too old or its options have changed since.
    fn reusable(&self, now: &Arc<PgConnectOptions>) -> Option<Opened> {
        std::iter::from_fn(|| self.idle().pop())
            .find(|it| it.used.elapsed() < IDLE_WITHIN && Arc::ptr_eq(&it.options, now))
    }
}

impl Connection {
    /// Sends one message and returns the rows of all its statements.
    pub(super) async fn send(&mut self, sql: &str) -> Result<Vec<PgRow>, Problem> {
        Ok(raw_sql(AssertSqlSafe(sql)).fetch_all(&mut self.opened.raw).await?)
    }

    /// Undoes what the handler wrote and tells whether the transaction is known to be `xid` still, or
    /// is lost with the connection; `None`, if no answer comes.
    pub(super) async fn is_in(&mut self, xid: i64) -> Option<bool> {
        let (undo, says_so) = ("ROLLBACK TO SAVEPOINT firstpromoter", format!("in {xid}"));
        let ask = format!("{undo}; {LIMIT}; SELECT 'in ' || txid_current_if_assigned()");
        let tell = async {
            // Somebody may cancel the first one. After each `COPY` that a handler dropped, sqlx is one
            // more answer behind.
            for _ in 0..4 {
                if self.send(&ask).await.is_ok_and(|rows| says(&rows, &says_so)) {
                    return true;
                }
            }
            for _ in 0..4 {
                match self.opened.raw.ping().await {
                    // Of a statement before, or the last words of a session.
                    Err(sqlx::Error::Database(_)) => {}
                    ping => return ping.is_err(),
                }
            }
            false
        };
        timeout(ANSWER_WITHIN, tell).await.ok()
    }

    /// Ends a transaction in which every answer was heard.
    pub(super) async fn end(mut self, how: &str) -> Result<(), Problem> {
        self.send(how).await?;
        self.keep();
        Ok(())
    }

    /// Keeps the connection for the next one: its work has ended cleanly.
    pub(super) fn keep(mut self) {
        // sqlx no longer believes it after it rolled back what a handler left half begun.
        if self.opened.raw.is_in_transaction() {
            self.opened.used = Instant::now();
            self.slots.idle().push(self.opened);
        }
    }
}

/// Whether the last row is this text.
pub(super) fn says(rows: &[PgRow], text: &str) -> bool {
    rows.last().is_some_and(|row| row.try_get(0).is_ok_and(|it: &str| it == text))
}
