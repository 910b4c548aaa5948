mod group_commit;

use std::{
    cmp::Reverse,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant, UNIX_EPOCH},
};

use redb::{Builder, Database, DatabaseError};
use tokio::task::spawn_blocking;

use self::group_commit::{File, guarded};
use super::{
    Begin, Claim, End, ExternalEffects, InvalidNamespace, Record, State, Store,
    held::{Held, HeldSet},
    record::{self, Attempt},
};
use crate::event::{FulfilmentId, PromoterId, Unit};

const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// Enough for the few hundred records that are asked for again.
const CACHE_BYTES: usize = 8 * 1024 * 1024;

/// A journal in one file, for one process, without a server.
///
/// The file must outlive the process and be on a local disk: **on an ephemeral disk it is lost, and
/// what is delivered again runs again**; on a network file system its lock does not hold.
///
/// ```
/// use tower_firstpromoter::store::RedbStore;
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("fulfilments.redb");
///
/// let store = RedbStore::open(path)?;
/// let partners = store.clone().namespace("partners")?; // another FirstPromoter account
/// assert!(store.namespace("a".repeat(201)).is_err());
/// let error = RedbStore::open("/").unwrap_err();
/// assert!(error.to_string().starts_with("cannot open `/`: "));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The attempt is synced to disk before the handler is called, and its end before the `200` is
/// sent. Writes that wait are synced together. After the first write that fails (a full disk),
/// nothing more is written until the file is opened again, because what is on the disk is not
/// certain: every new fulfilment ends in `503`. Restart the process once the cause is gone.
///
/// It takes about 200 bytes a record; none is ever removed. Opening compares the file's checksums,
/// in about 0.2 seconds for 100,000 records; a file damaged after it was closed is an error.
#[derive(Clone)]
pub struct RedbStore {
    file: Arc<File>,
    held: HeldSet,
    namespace: Arc<str>,
}

impl RedbStore {
    /// Opens the file, or creates it and logs that. See [`RedbStore`] for an example.
    ///
    /// Waits up to 5 seconds for a file that is in use, because in a rolling deploy the new process
    /// starts before the old one has ended. Blocks the thread: call it before serving.
    ///
    /// # Errors
    ///
    /// If the file is still in use then, also by this process; if it is damaged, empty, or of another
    /// application; if it cannot be read and written.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, RedbError> {
        let path = path.as_ref();
        Self::opened(path, |builder| {
            // An empty file was truncated, so it is opened, which redb refuses.
            let db = if path.try_exists()? { builder.open(path) } else { builder.create(path) }?;
            if cfg!(unix) {
                // A new file is durable once its directory is synced, too.
                let path = std::path::absolute(path)?;
                std::fs::File::open(path.parent().unwrap_or(&path))?.sync_all()?;
            }
            Ok(db)
        })
    }

    /// For tests of this crate.
    #[cfg(feature = "testkit")]
    #[doc(hidden)]
    pub fn with_backend(backend: impl redb::StorageBackend + Clone) -> Result<Self, RedbError> {
        Self::opened("backend".as_ref(), |builder| builder.create_with_backend(backend.clone()))
    }

    fn opened(
        path: &Path,
        open: impl Fn(&Builder) -> Result<Database, DatabaseError>,
    ) -> Result<Self, RedbError> {
        let mut builder = Builder::new();
        builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
        let start = Instant::now();
        let (file, _new) = loop {
            match guarded(|| File::new(open(&builder)?)) {
                Ok(opened) => break opened,
                Err(redb::Error::DatabaseAlreadyOpen) if start.elapsed() < OPEN_TIMEOUT => {
                    thread::sleep(Duration::from_millis(20));
                }
                Err(error) => return Err(RedbError(Problem::Open(path.to_owned(), error.into()))),
            }
        };
        #[cfg(feature = "tracing")]
        if _new {
            let path = path.display();
            tracing::info!(target: "tower_firstpromoter", "`{path}` is new: it has no records");
        }
        Ok(Self { file: Arc::new(file), held: HeldSet::default(), namespace: "".into() })
    }

    /// Separates the fulfilments of an account, as [`Store`] says. See [`RedbStore`] for an example.
    ///
    /// # Errors
    ///
    /// See [`InvalidNamespace`].
    pub fn namespace(self, account: impl AsRef<str>) -> Result<Self, InvalidNamespace> {
        Ok(Self { namespace: record::namespace(account.as_ref())?, ..self })
    }

    /// Reads the record of `id`, or else all that are not fulfilled, on a thread for blocking work.
    async fn read(&self, id: Option<FulfilmentId>) -> Result<Vec<Record>, RedbError> {
        let Self { file, held, namespace } = self.clone();
        let read = move || {
            let (first, last) = id.map_or((0, u64::MAX), |id| (id.get(), id.get()));
            let held = held.lock();
            let (running, table) = (held.clone(), file.table()?);
            drop(held);
            let mut records = Vec::new();
            for found in table.range((&*namespace, first)..=(&*namespace, last))? {
                let (key, row) = found?;
                let record = decode(key.value().1.into(), row.value())?;
                if id.is_some() || record.state != State::Fulfilled {
                    let key = (Arc::clone(&namespace), record.id);
                    records.push(record.shown(running.contains(&key)));
                }
            }
            Ok(records)
        };
        let read = spawn_blocking(|| guarded(read)).await;
        read.unwrap_or(Err(Problem::Stopped)).map_err(RedbError)
    }
}

