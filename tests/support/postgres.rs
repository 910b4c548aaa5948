//! A PostgreSQL to test with: the one at `DATABASE_URL`, or a throw-away server on loopback, which
//! is stopped and removed when the test process ends, however it ends.

#![allow(dead_code, reason = "each test binary uses its part of this")]

use std::{
    env,
    future::Future,
    io::{self, Write},
    net::TcpListener,
    panic::{AssertUnwindSafe, resume_unwind},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures::FutureExt;
use sqlx::{AssertSqlSafe, PgPool, Row, postgres::PgPoolOptions, raw_sql};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net,
    sync::watch,
    task::{JoinHandle, JoinSet},
};
use tower_firstpromoter::{
    event::Fulfilment,
    store::{Begin, Claim, PostgresStore, PostgresTx, Store},
};

/// Runs a story in a database of its own, which is dropped when the story ends. Without a
/// PostgreSQL it prints `NOT RUN`, which is a failure where `CI` is set.
pub(crate) async fn story<Fut>(tell: impl FnOnce(Database) -> Fut)
where
    Fut: Future<Output = ()>,
{
    story_in("", tell).await;
}

/// Runs a story in a database that is created with `options`.
pub(crate) async fn story_in<Fut>(options: &str, tell: impl FnOnce(Database) -> Fut)
where
    Fut: Future<Output = ()>,
{
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let server = match shared() {
        Ok(url) => url,
        Err(why) => return not_run(&why),
    };
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("firstpromoter_test_{}_{number}", std::process::id());
    let admin = PgPoolOptions::new().max_connections(1).connect(&server).await.expect("a server");
    let run = async |sql: String| {
        raw_sql(AssertSqlSafe(sql)).execute(&admin).await.expect("a statement of the test's");
    };
    run(format!("CREATE DATABASE {name} {options}")).await;
    let (path, query) = server.split_once('?').unwrap_or((&server, ""));
    let (front, _) = path.rsplit_once('/').expect("a database in the URL");
    let database = Database { url: format!("{front}/{name}?{query}"), name: name.clone() };
    let told = AssertUnwindSafe(tell(database)).catch_unwind().await;
    run(format!("DROP DATABASE {name} WITH (FORCE)")).await;
    if let Err(panic) = told {
        resume_unwind(panic);
    }
}

/// Says that a story was not run, and why.
pub(crate) fn not_run(why: &str) {
    assert!(env::var_os("CI").is_none(), "required where CI is set: {why}");
    // Not by `eprintln!`, which the test harness keeps to itself when a test passes.
    let _ = writeln!(io::stderr(), "NOT RUN: {why}");
}

/// A database for one story.
#[derive(Clone, Debug)]
pub(crate) struct Database {
    pub(crate) url: String,
    pub(crate) name: String,
}

impl Database {
    pub(crate) async fn pool(&self, connections: u32) -> PgPool {
        PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(std::time::Duration::from_secs(20))
            .connect(&self.url)
            .await
            .expect("the test's database")
    }

    /// A pool with the store's table and with `effects`: what the handlers of the tests
    /// fulfil. It has no key, so that every double shows.
    pub(crate) async fn ready(&self, connections: u32) -> PgPool {
        let pool = self.pool(connections).await;
        PostgresStore::new(pool.clone()).create_table().await.expect("a table");
        run(&pool, "CREATE TABLE IF NOT EXISTS effects (id bigint NOT NULL)").await;
        pool
    }
}

pub(crate) async fn run(pool: &PgPool, sql: impl Into<String>) {
    raw_sql(AssertSqlSafe(sql.into())).execute(pool).await.expect("a statement of the test's");
}

