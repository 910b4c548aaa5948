//! Every store of this crate keeps the promises, and the contract tests notice when one does not:
//! they run on stores that are each wrong in one way, as real stores were.

use std::{
    collections::{HashMap, HashSet},
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use tokio::{task::yield_now, time::sleep};
use tower_firstpromoter::{
    event::{Fulfilment, FulfilmentId},
    store::{Begin, Claim, End, MemoryStore, Record, RedbStore, State, Store},
    testkit::{Kind, namespace_contract, store_contract},
};

fn claim(id: u64) -> Claim {
    let body = format!(
        r#"{{"event":{{"type":"fulfilment_pending"}},"data":{{"id":{id},"amount":3,"unit":"credits","promoter":{{"id":7}}}}}}"#
    );
    Claim::new(&Fulfilment::decode(body).expect("a fulfilment"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory() {
    let store = MemoryStore::new(10_000);
    store_contract(Kind::Journal, async || store.clone()).await;
}

/// When it is full, it forgets the oldest that has ended, and nothing that is started or in doubt.
#[tokio::test]
async fn memory_that_is_full() {
    let store = MemoryStore::new(3);
    let begin = async |id| match store.begin(&claim(id)).await {
        Ok(Begin::Run { tx, .. } | Begin::InDoubt { tx, .. }) => tx,
        answer => panic!("{id}: {answer:?}"),
    };
    let end = async |tx, end| store.end(tx, end).await.expect("it cannot fail");
    let kept = async || {
        let mut kept = Vec::new();
        for id in 1..=9 {
            let record = store.get(id.into()).await.expect("it cannot fail");
            kept.extend(record.map(|record| (id, record.state)));
        }
        kept
    };
    let running = begin(1).await;
    end(begin(2).await, End::InDoubt("timed out".into())).await;
    for id in 3..=6 {
        end(begin(id).await, End::Fulfilled).await;
    }
    let expected = [(1, State::Started), (2, State::InDoubt), (6, State::Fulfilled)];
    assert_eq!(kept().await, expected);
    let waiting = [begin(7).await, begin(8).await];
    let started = |id| (id, State::Started);
    assert_eq!(kept().await, [started(1), (2, State::InDoubt), started(7), started(8)]);
    end(running, End::Fulfilled).await;
    for tx in waiting {
        end(tx, End::Pending).await;
    }
    store.resolve(2.into(), true).await.expect("it cannot fail");
    end(begin(9).await, End::Fulfilled).await;
    let pending = (8, State::Pending);
    assert_eq!(kept().await, [(7, State::Pending), pending, (9, State::Fulfilled)]);
}

/// Its file is open once, so the second connection is a clone; `tests/redb.rs` opens it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn redb() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = RedbStore::open(dir.path().join("fulfilments.redb")).expect("opens");
    store_contract(Kind::Journal, async || store.clone()).await;
    let namespace = |account| store.clone().namespace(account).expect("valid");
    namespace_contract(&namespace("one"), &namespace("other")).await;
    namespace_contract(&store, &namespace("a")).await;
}

// sqlite: Kind::Transactional, see tests/sqlite.rs
// postgres: Kind::Transactional, and PostgresJournal: Kind::Journal, see tests/postgres.rs

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn test_stores_without_a_flaw() {
    for design in [Design::Journal, Design::Lease, Design::Transactional] {
        let disk = Disk::default();
        store_contract(design.kind(), async || TestStore::open(design, Flaw::None, &disk)).await;
    }
}

#[test]
fn each_flaw_is_seen() {
    use Design::{Journal, Lease, Transactional};

    // What would otherwise be a page of panics that are right.
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panic.payload_as_str().is_some_and(|said| said.starts_with("the store breaks")) {
            tell(panic);
        }
    }));
    let mut unseen = Vec::new();
    for (design, flaw, expected) in [
        (Journal, Flaw::TwoHold, "promise 1, one attempt at a time"),
        (Journal, Flaw::HeldPerProcess, "promise 1, one attempt at a time"),
        (Journal, Flaw::LosesFulfilledAtRestart, "promise 2, fulfilled is for good"),
        (Journal, Flaw::DuplicatesAreBusy, "promise 2, fulfilled is for good"),
        (Journal, Flaw::LosesStartedAtRestart, "promise 3, an attempt leaves a trace or no effect"),
        (Journal, Flaw::WritesAtTheEnd, "promise 3, an attempt leaves a trace or no effect"),
        (Journal, Flaw::DroppedIsClean, "promise 4, a cut-off attempt is never clean"),
        (Lease, Flaw::DroppedIsClean, "promise 4, a cut-off attempt is never clean"),
        (Journal, Flaw::InterruptedIsClean, "promise 4, a cut-off attempt is never clean"),
        (Journal, Flaw::AskingResolves, "promise 4, a cut-off attempt is never clean"),
        (Journal, Flaw::NotRunResolves, "promise 4, a cut-off attempt is never clean"),
        (Journal, Flaw::RunningIsInDoubt, "promise 4, a cut-off attempt is never clean"),
        (Transactional, Flaw::DoubtIsClean, "promise 4, a cut-off attempt is never clean"),
        (Transactional, Flaw::UndoneIsInDoubt, "promise 4, a cut-off attempt is never clean"),
        (Journal, Flaw::Waits, "promise 5, nobody waits"),
        (Journal, Flaw::StaleDrop, "promise 6, released in one place"),
        (Journal, Flaw::ReleasesLate, "promise 6, released in one place"),
        (Transactional, Flaw::NeverReleasesADrop, "promise 6, released in one place"),
        (Journal, Flaw::KeepsTheFirstAmount, "promise 7, the record says what was last asked for"),
        (Journal, Flaw::CountsWhatDidNotRun, "promise 7, the record says what was last asked for"),
        (Transactional, Flaw::KeepsNoReason, "promise 7, the record says what was last asked for"),
        (Journal, Flaw::NotRunExplainsADoubt, "promise 7, the record says what was last asked for"),
        (Journal, Flaw::RefusesNul, "promise 8, texts never decide a state"),
        (Transactional, Flaw::LosesTheEndWithNul, "promise 8, texts never decide a state"),
        (Journal, Flaw::KeepsLongTexts, "promise 8, texts never decide a state"),
        (Journal, Flaw::IgnoresThePromoter, "promise 9, one account"),
        (Journal, Flaw::MismatchOfFulfilledOnly, "promise 9, one account"),
        (Journal, Flaw::Caches, "promise 10, `Ok` is durable"),
        (Transactional, Flaw::Caches, "promise 10, `Ok` is durable"),
        (Journal, Flaw::ForgetsWhatRuns, "the contract of `forget`: it forgets what is running"),
        (Journal, Flaw::ListsFulfilled, "the contract of `open`: it lists other records"),
        (
            Journal,
            Flaw::OldestFirst,
            "the contract of `open`: the latest change does not come first",
        ),
        (Journal, Flaw::ResolvesAnything, "the contract of `resolve`: it resolves what is pending"),
        (Journal, Flaw::ShortIds, "the contract: every id is a fulfilment of its own"),
    ] {
        let disk = Disk::default();
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let kit = AssertUnwindSafe(|| {
            let make = async || TestStore::open(design, flaw, &disk);
            runtime.block_on(store_contract(design.kind(), make));
        });
        let said = match std::panic::catch_unwind(kit) {
            Ok(()) => "nothing".to_owned(),
            Err(panic) => *panic.downcast::<String>().expect("a message"),
        };
        if !said.contains(expected) {
            unseen.push(format!("{design:?} {flaw:?} is `{expected}`, and the kit said {said}"));
        }
    }
    assert!(unseen.is_empty(), "{unseen:#?}");
}

