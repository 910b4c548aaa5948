//! What a handler leaves on the store's connection: answers that nobody read, statements that are
//! gone, another encoding. The store must not take one answer for another.

mod support {
    pub(crate) mod postgres;
}

use futures::StreamExt;
use sqlx::Executor;
use tower_firstpromoter::store::{Begin, End, PostgresStore, PostgresTx, State, Store};

use self::support::postgres::{claim, effects, kind, patiently, run, story, take_effect};

async fn tx(store: &PostgresStore, id: u64) -> PostgresTx {
    match patiently(store, &claim(id)).await {
        Begin::Run { tx, .. } | Begin::InDoubt { tx, .. } => tx,
        other => panic!("no transaction: {other:?}"),
    }
}

/// Reads the first of many lines and drops the rest, which sqlx does not account for: from now on
/// every answer that it reads is the one before.
async fn drops_a_copy(tx: &mut PostgresTx) {
    half_a_copy(tx).await;
    let _ = tx.execute("SELECT 1").await;
}

async fn half_a_copy(tx: &mut PostgresTx) {
    let copy = "COPY (SELECT repeat('x', 1000) FROM generate_series(1, 100)) TO STDOUT";
    // It cannot begin where sqlx reads the answer before.
    if let Ok(mut lines) = tx.copy_out_raw(copy).await {
        let _ = lines.next().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_fails_is_not_taken_for_the_answer_before() {
    story(|db| async move {
        let pool = db.ready(2).await;
        run(
            &pool,
            "CREATE TABLE accounts (id bigint PRIMARY KEY); ALTER TABLE effects ADD FOREIGN KEY (id) \
             REFERENCES accounts DEFERRABLE INITIALLY DEFERRED; INSERT INTO accounts VALUES (1)",
        )
        .await;
        let store = PostgresStore::new(pool.clone());
        let mut first = tx(&store, 1).await;
        take_effect(1, &mut first).await.expect("an effect");
        assert_eq!(store.end(first, End::Fulfilled).await.expect("a database"), State::Fulfilled);

        let mut second = tx(&store, 2).await;
        drops_a_copy(&mut second).await;
        take_effect(2, &mut second).await.expect("until the commit");
        let ended = store.end(second, End::Fulfilled).await;
        assert_eq!(effects(&pool).await, [(1, 1)], "there is no account 2");
        assert!(!matches!(ended, Ok(State::Fulfilled)), "{ended:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_with_answers_left_is_not_used_again() {
    story(|db| async move {
        let pool = db.ready(2).await;
        let store = PostgresStore::new(pool.clone());
        let mut other = tx(&store, 1).await;
        take_effect(1, &mut other).await.expect("an effect");

        let mut leaves = tx(&store, 2).await;
        drop(leaves.copy_in_raw("COPY effects FROM STDIN").await.expect("a copy"));
        let ended = store.end(leaves, End::Failed("no".into())).await;
        assert_eq!(ended.expect("a database"), State::Failed);

        // A doubt must not be skipped: its call to another service may have been heard.
        let ended = store.end(other, End::InDoubt("timed out".into())).await;
        let next = patiently(&store, &claim(1)).await;
        assert_eq!(kind(&next), "in doubt 2", "{ended:?}");
        let record = store.get(2.into()).await.expect("a database").expect("a record");
        assert_eq!((record.id.get(), record.state), (2, State::Failed));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_reads_no_other_record() {
    story(|db| async move {
        let pool = db.ready(2).await;
        let store = PostgresStore::new(pool.clone());
        let mut leaves = tx(&store, 2).await;
        drop(leaves.copy_in_raw("COPY effects FROM STDIN").await.expect("a copy"));
        let ended = store.end(leaves, End::Failed("no".into())).await;
        assert_eq!(ended.expect("a database"), State::Failed);
        for id in [2, 7] {
            let record = store.get(id.into()).await.expect("a database");
            assert_eq!(record.map(|record| record.id.get()), (id == 2).then_some(2));
        }
        // Promoter 7 has a record of fulfilment 7, but not of this one.
        let next = patiently(&store, &claim(3)).await;
        assert_eq!(kind(&next), "run 1");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_that_the_handler_deallocates_fail_once_at_most() {
    story(|db| async move {
        let pool = db.ready(2).await;
        let store = PostgresStore::new(pool.clone());
        let mut fulfilled = 0;
        for id in 1..=6 {
            let mut tx = tx(&store, id).await;
            take_effect(id, &mut tx).await.expect("an effect");
            tx.execute("DEALLOCATE ALL").await.expect("a statement of the handler's");
            let ended = store.end(tx, End::Fulfilled).await.expect("a database");
            fulfilled += u32::from(ended == State::Fulfilled);
        }
        assert!(fulfilled >= 3, "{fulfilled} of 6");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_encoding_leads_to_no_other_namespace() {
    story(|db| async move {
        let pool = db.ready(2).await;
        let new = || PostgresStore::new(pool.clone()).namespace("café").expect("a namespace");
        let store = new();
        let mut tx = tx(&store, 1).await;
        take_effect(1, &mut tx).await.expect("an effect");
        tx.execute("SET client_encoding = 'LATIN1'").await.expect("a setting");
        let ended = store.end(tx, End::Fulfilled).await.expect("a database");
        assert_eq!(ended, State::Fulfilled);
        assert_eq!(kind(&patiently(&new(), &claim(1)).await), "fulfilled");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_doubt_is_recorded_whatever_another_handler_has_set() {
    story(|db| async move {
        let pool = db.ready(2).await;
        let store = PostgresStore::new(pool.clone());
        let doubtful = tx(&store, 1).await;
        let mut sets = tx(&store, 2).await;
        sets.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
            .await
            .expect("a setting");
        assert_eq!(store.end(sets, End::Fulfilled).await.expect("a database"), State::Fulfilled);
        let ended = store.end(doubtful, End::InDoubt("timed out".into())).await;
        assert_eq!(ended.expect("a record"), State::InDoubt);
    })
    .await;
}

/// A handler that drops a `COPY` and then ends the transaction: what it wrote is kept, so it must
/// not run again.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_after_a_copy_is_in_doubt() {
    story(|db| async move {
        let pool = db.ready(2).await;
        let store = PostgresStore::new(pool.clone());
        let mut told = Vec::new();
        for (id, end) in [(1, End::Fulfilled), (2, End::Failed("no".into())), (3, End::Pending)] {
            let mut tx = tx(&store, id).await;
            take_effect(id, &mut tx).await.expect("an effect");
            drops_a_copy(&mut tx).await;
            let _ = tx.execute("COMMIT").await;
            let ended = store.end(tx, end.clone()).await;
            let next = kind(&patiently(&store, &claim(id)).await);
            told.push((end, ended.expect("a database"), next));
        }
        assert_eq!(effects(&pool).await, [(1, 1), (2, 1), (3, 1)], "{told:#?}");
        assert!(told.iter().all(|(.., next)| next.starts_with("in doubt")), "{told:#?}");
    })
    .await;
}

/// Two dropped copies, then an error: it is undone, so it is no doubt.
#[tokio::test(flavor = "multi_thread")]
async fn two_copies_and_an_error_are_no_doubt() {
    story(|db| async move {
        let pool = db.ready(2).await;
        let store = PostgresStore::new(pool.clone());
        let mut tx = tx(&store, 1).await;
        for _ in 0..2 {
            drops_a_copy(&mut tx).await;
        }
        let ended = store.end(tx, End::Failed("no".into())).await.expect("a database");
        assert_eq!(ended, State::Failed);
    })
    .await;
}

/// A handler that runs `RESET ALL` can be fulfilled.
#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_resets_its_settings_can_be_fulfilled() {
    story(|db| async move {
        let pool = db.ready(2).await;
        let store = PostgresStore::new(pool.clone());
        let mut tx = tx(&store, 1).await;
        take_effect(1, &mut tx).await.expect("an effect");
        tx.execute("RESET ALL").await.expect("a statement");
        let ended = store.end(tx, End::Fulfilled).await.expect("a database");
        let record = store.get(1.into()).await.expect("a database").expect("a record");
        assert_eq!(ended, State::Fulfilled, "{:?}", record.reason);
    })
    .await;
}
