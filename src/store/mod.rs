//! Records attempts and how they ended. The guide `stores` says which store is for what.
//!
//! A **transactional** store commits the handler's effect and the record together: a cut-off
//! attempt is undone and runs again. Its handler implements [`FulfilIn`](crate::FulfilIn). A
//! **journal** records that an attempt begins, and later how it ended: a cut-off attempt is in
//! doubt. Its handler implements [`Fulfil`](crate::Fulfil).

mod held;
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "postgres")]
mod postgres_journal;
#[cfg(feature = "postgres")]
mod postgres_pool;
#[cfg(feature = "postgres")]
mod postgres_table;
mod record;
#[cfg(feature = "redb")]
mod redb;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod sql;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::fmt::{Debug, Display};

use crate::{BoxError, event::FulfilmentId};

#[cfg(feature = "redb")]
pub use self::redb::{RedbError, RedbStore, RedbTx};
#[cfg(feature = "sqlite")]
pub use self::sqlite::{SqliteError, SqliteStore, SqliteTx};
pub use self::{
    memory::{MemoryStore, MemoryTx},
    record::{Begin, Claim, End, InvalidNamespace, Record, State},
};
#[cfg(feature = "postgres")]
pub use self::{
    postgres::{PostgresError, PostgresStore, PostgresTx},
    postgres_journal::{PostgresJournal, PostgresJournalTx},
};

