//! `RedbStore` on a disk that loses what was not synced, fails to sync or cannot be read: what a
//! method returned is on the disk, and after the first failure no write is confirmed.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard},
};

use tower_firstpromoter::{
    event::Fulfilment,
    store::{Begin, Claim, End, RedbStore, RedbTx, Store},
};

fn claim(id: u64) -> Claim {
    let body = format!(
        r#"{{"event":{{"type":"fulfilment_pending"}},"data":{{"id":{id},"amount":3,"unit":"credits","promoter":{{"id":7}}}}}}"#
    );
    Claim::new(&Fulfilment::decode(body).expect("a fulfilment"))
}

async fn run(store: &RedbStore, id: u64) -> RedbTx {
    match store.begin(&claim(id)).await {
        Ok(Begin::Run { tx, .. }) => tx,
        answer => panic!("{id}: {answer:?}"),
    }
}

#[derive(Clone, Debug, Default)]
struct Disk(Arc<(Mutex<Platter>, Condvar)>);

#[derive(Debug, Default)]
struct Platter {
    written: Vec<u8>,
    synced: Vec<u8>,
    syncs: u32,
    full: bool,
    unreadable: bool,
    panics: bool,
    /// While it is slow, a sync waits.
    slow: bool,
}

impl Disk {
    fn open(&self) -> RedbStore {
        RedbStore::with_backend(self.clone()).expect("opens")
    }

    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.0.0.lock().expect("whole")
    }

    fn set_slow(&self, slow: bool) {
        self.platter().slow = slow;
        self.0.1.notify_all();
    }

    /// What is left after a power loss.
    fn after_power_loss(&self) -> Self {
        let synced = self.platter().synced.clone();
        let platter = Platter { written: synced.clone(), synced, ..Platter::default() };
        Self(Arc::new((Mutex::new(platter), Condvar::new())))
    }
}

impl redb::StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.platter().written.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let platter = self.platter();
        if platter.unreadable {
            return Err(io::Error::other("a bad sector"));
        }
        out.copy_from_slice(&platter.written[offset as usize..][..out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.platter().written.resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let platter = self.platter();
        let panics = platter.panics;
        let mut platter = self.0.1.wait_while(platter, |platter| platter.slow).expect("whole");
        if platter.full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if panics {
            drop(platter);
            panic!("as redb does");
        }
        platter.synced = platter.written.clone();
        platter.syncs += 1;
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.platter().written[offset as usize..][..data.len()].copy_from_slice(data);
        Ok(())
    }
}

#[tokio::test]
async fn power_loss_takes_nothing_that_was_said() {
    let disk = Disk::default();
    let store = disk.open();
    for id in 1..=50 {
        let tx = run(&store, id).await;
        let after = disk.after_power_loss().open();
        assert!(matches!(after.begin(&claim(id)).await, Ok(Begin::InDoubt { .. })), "{id}");
        store.end(tx, End::Fulfilled).await.expect("written");
        let after = disk.after_power_loss().open();
        assert!(matches!(after.begin(&claim(id)).await, Ok(Begin::Fulfilled)), "{id}");

        drop(run(&store, 100 + id).await);
        assert!(store.resolve((100 + id).into(), true).await.expect("written"));
        let after = disk.after_power_loss().open();
        assert!(matches!(after.begin(&claim(100 + id)).await, Ok(Begin::Fulfilled)), "{id}");
        assert!(store.forget((100 + id).into()).await.expect("written"));
        let after = disk.after_power_loss().open();
        assert_eq!(after.get((100 + id).into()).await.expect("readable"), None);
    }
}

