//! Checks the promises of [`Store`].

use std::{
    collections::hash_map::RandomState,
    fmt,
    future::Future,
    hash::{BuildHasher, Hasher},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt, channel::oneshot, future::join_all};
use serde_json::json;
use tokio::{
    task::{JoinHandle, yield_now},
    time::{Instant, sleep, timeout},
};

use crate::{
    BoxError,
    event::Fulfilment,
    store::{Begin, Claim, End, Record, State, Store},
};

/// Limit of a `begin` that does not wait, on a slow machine.
const AT_ONCE: Duration = Duration::from_secs(5);

/// Limit of a transactional store's undoing of a dropped transaction.
const UNDONE: Duration = Duration::from_secs(10);

/// How long the doubt of a dropped `Tx` is waited for; see [`Kind::Journal`].
const DOUBTED: Duration = Duration::from_secs(2);

/// Limit of a crowd that fulfils one fulfilment, with failures on the way.
const LONG: Duration = Duration::from_secs(60);

/// How many ask for the same fulfilment at the same time.
const CROWD: usize = 64;

/// The kind of a store, which decides what promise 4 asks of it. See [`store_contract`] for an
/// example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It undoes a cut-off attempt, which then runs again.
    Transactional,
    /// Its cut-off attempts are in doubt. It may take a dropped `Tx` for one that is running until
    /// the attempt's time is over, and answer `Busy` until then.
    Journal,
}

/// Checks that a store keeps the promises of [`Store`].
///
/// `make` opens the store: while another is open, as a second process does, and after all were
/// dropped, as after a restart. A store that cannot be open twice is given as clones of one.
///
/// The fulfilments have ids of their own in every run, most of them above 2⁶², so that a database may
/// be used again. They are forgotten at the end. Run it on a runtime with several threads.
///
/// ```
/// # #[tokio::main] async fn main() {
/// use tower_firstpromoter::{store::MemoryStore, testkit::{Kind, store_contract}};
///
/// let store = MemoryStore::new(10_000);
/// store_contract(Kind::Journal, async || store.clone()).await;
/// # }
/// ```
///
/// # Panics
///
/// If the store breaks a promise, with its number and name; or if it returns an error.
pub async fn store_contract<S: Store>(kind: Kind, make: impl AsyncFn() -> S) {
    let kit = Kit::new(kind, make().await, make().await);
    kit.ends().await;
    kit.interrupted().await;
    kit.nobody_waits().await;
    kit.dropped().await;
    kit.one_account().await;
    kit.texts().await;
    kit.released_in_one_place().await;
    kit.resolve_and_forget().await;
    kit.open_and_get().await;
    kit.ids_are_kept_apart().await;
    kit.one_at_a_time().await;
    let kit = kit.fulfilled_is_for_good(&make).await;
    let kit = kit.leaves_a_trace(&make).await;
    for id in kit.first..kit.first + kit.made.load(Ordering::Relaxed) {
        let _ = kit.one.forget(id.into()).await;
    }
}

/// Checks that two namespaces over one store know nothing of each other.
///
/// ```
/// # #[tokio::main] async fn main() {
/// use tower_firstpromoter::{store::MemoryStore, testkit::namespace_contract};
///
/// namespace_contract(&MemoryStore::new(100), &MemoryStore::new(100)).await;
/// # }
/// ```
///
/// # Panics
///
/// If one knows of a fulfilment of the other; or if the store returns an error.
pub async fn namespace_contract<S: Store>(one: &S, other: &S) {
    // The kind does not matter here: nothing is cut off.
    let one = Kit::new(Kind::Journal, one.clone(), one.clone());
    let other = Kit::new(Kind::Journal, other.clone(), other.clone());
    let claim = one.claim();
    // One after the other: a store may have a single transaction at a time.
    let (tx, _) = one.run(&claim, NAMESPACES).await;
    one.end(&claim, tx, End::Fulfilled, State::Fulfilled).await;
    let (tx, _) = other.run(&claim, NAMESPACES).await;
    other.end(&claim, tx, End::InDoubt("timed out".to_owned()), State::InDoubt).await;
    one.fulfilled(&claim, NAMESPACES).await;
    let listed = ok(one.one.open(usize::MAX).await);
    let apart = listed.iter().all(|record| record.id != claim.id());
    NAMESPACES.check(apart, &claim, "one lists a doubt of the other");
    NAMESPACES.check(!ok(one.one.resolve(claim.id(), true).await), &claim, "one resolved it");
    NAMESPACES.check(ok(one.one.forget(claim.id()).await), &claim, "one did not know its own");
    let (tx, attempt) = other.doubt(&claim, NAMESPACES).await;
    NAMESPACES.check(attempt == 2, &claim, "one made the other forget");
    other.end(&claim, tx, End::Fulfilled, State::Fulfilled).await;
    drop(one.run(&claim, NAMESPACES).await);
    let _ = (one.one.forget(claim.id()).await, other.one.forget(claim.id()).await);
}

