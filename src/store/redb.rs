use std::{
    collections::HashSet,
    error::Error,
    fmt, mem,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use futures::channel::oneshot;
use redb::{
    Builder, Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, TableDefinition,
};
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

use super::{Begin, Claim, End, Record, State, Store};
use crate::event::{FulfilmentId, PromoterId, Unit};

/// How long the file may stay in use by the process that this one replaces.
const PATIENCE: Duration = Duration::from_secs(5);

/// Ids and a few words each: what is asked for again is the last few hundred of them.
const CACHE_BYTES: usize = 8 * 1024 * 1024;

/// By namespace and `data.id`.
const REWARDS: TableDefinition<'static, (&'static str, u64), &'static [u8]> =
    TableDefinition::new("rewards");

/// Remembers in one file, for one process, without a server. The store to start with.
///
/// The file must outlive the process: **on a disk that is thrown away with it (Heroku, Cloud Run, a
/// pod without a volume) this is [`MemoryStore`](super::MemoryStore) in disguise.** It must be on a
/// local disk, because locks on NFS and other network file systems do not hold. And it is for one
/// process: several machines share a `PostgresStore`.
///
/// Before the handler is called, the intention to grant is synced to the disk, and its end before
/// the `200` leaves. If the process is killed in between, nobody knows whether the reward was
/// granted: it is in doubt, and [`Fulfil::was_granted`](crate::Fulfil::was_granted) is asked when it
/// is delivered again.
///
/// ```
/// use tower_firstpromoter::{Access, Outcome, Webhook, event::Fulfilment, fulfil_fn, once::RedbStore};
/// # let handler = fulfil_fn(async |_: Fulfilment| Ok::<_, std::convert::Infallible>(Outcome::Fulfilled));
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("fulfilments.redb");
///
/// let webhook = Webhook::new(handler, Access::query("key", "at least sixteen bytes"))
///     .once(RedbStore::open(path)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Its verbs need a tokio runtime. Reading and writing is done on its threads for blocking work, one
/// at a time for writing; what waits meanwhile is written, and synced, together.
///
/// # For the operator
///
/// **Doubts.** A handler whose `was_granted` cannot tell leaves them to a person. As the file is
/// open in one process only, that process has to offer the means, say on an admin page:
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tower_firstpromoter::once::{RedbStore, Store};
/// # let dir = tempfile::tempdir()?;
/// # let store = RedbStore::open(dir.path().join("fulfilments.redb"))?;
///
/// for doubt in store.in_doubt().await? {
///     println!("{}: {} {}, {:?}", doubt.id, doubt.amount, doubt.unit, doubt.changed);
///     // … looked up: it was granted. (`false`: it was not, and may be when it is sent again.)
///     store.settle(doubt.id, true).await?;
/// }
/// # Ok(()) }
/// ```
///
/// **Errors.** After the first write that fails (a full disk, a bad one), nothing more is written
/// until the file is opened again, since what is on the disk is no longer certain. Every reward that
/// is still to be granted is then answered with `503`. Restart the process once the cause is gone.
///
/// **Backups.** Copy the file while the process is stopped, or take a snapshot of the whole volume.
/// A restored backup has forgotten what was granted since, and those rewards would be granted
/// again if they were sent again.
///
/// **Size.** Some 350 bytes a reward; nothing is ever thrown away. After a crash the file is
/// checked when it is opened, which takes longer the larger it is.
#[derive(Clone)]
pub struct RedbStore {
    file: Arc<File>,
    namespace: Arc<str>,
}

impl RedbStore {
    /// Opens the file, or makes it.
    ///
    /// In a rolling deploy the new process starts before the old one has ended, so this waits up to
    /// 5 seconds for a file that is in use. It blocks the thread: call it before you serve.
    ///
    /// # Errors
    ///
    /// If the file is still in use then, by another process or another `RedbStore` of this one; or
    /// if it cannot be read, is no redb file, or cannot be written.
    ///
    /// ```
    /// # use tower_firstpromoter::once::RedbStore;
    /// let Err(error) = RedbStore::open("/no/such/directory/fulfilments.redb") else { panic!() };
    /// assert!(error.to_string().starts_with("cannot open `/no/such/directory/fulfilments.redb`: "));
    /// ```
    pub fn open(path: impl AsRef<Path>) -> Result<Self, RedbError> {
        Self::open_within(path.as_ref(), PATIENCE)
    }

