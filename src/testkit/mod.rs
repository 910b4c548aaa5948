//! Simulates FirstPromoter, and checks handlers and stores. **Not under semver**: it may change in any
//! version.
//!
//! [`FirstPromoter`] sends fulfilments to your application as the real one does, a day of retries
//! in a few milliseconds. Its [`audit`](FirstPromoter::audit) tries everything that is known to go
//! wrong:
//!
//! ```
//! # use std::{convert::Infallible, sync::{Arc, Mutex}};
//! # use axum::Router;
//! # use tower_firstpromoter::{Access, Outcome, Webhook, event::Fulfilment, fulfil_fn, store::MemoryStore};
//! # #[derive(Clone, Default)] struct Db(Arc<Mutex<Vec<u64>>>);
//! # impl Db {
//! #     fn times_fulfilled(&self, id: u64) -> usize { self.0.lock().unwrap().iter().filter(|found| **found == id).count() }
//! # }
//! # fn app(db: &Db) -> Router {
//! #     let db = db.clone();
//! #     let handler = fulfil_fn(move |fulfilment: Fulfilment| { db.0.lock().unwrap().push(fulfilment.id.get()); async { Ok::<_, Infallible>(Outcome::Fulfilled) } });
//! #     let access = Access::query("key", "at least sixteen bytes").unwrap();
//! #     Router::new().layer(Webhook::new(handler, MemoryStore::new(1_000), access).at("/webhooks/firstpromoter"))
//! # }
//! use tower_firstpromoter::testkit::{FirstPromoter, Payload};
//!
//! # macro_rules! ignore { ($($test:tt)*) => {} }
//! # ignore! {
//! #[tokio::test(start_paused = true)]
//! # }
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() { each_is_fulfilled_once().await }
//! async fn each_is_fulfilled_once() {
//!     let db = Db::default();
//!     let url = "/webhooks/firstpromoter?key=at+least+sixteen+bytes";
//!     let sender = FirstPromoter::new(app(&db), url);
//!     sender.check_path().await.expect("deliveries reach the webhook");
//!
//!     let months = Payload::new(1).cust_id("user-7").amount(3).unit("free_months");
//!     let report = sender.audit(&months, async |id| db.times_fulfilled(id.get())).await;
//!     report.assert_ok();
//! }
//! ```
//!
//! [`FirstPromoter::send`] sends one fulfilment with one [`Mishap`]; [`Payload`] builds what it sends;
//! [`Account`] answers as FirstPromoter's API does. [`store_contract`] and [`namespace_contract`] check
//! a [`Store`](crate::store::Store) of your own.

mod account;
mod contract;
mod oddity;
mod payload;
mod report;
mod simulator;

pub use self::{
    account::Account,
    contract::{Kind, namespace_contract, store_contract},
    payload::Payload,
    report::{Case, Delivery, Fault, Mishap, Report, Status},
    simulator::{FirstPromoter, NotIntercepted},
};