const ONE_ATTEMPT: Promise = Promise("promise 1, one attempt at a time");
const FOR_GOOD: Promise = Promise("promise 2, fulfilled is for good");
const TRACE: Promise = Promise("promise 3, an attempt leaves a trace or no effect");
const NEVER_CLEAN: Promise = Promise("promise 4, a cut-off attempt is never clean");
const NOBODY_WAITS: Promise = Promise("promise 5, nobody waits");
const ONE_PLACE: Promise = Promise("promise 6, released in one place");
const LAST_ASKED: Promise = Promise("promise 7, the record says what was last asked for");
const TEXTS: Promise = Promise("promise 8, texts never decide a state");
const ONE_ACCOUNT: Promise = Promise("promise 9, one account");
const DURABLE: Promise = Promise("promise 10, `Ok` is durable");
const OPEN: Promise = Promise("the contract of `open`");
const RESOLVE: Promise = Promise("the contract of `resolve`");
const FORGET: Promise = Promise("the contract of `forget`");
const IDS: Promise = Promise("the contract: every id is a fulfilment of its own");
const NAMESPACES: Promise = Promise("the contract: namespaces are apart");

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
        panic!("the store breaks {}: {how}. Fulfilment {}", self.0, claim.id())
    }

    #[track_caller]
    fn wrong<Tx>(&self, claim: &Claim, answer: &Begin<Tx>, right: &str) -> ! {
        self.broken(claim, format_args!("`begin` said {} where {right} was right", name(answer)))
    }
}

/// Two open stores over the same records, and claims for them.
struct Kit<S> {
    kind: Kind,
    one: S,
    two: S,
    first: u64,
    made: AtomicU64,
    /// Whether a dropped `Tx` is taken for one that is running.
    drops_are_busy: AtomicBool,
}

impl<S: Store> Kit<S> {
    fn new(kind: Kind, one: S, two: S) -> Self {
        let random = RandomState::new().build_hasher().finish();
        let first = (random >> 2 | 1 << 62) & !0xf_ffff;
        Self { kind, one, two, first, made: AtomicU64::new(0), drops_are_busy: false.into() }
    }

    async fn reopened(self, make: &impl AsyncFn() -> S) -> Self {
        let Self { kind, one, two, first, made, drops_are_busy } = self;
        drop((one, two));
        Self { kind, one: make().await, two: make().await, first, made, drops_are_busy }
    }

    fn claim(&self) -> Claim {
        let id = self.first + self.made.fetch_add(1, Ordering::Relaxed);
        claim(id, 7, "12.50", "store's \"contract\"", "user-7")
    }

    /// Begins an attempt where nobody holds the fulfilment.
    async fn run(&self, claim: &Claim, promise: Promise) -> (S::Tx, u32) {
        match ok(self.one.begin(claim).await) {
            Begin::Run { tx, attempt } => (tx, attempt),
            answer @ Begin::Busy => ONE_PLACE.wrong(claim, &answer, "`Run`"),
            answer => promise.wrong(claim, &answer, "`Run`"),
        }
    }

    async fn doubt(&self, claim: &Claim, promise: Promise) -> (S::Tx, u32) {
        match ok(self.one.begin(claim).await) {
            Begin::InDoubt { tx, attempt } => (tx, attempt),
            answer @ Begin::Busy => ONE_PLACE.wrong(claim, &answer, "`InDoubt`"),
            answer => promise.wrong(claim, &answer, "`InDoubt`"),
        }
    }

    async fn fulfilled(&self, claim: &Claim, promise: Promise) {
        for store in [&self.one, &self.two] {
            match ok(store.begin(claim).await) {
                Begin::Fulfilled => {}
                answer => promise.wrong(claim, &answer, "`Fulfilled`"),
            }
        }
    }

    /// Ends an attempt, and reads the record through the second connection.
    async fn end(&self, claim: &Claim, tx: S::Tx, end: End, state: State) -> Record {
        let promise = match &end {
            End::InDoubt(_) | End::Interrupted(_) | End::NotRun(_) => NEVER_CLEAN,
            _ => LAST_ASKED,
        };
        let ended = format!("{end:?}").chars().take(80).collect::<String>();
        let said = ok(self.one.end(tx, end).await);
        let left = format_args!("`end` with {ended} left {said} where {state} was right");
        promise.check(said == state, claim, left);
        let Some(record) = ok(self.two.get(claim.id()).await) else {
            DURABLE.broken(claim, format_args!("{said} is not there for a second connection"))
        };
        let read = format_args!("{said} is {} for a second connection", record.state);
        DURABLE.check(record.state == said, claim, read);
        let same = ok(self.one.get(claim.id()).await).as_ref() == Some(&record);
        DURABLE.check(same, claim, "two connections read different records");
        record
    }

