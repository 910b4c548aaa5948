//! The database itself crashes, three times in the middle of a storm. What it had not committed is
//! gone, and so is the effect that was made through it; what was answered with `200` is there. What a
//! journal had started is busy for its limit and 30 seconds, and then in doubt.

mod support {
    pub(crate) mod deliver;
    pub(crate) mod postgres;
}

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{StreamExt, future::join_all, stream};
use tokio::{task::spawn_blocking, time::sleep};
use tower_firstpromoter::{
    BoxError, Fulfil, FulfilIn, Outcome, Verdict, Webhook,
    event::Fulfilment,
    store::{PostgresJournal, PostgresStore, PostgresTx, Store},
};

use self::support::{
    deliver::{deliver, webhook},
    postgres::{Database, Server, effects, not_run, take_effect},
};

const FULFILMENTS: u64 = 150;

struct InTx;

impl FulfilIn<PostgresTx> for InTx {
    type Error = BoxError;

    async fn fulfil_in(&self, f: Fulfilment, tx: &mut PostgresTx) -> Result<Outcome, BoxError> {
        take_effect(f.id.get(), tx).await?;
        sleep(Duration::from_millis(f.id.get() % 20)).await;
        Ok(Outcome::Fulfilled)
    }
}

/// Its effect is in this process, which stays alive.
#[derive(Clone, Default)]
struct Elsewhere(Arc<Mutex<HashMap<u64, u32>>>);

impl Fulfil for Elsewhere {
    type Error = BoxError;

    async fn fulfil(&self, f: Fulfilment) -> Result<Outcome, BoxError> {
        sleep(Duration::from_millis(f.id.get() % 20)).await;
        *self.0.lock().expect("whole").entry(f.id.get()).or_default() += 1;
        Ok(Outcome::Fulfilled)
    }

    async fn was_fulfilled(&self, f: &Fulfilment) -> Result<Option<bool>, BoxError> {
        Ok(Some(self.0.lock().expect("whole").contains_key(&f.id.get())))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_crashes_in_a_storm() {
    let server = match Server::start() {
        Ok(server) => Arc::new(server),
        Err(why) => return not_run(&why),
    };
    let db = Database { url: server.url(), name: "postgres".to_owned() };
    let pool = db.ready(4).await;
    let elsewhere = Elsewhere::default();
    let mut in_tx = Vec::new();
    let mut plain = Vec::new();
    for _ in 0..2 {
        in_tx.push(webhook(InTx, PostgresStore::new(db.pool(6).await)));
        let journal = PostgresJournal::new(db.pool(6).await).namespace("elsewhere");
        let journal = journal.expect("a namespace");
        plain.push(webhook(elsewhere.clone(), journal).attempt_within(Duration::from_secs(2)));
    }

    let stormy = Arc::new(AtomicBool::new(true));
    let crashes = tokio::spawn({
        let stormy = Arc::clone(&stormy);
        async move {
            for _ in 0..3 {
                sleep(Duration::from_millis(400)).await;
                let server = Arc::clone(&server);
                let crashed = spawn_blocking(move || server.crash().and_then(|()| server.up()));
                crashed.await.expect("no panic").expect("a server that starts again");
            }
            stormy.store(false, Ordering::SeqCst);
            server // dropped, it would be gone
        }
    });
    let start = Instant::now();
    let (a, b) = tokio::join!(storm(&in_tx, &stormy), storm(&plain, &stormy));
    let _server = crashes.await.expect("crashes");
    println!("{a} and {b} deliveries found no database, in {:.1?}", start.elapsed());
    assert!(a > 0 && b > 0, "the crashes were not noticed");

    let in_tx = effects(&pool).await;
    assert!(in_tx.len() >= FULFILMENTS as usize);
    assert!(in_tx.iter().all(|(_, times)| *times == 1), "{in_tx:?}");
    let elsewhere = elsewhere.0.lock().expect("whole").clone();
    assert!(elsewhere.len() >= FULFILMENTS as usize);
    assert!(elsewhere.values().all(|times| *times == 1), "{elsewhere:?}");
    for namespace in ["", "elsewhere"] {
        let store = PostgresStore::new(pool.clone()).namespace(namespace).expect("a namespace");
        assert_eq!(store.open(usize::MAX).await.expect("a database"), []);
    }
}

/// Sends fulfilments to all services until each is fulfilled, and longer if the storm lasts. Returns
/// how many deliveries found no database.
async fn storm(services: &[Webhook], stormy: &AtomicBool) -> usize {
    let refused = AtomicUsize::new(0);
    let ids = (0..).take_while(|id| *id < FULFILMENTS || stormy.load(Ordering::SeqCst));
    let deliveries = stream::iter(ids).for_each_concurrent(24, async |id| {
        let start = Instant::now();
        loop {
            assert!(start.elapsed() < Duration::from_secs(90), "{id} is never fulfilled");
            let answers = join_all(services.iter().map(|webhook| deliver(webhook, id))).await;
            for answer in &answers {
                match answer {
                    Verdict::Fulfilled | Verdict::InProgress | Verdict::Failed => {}
                    Verdict::StoreUnavailable | Verdict::NotRecorded => {
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                    other => panic!("{id}: {other:?}"),
                }
            }
            if answers.contains(&Verdict::Fulfilled) {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
    });
    deliveries.await;
    refused.into_inner()
}
