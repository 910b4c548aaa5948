//! "It works in the unit tests, and behind a real server it does not."
//!
//! Both examples are started as processes and spoken to over their sockets, in bytes: each row of
//! the table of answers that HTTP can reach, and for the axum one its life across restarts.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use tower_firstpromoter::{
    event::Fulfilment,
    once::{Begin, Claim, RedbStore, Store},
};

mod delivery;
use delivery::{DOCUMENTED, edited};

const KEY: &str = "the-key-of-these-tests";
const GOOD: &str = "/webhooks/firstpromoter?key=the-key-of-these-tests";
const JSON: &str = "Content-Type: application/json";

/// A running example; killed, if the test has not ended it.
struct Server {
    process: Child,
    address: SocketAddr,
}

impl Server {
    #[track_caller]
    fn start(example: &str, files: &Path) -> Self {
        Self::start_with(example, files, Some(KEY))
    }

    #[track_caller]
    fn start_with(example: &str, files: &Path, key: Option<&str>) -> Self {
        let mut process = Command::new(built(example))
            .env("PORT", "0")
            .env_remove("WEBHOOK_KEY")
            .envs(key.map(|key| ("WEBHOOK_KEY", key)))
            .env("FULFILMENTS", files.join("fulfilments.redb"))
            .env("GRANTS", files.join("grants.jsonl"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("the example starts");
        let mut first = String::new();
        let stdout = process.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut first).expect("the example prints a line");
        let address = first.trim_end().strip_prefix("listening on http://").map(str::parse);
        let Some(Ok(address)) = address else {
            let _ = process.kill();
            panic!("the first line is {first:?}");
        };
        Self { process, address }
    }

    fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(self.address).expect("the example accepts");
        socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a time-out");
        socket
    }

    /// Sends this head and body on a connection of their own.
    fn send(&self, request_line: &str, headers: &[&str], body: impl AsRef<[u8]>) -> Answer {
        let body = body.as_ref();
        let length = format!("Content-Length: {}", body.len());
        let mut socket = self.connect();
        socket.write_all(head(request_line, headers, &[&length]).as_bytes()).expect("sent");
        // An early answer may close the connection before all of the body has gone.
        let _ = socket.write_all(body);
        Answer::read(socket)
    }

    fn deliver(&self, body: impl AsRef<[u8]>) -> Answer {
        self.send(&format!("POST {GOOD}"), &[JSON], body)
    }

