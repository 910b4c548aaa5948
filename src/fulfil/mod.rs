//! The handler, and the attempts that run it.

mod attempt;
mod fulfil_fn;
mod in_flight;

use std::{future::Future, sync::Arc, time::Duration};

use futures::future::BoxFuture;

use crate::{BoxError, event::Fulfilment, observe::Observers, store::ExternalEffects};

pub use self::fulfil_fn::{FulfilFn, fulfil_fn};
pub(crate) use self::in_flight::{Attempts, Ended, InFlight, Listener};

/// What a handler did with a fulfilment. [`Fulfil`] has an example.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub enum Outcome {
    /// It is fulfilled, durably. Answered with `200`; the handler is never called for it again.
    Fulfilled,
    /// It is not fulfilled, and that is no error: a unit this application does not deliver, or one
    /// that a person or a job delivers later. Answered with `202`; FirstPromoter keeps it pending.
    Pending,
    /// Whether it took effect is not known, with the reason: a call to another service timed out.
    ///
    /// Answered with `500`. The handler is called again only after
    /// [`was_fulfilled`](Fulfil::was_fulfilled) or an operator said that nothing took effect. Writes
    /// through a [`FulfilIn`]'s transaction are undone. At most 300 characters of the reason go to the
    /// log and the record as they are.
    InDoubt(String),
}

/// Handles fulfilments whose effect is outside the store.
///
/// ```
/// use tower_firstpromoter::{Fulfil, Outcome, event::{Fulfilment, Unit}};
/// # struct Db;
/// # impl Db {
/// #     async fn add_months(&self, _: &str, _: u64, _: &str) -> Result<(), std::io::Error> { Ok(()) }
/// #     async fn has(&self, _: &str) -> Result<bool, std::io::Error> { Ok(true) }
/// # }
///
/// struct FreeMonths { db: Db }
///
/// impl Fulfil for FreeMonths {
///     type Error = std::io::Error;
///
///     async fn fulfil(&self, fulfilment: Fulfilment) -> Result<Outcome, Self::Error> {
///         match (&fulfilment.unit, fulfilment.amount.whole(), &fulfilment.promoter.cust_id) {
///             (Unit::FreeMonths, Some(months @ 1..), Some(user)) => {
///                 self.db.add_months(user, months, &fulfilment.idempotency_key()).await?;
///                 Ok(Outcome::Fulfilled)
///             }
///             _ => Ok(Outcome::Pending),
///         }
///     }
///
///     async fn was_fulfilled(&self, fulfilment: &Fulfilment) -> Result<Option<bool>, Self::Error> {
///         Ok(Some(self.db.has(&fulfilment.idempotency_key()).await?))
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler",
    label = "implement `Fulfil` for it, or wrap a closure in `fulfil_fn`",
    note = "a handler that implements `FulfilIn<Tx>` needs the store whose transaction it takes"
)]
pub trait Fulfil: Send + Sync + 'static {
    /// The handler's error.
    ///
    /// **Its text goes to the log and the record as it is**, at most 300 characters of it, so keep
    /// secrets and personal data out of it.
    type Error: Into<BoxError>;

    /// Handles one fulfilment. See [`Fulfil`] for an example.
    ///
    /// # Errors
    ///
    /// An error says that **nothing took effect and another call is right**. It is answered with `500`,
    /// and FirstPromoter sends the fulfilment again. Where that is not certain, return
    /// [`Outcome::InDoubt`].
    ///
    /// # Panics
    ///
    /// A panic is caught and answered with `500`; the fulfilment is in doubt.
    ///
    /// # Cancel safety
    ///
    /// The future runs in a task of its own, whatever the sender does. It is dropped after
    /// [`Webhook::attempt_within`](crate::Webhook::attempt_within); the fulfilment is then in doubt.
    fn fulfil(
        &self,
        fulfilment: Fulfilment,
    ) -> impl Future<Output = Result<Outcome, Self::Error>> + Send;

    /// Tells whether an earlier attempt of a fulfilment in doubt took effect.
    ///
    /// Called at the next delivery. `Some(true)` is recorded and answered with `200`; `Some(false)`
    /// calls [`fulfil`](Fulfil::fulfil) again; `None`, the default, is answered with `500` until an
    /// operator [resolves](crate::store::Store::resolve) the doubt. A handler that is idempotent
    /// returns `Some(false)`. See [`Fulfil`] for an example.
    ///
    /// # Errors
    ///
    /// Treated as `None`.
    fn was_fulfilled(
        &self,
        fulfilment: &Fulfilment,
    ) -> impl Future<Output = Result<Option<bool>, Self::Error>> + Send {
        let _ = fulfilment;
        async { Ok(None) }
    }
}

