//! The promises of [`Store`], put to the test.

use std::{
    collections::hash_map::RandomState,
    fmt,
    future::Future,
    hash::{BuildHasher, Hasher},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt, channel::oneshot, future::join_all};
use tokio::{
    task::{JoinHandle, yield_now},
    time::{Instant, sleep, timeout},
};

use crate::{
    BoxError,
    event::Fulfilment,
    once::{Begin, Claim, End, Record, State, Store},
};

/// What a `begin` that does not wait is done in, on the slowest of machines.
const AT_ONCE: Duration = Duration::from_secs(5);

/// What a store may take to undo a dropped transaction.
const SOON: Duration = Duration::from_secs(5);

/// What a whole crowd may take to get one reward granted, with drops on the way.
const LONG: Duration = Duration::from_secs(60);

/// So many ask for the same reward at the same time.
const CROWD: usize = 64;

/// Checks that a store keeps the promises of [`Store`].
///
/// `make` opens the store. It is called again after the store and every `Tx` of it were dropped, as
/// after a restart, and must then find what was remembered. A store that forgets by design, such as
/// [`MemoryStore`](crate::once::MemoryStore), is given as clones of one.
///
/// The rewards have ids of their own in every run, most of them above 2⁶², so that a database may be
/// used again. What was written is forgotten at the end. Run it on a runtime with several threads:
/// on one, much of what goes wrong at the same time cannot.
///
/// ```
/// # #[tokio::main] async fn main() {
/// use tower_firstpromoter::{once::MemoryStore, testkit::store_contract};
///
/// let store = MemoryStore::new(10_000);
/// store_contract(async || store.clone()).await;
/// # }
/// ```
///
/// # Panics
///
/// If the store breaks a promise, with its number and name; or if it returns an error.
pub async fn store_contract<S: Store>(make: impl AsyncFn() -> S) {
    let kit = Kit::new();
    let store = Arc::new(make().await);
    ends_and_attempts(&kit, &store).await;
    cut_off_is_never_clean(&kit, &store).await;
    nobody_waits(&kit, &store).await;
    released_in_one_place(&kit, &store).await;
    operators_verbs(&kit, &store).await;
    ids_are_kept_apart(&kit, &store).await;
    at_most_one_holds_it(&kit, &store).await;
    drop(store);

    granted_is_for_good(&kit, &make).await;
    intention_is_durable(&kit, &make).await;

    let store = make().await;
    for id in kit.used() {
        let _ = store.forget(id.into()).await;
    }
}

/// Checks that two namespaces over one store know nothing of each other.
///
/// ```
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tower_firstpromoter::{once::MemoryStore, testkit::namespace_contract};
///
/// namespace_contract(&MemoryStore::new(100), &MemoryStore::new(100)).await;
/// # Ok(()) }
/// ```
///
/// # Panics
///
/// If one knows of a reward of the other; or if the store returns an error.
pub async fn namespace_contract<S: Store>(one: &S, other: &S) {
    let apart = Promise("namespaces are apart");
    let kit = Kit::new();
    let claim = kit.claim();
    let (tx, _) = kit.run(one, &claim, apart).await;
    let others = match ok(other.begin(&claim).await) {
        Begin::Run { tx, .. } => tx,
        answer => apart.broken(&claim, format_args!("the other said {}", name(&answer))),
    };
    kit.end(one, tx, End::Granted).await;
    drop(others);
    kit.expect_granted(one, &claim, apart).await;
    match kit.begin_soon(other, &claim).await {
        Begin::InDoubt { tx, .. } => kit.end(other, tx, End::Failed("undone".to_owned())).await,
        answer => apart.broken(&claim, format_args!("the other said {}", name(&answer))),
    }
    apart.check(
        ok(one.in_doubt().await).iter().all(|record| record.id != claim.id()),
        &claim,
        "a doubt of one is listed by the other",
    );
    apart.check(ok(one.forget(claim.id()).await), &claim, "one did not know its own");
    let (tx, attempt) = kit.run(other, &claim, apart).await;
    apart.check(attempt > 1, &claim, "one made the other forget");
    kit.end(other, tx, End::Granted).await;
    kit.run(one, &claim, apart).await;
    let _ = (one.forget(claim.id()).await, other.forget(claim.id()).await);
}

