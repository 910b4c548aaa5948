//! `kill -9`, again and again: a process serves deliveries over HTTP, with a `RedbStore` and a
//! handler whose effect is a line in another file. It is killed at random moments, started again,
//! and everything that was not answered is sent again.
//!
//! With a `was_fulfilled` that looks into that file, every fulfilment takes effect once and none is
//! left in doubt. With the default, which cannot tell, the doubts are shown as such, the store lists
//! exactly those, and all others take effect once. Running doubts again blindly, which is what "just
//! retry" comes to, takes effect twice; this test must be able to see that, too.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use axum::Router;
use futures::{StreamExt, future::join_all, stream};
use http_body_util::BodyExt;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{net::TcpListener, time::sleep};
use tower_firstpromoter::{
    Fulfil, Outcome,
    event::Fulfilment,
    store::{RedbStore, State, Store},
};

use crate::{
    deliver::{SECRET, delivery},
    dice::Dice,
};

#[path = "support/deliver.rs"]
mod deliver;
#[path = "support/dice.rs"]
mod dice;

const KILLS: u64 = 35;
const AT_LEAST: u64 = 2_000;
const AT_ONCE: usize = 48;

/// Tells the process which is started below what it is, and where its files are.
const SERVE: &str = "KILL_NINE_SERVE";
const DIRECTORY: &str = "KILL_NINE_DIRECTORY";

#[test]
fn was_fulfilled_can_tell() {
    let report = run("knows");
    report.print();
    assert_eq!((report.doubles().len(), report.lost().len()), (0, 0), "doubles, lost");
    assert_eq!(report.heard.in_doubt, BTreeSet::new(), "was_fulfilled answers");
    assert_eq!(report.listed, BTreeSet::new(), "was_fulfilled answers");
}

#[test]
fn nobody_can_tell() {
    let report = run("does not know");
    report.print();
    assert_eq!((report.doubles().len(), report.lost().len()), (0, 0), "doubles, lost");
    assert_eq!(
        report.heard.in_doubt, report.listed,
        "what was answered so is what an operator sees"
    );
    assert!(!report.heard.in_doubt.is_empty(), "so many kills must have cut off something");
}

#[test]
fn wrong_blind_runs_are_seen() {
    let report = run("runs blindly");
    report.print();
    assert!(!report.doubles().is_empty(), "the test does not see what is wrong with this");
}

/// Not a test but the process to be killed, which is this binary once more.
#[test]
fn serve() {
    let (Ok(kind), Ok(directory)) = (env::var(SERVE), env::var(DIRECTORY)) else { return };
    // The one who started it holds the other end.
    thread::spawn(|| {
        let _ = io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let directory = PathBuf::from(directory);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let handler = Handler {
            kind,
            path: effects(&directory),
            effects: OpenOptions::new()
                .create(true)
                .append(true)
                .open(effects(&directory))
                .expect("opens"),
            dice: Dice::new("serve"),
        };
        let store = RedbStore::open(record(&directory)).expect("opens");
        let webhook = deliver::webhook(handler, store);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        println!("port {}", listener.local_addr().expect("bound").port());
        let app = Router::new().route_service("/", webhook);
        axum::serve(listener, app).await.expect("serves");
    });
}

fn effects(directory: &Path) -> PathBuf {
    directory.join("effects")
}

fn record(directory: &Path) -> PathBuf {
    directory.join("fulfilments.redb")
}

/// Its effect is one write to the end of a file.
struct Handler {
    kind: String,
    path: PathBuf,
    effects: File,
    dice: Dice,
}

impl Handler {
    async fn nap(&self) {
        sleep(Duration::from_micros(self.dice.roll(0..4_000))).await;
    }
}

impl Fulfil for Handler {
    type Error = io::Error;

    async fn fulfil(&self, fulfilment: Fulfilment) -> io::Result<Outcome> {
        self.nap().await;
        (&self.effects).write_all(format!("{}\n", fulfilment.id).as_bytes())?;
        self.nap().await;
        Ok(Outcome::Fulfilled)
    }

    async fn was_fulfilled(&self, fulfilment: &Fulfilment) -> io::Result<Option<bool>> {
        Ok(match self.kind.as_str() {
            "knows" => Some(counted(&self.path).contains_key(&fulfilment.id.get())),
            "runs blindly" => Some(false),
            _ => None,
        })
    }
}

/// How often each took effect.
fn counted(path: &Path) -> BTreeMap<u64, u32> {
    let mut counts = BTreeMap::new();
    for line in fs::read_to_string(path).expect("readable").lines() {
        *counts.entry(line.parse().expect("an id")).or_default() += 1;
    }
    counts
}

/// The process at work, until it is killed.
struct Service {
    child: Child,
    /// Kept open, so that it may go on writing.
    _stdout: BufReader<ChildStdout>,
    port: u16,
}

