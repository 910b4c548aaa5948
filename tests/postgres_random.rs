//! Handlers do anything to their transaction, at random, while sessions are ended and cancelled: what
//! the store says of an attempt is what is there.

mod support {
    pub(crate) mod dice;
    pub(crate) mod postgres;
}

use std::{
    future::{Future, poll_fn},
    panic::AssertUnwindSafe,
    pin::pin,
    task::Poll,
    time::{Duration, Instant},
};

use futures::{FutureExt, StreamExt, future::join_all};
use sqlx::{AssertSqlSafe, Connection, Executor, PgPool, Row, raw_sql};
use tokio::time::{sleep, timeout};
use tower_firstpromoter::store::{Begin, End, PostgresStore, PostgresTx, State, Store};

use self::support::{
    dice::Dice,
    postgres::{claim, kind, run, story},
};

const STEPS: u64 = 34;

/// These end the transaction. Where sessions are ended, too, the doubt may not be recorded.
const ENDS: [u64; 6] = [3, 4, 5, 6, 18, 27];

/// After these sqlx is behind, so that the server may end the session.
const COPIES: std::ops::RangeInclusive<u64> = 20..=25;

/// Ends or cancels the session of somebody.
const SIGNAL: u64 = STEPS - 1;

/// Inserts a row of this attempt.
async fn mark(tx: &mut PostgresTx, id: u64, run: u64) -> sqlx::Result<()> {
    let sql = format!("INSERT INTO marks VALUES ({id}, {run}, 0)");
    raw_sql(AssertSqlSafe(sql)).execute(&mut **tx).await.map(drop)
}

async fn step(tx: &mut PostgresTx, step: u64, id: u64, run: u64, admin: &PgPool, dice: &Dice) {
    let copy_out = "COPY (SELECT repeat('x', 1000) FROM generate_series(1, 50)) TO STDOUT";
    let big = "COPY (SELECT repeat('x', 1000) FROM generate_series(1, 20000)) TO STDOUT";
    let plain = match step {
        0 => "SELECT 1",
        1 => "SELECT 1 / 0",
        2 => "SAVEPOINT a; SELECT 1; ROLLBACK TO SAVEPOINT a",
        3 => "COMMIT",
        4 => "ROLLBACK",
        5 => "COMMIT AND CHAIN",
        6 => "COMMIT; BEGIN; SAVEPOINT firstpromoter",
        7 => "RESET ALL",
        8 => "SET LOCAL DateStyle = 'German'",
        9 => "SET SESSION TimeZone = 'Asia/Kathmandu'",
        10 => "DEALLOCATE ALL",
        11 => "NOTIFY a",
        12 => "INSERT INTO marks VALUES (-1, 1, 1), (-1, 1, 1)", // deferred
        13 => "SAVEPOINT firstpromoter",
        14 => "RELEASE SAVEPOINT firstpromoter",
        15 => "ROLLBACK TO SAVEPOINT firstpromoter",
        16 => "SET TRANSACTION READ ONLY",
        17 => "SET SESSION statement_timeout = 300; SELECT 1",
        18 => "COMMIT; BEGIN; SELECT 1 / 0",
        19 => "BEGIN",
        _ => "",
    };
    if !plain.is_empty() {
        let _ = tx.execute(plain).await;
        return;
    }
    match step {
        20 => {
            if let Ok(mut lines) = tx.copy_out_raw(copy_out).await {
                let _ = lines.next().await;
            }
        }
        21 => {
            if let Ok(mut lines) = tx.copy_out_raw(big).await {
                let _ = lines.next().await;
            }
        }
        22 => drop(tx.copy_out_raw("COPY nothing TO STDOUT").await),
        23 => drop(tx.copy_in_raw("COPY marks FROM STDIN").await),
        24 => {
            if let Ok(mut copy) = tx.copy_in_raw("COPY marks FROM STDIN").await {
                let _ = copy.send(b"nonsense\n".as_slice()).await;
                if dice.roll(0..2) == 0 {
                    let _ = copy.finish().await;
                }
            }
        }
        25 => {
            if let Ok(mut copy) = tx.copy_in_raw("COPY marks FROM STDIN").await {
                let row = format!("{id}\t{run}\t0\n");
                let _ = copy.send(row.as_bytes()).await;
                let _ = if dice.roll(0..2) == 0 {
                    copy.finish().await.map(drop)
                } else {
                    copy.abort("no").await
                };
            }
        }
        26 => {
            if let Ok(nested) = tx.begin().await {
                match dice.roll(0..4) {
                    0 => drop(nested.commit().await),
                    1 => drop(nested.rollback().await),
                    2 => drop(nested),
                    _ => std::mem::forget(nested),
                }
            }
        }
        27 => {
            let mut nested = pin!(tx.begin());
            let _ = poll_fn(|cx| Poll::Ready(nested.as_mut().poll(cx).is_ready())).await;
        }
        28 => {
            let micros = Duration::from_micros(dice.roll(0..3_000));
            let _ = timeout(micros, tx.execute("SELECT pg_sleep(0.002)")).await;
        }
        29 => {
            let micros = Duration::from_micros(dice.roll(0..1_000));
            let q = sqlx::query("SELECT $1::bigint, $2::text").bind(4_i64).bind("x");
            let _ = timeout(micros, q.execute(&mut **tx)).await;
        }
        30 => drop(tx.clear_cached_statements().await),
        31 => {
            let q = sqlx::query("INSERT INTO marks VALUES ($1, $2, 0)");
            let _ = q.bind(id as i64).bind(run as i64).execute(&mut **tx).await;
        }
        32 => drop(tx.ping().await),
        _ => {
            let end = if dice.roll(0..2) == 0 { "terminate" } else { "cancel" };
            let sql = format!(
                "SELECT pg_{end}_backend(pid) FROM pg_stat_activity WHERE datname = \
                 current_database() AND pid <> pg_backend_pid() AND state LIKE 'idle in%' \
                 ORDER BY random() LIMIT 1"
            );
            let _ = raw_sql(AssertSqlSafe(sql)).execute(admin).await;
        }
    }
}