    fn open_within(path: &Path, patience: Duration) -> Result<Self, RedbError> {
        let failed = |source: redb::Error| {
            RedbError(Problem::Open { path: path.to_owned(), source: Arc::new(source) })
        };
        let in_use = || RedbError(Problem::InUse { path: path.to_owned(), patience });

        let start = Instant::now();
        let db = loop {
            match Builder::new().set_cache_size(CACHE_BYTES).create(path) {
                Ok(db) => break db,
                Err(DatabaseError::DatabaseAlreadyOpen) if start.elapsed() >= patience => {
                    return Err(in_use());
                }
                Err(DatabaseError::DatabaseAlreadyOpen) => {
                    thread::sleep(Duration::from_millis(20));
                }
                Err(error) => return Err(failed(error.into())),
            }
        };
        prepare(&db).map_err(failed)?;
        sync_directory(path).map_err(|error| failed(error.into()))?;
        Ok(Self::of(db))
    }

    fn of(db: Database) -> Self {
        let file = File { db, held: Mutex::default(), queue: Mutex::default() };
        Self { file: Arc::new(file), namespace: "".into() }
    }

    /// Keeps the rewards of several FirstPromoter accounts apart, whose ids may be the same. Empty
    /// unless told otherwise.
    ///
    /// ```
    /// # use tower_firstpromoter::once::RedbStore;
    /// # let dir = tempfile::tempdir()?;
    /// let store = RedbStore::open(dir.path().join("fulfilments.redb"))?;
    /// let (ours, partners) = (store.clone().namespace("ours"), store.namespace("partners"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn namespace(mut self, account: impl Into<String>) -> Self {
        self.namespace = account.into().into();
        self
    }

    fn key(&self, id: FulfilmentId) -> Key {
        (Arc::clone(&self.namespace), id)
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&File) -> Result<T, RedbError> + Send + 'static,
    ) -> Result<T, RedbError> {
        let file = Arc::clone(&self.file);
        spawn_blocking(move || work(&file)).await.unwrap_or(Err(RedbError(Problem::Stopped)))
    }
}

/// So that a full or read-only disk shows at the start, and not at the first reward.
fn prepare(db: &Database) -> Result<(), redb::Error> {
    let write = db.begin_write()?;
    write.open_table(REWARDS)?;
    Ok(write.commit()?)
}

/// A new file is only there for good when its directory is synced, too.
#[cfg(unix)]
fn sync_directory(path: &Path) -> std::io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    std::fs::File::open(directory)?.sync_all()
}

#[cfg(not(unix))]
fn sync_directory(_: &Path) -> std::io::Result<()> {
    Ok(())
}

impl Store for RedbStore {
    type Tx = RedbTx;
    type Error = RedbError;

    async fn begin(&self, claim: &Claim) -> Result<Begin<RedbTx>, RedbError> {
        // First of all the duplicates: they write nothing, and never hear `Busy` from each other.
        let key = self.key(claim.id());
        let known = self.read(move |file| file.get(&key)).await?;
        if known.is_some_and(|record| record.state == State::Granted) {
            return Ok(Begin::Granted);
        }
        let Some(held) = Held::take(&self.file, self.key(claim.id())) else {
            return Ok(Begin::Busy);
        };
        let now = now();
        let fresh = Record::of(claim, now);
        let started = move |before: Option<Record>| match before {
            // By whoever held it a moment ago.
            Some(Record { state: State::Granted, .. }) => Write::Nothing,
            before => {
                let record = before.unwrap_or(fresh);
                let attempts = record.attempts.saturating_add(1);
                Write::Put(Record { state: State::Started, attempts, changed: now, ..record })
            }
        };
        let (before, after) = self.file.write(self.key(claim.id()), started).await?;
        let Some(record) = after else { return Ok(Begin::Granted) };
        let attempt = record.attempts;
        let tx = RedbTx { held, record };
        // Nobody holds it, so whoever began it was cut off: in this process, or with another.
        let in_doubt = before.is_some_and(|before| before.state == State::Started);
        Ok(if in_doubt { Begin::InDoubt { tx, attempt } } else { Begin::Run { tx, attempt } })
    }

