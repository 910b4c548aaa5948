//! A webhook without a store.

use tower_firstpromoter::{Access, BoxError, Outcome, Webhook, event::Fulfilment, fulfil_fn};

fn main() {
    let handler = fulfil_fn(async |_: Fulfilment| Ok::<_, BoxError>(Outcome::Fulfilled));
    let _ = Webhook::new(handler, Access::anyone());
}
