use std::{fmt, future::Future, pin::Pin, sync::Arc};

use super::{BoxError, Fulfil, Outcome};
use crate::event::Fulfilment;

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send + 'a>>;

/// A handler whose type is not known until run time. Cheap to clone.
///
/// ```
/// use std::convert::Infallible;
/// use tower_firstpromoter::{BoxFulfil, Outcome, event::Fulfilment, fulfil_fn};
///
/// let dry_run = true;
/// let handler = if dry_run {
///     BoxFulfil::new(fulfil_fn(async |_: Fulfilment| Ok::<_, Infallible>(Outcome::Pending)))
/// } else {
///     BoxFulfil::new(fulfil_fn(async |_: Fulfilment| Ok::<_, Infallible>(Outcome::Fulfilled)))
/// };
/// # let _ = handler;
/// ```
#[derive(Clone)]
pub struct BoxFulfil(Arc<dyn DynFulfil>);

impl BoxFulfil {
    /// Forgets the handler's type.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use tower_firstpromoter::{BoxFulfil, Outcome, event::Fulfilment, fulfil_fn};
    /// let handler: BoxFulfil =
    ///     BoxFulfil::new(fulfil_fn(async |_: Fulfilment| Ok::<_, Infallible>(Outcome::Pending)));
    /// ```
    pub fn new(handler: impl Fulfil) -> Self {
        Self(Arc::new(handler))
    }
}

impl Fulfil for BoxFulfil {
    type Error = BoxError;

    fn fulfil(
        &self,
        fulfilment: Fulfilment,
    ) -> impl Future<Output = Result<Outcome, BoxError>> + Send {
        self.0.fulfil(fulfilment)
    }

    async fn was_granted(&self, fulfilment: &Fulfilment) -> Result<Option<bool>, BoxError> {
        self.0.was_granted(fulfilment).await
    }
}

impl fmt::Debug for BoxFulfil {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BoxFulfil(..)")
    }
}

trait DynFulfil: Send + Sync {
    fn fulfil(&self, fulfilment: Fulfilment) -> BoxFuture<'_, Outcome>;
    fn was_granted<'a>(&'a self, fulfilment: &'a Fulfilment) -> BoxFuture<'a, Option<bool>>;
}

impl<F: Fulfil> DynFulfil for F {
    fn fulfil(&self, fulfilment: Fulfilment) -> BoxFuture<'_, Outcome> {
        Box::pin(async { Fulfil::fulfil(self, fulfilment).await.map_err(Into::into) })
    }

    fn was_granted<'a>(&'a self, fulfilment: &'a Fulfilment) -> BoxFuture<'a, Option<bool>> {
        Box::pin(async { Fulfil::was_granted(self, fulfilment).await.map_err(Into::into) })
    }
}
