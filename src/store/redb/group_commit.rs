//! Writes what waits in one transaction, so that a crowd shares one sync of the disk.

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use redb::{
    Database, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition,
    TableHandle,
};
use tokio::{sync::oneshot, task::spawn_blocking};

use super::{Problem, Record, RedbError, Row, decode, encode};
use crate::store::held::{Held, Key};

/// By namespace and `data.id`.
const FULFILMENTS: TableDefinition<'static, (&str, u64), Row<'static>> =
    TableDefinition::new("fulfilments");

type Table = ReadOnlyTable<(&'static str, u64), Row<'static>>;

/// The open file and what waits to be written to it.
pub(super) struct File {
    db: Database,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    /// Whether a [`Writer`] is at work.
    writing: bool,
}

struct Waiting {
    key: Key,
    change: Box<dyn FnOnce(Option<Record>) -> Change + Send>,
    before: oneshot::Sender<Before>,
}

/// What a record was before a change.
type Before = Result<Option<Record>, Problem>;

pub(super) enum Change {
    Nothing,
    Put(Record),
    Remove,
}

impl File {
    /// Makes the table if the file is new, and returns whether it is. Fails on a disk that cannot be
    /// written.
    pub(super) fn new(db: Database) -> Result<(Self, bool), Problem> {
        let write = db.begin_write()?;
        let new = write.list_tables()?.next().is_none();
        if !new && write.list_tables()?.all(|table| table.name() != FULFILMENTS.name()) {
            return Err(redb::Error::TableDoesNotExist(FULFILMENTS.name().to_owned()).into());
        }
        write.open_table(FULFILMENTS)?;
        write.commit()?;
        Ok((Self { db, queue: Mutex::default() }, new))
    }

    pub(super) fn table(&self) -> Result<Table, Problem> {
        Ok(self.db.begin_read()?.open_table(FULFILMENTS)?)
    }

    /// Changes one record durably. Returns what it was before.
    pub(super) async fn write(
        self: &Arc<Self>,
        held: &Held,
        change: impl FnOnce(Option<Record>) -> Change + Send + 'static,
    ) -> Result<Option<Record>, RedbError> {
        let (tell, before) = oneshot::channel();
        let waiting = Waiting { key: held.key().clone(), change: Box::new(change), before: tell };
        let nobody_writes = {
            let mut queue = self.queue();
            queue.waiting.push(waiting);
            !mem::replace(&mut queue.writing, true)
        };
        if nobody_writes {
            let writer = Writer(Some(Arc::clone(self)));
            // Not awaited: it answers each of those who wait.
            drop(spawn_blocking(|| writer.run()));
        }
        before.await.unwrap_or(Err(Problem::Stopped)).map_err(RedbError)
    }

    fn commit(&self, batch: Vec<Waiting>) -> Vec<(oneshot::Sender<Before>, Before)> {
        let (tells, changes): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .map(|waiting| (waiting.before, (waiting.key, waiting.change)))
            .unzip();
        let written = guarded(|| {
            let mut write = self.db.begin_write()?;
            write.set_durability(Durability::Immediate)?;
            let mut table = write.open_table(FULFILMENTS)?;
            let mut written = Vec::with_capacity(changes.len());
            for ((namespace, id), change) in changes {
                let key = (&*namespace, id.get());
                let before = table.get(key)?.map(|row| decode(id, row.value())).transpose();
                // What cannot be read is not written over.
                match before.clone().map_or(Change::Nothing, change) {
                    Change::Nothing => {}
                    Change::Put(record) => {
                        drop(table.insert(key, encode(&record, &record.amount.to_string()))?)
                    }
                    Change::Remove => drop(table.remove(key)?),
                }
                written.push(before);
            }
            drop(table);
            write.commit()?;
            Ok(written)
        });
        let written = written.unwrap_or_else(|error| vec![Err(error); tells.len()]);
        tells.into_iter().zip(written).collect()
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while this is locked.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes until nobody waits.
struct Writer(Option<Arc<File>>);

impl Writer {
    fn run(mut self) {
        while let Some(file) = self.0.take() {
            let batch = mem::take(&mut file.queue().waiting);
            let answers = file.commit(batch);
            let mut queue = file.queue();
            queue.writing = !queue.waiting.is_empty();
            self.0 = queue.writing.then(|| Arc::clone(&file));
            drop(queue);
            // Before the answers, so that whoever has the last one closes the file with the store.
            drop(file);
            for (tell, before) in answers {
                let _ = tell.send(before);
            }
        }
    }
}

/// When the runtime ends before it ran: those who wait must hear of it, and the next may write.
impl Drop for Writer {
    fn drop(&mut self) {
        let Some(file) = &self.0 else { return };
        let mut queue = file.queue();
        queue.writing = false;
        let unwritten = mem::take(&mut queue.waiting);
        drop(queue);
        drop(unwritten);
    }
}

pub(super) fn find(table: &Table, (namespace, id): &Key) -> Before {
    let found = table.get((&**namespace, id.get()))?;
    found.map(|row| decode(*id, row.value())).transpose()
}

/// Makes an error of a panic, with which redb meets some damage.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, Problem>) -> Result<T, Problem> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(redb::Error::Corrupted("redb panicked".to_owned()).into()))
}
