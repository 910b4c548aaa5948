//! `RedbStore`: what it wrote is there when its file is opened again, and a file that was damaged
//! meanwhile is an error, never a second run.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use futures::FutureExt;
use redb::{Database, ReadableDatabase, TableDefinition};
use tower_firstpromoter::{
    event::Fulfilment,
    store::{Begin, Claim, End, Record, RedbStore, RedbTx, State, Store},
};

#[track_caller]
fn claim(id: u64, cust_id: &str) -> Claim {
    let body = format!(
        r#"{{"event":{{"type":"fulfilment_pending"}},"data":{{"id":{id},"amount":"2.50","unit":"a \"b\"","promoter":{{"id":7,"cust_id":"{cust_id}"}}}}}}"#
    );
    Claim::new(&Fulfilment::decode(body).expect("a fulfilment"))
}

async fn run(store: &RedbStore, id: u64) -> RedbTx {
    match store.begin(&claim(id, "ada")).await {
        Ok(Begin::Run { tx, .. }) => tx,
        answer => panic!("{id}: {answer:?}"),
    }
}

fn why() -> String {
    "no \"user\"\n\u{1f600}".to_owned()
}

/// A file of five fulfilments, from 1: fulfilled, pending, failed, in doubt, cut off.
async fn five(path: &Path) -> Vec<Record> {
    let store = RedbStore::open(path).expect("opens");
    let ends = [End::Fulfilled, End::Pending, End::Failed(why()), End::InDoubt(why())];
    for (id, end) in (1..).zip(ends) {
        let tx = run(&store, id).await;
        store.end(tx, end).await.expect("written");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    drop(run(&store, 5).await);
    all(&store).await
}

async fn all(store: &RedbStore) -> Vec<Record> {
    let mut records = Vec::new();
    for id in 1..=5 {
        records.push(store.get(id.into()).await.expect("readable").expect("there"));
    }
    records
}

#[tokio::test]
async fn what_is_written_is_read_after_reopening() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("fulfilments.redb");
    let written = five(&path).await;
    let store = RedbStore::open(&path).expect("opens again");
    assert_eq!(all(&store).await, written);

    let states: Vec<_> = written.iter().map(|record| record.state).collect();
    let in_doubt = State::InDoubt;
    assert_eq!(states, [State::Fulfilled, State::Pending, State::Failed, in_doubt, in_doubt]);
    assert_eq!(written[2].reason, Some(why()));
    assert_eq!(written[2].cust_id.as_deref(), Some("ada"));

    // The latest change first, and of those the first.
    let open = store.open(3).await.expect("readable");
    assert_eq!(open, [written[4].clone(), written[3].clone(), written[2].clone()]);
    assert_eq!(store.open(usize::MAX).await.expect("readable").len(), 4);

    // A doubt keeps its reason when the handler is not asked.
    let Ok(Begin::InDoubt { tx, .. }) = store.begin(&claim(5, "ada")).await else { panic!() };
    store.end(tx, End::NotRun("it cannot tell".to_owned())).await.expect("written");
    let reason = store.get(5.into()).await.expect("readable").expect("there").reason;
    assert_eq!(reason.as_deref(), Some("the attempt was cut off"));

    for (id, expected) in [(1, None), (2, Some(2)), (3, Some(2)), (4, None), (5, None)] {
        match store.begin(&claim(id, "ada")).await.expect("readable") {
            Begin::Fulfilled => assert_eq!(id, 1),
            Begin::Run { attempt, .. } => assert_eq!(Some(attempt), expected, "{id}"),
            Begin::InDoubt { attempt: 2, .. } => assert!(id > 3, "{id}"),
            answer => panic!("{id}: {answer:?}"),
        }
    }
}

#[tokio::test]
async fn verbs_of_an_operator_are_durable() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("fulfilments.redb");
    five(&path).await;
    let store = RedbStore::open(&path).expect("opens");
    assert!(store.resolve(4.into(), true).await.expect("written"));
    assert!(store.resolve(5.into(), false).await.expect("written"));
    assert!(store.forget(1.into()).await.expect("written"));
    drop(store);

    let store = RedbStore::open(&path).expect("opens again");
    assert!(matches!(store.begin(&claim(4, "ada")).await, Ok(Begin::Fulfilled)));
    assert!(matches!(store.begin(&claim(5, "ada")).await, Ok(Begin::Run { attempt: 2, .. })));
    assert!(matches!(store.begin(&claim(1, "ada")).await, Ok(Begin::Run { attempt: 1, .. })));
}

#[tokio::test]
async fn namespaces_are_apart_after_reopening() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("fulfilments.redb");
    let open =
        |account: &str| RedbStore::open(&path).expect("opens").namespace(account).expect("valid");
    for account in ["", "ours", "partners"] {
        let store = open(account);
        let tx = run(&store, 1).await;
        store.end(tx, End::Failed(account.to_owned())).await.expect("written");
    }
    for account in ["", "ours", "partners"] {
        let listed = open(account).open(10).await.expect("readable");
        let reasons: Vec<_> = listed.iter().map(|record| record.reason.as_deref()).collect();
        assert_eq!(reasons, [Some(account)]);
    }
    let store = RedbStore::open(&path).expect("opens");
    for account in ["a\n".to_owned(), "a".repeat(201)] {
        let error = store.clone().namespace(account).expect_err("invalid").to_string();
        assert_eq!(error, "a namespace has at most 200 bytes and no control characters");
    }
}