const ONE_HOLDS: Promise = Promise("promise 1, at most one holds it");
const FOR_GOOD: Promise = Promise("promise 2, granted is for good");
const DURABLE: Promise = Promise("promise 3, the intention is durable");
const NEVER_CLEAN: Promise = Promise("promise 4, cut off is never clean");
const NOBODY_WAITS: Promise = Promise("promise 5, nobody waits");
const ONE_PLACE: Promise = Promise("promise 6, released in one place");
const ENDS: Promise = Promise("`end`");
const FORGET: Promise = Promise("`forget`");
const IN_DOUBT: Promise = Promise("`in_doubt`");
const SETTLE: Promise = Promise("`settle`");
const IDS: Promise = Promise("every id is a reward of its own");

async fn granted_is_for_good<S: Store>(kit: &Kit, make: &impl AsyncFn() -> S) {
    let store = Arc::new(make().await);
    let claims: Vec<_> = (0..3).map(|_| kit.claim()).collect();
    for claim in &claims {
        let (tx, _) = kit.run(&*store, claim, FOR_GOOD).await;
        kit.end(&*store, tx, End::Granted).await;
    }
    // In a crowd, too: a duplicate must not hear `Busy` because another one is being looked up.
    let crowd = (0..CROWD * claims.len()).map(|n| {
        let (store, claim) = (Arc::clone(&store), claims[n % claims.len()].clone());
        spawn(async move { matches!(ok(store.begin(&claim).await), Begin::Granted) })
    });
    for granted in join_all(crowd).await {
        FOR_GOOD.check(joined(granted), &claims[0], "of a crowd, not all heard `Granted`");
    }
    drop(store);
    let store = make().await;
    for claim in &claims {
        kit.expect_granted(&store, claim, FOR_GOOD).await;
    }
}

async fn intention_is_durable<S: Store>(kit: &Kit, make: &impl AsyncFn() -> S) {
    let foreign = kit.claim();
    let inside = kit.claim().with_in_tx(true);
    let failed = kit.claim();

    let store = make().await;
    let (tx, _) = kit.run(&store, &failed, DURABLE).await;
    kit.end(&store, tx, End::Failed("no such user".to_owned())).await;
    let transactions =
        (kit.run(&store, &foreign, DURABLE).await, kit.run(&store, &inside, DURABLE).await);
    drop(transactions);
    drop(store);

    let store = make().await;
    match kit.begin_soon(&store, &foreign).await {
        Begin::InDoubt { attempt, .. } => {
            DURABLE.check(attempt == 2, &foreign, format_args!("attempt 2 was called {attempt}"));
        }
        answer => DURABLE.broken(
            &foreign,
            format_args!("cut off and opened again, `begin` said {}", name(&answer)),
        ),
    }
    match kit.begin_soon(&store, &inside).await {
        Begin::Run { tx, .. } | Begin::InDoubt { tx, .. } => {
            kit.end(&store, tx, End::Granted).await
        }
        answer => DURABLE.broken(
            &inside,
            format_args!("cut off and opened again, `begin` said {}", name(&answer)),
        ),
    }
    let (tx, attempt) = kit.run(&store, &failed, DURABLE).await;
    DURABLE.check(attempt == 2, &failed, format_args!("attempt 2 was called {attempt}"));
    drop(tx);
}

