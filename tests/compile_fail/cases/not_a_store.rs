//! Something else where a store belongs.

use tower_firstpromoter::{Access, BoxError, Outcome, Webhook, event::Fulfilment, fulfil_fn};

fn main() {
    let handler = fulfil_fn(async |_: Fulfilment| Ok::<_, BoxError>(Outcome::Fulfilled));
    let _ = Webhook::new(handler, "fulfilments.redb", Access::anyone());
}