/// Handles fulfilments in the store's own transaction.
///
/// What the handler writes through `tx` and the record commit together or not at all. **They commit
/// for [`Outcome::Pending`] as well**; return an error to undo them. `Tx` is the store's:
/// `PostgresTx`, `SqliteTx`.
///
/// Calls to other services are outside the transaction: give them [`Fulfilment::idempotency_key`],
/// and return [`Outcome::InDoubt`] where one timed out. After a panic the handler runs again, and
/// makes such a call again.
///
/// Every [`Fulfil`] is a `FulfilIn` of a journal's `Tx`, which carries no effect.
///
/// ```
/// use tower_firstpromoter::{BoxError, FulfilIn, Outcome, event::Fulfilment};
/// # struct Tx(Vec<u64>);
///
/// struct Credits;
///
/// impl FulfilIn<Tx> for Credits {
///     type Error = BoxError;
///
///     async fn fulfil_in(&self, fulfilment: Fulfilment, tx: &mut Tx) -> Result<Outcome, BoxError> {
///         let credits = fulfilment.amount.whole().ok_or("half a credit")?;
///         tx.0.push(credits); // an `INSERT` or `UPDATE` of the application's own tables
///         Ok(Outcome::Fulfilled)
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler for this store",
    label = "implement `Fulfil` for it, or `FulfilIn` for a transactional store; `fulfil_fn` wraps closures",
    note = "`Fulfil` is for `RedbStore`, `PostgresJournal` and `MemoryStore`",
    note = "for `PostgresStore` or `SqliteStore`, implement `FulfilIn<PostgresTx>` or `FulfilIn<SqliteTx>`"
)]
pub trait FulfilIn<Tx>: Send + Sync + 'static {
    /// The handler's error, as [`Fulfil::Error`].
    type Error: Into<BoxError>;

    /// Handles one fulfilment, as [`Fulfil::fulfil`] does. See [`FulfilIn`] for an example.
    ///
    /// # Errors
    ///
    /// What was written through `tx` is undone, as it is after a panic, which is caught, and after
    /// [`Webhook::attempt_within`](crate::Webhook::attempt_within), when the future is dropped. The
    /// answer is `500`.
    fn fulfil_in(
        &self,
        fulfilment: Fulfilment,
        tx: &mut Tx,
    ) -> impl Future<Output = Result<Outcome, Self::Error>> + Send;

    /// Tells whether an earlier attempt took effect. See [`Fulfil::was_fulfilled`] for an example.
    /// Called after [`Outcome::InDoubt`], while the transaction is open: a pool of one connection
    /// has none left for it.
    ///
    /// # Errors
    ///
    /// Treated as `None`.
    fn was_fulfilled(
        &self,
        fulfilment: &Fulfilment,
    ) -> impl Future<Output = Result<Option<bool>, Self::Error>> + Send {
        let _ = fulfilment;
        async { Ok(None) }
    }
}

impl<F: Fulfil, Tx: ExternalEffects + Send> FulfilIn<Tx> for F {
    type Error = F::Error;

    async fn fulfil_in(&self, fulfilment: Fulfilment, _: &mut Tx) -> Result<Outcome, F::Error> {
        self.fulfil(fulfilment).await
    }

    async fn was_fulfilled(&self, fulfilment: &Fulfilment) -> Result<Option<bool>, F::Error> {
        Fulfil::was_fulfilled(self, fulfilment).await
    }
}

/// Confirms a fulfilment before the handler runs.
#[cfg_attr(not(feature = "api"), allow(dead_code))]
pub(crate) trait Confirm: Send + Sync + 'static {
    /// Returns the reason if the fulfilment is not confirmed.
    fn confirm<'a>(&'a self, fulfilment: &'a Fulfilment) -> BoxFuture<'a, Result<(), String>>;
}

/// What an attempt is run with.
#[derive(Clone)]
pub(crate) struct AttemptSettings {
    pub(crate) attempt_within: Duration,
    pub(crate) confirm: Option<Arc<dyn Confirm>>,
    pub(crate) observers: Observers,
}