    async fn end(&self, tx: RedbTx, end: End) -> Result<(), RedbError> {
        let RedbTx { held, mut record } = tx;
        record.changed = now();
        match end {
            End::Granted => record.state = State::Granted,
            End::Pending => record.state = State::Pending,
            End::Failed(reason) => {
                record.state = State::Failed;
                record.last_error = Some(reason);
            }
        }
        held.file.write(held.key.clone(), |_| Write::Put(record)).await?;
        // `held` drops here, in whichever way this ended: after what is written, never before.
        Ok(())
    }

    async fn forget(&self, id: FulfilmentId) -> Result<bool, RedbError> {
        let Some(held) = Held::take(&self.file, self.key(id)) else { return Ok(false) };
        let (before, _) = self.file.write(held.key.clone(), |_| Write::Remove).await?;
        Ok(before.is_some())
    }

    async fn in_doubt(&self) -> Result<Vec<Record>, RedbError> {
        let namespace = Arc::clone(&self.namespace);
        self.read(move |file| file.in_doubt(&namespace)).await
    }

    async fn settle(&self, id: FulfilmentId, granted: bool) -> Result<bool, RedbError> {
        let Some(held) = Held::take(&self.file, self.key(id)) else { return Ok(false) };
        let settled = move |before: Option<Record>| match before {
            Some(record) if record.state == State::Started => {
                let state = if granted { State::Granted } else { State::New };
                Write::Put(Record { state, changed: now(), ..record })
            }
            _ => Write::Nothing,
        };
        let (_, after) = self.file.write(held.key.clone(), settled).await?;
        Ok(after.is_some())
    }
}

impl fmt::Debug for RedbStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbStore").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

/// The right to grant one reward, of a [`RedbStore`]. See [`Store`] for an example.
///
/// Nothing can be written through it: the grant is made elsewhere.
pub struct RedbTx {
    held: Held,
    record: Record,
}

impl fmt::Debug for RedbTx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedbTx").field(&self.record.id).finish()
    }
}

type Key = (Arc<str>, FulfilmentId);

/// The open file, and who is at work in it. Only one process has it open, so that what is `started`
/// in the file and not held here was cut off.
struct File {
    db: Database,
    held: Mutex<HashSet<Key>>,
    queue: Mutex<Queue>,
}

/// A reward that is being granted, settled or forgotten by one, until this drops: the only place
/// where it is let go.
struct Held {
    file: Arc<File>,
    key: Key,
}

impl Held {
    fn take(file: &Arc<File>, key: Key) -> Option<Self> {
        let taken = lock(&file.held).insert(key.clone());
        taken.then(|| Self { file: Arc::clone(file), key })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        lock(&self.file.held).remove(&self.key);
    }
}

/// Nothing panics while one of these is held, so a poisoned lock is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl File {
    fn get(&self, (namespace, id): &Key) -> Result<Option<Record>, RedbError> {
        let view = || -> Result<_, redb::Error> { Ok(self.db.begin_read()?.open_table(REWARDS)?) };
        // It must outlive the bytes: redb's own checks in debug builds stop the writer otherwise.
        let table = view().map_err(RedbError::file)?;
        let found = table.get((&**namespace, id.get())).map_err(RedbError::file)?;
        found.map(|bytes| decode(*id, bytes.value())).transpose()
    }

    fn in_doubt(&self, namespace: &Arc<str>) -> Result<Vec<Record>, RedbError> {
        let key_range = (&**namespace, 0)..=(&**namespace, u64::MAX);
        let view = || -> Result<_, redb::Error> {
            // At one moment: nobody begins or ends between the look at who holds and at the file.
            let held = lock(&self.held);
            let view = self.db.begin_read()?;
            let held = held.clone();
            Ok((held, view.open_table(REWARDS)?.range(key_range)?))
        };
        let (held, all) = view().map_err(RedbError::file)?;
        let mut doubted = Vec::new();
        for found in all {
            let (key, bytes) = found.map_err(RedbError::file)?;
            let id = FulfilmentId::from(key.value().1);
            let record = decode(id, bytes.value())?;
            if record.state == State::Started && !held.contains(&(Arc::clone(namespace), id)) {
                doubted.push(record);
            }
        }
        Ok(doubted)
    }

    /// Changes one record, durably, and says what it was before and what was put in its place.
    async fn write(
        self: &Arc<Self>,
        key: Key,
        change: impl FnOnce(Option<Record>) -> Write + Send + 'static,
    ) -> Result<(Option<Record>, Option<Record>), RedbError> {
        let (tell, told) = oneshot::channel();
        let nobody_writes = {
            let mut queue = lock(&self.queue);
            queue.waiting.push(Waiting { key, change: Box::new(change), tell });
            !mem::replace(&mut queue.writing, true)
        };
        if nobody_writes {
            let writer = Writer(Some(Arc::clone(self)));
            // Nobody waits for it: it tells each by itself.
            drop(spawn_blocking(|| writer.run()));
        }
        told.await.unwrap_or(Err(RedbError(Problem::Stopped)))
    }

    fn commit(&self, batch: Vec<Waiting>) {
        let (tells, changes): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|Waiting { key, change, tell }| (tell, (key, change))).unzip();
        match self.apply(changes).map_err(RedbError::file) {
            Ok(written) => {
                for (tell, written) in tells.into_iter().zip(written) {
                    let _ = tell.send(written);
                }
            }
            Err(error) => {
                for tell in tells {
                    let _ = tell.send(Err(error.clone()));
                }
            }
        }
    }

    fn apply(&self, changes: Vec<(Key, Change)>) -> Result<Vec<Written>, redb::Error> {
        let mut transaction = self.db.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        let mut table = transaction.open_table(REWARDS)?;
        let mut written = Vec::with_capacity(changes.len());
        for ((namespace, id), change) in changes {
            let key = (&*namespace, id.get());
            let before = table.get(key)?.map(|bytes| decode(id, bytes.value())).transpose();
            // What cannot be read is not written over; it is an error for the one who asked.
            written.push(match before {
                Err(error) => Err(error),
                Ok(before) => match change(before.clone()) {
                    Write::Nothing => Ok((before, None)),
                    Write::Remove => {
                        table.remove(key)?;
                        Ok((before, None))
                    }
                    Write::Put(record) => {
                        table.insert(key, &*encode(&record))?;
                        Ok((before, Some(record)))
                    }
                },
            });
        }
        drop(table);
        transaction.commit()?;
        Ok(written)
    }
}

