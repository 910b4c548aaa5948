//! Ten thousand senders stop in the middle of their uploads. Each is answered with `408` at its
//! deadline; the server's memory stays small, and it goes on serving.
//!
//! The server is this test's own binary, started again, so that its memory can be read from outside.
//! Most of that memory is hyper's, for the connections. So they are idle first, and what the uploads
//! need on top of that is ours.

use std::{
    convert::Infallible,
    env,
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use axum::{Router, routing::get};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tower_firstpromoter::{
    Access, Outcome, Webhook, event::Fulfilment, fulfil_fn, store::MemoryStore,
};

const CONNECTIONS: usize = 10_000;
const WITHIN: Duration = Duration::from_secs(3);
const KEY: &str = "a-key-for-uploads";
const HOME: &str = "a page";
const SERVER: &str = "STALLED_SERVER";

/// More memory than the server has when all of the connections are idle.
const MOST_MIB: u64 = 64;

#[test]
fn ten_thousand_uploads_that_stop() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    if env::var_os(SERVER).is_some() {
        runtime.block_on(serve());
    } else if cfg!(target_os = "linux") {
        runtime.block_on(besiege());
    } else {
        println!("not run: the memory of a process is read from /proc");
    }
}

async fn serve() {
    let handler = fulfil_fn(async |_: Fulfilment| Ok::<_, Infallible>(Outcome::Fulfilled));
    let access = Access::query("key", KEY).expect("a secret");
    let webhook = Webhook::new(handler, MemoryStore::new(1_000), access).answer_within(WITHIN);
    let app: Router = Router::new().route("/", get(HOME)).layer(webhook.at("/hook"));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    println!("http://{}", listener.local_addr().expect("an address"));
    axum::serve(listener, app).await.expect("it serves until it is killed");
}

struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start() -> Self {
        let mut child = Command::new("sh")
            // As many files as may be; `exec`, so that the child is the server itself.
            .args(["-c", r#"ulimit -n "$(ulimit -H -n)"; exec "$0" --exact "$1" --nocapture"#])
            .arg(env::current_exe().expect("this binary"))
            .arg("ten_thousand_uploads_that_stop")
            .env(SERVER, "1")
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let address = lines.map_while(Result::ok).find_map(|line| {
            line.split_once("http://").and_then(|(_, address)| address.trim().parse().ok())
        });
        Self { child, address: address.expect("an address") }
    }

    fn resident_mib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kib / 1024
    }

    /// When it has stopped growing.
    async fn settled_mib(&self) -> u64 {
        let mut before = 0;
        for _ in 0..20 {
            sleep(Duration::from_millis(500)).await;
            let now = self.resident_mib();
            if now <= before {
                break;
            }
            before = now;
        }
        before
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// As many connections as this process may hold, of those wanted.
fn affordable() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").expect("the limits");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("of files");
    let mine = line.split_whitespace().nth(3).and_then(|limit| limit.parse().ok());
    let afforded = CONNECTIONS.min(mine.unwrap_or(usize::MAX).saturating_sub(200));
    if afforded < CONNECTIONS {
        println!("only {afforded} connections, by the limit of open files (`ulimit -n 10500`)");
    }
    afforded
}

async fn besiege() {
    let count = affordable();
    let server = Server::start();
    let mut sockets = Vec::with_capacity(count);
    for _ in 0..count {
        sockets.push(TcpStream::connect(server.address).await.expect("it listens"));
    }
    for socket in &mut sockets {
        visit(socket).await;
    }
    let idle = server.settled_mib().await;
    let mut running = JoinSet::new();
    for socket in sockets {
        running.spawn(stall(socket));
    }
    let mut peak = 0;
    let mut answers: Vec<Duration> = Vec::with_capacity(count);
    let mut every = tokio::time::interval(Duration::from_millis(50));
    while !running.is_empty() {
        tokio::select! {
            _ = every.tick() => peak = peak.max(server.resident_mib()),
            Some(answer) = running.join_next() => answers.push(answer.expect("no panic")),
        }
    }
    answers.sort_unstable();
    let (first, last) = (answers[0], answers[count - 1]);
    println!(
        "{count} stalled uploads, answered after {first:.1?} to {last:.1?}; the server has {peak} MiB \
         at most, and had {idle} MiB when they were idle"
    );
    assert!(first >= WITHIN - Duration::from_millis(50), "before its time");
    // The machine may be busy, but the sender gives up after 15 seconds.
    assert!(last < Duration::from_secs(15), "too late");
    assert!(peak < idle + MOST_MIB, "memory follows uploads");

    still_fulfils(&server).await;
}

/// Another page, after which the connection is idle.
async fn visit(socket: &mut TcpStream) {
    socket.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("it reads");
    let mut answer = Vec::new();
    while !answer.ends_with(HOME.as_bytes()) {
        assert_ne!(socket.read_buf(&mut answer).await.expect("an answer"), 0, "a whole one");
    }
}

/// How long it took to be answered with `408`, and nothing else.
async fn stall(mut socket: TcpStream) -> Duration {
    // The start of a body of 100 KiB, so that much is promised and little comes.
    let upload = format!(
        "POST /hook?key={KEY} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: 102400\r\n\r\n{{\"event\":{}",
        " ".repeat(500),
    );
    let started = Instant::now();
    socket.write_all(upload.as_bytes()).await.expect("it reads");
    let mut answer = Vec::new();
    // The server closes the connection, because the body never ended.
    let read = socket.read_to_end(&mut answer);
    timeout(Duration::from_secs(25), read).await.expect("an answer").expect("a whole one");
    let answer = String::from_utf8(answer).expect("a text");
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains(r#""code":"body_timeout""#), "{answer}");
    started.elapsed()
}

/// A whole delivery is still answered with `200`.
async fn still_fulfils(server: &Server) {
    let body = r#"{"event":{"type":"fulfilment_pending"},"data":{"id":1,"amount":3,"unit":"credits","promoter":{"id":7}}}"#;
    let request = format!(
        "POST /hook?key={KEY} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut socket = TcpStream::connect(server.address).await.expect("it listens");
    socket.write_all(request.as_bytes()).await.expect("it reads");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}
