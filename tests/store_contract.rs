//! Every store of this crate keeps the promises, and the kit that says so sees when one does not:
//! it is run on stores that are each wrong in one way, most of them ways in which a real store was.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use tokio::{task::yield_now, time::sleep};
use tower_firstpromoter::{
    event::FulfilmentId,
    once::{Begin, Claim, End, MemoryStore, Record, RedbStore, State, Store},
    testkit::{namespace_contract, store_contract},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory() {
    let store = MemoryStore::new(10_000);
    store_contract(async || store.clone()).await;
}

#[test]
#[should_panic(expected = "a `MemoryStore` that remembers nothing grants every duplicate again")]
fn a_memory_of_nothing_is_refused() {
    MemoryStore::new(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn redb() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("fulfilments.redb");
    store_contract(async || RedbStore::open(&path).expect("opens")).await;

    let store = RedbStore::open(&path).expect("opens");
    namespace_contract(&store.clone().namespace("one"), &store.clone().namespace("other")).await;
    namespace_contract(&store, &store.clone().namespace("a")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_test_store_without_a_flaw() {
    let disk = Disk::default();
    store_contract(async || TestStore::open(Flaw::None, &disk)).await;
}

#[test]
fn each_flaw_is_seen() {
    // What would otherwise be a page of panics that are as they should be.
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panic.payload_as_str().is_some_and(|said| said.starts_with("the store breaks")) {
            tell(panic);
        }
    }));
    let mut unseen = Vec::new();
    for (flaw, expected) in [
        (Flaw::TwoHold, "promise 1, at most one holds it"),
        (Flaw::LosesGrantsAtRestart, "promise 2, granted is for good"),
        (Flaw::DuplicatesAreBusy, "promise 2, granted is for good"),
        (Flaw::LosesIntentionsAtRestart, "promise 3, the intention is durable"),
        (Flaw::CutOffIsClean, "promise 4, cut off is never clean"),
        (Flaw::AskingSettles, "promise 4, cut off is never clean"),
        (Flaw::Waits, "promise 5, nobody waits"),
        (Flaw::StaleDrop, "promise 6, released in one place"),
        (Flaw::DoesNotCount, "`end`: attempt 2 was called 1"),
        (Flaw::ForgetsWhatRuns, "`forget`: forgot it while a grant was running"),
        (Flaw::ListsWhatRuns, "`in_doubt`: lists it while somebody is at work on it"),
        (Flaw::SettlesAnything, "`settle`: settled what was granted"),
        (Flaw::ShortIds, "every id is a reward of its own"),
    ] {
        let disk = Disk::default();
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let kit = std::panic::AssertUnwindSafe(|| {
            runtime.block_on(store_contract(async || TestStore::open(flaw, &disk)));
        });
        let said = match std::panic::catch_unwind(kit) {
            Ok(()) => "nothing".to_owned(),
            Err(panic) => *panic.downcast::<String>().expect("a message"),
        };
        if !said.contains(expected) {
            unseen.push(format!("{flaw:?} should have been `{expected}`, and the kit said {said}"));
        }
    }
    assert!(unseen.is_empty(), "{unseen:#?}");
}

#[test]
fn namespaces_that_are_one_are_seen() {
    let store = MemoryStore::new(100);
    let kit = std::panic::AssertUnwindSafe(|| {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(namespace_contract(&store, &store.clone()));
    });
    let panic = std::panic::catch_unwind(kit).expect_err("one store is not two namespaces");
    let said = *panic.downcast::<String>().expect("a message");
    assert!(said.contains("the store breaks namespaces are apart"), "{said}");
}

/// What a [`TestStore`] does wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Flaw {
    None,
    /// It looks, and then takes.
    TwoHold,
    LosesGrantsAtRestart,
    /// It takes, and then looks.
    DuplicatesAreBusy,
    LosesIntentionsAtRestart,
    CutOffIsClean,
    AskingSettles,
    Waits,
    /// `end` gives back, and so does the drop a moment later.
    StaleDrop,
    DoesNotCount,
    ForgetsWhatRuns,
    ListsWhatRuns,
    SettlesAnything,
    ShortIds,
}

/// What outlives a restart.
type Disk = Arc<Mutex<HashMap<u64, Record>>>;

#[derive(Clone)]
struct TestStore {
    flaw: Flaw,
    disk: Disk,
    held: Arc<Mutex<HashSet<u64>>>,
}

struct TestTx {
    store: TestStore,
    record: Record,
    key: u64,
}

