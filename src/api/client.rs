use std::{
    error::Error as StdError,
    fmt,
    future::poll_fn,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body::Body;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use jiff::fmt::rfc2822;
use serde_json::Value;
use tokio::time::timeout;
use tower::Service;

use super::{Error, error::quote};
use crate::BoxError;

/// Where the documented API is.
const ORIGIN: &str = "https://firstpromoter.com";

const PAYOUTS: &str = "/api/v1/payouts";

/// The largest answer that is read.
const LARGEST_ANSWER: usize = 8 << 20;

/// The longest time for one request and its answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// A client of FirstPromoter's API for payouts, version 1.
///
/// Cheap to clone. Each request has 10 seconds, each answer at most 8 MiB.
/// [The module](super) has an example.
#[derive(Clone)]
pub struct Client {
    send: Arc<Exchange>,
    key: HeaderValue,
    base: Arc<str>,
}

/// The service, without its types.
type Exchange =
    dyn Fn(Request<Full<Bytes>>) -> BoxFuture<'static, Result<Answer, BoxError>> + Send + Sync;

/// An answer's head, and its body if that could be read.
type Answer = Response<Result<Bytes, BoxError>>;

impl Client {
    /// Creates a client that sends its requests through `service`, with the account's API key.
    ///
    /// The service is hyper-util's client or any other, alone or in tower's layers for retries and
    /// rate limits. tower's `Buffer` makes a service `Clone`.
    ///
    /// # Errors
    ///
    /// If the key is empty, begins or ends with white space, or cannot be a header's value.
    ///
    /// ```
    /// use tower_firstpromoter::api;
    /// # use bytes::Bytes; use http_body_util::Full; use std::convert::Infallible;
    /// # let http = tower::service_fn(async |_: http::Request<Full<Bytes>>| Ok::<_, Infallible>(http::Response::new(Full::<Bytes>::default())));
    ///
    /// let client = api::Client::new(http.clone(), "the-account's-api-key")?;
    /// assert!(!format!("{client:?}").contains("the-account"));
    /// assert!(api::Client::new(http, "two\nlines").is_err());
    /// # Ok::<(), api::InvalidClient>(())
    /// ```
    pub fn new<S, B>(service: S, key: &str) -> Result<Self, InvalidClient>
    where
        S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let mut value = HeaderValue::from_str(key).map_err(|_| InvalidClient::Key)?;
        // `to_str` refuses what is not visible ASCII; the quotes of errors rely on it.
        if key.is_empty() || key.trim() != key || value.to_str().is_err() {
            return Err(InvalidClient::Key);
        }
        value.set_sensitive(true);
        // A `Mutex` makes it `Sync`; it is held for the clone alone.
        let service = Mutex::new(service);
        let send = move |request| -> BoxFuture<'static, _> {
            let service = service.lock().unwrap_or_else(PoisonError::into_inner).clone();
            Box::pin(exchange(service, request))
        };
        Ok(Self { send: Arc::new(send), key: value, base: [ORIGIN, PAYOUTS].concat().into() })
    }

    /// Sets where the API is: a test's server, or a proxy. Default: `https://firstpromoter.com`.
    ///
    /// A path may precede `/api/v1`; `/api/v1` itself may be there or not.
    ///
    /// # Errors
    ///
    /// If it is not an `http` or `https` address, or has a user, a query or a fragment.
    ///
    /// ```
    /// # use tower_firstpromoter::api;
    /// # use bytes::Bytes; use http_body_util::Full; use std::convert::Infallible;
    /// # let http = tower::service_fn(async |_: http::Request<Full<Bytes>>| Ok::<_, Infallible>(http::Response::new(Full::<Bytes>::default())));
    /// # let client = api::Client::new(http, "key")?;
    /// let client = client.base_url("http://127.0.0.1:8080")?;
    /// assert!(client.base_url("127.0.0.1:8080").is_err());
    /// # Ok::<(), api::InvalidClient>(())
    /// ```
    pub fn base_url(mut self, url: &str) -> Result<Self, InvalidClient> {
        let uri = Uri::try_from(url).map_err(|_| InvalidClient::BaseUrl)?;
        let scheme = uri.scheme_str().filter(|scheme| matches!(*scheme, "http" | "https"));
        let host = uri.authority().filter(|host| !host.as_str().contains('@'));
        let (Some(scheme), Some(host), None) = (scheme, host, uri.query()) else {
            return Err(InvalidClient::BaseUrl);
        };
        if url.contains('#') {
            return Err(InvalidClient::BaseUrl);
        }
        let path = uri.path().trim_end_matches('/');
        let path = path.strip_suffix("/payouts").unwrap_or(path);
        let path = path.strip_suffix("/api/v1").unwrap_or(path);
        self.base = format!("{scheme}://{host}{path}{PAYOUTS}").into();
        Ok(self)
    }

    /// Sends one request, and returns the body of a successful answer.
    pub(super) async fn request(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Bytes, Error> {
        let request = self
            .build(method, path, query)
            .map_err(|error| Error::Unavailable(error.to_string()))?;
        let answer = match timeout(REQUEST_TIMEOUT, (self.send)(request)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(Error::Unavailable(self.chain(&*error))),
            Err(_) => return Err(Error::Unavailable("no answer in time".to_owned())),
        };
        let (head, body) = answer.into_parts();
        match head.status {
            status if status.is_success() => body.map_err(|error| self.unread(&*error)),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Error::Unauthorized),
            StatusCode::NOT_FOUND => Err(Error::NotFound),
            StatusCode::TOO_MANY_REQUESTS => {
                Err(Error::RateLimited { retry_after: retry_after(&head.headers) })
            }
            status if status.is_client_error() && status != StatusCode::REQUEST_TIMEOUT => {
                Err(Error::Rejected(self.quote(&reason(&body.unwrap_or_default(), status))))
            }
            status => Err(Error::Unavailable(format!("status {}", status.as_u16()))),
        }
    }

    fn build(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
    ) -> http::Result<Request<Full<Bytes>>> {
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
        Request::builder()
            .method(method)
            .uri(format!("{}{path}?{query}", self.base))
            .header("x-api-key", &self.key)
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, concat!("tower-firstpromoter/", env!("CARGO_PKG_VERSION")))
            .body(Full::default())
    }

    fn unread(&self, error: &(dyn StdError + 'static)) -> Error {
        if error.is::<LengthLimitError>() {
            return Error::Unreadable("it is over 8 MiB");
        }
        Error::Unavailable(self.chain(error))
    }

    /// The texts of an error and of its sources.
    fn chain(&self, error: &(dyn StdError + 'static)) -> String {
        let causes = std::iter::successors(Some(error), |&error| error.source()).take(8);
        let texts: Vec<_> = causes.map(ToString::to_string).collect();
        self.quote(&texts.join(": "))
    }

    fn quote(&self, text: &str) -> String {
        quote(text, self.key.to_str().unwrap_or_default())
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("base_url", &self.base).finish_non_exhaustive()
    }
}

/// Why a [`Client`] cannot be built. [`Client::new`] has an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidClient {
    /// The key is empty, has white space around it, or cannot be a header's value.
    #[error("an API key has no white space around it and can be a header's value")]
    Key,
    /// The base URL is not an `http` or `https` address, or has a user, a query or a fragment.
    #[error("a base URL is `http` or `https` with a host, without user, query and fragment")]
    BaseUrl,
}

async fn exchange<S, B>(mut service: S, request: Request<Full<Bytes>>) -> Result<Answer, BoxError>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    B: Body,
    B::Error: Into<BoxError>,
{
    poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into)?;
    let (head, body) = service.call(request).await.map_err(Into::into)?.into_parts();
    let body = Limited::new(body, LARGEST_ANSWER).collect().await;
    Ok(Response::from_parts(head, body.map(|body| body.to_bytes())))
}

/// What `Retry-After` says, as seconds or as a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    // A date that has passed is no time to wait.
    Some(SystemTime::from(date).duration_since(SystemTime::now()).unwrap_or_default())
}

/// The sender's reason: `{"error": ".."}`, or a bare string. Nothing else of a body is quoted.
fn reason(body: &[u8], status: StatusCode) -> String {
    let body = serde_json::from_slice(body).unwrap_or(Value::Null);
    let reason = body.get("error").or_else(|| body.get("message")).unwrap_or(&body);
    reason.as_str().map_or_else(|| format!("status {}", status.as_u16()), str::to_owned)
}
