//! PgBouncer in transaction mode is in front of the database: two processes share its few sessions,
//! and it is killed and restarted in the middle of a storm. Each fulfilment is fulfilled once.

mod support {
    pub(crate) mod deliver;
    pub(crate) mod handlers;
    pub(crate) mod postgres;
    pub(crate) mod retried;
}

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use futures::future::join_all;
use sqlx::PgPool;
use tempfile::TempDir;
use tokio::{net::TcpStream, time::sleep};
use tower_firstpromoter::{
    FulfilIn, Outcome, Verdict, Webhook,
    event::Fulfilment,
    store::{Begin, End, PostgresJournal, PostgresStore, PostgresTx, State, Store},
};

use self::support::{
    deliver::{deliver, webhook},
    handlers::{Elsewhere, InTx, time_passes},
    postgres::{Database, Proxy, claim, effects, kind, not_run, patiently, story, take_effect},
    retried::until_fulfilled,
};

const FULFILMENTS: u64 = 200;

/// As the docs of `PostgresStore` say. There are fewer sessions than the two stores have connections.
const SETTINGS: &str = "pool_mode = transaction\n\
    default_pool_size = 18\n\
    ignore_startup_parameters = extra_float_digits\n";

/// With PgBouncer before 1.21, where the handler's queries are persistent.
const RESETS: &str = "server_reset_query_always = 1\n";
const PREPARES_ANEW: &str = "?statement-cache-capacity=0";

struct PgBouncer {
    program: &'static str,
    home: TempDir,
    port: u16,
    process: Child,
}

impl PgBouncer {
    /// Starts one before the server of this database; `None` where there is none.
    async fn start(db: &Database, settings: &str) -> Option<Self> {
        let there = |path: &&str| Path::new(path).exists();
        let Some(program) = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"].into_iter().find(there)
        else {
            not_run("no pgbouncer below /usr");
            return None;
        };
        let (_, server) = db.url.split_once('@').expect("a user in the URL");
        let (server, _) = server.split_once('/').expect("a database in the URL");
        let (host, to) = server.split_once(':').unwrap_or((server, "5432"));
        let home = tempfile::tempdir().expect("a directory");
        let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let port = free.expect("a port").port();
        let config = format!(
            "[databases]\n* = host={host} port={to} user=postgres\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             user = postgres\nauth_type = any\n{SETTINGS}{settings}"
        );
        fs::write(home.path().join("ini"), config).expect("a file");
        let process = run(program, home.path());
        let this = Self { program, home, port, process };
        this.answers().await;
        Some(this)
    }