pub(crate) fn fulfilment_of(data: &str) -> Fulfilment {
    let body = format!(r#"{{"event":{{"type":"fulfilment_pending"}},"data":{data}}}"#);
    Fulfilment::decode(body).expect("a fulfilment")
}

/// Three credits for promoter 7, who is user-7.
pub(crate) fn fulfilment(id: u64) -> Fulfilment {
    let promoter = r#"{"id":7,"cust_id":"user-7"}"#;
    fulfilment_of(&format!(r#"{{"id":{id},"amount":3,"unit":"credits","promoter":{promoter}}}"#))
}

pub(crate) fn claim_of(data: &str) -> Claim {
    Claim::new(&fulfilment_of(data))
}

pub(crate) fn claim(id: u64) -> Claim {
    Claim::new(&fulfilment(id))
}

/// Begins; waits while it is busy. An end by drop reaches the server a moment later.
pub(crate) async fn patiently<S: Store>(store: &S, claim: &Claim) -> Begin<S::Tx>
where
    S::Error: std::fmt::Debug,
{
    for _ in 0..1_000 {
        match store.begin(claim).await.expect("a database") {
            Begin::Busy => tokio::time::sleep(Duration::from_millis(5)).await,
            begin => return begin,
        }
    }
    panic!("busy for good");
}

/// A begin in words, its transaction dropped or not.
pub(crate) fn kind<Tx>(begin: &Begin<Tx>) -> String {
    match begin {
        Begin::Run { attempt, .. } => format!("run {attempt}"),
        Begin::InDoubt { attempt, .. } => format!("in doubt {attempt}"),
        Begin::Fulfilled => "fulfilled".into(),
        Begin::Busy => "busy".into(),
        Begin::Mismatch => "mismatch".into(),
    }
}

/// A way to the server that can fall silent: connections stay open and carry nothing more.
pub(crate) struct Proxy {
    pub(crate) url: String,
    silence: watch::Sender<Silence>,
    accepts: JoinHandle<()>,
}

#[derive(Clone, Copy, Default)]
struct Silence {
    /// How often the connections that were open have been silenced.
    times: u64,
    /// Whether new ones are silent, too.
    new_ones: bool,
    /// A text with which a client silences its connection, and whether it still gets through.
    at: Option<(&'static str, bool)>,
}

impl Proxy {
    pub(crate) async fn start(server: &str) -> Self {
        let (front, path) = server.rsplit_once('/').expect("a database in the URL");
        let (_, address) = front.rsplit_once('@').expect("a user in the URL");
        let address = address.to_owned();
        let listener = net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (silence, silences) = watch::channel(Silence::default());
        let accepts = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let (address, silences) = (address.clone(), silences.clone());
                connections.spawn(async move {
                    let far = net::TcpStream::connect(address).await.expect("a server");
                    carry(near, far, silences).await;
                });
            }
        });
        Self { url: format!("postgres://postgres@127.0.0.1:{port}/{path}"), silence, accepts }
    }

    /// Silences the connections that are open now; new ones are carried.
    pub(crate) fn silence(&self) {
        self.silence.send_modify(|silence| silence.times += 1);
    }

    /// Says whether new connections are silent, too.
    pub(crate) fn silence_new(&self, new_ones: bool) {
        self.silence.send_modify(|silence| silence.new_ones = new_ones);
    }

    /// Silences each connection on which the text is sent, before or after the server gets it.
    pub(crate) fn silence_at(&self, at: Option<(&'static str, bool)>) {
        self.silence.send_modify(|silence| silence.at = at);
    }
}

/// Returns when an end closes the connection; never, once it is silent.
async fn carry(
    mut near: net::TcpStream,
    mut far: net::TcpStream,
    mut silences: watch::Receiver<Silence>,
) {
    let before = *silences.borrow_and_update();
    let (mut asked, mut answered) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let mut silent = before.new_ones;
    while !silent {
        tokio::select! {
            read = near.read(&mut asked) => {
                let Ok(length @ 1..) = read else { return };
                let asked = &asked[..length];
                let at = silences.borrow().at;
                let at = at.filter(|(text, _)| memmem(asked, text.as_bytes()));
                if at.is_none_or(|(_, through)| through) && far.write_all(asked).await.is_err() {
                    return;
                }
                silent = at.is_some();
            }
            read = far.read(&mut answered) => {
                let Ok(length @ 1..) = read else { return };
                if near.write_all(&answered[..length]).await.is_err() {
                    return;
                }
            }
            changed = silences.changed() => {
                silent = changed.is_err() || silences.borrow().times > before.times;
            }
        }
    }
    std::future::pending().await
}

fn memmem(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepts.abort();
    }
}

/// How often each fulfilment took effect that did at all, as (id, times).
pub(crate) async fn effects(pool: &PgPool) -> Vec<(i64, i64)> {
    // In one message, as `take_effect` is, so that it works behind any pooler.
    let rows = raw_sql("SELECT id, count(*) FROM effects GROUP BY id ORDER BY id").fetch_all(pool);
    let rows = rows.await.expect("the effects");
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

pub(crate) async fn take_effect(id: u64, tx: &mut PostgresTx) -> sqlx::Result<()> {
    raw_sql(AssertSqlSafe(format!("INSERT INTO effects VALUES ({id})"))).execute(&mut **tx).await?;
    Ok(())
}

/// The server that the stories of this process share.
fn shared() -> Result<String, String> {
    static SERVER: OnceLock<Result<Server, String>> = OnceLock::new();
    match env::var("DATABASE_URL") {
        Ok(url) if url.starts_with("postgres") => Ok(url),
        _ => SERVER.get_or_init(Server::start).as_ref().map(Server::url).map_err(String::clone),
    }
}

/// A throw-away server, for stories that stop or kill it.
pub(crate) struct Server {
    bin: Option<PathBuf>,
    home: TempDir,
    port: u16,
    /// Stops the server and removes its files when our end of its input closes.
    leash: Child,
}

impl Server {
    /// # Errors
    ///
    /// Why there is none.
    pub(crate) fn start() -> Result<Self, String> {
        let failed = |error: io::Error| error.to_string();
        let bin = programs().ok_or("no PostgreSQL on the PATH or below /usr/lib/postgresql")?;
        let home = tempfile::tempdir().map_err(failed)?;
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).map_err(failed)?;
        if is_root() {
            let owner = Command::new("chown").arg("postgres").arg(home.path()).output();
            checked(owner.map_err(failed)?)?;
        }
        let leash = Command::new("sh")
            .arg("-c")
            // Of the process group's interrupt nothing may come through, or the server stays.
            .arg("trap '' INT TERM HUP; cat; \"$@\" >/dev/null 2>&1; rm -rf \"$0\"")
            .arg(home.path())
            .args(words(
                &as_postgres(&bin, "pg_ctl"),
                &["stop", "-m", "immediate", "-D"],
                home.path(),
            ))
            .stdin(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let server = Self { bin, home, port: port.port(), leash };
        let options = ["-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync", "--no-locale"];
        server.program("initdb", |initdb| initdb.args(options).arg("-D").arg(server.data()))?;
        server.up()?;
        Ok(server)
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    pub(crate) fn up(&self) -> Result<(), String> {
        // Killing a server takes nothing from what the operating system was given to write.
        let options = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories={} -c fsync=off \
             -c max_connections=200",
            self.port,
            self.home.path().display(),
        );
        let log = self.home.path().join("log");
        self.program("pg_ctl", |pg_ctl| {
            pg_ctl
                .args(["start", "-w", "-D"])
                .arg(self.data())
                .arg("-l")
                .arg(log)
                .args(["-o", &options])
        })
    }

    /// As in a crash: no session is asked, nothing is written.
    pub(crate) fn crash(&self) -> Result<(), String> {
        self.program("pg_ctl", |pg_ctl| {
            pg_ctl.args(["stop", "-w", "-m", "immediate", "-D"]).arg(self.data())
        })
    }

    /// From its next start on it is in recovery, until it is promoted.
    pub(crate) fn becomes_standby(&self) {
        std::fs::write(self.data().join("standby.signal"), "").expect("a file");
    }

    pub(crate) fn promote(&self) -> Result<(), String> {
        self.program("pg_ctl", |pg_ctl| pg_ctl.args(["promote", "-w", "-D"]).arg(self.data()))
    }

    fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    fn program(
        &self,
        name: &str,
        with: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Result<(), String> {
        let words = as_postgres(&self.bin, name);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).current_dir(self.home.path());
        // The server inherits these; a pipe would stay open as long as it runs.
        let errors = tempfile::tempfile().map_err(|error| error.to_string())?;
        let copy = errors.try_clone().map_err(|error| error.to_string())?;
        with(&mut command).stdin(Stdio::null()).stdout(Stdio::null()).stderr(copy);
        let status = command.status().map_err(|error| error.to_string())?;
        if status.success() {
            return Ok(());
        }
        let mut text = String::new();
        let mut errors = errors;
        let _ = io::Seek::rewind(&mut errors);
        let _ = io::Read::read_to_string(&mut errors, &mut text);
        Err(format!("{name}: {status} {text}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.leash.stdin.take());
        let _ = self.leash.wait();
    }
}

fn words(program: &[String], arguments: &[&str], home: &Path) -> Vec<String> {
    let data = home.join("data").display().to_string();
    let arguments = arguments.iter().map(|word| (*word).to_owned());
    program.iter().cloned().chain(arguments).chain([data]).collect()
}

fn checked(output: Output) -> Result<(), String> {
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// Where `initdb` is: `None` inside means on the PATH.
fn programs() -> Option<Option<PathBuf>> {
    if Command::new("initdb").arg("--version").output().is_ok_and(|out| out.status.success()) {
        return Some(None);
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut found: Vec<_> = versions
        .filter_map(|version| Some(version.ok()?.path().join("bin")))
        .filter(|bin| bin.join("initdb").exists())
        .collect();
    found.sort();
    found.pop().map(Some)
}

/// PostgreSQL refuses to run as root.
fn as_postgres(bin: &Option<PathBuf>, program: &str) -> Vec<String> {
    let program = match bin {
        Some(bin) => bin.join(program).display().to_string(),
        None => program.to_owned(),
    };
    if is_root() {
        ["runuser", "-u", "postgres", "--", &program].map(str::to_owned).into()
    } else {
        vec![program]
    }
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout.trim_ascii() == b"0")
}
