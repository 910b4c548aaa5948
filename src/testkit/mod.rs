//! What you test your own handlers and stores with. **Not under semver**: it may change in any
//! version, so pin it where that would hurt.
//!
//! [`FirstPromoter`] sends rewards to your application as the real one does, a day in a few
//! milliseconds, and its [`audit`](FirstPromoter::audit) tries everything that is known to go wrong:
//!
//! ```
//! # use std::{convert::Infallible, sync::{Arc, Mutex}};
//! # use axum::Router;
//! # use tower_firstpromoter::{Access, Outcome, Webhook, event::Fulfilment, fulfil_fn, once::MemoryStore};
//! # #[derive(Clone, Default)] struct Db(Arc<Mutex<Vec<u64>>>);
//! # impl Db {
//! #     fn times_granted(&self, id: u64) -> usize { self.0.lock().unwrap().iter().filter(|found| **found == id).count() }
//! # }
//! # fn app(db: &Db) -> Router {
//! #     let db = db.clone();
//! #     let handler = fulfil_fn(move |fulfilment: Fulfilment| { db.0.lock().unwrap().push(fulfilment.id.get()); async { Ok::<_, Infallible>(Outcome::Fulfilled) } });
//! #     let webhook = Webhook::new(handler, Access::query("key", "at least sixteen bytes")).once(MemoryStore::new(1_000));
//! #     Router::new().layer(webhook.at("/webhooks/firstpromoter"))
//! # }
//! use tower_firstpromoter::testkit::{FirstPromoter, Payload};
//!
//! # macro_rules! ignore { ($($test:tt)*) => {} }
//! # ignore! {
//! #[tokio::test(start_paused = true)]
//! # }
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() { every_reward_is_granted_once().await }
//! async fn every_reward_is_granted_once() {
//!     let db = Db::default();
//!     let url = "/webhooks/firstpromoter?key=at+least+sixteen+bytes";
//!     let sender = FirstPromoter::new(app(&db), url);
//!     sender.check_path().await.expect("deliveries reach the webhook");
//!
//!     let reward = Payload::new(1).cust_id("user-7").amount(3).unit("free_months");
//!     let report = sender.audit(&reward, async |id| db.times_granted(id.get())).await;
//!     report.assert_ok();
//! }
//! ```
//!
//! The pieces are there for tests of your own: [`FirstPromoter::send`] sends one reward with one
//! [`Mishap`], and [`Payload`] builds what it sends. [`store_contract`] is for those who write a
//! [`Store`](crate::once::Store) of their own.

mod contract;
mod course;
mod mishap;
mod oddity;
mod payload;
mod report;
mod simulator;

pub use self::{
    contract::{namespace_contract, store_contract},
    course::{Attempt, Course, Fault, Shown},
    mishap::Mishap,
    oddity::{Expect, Oddity},
    payload::Payload,
    report::Report,
    simulator::{FirstPromoter, NotIntercepted},
};
