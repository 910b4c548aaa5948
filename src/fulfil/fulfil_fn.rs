use std::{any::type_name, fmt, future::Future};

use super::{Fulfil, Outcome};
use crate::{BoxError, event::Fulfilment};

/// Creates a handler from an async closure.
///
/// A closure that captures something clones it for each call, since `async move |f|` is not `Fn`:
/// `move |f| { let db = db.clone(); async move { .. } }`.
///
/// ```
/// use tower_firstpromoter::{Outcome, event::Fulfilment, fulfil_fn};
/// # async fn credit(_: &str) -> std::io::Result<()> { Ok(()) }
///
/// let handler = fulfil_fn(async |fulfilment: Fulfilment| {
///     credit(&fulfilment.idempotency_key()).await?; // does nothing the second time
///     Ok::<_, std::io::Error>(Outcome::Fulfilled)
/// })
/// .idempotent();
/// # let _ = handler;
/// ```
pub fn fulfil_fn<C, Fut, E>(closure: C) -> FulfilFn<C>
where
    C: Fn(Fulfilment) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Outcome, E>> + Send,
    E: Into<BoxError>,
{
    FulfilFn { closure, idempotent: false }
}

/// A handler made from a closure. Created by [`fulfil_fn`], which has an example.
#[derive(Clone, Copy)]
pub struct FulfilFn<C> {
    closure: C,
    idempotent: bool,
}

impl<C> FulfilFn<C> {
    /// Declares that a second call for the same fulfilment has no further effect, because the
    /// closure ensures it (by [`idempotency_key`](Fulfilment::idempotency_key), or a unique index).
    /// A fulfilment in doubt then runs again. See [`fulfil_fn`] for an example.
    #[must_use]
    pub fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }
}

impl<C, Fut, E> Fulfil for FulfilFn<C>
where
    C: Fn(Fulfilment) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Outcome, E>> + Send,
    E: Into<BoxError>,
{
    type Error = E;

    fn fulfil(&self, fulfilment: Fulfilment) -> impl Future<Output = Result<Outcome, E>> + Send {
        (self.closure)(fulfilment)
    }

    async fn was_fulfilled(&self, _: &Fulfilment) -> Result<Option<bool>, E> {
        Ok(self.idempotent.then_some(false))
    }
}

impl<C> fmt::Debug for FulfilFn<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FulfilFn")
            .field("closure", &type_name::<C>())
            .field("idempotent", &self.idempotent)
            .finish()
    }
}
