//! Receives FirstPromoter's fulfilment webhook and fulfils each fulfilment once.
//!
//! **A `200` is a statement about money.** It tells FirstPromoter that a fulfilment is fulfilled,
//! for good; it is not an acknowledgement. This crate sends it only when the handler said so and
//! the record of it is durable.
//!
//! ```
//! use tower_firstpromoter::{Access, Outcome, Webhook, fulfil_fn, store::MemoryStore};
//! use tower_firstpromoter::event::{Fulfilment, Unit};
//!
//! async fn fulfil(fulfilment: Fulfilment) -> Result<Outcome, std::io::Error> {
//!     match (&fulfilment.unit, fulfilment.amount.whole(), &fulfilment.promoter.cust_id) {
//!         (Unit::FreeMonths, Some(months @ 1..), Some(user)) => {
//!             println!("{months} months for {user}"); // your database; wait for its commit
//!             Ok(Outcome::Fulfilled)
//!         }
//!         _ => Ok(Outcome::Pending), // not delivered here: it stays visible in the dashboard
//!     }
//! }
//!
//! let access = Access::query("key", "at least sixteen bytes")?; // the sender signs nothing
//! let webhook = Webhook::new(fulfil_fn(fulfil), MemoryStore::new(1_000), access); // it forgets: see `store`
//! let app: axum::Router = axum::Router::new() // or any other tower service
//!     .route("/", axum::routing::get("Hello"))
//!     .layer(webhook.at("/webhooks/firstpromoter"));
//! # Ok::<(), tower_firstpromoter::InvalidAccess>(())
//! ```
//!
//! # Words
//!
//! | word | means |
//! |---|---|
//! | **delivery** | one HTTP request from FirstPromoter to the webhook |
//! | **fulfilment** | something that is not money, owed to a promoter; known by `data.id` |
//! | **handler** | your [`Fulfil`] or [`FulfilIn`] |
//! | **outcome** | the handler's answer: [`Outcome`], or an error: nothing took effect, call me again |
//! | **attempt** | one run of the handler for one fulfilment |
//! | **store** | records attempts and how they ended: [`store`] |
//! | **in doubt** | an attempt began, and whether it took effect is not known |
//! | **verdict** | how a delivery ended: [`Verdict`] |
//!
//! # The path of a delivery
//!
//! ```text
//! intercept   another path  ──▶  the inner service, untouched
//!    │
//! webhook     authorize   by the head alone             401  405  413  415
//!    │        read        up to the limit, in time      400  408  413
//!    │        decode                                    400  422  202
//! fulfil      in flight   one task for each fulfilment  409  503
//!    │        attempt     the handler runs              202  500  503
//! store       begin, end  durable                       200  500  503
//!    │
//! verdict     one status, one code
//! ```
//!
//! # Features
//!
//! None is on by default: `redb`, `sqlite` and `postgres` (stores), `api` (FirstPromoter's API), `hmac`
//! (signed bodies), `tracing`, `metrics`, and `testkit` (a simulated FirstPromoter and the contract of
//! stores; not under semver). Rust 1.85 and later; 1.90 with `redb`, 1.94 with `postgres` or `sqlite`.
// The guide refers to every store, so it needs the features of all, as on docs.rs.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

#[cfg(feature = "api")]
pub mod api;
pub mod event;
mod fulfil;
#[cfg(all(
    any(doc, doctest),
    feature = "redb",
    feature = "postgres",
    feature = "sqlite",
    feature = "api",
    feature = "testkit"
))]
pub mod guide;
pub mod intercept;
pub mod observe;
pub mod store;
#[cfg(feature = "testkit")]
pub mod testkit;
mod verdict;
mod webhook;

pub use self::{
    fulfil::{Fulfil, FulfilFn, FulfilIn, Outcome, fulfil_fn},
    verdict::Verdict,
    webhook::{Access, InvalidAccess, ReplyBody, Webhook, WebhookFuture},
};

/// Alias for a type-erased error of a handler or a store. [`FulfilIn`] has an example.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Runs the code in the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
