//! The states in which a delivery may find the database, and in which a handler may leave it: the
//! answer is `200` if and only if it is fulfilled, and it takes effect once.

mod support {
    pub(crate) mod deliver;
    pub(crate) mod postgres;
}

use std::{
    future::{Future, poll_fn},
    task::Poll,
    time::{Duration, Instant},
};

use futures::future::join;
use sqlx::{AssertSqlSafe, Connection, PgPool, raw_sql};
use tokio::time::sleep;
use tower_firstpromoter::{
    Fulfil, FulfilIn, Outcome, Verdict, Webhook,
    event::{Fulfilment, Unit},
    store::{PostgresJournal, PostgresStore, PostgresTx, State, Store},
};

use self::support::{
    deliver::{deliver, webhook},
    postgres::{
        Database, Server, effects, fulfilment_of, not_run, run, story, story_in, take_effect,
    },
};

/// Takes effect, runs a script on the transaction, and ends as it is told.
struct Script {
    sql: &'static str,
    fails: bool,
}

impl FulfilIn<PostgresTx> for Script {
    type Error = &'static str;

    async fn fulfil_in(&self, f: Fulfilment, tx: &mut PostgresTx) -> Result<Outcome, &'static str> {
        take_effect(f.id.get(), tx).await.expect("an effect");
        match self.sql {
            "forget" => std::mem::forget(tx.begin().await.expect("a nested one")),
            sql => drop(raw_sql(AssertSqlSafe(sql)).execute(&mut **tx).await),
        }
        if self.fails { Err("na\u{ef}ve \u{2615} \0 caf\u{e9}") } else { Ok(Outcome::Fulfilled) }
    }
}

const FULFILS: Script = Script { sql: "", fails: false };

/// Takes effect by the application's pool, after a while.
struct Elsewhere {
    pool: PgPool,
    takes: Duration,
    fails: bool,
}

impl Fulfil for Elsewhere {
    type Error = &'static str;

    async fn fulfil(&self, f: Fulfilment) -> Result<Outcome, &'static str> {
        sleep(self.takes).await;
        if self.fails {
            return Err("na\u{ef}ve \u{2615} \0 caf\u{e9}");
        }
        run(&self.pool, format!("INSERT INTO effects VALUES ({})", f.id)).await;
        Ok(Outcome::Fulfilled)
    }

    async fn was_fulfilled(&self, f: &Fulfilment) -> Result<Option<bool>, &'static str> {
        let effects = effects(&self.pool).await;
        Ok(Some(effects.iter().any(|(id, _)| *id == f.id.get() as i64)))
    }
}

fn at_once(pool: &PgPool) -> Elsewhere {
    Elsewhere { pool: pool.clone(), takes: Duration::ZERO, fails: false }
}

/// A handler that ends its transaction, or takes a savepoint by the store's name, delivered eight times.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_handler_does_to_its_transaction() {
    use Verdict::{Failed, Fulfilled, InDoubt};
    story(|db| async move {
        let pool = db.ready(2).await;
        #[rustfmt::skip]
        let scripts = [
            ("COMMIT", InDoubt, InDoubt, 1),
            ("ROLLBACK", InDoubt, InDoubt, 0),
            ("COMMIT; BEGIN; SAVEPOINT firstpromoter", InDoubt, InDoubt, 1),
            ("ROLLBACK AND CHAIN", InDoubt, InDoubt, 0),
            ("SELECT pg_terminate_backend(pg_backend_pid())", Failed, Failed, 0),
            // What a handler may leave behind. The last word is the number of effects if it fulfils.
            ("forget", Fulfilled, Failed, 1),
            ("SAVEPOINT mine", Fulfilled, Failed, 1),
            ("SAVEPOINT firstpromoter", Fulfilled, Failed, 1),
            ("BEGIN", Fulfilled, Failed, 1),
            ("SET LOCAL search_path = pg_catalog", Fulfilled, Failed, 1),
            ("SELECT pg_advisory_lock(1), pg_advisory_unlock_all()", Fulfilled, Failed, 1),
        ];
        let mut expected = Vec::new();
        for (at, (sql, fulfils, fails, effect)) in (0..).zip(scripts) {
            for (id, failing, verdict) in [(2 * at, false, fulfils), (2 * at + 1, true, fails)] {
                let handler = Script { sql, fails: failing };
                let webhook = webhook(handler, PostgresStore::new(pool.clone()));
                for nth in 0..8 {
                    assert_eq!(deliver(&webhook, id).await, verdict, "{sql}, {failing}, {nth}");
                }
                let kept = if verdict == Failed { 0 } else { effect };
                expected.extend((kept > 0).then_some((id as i64, kept)));
            }
        }
        assert_eq!(effects(&pool).await, expected);
    })
    .await;
}

