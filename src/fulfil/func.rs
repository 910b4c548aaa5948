use std::{fmt, future::Future};

use super::{BoxError, Fulfil, Outcome};
use crate::event::Fulfilment;

/// Makes a handler of an async closure.
///
/// ```
/// use std::convert::Infallible;
/// use tower_firstpromoter::{Access, Outcome, Webhook, event::Fulfilment, fulfil_fn};
///
/// let handler = fulfil_fn(|fulfilment: Fulfilment| async move {
///     println!("{} {}", fulfilment.amount, fulfilment.unit);
///     Ok::<_, Infallible>(Outcome::Pending)
/// });
/// let webhook = Webhook::new(handler, Access::query("key", "at least sixteen bytes"));
/// ```
pub fn fulfil_fn<C, Fut, E>(closure: C) -> FulfilFn<C>
where
    C: Fn(Fulfilment) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Outcome, E>> + Send,
    E: Into<BoxError>,
{
    FulfilFn(closure)
}

/// A closure as a handler, made by [`fulfil_fn`], where there is an example.
#[derive(Clone, Copy)]
pub struct FulfilFn<C>(C);

impl<C, Fut, E> Fulfil for FulfilFn<C>
where
    C: Fn(Fulfilment) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Outcome, E>> + Send,
    E: Into<BoxError>,
{
    type Error = E;

    fn fulfil(&self, fulfilment: Fulfilment) -> impl Future<Output = Result<Outcome, E>> + Send {
        (self.0)(fulfilment)
    }
}

impl<C> fmt::Debug for FulfilFn<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FulfilFn").field(&std::any::type_name::<C>()).finish()
    }
}