/// Records attempts and how they ended, one record for each fulfilment.
///
/// # The contract
///
/// A `Tx` is the right to run one attempt. Every store promises, as `testkit::store_contract` tests:
///
/// 1. **One attempt at a time.** Of all [`begin`](Store::begin)s for an id, at most one has a `Tx` at
///    a time, on however many machines share the store.
/// 2. **Fulfilled is for good.** After a method returned `Ok` for a fulfilment that is fulfilled,
///    every later `begin` returns [`Begin::Fulfilled`], whatever crashes, until [`Store::forget`].
/// 3. **An attempt leaves a trace or no effect.** Before `begin` returns a `Tx`, the store can tell,
///    whatever crashes, that an attempt may have taken effect; or it can undo the effect.
/// 4. **A cut-off attempt is never clean.** After a `Tx` was dropped without [`end`](Store::end), or
///    ended as [`End::Interrupted`], a transactional store has undone the attempt, and a journal
///    returns [`Begin::InDoubt`]. An attempt that may still be running is not in doubt yet.
/// 5. **Nobody waits.** `begin` returns [`Begin::Busy`] at once while another holds the `Tx`.
/// 6. **Released in one place.** `end` releases the id, or else the drop of the `Tx`; a late drop
///    never takes the id from a successor.
/// 7. **The record says what was last asked for**: promoter, unit, amount and customer of the latest
///    `begin`; the reason of the latest end; in `attempts` only the runs of the handler.
/// 8. **Texts never decide a state.** A text that the store cannot hold is shortened, altered or left out.
/// 9. **One account.** A record of another promoter is [`Begin::Mismatch`], whatever its state,
///    unless it is failed and its handler never ran: that was not confirmed, and may be forged.
/// 10. **`Ok` is durable**: what a method returned is what a second connection reads.
///
/// An error means that the store is out of reach; an error of [`end`](Store::end), that the record
/// may or may not be durable. The delivery is answered with `503`.
///
/// This crate drops no future of `begin` or `end` before it is ready: one that takes long goes on
/// in a task of its own. A store keeps nothing of a delivery but what [`Claim`] holds.
///
/// A store stands for one FirstPromoter account, whose ids are unique. The stores of this crate have
/// `namespace` for applications with more than one. Default: empty; the first account keeps that,
/// because its records are not found in another namespace.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use tower_firstpromoter::store::{Begin, Claim, End, ExternalEffects, MemoryStore, State, Store};
/// # use tower_firstpromoter::event::Fulfilment;
/// # let fulfilment = Fulfilment::decode(r#"{"event":{"type":"fulfilment_pending"},"data":{"id":1,"amount":3,"unit":"credits","promoter":{"id":7}}}"#).unwrap();
///
/// let store = MemoryStore::new(1_000);
/// let claim = Claim::new(&fulfilment);
/// let Ok(Begin::Run { tx, attempt: 1 }) = store.begin(&claim).await else { panic!() };
/// let _: &dyn ExternalEffects = &tx; // of a journal
/// assert!(matches!(store.begin(&claim).await, Ok(Begin::Busy)));
/// assert_eq!(store.end(tx, End::InDoubt("a call timed out".into())).await, Ok(State::InDoubt));
///
/// for record in store.open(100).await.unwrap() {
///     println!("{}: {} {} for {:?}: {:?}", record.id, record.amount, record.unit, record.cust_id, record.reason);
/// }
/// assert_eq!(store.resolve(claim.id, true).await, Ok(true)); // looked up: it took effect
/// assert!(matches!(store.begin(&claim).await, Ok(Begin::Fulfilled)));
/// assert_eq!(store.get(claim.id).await.unwrap().unwrap().state, State::Fulfilled);
///
/// assert_eq!(store.forget(claim.id).await, Ok(true)); // the credits were taken back
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a store",
    label = "use `PostgresStore`, `SqliteStore`, `PostgresJournal`, `RedbStore` or `MemoryStore`",
    note = "or implement `Store` for it"
)]
pub trait Store: Clone + Send + Sync + 'static {
    /// The right to run one attempt; of a transactional store, its open transaction.
    type Tx: Send + 'static;

    /// The store's error.
    type Error: Debug + Display + Into<BoxError> + Send + 'static;

    /// Begins an attempt, if the record allows one. See [`Store`] for an example of every method.
    fn begin(
        &self,
        claim: &Claim,
    ) -> impl Future<Output = Result<Begin<Self::Tx>, Self::Error>> + Send;

    /// Durably records how an attempt ended and releases it. Returns the state that the record is
    /// left in, which decides the answer.
    fn end(
        &self,
        tx: Self::Tx,
        end: End,
    ) -> impl Future<Output = Result<State, Self::Error>> + Send;

    /// Reads the record of a fulfilment.
    fn get(
        &self,
        id: FulfilmentId,
    ) -> impl Future<Output = Result<Option<Record>, Self::Error>> + Send;

    /// Lists at most `limit` records that are not fulfilled: in doubt, failed, pending or started.
    /// The latest change comes first.
    fn open(&self, limit: usize) -> impl Future<Output = Result<Vec<Record>, Self::Error>> + Send;

    /// Resolves a doubt: the fulfilment took effect (`true`), or it did not and runs again at the
    /// next delivery (`false`). Returns `Ok(false)` if the fulfilment is not in doubt.
    fn resolve(
        &self,
        id: FulfilmentId,
        fulfilled: bool,
    ) -> impl Future<Output = Result<bool, Self::Error>> + Send;

    /// Forgets a fulfilment, so that it runs again at its next delivery: for an effect that was
    /// reversed on purpose. Returns `Ok(false)` if there is no record, or an attempt is running.
    fn forget(&self, id: FulfilmentId) -> impl Future<Output = Result<bool, Self::Error>> + Send;
}

/// Marks the `Tx` of a journal: it carries no effect, so any [`Fulfil`](crate::Fulfil) runs with it.
///
/// Implement it for the `Tx` of your own [`Store`], which has an example, only if that is a journal.
#[diagnostic::on_unimplemented(
    message = "a handler that implements `Fulfil` cannot run in the transaction `{Self}`",
    label = "use `PostgresJournal`, `RedbStore` or `MemoryStore`, or implement `FulfilIn<{Self}>`",
    note = "effects made elsewhere are not undone with this store's transaction"
)]
pub trait ExternalEffects {}
