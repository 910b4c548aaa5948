//! What a record costs: each store, beside a handler written by hand on the same PostgreSQL.

use std::{convert::Infallible, env, str::FromStr, time::Instant};

use axum::{Json, Router, body::Body, extract::State, routing::post};
use http::{Request, StatusCode};
use sqlx::{
    PgPool, SqlitePool,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};
use tokio::task::JoinSet;
use tower::ServiceExt;
use tower_firstpromoter::{
    Access, Fulfil, FulfilIn, Outcome, Webhook,
    event::Fulfilment,
    fulfil_fn,
    store::{PostgresJournal, PostgresStore, PostgresTx, RedbStore, SqliteStore, SqliteTx, Store},
};
use tower_firstpromoter_benches::{
    payload,
    peers::{Delivery, PATH, SECRET},
};

use crate::{Bounds, Result, median};

const FULFILMENTS: u64 = 2_000;
const AT_ONCE: u64 = 16;
const ROUNDS: u64 = 5;
const ACCOUNTS: i64 = 1_000;
const CREDIT: &str = "UPDATE accounts SET credits = credits + $1 WHERE id = $2";

pub fn report(bounds: &mut Bounds) -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(async {
        let directory = env::temp_dir().join(format!("benches-stores-{}", std::process::id()));
        std::fs::create_dir_all(&directory)?;
        let pool = postgres(&env::var("DATABASE_URL").map_err(|_| "DATABASE_URL is not set")?).await?;
        let store = PostgresStore::new(pool.clone());
        store.create_table().await?;
        let journal = PostgresJournal::new(pool.clone()).namespace("journal")?;
        let sqlite = sqlite(&directory.join("benches.sqlite")).await?;
        let redb = RedbStore::open(directory.join("benches.redb"))?;
        let nothing = async |_: Fulfilment| Ok::<_, Infallible>(Outcome::Fulfilled);
        let services = [
            ("by hand, on PostgreSQL", by_hand(pool.clone())),
            ("`PostgresStore`", ours(Accounts, store)),
            ("`PostgresJournal`", ours(elsewhere(pool.clone()), journal)),
            ("`SqliteStore`", ours(Accounts, sqlite)),
            ("`RedbStore`", ours(fulfil_fn(nothing), redb)),
        ];
        // The stores take turns, so that other load on the machine affects all of them.
        let mut rounds: Vec<Vec<[f64; 2]>> = vec![Vec::new(); services.len()];
        for round in 0..ROUNDS {
            for ((_, service), rounds) in services.iter().zip(&mut rounds) {
                let first = 1_000_000 + round * FULFILMENTS;
                rounds.push([send(service, first).await, send(service, first).await]);
            }
        }
        sqlx::query("DROP SCHEMA benches CASCADE").execute(&pool).await?;
        std::fs::remove_dir_all(&directory)?;

        println!(
            "## Stores\n\nMedians of {ROUNDS} rounds in turn: {FULFILMENTS} fulfilments, {AT_ONCE} at \
             once, and then each of them again. The effect is one `UPDATE`, in the transaction where \
             the store has one; with redb there is none. Connections as by default.\n"
        );
        println!("| | fulfilments/s | × by hand | duplicates/s | × by hand |");
        println!("|---|--:|--:|--:|--:|");
        // `again` is 0 for new ones and 1 for duplicates.
        let rate = |store: usize, again: usize| median(rounds[store].iter().map(|it| it[again]));
        let beside = |store: usize, again: usize| {
            let pairs = rounds[store].iter().zip(&rounds[0]);
            median(pairs.map(|(ours, by_hand)| ours[again] / by_hand[again]))
        };
        for (store, (name, _)) in services.iter().enumerate() {
            let [new, again] = [0, 1].map(|again| (rate(store, again), beside(store, again)));
            println!("| {name} | {:.0} | {:.2} | {:.0} | {:.2} |", new.0, new.1, again.0, again.1);
        }
        println!();
        for (again, what, at_least) in [(0, "fulfilments", 0.55), (1, "duplicates", 1.0)] {
            let ratio = beside(1, again);
            let claim = format!("`PostgresStore`, {what}, × by hand: {ratio:.2}, at least {at_least}");
            bounds.check(&claim, ratio >= at_least);
        }
        Ok(())
    })
}

fn ours<H: FulfilIn<S::Tx>, S: Store>(handler: H, store: S) -> Router {
    let access = Access::query("key", SECRET).expect("a secret");
    Router::new().route_service(PATH, Webhook::new(handler, store, access))
}

