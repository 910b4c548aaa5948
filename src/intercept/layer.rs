use bytes::Bytes;
use tower::Layer;

use super::{Intercept, Pass, Refuse, path::Path};
use crate::webhook::Webhook;

/// Answers the requests to one path with a [`Webhook`]. Created by [`Webhook::at`], which has an
/// example.
///
/// It must be outside whatever could answer in its place, such as a body limit, a redirect or a
/// login, and see the path as it comes over the wire.
#[derive(Clone, Debug)]
#[must_use]
pub struct InterceptLayer<P = Refuse> {
    webhook: Webhook,
    path: Path,
    other_events: P,
}

impl Webhook {
    /// Creates a layer that answers requests to `path` with this webhook and passes all others to the
    /// inner service, untouched.
    ///
    /// The path is compared byte for byte with the request's; one slash at the end of either makes no
    /// difference, because a redirect would be an error to FirstPromoter. With
    /// [`Access::secret_path`](crate::Access::secret_path) it is the path above the secret.
    ///
    /// # Panics
    ///
    /// If `path` can never match: it must start with `/`, be written as it comes over the wire
    /// (percent-encoded, without `.`, `..` and `//`), and have no query, no wildcard and no
    /// parameter. With a secret path also if it is `/`, below which every path of one segment would
    /// match.
    ///
    /// ```
    /// use tower::{Layer, ServiceExt, service_fn};
    /// # use std::convert::Infallible;
    /// # use tower_firstpromoter::{Access, Outcome, Webhook, event::Fulfilment, fulfil_fn, store::MemoryStore};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let handler = fulfil_fn(async |_: Fulfilment| Ok::<_, Infallible>(Outcome::Fulfilled));
    /// # let webhook = Webhook::new(handler, MemoryStore::new(10), Access::query("key", "at least sixteen bytes")?);
    ///
    /// let app = service_fn(async |_| Ok::<_, Infallible>(http::Response::new("Hello".to_owned())));
    /// let app = webhook.at("/webhooks/firstpromoter").layer(app);
    ///
    /// let home = http::Request::get("/").body(String::new())?;
    /// assert_eq!(app.clone().oneshot(home).await?.status(), 200);
    /// let stranger = http::Request::post("/webhooks/firstpromoter").body(String::new())?;
    /// assert_eq!(app.oneshot(stranger).await?.status(), 401);
    /// # Ok(()) }
    /// ```
    #[track_caller]
    pub fn at(self, path: &str) -> InterceptLayer {
        let path = Path::new(path, self.has_secret_path());
        InterceptLayer { webhook: self, path, other_events: Refuse }
    }
}

impl InterceptLayer {
    /// Passes events of other types on to the inner service instead of refusing them with `422`, for a
    /// URL at which all of FirstPromoter's events arrive.
    ///
    /// Only authorized requests are passed on, with their headers unchanged; `body` turns the bytes
    /// of the body into the inner service's body type. The inner service is held ready while a
    /// delivery is read and handled, which counts against a concurrency limit in it.
    ///
    /// ```
    /// use axum::{Router, body::Body, routing::post};
    /// # use tower_firstpromoter::{Access, Outcome, Webhook, event::Fulfilment, fulfil_fn, store::MemoryStore};
    /// # let handler = fulfil_fn(async |_: Fulfilment| Ok::<_, std::convert::Infallible>(Outcome::Fulfilled));
    /// # let webhook = Webhook::new(handler, MemoryStore::new(10), Access::query("key", "at least sixteen bytes")?);
    /// # async fn other_events() {}
    ///
    /// let app: Router = Router::new()
    ///     .route("/webhooks/firstpromoter", post(other_events))
    ///     .layer(webhook.at("/webhooks/firstpromoter").pass_other_events(Body::from));
    /// # Ok::<(), tower_firstpromoter::InvalidAccess>(())
    /// ```
    pub fn pass_other_events<B>(self, body: fn(Bytes) -> B) -> InterceptLayer<Pass<B>> {
        let Self { webhook, path, .. } = self;
        InterceptLayer { webhook, path, other_events: Pass(body) }
    }
}

impl<S, P: Clone> Layer<S> for InterceptLayer<P> {
    type Service = Intercept<S, P>;

    fn layer(&self, inner: S) -> Intercept<S, P> {
        let Self { webhook, path, other_events } = self.clone();
        Intercept { inner, webhook, path, other_events }
    }
}