/// What is to be written. At most one writes, all there is at a time.
#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    writing: bool,
}

struct Waiting {
    key: Key,
    change: Change,
    tell: oneshot::Sender<Written>,
}

type Change = Box<dyn FnOnce(Option<Record>) -> Write + Send>;

type Written = Result<(Option<Record>, Option<Record>), RedbError>;

enum Write {
    Nothing,
    Put(Record),
    Remove,
}

/// The one who writes. `None` once it has left with nobody waiting.
struct Writer(Option<Arc<File>>);

impl Writer {
    fn run(mut self) {
        while let Some(file) = &self.0 {
            let mut queue = lock(&file.queue);
            if queue.waiting.is_empty() {
                queue.writing = false;
                drop(queue);
                self.0 = None;
            } else {
                let batch = mem::take(&mut queue.waiting);
                drop(queue);
                file.commit(batch);
            }
        }
    }
}

/// Cut off, by a panic or before it ever ran: those who wait must hear of it, and the next may write.
impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(file) = &self.0 {
            let mut queue = lock(&file.queue);
            queue.writing = false;
            let unwritten = mem::take(&mut queue.waiting);
            drop(queue);
            drop(unwritten);
        }
    }
}

/// A record as it stands in the file, in JSON. The key has the id.
#[derive(Serialize, Deserialize)]
struct Stored {
    /// Of this layout. An older version of this crate must not take a newer one's for its own.
    v: u32,
    unit: String,
    amount: String,
    promoter: u64,
    state: String,
    attempts: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    /// In milliseconds since 1970, as is the next.
    first_seen: u64,
    changed: u64,
}

const LAYOUT: u32 = 1;

fn encode(record: &Record) -> Vec<u8> {
    let stored = Stored {
        v: LAYOUT,
        unit: record.unit.as_str().to_owned(),
        amount: record.amount.to_string(),
        promoter: record.promoter.get(),
        state: record.state.as_str().to_owned(),
        attempts: record.attempts,
        last_error: record.last_error.clone(),
        first_seen: millis(record.first_seen),
        changed: millis(record.changed),
    };
    // Texts and numbers under fixed names: there is nothing in it that could not be written.
    serde_json::to_vec(&stored).unwrap_or_default()
}