impl Service {
    fn start(kind: &str, directory: &Path) -> Self {
        let mut child = Command::new(env::current_exe().expect("this binary"))
            .args(["--exact", "serve", "--nocapture"])
            .env(SERVE, kind)
            .env(DIRECTORY, directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let port = loop {
            let mut line = String::new();
            assert!(stdout.read_line(&mut line).expect("text") > 0, "it ended before it served");
            // libtest has begun the line.
            if let Some((_, port)) = line.split_once("port ") {
                break port.trim().parse().expect("a port");
            }
        };
        Self { child, _stdout: stdout, port }
    }

    fn kill_nine(mut self) {
        self.child.kill().expect("ours to kill"); // SIGKILL
        self.child.wait().expect("dead");
    }
}

/// What came of it.
struct Report {
    kind: &'static str,
    sent: u64,
    effects: BTreeMap<u64, u32>,
    heard: Heard,
    /// In doubt, by the store.
    listed: BTreeSet<u64>,
    took: Duration,
}

/// By the answers.
#[derive(Default)]
struct Heard {
    acknowledged: BTreeSet<u64>,
    in_doubt: BTreeSet<u64>,
    answers: BTreeMap<String, u64>,
}

impl Report {
    fn doubles(&self) -> Vec<u64> {
        self.effects.iter().filter(|(_, times)| **times > 1).map(|(id, _)| *id).collect()
    }

    /// Answered with `200` without an effect, or not answered for good.
    fn lost(&self) -> Vec<u64> {
        (1..=self.sent)
            .filter(|id| match self.heard.acknowledged.contains(id) {
                true => !self.effects.contains_key(id),
                false => !self.heard.in_doubt.contains(id),
            })
            .collect()
    }

    fn print(&self) {
        let took_effect =
            self.heard.in_doubt.iter().filter(|id| self.effects.contains_key(id)).count();
        println!(
            "{}: {} fulfilments, {KILLS} kills, {} doubles, {} lost, {} in doubt ({took_effect} of \
             them took effect), {:.1?}, {:?}",
            self.kind,
            self.sent,
            self.doubles().len(),
            self.lost().len(),
            self.heard.in_doubt.len(),
            self.took,
            self.heard.answers,
        );
    }
}

fn run(kind: &'static str) -> Report {
    let start = Instant::now();
    let directory = tempfile::tempdir().expect("a directory");
    let dice = Dice::new(kind);
    let first = Service::start(kind, directory.path());
    let port = AtomicU64::new(first.port.into());
    let (killed_enough, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let heard = Mutex::new(Heard::default());

    let last = thread::scope(|scope| {
        let killer = scope.spawn(|| {
            let mut service = first;
            for _ in 0..KILLS {
                thread::sleep(Duration::from_millis(dice.roll(20..250)));
                service.kill_nine();
                service = Service::start(kind, directory.path());
                port.store(service.port.into(), Ordering::SeqCst);
            }
            killed_enough.store(true, Ordering::SeqCst);
            service
        });
        let ids = (1..).take_while(|id| {
            let goes_on = *id <= AT_LEAST || !killed_enough.load(Ordering::SeqCst);
            if goes_on {
                sent.store(*id, Ordering::SeqCst);
            }
            goes_on
        });
        let client = &Client::builder(TokioExecutor::new()).build_http::<String>();
        let deliveries = stream::iter(ids).for_each_concurrent(AT_ONCE, async |id| {
            let mut over = false;
            while !over {
                let port = port.load(Ordering::SeqCst);
                let twice = [deliver(client, port, id), deliver(client, port, id)];
                for answer in join_all(twice).await {
                    let code = answer.unwrap_or_else(|| "cut off".to_owned());
                    let mut heard = heard.lock().expect("whole");
                    let (fulfilled, in_doubt) = (code == "fulfilled", code == "in_doubt");
                    if fulfilled {
                        heard.acknowledged.insert(id);
                    }
                    if in_doubt {
                        heard.in_doubt.insert(id);
                    }
                    over |= fulfilled || in_doubt;
                    *heard.answers.entry(code).or_default() += 1;
                }
                if !over {
                    sleep(Duration::from_millis(5)).await;
                }
            }
        });
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(deliveries);
        killer.join().expect("no panic")
    });
    last.kill_nine();

    let store = RedbStore::open(record(directory.path())).expect("opens");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let open = runtime.block_on(store.open(usize::MAX)).expect("readable");
    let listed = open.iter().filter(|record| record.state == State::InDoubt);
    Report {
        kind,
        sent: sent.into_inner(),
        effects: counted(&effects(directory.path())),
        heard: heard.into_inner().expect("whole"),
        listed: listed.map(|record| record.id.get()).collect(),
        took: start.elapsed(),
    }
}

/// The code that was answered, or nothing if the process was killed meanwhile.
async fn deliver(client: &Client<HttpConnector, String>, port: u64, id: u64) -> Option<String> {
    let mut request = delivery(id);
    *request.uri_mut() = format!("http://127.0.0.1:{port}/?key={SECRET}").parse().expect("a URI");
    let answer = client.request(request).await.ok()?;
    let status = answer.status();
    let bytes = answer.into_body().collect().await.ok()?.to_bytes();
    let body: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
    let code = body["code"].as_str().expect("a code").to_owned();
    assert_eq!(status == 200, code == "fulfilled");
    Some(code)
}