    /// The answer's status, if the server lives to give one.
    fn try_deliver(&self, body: &str) -> Option<u16> {
        let mut socket = TcpStream::connect(self.address).ok()?;
        let length = format!("Content-Length: {}", body.len());
        let head = head(&format!("POST {GOOD}"), &[JSON], &[&length]);
        socket.write_all((head + body).as_bytes()).ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).ok()?;
        answer.split(' ').nth(1)?.parse().ok()
    }

    fn grants(&self) -> Vec<Value> {
        match self.send("GET /grants", &[], "").json() {
            Value::Array(grants) => grants,
            other => panic!("/grants is {other}"),
        }
    }

    fn signal(&self, name: &str) {
        let id = self.process.id().to_string();
        let sent = Command::new("kill").args([name, &id]).status().expect("there is `kill`");
        assert!(sent.success());
    }

    fn wait(mut self) -> bool {
        self.process.wait().expect("the process ends").success()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn head(request_line: &str, headers: &[&str], more: &[&str]) -> String {
    let headers = [headers, more, &["Host: localhost", "Connection: close"]].concat().join("\r\n");
    format!("{request_line} HTTP/1.1\r\n{headers}\r\n\r\n")
}

/// `cargo test` builds the examples beside the tests.
#[track_caller]
fn built(example: &str) -> PathBuf {
    let this = std::env::current_exe().expect("this test has a path");
    let target = this.parent().and_then(Path::parent).expect("target/<profile>/deps/<test>");
    let path =
        target.join("examples").join(example).with_extension(std::env::consts::EXE_EXTENSION);
    assert!(path.exists(), "{} is not built: run `cargo build --examples`", path.display());
    path
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    #[track_caller]
    fn read(mut socket: TcpStream) -> Self {
        let mut text = Vec::new();
        // A reset after the answer is how a server refuses the rest of a body.
        if let Err(error) = socket.read_to_end(&mut text) {
            assert!(!text.is_empty(), "no answer: {error}");
        }
        let text = String::from_utf8(text).expect("answers are text");
        let (head, body) = text.split_once("\r\n\r\n").expect("an answer has a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.expect("an answer has a status");
        Self { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

fn reward(id: u64, pointer: &str, value: Value) -> String {
    edited([("/data/id", id.into()), (pointer, value)])
}

/// A request, and what must come back.
struct Row {
    line: String,
    headers: &'static [&'static str],
    body: String,
    status: u16,
    code: &'static str,
    header: &'static str,
}

fn rows() -> Vec<Row> {
    let post = format!("POST {GOOD}");
    let row = |line: &str, headers, body: &str, status, code| Row {
        line: line.to_owned(),
        headers,
        body: body.to_owned(),
        status,
        code,
        header: "content-type: application/json",
    };
    let json = &[JSON][..];
    let mut rows = vec![
        row(&post, json, DOCUMENTED, 200, "granted"),
        row(&post, json, DOCUMENTED, 200, "granted"), // and not granted again
        row(&post, json, &reward(10, "/data/unit", json!("cash")), 202, "pending"),
        row(&post, json, &reward(10, "/data/unit", json!("cups of tea")), 202, "pending"),
        row(&post, json, &reward(10, "/data/status", json!("completed")), 202, "not_pending"),
        row(&post, json, &reward(10, "/data/amount", json!(0)), 500, "failed"),
        row(&post, json, &reward(10, "/data/amount", json!(-1)), 500, "failed"),
        row(&post, json, "{", 400, "not_json"),
        row(&post, json, "", 400, "not_json"),
        row("POST /webhooks/firstpromoter", json, DOCUMENTED, 401, "unauthorized"),
        row("POST /webhooks/firstpromoter?key=wrong", json, DOCUMENTED, 401, "unauthorized"),
        row(&post, &["Content-Type: text/plain"], DOCUMENTED, 415, "unsupported_media_type"),
        row(&post, &[], DOCUMENTED, 415, "unsupported_media_type"),
        row(&post, json, r#"{"test":true}"#, 422, "not_a_fulfilment"),
        row(&post, json, &edited([("/data/promoter", json!(null))]), 422, "not_a_fulfilment"),
        row(&post, json, &edited([("/event/type", json!("reward_created"))]), 422, "other_event"),
        row(&post, json, &(DOCUMENTED.to_owned() + &" ".repeat(256 * 1024)), 413, "body_too_large"),
    ];
    rows.extend(["GET", "PUT", "DELETE", "PATCH"].map(|method| Row {
        header: "allow: post",
        ..row(&format!("{method} {GOOD}"), json, "", 405, "method_not_allowed")
    }));
    rows
}

#[track_caller]
fn check_rows(server: &Server) {
    for Row { line, headers, body, status, code, header } in rows() {
        let answer = server.send(&line, headers, &body);
        let sent = format!("{line} {headers:?} {}", body.get(..200).unwrap_or(&body));
        assert_eq!(answer.status, status, "{sent}");
        assert_eq!(answer.json()["code"], code, "{sent}");
        assert!(answer.head.contains(header), "{line}: {}", answer.head);
        assert!(answer.body.len() < 1_000 && !answer.body.contains(KEY), "{}", answer.body);
    }
}

/// What cannot be said with a length: chunks, and a body that never comes to its end.
#[track_caller]
fn check_bodies(server: &Server) {
    let chunked = head(&format!("POST {GOOD}"), &[JSON], &["Transfer-Encoding: chunked"]);

    let mut socket = server.connect();
    socket.write_all(chunked.as_bytes()).expect("sent");
    for byte in DOCUMENTED.as_bytes() {
        write!(socket, "1\r\n{}\r\n", char::from(*byte)).expect("sent");
    }
    socket.write_all(b"0\r\nX-Trailer: 1\r\n\r\n").expect("sent");
    assert_eq!(Answer::read(socket).status, 200, "a byte a chunk, and a trailer");

    let mut socket = server.connect();
    socket.write_all(chunked.as_bytes()).expect("sent");
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    let mut sent = 0;
    while sent < 64 << 20 && socket.write_all(chunk.as_bytes()).is_ok() {
        sent += 0x10000;
    }
    assert!(sent < 64 << 20, "all 64 MiB were taken");

    let line = format!("POST {GOOD}");
    let mut socket = server.connect();
    let huge = head(&line, &[JSON], &["Content-Length: 4000000000000000"]);
    socket.write_all(huge.as_bytes()).expect("sent");
    assert_eq!(Answer::read(socket).status, 413, "refused by the head alone");

    // A sender that waits to be asked for its body is asked only once it is let in.
    let mut socket = server.connect();
    let stranger = ["Content-Length: 4000", "Expect: 100-continue"];
    let stranger = head("POST /webhooks/firstpromoter?key=wrong", &[JSON], &stranger);
    socket.write_all(stranger.as_bytes()).expect("sent");
    assert_eq!(Answer::read(socket).status, 401, "and its body is not read");

    let mut socket = server.connect();
    socket.write_all(head(&line, &[JSON], &["Content-Length: 4000"]).as_bytes()).expect("sent");
    socket.write_all(&DOCUMENTED.as_bytes()[..100]).expect("sent");
    socket.shutdown(std::net::Shutdown::Write).expect("shut");
    let mut answer = String::new();
    let _ = socket.read_to_string(&mut answer);
    assert!(!answer.starts_with("HTTP/1.1 200"), "half a body: {answer}");
}

#[test]
fn the_axum_example_answers_as_the_table_says() {
    let files = TempDir::new().expect("a directory");
    let server = Server::start("axum", files.path());
    assert_eq!(server.send("GET /", &[], "").status, 200);
    check_rows(&server);
    check_bodies(&server);
    assert_eq!(
        server.grants(),
        [json!({ "fulfilment": 2429153, "promoter": 5272969, "amount": 3, "unit": "free_months" })]
    );
}

#[test]
fn the_hyper_example_answers_as_the_table_says() {
    let files = TempDir::new().expect("a directory");
    let server = Server::start("hyper", files.path());
    check_rows(&server);
    check_bodies(&server);
    let home = server.send("GET /", &[], "");
    assert_eq!(home.status, 200);
    assert!(home.body.ends_with("1 rewards were granted.\n3 free_months to promoter 5272969\n"));
    server.signal("-TERM");
    assert!(server.wait());
}

#[test]
fn the_axum_example_outlives_its_process() {
    let files = TempDir::new().expect("a directory");
    let grants_file = files.path().join("grants.jsonl");
    let granted = |id, amount: Value| json!({ "fulfilment": id, "promoter": 5272969, "amount": amount, "unit": "free_months" });

    let server = Server::start("axum", files.path());
    assert_eq!(server.deliver(reward(1, "/data/amount", json!(3))).status, 200);
    assert_eq!(server.deliver(reward(2, "/data/amount", json!(0))).status, 500);
    assert_eq!(server.deliver(reward(3, "/data/amount", json!("2.50"))).status, 200);
    server.signal("-KILL");
    assert!(!server.wait());

    // What a crash in the middle of a line leaves behind is no grant.
    let mut file = fs::File::options().append(true).open(&grants_file).expect("the grants");
    file.write_all(br#"{"fulfilment":4,"promo"#).expect("torn");

    let server = Server::start("axum", files.path());
    assert_eq!(server.grants(), [granted(1, json!(3)), granted(3, json!(2.5))]);
    assert_eq!(server.deliver(reward(1, "/data/amount", json!(3))).status, 200, "from the record");
    assert_eq!(server.deliver(reward(2, "/data/amount", json!(1))).status, 200, "once it can be");
    assert_eq!(server.deliver(reward(4, "/data/amount", json!(4))).status, 200, "and the torn one");
    server.signal("-INT");
    assert!(server.wait());

    let lines = fs::read_to_string(&grants_file).expect("the grants");
    assert_eq!(
        lines,
        r#"{"fulfilment":1,"promoter":5272969,"amount":3,"unit":"free_months"}
{"fulfilment":3,"promoter":5272969,"amount":2.50,"unit":"free_months"}
{"fulfilment":2,"promoter":5272969,"amount":1,"unit":"free_months"}
{"fulfilment":4,"promoter":5272969,"amount":4,"unit":"free_months"}
"#
    );
}

/// A sender who is in the middle of a delivery when the process is told to stop gets its answer,
/// and the grant is there afterwards.
#[test]
fn a_signal_lets_what_has_begun_come_to_its_end() {
    for example in ["axum", "hyper"] {
        let files = TempDir::new().expect("a directory");
        let server = Server::start(example, files.path());
        let length = format!("Content-Length: {}", DOCUMENTED.len());
        let mut socket = server.connect();
        let head = head(&format!("POST {GOOD}"), &[JSON], &[&length, "Expect: 100-continue"]);
        socket.write_all(head.as_bytes()).expect("sent");
        // The server asks for the body, so it is in the middle of this delivery.
        let mut go_on = [0; 25];
        socket.read_exact(&mut go_on).expect("the server goes on");
        assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");

        server.signal("-TERM");
        while TcpStream::connect(server.address).is_ok() {
            thread::yield_now();
        }
        socket.write_all(DOCUMENTED.as_bytes()).expect("sent");
        assert_eq!(Answer::read(socket).status, 200, "{example}");
        assert!(server.wait(), "{example}");
        if example == "axum" {
            let server = Server::start(example, files.path());
            assert_eq!(server.grants().len(), 1);
        }
    }
}

/// On the real clock, once: the sender gives up after 15 seconds.
#[test]
fn a_stalled_upload_is_ended_in_time() {
    let files = TempDir::new().expect("a directory");
    let servers = ["axum", "hyper"].map(|example| Server::start(example, files.path()));
    let sockets = servers.each_ref().map(|server| {
        let mut socket = server.connect();
        let head = head(&format!("POST {GOOD}"), &[JSON], &["Content-Length: 4000"]);
        socket.write_all((head + &DOCUMENTED[..1_000]).as_bytes()).expect("sent");
        socket
    });
    let start = Instant::now();
    for socket in sockets {
        let answer = Answer::read(socket);
        assert_eq!((answer.status, &answer.json()["code"]), (408, &json!("body_timeout")));
    }
    assert!(start.elapsed() < Duration::from_secs(14), "{:?}", start.elapsed());
}

/// The README's own `curl`, as curl sends it, to a server started as the README says.
#[test]
fn the_readme_shows_what_comes_back() {
    let readme = include_str!("../README.md");
    let after = |text: &'static str, mark: &str| {
        text.split_once(mark).unwrap_or_else(|| panic!("{mark} is in the README")).1
    };
    let until = |text: &'static str, mark: &str| {
        text.split_once(mark).unwrap_or_else(|| panic!("{mark} is in the README")).0
    };
    let curl = after(readme, "curl 'http://127.0.0.1:3000");
    let uri = until(curl, "'");
    let header = until(after(curl, "-H '"), "'");
    let body = until(after(curl, "-d '"), "'");
    let shown = after(curl, "```json\n");

    let files = TempDir::new().expect("a directory");
    let server = Server::start_with("axum", files.path(), None);
    for _ in 0..2 {
        let answer = server.send(
            &format!("POST {uri}"),
            &["User-Agent: curl/8.5.0", "Accept: */*", header],
            body,
        );
        assert_eq!(answer.body, until(shown, "```"));
    }
    let grants = server.send("GET /grants", &["User-Agent: curl/8.5.0", "Accept: */*"], "");
    assert_eq!(grants.body, until(after(shown, "```json\n"), "\n```"));
}

/// `kill -9` in the middle of parallel grants, again and again. Whatever was cut off is in doubt when
/// it is sent again, and the example finds out by looking into its grants.
#[test]
fn after_any_crash_nothing_stays_open() {
    let files = TempDir::new().expect("a directory");
    let next = AtomicU64::new(1);
    for round in 0..12 {
        let server = Server::start("axum", files.path());
        let (answered, answers) = mpsc::channel();
        thread::scope(|scope| {
            for _ in 0..4 {
                let (server, next, answered) = (&server, &next, answered.clone());
                scope.spawn(move || {
                    loop {
                        let id = next.fetch_add(1, Ordering::Relaxed);
                        match server.try_deliver(&reward(id, "/data/amount", json!(3))) {
                            Some(status) => assert_eq!(status, 200),
                            None => return,
                        }
                        answered.send(()).expect("the test waits");
                    }
                });
            }
            for _ in 0..=round {
                answers.recv().expect("there are answers");
            }
            server.signal("-KILL");
        });
    }
    let server = Server::start("axum", files.path());
    let all: Vec<u64> = (1..next.into_inner()).collect();
    for id in &all {
        let answer = server.deliver(reward(*id, "/data/amount", json!(3)));
        assert_eq!(answer.status, 200, "{id}: {}", answer.body);
    }
    let mut granted: Vec<_> =
        server.grants().iter().filter_map(|grant| grant["fulfilment"].as_u64()).collect();
    granted.sort_unstable();
    assert_eq!(granted, all, "each once");
}

/// The three states in which a crash can leave a grant, made by hand so that each of them is met.
#[tokio::test]
async fn what_a_crash_leaves_is_settled() {
    let files = TempDir::new().expect("a directory");
    let line =
        |id| format!(r#"{{"fulfilment":{id},"promoter":5272969,"amount":3,"unit":"free_months"}}"#);
    let torn = &line(3)[..40];
    let left = format!("{}\n{}\n{torn}", line(9), line(1));
    fs::write(files.path().join("grants.jsonl"), left).expect("grants");
    {
        let store = RedbStore::open(files.path().join("fulfilments.redb")).expect("a store");
        for id in [1, 2, 3] {
            let sent = reward(id, "/data/amount", json!(3));
            let claim = Claim::from(&Fulfilment::decode(sent).expect("a fulfilment"));
            let begun = store.begin(&claim).await.expect("a right to grant");
            assert!(matches!(begun, Begin::Run { .. }), "and it is dropped, as by a crash");
        }
    }
    let server = Server::start("axum", files.path());
    for id in [1, 2, 3, 1, 2, 3] {
        assert_eq!(server.deliver(reward(id, "/data/amount", json!(3))).status, 200, "{id}");
    }
    let granted: Vec<_> = server.grants().iter().map(|grant| grant["fulfilment"].clone()).collect();
    assert_eq!(granted, [9, 1, 2, 3], "the first one was granted, the others were not");
}