impl Drop for TestTx {
    fn drop(&mut self) {
        self.store.held.lock().expect("whole").remove(&self.key);
    }
}

impl TestStore {
    fn open(flaw: Flaw, disk: &Disk) -> Self {
        let lost = |record: &Record| match flaw {
            Flaw::LosesGrantsAtRestart => record.state == State::Granted,
            Flaw::LosesIntentionsAtRestart => record.state == State::Started,
            _ => false,
        };
        disk.lock().expect("whole").retain(|_, record| !lost(record));
        Self { flaw, disk: Arc::clone(disk), held: Arc::default() }
    }

    fn key(&self, id: FulfilmentId) -> u64 {
        if self.flaw == Flaw::ShortIds { u64::from(id.get() as u32) } else { id.get() }
    }

    fn get(&self, key: u64) -> Option<Record> {
        self.disk.lock().expect("whole").get(&key).cloned()
    }

    fn put(&self, key: u64, record: Record) {
        self.disk.lock().expect("whole").insert(key, record);
    }

    fn is_held(&self, key: u64) -> bool {
        self.held.lock().expect("whole").contains(&key)
    }

    fn hold(&self, key: u64) -> bool {
        self.held.lock().expect("whole").insert(key)
    }
}

impl Store for TestStore {
    type Tx = TestTx;
    type Error = Infallible;

    async fn begin(&self, claim: &Claim) -> Result<Begin<TestTx>, Infallible> {
        let key = self.key(claim.id());
        let known = self.get(key);
        let granted = |record: &Record| record.state == State::Granted;
        if self.flaw != Flaw::DuplicatesAreBusy && known.as_ref().is_some_and(granted) {
            return Ok(Begin::Granted);
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
        let now = SystemTime::now();
        let known = self.get(key);
        let before = known.as_ref().map(|record| record.state);
        if before == Some(State::Granted) {
            self.held.lock().expect("whole").remove(&key);
            return Ok(Begin::Granted);
        }
        let mut record = known.unwrap_or_else(|| {
            Record::new(claim.id(), claim.unit().clone(), claim.amount(), claim.promoter(), now)
        });
        record.state = State::Started;
        record.attempts += u32::from(self.flaw != Flaw::DoesNotCount || record.attempts == 0);
        self.put(key, record.clone());
        let attempt = record.attempts;
        let doubt = before == Some(State::Started) && self.flaw != Flaw::CutOffIsClean;
        if doubt && self.flaw == Flaw::AskingSettles {
            let mut settled = record.clone();
            settled.state = State::New;
            self.put(key, settled);
        }
        let tx = TestTx { store: self.clone(), record, key };
        Ok(if doubt { Begin::InDoubt { tx, attempt } } else { Begin::Run { tx, attempt } })
    }

    async fn end(&self, tx: TestTx, end: End) -> Result<(), Infallible> {
        let mut record = tx.record.clone();
        record.state = match end {
            End::Granted => State::Granted,
            End::Pending => State::Pending,
            End::Failed(reason) => {
                record.last_error = Some(reason);
                State::Failed
            }
        };
        self.put(tx.key, record);
        if self.flaw == Flaw::StaleDrop {
            self.held.lock().expect("whole").remove(&tx.key);
            sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    async fn forget(&self, id: FulfilmentId) -> Result<bool, Infallible> {
        let key = self.key(id);
        let running = self.flaw != Flaw::ForgetsWhatRuns && self.is_held(key);
        Ok(!running && self.disk.lock().expect("whole").remove(&key).is_some())
    }

    async fn in_doubt(&self) -> Result<Vec<Record>, Infallible> {
        let disk = self.disk.lock().expect("whole");
        let started = disk.iter().filter(|(_, record)| record.state == State::Started);
        let doubted = started
            .filter(|(key, _)| self.flaw == Flaw::ListsWhatRuns || !self.is_held(**key))
            .map(|(_, record)| record.clone());
        Ok(doubted.collect())
    }

    async fn settle(&self, id: FulfilmentId, granted: bool) -> Result<bool, Infallible> {
        let key = self.key(id);
        let Some(mut record) = self.get(key) else { return Ok(false) };
        let doubt = record.state == State::Started || self.flaw == Flaw::SettlesAnything;
        let settles = doubt && !self.is_held(key);
        if settles {
            record.state = if granted { State::Granted } else { State::New };
            self.put(key, record);
        }
        Ok(settles)
    }
}