impl Store for RedbStore {
    type Tx = RedbTx;
    type Error = RedbError;

    async fn begin(&self, claim: &Claim) -> Result<Begin<RedbTx>, RedbError> {
        // Duplicates of what is fulfilled write nothing, and are never busy with each other.
        match Record::begin(&mut self.get(claim.id).await?, claim, drop) {
            Begin::Fulfilled => return Ok(Begin::Fulfilled),
            Begin::Mismatch => return Ok(Begin::Mismatch),
            _ => {}
        }
        let held = self.held.take(&self.namespace, claim.id);
        let Some(held) = held else { return Ok(Begin::Busy) };
        let begins = claim.clone();
        let begin = move |record: &mut Option<Record>| Record::begin(record, &begins, drop);
        let [mut before, _] = self.file.write(&held, begin).await?;
        Ok(Record::begin(&mut before, claim, |attempt| RedbTx { held, attempt }))
    }

    async fn end(&self, tx: RedbTx, end: End) -> Result<State, RedbError> {
        let RedbTx { held, attempt } = tx;
        let ends = move |record: &mut Record| record.end(attempt, end);
        let [_, after] = self.file.write(&held, move |record| record.as_mut().map(ends)).await?;
        // `held` drops here, after what is written.
        after.map(|it| it.state).ok_or(RedbError(Problem::Unreadable(held.id(), "it is gone")))
    }

    async fn get(&self, id: FulfilmentId) -> Result<Option<Record>, RedbError> {
        Ok(self.read(Some(id)).await?.pop())
    }

    async fn open(&self, limit: usize) -> Result<Vec<Record>, RedbError> {
        let mut open = self.read(None).await?;
        open.sort_by_key(|record| Reverse(record.changed));
        open.truncate(limit);
        Ok(open)
    }

    async fn resolve(&self, id: FulfilmentId, fulfilled: bool) -> Result<bool, RedbError> {
        let Some(held) = self.held.take(&self.namespace, id) else { return Ok(false) };
        let resolves = move |record: &mut Record| record.resolve(fulfilled);
        let [before, after] =
            self.file.write(&held, move |record| record.as_mut().map(resolves)).await?;
        Ok(before != after)
    }

    async fn forget(&self, id: FulfilmentId) -> Result<bool, RedbError> {
        let Some(held) = self.held.take(&self.namespace, id) else { return Ok(false) };
        let [before, _] = self.file.write(&held, Option::take).await?;
        Ok(before.is_some())
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
    let Record { unit, promoter, cust_id, state, attempts, reason, .. } = record;
    let (cust_id, reason) = (cust_id.as_deref(), reason.as_deref());
    let [first_seen, changed] = [record.first_seen, record.changed]
        .map(|time| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64);
    let (unit, promoter, state) = (unit.as_str(), promoter.get(), state.as_str());
    (unit, amount, promoter, cust_id, state, *attempts, reason, first_seen, changed)
}

fn decode(id: FulfilmentId, row: Row<'_>) -> Result<Record, Problem> {
    let (unit, amount, promoter, cust_id, state, attempts, reason, first_seen, changed) = row;
    Ok(Record {
        id,
        unit: Unit::from(unit),
        amount: amount.parse().map_err(|_| Problem::Unreadable(id, "invalid amount"))?,
        promoter: PromoterId::from(promoter),
        cust_id: cust_id.map(str::to_owned),
        state: State::parse(state).ok_or(Problem::Unreadable(id, "invalid state"))?,
        attempts,
        reason: reason.map(str::to_owned),
        first_seen: UNIX_EPOCH + Duration::from_millis(first_seen),
        changed: UNIX_EPOCH + Duration::from_millis(changed),
    })
}

/// The error of a [`RedbStore`], which has an example.
#[derive(Clone, Debug, thiserror::Error)]
#[error(transparent)]
pub struct RedbError(Problem);

#[derive(Clone, Debug, thiserror::Error)]
enum Problem {
    #[error("cannot open `{path}`: {1}", path = .0.display())]
    Open(PathBuf, #[source] Arc<redb::Error>),
    #[error("cannot read or write the file: {0}")]
    File(#[source] Arc<redb::Error>),
    #[error("the record of fulfilment {0} is not readable: {1}")]
    Unreadable(FulfilmentId, &'static str),
    #[error("the tokio runtime ended before the file was read")]
    Stopped,
}

impl<E: Into<redb::Error>> From<E> for Problem {
    fn from(error: E) -> Self {
        Self::File(Arc::new(error.into()))
    }
}