    /// Begins once more after a `Tx` was dropped. `None` is a journal's: it may still be running.
    async fn after_drop(&self, claim: &Claim) -> Option<Begin<S::Tx>> {
        let busy_is_right = self.kind == Kind::Journal;
        let deadline = Instant::now() + if busy_is_right { DOUBTED } else { UNDONE };
        loop {
            match ok(self.one.begin(claim).await) {
                Begin::Busy if busy_is_right && self.drops_are_busy.load(Ordering::Relaxed) => {
                    return None;
                }
                Begin::Busy if Instant::now() < deadline => sleep(Duration::from_millis(1)).await,
                Begin::Busy if busy_is_right => {
                    self.drops_are_busy.store(true, Ordering::Relaxed);
                    return None;
                }
                answer @ Begin::Busy => ONE_PLACE.wrong(claim, &answer, "`Run`"),
                answer => return Some(answer),
            }
        }
    }

    async fn dropped(&self) {
        let claim = self.claim();
        let (tx, _) = self.run(&claim, NEVER_CLEAN).await;
        drop(tx);
        match (self.kind, self.after_drop(&claim).await) {
            (Kind::Transactional, Some(Begin::Run { tx, .. })) => {
                self.end(&claim, tx, End::Fulfilled, State::Fulfilled).await;
            }
            (Kind::Journal, None) => {}
            (Kind::Journal, Some(Begin::InDoubt { tx, attempt })) => {
                let second = attempt == 2;
                NEVER_CLEAN.check(second, &claim, format_args!("attempt 2 is called {attempt}"));
                drop(tx);
                // Asking does not resolve it.
                for _ in 0..3 {
                    match self.after_drop(&claim).await {
                        Some(Begin::InDoubt { .. }) | None => {}
                        Some(answer) => NEVER_CLEAN.wrong(&claim, &answer, "`InDoubt`"),
                    }
                }
                let record = ok(self.two.get(claim.id()).await);
                let shown = record.is_some_and(|record| record.state == State::InDoubt);
                NEVER_CLEAN.check(shown, &claim, "`get` does not show the doubt");
            }
            (Kind::Transactional, Some(answer)) => NEVER_CLEAN.wrong(&claim, &answer, "`Run`"),
            (_, Some(answer)) => NEVER_CLEAN.wrong(&claim, &answer, "`InDoubt`"),
            (_, None) => unreachable!("only a journal is busy after a drop"),
        }
    }

    /// One fulfilment through every end, with other facts each time.
    async fn ends(&self) {
        let id = self.claim().id().get();
        let text = |text: &str| text.to_owned();
        let interrupted = self.interrupted_state();
        let mut seen: Option<Record> = None;
        let ends = [
            // end, the state it leaves, the runs then counted
            (End::NotRun(text("closed")), State::Failed, 0),
            (End::Pending, State::Pending, 1),
            (End::Failed(text("no such user")), State::Failed, 2),
            (End::NotRun(text("not confirmed")), State::Failed, 2),
            (End::Failed(text("still \"none\", 🙈")), State::Failed, 3),
            (End::InDoubt(text("timed out")), State::InDoubt, 4),
            (End::NotRun(text("nobody can tell")), State::InDoubt, 4),
            (End::Failed(text("it had no effect")), State::Failed, 5),
            (End::Interrupted(text("panicked")), interrupted, 6),
            (End::InDoubt(text("again")), State::InDoubt, 7),
            (End::Pending, State::Pending, 8),
            (End::Fulfilled, State::Fulfilled, 9),
        ];
        for (turn, (end, state, attempts)) in ends.into_iter().enumerate() {
            let (amount, unit) = (format!("{turn}.5"), format!("unit {turn}"));
            let claim = claim(id, 7, &amount, &unit, &format!("user-{turn}"));
            let in_doubt = seen.as_ref().is_some_and(|record| record.state == State::InDoubt);
            let (tx, attempt) = match in_doubt {
                true => self.doubt(&claim, NEVER_CLEAN).await,
                false => self.run(&claim, LAST_ASKED).await,
            };
            let next = seen.as_ref().map_or(0, |record| record.attempts) + 1;
            let called = format_args!("attempt {next} is called {attempt}");
            LAST_ASKED.check(attempt == next, &claim, called);
            let reason = match &end {
                // A doubt keeps the reason that it has.
                End::NotRun(_) if in_doubt => seen.as_ref().and_then(|it| it.reason.clone()),
                End::Fulfilled | End::Pending | End::WasFulfilled => None,
                End::Failed(reason)
                | End::InDoubt(reason)
                | End::Interrupted(reason)
                | End::NotRun(reason) => Some(reason.clone()),
            };
            let record = self.end(&claim, tx, end, state).await;
            LAST_ASKED.check(
                (&record.unit, record.amount, record.cust_id.as_deref(), record.promoter)
                    == (claim.unit(), claim.amount(), claim.cust_id(), claim.promoter()),
                &claim,
                format_args!("{record:?}, after {claim:?}"),
            );
            let counted = format_args!("{attempts} runs are counted as {}", record.attempts);
            LAST_ASKED.check(record.attempts == attempts, &claim, counted);
            let reasons = format_args!("the reason is {:?} after {reason:?}", record.reason);
            LAST_ASKED.check(record.reason == reason, &claim, reasons);
            let first_seen = seen.as_ref().map_or(record.first_seen, |before| before.first_seen);
            let ordered = record.first_seen == first_seen
                && seen.as_ref().is_none_or(|before| before.changed <= record.changed);
            LAST_ASKED.check(ordered, &claim, "`first_seen` changes, or `changed` goes back");
            seen = Some(record);
        }
    }