/// Writes by itself.
fn elsewhere(pool: PgPool) -> impl Fulfil {
    fulfil_fn(move |it: Fulfilment| {
        let ((credits, account), pool) = (credit(&it), pool.clone());
        async move {
            sqlx::query(CREDIT).bind(credits).bind(account).execute(&pool).await?;
            Ok::<_, sqlx::Error>(Outcome::Fulfilled)
        }
    })
}

fn credit(fulfilment: &Fulfilment) -> (i64, i64) {
    let credits = fulfilment.amount.whole().unwrap_or_default() as i64;
    (credits, fulfilment.id.get() as i64 % ACCOUNTS)
}

/// Writes through the store's transaction.
struct Accounts;

macro_rules! accounts {
    ($($tx:ty),*) => {$(
        impl FulfilIn<$tx> for Accounts {
            type Error = sqlx::Error;

            async fn fulfil_in(&self, it: Fulfilment, tx: &mut $tx) -> sqlx::Result<Outcome> {
                let (credits, account) = credit(&it);
                sqlx::query(CREDIT).bind(credits).bind(account).execute(&mut **tx).await?;
                Ok(Outcome::Fulfilled)
            }
        }
    )*};
}

accounts!(PostgresTx, SqliteTx);

/// A default pool, on a schema of its own, which is created anew.
async fn postgres(url: &str) -> Result<PgPool> {
    let options = PgConnectOptions::from_str(url)?.options([("search_path", "benches")]);
    let pool = PgPoolOptions::new().connect_with(options).await?;
    for statement in [
        "DROP SCHEMA IF EXISTS benches CASCADE",
        "CREATE SCHEMA benches",
        "CREATE TABLE accounts (id bigint PRIMARY KEY, credits bigint NOT NULL)",
        "CREATE TABLE by_hand (id bigint PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())",
        "INSERT INTO accounts SELECT id, 0 FROM generate_series(0, 999) AS id",
    ] {
        sqlx::query(statement).execute(&pool).await?;
    }
    Ok(pool)
}

async fn sqlite(path: &std::path::Path) -> Result<SqliteStore> {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let pool = SqlitePool::connect_with(options.journal_mode(SqliteJournalMode::Wal)).await?;
    for statement in [
        "CREATE TABLE accounts (id INTEGER PRIMARY KEY, credits INTEGER NOT NULL)",
        "WITH RECURSIVE n(id) AS (SELECT 0 UNION ALL SELECT id + 1 FROM n WHERE id < 999)
         INSERT INTO accounts SELECT id, 0 FROM n",
    ] {
        sqlx::query(statement).execute(&pool).await?;
    }
    let store = SqliteStore::new(pool);
    store.create_table().await?;
    Ok(store)
}

/// What one would write: the id's row and the effect in one transaction. A duplicate that comes at once
/// waits for the first, with a connection of its own.
fn by_hand(pool: PgPool) -> Router {
    async fn fulfil(pool: &PgPool, delivery: &Delivery) -> sqlx::Result<()> {
        let (id, amount) = (delivery.data.id as i64, delivery.data.amount as i64);
        let mut tx = pool.begin().await?;
        let insert = sqlx::query("INSERT INTO by_hand (id) VALUES ($1) ON CONFLICT DO NOTHING");
        if insert.bind(id).execute(&mut *tx).await?.rows_affected() == 1 {
            sqlx::query(CREDIT).bind(amount).bind(id % ACCOUNTS).execute(&mut *tx).await?;
        }
        tx.commit().await
    }
    let handle = async |State(pool): State<PgPool>, Json(delivery): Json<Delivery>| match fulfil(
        &pool, &delivery,
    )
    .await
    {
        Ok(()) => StatusCode::OK,
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Router::new().route(PATH, post(handle)).with_state(pool)
}

/// Sends a round; returns how many were answered a second.
async fn send(service: &Router, first: u64) -> f64 {
    let start = Instant::now();
    let mut senders = JoinSet::new();
    for sender in 0..AT_ONCE {
        let service = service.clone();
        senders.spawn(async move {
            for id in (first + sender..first + FULFILMENTS).step_by(AT_ONCE as usize) {
                let request = Request::post(format!("{PATH}?key={SECRET}"))
                    .header("content-type", "application/json")
                    .body(Body::from(payload::delivery(id)))
                    .expect("a request");
                let Ok(answer) = service.clone().oneshot(request).await;
                assert_eq!(answer.status(), StatusCode::OK);
            }
        });
    }
    senders.join_all().await;
    FULFILMENTS as f64 / start.elapsed().as_secs_f64()
}