async fn cut_off_is_never_clean<S: Store>(kit: &Kit, store: &Arc<S>) {
    let claim = kit.claim();
    let (tx, _) = kit.run(&**store, &claim, NEVER_CLEAN).await;
    drop(tx);
    // To look is not to settle: the doubt stays, however often it is asked about.
    for _ in 0..3 {
        drop(kit.doubt(&**store, &claim, NEVER_CLEAN).await);
    }
    // What was dropped a moment ago may still be on its way back.
    kit.soon(async || ok(store.in_doubt().await).iter().any(|record| record.id == claim.id()))
        .await;
    let listed = ok(store.in_doubt().await);
    let Some(Record { unit, amount, promoter, state, attempts, .. }) =
        listed.iter().find(|record| record.id == claim.id())
    else {
        IN_DOUBT.broken(&claim, "does not list it")
    };
    IN_DOUBT.check(
        (unit, *amount, *promoter, *state)
            == (claim.unit(), claim.amount(), claim.promoter(), State::Started),
        &claim,
        "lists it with other facts than the claim's",
    );
    IN_DOUBT.check(*attempts == 4, &claim, format_args!("lists 4 attempts as {attempts}"));

    let tx = kit.doubt(&**store, &claim, NEVER_CLEAN).await;
    let listed = ok(store.in_doubt().await);
    IN_DOUBT.check(
        listed.iter().all(|record| record.id != claim.id()),
        &claim,
        "lists it while somebody is at work on it",
    );
    kit.end(&**store, tx, End::Failed("nothing was granted".to_owned())).await;
    let (tx, _) = kit.run(&**store, &claim, NEVER_CLEAN).await;
    drop(tx);
    let tx = kit.doubt(&**store, &claim, NEVER_CLEAN).await;
    kit.end(&**store, tx, End::Granted).await;
    kit.expect_granted(&**store, &claim, NEVER_CLEAN).await;

    let inside = kit.claim().with_in_tx(true);
    let (tx, _) = kit.run(&**store, &inside, NEVER_CLEAN).await;
    drop(tx);
    match kit.begin_soon(&**store, &inside).await {
        Begin::Run { tx, .. } | Begin::InDoubt { tx, .. } => {
            kit.end(&**store, tx, End::Granted).await;
        }
        answer => {
            NEVER_CLEAN.broken(&inside, format_args!("dropped, `begin` said {}", name(&answer)))
        }
    }
    kit.expect_granted(&**store, &inside, NEVER_CLEAN).await;
}

async fn ends_and_attempts<S: Store>(kit: &Kit, store: &Arc<S>) {
    for in_tx in [false, true] {
        let claim = kit.claim().with_in_tx(in_tx);
        let ends = [
            End::Pending,
            End::Failed("no such user".to_owned()),
            End::Failed("still \"none\", 🙈".to_owned()),
            End::Pending,
            End::Granted,
        ];
        for (end, expected) in ends.into_iter().zip(1..) {
            let (tx, attempt) = kit.run(&**store, &claim, ENDS).await;
            let said = format_args!("attempt {expected} was called {attempt}");
            ENDS.check(attempt == expected, &claim, said);
            kit.end(&**store, tx, end).await;
        }
        kit.expect_granted(&**store, &claim, ENDS).await;
    }
}

async fn nobody_waits<S: Store>(kit: &Kit, store: &Arc<S>) {
    for in_tx in [false, true] {
        let claim = kit.claim().with_in_tx(in_tx);
        let (tx, _) = kit.run(&**store, &claim, NOBODY_WAITS).await;
        let crowd = (0..CROWD).map(|_| {
            let (store, claim) = (Arc::clone(store), claim.clone());
            spawn(async move {
                match timeout(AT_ONCE, store.begin(&claim)).await {
                    Ok(answer) => Some(matches!(ok(answer), Begin::Busy)),
                    Err(_elapsed) => None,
                }
            })
        });
        for busy in join_all(crowd).await {
            match joined(busy) {
                Some(busy) => ONE_HOLDS.check(busy, &claim, "a second `begin` did not say `Busy`"),
                None => NOBODY_WAITS.broken(&claim, "`begin` waited for the one who holds it"),
            }
        }
        kit.end(&**store, tx, End::Granted).await;
        kit.expect_granted(&**store, &claim, NOBODY_WAITS).await;
    }
}