    fn interrupted_state(&self) -> State {
        match self.kind {
            Kind::Transactional => State::Failed,
            Kind::Journal => State::InDoubt,
        }
    }

    /// What `end` says of an attempt is what the next `begin` says, also to a second connection.
    async fn interrupted(&self) {
        let reason = || "timed out".to_owned();
        for (end, state) in [
            (End::Interrupted(reason()), self.interrupted_state()),
            (End::InDoubt(reason()), State::InDoubt),
        ] {
            let claim = self.claim();
            let (tx, _) = self.run(&claim, NEVER_CLEAN).await;
            self.end(&claim, tx, end, state).await;
            match (state, ok(self.two.begin(&claim).await)) {
                (State::InDoubt, Begin::InDoubt { tx, .. }) => {
                    // An earlier attempt had fulfilled it: the one that learns it is no run.
                    let said = ok(self.two.end(tx, End::WasFulfilled).await);
                    let record = ok(self.one.get(claim.id()).await);
                    let attempts = record.map(|record| (record.state, record.attempts));
                    let right = said == State::Fulfilled && attempts == Some((said, 1));
                    LAST_ASKED.check(right, &claim, format_args!("{attempts:?} after 1 run"));
                }
                (State::Failed, Begin::Run { tx, attempt: 2 }) => {
                    ok(self.two.end(tx, End::Fulfilled).await);
                }
                (_, answer) => NEVER_CLEAN.wrong(&claim, &answer, state.as_str()),
            }
            self.fulfilled(&claim, FOR_GOOD).await;
        }
    }

    async fn nobody_waits(&self) {
        for fulfilled in [false, true] {
            let claim = self.claim();
            let (tx, _) = self.run(&claim, NOBODY_WAITS).await;
            let crowd = (0..CROWD).map(|n| {
                let store = if n % 2 == 0 { self.one.clone() } else { self.two.clone() };
                let claim = claim.clone();
                spawn(async move {
                    match timeout(AT_ONCE, store.begin(&claim)).await {
                        Ok(answer) => Some(matches!(ok(answer), Begin::Busy)),
                        Err(_elapsed) => None,
                    }
                })
            });
            for busy in join_all(crowd).await {
                match joined(busy) {
                    Some(busy) => ONE_ATTEMPT.check(busy, &claim, "a second `begin` is not `Busy`"),
                    None => NOBODY_WAITS.broken(&claim, "`begin` waits for the attempt that runs"),
                }
            }
            // (A transactional store may have no other connection as long as an attempt runs.)
            for store in [&self.one, &self.two] {
                if self.kind == Kind::Journal {
                    let state = ok(store.get(claim.id()).await).map(|record| record.state);
                    let doubted = state == Some(State::InDoubt);
                    NEVER_CLEAN.check(!doubted, &claim, "it is in doubt as it runs");
                    let traced = state == Some(State::Started);
                    TRACE.check(traced, &claim, format_args!("`get` shows {state:?} as it runs"));
                }
            }
            let end = if fulfilled { End::Fulfilled } else { End::Pending };
            let state = if fulfilled { State::Fulfilled } else { State::Pending };
            self.end(&claim, tx, end, state).await;
        }
    }

