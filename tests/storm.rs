//! The storm: 64 deliveries at once of each of 1,000 rewards, to handlers that nap, fail in 20 % of
//! all calls and panic in 10 %, sent again until the answer is `200`. In one service, where the
//! duplicates meet at the desk, and in eight services over one store, where they meet in the store.
//! Whatever happens, every reward is granted once: none twice, none lost.
//!
//! A harness that has never seen a double proves nothing. So it also plays two designs that are
//! known to be wrong, with a service that is cut off and started again all the time: a store that
//! forgets, and one that is sure but whose doubts are run again blindly. It must catch both, and
//! must not catch the right design under the same cuts.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use tokio::{
    runtime::{Builder, Handle},
    time::{sleep, timeout},
};
use tower::ServiceExt;
use tower_firstpromoter::{
    Access, Fulfil, Outcome, Webhook,
    event::Fulfilment,
    once::{MemoryStore, Once, RedbStore, Store},
};

use crate::{
    delivery::{SECRET, delivery},
    dice::Dice,
};

#[path = "support/delivery.rs"]
mod delivery;
#[path = "support/dice.rs"]
mod dice;

const REWARDS: u64 = 1_000;
const DUPLICATES: usize = 64;
const AT_ONCE: usize = 16;
const SERVICES: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory_in_one_service() {
    let handler = Handler::new("memory, one service");
    let store = MemoryStore::new(usize::MAX);
    storm(&handler, vec![webhook(&handler, &store)]).await.expect_each_once();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory_in_eight_services() {
    let handler = Handler::new("memory, eight services");
    let store = MemoryStore::new(usize::MAX);
    let services = (0..SERVICES).map(|_| webhook(&handler, &store)).collect();
    storm(&handler, services).await.expect_each_once();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn redb_in_one_service() {
    let handler = Handler::new("redb, one service");
    let dir = tempfile::tempdir().expect("a directory");
    let store = RedbStore::open(dir.path().join("fulfilments.redb")).expect("opens");
    storm(&handler, vec![webhook(&handler, &store)]).await.expect_each_once();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn redb_in_eight_services() {
    let handler = Handler::new("redb, eight services");
    let dir = tempfile::tempdir().expect("a directory");
    let store = RedbStore::open(dir.path().join("fulfilments.redb")).expect("opens");
    let services = (0..SERVICES).map(|_| webhook(&handler, &store)).collect();
    storm(&handler, services).await.expect_each_once();
}

#[test]
fn redb_cut_off_all_the_time() {
    let handler = Handler::new("redb, cut off");
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("fulfilments.redb");
    let start = || webhook(&handler, &RedbStore::open(&path).expect("opens"));
    storm_with_cuts(&handler, start).expect_each_once();
}

#[test]
fn wrong_memory_across_restarts_is_seen() {
    let handler = Handler::new("WRONG: memory, cut off");
    let start = || webhook(&handler, &MemoryStore::new(usize::MAX));
    storm_with_cuts(&handler, start).expect_doubles();
}

#[test]
fn wrong_blind_runs_of_doubts_are_seen() {
    let handler = Handler::new("WRONG: doubts run blindly, cut off");
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("fulfilments.redb");
    let start = || {
        // Declared, and not true.
        webhook(&handler, &RedbStore::open(&path).expect("opens")).handler_is_idempotent()
    };
    storm_with_cuts(&handler, start).expect_doubles();
}

fn webhook<S: Store + Clone>(handler: &Arc<Handler>, store: &S) -> Webhook<Once> {
    Webhook::new(Arc::clone(handler), Access::query("key", SECRET)).once(store.clone())
}

/// A handler whose effect is elsewhere, and not idempotent: each grant counts.
struct Handler {
    name: &'static str,
    granted: Mutex<HashMap<u64, u32>>,
    dice: Dice,
}

impl Handler {
    fn new(name: &'static str) -> Arc<Self> {
        Arc::new(Self { name, granted: Mutex::default(), dice: Dice::new(name) })
    }

    async fn nap(&self) {
        match self.dice.roll(0..3) {
            0 => {}
            1 => tokio::task::yield_now().await,
            _ => sleep(Duration::from_micros(self.dice.roll(1..1_000))).await,
        }
    }
}

impl Fulfil for Handler {
    type Error = String;

    async fn fulfil(&self, fulfilment: Fulfilment) -> Result<Outcome, String> {
        self.nap().await;
        let fate = self.dice.roll(0..20);
        match fate {
            0..4 => return Err("nothing granted, call me again".to_owned()),
            4 => panic("before the grant"),
            _ => *self.granted.lock().expect("whole").entry(fulfilment.id.get()).or_default() += 1,
        }
        if fate == 5 {
            panic("after the grant");
        }
        self.nap().await;
        Ok(Outcome::Fulfilled)
    }

    async fn was_granted(&self, fulfilment: &Fulfilment) -> Result<Option<bool>, String> {
        Ok(Some(self.granted.lock().expect("whole").contains_key(&fulfilment.id.get())))
    }
}

/// Without the hook, whose output would be the whole log.
fn panic(when: &'static str) -> ! {
    std::panic::resume_unwind(Box::new(when))
}

/// What came of it.
struct Report {
    name: &'static str,
    granted: HashMap<u64, u32>,
    acknowledged: HashSet<u64>,
    answers: BTreeMap<u16, u64>,
    cuts: u32,
    took: Duration,
}

impl Report {
    fn doubles(&self) -> usize {
        self.granted.values().filter(|times| **times > 1).count()
    }

    #[track_caller]
    fn expect_each_once(&self) {
        self.print();
        let lost = (1..=REWARDS).filter(|id| !self.granted.contains_key(id)).count();
        assert_eq!((self.doubles(), lost), (0, 0), "granted twice, lost");
        assert_eq!(self.acknowledged.len() as u64, REWARDS, "every one was answered with 200");
    }

    #[track_caller]
    fn expect_doubles(&self) {
        self.print();
        assert!(self.doubles() > 0, "the storm does not see what is wrong with this design");
    }

    fn print(&self) {
        let Self { name, answers, cuts, took, .. } = self;
        let requests: u64 = answers.values().sum();
        let doubles = self.doubles();
        println!(
            "{name}: {requests} requests in {took:.1?}, {cuts} cuts, {doubles} doubles, {answers:?}"
        );
    }
}

/// What has been heard so far.
#[derive(Default)]
struct Heard {
    acknowledged: HashSet<u64>,
    answers: BTreeMap<u16, u64>,
}

async fn storm(handler: &Handler, services: Vec<Webhook<Once>>) -> Report {
    let (start, heard) = (Instant::now(), Mutex::default());
    deliver(&Handle::current(), &services, &heard).await;
    report(handler, heard, 0, start)
}

/// The service has a runtime of its own, which ends at any moment: what was running stops at its
/// next `await`, as in a process that is killed. Whoever was not answered sends it again.
fn storm_with_cuts(handler: &Handler, service: impl Fn() -> Webhook<Once>) -> Report {
    let (start, heard, mut cuts) = (Instant::now(), Mutex::default(), 0);
    let sender = Builder::new_current_thread().enable_all().build().expect("a runtime");
    loop {
        let process =
            Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let services = [service()];
        let life = Duration::from_millis(handler.dice.roll(40..250));
        let all = deliver(process.handle(), &services, &heard);
        let ended = sender.block_on(async { timeout(life, all).await }).is_ok();
        drop(services);
        process.shutdown_timeout(Duration::from_secs(5));
        if ended {
            return report(handler, heard, cuts, start);
        }
        cuts += 1;
    }
}

/// Sends every reward that is not acknowledged, until it is.
async fn deliver(process: &Handle, services: &[Webhook<Once>], heard: &Mutex<Heard>) {
    let acknowledged = heard.lock().expect("whole").acknowledged.clone();
    stream::iter((1..=REWARDS).filter(|id| !acknowledged.contains(id)))
        .for_each_concurrent(AT_ONCE, |id| async move {
            loop {
                let duplicates: Vec<_> = services
                    .iter()
                    .cycle()
                    .take(DUPLICATES)
                    .map(|service| process.spawn(service.clone().oneshot(delivery(id))))
                    .collect();
                for duplicate in duplicates {
                    // Cut off, the connection breaks.
                    let Ok(Ok(answer)) = duplicate.await else { continue };
                    let status = answer.status().as_u16();
                    let mut heard = heard.lock().expect("whole");
                    *heard.answers.entry(status).or_default() += 1;
                    if status == 200 {
                        heard.acknowledged.insert(id);
                    }
                }
                if heard.lock().expect("whole").acknowledged.contains(&id) {
                    break;
                }
            }
        })
        .await;
}

fn report(handler: &Handler, heard: Mutex<Heard>, cuts: u32, start: Instant) -> Report {
    let Heard { acknowledged, answers } = heard.into_inner().expect("whole");
    let granted = handler.granted.lock().expect("whole").clone();
    Report { name: handler.name, granted, acknowledged, answers, cuts, took: start.elapsed() }
}