    async fn answers(&self) {
        for _ in 0..500 {
            if TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("it does not answer");
    }

    async fn restart(&mut self) {
        self.process.kill().expect("it ran");
        self.process.wait().expect("its end");
        sleep(Duration::from_millis(100)).await;
        self.process = run(self.program, self.home.path());
        self.answers().await;
    }

    fn url(&self, db: &Database, options: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{}{options}", self.port, db.name)
    }

    fn pool(&self, db: &Database, options: &str) -> PgPool {
        PgPool::connect_lazy(&self.url(db, options)).expect("a URL")
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn run(program: &str, home: &Path) -> Child {
    let mut command = Command::new(program);
    command.arg("-q").arg(home.join("ini"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("a process")
}

/// Two processes, each with connections of its own.
fn services(bouncer: &PgBouncer, db: &Database, kind: &str, direct: &PgPool) -> Vec<Webhook> {
    let service = |_| {
        let pool = bouncer.pool(db, PREPARES_ANEW);
        match kind {
            "store" => webhook(InTx, PostgresStore::new(pool)),
            _ => webhook(Elsewhere(direct.clone()), PostgresJournal::new(pool))
                .attempt_within(Duration::from_secs(1)),
        }
    };
    (0..2).map(service).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_behind_it_that_is_restarted() {
    for kind in ["store", "journal"] {
        story(|db| async move {
            let direct = db.ready(6).await;
            let Some(mut bouncer) = PgBouncer::start(&db, RESETS).await else { return };
            let services = services(&bouncer, &db, kind, &direct);
            let restarts = async {
                for _ in 0..4 {
                    sleep(Duration::from_millis(150)).await;
                    bouncer.restart().await;
                }
                std::future::pending().await
            };
            let answers = tokio::select! {
                answers = until_fulfilled(&services, 0..FULFILMENTS, 4) => answers,
                () = restarts => unreachable!(),
                () = time_passes(&direct) => unreachable!(),
            };
            println!("{kind}: {answers:?}");
            assert!(answers.contains_key("store_unavailable"), "calm: {answers:?}");
            let once: Vec<_> = (0..FULFILMENTS as i64).map(|id| (id, 1)).collect();
            assert_eq!(effects(&direct).await, once, "fulfilled once each");
            let open = PostgresStore::new(direct).open(9).await.expect("a database");
            assert!(open.is_empty(), "{open:?}");

            // Undisturbed, nothing fails.
            let answers = until_fulfilled(&services, 1_000..1_100, 2).await;
            let right = |code: &&str| ["fulfilled", "in_progress"].contains(code);
            assert!(answers.keys().all(right), "{answers:?}");
        })
        .await;
    }
}

/// The other way: a handler whose queries are not persistent. Every end, and what an operator does.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_prepared_by_name() {
    story(|db| async move {
        let direct = db.ready(2).await;
        let Some(bouncer) = PgBouncer::start(&db, "").await else { return };
        let store = PostgresStore::new(bouncer.pool(&db, PREPARES_ANEW));
        store.create_table().await.expect("a table");
        let webhook = webhook(Told, store.clone());
        for round in 0..3 {
            let told = join_all((0..40).map(|id| deliver(&webhook, id))).await;
            for (id, verdict) in (0..).zip(told) {
                assert_eq!(verdict, ENDS[id % 4], "{id} in round {round}");
            }
        }
        let open = store.open(99).await.expect("a database");
        assert_eq!(open.len(), 30);
        for record in open {
            let doubt = record.state == State::InDoubt;
            assert_eq!(store.resolve(record.id, true).await.expect("a database"), doubt);
            let forgot = store.forget(record.id).await.expect("a database");
            assert!(forgot);
            assert!(store.get(record.id).await.expect("a database").is_none());
        }
        assert_eq!(effects(&direct).await, (0..10).map(|id| (id * 4, 1)).collect::<Vec<_>>());
    })
    .await;
}

/// How a delivery ends, by its id.
const ENDS: [Verdict; 4] =
    [Verdict::Fulfilled, Verdict::Failed, Verdict::InDoubt, Verdict::Panicked];

struct Told;

impl FulfilIn<PostgresTx> for Told {
    type Error = sqlx::Error;

    async fn fulfil_in(&self, f: Fulfilment, tx: &mut PostgresTx) -> sqlx::Result<Outcome> {
        let insert = sqlx::query("INSERT INTO effects VALUES ($1)").bind(f.id.get() as i64);
        insert.persistent(false).execute(&mut **tx).await?;
        match f.id.get() % 4 {
            0 => Ok(Outcome::Fulfilled),
            1 => Err(sqlx::Error::RowNotFound),
            2 => Ok(Outcome::InDoubt("timed out".into())),
            _ => panic!("on purpose"),
        }
    }
}

async fn tx(store: &PostgresStore, id: u64) -> PostgresTx {
    match patiently(store, &claim(id)).await {
        Begin::Run { tx, .. } => tx,
        other => panic!("no transaction: {other:?}"),
    }
}

async fn fulfils(store: &PostgresStore, id: u64) {
    let mut tx = tx(store, id).await;
    take_effect(id, &mut tx).await.expect("an effect");
    assert_eq!(store.end(tx, End::Fulfilled).await.expect("a database"), State::Fulfilled);
}

/// Two processes with connections that were used, the first one through a proxy.
async fn through_a_proxy(bouncer: &PgBouncer, db: &Database) -> (Proxy, [PostgresStore; 2]) {
    let url = bouncer.url(db, PREPARES_ANEW);
    let proxy = Proxy::start(&url).await;
    let stores =
        [&proxy.url, &url].map(|url| PostgresStore::new(PgPool::connect_lazy(url).expect("a URL")));
    for (id, store) in (1..).zip(&stores) {
        fulfils(store, id).await;
    }
    (proxy, stores)
}

/// A process's connection falls silent while it begins what another process is running, perhaps in
/// the session that it had before.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_begin_does_not_end_the_attempt_of_another() {
    story(|db| async move {
        let direct = db.ready(2).await;
        let Some(bouncer) = PgBouncer::start(&db, "").await else { return };
        let (proxy, [silent, other]) = through_a_proxy(&bouncer, &db).await;
        let mut running = tx(&other, 3).await;
        take_effect(3, &mut running).await.expect("an effect");
        proxy.silence_at(Some(("SAVEPOINT", false)));
        silent.begin(&claim(3)).await.expect_err("silence");
        let ended = other.end(running, End::Fulfilled).await;
        assert_eq!(ended.expect("a database"), State::Fulfilled);
        assert_eq!(effects(&direct).await, [(1, 1), (2, 1), (3, 1)]);
    })
    .await;
}

/// Its session is another one than before, and has the lock.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_begin_lets_go_of_the_lock() {
    story(|db| async move {
        let _direct = db.ready(2).await;
        let Some(bouncer) = PgBouncer::start(&db, "").await else { return };
        let (proxy, [silent, other]) = through_a_proxy(&bouncer, &db).await;
        let _keeps_a_session = tx(&other, 9).await;
        proxy.silence_at(Some(("SAVEPOINT", true)));
        silent.begin(&claim(3)).await.expect_err("silence");
        assert_eq!(kind(&patiently(&other, &claim(3)).await), "run 1");
    })
    .await;
}