    async fn one_account(&self) {
        let ours = self.claim();
        let theirs = claim(ours.id().get(), 8, "3", "credits", "user-8");
        // What never ran may be forged: it must block nobody.
        let (tx, _) = self.run(&theirs, ONE_ACCOUNT).await;
        self.end(&theirs, tx, End::NotRun("not confirmed".to_owned()), State::Failed).await;
        let (tx, _) = self.run(&ours, ONE_ACCOUNT).await;
        match ok(self.two.begin(&theirs).await) {
            Begin::Busy | Begin::Mismatch => {}
            answer => ONE_ACCOUNT.wrong(&ours, &answer, "`Busy` or `Mismatch`"),
        }
        let mut tx = Some(tx);
        for (end, state) in [
            (End::Pending, State::Pending),
            (End::Failed("no".to_owned()), State::Failed),
            (End::InDoubt("timed out".to_owned()), State::InDoubt),
            (End::Fulfilled, State::Fulfilled),
        ] {
            let held = match tx.take() {
                Some(tx) => tx,
                None => self.run(&ours, ONE_ACCOUNT).await.0,
            };
            let record = self.end(&ours, held, end, state).await;
            match ok(self.two.begin(&theirs).await) {
                Begin::Mismatch => {}
                answer => ONE_ACCOUNT.wrong(&ours, &answer, "`Mismatch`"),
            }
            let unchanged = ok(self.one.get(ours.id()).await) == Some(record);
            ONE_ACCOUNT.check(unchanged, &ours, "a `Mismatch` changes the record");
            if state == State::InDoubt {
                tx = Some(self.doubt(&ours, ONE_ACCOUNT).await.0);
            }
        }
        self.fulfilled(&ours, ONE_ACCOUNT).await;
    }

    async fn texts(&self) {
        let long = "🙈 ".repeat(5_000);
        for text in
            ["", " ", "\0", "a\0b", "\u{1}\u{7f}\r\n\t", "'; \"\\ %s {} $1", "Дя ş 漢 ﷽", &long]
        {
            let asked = claim(self.claim().id().get(), 7, "1", &format!("x{text}"), text);
            for (end, state) in [
                (End::Failed(text.to_owned()), State::Failed),
                (End::NotRun(text.to_owned()), State::Failed),
                (End::Interrupted(text.to_owned()), self.interrupted_state()),
                (End::InDoubt(text.to_owned()), State::InDoubt),
                (End::NotRun(text.to_owned()), State::InDoubt),
                (End::Fulfilled, State::Fulfilled),
            ] {
                let tx = match self.one.begin(&asked).await {
                    Ok(Begin::Run { tx, .. } | Begin::InDoubt { tx, .. }) => tx,
                    Ok(answer) => TEXTS.wrong(&asked, &answer, "a `Tx`"),
                    Err(error) => TEXTS.broken(&asked, format_args!("{error} with {text:.20?}")),
                };
                match self.one.end(tx, end).await {
                    Ok(left) if left == state => {}
                    Ok(left) => TEXTS.broken(&asked, format_args!("{left} with {text:.20?}")),
                    Err(error) => TEXTS.broken(&asked, format_args!("{error} with {text:.20?}")),
                }
                let Some(record) = ok(self.two.get(asked.id()).await) else {
                    TEXTS.broken(&asked, format_args!("there is no record with {text:.20?}"))
                };
                let state_is = format_args!("{} with {text:.20?}", record.state);
                TEXTS.check(record.state == state, &asked, state_is);
                // What a database cannot hold it may write in its own way.
                let plain = text.chars().all(|c| c == ' ' || c.is_ascii_graphic());
                let short = |found: &str, given: &str, longest: usize| {
                    (given.starts_with(found) || !plain) && found.chars().count() <= longest
                };
                let shortened = short(record.unit.as_str(), asked.unit().as_str(), 255)
                    && short(record.cust_id.as_deref().unwrap_or_default(), text, 255)
                    && short(record.reason.as_deref().unwrap_or_default(), text, 300);
                let altered = format_args!("neither shortened nor left out: {record:?}");
                TEXTS.check(shortened, &asked, altered);
            }
            self.fulfilled(&asked, TEXTS).await;
        }
    }

    /// While one ends, the next is already asking. Once that holds it, nothing the first still does
    /// may take it away.
    async fn released_in_one_place(&self) {
        for round in 0..100 {
            let claim = self.claim();
            let (tx, _) = self.run(&claim, ONE_PLACE).await;
            let store = self.one.clone();
            let ending = spawn(async move { ok(store.end(tx, End::Pending).await) });
            let deadline = Instant::now() + AT_ONCE;
            let successor = loop {
                match ok(self.one.begin(&claim).await) {
                    Begin::Run { tx, .. } => break tx,
                    Begin::Busy if Instant::now() < deadline => yield_now().await,
                    answer => ONE_PLACE.wrong(&claim, &answer, "`Run`"),
                }
            };
            joined(ending.await);
            // As long as a drop that releases it may take.
            for _ in 0..10 {
                yield_now().await;
            }
            // A second process may wait for a lock of the whole database, so it is asked less often.
            let store = if round % 25 == 0 { &self.two } else { &self.one };
            match ok(store.begin(&claim).await) {
                Begin::Busy => {}
                answer => ONE_PLACE.wrong(&claim, &answer, "`Busy`, for a successor holds it,"),
            }
            self.end(&claim, successor, End::Fulfilled, State::Fulfilled).await;
        }
    }

