//! The database itself crashes, three times in the middle of a storm. What it had not committed is
//! gone, and so is the grant that was made through it; what was answered with 200 is there.

mod support {
    pub(crate) mod deliver;
    pub(crate) mod postgres;
}

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use tokio::{task::spawn_blocking, time::sleep};
use tower_firstpromoter::{
    BoxError, Fulfil, FulfilIn, Outcome, Verdict, Webhook,
    event::Fulfilment,
    once::{Once, PostgresStore, PostgresTx, Store},
};

use self::support::{
    deliver::{deliver, webhook},
    postgres::{Database, Server, effects, grant, not_run},
};

const REWARDS: u64 = 150;

struct InTx;

impl FulfilIn<PostgresTx> for InTx {
    type Error = BoxError;

    async fn fulfil_in(&self, f: Fulfilment, tx: &mut PostgresTx) -> Result<Outcome, BoxError> {
        grant(f.id.get(), tx).await?;
        sleep(Duration::from_millis(f.id.get() % 20)).await;
        Ok(Outcome::Fulfilled)
    }
}

/// Grants elsewhere: in this process, which stays alive.
#[derive(Clone, Default)]
struct Elsewhere(Arc<Mutex<HashMap<u64, u32>>>);

impl Fulfil for Elsewhere {
    type Error = BoxError;

    async fn fulfil(&self, f: Fulfilment) -> Result<Outcome, BoxError> {
        sleep(Duration::from_millis(f.id.get() % 20)).await;
        *self.0.lock().expect("whole").entry(f.id.get()).or_default() += 1;
        Ok(Outcome::Fulfilled)
    }

    async fn was_granted(&self, f: &Fulfilment) -> Result<Option<bool>, BoxError> {
        Ok(Some(self.0.lock().expect("whole").contains_key(&f.id.get())))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_crashes_in_a_storm() {
    let server = match Server::start() {
        Ok(server) => Arc::new(server),
        Err(why) => return not_run(&why),
    };
    let db = Database { url: server.url() };
    let pool = db.ready(4).await;
    let elsewhere = Elsewhere::default();
    let mut in_tx = Vec::new();
    let mut plain = Vec::new();
    for _ in 0..2 {
        in_tx.push(webhook(InTx, PostgresStore::new(db.pool(6).await)));
        let other = PostgresStore::new(db.pool(6).await).namespace("elsewhere");
        plain.push(webhook(elsewhere.clone(), other));
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
    let (a, b) = tokio::join!(storm(&in_tx, &stormy), storm(&plain, &stormy));
    let _server = crashes.await.expect("crashes");
    println!("refused for want of a database: {a} and {b}");
    assert!(a > 0 && b > 0, "the crashes were not noticed");

    let rewards = effects(&pool).await;
    assert!(rewards.len() >= REWARDS as usize);
    assert!(rewards.iter().all(|(_, times)| *times == 1), "{rewards:?}");
    let elsewhere = elsewhere.0.lock().expect("whole").clone();
    assert!(elsewhere.len() >= REWARDS as usize);
    assert!(elsewhere.values().all(|times| *times == 1), "{elsewhere:?}");
    assert!(PostgresStore::new(pool).in_doubt().await.expect("a database").is_empty());
}

/// Sends rewards to all services until each was granted, and longer if the weather lasts. Returns
/// how many deliveries found no database.
async fn storm(services: &[Webhook<Once>], stormy: &AtomicBool) -> usize {
    let refused = std::sync::atomic::AtomicUsize::new(0);
    let mut id = 0;
    while id < REWARDS || stormy.load(Ordering::SeqCst) {
        let ids = id..id + 10;
        id = ids.end;
        join_all(ids.map(async |id| {
            for round in 0.. {
                assert!(round < 2_000, "{id} is never granted");
                let answers = join_all(services.iter().map(|webhook| deliver(webhook, id))).await;
                for answer in &answers {
                    match answer {
                        Verdict::Granted | Verdict::InProgress | Verdict::Failed => {}
                        Verdict::StoreUnavailable | Verdict::NotRecorded => {
                            refused.fetch_add(1, Ordering::Relaxed);
                        }
                        other => panic!("{id}: {other:?}"),
                    }
                }
                if answers.contains(&Verdict::Granted) {
                    break;
                }
                sleep(Duration::from_millis(5)).await;
            }
        }))
        .await;
    }
    refused.into_inner()
}