/// The first failed sync leaves open what is on the disk. So there is no second one that could
/// succeed and be believed, until the file is opened again, and read anew.
#[tokio::test]
async fn after_the_first_failed_write_there_is_no_other() {
    let disk = Disk::default();
    let store = disk.open();
    let tx = run(&store, 1).await;
    store.end(tx, End::Fulfilled).await.expect("written");
    let tx = run(&store, 2).await;

    disk.platter().full = true;
    let error = store.end(tx, End::Fulfilled).await.expect_err("the disk is full").to_string();
    assert!(error.starts_with("cannot read or write the file: I/O error: "), "{error}");
    disk.platter().full = false;

    let again = "cannot read or write the file: Previous I/O error occurred. Please close \
                 and re-open the database.";
    for id in [2, 3] {
        let error = store.begin(&claim(id)).await.expect_err("still failed");
        assert_eq!(error.to_string(), again, "{id}");
    }
    drop(store);
    let store = disk.after_power_loss().open();
    assert!(matches!(store.begin(&claim(1)).await, Ok(Begin::Fulfilled)));
    assert!(matches!(store.begin(&claim(2)).await, Ok(Begin::InDoubt { .. })));
    assert!(matches!(store.begin(&claim(3)).await, Ok(Begin::Run { .. })));
}

#[tokio::test]
async fn a_disk_that_cannot_be_read_is_an_error() {
    let disk = Disk::default();
    let store = disk.open();
    let tx = run(&store, 1).await;
    store.end(tx, End::Fulfilled).await.expect("written");
    drop(store);
    disk.platter().unreadable = true;
    let error = RedbStore::with_backend(disk).expect_err("unreadable").to_string();
    assert_eq!(error, "cannot open `backend`: I/O error: a bad sector");
}

/// redb panics on some damage. Whoever waits for the write gets an error, and so does opening.
#[tokio::test]
async fn a_panic_in_redb_is_an_error() {
    let disk = Disk::default();
    let store = disk.open();
    let tx = run(&store, 1).await;
    disk.platter().panics = true;
    let error = store.end(tx, End::Fulfilled).await.expect_err("it panics").to_string();
    assert_eq!(error, "cannot read or write the file: DB corrupted: redb panicked");
    let error = RedbStore::with_backend(disk.after_power_loss().panicking()).expect_err("panics");
    assert_eq!(error.to_string(), "cannot open `backend`: DB corrupted: redb panicked");
    let after = disk.after_power_loss().open();
    assert!(matches!(after.begin(&claim(1)).await, Ok(Begin::InDoubt { .. })));
}

impl Disk {
    fn panicking(self) -> Self {
        self.platter().panics = true;
        self
    }
}

#[tokio::test]
async fn what_does_not_run_here_and_now_writes_nothing() {
    let disk = Disk::default();
    let store = disk.open();
    let tx = run(&store, 1).await;
    let before = disk.platter().syncs;
    assert!(matches!(store.begin(&claim(1)).await, Ok(Begin::Busy)));
    assert_eq!(disk.platter().syncs, before);

    store.end(tx, End::Fulfilled).await.expect("written");
    let before = disk.platter().syncs;
    assert!(matches!(store.begin(&claim(1)).await, Ok(Begin::Fulfilled)));
    assert_eq!(disk.platter().syncs, before);
}

/// On a slow disk a crowd would wait for each other otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_synced_together() {
    let disk = Disk::default();
    let store = disk.open();
    let begin = |id| {
        let store = store.clone();
        tokio::spawn(async move { run(&store, id).await })
    };
    let alone = {
        let before = disk.platter().syncs;
        begin(1).await.expect("written");
        disk.platter().syncs - before
    };
    let mut transactions = Vec::new();
    for id in 100..200 {
        transactions.push(run(&store, id).await);
    }
    // One writes, slowly, when the crowd comes.
    disk.set_slow(true);
    let before = disk.platter().syncs;
    let first = begin(2);
    let ends = transactions.into_iter().map(|tx| {
        let mut end = Box::pin({
            let store = store.clone();
            async move { store.end(tx, End::Fulfilled).await }
        });
        // Polled once, it waits for the writer.
        assert!(futures::FutureExt::now_or_never(&mut end).is_none());
        end
    });
    let ends: Vec<_> = ends.collect();
    disk.set_slow(false);
    first.await.expect("written");
    for end in ends {
        end.await.expect("written");
    }
    assert!(disk.platter().syncs - before <= 3 * alone, "{} syncs", disk.platter().syncs - before);
}