    async fn resolve_and_forget(&self) {
        let claim = self.claim();
        let id = claim.id();
        let doubt = || End::InDoubt("timed out".to_owned());
        let refused = async |state: &str, forgets: bool| {
            for fulfilled in [true, false] {
                let resolved = ok(self.one.resolve(id, fulfilled).await);
                RESOLVE.check(!resolved, &claim, format_args!("it resolves what is {state}"));
            }
            if !forgets {
                let forgot = ok(self.one.forget(id).await);
                FORGET.check(!forgot, &claim, format_args!("it forgets what is {state}"));
            }
        };
        refused("unknown", false).await;
        FORGET.check(ok(self.one.get(id).await).is_none(), &claim, "there is a record of nothing");

        let (tx, _) = self.run(&claim, FORGET).await;
        refused("running", false).await;
        self.end(&claim, tx, End::Pending, State::Pending).await;
        refused("pending", true).await;
        let (tx, _) = self.run(&claim, FORGET).await;
        refused("running", false).await;
        self.end(&claim, tx, End::Failed("no".to_owned()), State::Failed).await;
        refused("failed", true).await;
        let (tx, _) = self.run(&claim, FORGET).await;
        self.end(&claim, tx, doubt(), State::InDoubt).await;
        RESOLVE.check(ok(self.one.resolve(id, false).await), &claim, "it does not resolve a doubt");
        refused("resolved", true).await;
        let state = ok(self.two.get(id).await).map(|record| record.state);
        let left = format_args!("{state:?} is read after `resolve` with false");
        DURABLE.check(state == Some(State::Failed), &claim, left);

        let (tx, attempt) = self.run(&claim, RESOLVE).await;
        RESOLVE.check(attempt == 4, &claim, format_args!("attempt 4 is called {attempt}"));
        self.end(&claim, tx, doubt(), State::InDoubt).await;
        let (tx, _) = self.doubt(&claim, RESOLVE).await;
        refused("running", false).await;
        self.end(&claim, tx, End::NotRun("unknown".to_owned()), State::InDoubt).await;
        RESOLVE.check(ok(self.one.resolve(id, true).await), &claim, "it does not resolve a doubt");
        self.fulfilled(&claim, RESOLVE).await;
        refused("fulfilled", true).await;
        self.fulfilled(&claim, RESOLVE).await;

        FORGET.check(ok(self.one.forget(id).await), &claim, "it does not forget what is fulfilled");
        let gone = ok(self.two.get(id).await).is_none();
        DURABLE.check(gone, &claim, "a second connection reads what was forgotten");
        let (tx, attempt) = self.run(&claim, FORGET).await;
        FORGET.check(attempt == 1, &claim, format_args!("attempt 1 is called {attempt}"));
        self.end(&claim, tx, doubt(), State::InDoubt).await;
        FORGET.check(ok(self.two.forget(id).await), &claim, "it does not forget a doubt");
        let (tx, _) = self.run(&claim, FORGET).await;
        self.end(&claim, tx, End::Fulfilled, State::Fulfilled).await;
    }

