//! The `send` example's exit status is right whatever the server does: it runs as a process of its
//! own, against servers on real sockets that are correct, failing, slow and absent.

use std::{
    collections::HashMap,
    convert::Infallible,
    path::PathBuf,
    process::{Output, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, http::StatusCode};
use serde_json::Value;
use tokio::{net::TcpListener, process::Command, time::sleep};
use tower_firstpromoter::{
    Access, Outcome, Webhook, event::Fulfilment, fulfil_fn, store::MemoryStore,
};

/// Built by `cargo test`, but not by `cargo test --test send`.
fn binary() -> PathBuf {
    let mut path = std::env::current_exe().expect("this test runs from a file");
    path.pop();
    path.set_file_name("examples");
    path.push(format!("send{}", std::env::consts::EXE_SUFFIX));
    assert!(path.exists(), "build it first: cargo build --example send");
    path
}

async fn send(url: &str, options: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.arg(url).args(options).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(120), command.output());
    output.await.expect("it ends in time").expect("it starts")
}

async fn serve(app: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async { axum::serve(listener, app).await });
    format!("http://{address}/hook?key=at+least+sixteen+bytes")
}

#[derive(Clone, Default)]
struct Ledger(Arc<Mutex<HashMap<u64, usize>>>);

impl Ledger {
    fn add(&self, id: u64) {
        *self.0.lock().expect("nothing panics under this lock").entry(id).or_default() += 1;
    }

    fn of(&self, id: u64) -> usize {
        let ledger = self.0.lock().expect("nothing panics under this lock");
        ledger.get(&id).copied().unwrap_or_default()
    }

    fn len(&self) -> usize {
        self.0.lock().expect("nothing panics under this lock").len()
    }
}

async fn right(ledger: &Ledger, nap: Duration) -> String {
    let ledger = ledger.clone();
    let handler = fulfil_fn(move |fulfilment: Fulfilment| {
        let ledger = ledger.clone();
        async move {
            sleep(nap).await;
            ledger.add(fulfilment.id.get());
            Ok::<_, Infallible>(Outcome::Fulfilled)
        }
    });
    let access = Access::query("key", "at least sixteen bytes").expect("a secret");
    let webhook = Webhook::new(handler, MemoryStore::new(100_000), access);
    serve(Router::new().layer(webhook.at("/hook"))).await
}

async fn always(status: StatusCode) -> String {
    serve(Router::new().fallback(move || async move { status })).await
}

#[track_caller]
fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

#[tokio::test]
async fn a_right_server() {
    let ledger = Ledger::default();
    let url = right(&ledger, Duration::ZERO).await;
    let output = send(&url, &["--id", "7", "--amount", "2", "--unit", "credits"]).await;
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("200 fulfilled"), "{text}");
    assert_eq!(ledger.of(7), 1);

    // The same again is answered with 200 again, and not fulfilled a second time.
    assert!(send(&url, &["--id", "7"]).await.status.success());
    assert_eq!(ledger.of(7), 1);
}

#[tokio::test]
async fn a_server_that_always_fails() {
    let url = always(StatusCode::INTERNAL_SERVER_ERROR).await;
    let output = send(&url, &["--retry-every", "1ms", "--json"]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let summary = json(&output);
    assert_eq!(summary["fulfilments"]["has_issues"], 1, "{summary}");
    assert_eq!(summary["answers"]["500 no_verdict"], 8, "a delivery and 7 retries: {summary}");

    let output = send(&url, &["--retries", "0"]).await;
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("has_issues") && text.contains("500 no_verdict"), "{text}");
}

#[tokio::test]
async fn a_server_that_leaves_it_pending() {
    let url = always(StatusCode::NO_CONTENT).await;
    let output = send(&url, &["--retry-every", "1ms", "--json"]).await;
    assert!(output.status.success(), "{output:?}");
    let summary = json(&output);
    assert_eq!(
        (&summary["fulfilments"]["pending"], &summary["deliveries"]),
        (&1.into(), &4.into())
    );
}

#[tokio::test]
async fn nobody_there() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    drop(listener);
    let output = send(&format!("http://{address}/"), &["--retry-every", "1ms", "--json"]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(json(&output)["answers"]["broken_off"], 8);
}

#[tokio::test]
async fn a_sender_that_hangs_up() {
    let ledger = Ledger::default();
    let url = right(&ledger, Duration::from_millis(400)).await;
    let output = send(&url, &["--id", "9", "--hang-up-after", "50ms", "--json"]).await;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(json(&output)["answers"]["hung_up"], 2);
    assert_eq!(ledger.of(9), 1);
}

#[tokio::test]
async fn a_body_from_a_file() {
    let ledger = Ledger::default();
    let url = right(&ledger, Duration::ZERO).await;
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    let write = |file: &mut tempfile::NamedTempFile, text: &str| {
        use std::io::{Seek, Write};
        file.as_file_mut().set_len(0).expect("it is emptied");
        file.rewind().expect("it is rewound");
        file.write_all(text.as_bytes()).expect("it is written");
    };
    let options = |file: &tempfile::NamedTempFile| file.path().display().to_string();

    write(
        &mut file,
        r#"{"event":{"type":"fulfilment_pending"},"data":{"id":11,"amount":3,"unit":"credits","promoter":{"id":7}}}"#,
    );
    let output = send(&url, &["--file", &options(&file)]).await;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(ledger.of(11), 1);

    write(&mut file, "not JSON");
    let output = send(&url, &["--file", &options(&file), "--retry-every", "1ms", "--json"]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(json(&output)["answers"]["400 not_json"], 8);
}

#[tokio::test]
async fn a_storm() {
    let ledger = Ledger::default();
    let url = right(&ledger, Duration::from_millis(1)).await;
    let options = ["--storm", "400", "--duplicates", "8", "--id", "1000", "--json"];
    let output = send(&url, &options).await;
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "no progress bar where there is no terminal");
    let summary = json(&output);
    assert_eq!(summary["fulfilments"]["completed"], 400, "{summary}");
    assert_eq!(summary["deliveries"], 3_200, "{summary}");
    assert_eq!(ledger.len(), 400, "no loss");
    assert!((1_000..1_400).all(|id| ledger.of(id) == 1), "no double");
}

#[tokio::test]
async fn what_it_refuses() {
    for (url, options, reason) in [
        ("http://example.com/", &["--storm", "10"][..], "this machine only"),
        ("https://127.0.0.1/", &[], "http://"),
        ("/hook", &[], "http://"),
        ("http://127.0.0.1/", &["--retry-every", "3h"], "duration"),
        ("http://127.0.0.1/", &["--hang-up-after", "1s", "--duplicates", "2"], "cannot be used"),
        ("http://127.0.0.1/", &["--file", "a", "--storm", "2"], "cannot be used"),
        ("http://127.0.0.1/", &["--file", "/there/is/no/such/file"], "no/such/file"),
    ] {
        let output = send(url, options).await;
        assert_eq!(output.status.code(), Some(2), "{url} {options:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(reason), "{url} {options:?}: {said}");
    }
}
