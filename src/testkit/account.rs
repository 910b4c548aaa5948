use std::{
    collections::BTreeMap,
    convert::Infallible,
    fmt,
    future::{Ready, ready},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::time::Instant;
use tower::Service;

use super::Payload;
use crate::event::FulfilmentId;

const PER_PAGE: usize = 50;

const MINUTE: Duration = Duration::from_secs(60);

/// Simulates an account's API for payouts, as far as its protocol is known: a tower service for
/// [`api::Client::new`](crate::api::Client::new), with pages of 50.
///
/// [`FirstPromoter::account`](super::FirstPromoter::account) holds what that sends: pending until
/// one of its deliveries is answered `200`, or until it is completed here. Clones are one account.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tower_firstpromoter::{api, testkit::{Account, Payload}};
///
/// let account = Account::new();
/// account.add(&Payload::new(1));
/// account.add(&Payload::new(2).unit("cash"));
///
/// let client = api::Client::new(account.clone(), "any key")?;
/// let payouts = client.pending().await?.payouts; // the youngest first
/// client.complete(&payouts[1]).await?;
/// assert_eq!((account.completed(), account.pending()), (vec![1.into()], vec![2.into()]));
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
pub struct Account(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    payouts: BTreeMap<u64, Value>,
    /// The ids of updates, in the order in which they were answered.
    updates: Vec<FulfilmentId>,
    calls: u64,
    fail_every: Option<u64>,
    per_minute: Option<u32>,
    /// The start of the minute that is counted, and the calls in it.
    minute: Option<(Instant, u32)>,
}

impl Account {
    /// Creates an account that holds nothing. See [`Account`] for an example.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a payout, pending or what `data.status` of the payload says. One that is there already
    /// stays as it is.
    ///
    /// # Panics
    ///
    /// If the payload is raw, or its `data` is not an object.
    #[track_caller]
    pub fn add(&self, payload: &Payload) {
        let mut data = payload.get("/data").cloned().unwrap_or_default();
        assert!(data.is_object(), "a payout is an object in `data`");
        for name in ["promoter", "campaign"] {
            if let Some(object) = data.get_mut(name).and_then(Value::as_object_mut) {
                object.retain(|name, _| !is_left_out(name));
            }
        }
        self.state().payouts.entry(payload.id()).or_insert(data);
    }

    /// Answers every `n`-th call with `500`.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use tower_firstpromoter::{api, testkit::Account};
    ///
    /// let client = api::Client::new(Account::new().fail_every(2), "any key")?;
    /// assert!(client.pending().await.is_ok());
    /// assert!(matches!(client.pending().await, Err(api::Error::Unavailable(_))));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn fail_every(self, n: u64) -> Self {
        self.state().fail_every = Some(n);
        self
    }

    /// Answers more calls in a minute with `429` and a `Retry-After`.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use tower_firstpromoter::{api, testkit::Account};
    ///
    /// let client = api::Client::new(Account::new().rate_limit(1), "any key")?;
    /// assert!(client.pending().await.is_ok());
    /// let Err(api::Error::RateLimited { retry_after: Some(wait) }) = client.pending().await else { panic!() };
    /// tokio::time::sleep(wait).await;
    /// assert!(client.pending().await.is_ok());
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn rate_limit(self, per_minute: u32) -> Self {
        self.state().per_minute = Some(per_minute);
        self
    }

    /// Lists what is pending, the youngest id last. See [`completed`](Account::completed).
    pub fn pending(&self) -> Vec<FulfilmentId> {
        self.with_status("pending")
    }

    /// Lists what is completed, by an answer of `200` or by an update. See [`Account`] for an
    /// example.
    pub fn completed(&self) -> Vec<FulfilmentId> {
        self.with_status("completed")
    }

    /// Lists the updates that were answered `200`, in their order: an id that occurs twice was
    /// completed twice.
    pub fn updates(&self) -> Vec<FulfilmentId> {
        self.state().updates.clone()
    }

    /// Counts the calls so far.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    pub(super) fn is_completed(&self, id: u64) -> bool {
        self.state().payouts.get(&id).is_some_and(|payout| payout["status"] == "completed")
    }

    /// Sets a member of a payout.
    pub(super) fn set(&self, id: u64, name: &str, value: impl Into<Value>) {
        if let Some(payout) = self.state().payouts.get_mut(&id) {
            payout[name] = value.into();
        }
    }

    fn with_status(&self, status: &str) -> Vec<FulfilmentId> {
        let state = self.state();
        let found = state.payouts.iter().filter(|(_, payout)| payout["status"] == status);
        found.map(|(id, _)| FulfilmentId::from(*id)).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn answer<B>(&mut self, request: &Request<B>) -> Response<Full<Bytes>> {
        self.calls += 1;
        if self.fail_every.is_some_and(|n| self.calls % n == 0) {
            return error(StatusCode::INTERNAL_SERVER_ERROR, "We are sorry");
        }
        if let Some(wait) = self.over_limit() {
            let mut answer = error(StatusCode::TOO_MANY_REQUESTS, "Too many requests");
            answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait));
            return answer;
        }
        if request.headers().get("x-api-key").is_none_or(|key| key.is_empty()) {
            return reply(StatusCode::UNAUTHORIZED, &json!("Unauthorized"));
        }
        let query = request.uri().query().unwrap_or_default();
        let query: BTreeMap<_, _> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let status = query.get("status").map(String::as_str);
        if !matches!(status, None | Some("pending" | "processing" | "completed")) {
            return error(StatusCode::UNPROCESSABLE_ENTITY, "Unknown status");
        }
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/api/v1/payouts/list") => self.list(&query, status),
            (&Method::PUT, "/api/v1/payouts/update") => self.update(query.get("id"), status),
            _ => error(StatusCode::NOT_FOUND, "Not found"),
        }
    }

    fn list(
        &self,
        query: &BTreeMap<String, String>,
        status: Option<&str>,
    ) -> Response<Full<Bytes>> {
        let page = query.get("page").and_then(|page| page.parse().ok()).unwrap_or(1_usize).max(1);
        let promoter = query.get("promoter_id").map(|id| id.parse().ok());
        // The youngest first.
        let found = self.payouts.values().rev().filter(|payout| {
            status.is_none_or(|status| payout["status"] == status)
                && promoter.is_none_or(|id: Option<u64>| payout["promoter"]["id"].as_u64() == id)
        });
        let found: Vec<_> = found.skip((page - 1) * PER_PAGE).take(PER_PAGE).collect();
        reply(StatusCode::OK, &json!(found))
    }

    fn update(&mut self, id: Option<&String>, status: Option<&str>) -> Response<Full<Bytes>> {
        let Some(id) = id else {
            let problem = "You need to find the payout by id.";
            return error(StatusCode::UNPROCESSABLE_ENTITY, problem);
        };
        let Some((id, payout)) =
            id.parse().ok().and_then(|id| Some((id, self.payouts.get_mut(&id)?)))
        else {
            return error(StatusCode::NOT_FOUND, "Payment not found");
        };
        if let Some(status) = status {
            payout["status"] = status.into();
        }
        self.updates.push(FulfilmentId::from(id));
        reply(StatusCode::OK, payout)
    }

    /// The seconds to wait, if this call is one too many.
    fn over_limit(&mut self) -> Option<u64> {
        let per_minute = self.per_minute?;
        let (start, calls) = match self.minute {
            Some((start, calls)) if start.elapsed() < MINUTE => (start, calls),
            _ => (Instant::now(), 0),
        };
        self.minute = Some((start, calls.saturating_add(1)));
        (calls >= per_minute).then(|| (MINUTE - start.elapsed()).as_secs() + 1)
    }
}

/// What the API leaves out of the objects that a delivery has in full.
fn is_left_out(name: &str) -> bool {
    matches!(name, "profile" | "promotions" | "offer") || name.ends_with("_reward")
}

fn error(status: StatusCode, problem: &str) -> Response<Full<Bytes>> {
    reply(status, &json!({ "error": problem }))
}

fn reply(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::from(body.to_string()));
    *answer.status_mut() = status;
    let json = HeaderValue::from_static("application/json; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, json);
    answer
}

impl<B> Service<Request<B>> for Account {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        ready(Ok(self.state().answer(&request)))
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the payouts, which hold personal data.
        f.debug_struct("Account").field("calls", &self.calls()).finish_non_exhaustive()
    }
}
