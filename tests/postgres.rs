//! Effect and record are in one PostgreSQL transaction, so they happen together or not at all,
//! whatever a handler does to its transaction and whoever ends its session.

mod support {
    pub(crate) mod postgres;
}

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::{Duration, Instant},
};

use futures::future::join_all;
use sqlx::{Connection, Executor, PgConnection, PgPool, postgres::PgPoolOptions};
use tokio::time::timeout;
use tower_firstpromoter::{
    Access, FulfilIn, Outcome, Verdict, Webhook,
    event::Fulfilment,
    store::{Begin, End, PostgresError, PostgresStore, PostgresTx, State, Store},
};

use self::support::postgres::{
    Database, Proxy, claim, claim_of, effects, fulfilment, kind, patiently, run, story, story_in,
    take_effect,
};

/// An end, the state it leaves, the effects that stay, reason and attempts of the record, and the
/// next begin.
type Row = (End, State, u64, Option<&'static str>, u32, &'static str);

fn ends() -> [Row; 7] {
    [
        (End::Fulfilled, State::Fulfilled, 1, None, 1, "fulfilled"),
        (End::WasFulfilled, State::Fulfilled, 1, None, 0, "fulfilled"),
        (End::Pending, State::Pending, 1, None, 1, "run 2"),
        (End::Failed("no such user".into()), State::Failed, 0, Some("no such user"), 1, "run 2"),
        (End::Interrupted("panicked".into()), State::Failed, 0, Some("panicked"), 1, "run 2"),
        (End::NotRun("unconfirmed".into()), State::Failed, 0, Some("unconfirmed"), 0, "run 1"),
        (End::InDoubt("timed out".into()), State::InDoubt, 0, Some("timed out"), 1, "in doubt 2"),
    ]
}

async fn tx(store: &PostgresStore, id: u64) -> PostgresTx {
    match patiently(store, &claim(id)).await {
        Begin::Run { tx, .. } | Begin::InDoubt { tx, .. } => tx,
        other => panic!("no transaction: {other:?}"),
    }
}

/// A transaction in which the fulfilment took effect.
async fn effect(store: &PostgresStore, id: u64) -> PostgresTx {
    let mut tx = tx(store, id).await;
    take_effect(id, &mut tx).await.expect("an effect");
    tx
}

async fn times(pool: &PgPool, id: u64) -> u64 {
    let effects = effects(pool).await;
    effects.iter().filter(|(it, _)| *it == id as i64).map(|(_, times)| *times as u64).sum()
}

async fn pid(connection: &mut PgConnection) -> i32 {
    let pid = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(connection).await;
    pid.expect("a session")
}

