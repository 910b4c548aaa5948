//! Calls FirstPromoter's API for what its deliveries leave open.
//!
//! FirstPromoter retries a delivery seven times in a day, then stops. What it still holds as pending
//! can be listed and completed: [`Webhook::reconcile`](crate::Webhook::reconcile) fulfils and
//! completes all of it, [`Client::complete`] one of it, and
//! [`Webhook::confirm_with`](crate::Webhook::confirm_with) lets no fulfilment run that the account
//! does not hold as pending. The guide `closing_the_loop` tells when to use which, and how to try it.
//!
//! ```
//! use tower_firstpromoter::api;
//! # use std::convert::Infallible;
//! # use tower_firstpromoter::{Access, Outcome, Webhook, event::{Fulfilment, Unit}, fulfil_fn, store::MemoryStore};
//! # use tower_firstpromoter::testkit::{Account, Payload};
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let http = Account::new();
//! # for id in 1..=3 { http.add(&Payload::new(id).unit(["cash", "free_months", "points"][id as usize - 1])); }
//! # let account = http.clone();
//! # let handler = fulfil_fn(async |f: Fulfilment| Ok::<_, Infallible>(if f.unit == Unit::FreeMonths { Outcome::Fulfilled } else { Outcome::Pending }));
//! # let (store, access) = (MemoryStore::new(10), Access::query("key", "at least sixteen bytes")?);
//! # let webhook = Webhook::new(handler, store, access);
//!
//! let client = api::Client::new(http, "the account's API key")?; // `http` is a tower service
//! let report = webhook.reconcile(&client).await;
//! println!("{report}");
//! assert_eq!((report.completed.len(), report.left_pending.len(), report.skipped_cash.len()), (1, 1, 1));
//!
//! let pending = client.pending().await?.payouts;
//! let points = pending.iter().find(|payout| payout.unit == Unit::Points).ok_or("listed")?;
//! client.complete(points).await?; // which the handler left pending, and which is done now
//! # assert_eq!(account.pending(), [1.into()]);
//! # Ok(()) }
//! ```

mod client;
mod confirm;
mod error;
mod payouts;
mod reconcile;

pub use self::{
    client::{Client, InvalidClient},
    error::{Error, Mismatch},
    payouts::Pending,
    reconcile::{Failure, Reconciliation},
};