/// While one ends, the next one is already asking. Once that has it, nothing the first still does
/// may take it away.
async fn released_in_one_place<S: Store>(kit: &Kit, store: &Arc<S>) {
    for round in 0..100 {
        let claim = kit.claim().with_in_tx(round % 2 == 1);
        let (tx, _) = kit.run(&**store, &claim, ONE_PLACE).await;
        let ending = spawn({
            let store = Arc::clone(store);
            async move { ok(store.end(tx, End::Pending).await) }
        });
        let (successor, _) = kit.run(&**store, &claim, ONE_PLACE).await;
        joined(ending.await);
        // As long as a drop may take that gives something back by itself.
        for _ in 0..10 {
            yield_now().await;
        }
        let answer = ok(store.begin(&claim).await);
        ONE_PLACE.check(
            matches!(answer, Begin::Busy),
            &claim,
            format_args!("the end of one took it from the next: `begin` said {}", name(&answer)),
        );
        drop(answer);
        kit.end(&**store, successor, End::Granted).await;
    }
}

async fn operators_verbs<S: Store>(kit: &Kit, store: &Arc<S>) {
    let store = &**store;
    let claim = kit.claim();
    let id = claim.id();
    FORGET.check(!ok(store.forget(id).await), &claim, "forgot what it never knew");
    SETTLE.check(!ok(store.settle(id, true).await), &claim, "settled what it never knew");

    let (tx, _) = kit.run(store, &claim, FORGET).await;
    FORGET.check(!ok(store.forget(id).await), &claim, "forgot it while a grant was running");
    for granted in [true, false] {
        let settled = ok(store.settle(id, granted).await);
        SETTLE.check(!settled, &claim, "settled it while a grant was running");
    }
    drop(tx);
    drop(kit.doubt(store, &claim, SETTLE).await);
    SETTLE.check(
        kit.soon(async || ok(store.settle(id, true).await)).await,
        &claim,
        "did not settle a doubt",
    );
    kit.expect_granted(store, &claim, SETTLE).await;
    for granted in [true, false] {
        let settled = ok(store.settle(id, granted).await);
        SETTLE.check(!settled, &claim, "settled what was granted");
    }
    kit.expect_granted(store, &claim, SETTLE).await;

    FORGET.check(ok(store.forget(id).await), &claim, "did not forget what was granted");
    let (tx, attempt) = kit.run(store, &claim, FORGET).await;
    FORGET.check(attempt == 1, &claim, format_args!("the first attempt was called {attempt}"));
    drop(tx);
    drop(kit.doubt(store, &claim, SETTLE).await);
    SETTLE.check(
        kit.soon(async || ok(store.settle(id, false).await)).await,
        &claim,
        "did not settle a doubt",
    );
    let listed = ok(store.in_doubt().await);
    IN_DOUBT.check(listed.iter().all(|record| record.id != id), &claim, "lists what is settled");
    let (tx, _) = kit.run(store, &claim, SETTLE).await;
    kit.end(store, tx, End::Failed("no such user".to_owned())).await;
    SETTLE.check(!ok(store.settle(id, true).await), &claim, "settled what had failed");
    kit.run(store, &claim, SETTLE).await;
    drop(kit.doubt(store, &claim, FORGET).await);
    FORGET.check(
        kit.soon(async || ok(store.forget(id).await)).await,
        &claim,
        "did not forget a doubt",
    );
    let (tx, _) = kit.run(store, &claim, FORGET).await;
    kit.end(store, tx, End::Granted).await;
}