#[test]
fn namespaces_that_are_one_are_seen() {
    let store = MemoryStore::new(100);
    let kit = AssertUnwindSafe(|| {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(namespace_contract(&store, &store.clone()));
    });
    let panic = std::panic::catch_unwind(kit).expect_err("one store is not two namespaces");
    let said = *panic.downcast::<String>().expect("a message");
    assert!(said.starts_with("the store breaks "), "{said}");
}

/// How a [`TestStore`] is made.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Design {
    Journal,
    /// A journal that takes a dropped `Tx` for one that is running.
    Lease,
    Transactional,
}

impl Design {
    fn kind(self) -> Kind {
        match self {
            Self::Journal | Self::Lease => Kind::Journal,
            Self::Transactional => Kind::Transactional,
        }
    }
}

/// What a [`TestStore`] does wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Flaw {
    None,
    /// It looks, and then takes.
    TwoHold,
    HeldPerProcess,
    LosesFulfilledAtRestart,
    /// It takes, and then looks.
    DuplicatesAreBusy,
    LosesStartedAtRestart,
    WritesAtTheEnd,
    DroppedIsClean,
    InterruptedIsClean,
    AskingResolves,
    NotRunResolves,
    RunningIsInDoubt,
    DoubtIsClean,
    UndoneIsInDoubt,
    Waits,
    /// `end` releases, and so does the drop a moment later.
    StaleDrop,
    ReleasesLate,
    NeverReleasesADrop,
    KeepsTheFirstAmount,
    CountsWhatDidNotRun,
    KeepsNoReason,
    NotRunExplainsADoubt,
    RefusesNul,
    LosesTheEndWithNul,
    KeepsLongTexts,
    IgnoresThePromoter,
    MismatchOfFulfilledOnly,
    /// What it wrote is seen by others when it is closed.
    Caches,
    ForgetsWhatRuns,
    ListsFulfilled,
    OldestFirst,
    ResolvesAnything,
    ShortIds,
}