/// Words never decide a state.
#[tokio::test(flavor = "multi_thread")]
async fn words_that_a_latin1_database_cannot_hold() {
    let latin1 = "ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'";
    story_in(latin1, |db| async move {
        let pool = db.ready(2).await;
        let store = PostgresStore::new(pool.clone());
        let journal = PostgresJournal::new(pool.clone()).namespace("journal").expect("a namespace");
        let elsewhere = |fails| Elsewhere { fails, ..at_once(&pool) };
        let of = |id: u64| {
            fulfilment_of(&format!(
                r#"{{"id":{id},"amount":3,"unit":"☕ \u0000","promoter":{{"id":7,"cust_id":"☕"}}}}"#
            ))
        };
        for (id, fails, well) in [
            (
                1,
                webhook(Script { sql: "", fails: true }, store.clone()),
                webhook(FULFILS, store.clone()),
            ),
            (2, webhook(elsewhere(true), journal.clone()), webhook(elsewhere(false), journal.clone())),
        ] {
            for _ in 0..2 {
                assert_eq!(fails.fulfil(of(id)).await, Verdict::Failed, "{id}");
            }
            for _ in 0..2 {
                assert_eq!(well.fulfil(of(id)).await, Verdict::Fulfilled, "{id}");
            }
        }
        for record in [store.get(1.into()).await, journal.get(2.into()).await] {
            let record = record.expect("a database").expect("a record");
            assert_eq!((record.state, record.attempts), (State::Fulfilled, 3));
            assert_eq!(record.unit, Unit::Other("? ?".into()));
        }
        assert_eq!(effects(&pool).await, [(1, 1), (2, 1)]);
    })
    .await;
}

/// The sessions of a process are ended while its handler runs, and another process gets a
/// duplicate. Whether it took effect is asked only when it can no longer run.
#[tokio::test(flavor = "multi_thread")]
async fn a_handler_whose_process_lost_its_sessions_is_busy() {
    story(|db| async move {
        let pool = db.ready(2).await;
        let process = |takes, limit| {
            let handler = Elsewhere { takes, ..at_once(&pool) };
            let own = PgPool::connect_lazy(&db.url).expect("a URL");
            webhook(handler, PostgresJournal::new(own)).attempt_within(limit)
        };
        let takes = Duration::from_secs(3);
        let first = process(takes, Duration::from_secs(10));
        let second = process(Duration::ZERO, Duration::from_secs(10));
        let meanwhile = async {
            sleep(Duration::from_millis(300)).await;
            let ends = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                WHERE datname = current_database() AND pid <> pg_backend_pid()";
            run(&pool, ends).await;
            sleep(Duration::from_secs(1)).await;
            deliver(&second, 1).await
        };
        let verdicts = join(deliver(&first, 1), meanwhile).await;
        assert_eq!(verdicts, (Verdict::Fulfilled, Verdict::InProgress));
        assert_eq!(deliver(&second, 1).await, Verdict::Fulfilled);
        assert_eq!(effects(&pool).await, [(1, 1)]);

        // One that is cut off is in doubt: asked, and run again by whoever is next.
        let hangs = process(Duration::from_secs(60), Duration::from_secs(1));
        assert_eq!(deliver(&hangs, 2).await, Verdict::InDoubt);
        assert_eq!(deliver(&second, 2).await, Verdict::Fulfilled);
        assert_eq!(effects(&pool).await, [(1, 1), (2, 1)]);
    })
    .await;
}