/// Ids have 64 bits. One that a store has no room for may be refused, but never be taken for another.
async fn ids_are_kept_apart<S: Store>(kit: &Kit, store: &Arc<S>) {
    let low = kit.claim();
    let (tx, _) = kit.run(&**store, &low, IDS).await;
    kit.end(&**store, tx, End::Granted).await;
    for bit in [21, 31, 32, 53, 63] {
        let other = kit.claim_with(low.id().get() ^ (1 << bit));
        match store.begin(&other).await {
            Ok(Begin::Run { tx, .. }) => kit.end(&**store, tx, End::Failed(String::new())).await,
            Ok(answer) => IDS.broken(
                &other,
                format_args!("`begin` said {} because of reward {}", name(&answer), low.id()),
            ),
            Err(_refused) => {}
        }
        let _ = store.forget(other.id()).await;
    }
    kit.expect_granted(&**store, &low, IDS).await;
}

/// A crowd asks for each reward until it is granted. Whoever gets it ends it well or badly, or drops
/// it, and notes how many have it meanwhile.
async fn at_most_one_holds_it<S: Store>(kit: &Kit, store: &Arc<S>) {
    for round in 0..16 {
        let claim = kit.claim().with_in_tx(round % 2 == 1);
        let (holding, taken) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let granted = Arc::<AtomicUsize>::default();
        // All at once, however late this machine gets to start the last of them.
        let (start, started) = oneshot::channel();
        let started = started.shared();
        let crowd = (0..CROWD / 4).map(|_| {
            let (store, claim, started) = (Arc::clone(store), claim.clone(), started.clone());
            let (holding, taken) = (Arc::clone(&holding), Arc::clone(&taken));
            let granted = Arc::clone(&granted);
            spawn(async move {
                started.await.expect("it starts");
                let deadline = Instant::now() + LONG;
                loop {
                    let tx = match ok(store.begin(&claim).await) {
                        Begin::Granted => break,
                        Begin::Busy => {
                            NOBODY_WAITS.check(Instant::now() < deadline, &claim, "busy for ever");
                            // Neither in step nor in a hurry: a store may be at the other end of a wire.
                            sleep(Duration::from_millis(1)).await;
                            continue;
                        }
                        Begin::Run { tx, .. } | Begin::InDoubt { tx, .. } => tx,
                    };
                    let others = holding.fetch_add(1, Ordering::SeqCst);
                    ONE_HOLDS.check(others == 0, &claim, "two hold it at the same time");
                    let done = granted.load(Ordering::SeqCst);
                    FOR_GOOD.check(done == 0, &claim, "it was given out again after `Granted`");
                    // Long enough for another that has looked, and is about to take it.
                    for _ in 0..4 {
                        yield_now().await;
                    }
                    let turn = taken.fetch_add(1, Ordering::SeqCst);
                    holding.fetch_sub(1, Ordering::SeqCst);
                    match turn {
                        // A doubt may be slow to come to light, so there is but one.
                        2 => drop(tx),
                        3..10 if claim.in_tx() => drop(tx),
                        0..10 if turn % 2 == 0 => ok(store.end(tx, End::Pending).await),
                        0..10 => ok(store.end(tx, End::Failed("not yet".to_owned())).await),
                        _ => {
                            ok(store.end(tx, End::Granted).await);
                            granted.store(1, Ordering::SeqCst);
                        }
                    }
                }
            })
        });
        let crowd: Vec<_> = crowd.collect();
        start.send(()).expect("they wait");
        for end in join_all(crowd).await {
            joined(end);
        }
        kit.expect_granted(&**store, &claim, ONE_HOLDS).await;
    }
}

