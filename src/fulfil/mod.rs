//! Your handler: one trait, and the forms it can take.
//!
//! | you have | use |
//! |---|---|
//! | a type of your own | [`impl Fulfil`](Fulfil) |
//! | a closure | [`fulfil_fn`] |
//! | a tower service | [`fulfil_service`] |
//! | one of several types, chosen at run time | [`BoxFulfil`] |
//! | a database that also keeps the record | [`FulfilIn`] |

mod boxed;
mod func;
mod service;

use std::{future::Future, sync::Arc};

use crate::event::Fulfilment;

pub use self::{
    boxed::BoxFulfil,
    func::{FulfilFn, fulfil_fn},
    service::{FulfilService, fulfil_service},
};

/// Any error, as handlers and stores report it.
///
/// ```
/// use tower_firstpromoter::{BoxError, Outcome, event::Fulfilment, fulfil_fn};
///
/// let handler = fulfil_fn(async |fulfilment: Fulfilment| {
///     let months = fulfilment.amount.whole().ok_or("half a month")?;
///     u8::try_from(months)?;
///     Ok::<_, BoxError>(Outcome::Fulfilled)
/// });
/// # let _ = handler;
/// ```
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What a handler did with a reward.
///
/// ```
/// use tower_firstpromoter::{Outcome, event::Unit};
///
/// fn answer(unit: &Unit) -> Outcome {
///     match unit {
///         Unit::Credits => Outcome::Fulfilled, // after the credits are in the database
///         _ => Outcome::Pending,
///     }
/// }
/// # assert_eq!(answer(&Unit::Cash), Outcome::Pending);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub enum Outcome {
    /// The reward is granted, durably. Answered with `200`, and never asked again.
    Fulfilled,
    /// It is not granted, and that is no error: a unit this application does not grant, a grant
    /// that a person or a job finishes later. Answered with `202`; the reward stays pending.
    Pending,
}

/// Grants rewards.
///
/// ```
/// use tower_firstpromoter::{Fulfil, Outcome, event::{Fulfilment, Unit}};
/// # struct Db;
/// # impl Db { async fn add_months(&self, _: &str, _: u64) -> Result<(), std::io::Error> { Ok(()) } }
///
/// struct FreeMonths { db: Db }
///
/// impl Fulfil for FreeMonths {
///     type Error = std::io::Error;
///
///     async fn fulfil(&self, fulfilment: Fulfilment) -> Result<Outcome, Self::Error> {
///         match (&fulfilment.unit, fulfilment.amount.whole(), &fulfilment.promoter.cust_id) {
///             (Unit::FreeMonths, Some(months @ 1..), Some(user)) => {
///                 self.db.add_months(user, months).await?;
///                 Ok(Outcome::Fulfilled)
///             }
///             _ => Ok(Outcome::Pending),
///         }
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot grant rewards",
    label = "this handler does not implement `Fulfil`",
    note = "implement `Fulfil` for it, wrap a closure in `fulfil_fn` or a tower service in `fulfil_service`",
    note = "a handler that implements `FulfilIn<Tx>` needs `.once(store)`, with the store whose transaction it takes"
)]
pub trait Fulfil: Send + Sync + 'static {
    /// What went wrong. The first 300 characters of its text go to the store and the log as they
    /// are, so it should quote nothing secret or personal.
    type Error: Into<BoxError>;

    /// Grants one reward. See [`Fulfil`] for an example.
    ///
    /// # Errors
    ///
    /// An error says that **nothing was granted and another call is right**. It is answered with
    /// `500`, and FirstPromoter sends the reward again.
    ///
    /// # Panics
    ///
    /// A panic is caught and answered with `500`. What it had done by then is unknown, so a store
    /// holds the reward in doubt, and [`was_granted`](Fulfil::was_granted) is asked.
    ///
    /// # Cancel safety
    ///
    /// Without a store the future is dropped when the sender hangs up. With
    /// [`Webhook::once`](crate::Webhook) it runs in a task of its own, to its end.
    fn fulfil(
        &self,
        fulfilment: Fulfilment,
    ) -> impl Future<Output = Result<Outcome, Self::Error>> + Send;

    /// Whether this reward was granted by an attempt that never ended: the process was killed, or
    /// the handler panicked.
    ///
    /// Asked only then. `Some(true)` is recorded and answered with `200`, `Some(false)` calls
    /// [`fulfil`](Fulfil::fulfil) again, and `None`, the default, is answered with `500` until an
    /// operator settles it: a reward in doubt is never granted blindly.
    ///
    /// ```
    /// use tower_firstpromoter::{Fulfil, Outcome, event::Fulfilment};
    /// # struct Db;
    /// # impl Db {
    /// #     async fn add(&self, _: &str) -> Result<(), std::io::Error> { Ok(()) }
    /// #     async fn has(&self, _: &str) -> Result<bool, std::io::Error> { Ok(true) }
    /// # }
    ///
    /// struct Rewards { db: Db }
    ///
    /// impl Fulfil for Rewards {
    ///     type Error = std::io::Error;
    ///
    ///     async fn fulfil(&self, fulfilment: Fulfilment) -> Result<Outcome, Self::Error> {
    ///         self.db.add(&fulfilment.idempotency_key()).await?;
    ///         Ok(Outcome::Fulfilled)
    ///     }
    ///
    ///     async fn was_granted(&self, fulfilment: &Fulfilment) -> Result<Option<bool>, Self::Error> {
    ///         Ok(Some(self.db.has(&fulfilment.idempotency_key()).await?))
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As good as `None`.
    fn was_granted(
        &self,
        fulfilment: &Fulfilment,
    ) -> impl Future<Output = Result<Option<bool>, Self::Error>> + Send {
        let _ = fulfilment;
        async { Ok(None) }
    }
}