/// Somebody's `begin` is dropped half-way again and again, on the pool the store was
/// given, as sqlx#4393 has it.
#[tokio::test(flavor = "multi_thread")]
async fn transactions_that_the_application_left_open() {
    story(|db| async move {
        let pool = db.ready(2).await;
        let services = [
            webhook(FULFILS, PostgresStore::new(pool.clone())),
            webhook(FULFILS, PostgresStore::new(pool.clone())),
        ];
        let mut left = 0;
        for id in 0..40 {
            let mut begin = Box::pin(pool.begin());
            let mut begun = false;
            for _ in 0..=id % 5 {
                begun =
                    begun || poll_fn(|cx| Poll::Ready(begin.as_mut().poll(cx).is_ready())).await;
                sleep(Duration::from_millis(1)).await;
            }
            left += i32::from(!begun);
            drop(begin);
            assert_eq!(deliver(&services[0], id).await, Verdict::Fulfilled);
            assert_eq!(deliver(&services[1], id).await, Verdict::Fulfilled);
        }
        assert!(left > 0, "none was dropped half-way");
        let seen_by_others = db.pool(1).await;
        let expected: Vec<_> = (0..40).map(|id| (id, 1)).collect();
        assert_eq!(effects(&seen_by_others).await, expected);
    })
    .await;
}

/// Down, then a standby, then promoted.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_down_and_one_in_recovery() {
    use Verdict::{Fulfilled, StoreUnavailable};
    let server = match Server::start() {
        Ok(server) => server,
        Err(why) => return not_run(&why),
    };
    let db = Database { url: server.url(), name: "postgres".to_owned() };
    let pool = db.ready(4).await;
    // With sqlx's own patience of 30 seconds.
    let given = PgPool::connect_lazy(&db.url).expect("a URL");
    let journal = PostgresJournal::new(given.clone()).namespace("journal").expect("a namespace");
    let kinds: [Webhook; 2] =
        [webhook(FULFILS, PostgresStore::new(given)), webhook(at_once(&pool), journal)];
    let deliver_all = async |first: Verdict, others: Verdict| {
        for (webhook, from) in kinds.iter().zip([0, 100]) {
            for id in from..from + 10 {
                let begun = Instant::now();
                let expected = if id == from { first } else { others };
                assert_eq!(deliver(webhook, id).await, expected, "{id}");
                assert!(begun.elapsed() < Duration::from_millis(9_500), "{:?}", begun.elapsed());
            }
        }
    };
    for (webhook, id) in kinds.iter().zip([0, 100]) {
        assert_eq!(deliver(webhook, id).await, Fulfilled);
    }
    server.crash().expect("it stops");
    deliver_all(StoreUnavailable, StoreUnavailable).await;

    server.becomes_standby();
    server.up().expect("it starts");
    // What is fulfilled is fulfilled for good; nothing can begin.
    deliver_all(Fulfilled, StoreUnavailable).await;
    assert_eq!(effects(&pool).await, [(0, 1), (100, 1)]);

    server.promote().expect("it is the primary");
    deliver_all(Fulfilled, Fulfilled).await;
    deliver_all(Fulfilled, Fulfilled).await;
    let once: Vec<_> = (0..10).chain(100..110).map(|id| (id, 1)).collect();
    assert_eq!(effects(&pool).await, once);
}

/// The application's statistics of statements have room for 5,000.
#[tokio::test(flavor = "multi_thread")]
async fn its_statements_are_few() {
    let server = match Server::start() {
        Ok(server) => server,
        Err(why) => return not_run(&why),
    };
    let db = Database { url: server.url(), name: "postgres".to_owned() };
    let pool = db.ready(2).await;
    run(&pool, "ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'").await;
    server.crash().expect("it stops");
    if server.up().is_err() {
        return not_run("no pg_stat_statements");
    }
    let pool = PgPool::connect(&db.url).await.expect("a database");
    run(&pool, "CREATE EXTENSION pg_stat_statements").await;
    let kinds = [
        webhook(FULFILS, PostgresStore::new(pool.clone())),
        webhook(at_once(&pool), PostgresJournal::new(pool.clone())),
    ];
    for id in 0..200 {
        assert_eq!(deliver(&kinds[id as usize % 2], id).await, Verdict::Fulfilled);
    }
    let count = sqlx::query_scalar("SELECT count(*) FROM pg_stat_statements");
    let count: i64 = count.fetch_one(&pool).await.expect("a count");
    assert!(count < 150, "{count}");
}
