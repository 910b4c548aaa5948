//! Sessions are ended or cancelled all the time, at every step and in COMMIT, by an operator or by
//! the database's settings. Fulfilments are sent to two services until they are answered with
//! `200`: each is fulfilled once, and every connection is usable afterwards.

mod support {
    pub(crate) mod deliver;
    pub(crate) mod handlers;
    pub(crate) mod postgres;
    pub(crate) mod retried;
}

use std::time::Duration;

use sqlx::{AssertSqlSafe, PgPool, raw_sql};
use tokio::time::sleep;
use tower_firstpromoter::{
    Webhook,
    store::{PostgresJournal, PostgresStore, Store},
};

use self::support::{
    deliver::webhook,
    handlers::{Elsewhere, InTx, time_passes},
    postgres::{Database, effects, run, story},
    retried::until_fulfilled,
};

const FULFILMENTS: u64 = 200;
const DUPLICATES: usize = 4;

/// Two services, each with connections of its own, beside an application with its pool.
fn services(db: &Database, kind: &str, app: &PgPool) -> Vec<Webhook> {
    let lazy = || PgPool::connect_lazy(&db.url).expect("a URL");
    let service = |_| match kind {
        "store" => webhook(InTx, PostgresStore::new(lazy())),
        _ => webhook(Elsewhere(app.clone()), PostgresJournal::new(lazy()))
            .attempt_within(Duration::from_secs(1)),
    };
    (0..2).map(service).collect()
}

async fn slow_commits(pool: &PgPool) {
    let slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS \
        $$ BEGIN PERFORM pg_sleep(0.002); RETURN NULL; END $$; \
        CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON effects DEFERRABLE INITIALLY DEFERRED \
        FOR EACH ROW EXECUTE FUNCTION slow()";
    run(pool, slow).await;
}

/// Signals a session every few milliseconds, preferably one that is in COMMIT.
async fn signals(pool: &PgPool, function: &str) {
    let signal = format!(
        "SELECT {function}(pid) FROM pg_stat_activity WHERE datname = current_database() \
         AND pid <> pg_backend_pid() AND application_name <> 'the test' \
         ORDER BY query = 'COMMIT' AND state = 'active' AND random() < 0.5 DESC, random() LIMIT 1"
    );
    loop {
        sleep(Duration::from_millis(4)).await;
        raw_sql(AssertSqlSafe(signal.as_str())).execute(pool).await.expect("a signal");
    }
}

/// Prints the outcome of a storm.
async fn storm(db: Database, kind: &str, test: &PgPool, signal: Option<&str>) {
    let weather = async {
        match signal {
            Some(function) => signals(test, function).await,
            None => std::future::pending().await,
        }
    };
    let app = db.pool(6).await;
    let services = services(&db, kind, &app);
    let answers = tokio::select! {
        answers = until_fulfilled(&services, 0..FULFILMENTS, DUPLICATES) => answers,
        () = weather => unreachable!(),
        () = time_passes(test) => unreachable!(),
    };
    println!("{kind}: {answers:?}");
    assert!(answers.len() > 2, "calm: {answers:?}");

    let expected: Vec<_> = (0..FULFILMENTS as i64).map(|id| (id, 1)).collect();
    assert_eq!(effects(test).await, expected, "fulfilled once each");
    let open = PostgresStore::new(test.clone()).open(9).await.expect("a database");
    assert!(open.is_empty(), "{open:?}");

    // The application's connections, all of them at once, and then those of the stores.
    let mut connections = Vec::new();
    for _ in 0..6 {
        let mut connection = app.acquire().await.expect("a connection");
        sqlx::query("SELECT 1").execute(&mut *connection).await.expect("fit for use");
        connections.push(connection);
    }
    drop(connections);
    let answers = until_fulfilled(&services, FULFILMENTS..FULFILMENTS + 40, 1).await;
    assert!(signal.is_none() || answers.len() == 1, "{answers:?}");
    let busy = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
        AND pid <> pg_backend_pid() AND state LIKE 'idle in transaction%'";
    let mut left = 1_i64;
    for _ in 0..100 {
        left = sqlx::query_scalar(busy).fetch_one(test).await.expect("a count");
        if left == 0 {
            break;
        }
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(left, 0, "left in a transaction");
}

/// A pool that no signal and no setting reaches.
async fn test_pool(db: &Database) -> PgPool {
    let ready = db.ready(1).await;
    let options = (*ready.connect_options()).clone().application_name("the test");
    PgPool::connect_with(options.options([("statement_timeout", "0"), ("lock_timeout", "0")]))
        .await
        .expect("a database")
}

#[tokio::test(flavor = "multi_thread")]
async fn of_terminations() {
    for kind in ["store", "journal"] {
        story(|db| async move {
            let test = test_pool(&db).await;
            slow_commits(&test).await;
            storm(db, kind, &test, Some("pg_terminate_backend")).await;
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_cancels() {
    for kind in ["store", "journal"] {
        story(|db| async move {
            let test = test_pool(&db).await;
            slow_commits(&test).await;
            storm(db, kind, &test, Some("pg_cancel_backend")).await;
        })
        .await;
    }
}

/// Limits that are shorter than what a handler does.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_database_that_is_set_up_to_interrupt() {
    for kind in ["store", "journal"] {
        story(|db| async move {
            let test = test_pool(&db).await;
            for setting in [
                "statement_timeout = '20ms'",
                "lock_timeout = '1ms'",
                "idle_in_transaction_session_timeout = '20ms'",
                "default_transaction_isolation = 'serializable'",
                "standard_conforming_strings = off",
                "synchronous_commit = off",
                "TimeZone = 'Asia/Kathmandu'",
                "DateStyle = 'German'",
            ] {
                run(&test, format!("ALTER DATABASE {} SET {setting}", db.name)).await;
            }
            storm(db, kind, &test, None).await;
        })
        .await;
    }
}