impl<F: Fulfil> Fulfil for Arc<F> {
    type Error = F::Error;

    fn fulfil(
        &self,
        fulfilment: Fulfilment,
    ) -> impl Future<Output = Result<Outcome, Self::Error>> + Send {
        F::fulfil(self, fulfilment)
    }

    fn was_granted(
        &self,
        fulfilment: &Fulfilment,
    ) -> impl Future<Output = Result<Option<bool>, Self::Error>> + Send {
        F::was_granted(self, fulfilment)
    }
}

/// Grants rewards inside the store's own transaction.
///
/// What the handler writes through `tx` and the record that the reward is granted commit together
/// or not at all, so that nothing can come between them. `Tx` is the
/// store's: `PostgresTx`, `SqliteTx`.
///
/// Every [`Fulfil`] is a `FulfilIn` of any transaction that leaves it alone. Calls to others, such
/// as Stripe, are outside the transaction here as well: give them
/// [`Fulfilment::idempotency_key`].
///
/// ```
/// use tower_firstpromoter::{FulfilIn, Outcome, event::Fulfilment};
/// # struct Tx(Vec<u64>);
///
/// struct Credits;
///
/// impl FulfilIn<Tx> for Credits {
///     type Error = std::convert::Infallible;
///
///     async fn fulfil_in(&self, fulfilment: Fulfilment, tx: &mut Tx) -> Result<Outcome, Self::Error> {
///         tx.0.push(fulfilment.id.get()); // an `INSERT` or `UPDATE` of the application's own tables
///         Ok(Outcome::Fulfilled)
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot grant rewards with this store",
    label = "implements neither `Fulfil` nor `FulfilIn` for the store's transaction",
    note = "implement `Fulfil` for it, wrap a closure in `fulfil_fn` or a tower service in `fulfil_service`",
    note = "or implement `FulfilIn<Tx>`, where `Tx` is what the store's `Store::Tx` says"
)]
pub trait FulfilIn<Tx>: Send + Sync + 'static {
    /// What went wrong, as in [`Fulfil::Error`].
    type Error: Into<BoxError>;

    /// Whether the grant is made through `tx` and so undone with it. Wrong for a plain [`Fulfil`],
    /// whose effects are elsewhere.
    #[doc(hidden)]
    const IN_TX: bool = true;

    /// Grants one reward, as [`Fulfil::fulfil`] does. See [`FulfilIn`] for an example.
    ///
    /// # Errors
    ///
    /// What was written through `tx` is undone.
    ///
    /// # Panics
    ///
    /// Caught, and answered with `500`. What was written through `tx` is undone, and where the store
    /// cannot (`Store::UNDOES`), the reward is in doubt.
    ///
    /// # Cancel safety
    ///
    /// Never cancelled: it runs in a task of its own.
    fn fulfil_in(
        &self,
        fulfilment: Fulfilment,
        tx: &mut Tx,
    ) -> impl Future<Output = Result<Outcome, Self::Error>> + Send;

    /// As [`Fulfil::was_granted`], where there is an example. A store that undoes asks only about
    /// doubts of before, when the handler was a plain [`Fulfil`].
    ///
    /// # Errors
    ///
    /// As good as `None`.
    fn was_granted(
        &self,
        fulfilment: &Fulfilment,
    ) -> impl Future<Output = Result<Option<bool>, Self::Error>> + Send {
        let _ = fulfilment;
        async { Ok(None) }
    }
}

impl<F: Fulfil, Tx: Send> FulfilIn<Tx> for F {
    type Error = F::Error;

    const IN_TX: bool = false;

    fn fulfil_in(
        &self,
        fulfilment: Fulfilment,
        _: &mut Tx,
    ) -> impl Future<Output = Result<Outcome, Self::Error>> + Send {
        self.fulfil(fulfilment)
    }

    fn was_granted(
        &self,
        fulfilment: &Fulfilment,
    ) -> impl Future<Output = Result<Option<bool>, Self::Error>> + Send {
        Fulfil::was_granted(self, fulfilment)
    }
}
