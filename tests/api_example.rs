//! The reconcile example as a process: what an outage left pending is fulfilled and completed, deliveries
//! are confirmed, and it ends on a signal.

mod support {
    pub(crate) mod example;
    pub(crate) mod http;
}

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::task::block_in_place;
use tower_firstpromoter::testkit::{Account, Payload};

use self::support::{
    example::{Example, KEY},
    http::serve,
};

const API_KEY: &str = "key-of-the-account-1f4e";

fn payload(id: u64) -> Payload {
    Payload::new(id).promoter(7).amount(3).unit("credits")
}

fn start(files: &TempDir, api: &str) -> Example {
    let environment = [
        ("WEBHOOK_KEY", KEY),
        ("FIRSTPROMOTER_API_KEY", API_KEY),
        ("FIRSTPROMOTER_API", api),
        ("RECONCILE_EVERY", "1"),
    ];
    Example::start_with("reconcile", files.path(), &environment)
}

fn granted(example: &Example) -> Vec<u64> {
    let grants = example.send("GET /grants", &[], "").json();
    let ids = grants.as_array().expect("a list").iter().map(|grant| grant["fulfilment"].as_u64());
    ids.map(|id| id.expect("an id")).collect()
}

#[track_caller]
fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "not within a minute: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[track_caller]
fn ends(example: Example) {
    example.signal("-TERM");
    assert!(example.ended_within(Duration::from_secs(30)).success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_with_an_account() {
    let account = Account::new().fail_every(7);
    for id in 1..=130 {
        account.add(&if id % 5 == 0 { payload(id).unit("cash") } else { payload(id) });
    }
    let ours: BTreeSet<u64> = (1..=130).filter(|id| id % 5 != 0).collect();
    let api = serve(account.clone()).await;
    let files = TempDir::new().expect("a directory");

    block_in_place(|| {
        let example = start(&files, &api);
        wait_for("all is completed", || account.pending().len() == 26);
        let grants = granted(&example);
        assert_eq!(grants.len(), ours.len(), "twice");
        assert_eq!(BTreeSet::from_iter(grants), ours);
        ends(example);
        let mut updates: Vec<_> = account.updates().iter().map(|id| id.get()).collect();
        updates.sort_unstable();
        assert_eq!(updates, Vec::from_iter(ours), "each once, and nothing else");
    });

    // Again, on an API that answers, and with deliveries: a made-up promoter, a made-up amount, the
    // real one, and a made-up promoter once more.
    let account = Account::new();
    account.add(&payload(1)); // fulfilled, and its completion forgotten
    account.add(&payload(200).with("/data/created_at", jiff::Timestamp::now().to_string()));
    let api = serve(account.clone()).await;
    block_in_place(|| {
        let example = start(&files, &api);
        wait_for("what was fulfilled is completed", || account.completed() == [1.into()]);
        for (payload, code) in [
            (payload(200).promoter(8), "not_confirmed"),
            (payload(200).amount(9_999), "not_confirmed"),
            (payload(201), "not_confirmed"),
            (payload(200), "fulfilled"),
            (payload(200), "fulfilled"),
            (payload(200).promoter(8), "record_mismatch"),
        ] {
            let answer = example.deliver(payload.to_bytes());
            assert_eq!(answer.json()["code"], code);
        }
        let grants = granted(&example);
        assert_eq!((grants.len(), grants.last()), (105, Some(&200)));
        ends(example);
    });
}

/// Both examples keep their data in the same file by default.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_goes_on_where_the_axum_example_was() {
    let account = Account::new();
    account.add(&payload(1));
    account.add(&payload(2));
    let api = serve(account.clone()).await;
    let files = TempDir::new().expect("a directory");
    block_in_place(|| {
        let example = Example::start("axum", files.path());
        assert_eq!(example.deliver(payload(1).to_bytes()).status, 200);
        ends(example);

        let example = start(&files, &api);
        wait_for("both are completed", || account.completed().len() == 2);
        assert_eq!(granted(&example), [1, 2]);
        ends(example);
    });
}
