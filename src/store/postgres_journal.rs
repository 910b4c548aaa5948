use std::{
    fmt,
    hash::{BuildHasher, RandomState},
};

use super::{
    Begin, Claim, End, ExternalEffects, PostgresError, PostgresTx, State,
    postgres_table::{BRIEF, Table, bounded},
    record::{Attempt, Ended},
    sql::Problem,
};

/// Records attempts in PostgreSQL, for any number of machines and **effects made elsewhere**.
///
/// It records that an attempt starts, and later how it ended; no connection is held meanwhile. A
/// cut-off attempt may have taken effect, so it is in doubt. For effects in the same database take
/// [`PostgresStore`](super::PostgresStore), which leaves no doubt; both may use the same table.
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
/// For others, a started attempt is busy until its limit and 30 seconds are over, by the database's
/// clock; then it is in doubt. The handler is dropped at its limit, but dropping does not stop a
/// thread of `spawn_blocking`, a request that was sent, or a machine that freezes and goes on
/// later. Where that matters, give the other service
/// [`idempotency_key`](crate::event::Fulfilment::idempotency_key). Its connections are as those of
/// [`PostgresStore`](super::PostgresStore).
#[derive(Clone, Debug)]
pub struct PostgresJournal(pub(super) Table);

impl PostgresJournal {
    pub(super) async fn attempt(&self, claim: &Claim) -> Result<Begin<PostgresJournalTx>, Problem> {
        Ok(match self.0.begin(claim, BRIEF).await? {
            Begin::Run { tx, attempt } => Begin::Run { tx: self.start(tx).await?, attempt },
            Begin::InDoubt { tx, attempt } => Begin::InDoubt { tx: self.start(tx).await?, attempt },
            Begin::Fulfilled => Begin::Fulfilled,
            Begin::Busy => Begin::Busy,
            Begin::Mismatch => Begin::Mismatch,
        })
    }

    pub(super) async fn finish(
        &self,
        tx: PostgresJournalTx,
        end: End,
    ) -> Result<State, PostgresError> {
        let PostgresJournalTx { claim, attempt, run } = tx;
        bounded(self.0.note(&claim, &attempt.ended(end, false), Some(run))).await
    }

    /// Records that the attempt starts, in the transaction that has the fulfilment's lock.
    async fn start(&self, tx: PostgresTx) -> Result<PostgresJournalTx, Problem> {
        let PostgresTx { mut connection, claim, attempt, .. } = tx;
        // Random, so that it differs even from that of an attempt that was forgotten.
        let run = RandomState::new().hash_one(claim.id) as i64;
        let attempts =
            if attempt.in_doubt { attempt.number.saturating_sub(1) } else { attempt.number };
        let number = attempt.number;
        let started = Ended { state: State::Started, reason: None, attempts, number };
        if !self.0.write(&mut connection, &claim, &started, Some(run), None).await? {
            return Err(Problem::Lost);
        }
        connection.end("COMMIT").await?;
        Ok(PostgresJournalTx { claim, attempt, run })
    }
}

/// The right to run one attempt, of a [`PostgresJournal`]. See [`Store`](super::Store) for an
/// example.
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
        f.debug_tuple("PostgresJournalTx").field(&self.claim.id).finish()
    }
}
