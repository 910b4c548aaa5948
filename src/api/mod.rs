//! Calls FirstPromoter's API for what its deliveries leave open.
//!
//! FirstPromoter retries a delivery seven times in a day, then stops. What it still holds as pending
//! can be listed and completed: [`Webhook::reconcile`](crate::Webhook::reconcile) fulfils and
//! completes all of it, [`Client::complete`] one of it, and
//! [`Webhook::confirm_with`](crate::Webhook::confirm_with) lets no fulfilment run that the account
//! does not hold as pending. [The guide](crate::guide::closing_the_loop) tells when to use which.

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
