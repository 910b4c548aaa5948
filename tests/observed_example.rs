//! An operator's morning: the `observed` example runs as a process, deliveries of several kinds
//! arrive over its socket, and its log and its `/metrics` say what became of each, and no secret.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

const KEY: &str = "the-operators-own-key";
const REWARD: &str = r#"{"event":{"id":9,"type":"fulfilment_pending"},"data":{"id":2429153,"amount":3,"unit":"free_months","promoter":{"id":7,"email":"ada@example.com","auth_token":"2-5P1Shfk2nn"}}}"#;

#[test]
fn the_log_and_the_numbers_tell_what_became_of_each_delivery() {
    let files = tempfile::tempdir().expect("a directory");
    let mut app = App::start(files.path());

    assert_eq!(app.deliver(KEY, REWARD), 200);
    assert_eq!(app.deliver(KEY, REWARD), 200);
    assert_eq!(app.deliver("a-strangers-own-guess", REWARD), 401);
    assert_eq!(app.deliver(KEY, r#"{"event":{"type":"fulfilment_pending"}}"#), 422);
    let nothing = REWARD.replace("2429153", "5").replace(r#""amount":3"#, r#""amount":0"#);
    assert_eq!(app.deliver(KEY, &nothing), 500);

    let grants = app.ask("GET /grants", "").1;
    assert!(
        grants
            .ends_with(r#"[{"fulfilment":2429153,"promoter":7,"amount":3,"unit":"free_months"}]"#)
    );

    let (status, numbers) = app.ask("GET /metrics", "");
    assert_eq!(status, 200);
    for line in [
        r#"firstpromoter_deliveries_total{code="granted",unit="free_months"} 2"#,
        r#"firstpromoter_deliveries_total{code="unauthorized",unit="none"} 1"#,
        "firstpromoter_handler_errors_total 1",
        "firstpromoter_in_doubt_total 0",
        r#"firstpromoter_delivery_duration_seconds_bucket{code="granted",le="15"} 2"#,
    ] {
        assert!(numbers.lines().any(|found| found == line), "{line} is not in {numbers}");
    }

    let log = app.end();
    for (level, of, story) in [
        ("INFO", "fulfilment.id=2429153", "observed: written to the book of grants"),
        ("INFO", "outcome=\"granted\"", "the reward is granted, and that is recorded"),
        ("INFO", "outcome=\"granted\"", "the reward is granted\n"),
        ("WARN", "outcome=\"unauthorized\"", "refused: no secret, or a wrong one"),
        ("WARN", "outcome=\"not_a_fulfilment\"", "problem=\"data is missing\""),
        ("ERROR", "fulfilment.id=5", "the handler returned an error exception.message="),
        ("ERROR", "outcome=\"failed\"", "not granted: the handler failed"),
    ] {
        let told = |line: &str| line.contains(level) && line.contains(of) && line.contains(story);
        assert_eq!(
            log.split_inclusive('\n').filter(|line| told(line)).count(),
            1,
            "{story}: {log}"
        );
    }
    for private in [KEY, "a-strangers-own-guess", "ada@example.com", "2-5P1Shfk2nn"] {
        assert!(!log.contains(private) && !numbers.contains(private), "{private} was seen");
    }
}

/// The running example; killed, if the test has not ended it.
struct App {
    process: Child,
    address: SocketAddr,
}

impl App {
    fn start(files: &Path) -> Self {
        let mut process = Command::new(built("observed"))
            .envs([("PORT", "0"), ("WEBHOOK_KEY", KEY), ("RUST_LOG", "info"), ("NO_COLOR", "1")])
            .env("FULFILMENTS", files.join("fulfilments.redb"))
            .env("GRANTS", files.join("grants.jsonl"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the example starts");
        let mut first = String::new();
        let stdout = process.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut first).expect("the example prints a line");
        let address = first.trim_end().strip_prefix("listening on http://").map(str::parse);
        match address {
            Some(Ok(address)) => Self { process, address },
            _ => {
                let _ = process.kill();
                panic!("the first line is {first:?}");
            }
        }
    }

    fn deliver(&self, key: &str, body: &str) -> u16 {
        self.ask(&format!("POST /webhooks/firstpromoter?key={key}"), body).0
    }

    fn ask(&self, request_line: &str, body: &str) -> (u16, String) {
        let mut socket = TcpStream::connect(self.address).expect("the example accepts");
        let length = body.len();
        let head = format!(
            "{request_line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        // In one piece: an early answer closes the connection.
        socket.write_all((head + body).as_bytes()).expect("sent");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("an answer");
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.expect("a status"), answer)
    }

    /// Ends it, and returns what it logged.
    fn end(&mut self) -> String {
        self.process.kill().expect("it still ran");
        let mut log = String::new();
        let mut stderr = self.process.stderr.take().expect("it is piped");
        stderr.read_to_string(&mut log).expect("the log is text");
        log
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// `cargo test` builds the examples beside the tests.
fn built(example: &str) -> PathBuf {
    let this = std::env::current_exe().expect("this test has a path");
    let target = this.parent().and_then(Path::parent).expect("target/<profile>/deps/<test>");
    let path =
        target.join("examples").join(example).with_extension(std::env::consts::EXE_EXTENSION);
    assert!(path.exists(), "{} is not built: run `cargo build --examples`", path.display());
    path
}