async fn signal(pool: &PgPool, function: &str, pid: i32) {
    let signal = sqlx::AssertSqlSafe(format!("SELECT {function}($1)"));
    let sent: bool = sqlx::query_scalar(signal).bind(pid).fetch_one(pool).await.expect("a signal");
    assert!(sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_decides_what_is_kept() {
    story(|db| async move {
        let pool = db.ready(2).await;
        let store = PostgresStore::new(pool.clone());
        for (id, (end, state, kept, reason, attempts, next)) in (1..).zip(ends()) {
            let tx = effect(&store, id).await;
            assert_eq!(kind(&store.begin(&claim(id)).await.expect("a database")), "busy");
            assert_eq!(store.end(tx, end.clone()).await.expect("a database"), state, "{end:?}");
            assert_eq!(times(&pool, id).await, kept, "{end:?}");

            let record = store.get(id.into()).await.expect("a database").expect("a record");
            assert_eq!((record.state, record.attempts), (state, attempts), "{end:?}");
            assert_eq!(record.reason.as_deref(), reason, "{end:?}");
            // The end has released it: no waiting.
            assert_eq!(kind(&store.begin(&claim(id)).await.expect("a database")), next, "{end:?}");
        }
        let open: Vec<_> = store.open(3).await.expect("a database");
        assert_eq!(open.iter().map(|record| record.id.get()).collect::<Vec<_>>(), [7, 6, 5]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_doubt_keeps_its_reason_until_it_is_resolved() {
    story(|db| async move {
        let store = PostgresStore::new(db.ready(2).await);
        let end = async |id, end| store.end(tx(&store, id).await, end).await.expect("a database");
        assert_eq!(end(1, End::InDoubt("timed out".into())).await, State::InDoubt);
        assert_eq!(end(1, End::NotRun("nobody knows".into())).await, State::InDoubt);
        let record = store.get(1.into()).await.expect("a database").expect("a record");
        assert_eq!((record.reason.as_deref(), record.attempts), (Some("timed out"), 1));

        assert!(!store.resolve(2.into(), true).await.expect("a database"));
        let running = tx(&store, 1).await;
        assert!(!store.resolve(1.into(), true).await.expect("a database"), "it is running");
        assert!(!store.forget(1.into()).await.expect("a database"), "it is running");
        drop(running);
        assert_eq!(kind(&patiently(&store, &claim(1)).await), "in doubt 2");
        while !store.resolve(1.into(), false).await.expect("a database") {}
        let record = store.get(1.into()).await.expect("a database").expect("a record");
        assert_eq!(record.state, State::Failed);
        assert!(!store.resolve(1.into(), true).await.expect("a database"), "no longer in doubt");

        assert_eq!(end(1, End::InDoubt("again".into())).await, State::InDoubt);
        assert!(store.resolve(1.into(), true).await.expect("a database"));
        assert_eq!(kind(&store.begin(&claim(1)).await.expect("a database")), "fulfilled");
        assert!(store.forget(1.into()).await.expect("a database"));
        assert!(!store.forget(1.into()).await.expect("a database"));
        assert_eq!(kind(&store.begin(&claim(1)).await.expect("a database")), "run 1");
    })
    .await;
}

/// What a handler does that ends the transaction by itself. None of it may be followed by a run.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_the_handler_ends_is_in_doubt() {
    story(|db| async move {
        let pool = db.ready(2).await;
        let store = PostgresStore::new(pool.clone());
        let mut id = 0;
        for (sql, kept) in [
            ("COMMIT", 1),
            ("ROLLBACK", 0),
            ("COMMIT AND CHAIN", 1),
            ("COMMIT; BEGIN", 1),
            ("COMMIT; BEGIN; SELECT 1 / 0", 1),
            ("COMMIT; SELECT 1 / 0", 1),
        ] {
            for end in [
                End::Fulfilled,
                End::Pending,
                End::Failed("no".into()),
                End::Interrupted("panicked".into()),
            ] {
                id += 1;
                let mut tx = effect(&store, id).await;
                let _ = sqlx::raw_sql(sql).execute(&mut *tx).await;
                let state = store.end(tx, end.clone()).await.expect("a database");
                assert_eq!(state, State::InDoubt, "{sql}, {end:?}");
                assert_eq!(times(&pool, id).await, kept, "{sql}, {end:?}");
                let next = patiently(&store, &claim(id)).await;
                assert_eq!(kind(&next), "in doubt 2", "{sql}, {end:?}");
            }
        }
        let reason = store.get(1.into()).await.expect("a database").expect("a record").reason;
        assert_eq!(reason.as_deref(), Some("the handler ended the transaction by itself"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_the_handler_replaces_is_in_doubt() {
    story(|db| async move {
        let pool = db.ready(4).await;
        let store = PostgresStore::new(pool.clone());
        for (id, end) in [(1, End::Fulfilled), (2, End::Failed("no".into()))] {
            let mut other = PgConnection::connect(&db.url).await.expect("a connection");
            other.execute("BEGIN").await.expect("a transaction");
            let mut tx = effect(&store, id).await;
            std::mem::swap(&mut *tx, &mut other);
            assert_eq!(store.end(tx, end).await.expect("a database"), State::InDoubt);
            assert_eq!(kind(&store.begin(&claim(id)).await.expect("a database")), "busy");
            other.execute("COMMIT").await.expect("what was ours");
            assert_eq!(kind(&patiently(&store, &claim(id)).await), "in doubt 2");
            assert_eq!(times(&pool, id).await, 1);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nested_transactions_are_savepoints() {
    story(|db| async move {
        let pool = db.ready(2).await;
        let store = PostgresStore::new(pool.clone()).concurrency_limit(1);
        // What becomes of the nested one, and how many of two effects stay.
        for (id, (how, kept)) in
            (1..).zip([("commit", 2), ("rollback", 1), ("drop", 1), ("forget", 2), ("release", 2)])
        {
            let mut tx = effect(&store, id).await;
            if how == "release" {
                // By any name, also one that the store might have used.
                tx.execute("SAVEPOINT firstpromoter").await.expect("a savepoint");
                take_effect(id, &mut tx).await.expect("an effect");
                tx.execute("RELEASE SAVEPOINT firstpromoter").await.expect("a savepoint");
            } else {
                let mut nested = tx.begin().await.expect("a savepoint");
                let again = sqlx::query("INSERT INTO effects VALUES ($1)").bind(id as i64);
                again.execute(&mut *nested).await.expect("an effect");
                match how {
                    "commit" => nested.commit().await.expect("a savepoint"),
                    "rollback" => nested.rollback().await.expect("a savepoint"),
                    "drop" => drop(nested),
                    _ => std::mem::forget(nested),
                }
            }
            assert_eq!(store.end(tx, End::Fulfilled).await.expect("a database"), State::Fulfilled);
            assert_eq!(times(&pool, id).await, kept, "{how}");

            // The connection is the same, and its transactions are whole.
            let mut tx = effect(&store, id + 100).await;
            let _ = tx.begin().await.expect("a savepoint").rollback().await;
            let end = End::Failed("undone".into());
            assert_eq!(store.end(tx, end).await.expect("a database"), State::Failed);
            assert_eq!(times(&pool, id + 100).await, 0, "after {how}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_commits_after_a_nested_beginning_was_dropped_half_way() {
    story(|db| async move {
        let pool = db.ready(2).await;
        let store = PostgresStore::new(pool.clone());
        let mut tx = effect(&store, 1).await;
        loop {
            let mut nested = pin!(tx.begin());
            let begun = poll_fn(|cx| Poll::Ready(nested.as_mut().poll(cx).is_ready()));
            if !begun.await {
                break; // half-way; the server may also have answered at once
            }
        }
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _: &mut PgConnection = &mut tx;
        }));
        assert!(panicked.is_err(), "it would commit by itself");
        let state = store.end(tx, End::Interrupted("panicked".into())).await.expect("a database");
        assert_eq!((state, times(&pool, 1).await), (State::InDoubt, 0));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_that_the_handler_swallows_undoes_it() {
    story(|db| async move {
        let pool = db.ready(2).await;
        let store = PostgresStore::new(pool.clone());
        for (id, end) in [(1, End::Fulfilled), (2, End::Failed("division".into()))] {
            let mut tx = effect(&store, id).await;
            tx.execute("SELECT 1 / 0").await.expect_err("an error");
            let others = store.begin(&claim(id)).await.expect("a database");
            assert_eq!(kind(&others), "busy", "the handler has not returned");
            assert_eq!(store.end(tx, end).await.expect("a database"), State::Failed);
            assert_eq!(times(&pool, id).await, 0);
            let record = store.get(id.into()).await.expect("a database").expect("a record");
            assert!(record.reason.is_some_and(|reason| !reason.is_empty()));
            assert_eq!(kind(&store.begin(&claim(id)).await.expect("a database")), "run 2");
        }
    })
    .await;
}

/// Say, an operator who knows and writes SQL.
#[tokio::test(flavor = "multi_thread")]
async fn what_became_fulfilled_meanwhile_stays_so_and_undoes_the_attempt() {
    story(|db| async move {
        let pool = db.ready(1).await;
        let store = PostgresStore::new(pool.clone());
        for (id, (end, ..)) in (1..).zip(ends()) {
            let tx = effect(&store, id).await;
            let row = format!("('', {id}, 'credits', 3, 7, 'fulfilled', 4)");
            let table = "firstpromoter_fulfilments";
            let columns = "(namespace, id, unit, amount, promoter_id, state, attempts)";
            run(&pool, format!("INSERT INTO {table} {columns} VALUES {row}")).await;
            let before = store.get(id.into()).await.expect("a database");
            let state = store.end(tx, end.clone()).await.expect("a database");
            assert_eq!((state, times(&pool, id).await), (State::Fulfilled, 0), "{end:?}");
            assert_eq!(store.get(id.into()).await.expect("a database"), before, "{end:?}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_commit_refuses_is_undone_and_not_fulfilled() {
    story(|db| async move {
        let pool = db.ready(2).await;
        run(&pool, "CREATE TABLE due (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)").await;
        let store = PostgresStore::new(pool.clone());
        let mut tx = effect(&store, 1).await;
        tx.execute("INSERT INTO due VALUES (1), (1)").await.expect("deferred");
        store.end(tx, End::Fulfilled).await.expect_err("a commit that fails");
        assert_eq!(times(&pool, 1).await, 0);
        assert_eq!(kind(&patiently(&store, &claim(1)).await), "run 1");
    })
    .await;
}

/// A transaction's own settings are the handler's to change.
#[tokio::test(flavor = "multi_thread")]
async fn settings_of_the_handler_change_neither_the_record_nor_its_durability() {
    story(|db| async move {
        let pool = db.ready(2).await;
        run(
            &pool,
            "CREATE TABLE durable (setting text); \
             CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             INSERT INTO public.durable VALUES (current_setting('synchronous_commit')); \
             RETURN NULL; END $$; \
             CREATE TRIGGER note AFTER INSERT OR UPDATE ON firstpromoter_fulfilments \
             FOR EACH ROW EXECUTE FUNCTION note(); CREATE SCHEMA other",
        )
        .await;
        let store = PostgresStore::new(pool.clone());
        for (id, end) in [(1, End::Fulfilled), (2, End::InDoubt("unknown".into()))] {
            let mut tx = effect(&store, id).await;
            tx.execute(
                "SET LOCAL TimeZone = 'Asia/Tokyo'; SET LOCAL DateStyle = 'German'; \
                 SET LOCAL synchronous_commit = off; SET LOCAL search_path = other; \
                 SET LOCAL standard_conforming_strings = off",
            )
            .await
            .expect("settings");
            let state = if id == 1 { State::Fulfilled } else { State::InDoubt };
            assert_eq!(store.end(tx, end).await.expect("a database"), state);
        }
        let settings: Vec<String> =
            sqlx::query_scalar("SELECT setting FROM durable").fetch_all(&pool).await.expect("rows");
        assert_eq!(settings, ["on", "on"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_ended_or_cancelled_anywhere_undoes_the_attempt() {
    story(|db| async move {
        let pool = db.ready(2).await;
        let store = PostgresStore::new(pool.clone());
        let mut id = 0;
        for function in ["pg_terminate_backend", "pg_cancel_backend"] {
            for (before_effect, end) in [
                (true, End::Fulfilled),
                (false, End::Fulfilled),
                (false, End::Failed("no".into())),
                (false, End::Interrupted("panicked".into())),
                (false, End::InDoubt("unknown".into())),
            ] {
                id += 1;
                let mut tx = tx(&store, id).await;
                let pid = pid(&mut tx).await;
                if before_effect {
                    signal(&pool, function, pid).await;
                }
                let _ = take_effect(id, &mut tx).await;
                if !before_effect {
                    signal(&pool, function, pid).await;
                }
                let state = store.end(tx, end.clone()).await;
                let kept = times(&pool, id).await;
                let next = kind(&patiently(&store, &claim(id)).await);
                match state.expect("a database") {
                    // A cancel that arrives while nothing runs does nothing.
                    State::Fulfilled => assert_eq!((kept, &*next), (1, "fulfilled")),
                    State::InDoubt => {
                        assert_eq!((kept, &*next), (0, "in doubt 2"));
                        assert_eq!(end, End::InDoubt("unknown".into()), "{function}");
                    }
                    state => {
                        assert_eq!((state, kept, &*next), (State::Failed, 0, "run 2"), "{function}")
                    }
                }
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_terminations_and_cancels_fulfils_each_once() {
    story(|db| async move {
        let pool = db.ready(4).await;
        let store = PostgresStore::new(pool.clone());
        let storm = async {
            loop {
                tokio::time::sleep(Duration::from_millis(3)).await;
                let _ = sqlx::raw_sql(
                    "SELECT CASE WHEN random() < 0.5 THEN pg_terminate_backend(pid) \
                     ELSE pg_cancel_backend(pid) END FROM pg_stat_activity \
                     WHERE datname = current_database() AND pid <> pg_backend_pid() \
                     AND query NOT LIKE '%effects GROUP%' ORDER BY random() LIMIT 1",
                )
                .execute(&pool)
                .await;
            }
        };
        let work = join_all((1..=40).map(|id| {
            let store = &store;
            async move {
                loop {
                    let Ok(Begin::Run { mut tx, .. }) = store.begin(&claim(id)).await else {
                        if let Ok(Begin::Fulfilled) = store.begin(&claim(id)).await {
                            return;
                        }
                        tokio::time::sleep(Duration::from_millis(2)).await;
                        continue;
                    };
                    let end = match take_effect(id, &mut tx).await {
                        Ok(()) if id % 3 == 0 => End::Fulfilled,
                        Ok(()) => {
                            let slow = tx.execute("SELECT pg_sleep(0.005)").await;
                            slow.map_or_else(
                                |error| End::Failed(error.to_string()),
                                |_| End::Fulfilled,
                            )
                        }
                        Err(error) => End::Failed(error.to_string()),
                    };
                    let _ = store.end(tx, end).await;
                }
            }
        }));
        tokio::select! {
            _ = work => {}
            () = storm => unreachable!(),
            () = tokio::time::sleep(Duration::from_secs(60)) => {
                let open = PostgresStore::new(db.pool(1).await).open(9).await;
                panic!("not all of them in a minute: {open:?}");
            }
        }
        pool.close().await; // after the last signal
        let pool = db.pool(1).await;
        assert_eq!(effects(&pool).await, (1..=40).map(|id| (id, 1)).collect::<Vec<_>>());
        assert!(PostgresStore::new(pool).open(9).await.expect("a database").is_empty());
    })
    .await;
}

/// A verb's future may be dropped anywhere: nothing is left locked, open or half written.
#[tokio::test(flavor = "multi_thread")]
async fn a_verb_that_is_dropped_anywhere_leaves_nothing() {
    story(|db| async move {
        let pool = db.ready(2).await;
        let store = PostgresStore::new(pool.clone()).concurrency_limit(1);
        for id in 1..60 {
            let micros = Duration::from_micros(40 * id);
            let dropped = timeout(micros, store.begin(&claim(id))).await.is_err();
            drop(effect(&store, id).await);
            let end = timeout(micros, store.end(effect(&store, id).await, End::Fulfilled)).await;
            let _ = timeout(micros, store.get(id.into())).await;
            match patiently(&store, &claim(id)).await {
                Begin::Fulfilled => assert_eq!(times(&pool, id).await, 1, "{end:?}, {dropped}"),
                Begin::Run { .. } => {
                    assert!(end.is_err());
                    assert_eq!(times(&pool, id).await, 0);
                }
                other => panic!("{other:?}"),
            }
        }
        let left = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
            AND state LIKE 'idle in%'";
        for _ in 0..200 {
            let left: i64 = sqlx::query_scalar(left).fetch_one(&pool).await.expect("a number");
            if left == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("a session was left in a transaction");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_crowd_one_runs_and_the_others_hear_busy_at_once() {
    story(|db| async move {
        let store = PostgresStore::new(db.ready(2).await);
        let claim = claim(1);
        let begun = Instant::now();
        let crowd = join_all((0..60).map(|_| store.begin(&claim))).await;
        let crowd: Vec<_> = crowd.into_iter().map(|begin| begin.expect("a database")).collect();
        assert!(begun.elapsed() < Duration::from_secs(3));
        let runs = crowd.iter().filter(|begin| matches!(begin, Begin::Run { .. })).count();
        let busy = crowd.iter().filter(|begin| matches!(begin, Begin::Busy)).count();
        assert_eq!((runs, busy), (1, 59));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_doubts_as_attempts_are_recorded() {
    story(|db| async move {
        let store = PostgresStore::new(db.ready(1).await).concurrency_limit(12);
        let txs = join_all((1..=12).map(|id| effect(&store, id))).await;
        let ends = txs.into_iter().map(|tx| store.end(tx, End::InDoubt("unknown".into())));
        for state in join_all(ends).await {
            assert_eq!(state.expect("a database"), State::InDoubt);
        }
        assert_eq!(store.open(100).await.expect("a database").len(), 12);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_says_what_was_last_asked_for() {
    story(|db| async move {
        let store = PostgresStore::new(db.ready(1).await);
        for (json, end) in [
            (r#""amount":3,"unit":"credits""#, End::Failed("no".into())),
            (r#""amount":5.50,"unit":"points""#, End::Fulfilled),
        ] {
            let claim =
                claim_of(&format!(r#"{{"id":1,{json},"promoter":{{"id":7,"cust_id":"ada"}}}}"#));
            let Ok(Begin::Run { tx, .. }) = store.begin(&claim).await else { panic!("no run") };
            store.end(tx, end).await.expect("a database");
            let record = store.get(1.into()).await.expect("a database").expect("a record");
            assert_eq!((record.amount, &record.unit), (claim.amount, &claim.unit));
            assert_eq!(record.cust_id.as_deref(), Some("ada"));
        }
        // Another promoter's, whatever the state.
        for state in ["fulfilled", "failed", "pending", "in_doubt", "started"] {
            let set = format!("UPDATE firstpromoter_fulfilments SET state = '{state}'");
            run(&db.pool(1).await, set).await;
            let before = store.get(1.into()).await.expect("a database");
            let other = claim_of(r#"{"id":1,"amount":9,"unit":"credits","promoter":{"id":8}}"#);
            let begin = store.begin(&other).await.expect("a database");
            assert_eq!(kind(&begin), "mismatch", "{state}");
            assert_eq!(store.get(1.into()).await.expect("a database"), before);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_share_nothing() {
    story(|db| async move {
        let store = PostgresStore::new(db.ready(1).await);
        let names = ["ours", "its \\' quoted", "Kaffee \u{2615}", ""];
        for name in names {
            let store = store.clone().namespace(name).expect("a namespace");
            let tx = effect(&store, 1).await;
            store.end(tx, End::Fulfilled).await.expect("a database");
            assert_eq!(kind(&store.begin(&claim(1)).await.expect("a database")), "fulfilled");
            assert!(store.forget(2.into()).await.is_ok_and(|forgot| !forgot));
        }
        assert!(store.clone().namespace("a".repeat(201)).is_err());
        assert!(store.namespace("a\nb").is_err());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_that_the_database_cannot_hold_are_left_out() {
    let latin1 = "ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'";
    for (options, kept) in [("", "\u{2615}"), (latin1, "?")] {
        story_in(options, async move |db: Database| {
            let pool = db.ready(1).await;
            let store = PostgresStore::new(pool.clone());
            let text = r#"{"id":1,"amount":1,"unit":"☕\u0000","promoter":{"id":7,"cust_id":"a☕\u0000"}}"#;
            for (end, state) in [
                (End::Failed("\u{2615}\0".into()), State::Failed),
                (End::InDoubt("\u{2615}\0".into()), State::InDoubt),
                (End::Fulfilled, State::Fulfilled),
            ] {
                let tx = match store.begin(&claim_of(text)).await {
                    Ok(Begin::Run { tx, .. } | Begin::InDoubt { tx, .. }) => tx,
                    other => panic!("{other:?}"),
                };
                assert_eq!(store.end(tx, end).await.expect("a database"), state);
                let record = store.get(1.into()).await.expect("a database").expect("a record");
                assert_eq!(record.unit.as_str(), format!("{kept}?"));
                assert_eq!(record.cust_id.as_deref(), Some(&*format!("a{kept}?")));
            }
            let foreign = store.namespace("\u{e9}").expect("a namespace");
            let begin = foreign.begin(&claim(1)).await;
            match options {
                "" => assert_eq!(kind(&begin.expect("a database")), "run 1"),
                _ => {
                    let error = begin.expect_err("a namespace that cannot be written").to_string();
                    assert!(error.contains("namespace has to be ASCII"), "{error}");
                }
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_path_that_changes_leads_to_no_other_table() {
    story(|db| async move {
        let pool = db.ready(1).await;
        run(&pool, "CREATE SCHEMA \"Bill\"\"ing\"").await;
        let billing = PostgresStore::new(pool.clone()).schema("Bill\"ing");
        let error = billing.get(1.into()).await.expect_err("no table yet");
        assert!(error.to_string().contains("create_table"), "{error}");
        billing.create_table().await.expect("a table");
        billing.create_table().await.expect("a table that exists");

        let store = PostgresStore::new(pool.clone());
        let tx = effect(&store, 1).await;
        store.end(tx, End::Fulfilled).await.expect("a database");
        let set = format!("ALTER DATABASE {} SET search_path = \"Bill\"\"ing\", public", db.name);
        run(&pool, set).await;
        kill_all(&pool).await;
        assert_eq!(kind(&store.begin(&claim(1)).await.expect("a database")), "fulfilled");
        assert_eq!(kind(&billing.begin(&claim(1)).await.expect("a database")), "run 1");
        // Another store resolves it anew.
        let other = PostgresStore::new(db.pool(1).await);
        assert_eq!(kind(&patiently(&other, &claim(1)).await), "run 1");
    })
    .await;
}

/// Ends every other session of the database.
async fn kill_all(pool: &PgPool) {
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    run(pool, kill).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_ended_while_idle_are_not_noticed() {
    story(|db| async move {
        let pool = db.ready(1).await;
        let store = PostgresStore::new(pool.clone());
        let txs = join_all((1..=8).map(|id| effect(&store, id))).await;
        join_all(txs.into_iter().map(|tx| store.end(tx, End::Fulfilled))).await;
        for id in 11..14 {
            kill_all(&pool).await;
            let tx = effect(&store, id).await;
            assert_eq!(store.end(tx, End::Fulfilled).await.expect("a database"), State::Fulfilled);
            kill_all(&pool).await;
            assert!(store.get(id.into()).await.expect("a database").is_some());
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_connection_of_the_application_reaches_the_store() {
    story(|db| async move {
        let pool = db.ready(1).await;
        let store = PostgresStore::new(pool.clone());
        // As sqlx leaves it after somebody's dropped `begin`: in a transaction that it does not
        // know of. It is the pool's only one.
        pool.execute("BEGIN").await.expect("a statement");
        let mut tx = effect(&store, 1).await;
        tx.execute("SELECT 1").await.expect("a statement");
        assert_eq!(
            store.end(tx, End::InDoubt("unknown".into())).await.expect("a database"),
            State::InDoubt
        );
        assert!(store.resolve(1.into(), true).await.expect("a database"));
        pool.execute("ROLLBACK").await.expect("a statement");
        assert_eq!(kind(&store.begin(&claim(1)).await.expect("a database")), "fulfilled");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_options_that_change_and_hooks_of_a_dedicated_pool_are_followed() {
    story(|db| async move {
        let pool = db.ready(1).await;
        let name = async |store: &PostgresStore, id| {
            let mut tx = tx(store, id).await;
            let name: String = sqlx::query_scalar("SELECT current_setting('application_name')")
                .fetch_one(&mut *tx)
                .await
                .expect("a setting");
            store.end(tx, End::Fulfilled).await.expect("a database");
            name
        };
        let store = PostgresStore::new(pool.clone());
        assert_eq!(name(&store, 1).await, "");
        let options = pool.connect_options();
        pool.set_connect_options((*options).clone().application_name("rotated"));
        assert_eq!(name(&store, 2).await, "rotated");

        let hooked = PgPoolOptions::new()
            .max_connections(1)
            .after_connect(|connection, _| {
                Box::pin(async move {
                    connection.execute("SET application_name = 'hooked'").await.map(drop)
                })
            })
            .connect_lazy_with((*options).clone());
        let store = PostgresStore::with_dedicated_pool(hooked);
        let both = join_all([tx(&store, 3), tx(&store, 4)]).await;
        drop(both);
        assert_eq!(name(&store, 5).await, "hooked");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_database_is_an_error_before_the_handler_is_called() {
    story(|db| async move {
        let pool = db.ready(1).await;
        let set = format!("ALTER DATABASE {} SET default_transaction_read_only = on", db.name);
        run(&pool, set).await;
        let store = PostgresStore::new(db.pool(1).await);
        for error in [
            store.create_table().await.expect_err("read-only"),
            store.begin(&claim(1)).await.expect_err("read-only"),
        ] {
            assert_eq!(error.to_string(), "the database is read-only");
        }
        assert_eq!(store.get(1.into()).await.expect("it can be read"), None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_table_is_named_and_found_once_it_is_there() {
    story(|db| async move {
        let store = PostgresStore::new(db.pool(1).await);
        let named = |error: PostgresError| error.to_string().contains("call `create_table`");
        assert!(named(store.begin(&claim(1)).await.expect_err("no table")));
        join_all((0..4).map(|_| store.create_table()))
            .await
            .into_iter()
            .for_each(|made| made.expect("a table"));
        assert_eq!(kind(&store.begin(&claim(1)).await.expect("a database")), "run 1");
        run(&db.pool(1).await, "DROP TABLE firstpromoter_fulfilments").await;
        assert!(named(store.get(1.into()).await.expect_err("no table")));
    })
    .await;
}

/// A row lock of an operator's delays an end, for no longer than the store says.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_of_somebody_elses_is_not_waited_for_long() {
    story(|db| async move {
        let pool = db.ready(2).await;
        let store = PostgresStore::new(pool.clone());
        let end = End::Failed("no".into());
        assert_eq!(store.end(tx(&store, 1).await, end).await.expect("a database"), State::Failed);
        let mut operator = pool.begin().await.expect("a transaction");
        operator
            .execute("SELECT * FROM firstpromoter_fulfilments FOR UPDATE")
            .await
            .expect("a lock");
        let begun = Instant::now();
        let tx = effect(&store, 1).await;
        assert!(begun.elapsed() < Duration::from_secs(1), "a begin does not wait");
        let state = store.end(tx, End::Fulfilled).await;
        assert!(!matches!(state, Ok(State::Fulfilled)), "{state:?}");
        assert!(begun.elapsed() < Duration::from_secs(8));
        operator.rollback().await.expect("the lock's end");
        assert_eq!(times(&pool, 1).await, 0);
        assert_eq!(kind(&patiently(&store, &claim(1)).await), "run 2");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_are_let_go() {
    story(|db| async move {
        let pool = db.ready(1).await;
        let proxy = Proxy::start(&db.url).await;
        let store = PostgresStore::new(PgPool::connect_lazy(&proxy.url).expect("a URL"));
        let warm = async |ids: std::ops::Range<u64>| {
            let txs = join_all(ids.map(|id| effect(&store, id))).await;
            join_all(txs.into_iter().map(|tx| store.end(tx, End::Fulfilled))).await;
        };

        // All that were idle: one is found silent, and the others are not even tried.
        warm(1..9).await;
        proxy.silence();
        let begun = Instant::now();
        let state = store.end(effect(&store, 11).await, End::Fulfilled).await;
        assert_eq!(state.expect("a database"), State::Fulfilled);
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());

        // All that run: they end within the bound, and are right at once for others.
        let txs = join_all((21..29).map(|id| effect(&store, id))).await;
        proxy.silence();
        let begun = Instant::now();
        let ends = (0..).zip(txs).map(|(at, tx)| {
            store.end(tx, if at % 2 == 0 { End::Fulfilled } else { End::InDoubt("unknown".into()) })
        });
        for (at, state) in join_all(ends).await.into_iter().enumerate() {
            let undone = if at % 2 == 0 { State::Failed } else { State::InDoubt };
            assert_eq!(state.expect("a database"), undone);
        }
        assert!(begun.elapsed() < Duration::from_secs(7), "{:?}", begun.elapsed());
        for (id, next) in [(21, "run 2"), (22, "in doubt 2"), (23, "run 2")] {
            let begun = Instant::now();
            assert_eq!(kind(&patiently(&store, &claim(id)).await), next);
            assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
            assert_eq!(times(&pool, id).await, 0);
        }
    })
    .await;
}

/// Dropping a handler does not stop its statement on the server.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_of_a_handler_that_was_cut_off_is_stopped() {
    story(|db| async move {
        let pool = db.ready(2).await;
        let store = PostgresStore::new(pool.clone());
        let mut tx = effect(&store, 1).await;
        let sleep = timeout(Duration::from_millis(50), tx.execute("SELECT pg_sleep(1000)")).await;
        assert!(sleep.is_err());
        let begun = Instant::now();
        let state = store.end(tx, End::Interrupted("took too long".into())).await;
        assert_eq!(state.expect("a database"), State::Failed);
        assert_eq!(kind(&patiently(&store, &claim(1)).await), "run 2");
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert_eq!(times(&pool, 1).await, 0);
    })
    .await;
}

/// Takes effect through the transaction, then does as it is told.
struct Told(fn(u64) -> Result<Outcome, &'static str>);

impl FulfilIn<PostgresTx> for Told {
    type Error = String;

    async fn fulfil_in(&self, f: Fulfilment, tx: &mut PostgresTx) -> Result<Outcome, String> {
        take_effect(f.id.get(), tx).await.map_err(|error| error.to_string())?;
        Ok((self.0)(f.id.get())?)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_answers_what_the_record_says() {
    story(|db| async move {
        let pool = db.ready(1).await;
        let webhook = |told| {
            let access = Access::query("key", "at least sixteen bytes").expect("a secret");
            Webhook::new(Told(told), PostgresStore::new(pool.clone()), access)
        };
        let well = webhook(|_| Ok(Outcome::Fulfilled));
        for (id, webhook, verdict, kept, next) in [
            (1, webhook(|_| Ok(Outcome::Fulfilled)), Verdict::Fulfilled, 1, Verdict::Fulfilled),
            (2, webhook(|_| Ok(Outcome::Pending)), Verdict::Pending, 1, Verdict::Fulfilled),
            (3, webhook(|_| Err("no such user")), Verdict::Failed, 0, Verdict::Fulfilled),
            (4, webhook(|_| panic!("on purpose")), Verdict::Panicked, 0, Verdict::Fulfilled),
            (
                5,
                webhook(|_| Ok(Outcome::InDoubt("timed out".into()))),
                Verdict::InDoubt,
                0,
                Verdict::InDoubt,
            ),
        ] {
            assert_eq!(webhook.fulfil(fulfilment(id)).await, verdict);
            assert_eq!(times(&pool, id).await, kept, "{verdict:?}");
            assert_eq!(well.fulfil(fulfilment(id)).await, next, "{verdict:?}");
        }
    })
    .await;
}

/// A handler goes on after its session has ended, and another attempt has ended meanwhile: what that
/// one recorded stays, above all a doubt. Only a doubt of its own is added.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_failure_erases_no_doubt() {
    story(|db| async move {
        let pool = db.ready(2).await;
        let store = PostgresStore::new(pool.clone());
        let in_doubt = || End::InDoubt("a call timed out".into());
        let ends = [
            (End::Failed("no".into()), in_doubt(), None, State::InDoubt),
            (End::Interrupted("too long".into()), in_doubt(), None, State::InDoubt),
            (End::NotRun("not confirmed".into()), in_doubt(), None, State::InDoubt),
            (End::Fulfilled, in_doubt(), None, State::InDoubt),
            (End::Failed("no".into()), End::Pending, None, State::Pending),
            (in_doubt(), End::Pending, Some(State::InDoubt), State::InDoubt),
            (End::InDoubt(String::new()), End::Pending, Some(State::InDoubt), State::InDoubt),
        ];
        for (id, (late, meanwhile, answer, left)) in (1..).zip(ends) {
            let mut first = tx(&store, id).await;
            signal(&pool, "pg_terminate_backend", pid(&mut first).await).await;
            let second = tx(&store, id).await;
            store.end(second, meanwhile).await.expect("a database");
            let ended = store.end(first, late.clone()).await;
            assert_eq!(ended.as_ref().ok(), answer.as_ref(), "{late:?}: {ended:?}");
            let record = store.get(id.into()).await.expect("a database").expect("a record");
            assert_eq!((record.state, record.attempts), (left, 1), "{late:?}");
        }
    })
    .await;
}