    async fn open_and_get(&self) {
        let claims: Vec<_> = (0..5).map(|_| self.claim()).collect();
        let ends = [
            (End::Pending, State::Pending),
            (End::Failed("no".to_owned()), State::Failed),
            (End::InDoubt("timed out".to_owned()), State::InDoubt),
            (End::Fulfilled, State::Fulfilled),
        ];
        let mut expected = Vec::new();
        for (claim, (end, state)) in claims.iter().zip(ends) {
            let (tx, _) = self.run(claim, OPEN).await;
            // Later than the one before, by the coarsest of clocks.
            sleep(Duration::from_millis(5)).await;
            let record = self.end(claim, tx, end, state).await;
            if state != State::Fulfilled {
                expected.insert(0, record);
            }
        }
        let running = &claims[4];
        sleep(Duration::from_millis(5)).await;
        let mut runs = None;
        if self.kind == Kind::Journal {
            runs = Some(self.run(running, OPEN).await.0);
        }
        for store in [&self.one, &self.two] {
            let all = ok(store.open(usize::MAX).await);
            let newest_first = all.is_sorted_by(|one, next| one.changed >= next.changed);
            OPEN.check(newest_first, running, "the latest change does not come first");
            let ours = |record: &&Record| claims.iter().any(|claim| claim.id() == record.id);
            let (started, ended): (Vec<_>, _) =
                all.iter().filter(ours).partition(|record| record.id == running.id());
            let listed = ended.into_iter().eq(&expected);
            OPEN.check(listed, running, "it lists other records than those that are not fulfilled");
            let started: Vec<_> = started.iter().map(|record| record.state).collect();
            let right = started.iter().eq(runs.iter().map(|_| &State::Started));
            NEVER_CLEAN.check(right, running, format_args!("`open` lists {started:?} as it runs"));
            OPEN.check(ok(store.open(0).await).is_empty(), running, "more than 0 are listed");
            for limit in [1, 2] {
                let some = ok(store.open(limit).await);
                let latest = some.len() == limit && some[0].changed >= expected[0].changed;
                OPEN.check(latest, running, format_args!("not the latest {limit} are listed"));
            }
        }
        if let Some(tx) = runs {
            self.end(running, tx, End::Fulfilled, State::Fulfilled).await;
        }
    }

    /// Ids have 64 bits. One that a store has no room for may be refused, but not taken for another.
    async fn ids_are_kept_apart(&self) {
        let low = self.claim();
        let (tx, _) = self.run(&low, IDS).await;
        self.end(&low, tx, End::Fulfilled, State::Fulfilled).await;
        for bit in [21, 31, 32, 53, 63] {
            let other = claim(low.id().get() ^ (1 << bit), 7, "1", "credits", "user-7");
            match self.one.begin(&other).await {
                Ok(Begin::Run { tx, .. }) => {
                    self.end(&other, tx, End::Failed(String::new()), State::Failed).await;
                }
                Ok(answer) => IDS.wrong(&other, &answer, "`Run`"),
                Err(_refused) => {}
            }
            let _ = self.one.forget(other.id()).await;
        }
        self.fulfilled(&low, IDS).await;
    }

    /// A crowd asks for each fulfilment until it is fulfilled. Whoever holds it ends it well or badly,
    /// or drops it, and counts how many hold it meanwhile.
    async fn one_at_a_time(&self) {
        for _ in 0..16 {
            let claim = self.claim();
            let (holding, taken) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
            let fulfilled = Arc::<AtomicBool>::default();
            let drops = !self.drops_are_busy.load(Ordering::Relaxed);
            // All at once, however late this machine starts the last of them.
            let (start, started) = oneshot::channel();
            let started = started.shared();
            let crowd = (0..CROWD / 4).map(|n| {
                let store = if n % 2 == 0 { self.one.clone() } else { self.two.clone() };
                let (claim, started) = (claim.clone(), started.clone());
                let (holding, taken) = (Arc::clone(&holding), Arc::clone(&taken));
                let fulfilled = Arc::clone(&fulfilled);
                spawn(async move {
                    started.await.expect("it starts");
                    let deadline = Instant::now() + LONG;
                    loop {
                        let tx = match ok(store.begin(&claim).await) {
                            Begin::Fulfilled => break,
                            Begin::Busy => {
                                let going = Instant::now() < deadline;
                                ONE_PLACE.check(going, &claim, "it is busy for ever");
                                // Neither in step nor in a hurry: a store may be far away.
                                sleep(Duration::from_millis(1)).await;
                                continue;
                            }
                            Begin::Run { tx, .. } | Begin::InDoubt { tx, .. } => tx,
                            answer @ Begin::Mismatch => {
                                ONE_ACCOUNT.wrong(&claim, &answer, "another answer")
                            }
                        };
                        let others = holding.fetch_add(1, Ordering::SeqCst);
                        ONE_ATTEMPT.check(others == 0, &claim, "two hold it at the same time");
                        let done = fulfilled.load(Ordering::SeqCst);
                        FOR_GOOD.check(!done, &claim, "it runs again after `Fulfilled`");
                        // Long enough for another that has looked, and is about to take it.
                        for _ in 0..4 {
                            yield_now().await;
                        }
                        let turn = taken.fetch_add(1, Ordering::SeqCst);
                        holding.fetch_sub(1, Ordering::SeqCst);
                        let why = || "not yet".to_owned();
                        let end = match turn {
                            2 | 5 if drops => {
                                drop(tx);
                                continue;
                            }
                            0..10 if turn % 3 == 0 => End::Pending,
                            0..10 if turn % 3 == 1 => End::Interrupted(why()),
                            0..10 => End::Failed(why()),
                            _ => End::Fulfilled,
                        };
                        if ok(store.end(tx, end).await) == State::Fulfilled {
                            fulfilled.store(true, Ordering::SeqCst);
                        }
                    }
                })
            });
            let crowd: Vec<_> = crowd.collect();
            start.send(()).expect("they wait");
            for end in join_all(crowd).await {
                joined(end);
            }
            self.fulfilled(&claim, ONE_ATTEMPT).await;
        }
    }