fn decode(id: FulfilmentId, bytes: &[u8]) -> Result<Record, RedbError> {
    #[derive(Deserialize)]
    struct Layout {
        v: u32,
    }

    let unreadable = |problem: String| RedbError(Problem::Unreadable { id, problem });
    let json = |error: serde_json::Error| unreadable(error.to_string());
    let Layout { v } = serde_json::from_slice(bytes).map_err(json)?;
    if v != LAYOUT {
        return Err(unreadable(format!("it has layout {v}, and this version knows {LAYOUT}")));
    }
    let stored: Stored = serde_json::from_slice(bytes).map_err(json)?;
    let states = [State::New, State::Started, State::Granted, State::Pending, State::Failed];
    let state = states.into_iter().find(|state| state.as_str() == stored.state);
    Ok(Record {
        id,
        unit: Unit::from(&*stored.unit),
        amount: stored.amount.parse().map_err(|_| unreadable("its amount is none".to_owned()))?,
        promoter: PromoterId::from(stored.promoter),
        state: state.ok_or_else(|| unreadable("its state is none".to_owned()))?,
        attempts: stored.attempts,
        last_error: stored.last_error,
        first_seen: UNIX_EPOCH + Duration::from_millis(stored.first_seen),
        changed: UNIX_EPOCH + Duration::from_millis(stored.changed),
    })
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// As exact as it is kept, so that a record is the same before and after a restart.
fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(millis(SystemTime::now()))
}

/// What can go wrong in a [`RedbStore`].
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tower_firstpromoter::once::RedbStore;
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("fulfilments.redb");
/// std::fs::write(&path, "something else, and longer than nothing")?;
///
/// let Err(error) = RedbStore::open(&path) else { panic!() };
/// println!("{error}");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct RedbError(Problem);

#[derive(Clone, Debug)]
enum Problem {
    Open { path: PathBuf, source: Arc<redb::Error> },
    InUse { path: PathBuf, patience: Duration },
    File(Arc<redb::Error>),
    Unreadable { id: FulfilmentId, problem: String },
    Stopped,
}

impl RedbError {
    // No `From`: redb's own types stay out of our signatures.
    fn file(error: impl Into<redb::Error>) -> Self {
        Self(Problem::File(Arc::new(error.into())))
    }
}

impl fmt::Display for RedbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Problem::Open { path, source } => {
                write!(f, "cannot open `{}`: {source}", path.display())
            }
            Problem::InUse { path, patience } => {
                write!(f, "`{}` is in use, and was for {patience:?}: ", path.display())?;
                f.write_str("only one process may have it open, and only once")
            }
            Problem::File(error) => match **error {
                redb::Error::PreviousIo => f.write_str(
                    "an earlier read or write of the file failed, so that nothing more is written \
                     until it is opened again: restart the process",
                ),
                ref error => write!(f, "cannot read or write the file: {error}"),
            },
            Problem::Unreadable { id, problem } => {
                write!(f, "the record of reward {id} is not readable: {problem}")
            }
            Problem::Stopped => f.write_str(
                "cut off, by a panic or the runtime's end, before it was known to be written",
            ),
        }
    }
}

/// As `Display`: it is what a `main` that returns it prints.
impl fmt::Debug for RedbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for RedbError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.0 {
            Problem::Open { source, .. } | Problem::File(source) => Some(&**source),
            Problem::InUse { .. } | Problem::Unreadable { .. } | Problem::Stopped => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Fulfilment;

    #[track_caller]
    fn claim(id: u64) -> Claim {
        let body = format!(
            r#"{{"event":{{"type":"fulfilment_pending"}},"data":{{"id":{id},"amount":"2.50","unit":"a \"b\"","promoter":{{"id":7}}}}}}"#
        );
        Claim::from(&Fulfilment::decode(body).expect("a fulfilment"))
    }

    #[test]
    fn a_file_in_use_is_waited_for_and_then_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("fulfilments.redb");
        let old = RedbStore::open(&path).expect("opens");

        let error = RedbStore::open_within(&path, Duration::from_millis(50)).expect_err("in use");
        assert_eq!(
            error.to_string(),
            format!(
                "`{}` is in use, and was for 50ms: only one process may have it open, and only once",
                path.display()
            )
        );

