//! What it costs to remember: each store, beside a handler written by hand on the same PostgreSQL.

use std::{
    convert::Infallible,
    env, fs,
    str::FromStr,
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
    routing::post,
};
use bytes::Bytes;
use http::{Request, StatusCode};
use sqlx::{
    PgPool, SqlitePool,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions},
};
use tokio::task::JoinSet;
use tower::{Service, ServiceExt};
use tower_firstpromoter::{
    Access, FulfilIn, Outcome, Webhook,
    event::Fulfilment,
    fulfil_fn,
    once::{MemoryStore, Once, PostgresStore, PostgresTx, RedbStore, SqliteStore, SqliteTx},
};

use crate::{
    Result, payload,
    peers::{self, PATH, SECRET},
};

const REWARDS: u64 = 2_000;
const AT_ONCE: u64 = 16;
const ACCOUNTS: i64 = 1_000;
const CONNECTIONS: u32 = AT_ONCE as u32;

pub fn report() -> Result<()> {
    println!("## Stores\n");
    println!(
        "{REWARDS} rewards, {AT_ONCE} at once, and then each of them again. Where there is SQL, the \
         grant is an `UPDATE` of an account in the same transaction; elsewhere it does nothing.\n"
    );
    println!("| | fulfilments/s | p50, ms | p99, ms | duplicates/s | p50, ms | p99, ms |");
    println!("|---|--:|--:|--:|--:|--:|--:|");
    let runtime = tokio::runtime::Runtime::new()?;
    let directory = env::temp_dir().join(format!("benches-stores-{}", std::process::id()));
    fs::create_dir_all(&directory)?;
    runtime.block_on(async {
        compare("memory", elsewhere().once(MemoryStore::new(10_000))).await;
        let redb = RedbStore::open(directory.join("benches.redb"))?;
        compare("redb", elsewhere().once(redb)).await;
        let sqlite = sqlite(&directory.join("benches.sqlite")).await?;
        compare("SQLite", sqlite).await;
        match env::var("DATABASE_URL") {
            Ok(url) => {
                let pool = postgres(&url).await?;
                let store = PostgresStore::new(pool.clone());
                store.create_table().await?;
                let access = Access::query("key", SECRET);
                compare("PostgreSQL", Webhook::new(Accounts, access).once(store)).await;
                compare("by hand: `INSERT … ON CONFLICT`", by_hand(pool.clone())).await;
                sqlx::query("DROP SCHEMA benches CASCADE").execute(&pool).await?;
            }
            Err(_) => println!("\nPostgreSQL was not measured: DATABASE_URL is not set."),
        }
        Ok::<(), Box<dyn std::error::Error>>(())
    })?;
    println!();
    fs::remove_dir_all(&directory)?;
    Ok(())
}

fn elsewhere() -> Webhook<impl tower_firstpromoter::Fulfil> {
    let handler = fulfil_fn(async |_: Fulfilment| Ok::<_, Infallible>(Outcome::Fulfilled));
    Webhook::new(handler, Access::query("key", SECRET))
}

struct Accounts;

impl FulfilIn<PostgresTx> for Accounts {
    type Error = sqlx::Error;

    async fn fulfil_in(&self, reward: Fulfilment, tx: &mut PostgresTx) -> sqlx::Result<Outcome> {
        sqlx::query("UPDATE accounts SET credits = credits + $1 WHERE id = $2")
            .bind(reward.amount.whole().unwrap_or_default() as i64)
            .bind(reward.id.get() as i64 % ACCOUNTS)
            .execute(&mut **tx)
            .await?;
        Ok(Outcome::Fulfilled)
    }
}

impl FulfilIn<SqliteTx> for Accounts {
    type Error = sqlx::Error;

    async fn fulfil_in(&self, reward: Fulfilment, tx: &mut SqliteTx) -> sqlx::Result<Outcome> {
        sqlx::query("UPDATE accounts SET credits = credits + ?1 WHERE id = ?2")
            .bind(reward.amount.whole().unwrap_or_default() as i64)
            .bind(reward.id.get() as i64 % ACCOUNTS)
            .execute(&mut **tx)
            .await?;
        Ok(Outcome::Fulfilled)
    }
}

