//! Writes what waits in one transaction, so that many attempts share one sync of the disk.

use std::{
    iter::once,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, mpsc},
    thread,
};

use redb::{
    Database, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition, TableHandle,
};
use tokio::sync::oneshot;

use super::{Problem, Record, RedbError, Row, decode, encode};
use crate::store::held::{self, Held};

type Key = (&'static str, u64);

/// By namespace and `data.id`.
const FULFILMENTS: TableDefinition<'_, Key, Row<'_>> = TableDefinition::new("fulfilments");

/// An open file.
pub(super) struct File {
    db: Arc<Database>,
    /// `None` while it closes.
    writer: Option<(mpsc::Sender<Write>, thread::JoinHandle<()>)>,
}

/// Which record changes, how, and who is told.
type Write = ((held::Key, Change), oneshot::Sender<Written>);
type Change = Box<dyn FnOnce(&mut Option<Record>) + Send>;

/// A record before and after a change.
type Written = Result<[Option<Record>; 2], Problem>;

impl File {
    /// Creates the table if the file is new, and returns whether it is.
    pub(super) fn new(db: Database) -> Result<(Self, bool), redb::Error> {
        let write = db.begin_write()?;
        let new = write.list_tables()?.next().is_none();
        if !new && write.list_tables()?.all(|table| table.name() != FULFILMENTS.name()) {
            return Err(redb::Error::TableDoesNotExist(FULFILMENTS.name().to_owned()));
        }
        write.open_table(FULFILMENTS)?;
        write.commit()?;
        let (db, (waits, waiting)) = (Arc::new(db), mpsc::channel());
        let writes = Arc::clone(&db);
        let writer = thread::Builder::new().name("redb writer".to_owned()).spawn(move || {
            while let Ok(first) = waiting.recv() {
                commit(&writes, once(first).chain(waiting.try_iter()));
            }
        })?;
        Ok((Self { db, writer: Some((waits, writer)) }, new))
    }

    pub(super) fn table(&self) -> Result<ReadOnlyTable<Key, Row<'static>>, redb::Error> {
        Ok(self.db.begin_read()?.open_table(FULFILMENTS)?)
    }

    /// Changes one record durably.
    pub(super) async fn write<T>(
        &self,
        held: &Held,
        change: impl FnOnce(&mut Option<Record>) -> T + Send + 'static,
    ) -> Result<[Option<Record>; 2], RedbError> {
        let (tell, written) = oneshot::channel();
        if let Some((writer, _)) = &self.writer {
            let change = Box::new(|record: &mut _| drop(change(record)));
            let _ = writer.send(((held.key.clone(), change), tell));
        }
        written.await.unwrap_or(Err(Problem::Stopped)).map_err(RedbError)
    }
}

/// Ends the writer first, so that the file is closed with the store.
impl Drop for File {
    fn drop(&mut self) {
        if let Some((writer, thread)) = self.writer.take() {
            drop(writer);
            let _ = thread.join();
        }
    }
}

fn commit(db: &Database, batch: impl Iterator<Item = Write>) {
    let (changes, tells): (Vec<_>, Vec<_>) = batch.unzip();
    let written = guarded(|| {
        let write = db.begin_write()?;
        let mut table = write.open_table(FULFILMENTS)?;
        let mut written = Vec::with_capacity(changes.len());
        for ((namespace, id), change) in changes {
            let key = (&*namespace, id.get());
            let before = table.get(key)?.map(|row| decode(id, row.value())).transpose();
            let changed = before.map(|before| {
                let mut after = before.clone();
                change(&mut after);
                [before, after]
            });
            match &changed {
                // What cannot be read is not written over.
                Err(_) => {}
                Ok([_, Some(it)]) => drop(table.insert(key, encode(it, &it.amount.to_string()))?),
                Ok([_, None]) => drop(table.remove(key)?),
            }
            written.push(changed);
        }
        drop(table);
        write.commit()?;
        Ok(written)
    });
    let written = written.unwrap_or_else(|error| vec![Err(error); tells.len()]);
    for (tell, written) in tells.into_iter().zip(written) {
        let _ = tell.send(written);
    }
}

/// Turns a panic, with which redb meets some damage, into an error.
pub(super) fn guarded<T, E: From<redb::Error>>(
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(redb::Error::Corrupted("redb panicked".to_owned()).into()))
}