type Records = Arc<Mutex<HashMap<u64, Record>>>;
type HeldIds = Arc<Mutex<HashSet<u64>>>;

/// What outlives a restart.
#[derive(Default)]
struct Disk {
    records: Records,
    held: HeldIds,
    open: Arc<()>,
}

#[derive(Clone)]
struct TestStore {
    design: Design,
    flaw: Flaw,
    records: Records,
    held: HeldIds,
    cache: Records,
    _open: Arc<()>,
}

struct TestTx {
    store: TestStore,
    key: u64,
    record: Record,
    attempt: u32,
    in_doubt: bool,
    ended: bool,
}

impl Drop for TestTx {
    fn drop(&mut self) {
        let TestStore { design, flaw, .. } = self.store;
        let leased = design == Design::Lease && flaw != Flaw::DroppedIsClean;
        if self.ended || !(leased || flaw == Flaw::NeverReleasesADrop) {
            self.store.release(self.key);
        }
    }
}

impl TestStore {
    fn open(design: Design, flaw: Flaw, disk: &Disk) -> Self {
        if Arc::strong_count(&disk.open) == 1 {
            let lost = |record: &Record| match flaw {
                Flaw::LosesFulfilledAtRestart => record.state == State::Fulfilled,
                Flaw::LosesStartedAtRestart => record.state == State::Started,
                _ => false,
            };
            disk.records.lock().expect("whole").retain(|_, record| !lost(record));
        }
        let held = match flaw {
            Flaw::HeldPerProcess => Arc::default(),
            _ => Arc::clone(&disk.held),
        };
        let (records, _open) = (Arc::clone(&disk.records), Arc::clone(&disk.open));
        Self { design, flaw, records, held, cache: Arc::default(), _open }
    }

    fn key(&self, id: FulfilmentId) -> u64 {
        if self.flaw == Flaw::ShortIds { u64::from(id.get() as u32) } else { id.get() }
    }

    fn read(&self, key: u64) -> Option<Record> {
        let cached = self.cache.lock().expect("whole").get(&key).cloned();
        cached.or_else(|| self.records.lock().expect("whole").get(&key).cloned())
    }

