//! A function of AWS Lambda that receives fulfilments, behind an API Gateway or a function URL.
//!
//! It runs in Lambda only: build and deploy it with `cargo lambda build --release --example lambda`.
//! The URL for FirstPromoter is the function's, with `?key=` and the secret.
//!
//! What is particular to Lambda:
//!
//! * Files and memory do not outlive the function, so `RedbStore` cannot be used, and `MemoryStore`
//!   only for a handler that is idempotent by itself, as here. `PostgresStore` and `PostgresJournal`
//!   work as elsewhere.
//! * A function is frozen as soon as it has answered, with whatever still runs in it. Its timeout
//!   should therefore be longer than `answer_within`, and an attempt short.
//! * Behind a REST API the path begins with the stage, `/prod/webhooks/firstpromoter`. A webhook that
//!   is the whole function, as here, answers any path; for `Webhook::at` set
//!   `AWS_LAMBDA_HTTP_IGNORE_STAGE_IN_PATH`.

use std::{convert::Infallible, env};

use tower_firstpromoter::{
    Access, Fulfil, Outcome, Webhook,
    event::{Fulfilment, Unit},
    store::MemoryStore,
};

struct FreeMonths;

impl Fulfil for FreeMonths {
    type Error = Infallible;

    async fn fulfil(&self, fulfilment: Fulfilment) -> Result<Outcome, Infallible> {
        match (&fulfilment.unit, fulfilment.amount.whole(), &fulfilment.promoter.cust_id) {
            (Unit::FreeMonths, Some(months @ 1..), Some(_user)) => {
                // Here goes a conditional write, such as DynamoDB's `attribute_not_exists`, by this
                // key: a duplicate finds it written.
                println!("{months} free months by {}", fulfilment.idempotency_key());
                Ok(Outcome::Fulfilled)
            }
            _ => Ok(Outcome::Pending),
        }
    }

    // A second write by the same key has no effect, so an attempt in doubt may run again.
    async fn was_fulfilled(&self, _: &Fulfilment) -> Result<Option<bool>, Infallible> {
        Ok(Some(false))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let secret = env::var("WEBHOOK_SECRET").map_err(|_| "WEBHOOK_SECRET must be set")?;
    let access = Access::query("key", secret)?;
    let webhook = Webhook::new(FreeMonths, MemoryStore::new(1_000), access);
    lambda_http::run(webhook).await
}