/// In a schema of its own, which is made anew.
async fn postgres(url: &str) -> Result<PgPool> {
    let options = PgConnectOptions::from_str(url)?.options([("search_path", "benches")]);
    let pool = PgPoolOptions::new().max_connections(CONNECTIONS).connect_with(options).await?;
    for statement in [
        "DROP SCHEMA IF EXISTS benches CASCADE",
        "CREATE SCHEMA benches",
        "CREATE TABLE accounts (id bigint PRIMARY KEY, credits bigint NOT NULL)",
        "CREATE TABLE by_hand (id bigint PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())",
    ] {
        sqlx::query(statement).execute(&pool).await?;
    }
    sqlx::query("INSERT INTO accounts SELECT id, 0 FROM generate_series(0, $1 - 1) AS id")
        .bind(ACCOUNTS)
        .execute(&pool)
        .await?;
    Ok(pool)
}

async fn sqlite(path: &std::path::Path) -> Result<Webhook<Once>> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal);
    let pool: SqlitePool = SqlitePoolOptions::new().connect_with(options).await?;
    sqlx::query("CREATE TABLE accounts (id INTEGER PRIMARY KEY, credits INTEGER NOT NULL)")
        .execute(&pool)
        .await?;
    for id in 0..ACCOUNTS {
        sqlx::query("INSERT INTO accounts VALUES (?1, 0)").bind(id).execute(&pool).await?;
    }
    let store = SqliteStore::new(pool);
    store.create_table().await?;
    Ok(Webhook::new(Accounts, Access::query("key", SECRET)).once(store))
}

/// What one would write: the id's row and the grant in one transaction. A duplicate that comes at
/// once waits for the first, with a connection of its own.
fn by_hand(pool: PgPool) -> Router {
    async fn grant(pool: &PgPool, delivery: &peers::Delivery) -> sqlx::Result<()> {
        let mut tx = pool.begin().await?;
        let inserted = sqlx::query("INSERT INTO by_hand (id) VALUES ($1) ON CONFLICT DO NOTHING")
            .bind(delivery.data.id as i64)
            .execute(&mut *tx)
            .await?;
        if inserted.rows_affected() == 1 {
            sqlx::query("UPDATE accounts SET credits = credits + $1 WHERE id = $2")
                .bind(delivery.data.amount as i64)
                .bind(delivery.data.id as i64 % ACCOUNTS)
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await
    }
    async fn handle(State(pool): State<PgPool>, Json(delivery): Json<peers::Delivery>) -> Response {
        match grant(&pool, &delivery).await {
            Ok(()) => StatusCode::OK.into_response(),
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    }
    Router::new().route(PATH, post(handle)).with_state(pool)
}

async fn compare<S, B>(name: &str, service: S)
where
    S: Service<Request<Body>, Response = http::Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
{
    let deliveries: Vec<Bytes> = (0..REWARDS).map(|n| payload::delivery(1_000_000 + n)).collect();
    print!("| {name} |");
    for _ in ["new", "again"] {
        let start = Instant::now();
        let mut senders = JoinSet::new();
        for sender in 0..AT_ONCE {
            let (service, deliveries) = (service.clone(), deliveries.clone());
            senders.spawn(async move {
                let mut times = Vec::new();
                for delivery in
                    deliveries.into_iter().skip(sender as usize).step_by(AT_ONCE as usize)
                {
                    let request = Request::post(format!("{PATH}?key={SECRET}"))
                        .header("content-type", "application/json")
                        .body(Body::from(delivery))
                        .expect("a request");
                    let sent = Instant::now();
                    let Ok(answer) = service.clone().oneshot(request).await;
                    assert_eq!(answer.status(), StatusCode::OK);
                    times.push(sent.elapsed());
                }
                times
            });
        }
        let mut times = senders.join_all().await.concat();
        let per_second = REWARDS as f64 / start.elapsed().as_secs_f64();
        times.sort();
        let milliseconds = |time: Duration| time.as_secs_f64() * 1_000.0;
        print!(
            " {per_second:.0} | {:.2} | {:.2} |",
            milliseconds(times[times.len() / 2]),
            milliseconds(times[times.len() * 99 / 100]),
        );
    }
    println!();
}
