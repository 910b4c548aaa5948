//! Grant and record are in one PostgreSQL transaction, so they happen together or not at all:
//! whatever the handler does, on however many machines, with whatever defaults the database has.

mod support {
    pub(crate) mod deliver;
    pub(crate) mod postgres;
}

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt, future::join_all};
use sqlx::{
    Connection, PgPool,
    postgres::{PgPoolOptions, PgSslMode},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tower_firstpromoter::{
    BoxError, Fulfil, FulfilIn, Outcome, Verdict,
    event::{Fulfilment, FulfilmentId},
    once::{Begin, Claim, End, PostgresStore, PostgresTx, State, Store},
    testkit::{namespace_contract, store_contract},
};

use self::support::{
    deliver::{body, deliver, webhook},
    postgres::{effects, grant, run, story},
};

/// Writes the grant through the transaction, then does as it is told.
struct Then<F>(F);

impl<F, Fut> FulfilIn<PostgresTx> for Then<F>
where
    F: Fn(u64) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Outcome, BoxError>> + Send,
{
    type Error = BoxError;

    async fn fulfil_in(&self, f: Fulfilment, tx: &mut PostgresTx) -> Result<Outcome, BoxError> {
        grant(f.id.get(), tx).await?;
        (self.0)(f.id.get()).await
    }
}

async fn fulfilled(_: u64) -> Result<Outcome, BoxError> {
    tokio::time::sleep(Duration::from_millis(2)).await;
    Ok(Outcome::Fulfilled)
}

fn claim(id: u64, in_tx: bool) -> Claim {
    Claim::from(&Fulfilment::decode(body(id)).expect("a fulfilment")).with_in_tx(in_tx)
}

fn tx(begin: Begin<PostgresTx>) -> (&'static str, PostgresTx, u32) {
    match begin {
        Begin::Run { tx, attempt } => ("run", tx, attempt),
        Begin::InDoubt { tx, attempt } => ("in doubt", tx, attempt),
        other => panic!("no transaction: {other:?}"),
    }
}

/// The transaction's end reaches the server a moment after the drop; until then it is busy.
async fn begin(store: &PostgresStore, claim: &Claim) -> (&'static str, PostgresTx, u32) {
    loop {
        match store.begin(claim).await.expect("a database") {
            Begin::Busy => tokio::time::sleep(Duration::from_millis(5)).await,
            other => return tx(other),
        }
    }
}

async fn last_error(pool: &PgPool, id: u64) -> (String, i32, Option<String>) {
    sqlx::query_as(
        "SELECT state, attempts, last_error FROM firstpromoter_fulfilments WHERE id = $1::text::numeric",
    )
    .bind(id.to_string())
    .fetch_one(pool)
    .await
    .expect("a row")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_decides_what_is_kept() {
    story(|db| async move {
        let pool = db.ready(4).await;
        // What the handler does after its write, what the sender hears, whether the write stays,
        // and what the row says.
        let panics = |_| async { panic!("on purpose") };
        let fails = |_| async { Err("no such account: ada@example.com".into()) };
        let pends = |_| async { Ok(Outcome::Pending) };
        let store = || PostgresStore::new(pool.clone());
        let failing = webhook(Then(fails), store());
        let panicking = webhook(Then(panics), store());
        let pending = webhook(Then(pends), store());
        let granting = webhook(Then(fulfilled), store());
        for (id, first, verdict, kept, state, error) in [
            (1, &failing, Verdict::Failed, 0, "failed", Some("no such account: [redacted]")),
            (2, &panicking, Verdict::Panicked, 0, "failed", Some("the handler panicked")),
            (3, &pending, Verdict::Pending, 1, "pending", None),
            (4, &granting, Verdict::Granted, 1, "granted", None),
        ] {
            assert_eq!(deliver(first, id).await, verdict);
            let there = effects(&pool).await.iter().filter(|(it, _)| *it == id as i64).count();
            assert_eq!(there, kept, "{verdict:?}");
            let row = last_error(&pool, id).await;
            assert_eq!((row.0.as_str(), row.1, row.2.as_deref()), (state, 1, error));

            // Only what was granted is not run again.
            assert_eq!(deliver(&granting, id).await, Verdict::Granted);
            assert_eq!(last_error(&pool, id).await.1, if id == 4 { 1 } else { 2 });
        }
        assert_eq!(effects(&pool).await, [(1, 1), (2, 1), (3, 2), (4, 1)]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_store_keeps_its_contract() {
    story(|db| async move {
        let pool = db.ready(12).await;
        let store = || PostgresStore::new(pool.clone());
        store_contract(async || store()).await;
        namespace_contract(&store(), &store().namespace("another account")).await;
    })
    .await;
}

/// A reason that the database has no character for must not leave the reward in doubt.
#[tokio::test(flavor = "multi_thread")]
async fn any_reason_can_be_kept() {
    story(|db| async move {
        let pool = db.ready(2).await;
        let store = PostgresStore::new(pool.clone());
        for in_tx in [true, false] {
            let (_, tx, _) = begin(&store, &claim(1, in_tx)).await;
            store.end(tx, End::Failed("no\0pe, 'really' 🙈".into())).await.expect("a record");
            let reason = last_error(&pool, 1).await.2;
            assert_eq!(reason.as_deref(), Some("no\u{fffd}pe, 'really' 🙈"));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_settles_a_doubt() {
    story(|db| async move {
        let pool = db.ready(4).await;
        let store = PostgresStore::new(pool.clone());
        let other = store.clone().namespace("another account");
        for (id, granted) in [(u64::MAX, true), (2, false)] {
            let claim = claim(id, false);
            drop(begin(&store, &claim).await);
            let doubts = loop {
                let doubts = store.in_doubt().await.expect("a database");
                if !doubts.is_empty() {
                    break doubts;
                }
            };
            let [doubt] = doubts.as_slice() else { panic!("{doubts:?}") };
            assert_eq!((doubt.id, doubt.state, doubt.attempts), (id.into(), State::Started, 1));
            assert_eq!((doubt.unit.as_str(), doubt.amount.to_string()), ("credits", "3".into()));
            assert_eq!((doubt.promoter.get(), &doubt.last_error), (7, &None));
            assert!(doubt.first_seen <= doubt.changed);
            let age = doubt.changed.elapsed().unwrap_or_default();
            assert!(age < Duration::from_secs(60), "{age:?}");

            assert!(other.in_doubt().await.expect("a database").is_empty());
            assert!(!other.settle(claim.id(), granted).await.expect("a database"));
            assert!(!other.forget(claim.id()).await.expect("a database"));
            assert!(store.settle(claim.id(), granted).await.expect("a database"));
            assert!(!store.settle(claim.id(), granted).await.expect("a database"));
            match store.begin(&claim).await.expect("a database") {
                Begin::Granted => assert!(granted),
                Begin::Run { attempt: 2, .. } => assert!(!granted),
                other => panic!("{other:?}"),
            }
            let undone = claim.with_in_tx(true);
            let Ok(Begin::Run { attempt: 1, .. }) = other.begin(&undone).await else {
                panic!("the namespaces mix")
            };
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_services_grant_each_reward_once() {
    story(|db| async move {
        for serializable in [false, true] {
            let pool = db.ready(4).await;
            run(&pool, "TRUNCATE effects, firstpromoter_fulfilments").await;
            if serializable {
                // Of this database; for the connections from here on.
                run(&pool, "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = serializable', current_database()); END $$").await;
            }
            let services = join_all((0..2).map(|_| async {
                webhook(Then(fulfilled), PostgresStore::new(db.pool(8).await))
            }))
            .await;
            let mut rounds = 0;
            let mut open: Vec<u64> = (0..60).collect();
            let mut unexpected = Vec::new();
            while !open.is_empty() {
                rounds += 1;
                assert!(rounds < 50, "never all granted: {open:?}");
                let answers = open.iter().flat_map(|id| (0..16).map(|n| (*id, n))).map(
                    async |(id, n)| (id, deliver(&services[n % 2], id).await),
                );
                let answers = join_all(answers).await;
                for (_, verdict) in &answers {
                    if !matches!(verdict, Verdict::Granted | Verdict::InProgress) {
                        unexpected.push(*verdict);
                    }
                }
                open.retain(|id| !answers.contains(&(*id, Verdict::Granted)));
            }
            let expected: Vec<_> = (0..60).map(|id| (id, 1)).collect();
            assert_eq!(effects(&pool).await, expected);
            assert_eq!(unexpected, [], "serializable: {serializable}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_needs_one_connection() {
    story(|db| async move {
        let pool = db.ready(1).await;
        let webhook = webhook(Then(fulfilled), PostgresStore::new(pool.clone()));
        let answers = join_all((0..500).map(|n| deliver(&webhook, n % 5))).await;
        assert!(answers.iter().all(|verdict| *verdict == Verdict::Granted), "{answers:?}");
        assert_eq!(effects(&pool).await, (0..5).map(|id| (id, 1)).collect::<Vec<_>>());
    })
    .await;
}

/// Grants elsewhere, here: in a counter of the process.
#[derive(Clone)]
struct Elsewhere {
    grants: Arc<AtomicU32>,
    nap: Duration,
    panics: Arc<AtomicBool>,
    answer: Option<bool>,
}

impl Elsewhere {
    fn new(answer: Option<bool>) -> Self {
        let nap = Duration::from_millis(1);
        Self { grants: Arc::default(), nap, panics: Arc::default(), answer }
    }

    fn grants(&self) -> u32 {
        self.grants.load(Ordering::SeqCst)
    }
}

impl Fulfil for Elsewhere {
    type Error = BoxError;

    async fn fulfil(&self, _: Fulfilment) -> Result<Outcome, BoxError> {
        tokio::time::sleep(self.nap).await;
        self.grants.fetch_add(1, Ordering::SeqCst);
        assert!(!self.panics.load(Ordering::SeqCst), "on purpose");
        Ok(Outcome::Fulfilled)
    }

    async fn was_granted(&self, _: &Fulfilment) -> Result<Option<bool>, BoxError> {
        Ok(self.answer)
    }
}

/// The gap between the commit of `started` and the lock must not be taken for a crash: here eight
/// services race into it, and a single false doubt would stay and be answered with 500.
#[tokio::test(flavor = "multi_thread")]
async fn a_grant_elsewhere_is_made_once_and_not_doubted() {
    story(|db| async move {
        let handler = Elsewhere::new(None);
        let pool = db.ready(2).await;
        let services = join_all(
            (0..8)
                .map(|_| async { webhook(handler.clone(), PostgresStore::new(db.pool(4).await)) }),
        )
        .await;
        for id in 0..150 {
            let mut granted = false;
            while !granted {
                let answers = join_all((0..16).map(|n| deliver(&services[n % 8], id))).await;
                for verdict in answers {
                    match verdict {
                        Verdict::Granted => granted = true,
                        Verdict::InProgress => {}
                        other => panic!("{id}: {other:?}"),
                    }
                }
            }
        }
        assert_eq!(handler.grants(), 150);
        assert!(PostgresStore::new(pool).in_doubt().await.expect("a database").is_empty());
    })
    .await;
}

/// An attempt that is held up in that gap for so long that somebody took up the doubt about it has
/// lost its right, whatever became of the other: here that one was cut off in turn, having perhaps
/// granted. If it was only looked at, the attempt goes on.
#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_was_overtaken_in_the_gap_gives_way() {
    story(|db| async move {
        let pool = db.ready(4).await;
        run(
            &pool,
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS \
                $$ BEGIN PERFORM pg_sleep(0.5); RETURN NEW; END $$; \
             CREATE TRIGGER slow BEFORE UPDATE ON firstpromoter_fulfilments FOR EACH ROW \
                WHEN (NEW.state = 'started' AND OLD.state = 'new') EXECUTE FUNCTION slow()",
        )
        .await;
        let store = PostgresStore::new(pool.clone());
        for (id, meanwhile, expected) in [
            (1, "SELECT FROM firstpromoter_fulfilments FOR NO KEY UPDATE", "run"),
            (2, "UPDATE firstpromoter_fulfilments SET attempts = attempts + 1", "busy"),
            (3, "UPDATE firstpromoter_fulfilments SET state = 'granted'", "busy"),
            (4, "DELETE FROM firstpromoter_fulfilments", "busy"),
            (5, CUT, "cut"),
        ] {
            let asks = tokio::spawn({
                let (store, claim) = (store.clone(), claim(id, false));
                async move { store.begin(&claim).await }
            });
            // While `started` is being written, so that the lock comes right after its commit.
            tokio::time::sleep(Duration::from_millis(250)).await;
            let mut other = pool.begin().await.expect("a transaction");
            let lock = "LOCK TABLE firstpromoter_fulfilments IN EXCLUSIVE MODE";
            for statement in [lock, meanwhile] {
                sqlx::raw_sql(statement).execute(&mut *other).await.expect("a statement");
            }
            assert!(!asks.is_finished());
            other.commit().await.expect("a commit");
            let answer = match asks.await.expect("no panic") {
                Ok(Begin::Run { .. }) => "run",
                Ok(Begin::Busy) => "busy",
                Ok(other) => panic!("{other:?}"),
                Err(_) => "cut",
            };
            assert_eq!(answer, expected, "{meanwhile}");
        }
        // It had not begun, so it is in no doubt.
        assert_eq!(begin(&store, &claim(5, false)).await.0, "run");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_elsewhere_that_was_cut_off_is_asked_about() {
    story(|db| async move {
        let pool = db.ready(4).await;
        for (id, answer, then, grants) in [
            (1, None, Verdict::InDoubt, 1),
            (2, Some(true), Verdict::Granted, 1),
            (3, Some(false), Verdict::Granted, 2),
        ] {
            let handler = Elsewhere::new(answer);
            let webhook = webhook(handler.clone(), PostgresStore::new(pool.clone()));
            handler.panics.store(true, Ordering::SeqCst);
            assert_eq!(deliver(&webhook, id).await, Verdict::Panicked);
            handler.panics.store(false, Ordering::SeqCst);
            let verdict = loop {
                match deliver(&webhook, id).await {
                    Verdict::InProgress => {}
                    verdict => break verdict,
                }
            };
            assert_eq!((verdict, handler.grants()), (then, grants));
        }
    })
    .await;
}

/// Ends every session of the database but the one that asks.
const CUT: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
    WHERE datname = current_database() AND pid <> pg_backend_pid()";

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_cut_while_the_handler_runs() {
    story(|db| async move {
        let knife = db.ready(1).await;
        let (cutting, once) = (knife.clone(), Arc::new(AtomicBool::new(true)));
        let cuts = move |_| {
            let (knife, first) = (cutting.clone(), once.swap(false, Ordering::SeqCst));
            async move {
                if first {
                    run(&knife, CUT).await;
                }
                Ok(Outcome::Fulfilled)
            }
        };
        let in_tx = webhook(Then(cuts), PostgresStore::new(db.pool(4).await));
        assert_eq!(deliver(&in_tx, 1).await, Verdict::NotRecorded);
        assert_eq!(effects(&knife).await, []);
        assert_eq!(deliver(&in_tx, 1).await, Verdict::Granted);
        assert_eq!(effects(&knife).await, [(1, 1)]);

        // A grant made elsewhere stays, so its end is taken down on another connection.
        let mut handler = Elsewhere::new(None);
        handler.nap = Duration::from_millis(300);
        let elsewhere = webhook(handler.clone(), PostgresStore::new(db.pool(4).await));
        let cutting = async {
            tokio::time::sleep(Duration::from_millis(150)).await;
            run(&knife, CUT).await;
        };
        let (verdict, ()) = tokio::join!(deliver(&elsewhere, 2), cutting);
        assert_eq!((verdict, handler.grants()), (Verdict::Granted, 1));
        assert_eq!(last_error(&knife, 2).await.0, "granted");
    })
    .await;
}

/// Hands sessions on to the database, and cuts the first so many that say this.
async fn cuts_at(says: &'static [u8], times: u32, pool: &PgPool) -> PgPool {
    let server = pool.connect_options();
    let server = (server.get_host().to_owned(), server.get_port());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        let cut = Arc::new(AtomicU32::new(0));
        while let Ok((mut client, _)) = listener.accept().await {
            let (cut, server) = (Arc::clone(&cut), server.clone());
            tokio::spawn(async move {
                let mut server = TcpStream::connect(server).await.expect("the database");
                let (mut asks, mut answered) = client.split();
                let (mut answers, mut asked) = server.split();
                let there = async {
                    let mut buffer = vec![0; 64 * 1024];
                    while let Ok(length @ 1..) = asks.read(&mut buffer).await {
                        let said = &buffer[..length];
                        let it = said.windows(says.len()).any(|found| found == says);
                        if it && cut.fetch_add(1, Ordering::SeqCst) < times {
                            return;
                        }
                        asked.write_all(said).await.expect("the database listens");
                    }
                };
                let back = tokio::io::copy(&mut answers, &mut answered);
                tokio::select! { () = there => {}, _ = back => {} }
            });
        }
    });
    let options = (*pool.connect_options()).clone().host("127.0.0.1").port(port);
    let options = options.ssl_mode(PgSslMode::Disable);
    PgPoolOptions::new().max_connections(2).connect_with(options).await.expect("through it")
}

/// From the moment the intention is committed a cut connection looks like a crash. Until the handler
/// is called it is none, and the one who knows that says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_cut_before_the_handler_leaves_no_doubt() {
    for says in [&b"COMMIT; BEGIN"[..], b"SELECT xmin", b"SAVEPOINT"] {
        story(async |db| {
            let direct = db.ready(4).await;
            let store = PostgresStore::new(direct.clone());
            let claim = claim(1, false);
            // There already, so that the first to commit is the intention.
            store.end(begin(&store, &claim).await.1, End::Pending).await.expect("written");

            let cut = PostgresStore::new(cuts_at(says, 1, &direct).await);
            let begun = cut.begin(&claim).await;
            assert!(begun.is_err(), "{:?}: {begun:?}", String::from_utf8_lossy(says));
            let (how, ..) = begin(&store, &claim).await;
            assert_eq!(how, "run", "cut at {:?}", String::from_utf8_lossy(says));
        })
        .await;
    }
}

/// A server that restarts cuts all connections, one after the other. Of a grant that is made elsewhere,
/// and is made, the record finds its way all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_grant_elsewhere_is_recorded_on_whichever_connection_holds() {
    story(|db| async move {
        let direct = db.ready(4).await;
        let store = PostgresStore::new(cuts_at(b"SET state = $3", 3, &direct).await);
        let (_, tx, _) = begin(&store, &claim(1, false)).await;
        store.end(tx, End::Granted).await.expect("the fourth connection holds");
        let known = PostgresStore::new(direct).begin(&claim(1, false)).await;
        assert!(matches!(known, Ok(Begin::Granted)), "{known:?}");
    })
    .await;
}

/// A handler that ends the transaction by itself has let go of the row, and one that hides an error
/// of the database says 200 about writes that are gone. Neither may come through.
#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_breaks_its_transaction_is_not_believed() {
    struct Breaks(&'static str);

    impl FulfilIn<PostgresTx> for Breaks {
        type Error = BoxError;

        async fn fulfil_in(&self, f: Fulfilment, tx: &mut PostgresTx) -> Result<Outcome, BoxError> {
            grant(f.id.get(), tx).await?;
            let _ = sqlx::raw_sql(self.0).execute(&mut **tx).await;
            Ok(Outcome::Fulfilled)
        }
    }

    story(|db| async move {
        let pool = db.ready(4).await;
        for (id, statement) in
            [(1, "COMMIT"), (2, "ROLLBACK"), (3, "SELECT 1/0"), (4, "COMMIT; BEGIN")]
        {
            let webhook = webhook(Breaks(statement), PostgresStore::new(pool.clone()));
            assert_eq!(deliver(&webhook, id).await, Verdict::NotRecorded, "{statement}");
            assert_ne!(last_error(&pool, id).await.0, "granted", "{statement}");
        }
    })
    .await;
}

/// What sqlx does when a nested transaction cannot begin, or its beginning is dropped: it rolls back
/// everything, and whatever comes next through the same connection would commit by itself. A handler
/// that goes on must not grant with each retry.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_nested_transaction_that_never_began_nothing_is_written() {
    struct GoesOn {
        dropped: bool,
    }

    impl FulfilIn<PostgresTx> for GoesOn {
        type Error = BoxError;

        async fn fulfil_in(&self, f: Fulfilment, tx: &mut PostgresTx) -> Result<Outcome, BoxError> {
            grant(f.id.get(), tx).await?;
            if self.dropped {
                // As by a time-out that has passed before the server has answered.
                while Box::pin(tx.begin()).now_or_never().is_some() {}
            } else {
                let _ = sqlx::raw_sql("SELECT 1/0").execute(&mut **tx).await;
                assert!(tx.begin().await.is_err(), "the transaction is broken");
            }
            grant(f.id.get(), tx).await?;
            Ok(Outcome::Fulfilled)
        }
    }

    story(|db| async move {
        let pool = db.ready(4).await;
        for (id, dropped) in [(1, false), (2, true)] {
            let webhook = webhook(GoesOn { dropped }, PostgresStore::new(pool.clone()));
            for _ in 0..2 {
                assert_eq!(deliver(&webhook, id).await, Verdict::NotRecorded, "{dropped}");
            }
        }
        assert_eq!(effects(&pool).await, [], "nothing was granted");
    })
    .await;
}

/// Whatever a handler has set for its own statements, the end is as durable as the table says.
#[tokio::test(flavor = "multi_thread")]
async fn the_commit_is_synchronous_whatever_the_handler_sets() {
    struct Hurries;

    impl FulfilIn<PostgresTx> for Hurries {
        type Error = BoxError;

        async fn fulfil_in(&self, f: Fulfilment, tx: &mut PostgresTx) -> Result<Outcome, BoxError> {
            sqlx::raw_sql("SET LOCAL synchronous_commit = off").execute(&mut **tx).await?;
            grant(f.id.get(), tx).await?;
            Ok(Outcome::Fulfilled)
        }
    }

    story(|db| async move {
        let pool = db.ready(4).await;
        // Fires at the commit itself.
        run(
            &pool,
            "CREATE TABLE seen (setting text);
             CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 INSERT INTO seen VALUES (current_setting('synchronous_commit')); RETURN NULL;
             END $$;
             CREATE CONSTRAINT TRIGGER note AFTER INSERT ON effects
                 DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note()",
        )
        .await;
        let webhook = webhook(Hurries, PostgresStore::new(pool.clone()));
        assert_eq!(deliver(&webhook, 1).await, Verdict::Granted);
        let (seen,): (String,) =
            sqlx::query_as("SELECT setting FROM seen").fetch_one(&pool).await.expect("it fired");
        assert_eq!(seen, "on");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_machines_create_the_table_at_once() {
    story(|db| async move {
        let stores = join_all((0..8).map(|_| async { PostgresStore::new(db.pool(1).await) })).await;
        for created in join_all(stores.iter().map(PostgresStore::create_table)).await {
            created.expect("a table");
        }
        // As a migration, too, and twice.
        let pool = db.pool(1).await;
        for _ in 0..2 {
            run(&pool, PostgresStore::SCHEMA).await;
        }
        let open = "EXPLAIN SELECT id FROM firstpromoter_fulfilments WHERE namespace = '' AND state <> 'granted' ORDER BY changed";
        run(&pool, "SET enable_seqscan = off").await;
        let plan: Vec<String> = sqlx::query_scalar(open).fetch_all(&pool).await.expect("a plan");
        assert!(plan.iter().any(|line| line.contains("firstpromoter_fulfilments_open")), "{plan:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_database_nothing_is_granted() {
    story(|db| async move {
        let pool = db.ready(2).await;
        let handler = Elsewhere::new(None);
        let webhook = webhook(handler.clone(), PostgresStore::new(pool.clone()));
        pool.close().await;
        assert_eq!(deliver(&webhook, 1).await, Verdict::StoreUnavailable);
        assert_eq!(handler.grants(), 0);
        let error =
            PostgresStore::new(pool).forget(FulfilmentId::from(1)).await.expect_err("closed");
        assert_eq!(error.to_string(), "attempted to acquire a connection on a closed pool");
    })
    .await;
}

/// Nothing of the delivery but what a claim shows.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_personal_is_kept() {
    story(|db| async move {
        let pool = db.ready(2).await;
        let fails = |_| async { Err("user-7 (ada@example.com) is unknown".into()) };
        let webhook = webhook(Then(fails), PostgresStore::new(pool.clone()));
        assert_eq!(deliver(&webhook, 1).await, Verdict::Failed);
        let row: String =
            sqlx::query_scalar("SELECT row_to_json(f)::text FROM firstpromoter_fulfilments f")
                .fetch_one(&pool)
                .await
                .expect("a row");
        for private in ["ada", "user-7", "sixteen"] {
            assert!(!row.contains(private), "{row}");
        }
        assert!(row.contains("[redacted]"), "{row}");
    })
    .await;
}
