//! A handler that keeps something of its thread's across an `await`.

use std::{future::ready, rc::Rc};

use tower_firstpromoter::{BoxError, Fulfil, Outcome, event::Fulfilment};

struct Credits;

impl Fulfil for Credits {
    type Error = BoxError;

    async fn fulfil(&self, _: Fulfilment) -> Result<Outcome, BoxError> {
        let cache = Rc::new(3);
        ready(()).await;
        drop(cache);
        Ok(Outcome::Fulfilled)
    }
}

fn main() {}