    fn put(&self, key: u64, record: Record) {
        let to = if self.flaw == Flaw::Caches { &self.cache } else { &self.records };
        to.lock().expect("whole").insert(key, record);
    }

    fn is_held(&self, key: u64) -> bool {
        self.held.lock().expect("whole").contains(&key)
    }

    fn hold(&self, key: u64) -> bool {
        self.held.lock().expect("whole").insert(key)
    }

    fn release(&self, key: u64) {
        self.held.lock().expect("whole").remove(&key);
    }

    fn shown(&self, key: u64, mut record: Record) -> Record {
        let running = self.is_held(key) && self.flaw != Flaw::RunningIsInDoubt;
        if record.state == State::Started && !running {
            record.state = State::InDoubt;
        }
        record
    }
}

impl Store for TestStore {
    type Tx = TestTx;
    type Error = &'static str;

    async fn begin(&self, claim: &Claim) -> Result<Begin<TestTx>, &'static str> {
        let key = self.key(claim.id);
        if self.flaw == Flaw::RefusesNul && claim.unit.as_str().contains('\0') {
            return Err("a NUL");
        }
        let known = self.read(key);
        let fulfilled = |record: &Record| record.state == State::Fulfilled;
        let foreign = |record: &Record| {
            record.promoter != claim.promoter
                && (record.attempts > 0 || record.state != State::Failed)
                && self.flaw != Flaw::IgnoresThePromoter
                && (self.flaw != Flaw::MismatchOfFulfilledOnly || fulfilled(record))
        };
        if known.as_ref().is_some_and(foreign) {
            return Ok(Begin::Mismatch);
        }
        if self.flaw != Flaw::DuplicatesAreBusy && known.as_ref().is_some_and(fulfilled) {
            return Ok(Begin::Fulfilled);
        }
        if self.flaw == Flaw::Waits {
            while self.is_held(key) {
                yield_now().await;
            }
        }
        if self.flaw == Flaw::TwoHold {
            let held = self.is_held(key);
            yield_now().await;
            if held {
                return Ok(Begin::Busy);
            }
            self.hold(key);
        } else if !self.hold(key) {
            return Ok(Begin::Busy);
        }
        if self.flaw == Flaw::DuplicatesAreBusy {
            yield_now().await;
        }
        let known = self.read(key);
        if known.as_ref().is_some_and(fulfilled) {
            self.release(key);
            return Ok(Begin::Fulfilled);
        }
        let in_doubt = known.as_ref().is_some_and(|record| match record.state {
            State::Started => self.flaw != Flaw::DroppedIsClean,
            state => state == State::InDoubt,
        });
        let mut record = Record::new(claim, SystemTime::now());
        if let Some(known) = known {
            record.first_seen = known.first_seen;
            record.attempts = known.attempts;
            record.reason = known.reason;
            if self.flaw == Flaw::KeepsTheFirstAmount {
                record.amount = known.amount;
            }
        }
        let attempt = record.attempts + 1;
        if !in_doubt {
            record.attempts = attempt;
        }
        if self.design != Design::Transactional && self.flaw != Flaw::WritesAtTheEnd {
            let mut written = record.clone();
            if in_doubt && self.flaw == Flaw::AskingResolves {
                written.state = State::Failed;
            }
            self.put(key, written);
        }
        let tx = TestTx { store: self.clone(), key, record, attempt, in_doubt, ended: false };
        Ok(if in_doubt { Begin::InDoubt { tx, attempt } } else { Begin::Run { tx, attempt } })
    }

    async fn end(&self, mut tx: TestTx, end: End) -> Result<State, &'static str> {
        tx.ended = true;
        let mut record = tx.record.clone();
        let transactional = self.design == Design::Transactional;
        let (state, reason, mut ran) = match end {
            End::Fulfilled => (State::Fulfilled, None, true),
            End::WasFulfilled => (State::Fulfilled, None, false),
            End::Pending => (State::Pending, None, true),
            End::Failed(reason) => (State::Failed, Some(reason), true),
            End::InDoubt(reason) if self.flaw == Flaw::DoubtIsClean => {
                (State::Failed, Some(reason), true)
            }
            End::InDoubt(reason) => (State::InDoubt, Some(reason), true),
            End::Interrupted(reason) => {
                let clean = transactional && self.flaw != Flaw::UndoneIsInDoubt
                    || self.flaw == Flaw::InterruptedIsClean;
                (if clean { State::Failed } else { State::InDoubt }, Some(reason), true)
            }
            End::NotRun(reason) if tx.in_doubt && self.flaw != Flaw::NotRunResolves => {
                let kept = tx.record.reason.clone();
                let replaces = self.flaw == Flaw::NotRunExplainsADoubt;
                (State::InDoubt, if replaces { Some(reason) } else { kept }, false)
            }
            End::NotRun(reason) => (State::Failed, Some(reason), false),
        };
        if self.flaw == Flaw::CountsWhatDidNotRun {
            ran = true;
        }
        record.state = state;
        record.attempts = if ran { tx.attempt } else { tx.attempt - 1 };
        let nul = reason.as_deref().is_some_and(|reason| reason.contains('\0'));
        let longest = if self.flaw == Flaw::KeepsLongTexts { usize::MAX } else { 300 };
        record.reason = reason.map(|reason| reason.chars().take(longest).collect());
        if self.flaw == Flaw::KeepsNoReason {
            record.reason = None;
        }
        record.changed = SystemTime::now();
        if !(nul && self.flaw == Flaw::LosesTheEndWithNul) {
            self.put(tx.key, record);
        }
        if self.flaw == Flaw::StaleDrop {
            self.release(tx.key);
            sleep(Duration::from_millis(2)).await;
        }
        if self.flaw == Flaw::ReleasesLate {
            tokio::spawn(async move {
                sleep(Duration::from_millis(20)).await;
                drop(tx);
            });
        }
        Ok(state)
    }

    async fn get(&self, id: FulfilmentId) -> Result<Option<Record>, &'static str> {
        let key = self.key(id);
        Ok(self.read(key).map(|record| self.shown(key, record)))
    }

    async fn open(&self, limit: usize) -> Result<Vec<Record>, &'static str> {
        let mut all = self.records.lock().expect("whole").clone();
        all.extend(self.cache.lock().expect("whole").clone());
        let listed =
            |record: &Record| record.state != State::Fulfilled || self.flaw == Flaw::ListsFulfilled;
        let mut open: Vec<_> = (all.into_iter().filter(|(_, record)| listed(record)))
            .map(|(key, record)| self.shown(key, record))
            .collect();
        open.sort_by_key(|record| record.changed);
        if self.flaw != Flaw::OldestFirst {
            open.reverse();
        }
        open.truncate(limit);
        Ok(open)
    }

    async fn resolve(&self, id: FulfilmentId, fulfilled: bool) -> Result<bool, &'static str> {
        let key = self.key(id);
        let Some(record) = self.read(key) else { return Ok(false) };
        let mut record = self.shown(key, record);
        let doubt = record.state == State::InDoubt || self.flaw == Flaw::ResolvesAnything;
        let resolves = doubt && !self.is_held(key);
        if resolves {
            record.state = if fulfilled { State::Fulfilled } else { State::Failed };
            self.put(key, record);
        }
        Ok(resolves)
    }

    async fn forget(&self, id: FulfilmentId) -> Result<bool, &'static str> {
        let key = self.key(id);
        let running = self.flaw != Flaw::ForgetsWhatRuns && self.is_held(key);
        let removed = !running && self.records.lock().expect("whole").remove(&key).is_some();
        Ok(removed || !running && self.cache.lock().expect("whole").remove(&key).is_some())
    }
}
