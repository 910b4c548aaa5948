//! Two processes fulfil from one PostgreSQL and are killed with `kill -9` at random moments, or
//! frozen and resumed when nobody waits for them any more. What they were sent is sent again. With
//! either kind of store each fulfilment takes effect once, and none is lost.

mod support {
    pub(crate) mod deliver;
    pub(crate) mod machine;
    pub(crate) mod postgres;
}

use std::time::{Duration, Instant, SystemTime};

use sqlx::PgPool;
use tokio::time::sleep;
use tower_firstpromoter::{
    BoxError, Fulfil, FulfilIn, Outcome, Verdict, Webhook,
    event::Fulfilment,
    store::{PostgresJournal, PostgresStore, PostgresTx, Store},
};

use self::support::{
    deliver::{deliver, webhook},
    machine::{self, Machine, once_each, play, role},
    postgres::{Database, effects, story, take_effect},
};

#[tokio::test(flavor = "multi_thread")]
async fn killed_with_a_store() {
    story(|db| killed(db, "store", 20, 300)).await;
}

/// What was cut off stays busy until its limit and 30 seconds are over.
#[tokio::test(flavor = "multi_thread")]
async fn killed_with_a_journal() {
    story(|db| killed(db, "journal", 25, 300)).await;
}

async fn killed(db: Database, mode: &'static str, kills: u32, longest: u64) {
    let pool = db.ready(2).await;
    let fulfilled = machine::killed(&db.url, mode, 2, kills, longest).await;
    once_each(&effects(&pool).await, fulfilled);
    let open = PostgresStore::new(pool).open(usize::MAX).await.expect("a database");
    assert!(open.is_empty(), "{open:?}");
}

/// Not a test, but what the other processes run.
#[tokio::test(flavor = "multi_thread")]
async fn machine() {
    let Some((url, mode)) = role() else { return };
    play(a_webhook(&Database { url, name: String::new() }, &mode).await).await;
}

/// A webhook with a store or a journal; its handler naps, for some milliseconds or until it is
/// frozen.
async fn a_webhook(db: &Database, mode: &str) -> Webhook {
    let pool = db.pool(6).await;
    let freezes = mode.ends_with("freezes");
    if mode.starts_with("store") {
        let limit = Duration::from_secs(if freezes { 1 } else { 60 });
        webhook(InTx { freezes }, PostgresStore::new(pool)).attempt_within(limit)
    } else {
        let limit = Duration::from_secs(if freezes { 1 } else { 5 });
        let journal = PostgresJournal::new(pool.clone());
        webhook(Elsewhere { pool, freezes }, journal).attempt_within(limit)
    }
}

async fn nap(id: u64, freezes: bool) {
    if freezes {
        println!("in effect {id}");
    }
    sleep(Duration::from_millis(if freezes { 600 } else { id % 3 })).await;
}

struct InTx {
    freezes: bool,
}

impl FulfilIn<PostgresTx> for InTx {
    type Error = BoxError;

    async fn fulfil_in(&self, f: Fulfilment, tx: &mut PostgresTx) -> Result<Outcome, BoxError> {
        let id = f.id.get();
        take_effect(id, tx).await?;
        nap(id, self.freezes).await;
        // Random by the clock: an error after the write must undo it.
        let now = SystemTime::UNIX_EPOCH.elapsed()?.subsec_micros();
        if !self.freezes && now % 5 == 0 {
            return Err("on purpose".into());
        }
        Ok(Outcome::Fulfilled)
    }
}

/// Takes effect on a connection of its own, so that no rollback undoes it.
struct Elsewhere {
    pool: PgPool,
    freezes: bool,
}

impl Fulfil for Elsewhere {
    type Error = sqlx::Error;

    async fn fulfil(&self, f: Fulfilment) -> Result<Outcome, sqlx::Error> {
        let id = f.id.get();
        sleep(Duration::from_millis(id % 3)).await;
        sqlx::query("INSERT INTO effects VALUES ($1)").bind(id as i64).execute(&self.pool).await?;
        nap(id, self.freezes).await;
        Ok(Outcome::Fulfilled)
    }

    async fn was_fulfilled(&self, f: &Fulfilment) -> Result<Option<bool>, sqlx::Error> {
        let (fulfilled,): (bool,) =
            sqlx::query_as("SELECT EXISTS (SELECT FROM effects WHERE id = $1)")
                .bind(f.id.get() as i64)
                .fetch_one(&self.pool)
                .await?;
        Ok(Some(fulfilled))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn frozen_with_a_store() {
    story(|db| frozen(db, "store")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frozen_with_a_journal() {
    story(|db| frozen(db, "journal")).await;
}

/// It stops in the middle of an attempt for longer than that may take, another machine hears of it
/// and ends it, and then it wakes up and goes on where it was.
async fn frozen(db: Database, mode: &str) {
    let pool = db.ready(4).await;
    let here = a_webhook(&db, mode).await;
    let mut frozen = Machine::start(&db.url, &format!("{mode} freezes")).await;
    frozen.send(1).await;
    while frozen.line().await != "in effect 1" {}
    frozen.signal("-STOP");

    let stopped = Instant::now();
    let verdict = loop {
        match deliver(&here, 1).await {
            Verdict::InProgress => {
                assert!(stopped.elapsed() < Duration::from_secs(60), "it is never let go");
                sleep(Duration::from_millis(50)).await;
            }
            verdict => break verdict,
        }
    };
    assert_eq!(verdict, Verdict::Fulfilled);
    // Its limit of a second, and 30 more.
    let waited = stopped.elapsed();
    assert!(waited >= Duration::from_secs(30), "{waited:?}");

    frozen.signal("-CONT");
    let (_, verdict) = frozen.answer().await;
    assert!(["in_progress", "not_recorded", "fulfilled"].contains(&&*verdict), "{verdict}");
    while {
        frozen.send(1).await;
        frozen.answer().await.1 != "fulfilled"
    } {}
    assert_eq!(effects(&pool).await, [(1, 1)]);
    frozen.kill().await;
}
