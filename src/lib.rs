//! Receives FirstPromoter's fulfilment webhook and grants each reward once.
//!
//! **A `200` is a statement about money.** To FirstPromoter it says that a reward is granted, for
//! good; it is no acknowledgement. So here it leaves only when your handler said so and, where a
//! store remembers, only when that is durable. Everything else in this crate follows from it.
//!
//! ```
//! use tower_firstpromoter::{
//!     Access, Outcome, Webhook,
//!     event::{Fulfilment, Unit},
//!     fulfil_fn,
//! };
//!
//! async fn grant(reward: Fulfilment) -> Result<Outcome, std::io::Error> {
//!     match (&reward.unit, reward.amount.whole(), &reward.promoter.cust_id) {
//!         (Unit::FreeMonths, Some(months @ 1..), Some(user)) => {
//!             println!("{months} months for {user}"); // your database; wait for its commit
//!             Ok(Outcome::Fulfilled)
//!         }
//!         _ => Ok(Outcome::Pending), // not ours to grant: it stays visible in the dashboard
//!     }
//! }
//!
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("fulfilments.redb");
//! let webhook = Webhook::new(fulfil_fn(grant), Access::query("key", "at least sixteen bytes"));
//! # #[cfg(feature = "redb")]
//! let webhook = webhook.once(tower_firstpromoter::once::RedbStore::open(path)?); // granted once
//! let app: axum::Router = axum::Router::new() // or any other tower service
//!     .route("/", axum::routing::get("Hello"))
//!     .layer(webhook.at("/webhooks/firstpromoter"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The journey
//!
//! ```text
//! request
//!    │
//!    ▼
//! 1 intercept   is this our path?  ── no ──▶  your application, untouched
//!    │
//!    ▼
//! 2 webhook     admit    may it come in? by its head alone       401  405  413  415
//!    │          read     up to the limit, in time; signed?       400  401  408  413
//!    │          decode   what does it say?                       400  422  202
//!    ▼
//! 3 once        begin    granted before? running? in doubt?      200  409  500  503
//!    │          fulfil   your handler, in a task of its own      202  500
//!    │          end      durable, and only then                  200  503
//!    ▼
//! 4 verdict     reply    one end, one status, one code, a few words
//! ```
//!
//! A reader who follows a request meets the modules in this order:
//!
//! 1. [`intercept`]: the layer that takes deliveries out of an application's requests.
//! 2. [`webhook`]: [`Webhook`] and [`Access`]; [`event`]: what a delivery says, as the sender
//!    spells it.
#![cfg_attr(feature = "tokio", doc = "3. [`once`]: the record of what was granted;")]
#![cfg_attr(
    not(feature = "tokio"),
    doc = "3. `once` (needs `tokio`): the record of what was granted;"
)]
//!    [`Fulfil`]: your handler.
//! 4. [`Verdict`]: every way a delivery can end, and what the sender is told.
//!
//! Beside the way stands [`observe`], what an operator gets to see of it all.
//!
//! # Features
//!
//! None is on by default; the core needs no runtime.
//!
//! | feature | brings |
//! |---|---|
//! | `redb` | `RedbStore`: one file, one process, no server. The store to start with |
//! | `postgres`, `sqlite` | `PostgresStore`, `SqliteStore`: grant and record commit together |
//! | `tokio` | `Webhook::once`, `MemoryStore`, `answer_within` and time-outs; each store turns it on |
//! | `hmac` | `Access::signature`, an HMAC-SHA256 of the body |
//! | `tracing`, `metrics` | a span for each delivery; counters and a histogram |
//! | `testkit` | a FirstPromoter to test against, and the contract of stores. Not under semver |
//!
//! Rust 1.85 and later; 1.90 with `redb`, 1.94 with `postgres` or `sqlite`.
// The guides speak of every store, so they are there when all of them are, as on docs.rs.
#![cfg_attr(
    all(feature = "redb", feature = "postgres", feature = "sqlite", feature = "testkit"),
    doc = include_str!("guide/contents.md")
)]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

mod clock;
pub mod event;
mod fulfil;
#[cfg(all(
    any(doc, doctest),
    feature = "redb",
    feature = "postgres",
    feature = "sqlite",
    feature = "testkit"
))]
pub mod guide;
pub mod intercept;
pub mod observe;
#[cfg(feature = "tokio")]
#[cfg_attr(docsrs, doc(cfg(feature = "tokio")))]
pub mod once;
mod reply;
#[cfg(feature = "testkit")]
#[cfg_attr(docsrs, doc(cfg(feature = "testkit")))]
pub mod testkit;
mod verdict;
pub mod webhook;

pub use self::{
    fulfil::{
        BoxError, BoxFulfil, Fulfil, FulfilFn, FulfilIn, FulfilService, Outcome, fulfil_fn,
        fulfil_service,
    },
    reply::ReplyBody,
    verdict::Verdict,
    webhook::{Access, Webhook},
};

/// Runs the code in the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
