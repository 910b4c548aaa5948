//! Machines die: two processes grant from one PostgreSQL and are killed with `kill -9` at random
//! moments, or frozen and woken up when nobody waits for them any more. What they were sent is sent
//! again. No reward is granted twice, and none is lost.

#[path = "support/postgres.rs"]
mod support;

use std::{
    collections::HashSet,
    env,
    process::{Command as StdCommand, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use sqlx::PgPool;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::{sleep, sleep_until, timeout},
};
use tower_firstpromoter::{
    BoxError, Fulfil, FulfilIn, Outcome, Verdict,
    event::Fulfilment,
    once::{PostgresStore, PostgresTx, Store},
};

use self::support::{Database, deliver, effects, grant, story, webhook};

/// How many ids one process is sent before it has answered.
const WINDOW: usize = 24;

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_granting_in_the_transaction() {
    story(|db| killed(db, "in_tx", 20, 300)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_granting_elsewhere() {
    story(|db| killed(db, "elsewhere", 6, 1_500)).await;
}

async fn killed(db: Database, mode: &'static str, kills: u32, longest: u64) {
    let pool = db.ready(2).await;
    let sent = Arc::new(AtomicU64::new(0));
    let granted = Arc::<Mutex<HashSet<u64>>>::default();
    let drivers = [1, 2].map(|seed| {
        let (db, sent, granted) = (db.clone(), Arc::clone(&sent), Arc::clone(&granted));
        tokio::spawn(async move {
            Driver { db, mode, sent, granted, longest, random: seed }.drive(kills).await
        })
    });
    let mut deliveries = 0;
    for driver in drivers {
        deliveries += driver.await.expect("a driver");
    }
    let granted = granted.lock().expect("whole").len();
    assert_eq!(granted as u64, sent.load(Ordering::SeqCst), "all were answered with 200 at last");
    let effects = effects(&pool).await;
    let doubled: Vec<_> = effects.iter().filter(|(_, times)| *times > 1).collect();
    println!(
        "{mode}: {} kills, {deliveries} deliveries, {granted} rewards, {} double, {} lost",
        2 * kills,
        doubled.len(),
        granted - effects.len(),
    );
    assert!(doubled.is_empty(), "{doubled:?}");
    assert_eq!(effects.len(), granted);
    assert!(granted > 200, "too few to mean anything: {granted}");
    let doubts = PostgresStore::new(pool).in_doubt().await.expect("a database");
    assert!(doubts.is_empty(), "{doubts:?}");
}

struct Driver {
    db: Database,
    mode: &'static str,
    /// Ids from 0 to here were made. Both processes get each.
    sent: Arc<AtomicU64>,
    granted: Arc<Mutex<HashSet<u64>>>,
    /// How long a process may live, in milliseconds.
    longest: u64,
    random: u64,
}

impl Driver {
    /// Has a process of its own grant until it was killed so often, then sends what is left.
    async fn drive(mut self, kills: u32) -> u64 {
        let (mut next, mut deliveries) = (0, 0);
        let mut open = Vec::<u64>::new();
        for round in 0..=kills {
            let last = round == kills;
            let mut machine = Machine::start(&self.db, self.mode).await;
            let lives = Duration::from_millis(40 + self.random() % self.longest);
            let dies = tokio::time::Instant::now() + lives;
            let mut flying = Vec::<u64>::new();
            loop {
                while flying.len() < WINDOW {
                    let id = match open.pop() {
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
                            "granted" => drop(self.granted.lock().expect("whole").insert(id)),
                            _ => open.insert(0, id),
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

/// Another process that grants: this test again, in the part that [`machine`] plays.
struct Machine {
    process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Machine {
    async fn start(db: &Database, mode: &str) -> Self {
        let mut process = Command::new(env::current_exe().expect("this test"))
            .args(["--exact", "machine", "--nocapture"])
            .env("MACHINE_DATABASE", &db.url)
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

    async fn send(&mut self, id: u64) {
        self.input.write_all(format!("{id}\n").as_bytes()).await.expect("a living process");
    }

    /// # Cancel safety
    ///
    /// Loses no line.
    async fn line(&mut self) -> String {
        let line = timeout(Duration::from_secs(60), self.output.next_line());
        line.await.expect("a line in time").expect("a pipe").expect("a living process")
    }

    async fn answer(&mut self) -> (u64, String) {
        loop {
            let line = self.line().await;
            if let Some(answer) = line.strip_prefix("answer ") {
                let (id, verdict) = answer.split_once(' ').expect("two words");
                return (id.parse().expect("an id"), verdict.to_owned());
            }
        }
    }

    async fn kill(mut self) {
        self.process.kill().await.expect("killed");
    }

    fn signal(&self, signal: &str) {
        let pid = self.process.id().expect("it runs").to_string();
        let status = StdCommand::new("kill").args([signal, &pid]).status().expect("kill");
        assert!(status.success());
    }
}

/// Not a story: what the other processes run. They take ids from their input and say how the
/// delivery of each ended.
#[tokio::test(flavor = "multi_thread")]
async fn machine() {
    let (Ok(url), Ok(mode)) = (env::var("MACHINE_DATABASE"), env::var("MACHINE_MODE")) else {
        return;
    };
    let db = Database { url };
    let store = PostgresStore::new(db.pool(6).await);
    let webhook = match mode.as_str() {
        "elsewhere" => webhook(Elsewhere(db.pool(6).await), store),
        "in_tx" => webhook(InTx { nap: |id| id % 3 }, store),
        "freezes" => webhook(InTx { nap: |_| 400 }, store.max_run(Duration::from_secs(1))),
        other => panic!("no such mode: {other}"),
    };
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

struct InTx {
    nap: fn(u64) -> u64,
}

impl FulfilIn<PostgresTx> for InTx {
    type Error = BoxError;

    async fn fulfil_in(&self, f: Fulfilment, tx: &mut PostgresTx) -> Result<Outcome, BoxError> {
        let id = f.id.get();
        grant(id, tx).await?;
        println!("written {id}");
        sleep(Duration::from_millis((self.nap)(id))).await;
        // The clock is the dice: an error after the write must undo it.
        let now = SystemTime::UNIX_EPOCH.elapsed()?.subsec_micros();
        if (self.nap)(id) < 3 && now % 5 == 0 {
            return Err("on purpose".into());
        }
        Ok(Outcome::Fulfilled)
    }
}

/// Grants on a connection of its own, so that no rollback undoes it.
struct Elsewhere(PgPool);

impl Fulfil for Elsewhere {
    type Error = sqlx::Error;

    async fn fulfil(&self, f: Fulfilment) -> Result<Outcome, sqlx::Error> {
        let id = f.id.get() as i64;
        sleep(Duration::from_millis(f.id.get() % 3)).await;
        sqlx::query("INSERT INTO effects VALUES ($1)").bind(id).execute(&self.0).await?;
        sleep(Duration::from_millis(f.id.get() % 3)).await;
        Ok(Outcome::Fulfilled)
    }

    async fn was_granted(&self, f: &Fulfilment) -> Result<Option<bool>, sqlx::Error> {
        let (granted,): (bool,) =
            sqlx::query_as("SELECT EXISTS (SELECT FROM effects WHERE id = $1)")
                .bind(f.id.get() as i64)
                .fetch_one(&self.0)
                .await?;
        Ok(Some(granted))
    }
}

/// It stops in the middle of a grant for longer than its session may be idle, another machine
/// grants, and then it wakes up and goes on where it was.
#[tokio::test(flavor = "multi_thread")]
async fn frozen_and_woken() {
    story(|db| async move {
        let pool = db.ready(4).await;
        let here = webhook(InTx { nap: |_| 10 }, PostgresStore::new(pool.clone()));
        let mut frozen = Machine::start(&db, "freezes").await;
        frozen.send(1).await;
        while frozen.line().await != "written 1" {}
        frozen.signal("-STOP");

        let stopped = Instant::now();
        assert_eq!(deliver(&here, 1).await, Verdict::InProgress);
        let verdict = loop {
            match deliver(&here, 1).await {
                Verdict::InProgress => sleep(Duration::from_millis(50)).await,
                verdict => break verdict,
            }
        };
        assert_eq!(verdict, Verdict::Granted);
        let waited = stopped.elapsed();
        assert!((700..5_000).contains(&waited.as_millis()), "{waited:?}");

        frozen.signal("-CONT");
        assert_eq!(frozen.answer().await, (1, "not_recorded".to_owned()));
        assert_eq!(effects(&pool).await, [(1, 1)]);
        frozen.kill().await;
    })
    .await;
}
