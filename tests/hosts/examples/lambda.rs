//! A function of AWS Lambda that does nothing but receive fulfilments, behind an API Gateway or a
//! function URL. It runs in Lambda only, whose runtime API it asks for events: build and deploy it with
//! `cargo lambda build --release --example lambda`. The URL for FirstPromoter is the function's, with
//! `?key=` and the secret.
//!
//! What is particular to Lambda:
//!
//! * No `.once(store)` of a file or of memory: neither outlives the function. Here the handler is
//!   idempotent by itself; `PostgresStore` works as it does elsewhere.
//! * A function is frozen as soon as it has answered, and whatever still runs in it with it. So the
//!   function's own time-out should be longer than `answer_within`, and a grant short.
//! * Behind a REST API the path begins with the stage, `/prod/webhooks/firstpromoter`. A webhook
//!   that is the whole function, as here, answers any path; for `Webhook::at` set
//!   `AWS_LAMBDA_HTTP_IGNORE_STAGE_IN_PATH`.

use std::{convert::Infallible, env};

use tower_firstpromoter::{
    Access, Fulfil, Outcome, Webhook,
    event::{Fulfilment, Unit},
};

struct FreeMonths;

impl Fulfil for FreeMonths {
    type Error = Infallible;

    async fn fulfil(&self, fulfilment: Fulfilment) -> Result<Outcome, Infallible> {
        match (&fulfilment.unit, fulfilment.amount.whole(), &fulfilment.promoter.cust_id) {
            (Unit::FreeMonths, Some(months @ 1..), Some(_user)) => {
                // Here goes a conditional write, such as DynamoDB's `attribute_not_exists`, by this
                // key: a duplicate finds it written, and is granted as well.
                println!("{months} free months by {}", fulfilment.idempotency_key());
                Ok(Outcome::Fulfilled)
            }
            _ => Ok(Outcome::Pending),
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let secret = env::var("WEBHOOK_SECRET").map_err(|_| "WEBHOOK_SECRET must be set")?;
    let webhook = Webhook::new(FreeMonths, Access::query("key", secret));
    lambda_http::run(webhook).await
}