/// What a store has promised.
#[derive(Clone, Copy)]
struct Promise(&'static str);

impl Promise {
    #[track_caller]
    fn check(&self, kept: bool, claim: &Claim, how: impl fmt::Display) {
        if !kept {
            self.broken(claim, how);
        }
    }

    #[track_caller]
    fn broken(&self, claim: &Claim, how: impl fmt::Display) -> ! {
        let Self(promise) = self;
        let inside = if claim.in_tx() { " (granted through the transaction)" } else { "" };
        panic!("the store breaks {promise}: {how}. Reward {}{inside}", claim.id())
    }
}

/// Makes rewards, and asks for them.
struct Kit {
    first: u64,
    made: AtomicU64,
}

impl Kit {
    fn new() -> Self {
        // Some number of the process's own; what was left by another run must not be met.
        let random = RandomState::new().build_hasher().finish();
        Self { first: (random >> 2 | 1 << 62) & !0xf_ffff, made: AtomicU64::new(0) }
    }

    fn used(&self) -> impl Iterator<Item = u64> {
        (self.first..).take(self.made.load(Ordering::Relaxed) as usize)
    }

    fn claim(&self) -> Claim {
        self.claim_with(self.first + self.made.fetch_add(1, Ordering::Relaxed))
    }

    fn claim_with(&self, id: u64) -> Claim {
        let body = format!(
            r#"{{"event":{{"type":"fulfilment_pending"}},"data":{{"id":{id},"amount":"12.50","unit":"store's \"contract\"","promoter":{{"id":7}}}}}}"#
        );
        match Fulfilment::decode(body) {
            Ok(fulfilment) => Claim::from(&fulfilment),
            Err(error) => panic!("the kit's own payload is wrong: {error}"),
        }
    }

    /// A store may take a moment to undo what was dropped, and be busy with it.
    async fn begin_soon<S: Store>(&self, store: &S, claim: &Claim) -> Begin<S::Tx> {
        let deadline = Instant::now() + SOON;
        // At first without a pause, so that what is free for a moment only is found free.
        for turn in 0.. {
            match ok(store.begin(claim).await) {
                Begin::Busy if turn < 50 => yield_now().await,
                Begin::Busy if Instant::now() < deadline => sleep(Duration::from_millis(1)).await,
                answer => return answer,
            }
        }
        unreachable!("it is asked until the deadline")
    }

    async fn soon(&self, done: impl AsyncFn() -> bool) -> bool {
        let deadline = Instant::now() + SOON;
        loop {
            match done().await {
                false if Instant::now() < deadline => sleep(Duration::from_millis(1)).await,
                done => return done,
            }
        }
    }

    async fn run<S: Store>(&self, store: &S, claim: &Claim, promise: Promise) -> (S::Tx, u32) {
        match self.begin_soon(store, claim).await {
            Begin::Run { tx, attempt } => (tx, attempt),
            answer => promise.broken(
                claim,
                format_args!("`begin` said {} where `Run` was right", name(&answer)),
            ),
        }
    }

    async fn doubt<S: Store>(&self, store: &S, claim: &Claim, promise: Promise) -> S::Tx {
        match self.begin_soon(store, claim).await {
            Begin::InDoubt { tx, .. } => tx,
            answer => promise.broken(
                claim,
                format_args!("`begin` said {} where `InDoubt` was right", name(&answer)),
            ),
        }
    }

    async fn expect_granted<S: Store>(&self, store: &S, claim: &Claim, promise: Promise) {
        let answer = ok(store.begin(claim).await);
        promise.check(
            matches!(answer, Begin::Granted),
            claim,
            format_args!("`begin` said {} where `Granted` was right", name(&answer)),
        );
    }

    async fn end<S: Store>(&self, store: &S, tx: S::Tx, end: End) {
        ok(store.end(tx, end).await);
    }
}

fn name<Tx>(answer: &Begin<Tx>) -> &'static str {
    match answer {
        Begin::Granted => "`Granted`",
        Begin::Busy => "`Busy`",
        Begin::Run { .. } => "`Run`",
        Begin::InDoubt { .. } => "`InDoubt`",
    }
}

#[track_caller]
fn ok<T>(result: Result<T, impl Into<BoxError>>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("the store failed: {}", error.into()),
    }
}

fn spawn<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(work)
}

/// A task's panic goes on in the test.
fn joined<T>(end: Result<T, tokio::task::JoinError>) -> T {
    match end {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