/// The process that holds the file, which is this binary once more.
#[test]
fn hold() {
    let Ok(path) = env::var("REDB_HOLD") else { return };
    let _store = RedbStore::open(path).expect("opens");
    println!("it is open");
    // The one who started it holds the other end.
    let _ = std::io::stdin().read(&mut [0]);
}

#[test]
fn a_file_in_use_by_another_process_is_waited_for_and_then_an_error() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("fulfilments.redb");
    let mut other = Command::new(env::current_exe().expect("a path"))
        .args(["--exact", "hold", "--nocapture"])
        .env("REDB_HOLD", &path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut lines = BufReader::new(other.stdout.take().expect("piped")).lines();
    assert!(lines.by_ref().map_while(Result::ok).any(|line| line.contains("it is open")));

    let error = RedbStore::open(&path).expect_err("in use");
    let path_is = path.display();
    assert_eq!(
        error.to_string(),
        format!("cannot open `{path_is}`: Database already open. Cannot acquire lock.")
    );

    // A rolling deploy: the old process ends while the new one waits.
    let leaves = thread::spawn(move || {
        thread::sleep(Duration::from_millis(100));
        drop(other.stdin.take());
        lines.for_each(drop);
        other.wait().expect("ends")
    });
    RedbStore::open(&path).expect("opens once the other has left");
    assert!(leaves.join().expect("no panic").success());
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("whole").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_new_file_is_logged_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("fulfilments.redb");
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, || {
        for _ in 0..2 {
            RedbStore::open(&path).expect("opens");
        }
    });
    let log = String::from_utf8(log.0.lock().expect("whole").clone()).expect("text");
    let lines: Vec<_> = log.lines().filter(|line| line.contains("tower_firstpromoter")).collect();
    let expected = format!("`{}` is new: it has no records", path.display());
    assert!(
        lines.len() == 1 && lines[0].contains(" INFO ") && lines[0].contains(&expected),
        "{log}"
    );
}

/// Every bit of the header, and bits of every page that is written, one at a time.
#[test]
fn a_flipped_bit_is_an_error_or_harmless() {
    const FLIPS: usize = 4_000;
    const HEADER_BITS: usize = 320 * 8;

    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("fulfilments.redb");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let written = runtime.block_on(five(&path));
    let file = fs::read(&path).expect("readable");
    let in_pages = (HEADER_BITS / 8..file.len()).filter(|at| file[*at] != 0);
    let in_pages: Vec<_> = in_pages.map(|at| at * 8 + at % 8).collect();
    let step = in_pages.len() / (FLIPS - HEADER_BITS);
    let flips: Vec<_> = (0..HEADER_BITS).chain(in_pages.into_iter().step_by(step)).collect();
    assert!(flips.len() >= FLIPS, "{}", flips.len());

    let check = |flips: &[usize]| {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let path = dir.path().join(format!("{}", flips[0]));
        let mut ends = BTreeMap::new();
        for &bit in flips {
            let mut flipped = file.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, flipped).expect("writable");
            let end = match RedbStore::open(&path) {
                Err(_) => "an error",
                Ok(store) => {
                    assert_eq!(
                        runtime.block_on(all(&store)),
                        written,
                        "bit {bit} is another record"
                    );
                    "harmless"
                }
            };
            *ends.entry(end).or_insert(0) += 1;
        }
        ends
    };
    let mut ends = BTreeMap::new();
    thread::scope(|scope| {
        let check = &check;
        let parts: Vec<_> = flips.chunks(flips.len().div_ceil(4)).collect();
        let threads: Vec<_> =
            parts.into_iter().map(|part| scope.spawn(move || check(part))).collect();
        for part in threads {
            for (end, times) in part.join().expect("no panic, no other record") {
                *ends.entry(end).or_insert(0) += times;
            }
        }
    });
    println!("{} flips: {ends:?}", flips.len());
    assert!(ends.values().all(|times| *times > 100) && ends.len() == 2, "{ends:?}");
}

/// A file that is shorter than it was written is an error, whatever is left of it.
#[tokio::test]
async fn a_truncated_file_is_an_error() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("fulfilments.redb");
    five(&path).await;
    let file = fs::read(&path).expect("readable");
    for length in (0..file.len()).step_by(1_024).chain([1, 9, 64, 319, 320, file.len() - 1]) {
        fs::write(&path, &file[..length]).expect("writable");
        let error = RedbStore::open(&path).expect_err("truncated").to_string();
        assert!(error.starts_with(&format!("cannot open `{}`: ", path.display())), "{error}");
    }
}

