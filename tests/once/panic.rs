//! The handler panics, and nobody knows what it had done by then. `was_granted` is asked, and what
//! it cannot tell stays in doubt, until an operator can.

use std::{
    panic::resume_unwind,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use tower_firstpromoter::{
    Access, Fulfil, FulfilIn, Outcome, Verdict, Webhook,
    event::{Fulfilment, FulfilmentId},
    once::{MemoryStore, MemoryTx, Store},
};

use crate::{
    Log,
    delivery::{EMAIL, SECRET},
    send,
};

#[derive(Clone, Copy, Debug)]
enum Knows {
    Granted,
    NotGranted,
    Nothing,
    Fails,
    Panics,
}

/// Panics the first time, without the hook's output.
#[derive(Clone)]
struct Panicking {
    knows: Knows,
    calls: Arc<AtomicU32>,
}

impl Fulfil for Panicking {
    type Error = String;

    async fn fulfil(&self, _: Fulfilment) -> Result<Outcome, String> {
        match self.calls.fetch_add(1, Ordering::SeqCst) {
            0 => resume_unwind(Box::new("the first time")),
            _ => Ok(Outcome::Fulfilled),
        }
    }

    async fn was_granted(&self, _: &Fulfilment) -> Result<Option<bool>, String> {
        match self.knows {
            Knows::Granted => Ok(Some(true)),
            Knows::NotGranted => Ok(Some(false)),
            Knows::Nothing => Ok(None),
            Knows::Fails => Err(format!("nobody called {EMAIL}")),
            Knows::Panics => resume_unwind(Box::new("this as well")),
        }
    }
}

#[tokio::test]
async fn what_follows_from_what_is_known() {
    let doubt = "answered in_doubt, attempt 2";
    for (knows, idempotent, verdict, calls, seen) in [
        (Knows::Granted, false, Verdict::Granted, 1, vec!["answered granted, attempt 2"]),
        (Knows::NotGranted, false, Verdict::Granted, 2, vec!["answered granted, attempt 2"]),
        (Knows::Nothing, false, Verdict::InDoubt, 1, vec![doubt]),
        (Knows::Fails, false, Verdict::InDoubt, 1, vec!["failed: nobody called [redacted]", doubt]),
        (Knows::Panics, false, Verdict::InDoubt, 1, vec!["panicked", doubt]),
        // Declared to do no harm, so it is not asked.
        (Knows::Panics, true, Verdict::Granted, 2, vec!["answered granted, attempt 2"]),
    ] {
        let (store, log) = (MemoryStore::new(10), Log::default());
        let handler = Panicking { knows, calls: Arc::default() };
        let mut webhook = Webhook::new(handler.clone(), Access::query("key", SECRET))
            .observe(log.observer())
            .once(store.clone());
        if idempotent {
            webhook = webhook.handler_is_idempotent();
        }
        assert_eq!(send(&webhook, 1).await, Verdict::Panicked, "{knows:?}");
        assert_eq!(log.take(), ["panicked", "answered panicked, attempt 1"], "{knows:?}");
        assert_eq!(in_doubt(&store).await, [1], "{knows:?}");

        assert_eq!(send(&webhook, 1).await, verdict, "{knows:?}");
        assert_eq!(log.take(), seen, "{knows:?}");
        assert_eq!(handler.calls.load(Ordering::SeqCst), calls, "{knows:?}");
        let left: &[u64] = if verdict == Verdict::InDoubt { &[1] } else { &[] };
        assert_eq!(in_doubt(&store).await, left, "{knows:?}");
    }
}

#[tokio::test]
async fn an_operator_settles_it() {
    for (granted, calls) in [(true, 1), (false, 2)] {
        let store = MemoryStore::new(10);
        let handler = Panicking { knows: Knows::Nothing, calls: Arc::default() };
        let webhook =
            Webhook::new(handler.clone(), Access::query("key", SECRET)).once(store.clone());
        assert_eq!(send(&webhook, 1).await, Verdict::Panicked);
        for _ in 0..3 {
            assert_eq!(send(&webhook, 1).await, Verdict::InDoubt);
        }
        let Ok(settled) = store.settle(FulfilmentId::from(1), granted).await;
        assert!(settled);
        assert_eq!(send(&webhook, 1).await, Verdict::Granted);
        assert_eq!(handler.calls.load(Ordering::SeqCst), calls);
    }
}

async fn in_doubt(store: &MemoryStore) -> Vec<u64> {
    let Ok(records) = store.in_doubt().await;
    records.iter().map(|record| record.id.get()).collect()
}

/// A handler may take a transaction that undoes nothing; to panic in it is no cleaner for that.
#[tokio::test]
async fn a_transaction_that_undoes_nothing() {
    struct Elsewhere;

    impl FulfilIn<MemoryTx> for Elsewhere {
        type Error = String;

        async fn fulfil_in(&self, _: Fulfilment, _: &mut MemoryTx) -> Result<Outcome, String> {
            resume_unwind(Box::new("after the effect"))
        }
    }

    let store = MemoryStore::new(10);
    let webhook = Webhook::new(Elsewhere, Access::query("key", SECRET)).once(store.clone());
    assert_eq!(send(&webhook, 1).await, Verdict::Panicked);
    assert_eq!(send(&webhook, 1).await, Verdict::InDoubt);
    assert_eq!(in_doubt(&store).await, [1]);
}
