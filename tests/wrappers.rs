//! "It was safe until we wrapped the handler in our logger."
//!
//! A generic wrapper around handlers of both kinds compiles downstream, and changes nothing: what a
//! wrapped handler did before a panic is in doubt in a journal, and undone by a transactional store.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use tower_firstpromoter::{
    BoxError, Fulfil, FulfilIn, Outcome, Verdict, Webhook,
    event::{Fulfilment, FulfilmentId},
    fulfil_fn,
    store::{Begin, Claim, End, MemoryStore, Record, State, Store},
};

mod delivery;
use delivery::{LEAST, access};

/// What a downstream crate writes for its logs.
struct Logged<H>(H);

impl<H: FulfilIn<Tx>, Tx: Send> FulfilIn<Tx> for Logged<H> {
    type Error = H::Error;

    async fn fulfil_in(&self, fulfilment: Fulfilment, tx: &mut Tx) -> Result<Outcome, H::Error> {
        self.0.fulfil_in(fulfilment, tx).await
    }

    async fn was_fulfilled(&self, fulfilment: &Fulfilment) -> Result<Option<bool>, H::Error> {
        self.0.was_fulfilled(fulfilment).await
    }
}

/// Takes effect, and panics the first time. Counts its runs.
#[derive(Clone, Default)]
struct Panics(Arc<AtomicU32>);

impl Panics {
    fn run(&self) -> Outcome {
        assert!(self.0.fetch_add(1, Relaxed) > 0, "the handler's own");
        Outcome::Fulfilled
    }
}

impl Fulfil for Panics {
    type Error = Infallible;

    async fn fulfil(&self, _: Fulfilment) -> Result<Outcome, Infallible> {
        Ok(self.run())
    }
}

/// The same through a transaction.
#[derive(Clone, Default)]
struct PanicsIn(Panics);

impl FulfilIn<Writes> for PanicsIn {
    type Error = BoxError;

    async fn fulfil_in(&self, _: Fulfilment, tx: &mut Writes) -> Result<Outcome, BoxError> {
        tx.0 += 1;
        Ok(self.0.run())
    }
}

/// The smallest transactional store: of one fulfilment, whether it is fulfilled, and its writes.
#[derive(Clone, Default)]
struct Transactional(Arc<Mutex<(bool, u32)>>);

struct Writes(u32);

impl Store for Transactional {
    type Tx = Writes;
    type Error = Infallible;

    async fn begin(&self, _: &Claim) -> Result<Begin<Writes>, Infallible> {
        let (fulfilled, _) = *self.0.lock().expect("no panic");
        Ok(if fulfilled { Begin::Fulfilled } else { Begin::Run { tx: Writes(0), attempt: 1 } })
    }

    async fn end(&self, tx: Writes, end: End) -> Result<State, Infallible> {
        if end != End::Fulfilled {
            return Ok(State::Failed);
        }
        let mut committed = self.0.lock().expect("no panic");
        *committed = (true, committed.1 + tx.0);
        Ok(State::Fulfilled)
    }

    async fn get(&self, _: FulfilmentId) -> Result<Option<Record>, Infallible> {
        Ok(None)
    }

    async fn open(&self, _: usize) -> Result<Vec<Record>, Infallible> {
        Ok(Vec::new())
    }

    async fn resolve(&self, _: FulfilmentId, _: bool) -> Result<bool, Infallible> {
        Ok(false)
    }

    async fn forget(&self, _: FulfilmentId) -> Result<bool, Infallible> {
        Ok(false)
    }
}

/// How three deliveries of one fulfilment end.
async fn three<S: Store>(handler: impl FulfilIn<S::Tx>, store: S) -> [Verdict; 3] {
    let webhook = Webhook::new(handler, store, access());
    let fulfil = async || webhook.fulfil(Fulfilment::decode(LEAST).expect("a fulfilment")).await;
    [fulfil().await, fulfil().await, fulfil().await]
}

#[tokio::test]
async fn in_a_journal_a_wrapped_handler_that_panicked_is_in_doubt() {
    let journal = || MemoryStore::new(10);
    let handlers: [Panics; 3] = Default::default();
    let [bare, once, twice] = handlers.clone();
    for verdicts in [
        three(bare, journal()).await,
        three(Logged(once), journal()).await,
        three(Logged(Logged(twice)), journal()).await,
    ] {
        assert_eq!(verdicts, [Verdict::Panicked, Verdict::InDoubt, Verdict::InDoubt]);
    }
    assert_eq!(handlers.map(|handler| handler.0.load(Relaxed)), [1; 3]);
}

#[tokio::test]
async fn in_a_journal_a_wrapped_handler_is_asked() {
    let handler = Panics::default();
    let runs = handler.clone();
    let idempotent = fulfil_fn(move |_| {
        let outcome = handler.clone();
        async move { Ok::<_, Infallible>(outcome.run()) }
    })
    .idempotent();
    let verdicts = three(Logged(idempotent), MemoryStore::new(10)).await;
    assert_eq!(verdicts, [Verdict::Panicked, Verdict::Fulfilled, Verdict::Fulfilled]);
    assert_eq!(runs.0.load(Relaxed), 2);
}

#[tokio::test]
async fn a_transactional_store_undoes_a_wrapped_handler_that_panicked() {
    for wrapped in [false, true] {
        let (handler, store) = (PanicsIn::default(), Transactional::default());
        let runs = handler.0.clone();
        let verdicts = if wrapped {
            three(Logged(handler), store.clone()).await
        } else {
            three(handler, store.clone()).await
        };
        assert_eq!(verdicts, [Verdict::Panicked, Verdict::Fulfilled, Verdict::Fulfilled]);
        assert_eq!(runs.0.load(Relaxed), 2);
        assert_eq!(*store.0.lock().expect("no panic"), (true, 1), "one run's writes are kept");
    }
}
