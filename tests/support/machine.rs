//! Other processes that fulfil, and what kills them.

#![allow(dead_code, reason = "each test binary uses its part of this")]

use std::{
    collections::HashSet,
    env,
    process::{Command as StdCommand, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::{sleep, sleep_until, timeout},
};
use tower_firstpromoter::Webhook;

use super::deliver::deliver;

/// How many ids one process is sent before it has answered.
const WINDOW: usize = 24;

/// Some processes fulfil the same fulfilments from one `database`. Each is killed so often, after at most
/// `longest` milliseconds; then what is left is sent. Returns how many fulfilments there were.
pub(crate) async fn killed(
    database: &str,
    mode: &'static str,
    processes: u64,
    kills: u32,
    longest: u64,
) -> usize {
    let sent = Arc::new(AtomicU64::new(0));
    let fulfilled = Arc::<Mutex<HashSet<u64>>>::default();
    let drivers: Vec<_> = (1..=processes)
        .map(|seed| {
            let (sent, fulfilled) = (Arc::clone(&sent), Arc::clone(&fulfilled));
            let database = database.to_owned();
            let driver = Driver { database, mode, sent, fulfilled, longest, random: seed };
            tokio::spawn(driver.drive(kills))
        })
        .collect();
    let mut deliveries = 0;
    for driver in drivers {
        deliveries += driver.await.expect("a driver");
    }
    let fulfilled = fulfilled.lock().expect("whole").len();
    assert_eq!(fulfilled as u64, sent.load(Ordering::SeqCst), "all were answered with 200 at last");
    let kills = processes * u64::from(kills);
    println!("{mode}: {kills} kills, {deliveries} deliveries, {fulfilled} fulfilled");
    fulfilled
}

/// Every fulfilment took effect, and once.
#[track_caller]
pub(crate) fn once_each(effects: &[(i64, i64)], fulfilled: usize) {
    let doubled: Vec<_> = effects.iter().filter(|(_, times)| *times > 1).collect();
    assert!(doubled.is_empty(), "{doubled:?}");
    assert_eq!(effects.len(), fulfilled, "lost");
    assert!(fulfilled > 200, "too few to mean anything: {fulfilled}");
}

struct Driver {
    database: String,
    mode: &'static str,
    /// Ids from 0 to here were made. Both processes get each.
    sent: Arc<AtomicU64>,
    fulfilled: Arc<Mutex<HashSet<u64>>>,
    /// How long a process may live, in milliseconds.
    longest: u64,
    random: u64,
}

impl Driver {
    /// Has a process of its own fulfil until it was killed so often, then sends what is left.
    async fn drive(mut self, kills: u32) -> u64 {
        let (mut next, mut deliveries) = (0, 0);
        let mut open = Vec::<u64>::new();
        for round in 0..=kills {
            let last = round == kills;
            let mut machine = Machine::start(&self.database, self.mode).await;
            let lives = Duration::from_millis(40 + self.random() % self.longest);
            let dies = tokio::time::Instant::now() + lives;
            let mut flying = Vec::<u64>::new();
            loop {
                while flying.len() < WINDOW {
                    // A journal is busy with what was cut off for some time: not with that alone.
                    let again = last || self.random() % 2 == 0;
                    let id = match again.then(|| open.pop()).flatten() {
                        Some(id) => id,
                        None if last && next >= self.sent.load(Ordering::SeqCst) => break,
                        None => next,
                    };
                    if id == next {
                        next += 1;
                        self.sent.fetch_max(next, Ordering::SeqCst);
                    }
                    flying.push(id);
                    deliveries += 1;
                    machine.send(id).await;
                }
                if flying.is_empty() {
                    break;
                }
                tokio::select! {
                    (id, verdict) = machine.answer() => {
                        flying.retain(|it| *it != id);
                        match verdict.as_str() {
                            "fulfilled" => drop(self.fulfilled.lock().expect("whole").insert(id)),
                            _ => open.insert(0, id),
                        }
                        if last && verdict != "fulfilled" {
                            sleep(Duration::from_millis(20)).await;
                        }
                    }
                    () = sleep_until(dies), if !last => break,
                }
            }
            machine.kill().await;
            open.append(&mut flying);
        }
        deliveries
    }

    /// Marsaglia's xorshift.
    fn random(&mut self) -> u64 {
        for shift in [13, -7, 17] {
            self.random ^= if shift > 0 { self.random << shift } else { self.random >> -shift };
        }
        self.random
    }
}

/// Another process that fulfils: this test again, in the part of `machine`.
pub(crate) struct Machine {
    process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Machine {
    pub(crate) async fn start(database: &str, mode: &str) -> Self {
        let mut process = Command::new(env::current_exe().expect("this test"))
            .args(["--exact", "machine", "--nocapture"])
            .env("MACHINE_DATABASE", database)
            .env("MACHINE_MODE", mode)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("a process");
        let input = process.stdin.take().expect("piped");
        let output = BufReader::new(process.stdout.take().expect("piped")).lines();
        Self { process, input, output }
    }

    pub(crate) async fn send(&mut self, id: u64) {
        self.input.write_all(format!("{id}\n").as_bytes()).await.expect("a living process");
    }

    /// # Cancel safety
    ///
    /// Loses no line.
    pub(crate) async fn line(&mut self) -> String {
        let line = timeout(Duration::from_secs(60), self.output.next_line());
        line.await.expect("a line in time").expect("a pipe").expect("a living process")
    }

    pub(crate) async fn answer(&mut self) -> (u64, String) {
        loop {
            let line = self.line().await;
            if let Some(answer) = line.strip_prefix("answer ") {
                let (id, verdict) = answer.split_once(' ').expect("two words");
                return (id.parse().expect("an id"), verdict.to_owned());
            }
        }
    }

    pub(crate) async fn kill(mut self) {
        self.process.kill().await.expect("killed");
    }

    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.process.id().expect("it runs").to_string();
        let status = StdCommand::new("kill").args([signal, &pid]).status().expect("kill");
        assert!(status.success());
    }
}

/// What the process that [`Machine::start`] started was told, if this is one.
pub(crate) fn role() -> Option<(String, String)> {
    Some((env::var("MACHINE_DATABASE").ok()?, env::var("MACHINE_MODE").ok()?))
}

/// Takes ids from the input, and says how the delivery of each ended.
pub(crate) async fn play(webhook: Webhook) {
    // The line that the test harness began.
    println!();
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let (id, webhook) = (line.parse().expect("an id"), webhook.clone());
        tokio::spawn(async move {
            let verdict = deliver(&webhook, id).await;
            println!("answer {id} {}", verdict.code());
        });
    }
}