#[test]
fn what_is_not_the_file_of_a_store_is_an_error() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name);
    fs::write(path("empty"), "").expect("writable");
    fs::write(path("foreign"), "something else, and longer than nothing").expect("writable");
    fs::write(path("sqlite"), [b"SQLite format 3\0", [0; 16].as_slice()].concat())
        .expect("writable");
    fs::create_dir(path("directory")).expect("writable");
    let database = Database::create(path("another application's")).expect("opens");
    let write = database.begin_write().expect("writable");
    write.open_table(TableDefinition::<u64, u64>::new("numbers")).expect("opens");
    write.commit().expect("commits");
    drop(database);

    let foreign = "Not a redb database: magic number mismatch";
    for (name, expected) in [
        ("empty", "Database file is empty"),
        ("foreign", foreign),
        ("sqlite", foreign),
        ("directory", "Is a directory"),
        ("another application's", "Table 'fulfilments' does not exist"),
        ("foreign/fulfilments.redb", "Not a directory"),
        ("missing/fulfilments.redb", "No such file or directory"),
    ] {
        let path = path(name);
        let error = RedbStore::open(&path).expect_err(name).to_string();
        assert!(error.starts_with(&format!("cannot open `{}`: ", path.display())), "{error}");
        assert!(error.contains(expected), "{error}");
    }
}

/// Root may read every file, so the file is opened by another user's process, which is this binary
/// once more. A disk that cannot be read is in `tests/redb_power_loss.rs`.
#[cfg(unix)]
#[test]
fn a_file_that_may_not_be_read_is_an_error() {
    use std::os::unix::{fs::PermissionsExt, process::CommandExt};

    let refused = |path: &Path| {
        let error = RedbStore::open(path).expect_err("may not be read").to_string();
        let expected = format!("cannot open `{}`: I/O error: Permission denied", path.display());
        assert!(error.starts_with(&expected), "{error}");
    };
    if let Some(path) = env::var_os("REDB_UNREADABLE") {
        return refused(Path::new(&path));
    }
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("fulfilments.redb");
    drop(RedbStore::open(&path).expect("opens"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).expect("ours");
    if fs::File::open(&path).is_err() {
        return refused(&path);
    }
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("ours");
    let binary = dir.path().join("test");
    fs::copy(env::current_exe().expect("a path"), &binary).expect("copied");
    let other = Command::new(binary)
        .args(["--exact", "a_file_that_may_not_be_read_is_an_error"])
        .env("REDB_UNREADABLE", &path)
        .uid(65_534)
        .output()
        .expect("starts");
    assert!(other.status.success(), "{}", String::from_utf8_lossy(&other.stdout));
}

type Row<'a> = (&'a str, &'a str, u64, Option<&'a str>, &'a str, u32, Option<&'a str>, u64, u64);

/// `begin` must not take such a record for none, and so run again what is fulfilled.
#[tokio::test]
async fn a_record_that_cannot_be_read_is_an_error() {
    const TABLE: TableDefinition<'static, (&str, u64), Row<'static>> =
        TableDefinition::new("fulfilments");

    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("fulfilments.redb");
    five(&path).await;
    let database = Database::open(&path).expect("opens");
    let view = database.begin_read().expect("readable");
    let fulfilled = view.open_table(TABLE).expect("there").get(("", 1)).expect("readable");
    let (unit, amount, promoter, cust_id, state, ..) = fulfilled.as_ref().expect("there").value();
    assert_eq!((unit, amount, promoter), ("a \"b\"", "2.50", 7));
    assert_eq!((cust_id, state), (Some("ada"), "fulfilled"));
    drop((fulfilled, view));
    let write = database.begin_write().expect("writable");
    let mut table = write.open_table(TABLE).expect("there");
    table.insert(("", 1), ("a", "1", 7, None, "fulfiled", 1, None, 0, 0)).expect("inserts");
    table.insert(("", 2), ("a", "one", 7, None, "fulfilled", 1, None, 0, 0)).expect("inserts");
    drop(table);
    write.commit().expect("commits");
    drop(database);

    let store = RedbStore::open(&path).expect("opens");
    for (id, problem) in [(1, "invalid state"), (2, "invalid amount")] {
        let expected = format!("the record of fulfilment {id} is not readable: {problem}");
        let error = store.begin(&claim(id, "ada")).await.expect_err("not readable");
        assert_eq!(error.to_string(), expected);
        assert_eq!(store.forget(id.into()).await.expect_err("kept").to_string(), expected);
    }
}

/// What was begun on a runtime that ends is written, and reading on it is an error.
#[test]
fn a_runtime_that_ends_leaves_nobody_waiting() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = RedbStore::open(dir.path().join("fulfilments.redb")).expect("opens");
    let ended = tokio::runtime::Runtime::new().expect("a runtime");
    let tx = ended.block_on(run(&store, 1));
    let handle = ended.handle().clone();
    ended.shutdown_background();
    let read = {
        let _inside = handle.enter();
        store.get(1.into()).now_or_never().expect("nobody waits")
    };
    let error = read.expect_err("not read").to_string();
    assert_eq!(error, "the tokio runtime ended before the file was read");

    let ours = tokio::runtime::Runtime::new().expect("a runtime");
    assert_eq!(ours.block_on(store.end(tx, End::Fulfilled)).expect("written"), State::Fulfilled);
}
