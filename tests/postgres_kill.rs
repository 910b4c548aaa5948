//! Machines die: two processes grant from one PostgreSQL and are killed with `kill -9` at random
//! moments, or frozen and woken up when nobody waits for them any more. What they were sent is sent
//! again. No reward is granted twice, and none is lost.

mod support {
    pub(crate) mod deliver;
    pub(crate) mod machine;
    pub(crate) mod postgres;
}

use std::time::{Duration, Instant, SystemTime};

use sqlx::PgPool;
use tokio::time::sleep;
use tower_firstpromoter::{
    BoxError, Fulfil, FulfilIn, Outcome, Verdict,
    event::Fulfilment,
    once::{PostgresStore, PostgresTx, Store},
};

use self::support::{
    deliver::{deliver, webhook},
    machine::{self, Machine, once_each, play, role},
    postgres::{Database, effects, grant, story},
};

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_granting_in_the_transaction() {
    story(|db| killed(db, "in_tx", 20, 300)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_granting_elsewhere() {
    story(|db| killed(db, "elsewhere", 6, 1_500)).await;
}

async fn killed(db: Database, mode: &'static str, kills: u32, longest: u64) {
    let pool = db.ready(2).await;
    let granted = machine::killed(&db.url, mode, 2, kills, longest).await;
    once_each(&effects(&pool).await, granted);
    let doubts = PostgresStore::new(pool).in_doubt().await.expect("a database");
    assert!(doubts.is_empty(), "{doubts:?}");
}

/// Not a story: what the other processes run.
#[tokio::test(flavor = "multi_thread")]
async fn machine() {
    let Some((url, mode)) = role() else { return };
    let db = Database { url };
    let store = PostgresStore::new(db.pool(6).await);
    play(match mode.as_str() {
        "elsewhere" => webhook(Elsewhere(db.pool(6).await), store),
        "in_tx" => webhook(InTx { nap: |id| id % 3 }, store),
        "freezes" => webhook(InTx { nap: |_| 400 }, store.max_idle(Duration::from_secs(1))),
        other => panic!("no such mode: {other}"),
    })
    .await;
}

struct InTx {
    nap: fn(u64) -> u64,
}

impl FulfilIn<PostgresTx> for InTx {
    type Error = BoxError;

    async fn fulfil_in(&self, f: Fulfilment, tx: &mut PostgresTx) -> Result<Outcome, BoxError> {
        let id = f.id.get();
        grant(id, tx).await?;
        println!("written {id}");
        sleep(Duration::from_millis((self.nap)(id))).await;
        // The clock is the dice: an error after the write must undo it.
        let now = SystemTime::UNIX_EPOCH.elapsed()?.subsec_micros();
        if (self.nap)(id) < 3 && now % 5 == 0 {
            return Err("on purpose".into());
        }
        Ok(Outcome::Fulfilled)
    }
}

/// Grants on a connection of its own, so that no rollback undoes it.
struct Elsewhere(PgPool);

impl Fulfil for Elsewhere {
    type Error = sqlx::Error;

    async fn fulfil(&self, f: Fulfilment) -> Result<Outcome, sqlx::Error> {
        let id = f.id.get() as i64;
        sleep(Duration::from_millis(f.id.get() % 3)).await;
        sqlx::query("INSERT INTO effects VALUES ($1)").bind(id).execute(&self.0).await?;
        sleep(Duration::from_millis(f.id.get() % 3)).await;
        Ok(Outcome::Fulfilled)
    }

    async fn was_granted(&self, f: &Fulfilment) -> Result<Option<bool>, sqlx::Error> {
        let (granted,): (bool,) =
            sqlx::query_as("SELECT EXISTS (SELECT FROM effects WHERE id = $1)")
                .bind(f.id.get() as i64)
                .fetch_one(&self.0)
                .await?;
        Ok(Some(granted))
    }
}

/// It stops in the middle of a grant for longer than its session may be idle, another machine
/// grants, and then it wakes up and goes on where it was.
#[tokio::test(flavor = "multi_thread")]
async fn frozen_and_woken() {
    story(|db| async move {
        let pool = db.ready(4).await;
        let here = webhook(InTx { nap: |_| 10 }, PostgresStore::new(pool.clone()));
        let mut frozen = Machine::start(&db.url, "freezes").await;
        frozen.send(1).await;
        while frozen.line().await != "written 1" {}
        frozen.signal("-STOP");

        let stopped = Instant::now();
        assert_eq!(deliver(&here, 1).await, Verdict::InProgress);
        let verdict = loop {
            match deliver(&here, 1).await {
                Verdict::InProgress => {
                    assert!(stopped.elapsed() < Duration::from_secs(20), "the row is never free");
                    sleep(Duration::from_millis(50)).await;
                }
                verdict => break verdict,
            }
        };
        assert_eq!(verdict, Verdict::Granted);
        let waited = stopped.elapsed();
        assert!(waited >= Duration::from_millis(700), "{waited:?}");

        frozen.signal("-CONT");
        assert_eq!(frozen.answer().await, (1, "not_recorded".to_owned()));
        assert_eq!(effects(&pool).await, [(1, 1)]);
        frozen.kill().await;
    })
    .await;
}
