mod group_commit;

use std::{
    cmp::Reverse,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use redb::{Builder, Database, DatabaseError};
use tokio::task::spawn_blocking;

use self::group_commit::{Change, File, find, guarded};
use super::{
    Begin, Claim, End, ExternalEffects, InvalidNamespace, Record, State, Store,
    held::{Held, HeldSet},
    record::{self, Attempt, resolved},
};
use crate::event::{FulfilmentId, PromoterId, Unit};

/// How long the file may stay in use by the process that this one replaces.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// What is asked for again is the last few hundred records.
const CACHE_BYTES: usize = 8 * 1024 * 1024;

/// A journal in one file, for one process, without a server.
///
/// The file must outlive the process: **on a disk that is thrown away with it (Heroku, Cloud Run, a
/// pod without a volume) this is a [`MemoryStore`](super::MemoryStore).** It must be on a local disk,
/// because locks on NFS and other network file systems do not hold. Several machines share a
/// `PostgresJournal`.
///
/// ```
/// use tower_firstpromoter::store::RedbStore;
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("fulfilments.redb");
///
/// let store = RedbStore::open(path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Its verbs run on tokio's threads for blocking work. Before the handler is called, the attempt is
/// synced to the disk, and its end before the `200` leaves. What waits for the disk meanwhile is
/// synced together.
///
/// # For the operator
///
/// **Records.** Only the process that has the file open can read it, so that process has to offer
/// [`open`](Store::open) and [`resolve`](Store::resolve), for example on an admin page.
///
/// **Errors.** After the first write that fails (a full disk, a bad one), nothing more is written
/// until the file is opened again, because what is on the disk is not certain. Every fulfilment that
/// is not yet fulfilled is then answered with `503`. Restart the process once the cause is gone.
///
/// **Damage.** Opening reads the whole file and compares its checksums, at about CHECK_TIME for
/// 100,000 records. A damaged file is an error.
///
/// **Backups.** Copy the file while the process is stopped, or take a snapshot of the volume. A
/// restored backup lacks what was fulfilled since, which runs again if it is delivered again.
///
/// **Size.** About 350 bytes a record; none is ever removed.
#[derive(Clone)]
pub struct RedbStore {
    file: Arc<File>,
    held: HeldSet,
    namespace: Arc<str>,
}

impl RedbStore {
    /// Opens the file, or creates it, which is logged (feature `tracing`).
    ///
    /// Waits up to 5 seconds for a file that is in use, because in a rolling deploy the new process
    /// starts before the old one has ended. Blocks the thread: call it before you serve.
    ///
    /// # Errors
    ///
    /// If the file is still in use then, by another process or another `RedbStore` of this one; if it
    /// is damaged, empty, or not the file of a `RedbStore`; if it cannot be read and written.
    ///
    /// ```
    /// # use tower_firstpromoter::store::RedbStore;
    /// let Err(error) = RedbStore::open("/no/such/directory/fulfilments.redb") else { panic!() };
    /// assert!(error.to_string().starts_with("cannot open `/no/such/directory/fulfilments.redb`: "));
    /// ```
    pub fn open(path: impl AsRef<Path>) -> Result<Self, RedbError> {
        let path = path.as_ref();
        Self::opened(path, || {
            // An empty file was truncated, so it is opened, which redb refuses.
            let builder = builder();
            let db = if path.try_exists()? { builder.open(path) } else { builder.create(path) }?;
            sync_directory(path)?;
            Ok(db)
        })
    }

    /// For tests of this crate.
    #[cfg(feature = "testkit")]
    #[doc(hidden)]
    pub fn with_backend(backend: impl redb::StorageBackend + Clone) -> Result<Self, RedbError> {
        Self::opened("backend".as_ref(), || builder().create_with_backend(backend.clone()))
    }

    fn opened(
        path: &Path,
        open: impl Fn() -> Result<Database, DatabaseError>,
    ) -> Result<Self, RedbError> {
        let start = Instant::now();
        loop {
            let source = match guarded(|| File::new(open()?)) {
                Ok((file, new)) => {
                    if new {
                        log_new(path);
                    }
                    let (held, namespace) = (HeldSet::default(), "".into());
                    return Ok(Self { file: Arc::new(file), held, namespace });
                }
                Err(Problem::File(source)) => source,
                Err(problem) => return Err(RedbError(problem)),
            };
            let path = path.to_owned();
            match *source {
                redb::Error::DatabaseAlreadyOpen if start.elapsed() < OPEN_TIMEOUT => {
                    thread::sleep(Duration::from_millis(20));
                }
                redb::Error::DatabaseAlreadyOpen => return Err(RedbError(Problem::InUse(path))),
                _ => return Err(RedbError(Problem::Open { path, source })),
            }
        }
    }

    /// Keeps the records of several FirstPromoter accounts apart, whose ids may be the same. Default:
    /// the empty one. Keep that for the first account, whose records it has.
    ///
    /// # Errors
    ///
    /// If it has more than 200 bytes or a control character.
    ///
    /// ```
    /// # use tower_firstpromoter::store::RedbStore;
    /// # let dir = tempfile::tempdir()?;
    /// let store = RedbStore::open(dir.path().join("fulfilments.redb"))?;
    /// let partners = store.clone().namespace("partners")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn namespace(self, account: impl AsRef<str>) -> Result<Self, InvalidNamespace> {
        Ok(Self { namespace: record::namespace(account.as_ref())?, ..self })
    }

    /// Reads on a thread for blocking work.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, RedbError> {
        let store = self.clone();
        let read = spawn_blocking(move || guarded(|| work(&store))).await;
        read.unwrap_or(Err(Problem::Stopped)).map_err(RedbError)
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

/// A new file is durable once its directory is synced, too.
fn sync_directory(path: &Path) -> std::io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if cfg!(unix) {
        std::fs::File::open(directory.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

fn log_new(_path: &Path) {
    #[cfg(feature = "tracing")]
    tracing::info!(
        target: "tower_firstpromoter", "`{}` is new: no fulfilment is known yet", _path.display()
    );
}

impl Store for RedbStore {
    type Tx = RedbTx;
    type Error = RedbError;

    async fn begin(&self, claim: &Claim) -> Result<Begin<RedbTx>, RedbError> {
        // Duplicates of what is fulfilled write nothing, and are never busy with each other.
        let key = (Arc::clone(&self.namespace), claim.id());
        let known = self.read(move |store| find(&store.file.table()?, &key)).await?;
        match Record::begun(known, claim, now()).0 {
            Begin::Fulfilled => return Ok(Begin::Fulfilled),
            Begin::Mismatch => return Ok(Begin::Mismatch),
            _ => {}
        }
        let Some(held) = self.held.take(&self.namespace, claim.id()) else {
            return Ok(Begin::Busy);
        };
        let (now, begins) = (now(), claim.clone());
        let change = move |before| {
            Record::begun(before, &begins, now).1.map_or(Change::Nothing, Change::Put)
        };
        let answer = Record::begun(self.file.write(&held, change).await?, claim, now).0;
        Ok(answer.with(|attempt| RedbTx { held, attempt }))
    }

    async fn end(&self, tx: RedbTx, end: End) -> Result<State, RedbError> {
        let RedbTx { held, attempt } = tx;
        let (now, state) = (now(), attempt.ended(end.clone(), false).state);
        let ended = move |mut record: Record| {
            record.end(attempt, end, now);
            Change::Put(record)
        };
        let before = self.file.write(&held, |before| before.map_or(Change::Nothing, ended)).await?;
        // `held` drops here, whether it is written or not, and never before.
        before.map(|_| state).ok_or(RedbError(Problem::Unreadable(held.id(), "it is gone")))
    }

    async fn get(&self, id: FulfilmentId) -> Result<Option<Record>, RedbError> {
        self.read(move |store| {
            let key = (Arc::clone(&store.namespace), id);
            let (held, table) = store.held.meanwhile(|| store.file.table());
            Ok(find(&table?, &key)?.map(|record| record.shown(held.contains(&key))))
        })
        .await
    }

    async fn open(&self, limit: usize) -> Result<Vec<Record>, RedbError> {
        self.read(move |store| {
            let namespace = &*store.namespace;
            let (held, table) = store.held.meanwhile(|| store.file.table());
            let mut open = Vec::new();
            for found in table?.range((namespace, 0)..=(namespace, u64::MAX))? {
                let (key, row) = found?;
                let record = decode(key.value().1.into(), row.value())?;
                if record.state != State::Fulfilled {
                    let key = (Arc::clone(&store.namespace), record.id);
                    open.push(record.shown(held.contains(&key)));
                }
            }
            open.sort_by_key(|record| Reverse(record.changed));
            open.truncate(limit);
            Ok(open)
        })
        .await
    }

    async fn resolve(&self, id: FulfilmentId, fulfilled: bool) -> Result<bool, RedbError> {
        let Some(held) = self.held.take(&self.namespace, id) else { return Ok(false) };
        let doubt = |before: Option<Record>| {
            before.filter(|record| record.clone().shown(false).state == State::InDoubt)
        };
        let change = move |before| match doubt(before) {
            Some(record) => {
                let (state, reason) = resolved(fulfilled);
                let reason = reason.map(str::to_owned);
                Change::Put(Record { state, reason, changed: now(), ..record })
            }
            None => Change::Nothing,
        };
        Ok(doubt(self.file.write(&held, change).await?).is_some())
    }

    async fn forget(&self, id: FulfilmentId) -> Result<bool, RedbError> {
        let Some(held) = self.held.take(&self.namespace, id) else { return Ok(false) };
        Ok(self.file.write(&held, |_| Change::Remove).await?.is_some())
    }
}

impl fmt::Debug for RedbStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbStore").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

/// The right to run one attempt, of a [`RedbStore`]. See [`Store`] for an example.
#[derive(Debug)]
pub struct RedbTx {
    held: Held,
    attempt: Attempt,
}

impl ExternalEffects for RedbTx {}

/// A record in the file: unit, amount, promoter, customer, state, attempts, reason, and when it was
/// first seen and last changed, in milliseconds since 1970. The key has the id.
type Row<'a> = (&'a str, &'a str, u64, Option<&'a str>, &'a str, u32, Option<&'a str>, u64, u64);

fn encode<'a>(record: &'a Record, amount: &'a str) -> Row<'a> {
    let Record { unit, promoter, cust_id, state, attempts, reason, first_seen, changed, .. } =
        record;
    let (cust_id, reason) = (cust_id.as_deref(), reason.as_deref());
    let (first_seen, changed) = (millis(*first_seen), millis(*changed));
    let (unit, promoter, state) = (unit.as_str(), promoter.get(), state.as_str());
    (unit, amount, promoter, cust_id, state, *attempts, reason, first_seen, changed)
}

fn decode(id: FulfilmentId, row: Row<'_>) -> Result<Record, Problem> {
    let (unit, amount, promoter, cust_id, state, attempts, reason, first_seen, changed) = row;
    let known = [State::Started, State::InDoubt, State::Fulfilled, State::Pending, State::Failed];
    Ok(Record {
        id,
        unit: Unit::from(unit),
        amount: amount.parse().map_err(|_| Problem::Unreadable(id, "invalid amount"))?,
        promoter: PromoterId::from(promoter),
        cust_id: cust_id.map(str::to_owned),
        state: (known.into_iter().find(|known| known.as_str() == state))
            .ok_or(Problem::Unreadable(id, "invalid state"))?,
        attempts,
        reason: reason.map(str::to_owned),
        first_seen: UNIX_EPOCH + Duration::from_millis(first_seen),
        changed: UNIX_EPOCH + Duration::from_millis(changed),
    })
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// As exact as it is stored, so that a record is the same before and after a restart.
fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(millis(SystemTime::now()))
}

/// The error of a [`RedbStore`]. See [`RedbStore::open`] for an example.
#[derive(Clone, Debug, thiserror::Error)]
#[error(transparent)]
pub struct RedbError(Problem);

#[derive(Clone, Debug, thiserror::Error)]
enum Problem {
    #[error("cannot open `{}`: {source}", path.display())]
    Open { path: PathBuf, source: Arc<redb::Error> },
    #[error("`{}` is in use: only one process may have it open, and only once", .0.display())]
    InUse(PathBuf),
    #[error("cannot read or write the file: {0}")]
    File(#[source] Arc<redb::Error>),
    #[error("the record of fulfilment {0} is not readable: {1}")]
    Unreadable(FulfilmentId, &'static str),
    #[error("the tokio runtime ended before the store's work was done")]
    Stopped,
}

impl<E: Into<redb::Error>> From<E> for Problem {
    fn from(error: E) -> Self {
        Self::File(Arc::new(error.into()))
    }
}