    async fn fulfilled_is_for_good(self, make: &impl AsyncFn() -> S) -> Self {
        let claims: Vec<_> = (0..3).map(|_| self.claim()).collect();
        let doubt = End::InDoubt("timed out".to_owned());
        for (claim, how) in claims.iter().zip(0..) {
            let (tx, _) = self.run(claim, FOR_GOOD).await;
            if how == 0 {
                self.end(claim, tx, End::Fulfilled, State::Fulfilled).await;
                continue;
            }
            self.end(claim, tx, doubt.clone(), State::InDoubt).await;
            if how == 1 {
                let (tx, _) = self.doubt(claim, FOR_GOOD).await;
                self.end(claim, tx, End::WasFulfilled, State::Fulfilled).await;
            } else {
                FOR_GOOD.check(ok(self.one.resolve(claim.id(), true).await), claim, "not resolved");
            }
        }
        // In a crowd, too: a duplicate is not `Busy` because another one is looked up.
        let crowd = (0..CROWD * claims.len()).map(|n| {
            let (store, claim) = (self.one.clone(), claims[n % claims.len()].clone());
            spawn(async move { matches!(ok(store.begin(&claim).await), Begin::Fulfilled) })
        });
        for fulfilled in join_all(crowd).await {
            FOR_GOOD.check(joined(fulfilled), &claims[0], "of a crowd, not all get `Fulfilled`");
        }
        let kit = self.reopened(make).await;
        for claim in &claims {
            kit.fulfilled(claim, FOR_GOOD).await;
        }
        kit
    }

    async fn leaves_a_trace(self, make: &impl AsyncFn() -> S) -> Self {
        let (cut_off, in_doubt, failed) = (self.claim(), self.claim(), self.claim());
        let (tx, _) = self.run(&failed, TRACE).await;
        self.end(&failed, tx, End::Failed("no such user".to_owned()), State::Failed).await;
        let (tx, _) = self.run(&in_doubt, TRACE).await;
        self.end(&in_doubt, tx, End::InDoubt("timed out".to_owned()), State::InDoubt).await;
        let (tx, _) = self.run(&cut_off, TRACE).await;
        if self.kind == Kind::Journal {
            let recorded = ok(self.two.get(cut_off.id()).await).is_some();
            TRACE.check(recorded, &cut_off, "a second connection does not see that it began");
        }
        drop(tx);
        let kit = self.reopened(make).await;
        match (kit.kind, kit.after_drop(&cut_off).await) {
            (Kind::Journal, Some(Begin::InDoubt { .. }) | None) => {}
            (Kind::Transactional, Some(Begin::Run { tx, .. })) => {
                kit.end(&cut_off, tx, End::Fulfilled, State::Fulfilled).await;
            }
            (_, Some(answer)) => TRACE.wrong(&cut_off, &answer, "its trace"),
            (_, None) => unreachable!("only a journal is busy after a drop"),
        }
        let (tx, attempt) = kit.run(&failed, TRACE).await;
        TRACE.check(attempt == 2, &failed, format_args!("attempt 2 is called {attempt}"));
        kit.end(&failed, tx, End::Fulfilled, State::Fulfilled).await;
        drop(kit.doubt(&in_doubt, TRACE).await);
        match kit.after_drop(&in_doubt).await {
            Some(Begin::InDoubt { .. }) | None => {}
            Some(answer) => TRACE.wrong(&in_doubt, &answer, "`InDoubt`"),
        }
        kit
    }
}

fn claim(id: u64, promoter: u64, amount: &str, unit: &str, cust_id: &str) -> Claim {
    let body = json!({
        "event": { "type": "fulfilment_pending" },
        "data": {
            "id": id, "amount": amount, "unit": unit,
            "promoter": { "id": promoter, "cust_id": cust_id },
        },
    });
    match Fulfilment::decode(body.to_string()) {
        Ok(fulfilment) => Claim::new(&fulfilment).with_attempt_within(Duration::from_secs(1)),
        Err(error) => panic!("the kit's own payload is wrong: {error}"),
    }
}

fn name<Tx>(answer: &Begin<Tx>) -> &'static str {
    match answer {
        Begin::Run { .. } => "`Run`",
        Begin::InDoubt { .. } => "`InDoubt`",
        Begin::Fulfilled => "`Fulfilled`",
        Begin::Busy => "`Busy`",
        Begin::Mismatch => "`Mismatch`",
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
