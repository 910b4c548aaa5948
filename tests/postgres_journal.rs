//! A journal records that an attempt starts, and who may record how it ended: the process that
//! started it, unless that was decided without it meanwhile.

mod support {
    pub(crate) mod postgres;
}

use std::time::Duration;

use futures::future::join_all;
use sqlx::PgPool;
use tower_firstpromoter::{
    Access, Outcome, Verdict, Webhook,
    event::Fulfilment,
    fulfil_fn,
    store::{Begin, End, PostgresJournal, PostgresJournalTx, PostgresStore, State, Store},
};

use self::support::postgres::{Database, claim, claim_of, fulfilment, kind, patiently, run, story};

async fn ready(db: &Database) -> (PgPool, PostgresJournal) {
    let pool = db.ready(2).await;
    (pool.clone(), PostgresJournal::new(pool))
}

async fn begin(journal: &PostgresJournal, id: u64) -> (String, PostgresJournalTx) {
    let begin = patiently(journal, &claim(id)).await;
    let kind = kind(&begin);
    match begin {
        Begin::Run { tx, .. } | Begin::InDoubt { tx, .. } => (kind, tx),
        other => panic!("nothing to run: {other:?}"),
    }
}

/// Moves the start, as if time had passed or the clock had been set.
async fn moved(pool: &PgPool, interval: &str) {
    let start = format!("started_at = clock_timestamp() + interval '{interval}'");
    run(pool, format!("UPDATE firstpromoter_fulfilments SET {start} WHERE state = 'started'"))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_is_recorded_and_releases_it() {
    story(|db| async move {
        let (_, journal) = ready(&db).await;
        for (id, (end, state, reason, attempts, next)) in (1..).zip([
            (End::Fulfilled, State::Fulfilled, None, 1, "fulfilled"),
            (End::WasFulfilled, State::Fulfilled, None, 0, "fulfilled"),
            (End::Pending, State::Pending, None, 1, "run 2"),
            (End::Failed("no such user".into()), State::Failed, Some("no such user"), 1, "run 2"),
            (
                End::Interrupted("panicked".into()),
                State::InDoubt,
                Some("panicked"),
                1,
                "in doubt 2",
            ),
            (End::NotRun("unconfirmed".into()), State::Failed, Some("unconfirmed"), 0, "run 1"),
            (End::InDoubt("timed out".into()), State::InDoubt, Some("timed out"), 1, "in doubt 2"),
        ]) {
            let (_, tx) = begin(&journal, id).await;
            let record = journal.get(id.into()).await.expect("a database").expect("a record");
            assert_eq!((record.state, record.attempts), (State::Started, 1));
            assert_eq!(kind(&journal.begin(&claim(id)).await.expect("a database")), "busy");
            assert_eq!(journal.end(tx, end.clone()).await.expect("a database"), state, "{end:?}");
            let record = journal.get(id.into()).await.expect("a database").expect("a record");
            assert_eq!((record.state, record.attempts), (state, attempts), "{end:?}");
            assert_eq!(record.reason.as_deref(), reason, "{end:?}");
            assert_eq!(kind(&journal.begin(&claim(id)).await.expect("a database")), next);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_is_busy_while_it_may_run_and_then_in_doubt() {
    story(|db| async move {
        let (pool, journal) = ready(&db).await;
        let store = PostgresStore::new(pool.clone());
        let mut claim = claim(1);
        claim.attempt_within = Duration::from_secs(10);
        let Ok(Begin::Run { tx, attempt: 1 }) = journal.begin(&claim).await else {
            panic!("no run")
        };
        drop(tx);
        for (ago, seen) in
            [("0 s", "busy"), ("-38 s", "busy"), ("-41 s", "in doubt 2"), ("1 hour", "in doubt 2")]
        {
            moved(&pool, ago).await;
            let state = if seen == "busy" { State::Started } else { State::InDoubt };
            let record = journal.get(1.into()).await.expect("a database").expect("a record");
            assert_eq!(record.state, state, "{ago}");
            assert_eq!(record.reason.is_some(), state == State::InDoubt, "{ago}");
            assert_eq!(journal.open(9).await.expect("a database"), [record]);
            assert!(
                state == State::InDoubt
                    || !journal.resolve(1.into(), true).await.expect("a database")
            );
            assert!(
                state == State::InDoubt || !journal.forget(1.into()).await.expect("a database")
            );
            // On the same table, whoever asks. The lock of the one before may not be free yet.
            let begun = match seen {
                "busy" => store.begin(&claim).await.expect("a database"),
                _ => patiently(&store, &claim).await,
            };
            assert_eq!(kind(&begun), seen, "{ago}");
        }
        // The one that begins in doubt has its own time.
        let (seen, tx) = begin(&journal, 1).await;
        assert_eq!(seen, "in doubt 2");
        assert_eq!(kind(&journal.begin(&claim).await.expect("a database")), "busy");
        let end = End::NotRun("nobody knows".into());
        assert_eq!(journal.end(tx, end).await.expect("a database"), State::InDoubt);
        let record = journal.get(1.into()).await.expect("a database").expect("a record");
        assert_eq!(
            (record.attempts, record.reason.as_deref()),
            (1, Some("the attempt was cut off"))
        );
        assert!(journal.resolve(1.into(), false).await.expect("a database"));
        assert_eq!(begin(&journal, 1).await.0, "run 2");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_comes_late_overrules_nobody() {
    story(|db| async move {
        let (pool, journal) = ready(&db).await;
        for (id, (decided, then, answer)) in (1..).zip([
            ("", State::Fulfilled, Some(State::Fulfilled)), // late, but nobody has asked
            ("resolved true", State::Fulfilled, Some(State::Fulfilled)),
            ("resolved false", State::Failed, None),
            ("begun again", State::Started, None),
            ("begun again and ended", State::Pending, None),
            ("forgotten and begun again", State::Started, None),
            // What took effect must not run again.
            ("forgotten", State::Fulfilled, Some(State::Fulfilled)),
        ]) {
            let (_, late) = begin(&journal, id).await;
            moved(&pool, "-2 minutes").await;
            match decided {
                "resolved true" => {
                    assert!(journal.resolve(id.into(), true).await.expect("a database"))
                }
                "resolved false" => {
                    assert!(journal.resolve(id.into(), false).await.expect("a database"))
                }
                "begun again" => drop(begin(&journal, id).await),
                "begun again and ended" => {
                    let (_, tx) = begin(&journal, id).await;
                    journal.end(tx, End::Pending).await.expect("a database");
                }
                "forgotten" => assert!(journal.forget(id.into()).await.expect("a database")),
                "forgotten and begun again" => {
                    assert!(journal.forget(id.into()).await.expect("a database"));
                    assert_eq!(begin(&journal, id).await.0, "run 1");
                }
                _ => {}
            }
            match (journal.end(late, End::Fulfilled).await, answer) {
                (Ok(state), Some(expected)) => assert_eq!(state, expected, "{decided}"),
                (Err(error), None) => {
                    assert!(error.to_string().contains("right to run it was lost"), "{error}");
                }
                (answer, _) => panic!("{decided}: {answer:?}"),
            }
            let record = journal.get(id.into()).await.expect("a database").expect("a record");
            assert_eq!(record.state, then, "{decided}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_crowd_one_starts_and_holds_no_connection() {
    story(|db| async move {
        let (pool, journal) = ready(&db).await;
        let stores: Vec<_> = (0..4).map(|_| PostgresJournal::new(pool.clone())).collect();
        let claim = claim(1);
        let crowd = join_all((0..60).map(|at| stores[at % 4].begin(&claim))).await;
        let crowd: Vec<_> =
            crowd.into_iter().map(|begin| kind(&begin.expect("a database"))).collect();
        let runs = crowd.iter().filter(|kind| *kind == "run 1").count();
        let busy = crowd.iter().filter(|kind| *kind == "busy").count();
        assert_eq!((runs, busy), (1, 59));

        // More attempts than connections.
        let txs = join_all((10..60).map(|id| begin(&journal, id))).await;
        for state in join_all(txs.into_iter().map(|(_, tx)| journal.end(tx, End::Pending))).await {
            assert_eq!(state.expect("a database"), State::Pending);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_end_at_any_time_lose_no_end() {
    story(|db| async move {
        let (pool, journal) = ready(&db).await;
        let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
            WHERE datname = current_database() AND pid <> pg_backend_pid()";
        for id in 1..5 {
            run(&pool, kill).await;
            let (_, tx) = begin(&journal, id).await;
            run(&pool, kill).await;
            assert_eq!(
                journal.end(tx, End::Fulfilled).await.expect("a database"),
                State::Fulfilled
            );
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_says_what_was_last_asked_for() {
    story(|db| async move {
        let (_, journal) = ready(&db).await;
        let of = |json: &str| {
            claim_of(&format!(r#"{{"id":1,{json},"promoter":{{"id":7,"cust_id":"ada"}}}}"#))
        };
        let (first, second) =
            (of(r#""amount":3,"unit":"credits""#), of(r#""amount":5,"unit":"☕\u0000""#));
        let Ok(Begin::Run { tx, .. }) = journal.begin(&first).await else { panic!("no run") };
        journal.end(tx, End::Failed("\0".into())).await.expect("a database");
        let Ok(Begin::Run { tx, attempt: 2 }) = journal.begin(&second).await else {
            panic!("no run")
        };
        let record = journal.get(1.into()).await.expect("a database").expect("a record");
        assert_eq!((record.amount, record.unit.as_str()), (5.into(), "\u{2615}?"));
        assert_eq!((record.cust_id.as_deref(), record.reason), (Some("ada"), None));
        let other = claim_of(r#"{"id":1,"amount":9,"unit":"credits","promoter":{"id":8}}"#);
        assert_eq!(kind(&journal.begin(&other).await.expect("a database")), "mismatch");
        journal.end(tx, End::Fulfilled).await.expect("a database");
        assert_eq!(kind(&journal.begin(&other).await.expect("a database")), "mismatch");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_answers_what_the_record_says() {
    story(|db| async move {
        let (_, journal) = ready(&db).await;
        let webhook = |told: fn() -> Result<Outcome, std::io::Error>| {
            let access = Access::query("key", "at least sixteen bytes").expect("a secret");
            let handler = fulfil_fn(move |_: Fulfilment| async move { told() });
            Webhook::new(handler, journal.clone(), access)
        };
        let well = webhook(|| Ok(Outcome::Fulfilled));
        let error = || Err(std::io::Error::other("no such user"));
        for (id, webhook, verdict, next) in [
            (1, webhook(|| Ok(Outcome::Fulfilled)), Verdict::Fulfilled, Verdict::Fulfilled),
            (2, webhook(|| Ok(Outcome::Pending)), Verdict::Pending, Verdict::Fulfilled),
            (3, webhook(error), Verdict::Failed, Verdict::Fulfilled),
            (4, webhook(|| panic!("on purpose")), Verdict::Panicked, Verdict::InDoubt),
            (
                5,
                webhook(|| Ok(Outcome::InDoubt("timed out".into()))),
                Verdict::InDoubt,
                Verdict::InDoubt,
            ),
        ] {
            assert_eq!(webhook.fulfil(fulfilment(id)).await, verdict);
            assert_eq!(well.fulfil(fulfilment(id)).await, next, "{verdict:?}");
        }
    })
    .await;
}
