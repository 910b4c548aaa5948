//! "It works in the unit tests, and behind a real server it does not."
//!
//! The axum and hyper examples run as processes and are spoken to over their sockets, in bytes: each
//! end that HTTP can reach, their life across restarts and `kill -9`, and their end on a signal.

mod delivery;
mod support {
    pub(crate) mod example;
}

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use self::{
    delivery::{DOCUMENTED, edited},
    support::example::{Answer, Example, GOOD, JSON, KEY, head},
};

fn fulfilment(id: u64, pointer: &str, value: Value) -> String {
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
        row(&post, json, DOCUMENTED, 200, "fulfilled"),
        row(&post, json, DOCUMENTED, 200, "fulfilled"), // and not fulfilled again
        row(&post, json, &fulfilment(10, "/data/unit", json!("cash")), 202, "pending"),
        row(&post, json, &fulfilment(10, "/data/unit", json!("cups of tea")), 202, "pending"),
        row(&post, json, &fulfilment(10, "/data/status", json!("completed")), 202, "not_pending"),
        row(&post, json, &fulfilment(10, "/data/amount", json!(0)), 500, "failed"),
        row(&post, json, &fulfilment(10, "/data/amount", json!(-1)), 500, "failed"),
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

/// More than one time limit of the example's own.
const SOON: Duration = Duration::from_secs(30);

const NO_KEY: &[(&str, &str)] = &[];

#[track_caller]
fn grants(server: &Example) -> Vec<Value> {
    match server.send("GET /grants", &[], "").json() {
        Value::Array(grants) => grants,
        other => panic!("/grants is {other}"),
    }
}

#[track_caller]
fn check_rows(server: &Example) {
    for Row { line, headers, body, status, code, header } in rows() {
        let answer = server.send(&line, headers, &body);
        let sent = format!("{line} {headers:?} {}", body.get(..200).unwrap_or(&body));
        assert_eq!(answer.status, status, "{sent}");
        assert_eq!(answer.json()["code"], code, "{sent}");
        assert!(answer.head.contains(header), "{line}: {}", answer.head);
        assert!(answer.body.len() < 1_000 && !answer.body.contains(KEY), "{}", answer.body);
    }
}

/// Bodies without a length: chunks, and a body that never ends.
#[track_caller]
fn check_bodies(server: &Example) {
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

    // A sender that waits to be asked for its body is asked only once it is admitted.
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
    let server = Example::start("axum", files.path());
    assert_eq!(server.send("GET /", &[], "").status, 200);
    check_rows(&server);
    check_bodies(&server);
    assert_eq!(
        grants(&server),
        [json!({ "fulfilment": 2429153, "promoter": 5272969, "amount": 3, "unit": "free_months" })]
    );
}

#[test]
fn the_hyper_example_answers_as_the_table_says() {
    let files = TempDir::new().expect("a directory");
    let server = Example::start("hyper", files.path());
    check_rows(&server);
    check_bodies(&server);
    assert_eq!(server.send("GET /", &[], "").body, "1 coupons\n");
    server.signal("-TERM");
    assert!(server.ended_within(SOON).success());
}

#[test]
fn the_axum_example_remembers_across_a_kill() {
    let files = TempDir::new().expect("a directory");
    let granted = |id, amount: Value| json!({ "fulfilment": id, "promoter": 5272969, "amount": amount, "unit": "free_months" });

    let server = Example::start("axum", files.path());
    assert_eq!(server.deliver(fulfilment(1, "/data/amount", json!(3))).status, 200);
    assert_eq!(server.deliver(fulfilment(2, "/data/amount", json!(0))).status, 500);
    assert_eq!(server.deliver(fulfilment(3, "/data/amount", json!("2.50"))).status, 200);
    server.signal("-KILL");
    assert!(!server.ended_within(SOON).success());

    let server = Example::start("axum", files.path());
    assert_eq!(grants(&server), [granted(1, json!(3)), granted(3, json!(2.5))]);
    assert_eq!(server.deliver(fulfilment(1, "/data/amount", json!(3))).status, 200, "recorded");
    assert_eq!(server.deliver(fulfilment(2, "/data/amount", json!(1))).status, 200, "runs again");
    server.signal("-INT");
    assert!(server.ended_within(SOON).success());

    let server = Example::start("axum", files.path());
    let expected = [granted(1, json!(3)), granted(2, json!(1)), granted(3, json!(2.5))];
    assert_eq!(grants(&server), expected);
}

#[test]
fn the_hyper_example_looks_up_what_a_kill_left_in_doubt() {
    let files = TempDir::new().expect("a directory");
    for round in 0..5 {
        let server = Example::start("hyper", files.path());
        thread::scope(|scope| {
            for id in 0..8 {
                let server = &server;
                scope.spawn(move || {
                    server.try_deliver(&fulfilment(round * 8 + id, "/data/amount", json!(3)))
                });
            }
            thread::sleep(Duration::from_millis(round * 4));
            server.signal("-KILL");
        });
    }
    let server = Example::start("hyper", files.path());
    for id in 0..40 {
        let answer = server.deliver(fulfilment(id, "/data/amount", json!(3)));
        assert_eq!(answer.status, 200, "{id}: {}", answer.body);
    }
    assert_eq!(server.send("GET /", &[], "").body, "40 coupons\n");
}

/// A connection whose request never becomes whole must not keep the process from leaving.
#[test]
fn half_a_head_does_not_hold_up_the_end() {
    let files = TempDir::new().expect("a directory");
    let open = ["axum", "hyper", "observed"].map(|example| {
        let server = Example::start(example, files.path());
        let mut socket = server.connect();
        socket.write_all(b"POST /webhooks/firstpromoter HTTP/1.1\r\nHost: loc").expect("sent");
        (server, socket)
    });
    thread::sleep(Duration::from_millis(100)); // the servers have begun to read
    for (server, _) in &open {
        server.signal("-TERM");
    }
    for (server, _socket) in open {
        assert!(server.ended_within(SOON).success());
    }
}

/// A sender in the middle of a delivery when the process is told to stop gets its answer,
/// and it is fulfilled afterwards.
#[test]
fn a_signal_lets_what_has_begun_come_to_its_end() {
    for example in ["axum", "hyper"] {
        let files = TempDir::new().expect("a directory");
        let server = Example::start(example, files.path());
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
        assert!(server.ended_within(SOON).success(), "{example}");
        if example == "axum" {
            let server = Example::start(example, files.path());
            assert_eq!(grants(&server).len(), 1);
        }
    }
}

/// On the real clock, once: the sender gives up after 15 seconds.
#[test]
fn a_stalled_upload_is_ended_in_time() {
    let files = TempDir::new().expect("a directory");
    let servers = ["axum", "hyper"].map(|example| Example::start(example, files.path()));
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
    let server = Example::start_with("axum", files.path(), NO_KEY);
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

/// `kill -9` in the middle of parallel attempts, again and again: what was cut off is undone, and runs
/// when it is sent again.
#[test]
fn a_kill_neither_loses_nor_repeats_one() {
    let files = TempDir::new().expect("a directory");
    let next = AtomicU64::new(1);
    for round in 0..12 {
        let server = Example::start("axum", files.path());
        let (answered, answers) = mpsc::channel();
        thread::scope(|scope| {
            for _ in 0..4 {
                let (server, next, answered) = (&server, &next, answered.clone());
                scope.spawn(move || {
                    loop {
                        let id = next.fetch_add(1, Ordering::Relaxed);
                        match server.try_deliver(&fulfilment(id, "/data/amount", json!(3))) {
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
    let server = Example::start("axum", files.path());
    let all: Vec<u64> = (1..next.into_inner()).collect();
    for id in &all {
        let answer = server.deliver(fulfilment(*id, "/data/amount", json!(3)));
        assert_eq!(answer.status, 200, "{id}: {}", answer.body);
    }
    let mut granted: Vec<_> =
        grants(&server).iter().filter_map(|grant| grant["fulfilment"].as_u64()).collect();
    granted.sort_unstable();
    assert_eq!(granted, all, "each once");
}
