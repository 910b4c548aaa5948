use std::{
    fmt,
    hash::{BuildHasher, RandomState},
};

use sqlx::PgPool;

use super::{
    Begin, Claim, End, ExternalEffects, InvalidNamespace, PostgresError, PostgresStore, PostgresTx,
    Record, State, Store,
    postgres_table::{BRIEF, Table, bounded},
    record::{Attempt, Ended},
    sql::Problem,
};
use crate::event::FulfilmentId;

/// Records attempts in PostgreSQL, for any number of machines and **effects made elsewhere**.
///
/// It records that an attempt starts, and later how it ended; no connection is held meanwhile. A
/// cut-off attempt may have taken effect, so it is in doubt. For effects in the same database take
/// [`PostgresStore`], which leaves no doubt; both may use the same table.
///
/// ```no_run
/// use sqlx::PgPool;
/// use tower_firstpromoter::{Access, Outcome, Webhook, event::Fulfilment, fulfil_fn, store::PostgresJournal};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let journal = PostgresJournal::new(PgPool::connect("postgres://localhost/app").await?); // sqlx 0.9
/// journal.create_table().await?; // or add `PostgresJournal::SCHEMA` to the migrations
/// let handler = fulfil_fn(async |fulfilment: Fulfilment| {
///     // Call the other service, with `fulfilment.idempotency_key()`.
///     Ok::<_, std::io::Error>(Outcome::Fulfilled)
/// });
/// let webhook = Webhook::new(handler, journal, Access::query("key", "at least sixteen bytes")?);
/// # Ok(()) }
/// ```
///
/// # The limit of an attempt
///
/// For others, a started attempt is busy until its limit and 30 seconds are over, by the database's
/// clock; then it is in doubt. The handler is dropped at its limit, but dropping does not stop a
/// thread of `spawn_blocking`, a request that was sent, or a machine that freezes and goes on
/// later. Where that matters, give the other service
/// [`idempotency_key`](crate::event::Fulfilment::idempotency_key).
///
/// The store's connections are those described at [`PostgresStore`].
#[derive(Clone, Debug)]
pub struct PostgresJournal(Table);

impl PostgresJournal {
    /// The SQL that creates the table: [`PostgresStore::SCHEMA`].
    pub const SCHEMA: &str = PostgresStore::SCHEMA;

    /// Creates a journal in the database of `pool`, with connections of its own. See
    /// [`PostgresJournal`] for an example.
    pub fn new(pool: PgPool) -> Self {
        Self(Table::new(pool, false))
    }

    /// Creates a journal that takes its connections from a pool made for it alone. See
    /// [`PostgresStore::with_dedicated_pool`] for an example.
    pub fn with_dedicated_pool(pool: PgPool) -> Self {
        Self(Table::new(pool, true))
    }

    /// Separates the fulfilments of several FirstPromoter accounts. See
    /// [`PostgresStore::namespace`] for an example.
    ///
    /// # Errors
    ///
    /// If it is longer than 200 bytes or has a control character.
    pub fn namespace(self, account: impl AsRef<str>) -> Result<Self, InvalidNamespace> {
        self.0.with_namespace(account.as_ref()).map(Self)
    }

    /// Sets the schema of the table. See [`PostgresStore::schema`] for an example.
    #[must_use]
    pub fn schema(self, name: impl AsRef<str>) -> Self {
        Self(self.0.with_schema(name.as_ref()))
    }

    /// Creates the table, unless it exists. See [`PostgresJournal`] for an example.
    ///
    /// # Errors
    ///
    /// If the database is out of reach or read-only, or the role may not create tables.
    pub async fn create_table(&self) -> Result<(), PostgresError> {
        Ok(bounded(self.0.create(Self::SCHEMA)).await?)
    }

    /// Records that the attempt starts, in the transaction that has the fulfilment's lock.
    async fn start(&self, tx: PostgresTx) -> Result<PostgresJournalTx, Problem> {
        let PostgresTx { mut connection, claim, attempt, .. } = tx;
        // Random, so that it differs even from that of an attempt that was forgotten.
        let run = RandomState::new().hash_one(claim.id()) as i64;
        let attempts =
            if attempt.in_doubt { attempt.number.saturating_sub(1) } else { attempt.number };
        let started = Ended { state: State::Started, reason: None, attempts };
        if !self.0.write(&mut connection, &claim, &started, Some(run), None).await? {
            return Err(Problem::Lost);
        }
        connection.commit().await?;
        Ok(PostgresJournalTx { claim, attempt, run })
    }
}

impl Store for PostgresJournal {
    type Tx = PostgresJournalTx;
    type Error = PostgresError;

    async fn begin(&self, claim: &Claim) -> Result<Begin<PostgresJournalTx>, PostgresError> {
        let begin = async {
            Ok(match self.0.begin(claim, BRIEF).await? {
                Begin::Run { tx, attempt } => Begin::Run { tx: self.start(tx).await?, attempt },
                Begin::InDoubt { tx, attempt } => {
                    Begin::InDoubt { tx: self.start(tx).await?, attempt }
                }
                Begin::Fulfilled => Begin::Fulfilled,
                Begin::Busy => Begin::Busy,
                Begin::Mismatch => Begin::Mismatch,
            })
        };
        Ok(bounded(begin).await?)
    }

    async fn end(&self, tx: PostgresJournalTx, end: End) -> Result<State, PostgresError> {
        let PostgresJournalTx { claim, attempt, run } = tx;
        let ended = attempt.ended(end, false);
        let end = async {
            match self.0.finish(claim.id(), run, &ended).await? {
                true => Ok(ended.state),
                // Its time was over, and somebody else has decided.
                false => self.0.decided(&claim).await,
            }
        };
        Ok(bounded(end).await?)
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

/// The right to run one attempt, of a [`PostgresJournal`]. See [`Store`] for an example.
///
/// Dropped, it leaves the attempt started, and so in doubt once its time is over.
pub struct PostgresJournalTx {
    claim: Claim,
    attempt: Attempt,
    run: i64,
}

impl ExternalEffects for PostgresJournalTx {}

impl fmt::Debug for PostgresJournalTx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PostgresJournalTx").field(&self.claim.id()).finish()
    }
}
