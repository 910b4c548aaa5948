//! Two processes reconcile the same account at the same moment, over one PostgreSQL, while every
//! seventh call of the API fails.

mod support {
    pub(crate) mod http;
    pub(crate) mod postgres;
}

use std::{env, error::Error, process::Stdio};

use futures::future::join;
use sqlx::{PgPool, query, query_as};
use tokio::process::Command;
use tower_firstpromoter::{
    Access, FulfilIn, Outcome, Verdict, Webhook,
    event::Fulfilment,
    fulfil_fn,
    store::{PostgresJournal, PostgresStore, PostgresTx, Store},
    testkit::{Account, Payload},
};

use self::support::{
    http::{client, serve},
    postgres,
};

struct Effects;

impl FulfilIn<PostgresTx> for Effects {
    type Error = sqlx::Error;

    async fn fulfil_in(
        &self,
        fulfilment: Fulfilment,
        tx: &mut PostgresTx,
    ) -> Result<Outcome, sqlx::Error> {
        query("INSERT INTO effects VALUES ($1)")
            .bind(i64::try_from(fulfilment.id.get()).expect("a small id"))
            .execute(&mut **tx)
            .await?;
        Ok(Outcome::Fulfilled)
    }
}

fn access() -> Access {
    Access::query("key", "at-least-sixteen-bytes").expect("a secret")
}

/// How often each fulfilment was fulfilled that was fulfilled at all.
async fn effects(pool: &PgPool) -> Vec<(u64, i64)> {
    let rows: Vec<(i64, i64)> =
        query_as("SELECT id, count(*) FROM effects GROUP BY id ORDER BY id")
            .fetch_all(pool)
            .await
            .expect("the effects");
    rows.into_iter().map(|(id, times)| (id.unsigned_abs(), times)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_at_once() {
    postgres::story(|database| async move {
        let pool = database.ready(2).await;
        let account = Account::new().fail_every(7);
        for id in 1..=130_u64 {
            let payload = Payload::new(id).promoter(id % 9).amount(3).unit("credits");
            account.add(&if id % 5 == 0 { payload.unit("cash") } else { payload });
        }
        let ours: Vec<u64> = (1..=130).filter(|id| id % 5 != 0).collect();
        let url = serve(account.clone()).await;

        let (one, two) = join(machine(&database.url, &url), machine(&database.url, &url)).await;
        let ran = [&one, &two].map(|report| counted(report, "fulfilled"));
        assert!(ran.iter().all(|fulfilled| *fulfilled > 50), "only one had work:\n{one}\n{two}");
        let mut completed = counted(&one, "completed") + counted(&two, "completed");
        for _ in 0..9 {
            if account.pending().len() == 26 {
                break;
            }
            completed += counted(&machine(&database.url, &url).await, "completed");
        }

        let once: Vec<_> = ours.iter().map(|id| (*id, 1)).collect();
        assert_eq!(effects(&pool).await, once);
        let mut updates: Vec<_> = account.updates().iter().map(|id| id.get()).collect();
        updates.sort_unstable();
        assert_eq!(updates, ours, "each is completed once, and nothing else");
        assert_eq!(completed, ours.len());
    })
    .await;
}

/// Another process that reconciles: this test again, in the part of `machine`. Returns its report.
async fn machine(database: &str, api: &str) -> String {
    let process = Command::new(env::current_exe().expect("this test"))
        .args(["--exact", "a_process_that_reconciles", "--nocapture"])
        .env("MACHINE_DATABASE", database)
        .env("MACHINE_API", api)
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output();
    let output = process.await.expect("a process");
    assert!(output.status.success());
    String::from_utf8(output.stdout).expect("text")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_reconciles() -> Result<(), Box<dyn Error>> {
    let (Ok(database), Ok(api)) = (env::var("MACHINE_DATABASE"), env::var("MACHINE_API")) else {
        return Ok(());
    };
    let pool = PgPool::connect(&database).await?;
    let webhook = Webhook::new(Effects, PostgresStore::new(pool), access());
    let report = webhook.reconcile(&client(&api, "any key")).await;
    println!("\n{report}");
    Ok(())
}

/// The number that a line of the report has.
fn counted(report: &str, line: &str) -> usize {
    let line = report.lines().find(|found| found.starts_with(line)).expect("a line of the report");
    line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
}

/// What was not confirmed, with a promoter that was made up, does not keep the real one out.
#[tokio::test]
async fn a_forged_promoter_comes_first() {
    postgres::story(|database| async move {
        let pool = database.ready(4).await;
        forged_first(Effects, PostgresStore::new(pool.clone())).await;
        assert_eq!(effects(&pool).await, [(1, 1)]);

        let pool = database.pool(4).await;
        let journal = PostgresJournal::new(pool).namespace("journal").expect("a namespace");
        let handler =
            fulfil_fn(async |_: Fulfilment| Ok::<_, std::convert::Infallible>(Outcome::Fulfilled));
        forged_first(handler, journal).await;
    })
    .await;
}

async fn forged_first<S: Store>(handler: impl FulfilIn<S::Tx>, store: S) {
    let account = Account::new();
    account.add(&Payload::new(1).promoter(7));
    let url = serve(account).await;
    let webhook =
        Webhook::new(handler, store.clone(), access()).confirm_with(client(&url, "any key"));
    let fulfil = async |promoter| {
        let payload = Payload::new(1).promoter(promoter);
        webhook.fulfil(Fulfilment::decode(payload).expect("a fulfilment")).await
    };
    for (promoter, expected) in [
        (8, Verdict::NotConfirmed),
        (9, Verdict::NotConfirmed),
        (7, Verdict::Fulfilled),
        (8, Verdict::RecordMismatch),
        (7, Verdict::Fulfilled),
    ] {
        assert_eq!(fulfil(promoter).await, expected, "{promoter}");
    }
    let record = store.get(1.into()).await.expect("the store").expect("a record");
    assert_eq!((record.promoter.get(), record.attempts), (7, 1));
}