        // A rolling deploy: the old process ends while the new one waits.
        let leaves = thread::spawn(move || {
            thread::sleep(Duration::from_millis(100));
            drop(old);
        });
        RedbStore::open(&path).expect("opens once the other has left");
        leaves.join().expect("no panic");
    }

    #[tokio::test]
    async fn what_is_written_is_read_back_the_same() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("fulfilments.redb");
        let store = RedbStore::open(&path).expect("opens");
        let Ok(Begin::Run { tx, .. }) = store.begin(&claim(u64::MAX)).await else { panic!() };
        store.end(tx, End::Failed("no \"user\"\n\u{1f600}".to_owned())).await.expect("written");
        let Ok(Begin::Run { tx, attempt: 2 }) = store.begin(&claim(u64::MAX)).await else {
            panic!()
        };
        let written = tx.record.clone();
        assert_eq!(written.last_error.as_deref(), Some("no \"user\"\n\u{1f600}"));
        drop((tx, store));

        let store = RedbStore::open(&path).expect("opens again");
        assert_eq!(store.in_doubt().await.expect("readable"), [written]);
    }

    /// `begin` must not take such a record for none, and so grant what may be granted.
    #[tokio::test]
    async fn a_record_that_cannot_be_read_is_an_error() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = RedbStore::open(dir.path().join("fulfilments.redb")).expect("opens");
        let good = r#"{"v":1,"unit":"cash","amount":"3","promoter":7,"state":"granted","attempts":1,"first_seen":0,"changed":0}"#;
        for (bytes, expected) in [
            (good.to_owned(), None),
            (
                good.replace(r#""v":1"#, r#""v":2"#),
                Some("it has layout 2, and this version knows 1"),
            ),
            (good.replace("granted", "grunted"), Some("its state is none")),
            (good.replace(r#""3""#, r#""x""#), Some("its amount is none")),
            (String::new(), Some("EOF while parsing a value at line 1 column 0")),
        ] {
            let write = store.file.db.begin_write().expect("writable");
            let mut table = write.open_table(REWARDS).expect("there");
            table.insert(("", 5), bytes.as_bytes()).expect("inserts");
            drop(table);
            write.commit().expect("commits");

            let found = store.begin(&claim(5)).await.map_err(|error| error.to_string());
            let expected = expected
                .map(|problem| format!("the record of reward 5 is not readable: {problem}"));
            assert_eq!(found.err(), expected, "{bytes}");
        }
    }

    /// As after a panic in there, or a runtime that stopped before it began.
    #[tokio::test]
    async fn a_writer_that_is_cut_off_leaves_nobody_waiting() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = RedbStore::open(dir.path().join("fulfilments.redb")).expect("opens");
        lock(&store.file.queue).writing = true;
        let cut_off = Writer(Some(Arc::clone(&store.file)));
        let waits = tokio::spawn({
            let store = store.clone();
            async move { store.begin(&claim(1)).await.map(|_| ()).map_err(|error| error.to_string()) }
        });
        while lock(&store.file.queue).waiting.is_empty() {
            tokio::task::yield_now().await;
        }
        drop(cut_off);
        assert_eq!(
            waits.await.expect("no panic"),
            Err("cut off, by a panic or the runtime's end, before it was known to be written"
                .to_owned())
        );
        assert!(matches!(store.begin(&claim(1)).await, Ok(Begin::Run { attempt: 1, .. })));
    }

    /// A disk, of which what was not synced may be lost, and on which any sync may fail.
    #[derive(Clone, Debug, Default)]
    struct Disk(Arc<Mutex<Platter>>);

    #[derive(Debug, Default)]
    struct Platter {
        written: Vec<u8>,
        synced: Vec<u8>,
        syncs: u32,
        full: bool,
    }

    impl Disk {
        fn open(&self) -> RedbStore {
            let db = Builder::new().create_with_backend(self.clone()).expect("opens");
            prepare(&db).expect("writable");
            RedbStore::of(db)
        }

        fn set_full(&self, full: bool) {
            lock(&self.0).full = full;
        }

        /// What is left after a power loss.
        fn after_power_loss(&self) -> Self {
            let synced = lock(&self.0).synced.clone();
            Self(Arc::new(Mutex::new(Platter {
                written: synced.clone(),
                synced,
                ..Platter::default()
            })))
        }
    }

    impl redb::StorageBackend for Disk {
        fn len(&self) -> std::io::Result<u64> {
            Ok(lock(&self.0).written.len() as u64)
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
            out.copy_from_slice(&lock(&self.0).written[offset as usize..][..out.len()]);
            Ok(())
        }

        fn set_len(&self, len: u64) -> std::io::Result<()> {
            lock(&self.0).written.resize(len as usize, 0);
            Ok(())
        }

        fn sync_data(&self) -> std::io::Result<()> {
            let mut platter = lock(&self.0);
            if platter.full {
                return Err(std::io::ErrorKind::StorageFull.into());
            }
            platter.synced = platter.written.clone();
            platter.syncs += 1;
            Ok(())
        }

        fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
            lock(&self.0).written[offset as usize..][..data.len()].copy_from_slice(data);
            Ok(())
        }
    }

    #[tokio::test]
    async fn what_is_not_granted_here_and_now_writes_nothing() {
        let disk = Disk::default();
        let store = disk.open();
        let Ok(Begin::Run { tx, .. }) = store.begin(&claim(1)).await else { panic!() };
        let before = lock(&disk.0).syncs;
        assert!(matches!(store.begin(&claim(1)).await, Ok(Begin::Busy)));
        assert_eq!(lock(&disk.0).syncs, before);

        store.end(tx, End::Granted).await.expect("written");
        let before = lock(&disk.0).syncs;
        assert!(matches!(store.begin(&claim(1)).await, Ok(Begin::Granted)));
        assert_eq!(lock(&disk.0).syncs, before);
    }

    /// On a slow disk a crowd would wait for each other otherwise.
    #[tokio::test]
    async fn what_waits_is_synced_together() {
        let disk = Disk::default();
        let store = disk.open();
        let alone = {
            let before = lock(&disk.0).syncs;
            drop(store.begin(&claim(1)).await);
            lock(&disk.0).syncs - before
        };
        // As if another one were just writing, once the last has really left.
        while mem::replace(&mut lock(&store.file.queue).writing, true) {
            tokio::task::yield_now().await;
        }
        let crowd: Vec<_> = (100..200)
            .map(|id| {
                let store = store.clone();
                tokio::spawn(async move { store.begin(&claim(id)).await.map(drop) })
            })
            .collect();
        while lock(&store.file.queue).waiting.len() < 100 {
            tokio::task::yield_now().await;
        }
        let before = lock(&disk.0).syncs;
        let writer = Writer(Some(Arc::clone(&store.file)));
        spawn_blocking(|| writer.run()).await.expect("no panic");
        assert_eq!(lock(&disk.0).syncs - before, alone);
        for begun in crowd {
            begun.await.expect("no panic").expect("written");
        }
    }

    /// What was said is on the disk, at whatever moment the power goes.
    #[tokio::test]
    async fn power_loss_takes_nothing_that_was_said() {
        let disk = Disk::default();
        let store = disk.open();
        for id in 1..=50 {
            let Ok(Begin::Run { tx, .. }) = store.begin(&claim(id)).await else { panic!() };
            let after = disk.after_power_loss().open();
            assert!(matches!(after.begin(&claim(id)).await, Ok(Begin::InDoubt { .. })), "{id}");
            store.end(tx, End::Granted).await.expect("written");
            let after = disk.after_power_loss().open();
            assert!(matches!(after.begin(&claim(id)).await, Ok(Begin::Granted)), "{id}");
        }
    }

    /// The first failed sync leaves open what is on the disk. So there is no second one that could
    /// succeed and be believed, until the file is opened again, and read anew.
    #[tokio::test]
    async fn after_the_first_failed_write_there_is_no_other() {
        let disk = Disk::default();
        let store = disk.open();
        let Ok(Begin::Run { tx: granted, .. }) = store.begin(&claim(1)).await else { panic!() };
        store.end(granted, End::Granted).await.expect("written");
        let Ok(Begin::Run { tx, .. }) = store.begin(&claim(2)).await else { panic!() };

        disk.set_full(true);
        let error = store.end(tx, End::Granted).await.expect_err("the disk is full");
        assert!(
            error.to_string().starts_with("cannot read or write the file: I/O error: "),
            "{error}"
        );
        disk.set_full(false);

        let again = "an earlier read or write of the file failed, so that nothing more is written \
                     until it is opened again: restart the process";
        for id in [2, 3] {
            let error = store.begin(&claim(id)).await.map(|_| ()).expect_err("still failed");
            assert_eq!(error.to_string(), again, "{id}");
        }
        drop(store);
        let store = disk.after_power_loss().open();
        assert!(matches!(store.begin(&claim(1)).await, Ok(Begin::Granted)));
        assert!(matches!(store.begin(&claim(2)).await, Ok(Begin::InDoubt { .. })));
        assert!(matches!(store.begin(&claim(3)).await, Ok(Begin::Run { .. })));
    }
}
