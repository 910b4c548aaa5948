use std::future::{Future, poll_fn};

use tower::Service;

use super::{BoxError, Fulfil, Outcome};
use crate::event::Fulfilment;

/// Makes a handler of a tower service, so that tower's own layers can stand around it.
///
/// Each reward gets a clone of the service, which is called once it is ready.
///
/// Layers that hold back are welcome, such as limits. None may give up a call that has begun (a
/// time-out) or repeat it (a retry): its error would say that nothing was granted, when something may
/// have been. How long a sender waits is the matter of `Webhook::answer_within`.
///
/// ```
/// use std::convert::Infallible;
/// use tower::{ServiceBuilder, service_fn};
/// use tower_firstpromoter::{Access, Outcome, Webhook, event::Fulfilment, fulfil_service};
///
/// let grant = ServiceBuilder::new()
///     .concurrency_limit(4) // of the database behind it
///     .service(service_fn(async |_: Fulfilment| Ok::<_, Infallible>(Outcome::Fulfilled)));
/// let webhook = Webhook::new(fulfil_service(grant), Access::query("key", "at least sixteen bytes"));
/// ```
pub fn fulfil_service<S>(service: S) -> FulfilService<S>
where
    S: Service<Fulfilment, Response = Outcome> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::Error: Into<BoxError> + Send,
{
    FulfilService(service)
}

/// A tower service as a handler, made by [`fulfil_service`], where there is an example.
#[derive(Clone, Debug)]
pub struct FulfilService<S>(S);

impl<S> Fulfil for FulfilService<S>
where
    S: Service<Fulfilment, Response = Outcome> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::Error: Into<BoxError> + Send,
{
    type Error = S::Error;

    fn fulfil(
        &self,
        fulfilment: Fulfilment,
    ) -> impl Future<Output = Result<Outcome, S::Error>> + Send {
        let mut service = self.0.clone();
        async move {
            // A clone carries no readiness, so it is this very one that is made ready and called.
            poll_fn(|cx| service.poll_ready(cx)).await?;
            service.call(fulfilment).await
        }
    }
}
