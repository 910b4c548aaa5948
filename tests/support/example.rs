//! Examples as processes, and requests over their sockets.

#![allow(dead_code, reason = "every test takes what it needs")]

use std::{
    env::consts::EXE_EXTENSION,
    ffi::OsStr,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

pub(crate) const KEY: &str = "the-key-of-these-tests";
pub(crate) const GOOD: &str = "/webhooks/firstpromoter?key=the-key-of-these-tests";
pub(crate) const JSON: &str = "Content-Type: application/json";

/// A running example; killed, if the test has not ended it.
pub(crate) struct Example {
    process: Child,
    pub(crate) address: SocketAddr,
}

impl Example {
    /// Starts it with its files in this directory.
    #[track_caller]
    pub(crate) fn start(name: &str, directory: &Path) -> Self {
        Self::start_with(name, directory, &[("WEBHOOK_KEY", KEY)])
    }

    #[track_caller]
    pub(crate) fn start_with(
        name: &str,
        directory: &Path,
        environment: &[(&str, impl AsRef<OsStr>)],
    ) -> Self {
        let mut process = Command::new(built(name))
            .current_dir(directory)
            .env_remove("WEBHOOK_KEY")
            .env("PORT", "0")
            .envs(environment.iter().map(|(name, value)| (name, value.as_ref())))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
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

    #[track_caller]
    pub(crate) fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(self.address).expect("the example accepts");
        socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a limit");
        socket
    }

    /// Sends this head and body on a connection of their own.
    #[track_caller]
    pub(crate) fn send(&self, line: &str, headers: &[&str], body: impl AsRef<[u8]>) -> Answer {
        let body = body.as_ref();
        let length = format!("Content-Length: {}", body.len());
        let mut socket = self.connect();
        socket.write_all(head(line, headers, &[&length]).as_bytes()).expect("sent");
        // An early answer may close the connection before all of the body has gone.
        let _ = socket.write_all(body);
        Answer::read(socket)
    }

    #[track_caller]
    pub(crate) fn deliver(&self, body: impl AsRef<[u8]>) -> Answer {
        self.send(&format!("POST {GOOD}"), &[JSON], body)
    }

    /// The answer's status, if the server lives to give one.
    pub(crate) fn try_deliver(&self, body: &str) -> Option<u16> {
        let mut socket = TcpStream::connect(self.address).ok()?;
        let length = format!("Content-Length: {}", body.len());
        let head = head(&format!("POST {GOOD}"), &[JSON], &[&length]);
        socket.write_all((head + body).as_bytes()).ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).ok()?;
        answer.split(' ').nth(1)?.parse().ok()
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.process.id().to_string();
        let sent = Command::new("kill").args([name, &id]).status().expect("there is `kill`");
        assert!(sent.success());
    }

    /// Waits for the process to end; kills it if it takes longer.
    #[track_caller]
    pub(crate) fn ended_within(mut self, limit: Duration) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().expect("the process can be waited for") {
                return status;
            }
            assert!(start.elapsed() < limit, "it still runs after {limit:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills it, and returns what it wrote to standard error.
    pub(crate) fn log(mut self) -> String {
        self.process.kill().expect("it still ran");
        let mut log = String::new();
        let mut stderr = self.process.stderr.take().expect("it is piped");
        stderr.read_to_string(&mut log).expect("the log is text");
        log
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) fn head(line: &str, headers: &[&str], more: &[&str]) -> String {
    let headers = [headers, more, &["Host: localhost", "Connection: close"]].concat().join("\r\n");
    format!("{line} HTTP/1.1\r\n{headers}\r\n\r\n")
}

/// `cargo test` builds the examples beside the tests.
#[track_caller]
fn built(example: &str) -> PathBuf {
    let this = std::env::current_exe().expect("this test has a path");
    let target = this.parent().and_then(Path::parent).expect("target/<profile>/deps/<test>");
    let path = target.join("examples").join(example).with_extension(EXE_EXTENSION);
    assert!(path.exists(), "{} is not built: run `cargo build --examples`", path.display());
    path
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    #[track_caller]
    pub(crate) fn read(mut socket: TcpStream) -> Self {
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
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}
