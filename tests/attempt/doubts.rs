//! The handler panics, or says itself that it cannot know, and whether it took effect by then is in
//! doubt. `was_fulfilled` is asked at the next delivery; what it cannot tell stays in doubt until
//! an operator resolves it. A transactional store undoes a panic, and keeps a doubt that the
//! handler returned.

use std::{
    future::pending,
    panic::resume_unwind,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use tower_firstpromoter::{
    Fulfil, FulfilIn, Outcome, Verdict,
    event::{Fulfilment, FulfilmentId},
    fulfil_fn,
    store::{MemoryStore, State, Store},
};

use crate::{
    Log, SECOND,
    deliver::{deliver, webhook},
    in_doubt, record,
    undoing::{Undoing, UndoingTx},
};

#[derive(Clone, Copy, Debug)]
enum Knows {
    Fulfilled,
    NotFulfilled,
    Nothing,
    Fails,
    Panics,
    NeverAnswers,
}

#[derive(Clone, Copy, Debug)]
enum First {
    /// Without the hook's output.
    Panics,
    CannotKnow,
}

/// Leaves a doubt the first time, and fulfils after that.
#[derive(Clone)]
struct Doubtful {
    first: First,
    knows: Knows,
    calls: Arc<AtomicU32>,
}

impl Doubtful {
    fn new(first: First, knows: Knows) -> Self {
        Self { first, knows, calls: Arc::default() }
    }

    fn calls(&self) -> u32 {
        self.calls.load(Ordering::SeqCst)
    }
}

impl Fulfil for Doubtful {
    type Error = String;

    async fn fulfil(&self, _: Fulfilment) -> Result<Outcome, String> {
        match (self.calls.fetch_add(1, Ordering::SeqCst), self.first) {
            (0, First::Panics) => resume_unwind(Box::new("the first time")),
            (0, First::CannotKnow) => Ok(Outcome::InDoubt("the call timed out".to_owned())),
            _ => Ok(Outcome::Fulfilled),
        }
    }

    async fn was_fulfilled(&self, _: &Fulfilment) -> Result<Option<bool>, String> {
        match self.knows {
            Knows::Fulfilled => Ok(Some(true)),
            Knows::NotFulfilled => Ok(Some(false)),
            Knows::Nothing => Ok(None),
            Knows::Fails => Err("the other service is down".to_owned()),
            Knows::Panics => resume_unwind(Box::new("this as well")),
            Knows::NeverAnswers => pending().await,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_follows_from_what_is_known() {
    let panics =
        (First::Panics, Verdict::Panicked, "interrupted, undone false: panicked: the first time");
    let cannot_know = (First::CannotKnow, Verdict::InDoubt, "in doubt: the call timed out");
    for (first, first_verdict, first_event) in [panics, cannot_know] {
        for (knows, verdict, calls, reason) in [
            (Knows::Fulfilled, Verdict::Fulfilled, 1, None),
            (Knows::NotFulfilled, Verdict::Fulfilled, 2, None),
            (Knows::Nothing, Verdict::InDoubt, 1, Some("`was_fulfilled` does not know")),
            (Knows::Fails, Verdict::InDoubt, 1, Some("the other service is down")),
            (Knows::Panics, Verdict::InDoubt, 1, Some("panicked: this as well")),
            (Knows::NeverAnswers, Verdict::InDoubt, 1, Some("took longer than 5s")),
        ] {
            let what = format!("{first:?} {knows:?}");
            let (store, log) = (MemoryStore::new(10), Log::default());
            let handler = Doubtful::new(first, knows);
            let webhook = webhook(handler.clone(), store.clone())
                .attempt_within(5 * SECOND)
                .observe(log.observer());
            assert_eq!(deliver(&webhook, 1).await, first_verdict, "{what}");
            let answered = format!("answered {}, attempt 1", first_verdict.code());
            assert_eq!(log.take(), [first_event, &answered], "{what}");
            assert_eq!(in_doubt(&store).await, [1], "{what}");
            let doubt = record(&store, 1).await;

            assert_eq!(deliver(&webhook, 1).await, verdict, "{what}");
            let run = if calls == 2 { 2 } else { 0 };
            let mut events = vec![format!("answered {}, attempt {run}", verdict.code())];
            events.splice(0..0, reason.map(|reason| format!("in doubt: {reason}")));
            assert_eq!(log.take(), events, "{what}");
            assert_eq!(handler.calls(), calls, "{what}");
            let now = record(&store, 1).await;
            assert_eq!(now.attempts, calls, "{what}: the runs of the handler, and nothing else");
            if verdict == Verdict::InDoubt {
                assert_eq!((now.state, now.reason), (State::InDoubt, doubt.reason), "{what}");
            } else {
                assert_eq!((now.state, now.reason), (State::Fulfilled, None), "{what}");
            }
        }
    }
}

#[tokio::test]
async fn an_idempotent_closure_runs_again() {
    let calls = Arc::new(AtomicU32::new(0));
    let handler = fulfil_fn({
        let calls = Arc::clone(&calls);
        move |_: Fulfilment| {
            let first = calls.fetch_add(1, Ordering::SeqCst) == 0;
            async move {
                if first {
                    resume_unwind(Box::new("once"))
                } else {
                    Ok::<_, String>(Outcome::Fulfilled)
                }
            }
        }
    });
    let webhook = webhook(handler.idempotent(), MemoryStore::new(10));
    assert_eq!(deliver(&webhook, 1).await, Verdict::Panicked);
    assert_eq!(deliver(&webhook, 1).await, Verdict::Fulfilled);
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn an_operator_resolves_it() {
    for first in [First::Panics, First::CannotKnow] {
        for (fulfilled, calls) in [(true, 1), (false, 2)] {
            let store = MemoryStore::new(10);
            let handler = Doubtful::new(first, Knows::Nothing);
            let webhook = webhook(handler.clone(), store.clone());
            deliver(&webhook, 1).await;
            for _ in 0..3 {
                assert_eq!(deliver(&webhook, 1).await, Verdict::InDoubt);
            }
            let Ok(resolved) = store.resolve(FulfilmentId::from(1), fulfilled).await;
            assert!(resolved);
            assert_eq!(deliver(&webhook, 1).await, Verdict::Fulfilled);
            assert_eq!(handler.calls(), calls);
            assert_eq!(record(&store, 1).await.attempts, calls);
        }
    }
}

/// A generic wrapper around a plain handler takes any `Tx`, and changes nothing.
#[tokio::test]
async fn a_wrapper_changes_nothing() {
    struct Logged<H>(H);

    impl<H: FulfilIn<Tx>, Tx: Send> FulfilIn<Tx> for Logged<H> {
        type Error = H::Error;

        async fn fulfil_in(&self, f: Fulfilment, tx: &mut Tx) -> Result<Outcome, H::Error> {
            self.0.fulfil_in(f, tx).await
        }
    }

    let store = MemoryStore::new(10);
    let handler = Doubtful::new(First::Panics, Knows::NotFulfilled);
    let webhook = webhook::<MemoryStore>(Logged(handler.clone()), store.clone());
    assert_eq!(deliver(&webhook, 1).await, Verdict::Panicked);
    assert_eq!(deliver(&webhook, 1).await, Verdict::InDoubt);
    assert_eq!((handler.calls(), in_doubt(&store).await), (1, vec![1]));
}

/// Writes, then does as `Doubtful`.
struct Writes(Doubtful);

impl FulfilIn<UndoingTx> for Writes {
    type Error = String;

    async fn fulfil_in(&self, f: Fulfilment, tx: &mut UndoingTx) -> Result<Outcome, String> {
        tx.writes.push(f.id.get());
        self.0.fulfil(f).await
    }
}

#[tokio::test]
async fn a_transactional_store_undoes_a_panic_and_keeps_a_doubt() {
    let (store, log) = (Undoing::new(), Log::default());
    let handler = Writes(Doubtful::new(First::Panics, Knows::Nothing));
    let panics = webhook(handler, store.clone()).observe(log.observer());
    assert_eq!(deliver(&panics, 1).await, Verdict::Panicked);
    assert_eq!(log.take()[0], "interrupted, undone true: panicked: the first time");
    assert_eq!((store.kept(), in_doubt(&store).await), (vec![], vec![]));
    assert_eq!(deliver(&panics, 1).await, Verdict::Fulfilled);

    let doubts = webhook(Writes(Doubtful::new(First::CannotKnow, Knows::Nothing)), store.clone());
    assert_eq!(deliver(&doubts, 2).await, Verdict::InDoubt);
    assert_eq!(deliver(&doubts, 2).await, Verdict::InDoubt);
    assert_eq!((store.kept(), in_doubt(&store).await), (vec![1], vec![2]));
    let Ok(resolved) = store.resolve(FulfilmentId::from(2), false).await;
    assert!(resolved);
    assert_eq!(deliver(&doubts, 2).await, Verdict::Fulfilled);
    assert_eq!(store.kept(), [1, 2]);
}