async fn rows(pool: &PgPool, id: u64, run: u64) -> i64 {
    let sql = format!("SELECT count(*) FROM marks WHERE id = {id} AND run = {run}");
    let row = raw_sql(AssertSqlSafe(sql)).fetch_one(pool).await.expect("a number");
    row.get(0)
}

async fn next(store: &PostgresStore, id: u64, log: &str) -> Begin<PostgresTx> {
    let begun = Instant::now();
    let mut errors = Vec::new();
    loop {
        match store.begin(&claim(id)).await {
            Ok(Begin::Busy) => sleep(Duration::from_millis(5)).await,
            Ok(begin) => return begin,
            Err(error) => errors.push(error.to_string()),
        }
        assert!(begun.elapsed() < Duration::from_secs(45), "parked: {log} {errors:?}");
    }
}

/// Runs attempts until it is fulfilled, pending or in doubt. Returns what happened.
async fn one(store: &PostgresStore, pool: &PgPool, kills: bool, dice: &Dice, id: u64) -> String {
    let mut log = format!("id {id}:");
    for run in 1..6 {
        let (mut tx, doubt) = match next(store, id, &log).await {
            Begin::Run { tx, .. } => (tx, false),
            Begin::InDoubt { tx, .. } => (tx, true),
            Begin::Fulfilled => panic!("fulfilled before: {log}"),
            other => panic!("{other:?}: {log}"),
        };
        let mut steps: Vec<u64> = (0..dice.roll(0..6)).map(|_| dice.roll(0..STEPS)).collect();
        if kills {
            steps.retain(|it| !ENDS.contains(it));
        } else {
            let ends = steps.iter().position(|it| ENDS.contains(it));
            let mut at = 0..;
            steps.retain(|it| {
                let after = at.next() > ends && ends.is_some();
                *it != SIGNAL && !(after && COPIES.contains(it))
            });
        }
        log += &format!(" run {run} {steps:?}");
        let handled = async {
            if dice.roll(0..2) == 0 {
                let _ = mark(&mut tx, id, run).await;
            }
            for it in steps {
                step(&mut tx, it, id, run, pool, dice).await;
            }
            mark(&mut tx, id, run).await.is_ok()
        };
        let handled =
            AssertUnwindSafe(timeout(Duration::from_secs(2), handled)).catch_unwind().await;
        let end = match dice.roll(0..6) {
            0 => End::Failed("no".into()),
            1 => End::Pending,
            2 => End::InDoubt("who knows".into()),
            _ if handled.is_err() => End::Interrupted("panicked".into()),
            _ => End::Fulfilled,
        };
        log += &format!(" {handled:?} {end:?}").chars().take(60).collect::<String>();
        let begun = Instant::now();
        let ended = store.end(tx, end.clone()).await;
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}: {log}", begun.elapsed());
        log += &format!(" -> {ended:?}");
        let kept = rows(pool, id, run).await;
        let begin = next(store, id, &log).await;
        let began = kind(&begin);
        drop(begin);
        log += &format!(" kept {kept} next {began};");
        match ended {
            Ok(State::Fulfilled) => {
                assert!(kept >= 1, "false fulfilled: {log}");
                assert_eq!(began, "fulfilled", "{log}");
                assert_eq!(end, End::Fulfilled, "{log}");
                let record = store.get(id.into()).await.expect("a record").expect("a record");
                assert_eq!(record.id.get(), id);
                return log;
            }
            Ok(State::Pending) => {
                assert!(kept >= 1 && end == End::Pending, "false pending: {log}");
                // It may run again by design.
                return log;
            }
            Ok(State::Failed) => {
                assert_eq!(kept, 0, "failed, but there: {log}");
                assert!(began.starts_with("run"), "{log}");
                assert!(!matches!(end, End::InDoubt(_)), "a doubt lost: {log}");
            }
            Ok(State::InDoubt) => {
                assert!(began.starts_with("in doubt"), "{log}");
                return log;
            }
            Ok(other) => panic!("{other:?} {log}"),
            Err(_) => match &*began {
                "fulfilled" => {
                    assert!(kept >= 1, "{log}");
                    return log;
                }
                began if began.starts_with("run") && !doubt && end != End::Pending => {
                    assert_eq!(kept, 0, "{log}")
                }
                _ => return log,
            },
        }
    }
    log
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_handler_does() {
    for kills in [false, true] {
        story(|db| async move {
            let pool = db.ready(8).await;
            run(
                &pool,
                "CREATE TABLE marks (id bigint, run bigint, fails bigint); \
                 CREATE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                 IF NEW.fails = 1 THEN RAISE 'deferred'; END IF; RETURN NULL; END $$; \
                 CREATE CONSTRAINT TRIGGER fails AFTER INSERT ON marks DEFERRABLE \
                 INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fails()",
            )
            .await;
            let dice = Dice::new("whatever a handler does");
            let store = PostgresStore::new(pool.clone()).concurrency_limit(8);
            let until = Instant::now() + Duration::from_secs(6);
            let told = join_all((0..4_u64).map(|task| {
                let (store, pool, dice) = (&store, &pool, &dice);
                async move {
                    let mut told = Vec::new();
                    while Instant::now() < until {
                        let id = 1 + task * 1_000_000 + told.len() as u64;
                        told.push(one(store, pool, kills, dice, id).await);
                    }
                    told
                }
            }));
            let told = told.await.concat();
            for state in ["Fulfilled", "Pending", "Failed", "InDoubt"] {
                let ended = format!("-> Ok({state})");
                let times = told.iter().filter(|log| log.contains(&ended)).count();
                println!("{state}: {times} of {}", told.len());
                assert!(times > 0, "none of {} is {state}", told.len());
            }
        })
        .await;
    }
}
