//! A handler that does not say what it did.

use tower_firstpromoter::{BoxError, event::Fulfilment, fulfil_fn};

fn main() {
    let _ = fulfil_fn(async |_: Fulfilment| Ok::<_, BoxError>(()));
}
