//! One or all connections to PostgreSQL fall silent without being closed, at any step of a
//! delivery. The delivery is answered in time, nothing stays blocked, and the next delivery gets
//! the right answer.

mod support {
    pub(crate) mod deliver;
    pub(crate) mod postgres;
}

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use sqlx::{AssertSqlSafe, Executor, PgPool, raw_sql};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use tower_firstpromoter::{
    Fulfil, FulfilIn, Outcome, Verdict, Webhook,
    event::Fulfilment,
    observe::{DeliveryEvent, Observer},
    store::{Begin, End, PostgresJournal, PostgresStore, PostgresTx, State, Store},
};

use self::support::{
    deliver::{deliver, webhook},
    postgres::{Proxy, claim, effects, kind, patiently, run, story},
};

/// Below the sender's timeout, and the delivery's own deadline.
const BOUND: Duration = Duration::from_millis(9_500);

#[derive(Clone, Copy, Debug)]
enum Silence {
    /// The connections that are open.
    Open,
    /// All, also new ones.
    All,
    /// The one on which this is sent, before or after the server gets it.
    At(&'static str, bool),
    /// None.
    No,
}
use Silence::{All, At, No, Open};

/// What the handler does after it took effect, at its first run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    Fulfils,
    Fails,
    Doubts,
    /// A statement that goes on when the attempt's time is over.
    GoesOn,
}
use Does::{Doubts, Fails, Fulfils, GoesOn};

/// Whether it falls silent before the delivery, or while the handler runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Before,
    Meanwhile,
}
use When::{Before, Meanwhile};

#[derive(Clone)]
struct Handler {
    does: Does,
    runs: Arc<AtomicU32>,
    /// It runs, and goes on.
    runs_now: Arc<Notify>,
    goes_on: Arc<Notify>,
    /// Of the journal's, whose effect is elsewhere.
    elsewhere: PgPool,
}

impl Handler {
    fn new(does: Does, elsewhere: PgPool) -> Self {
        Self {
            does,
            runs: Arc::default(),
            runs_now: Arc::default(),
            goes_on: Arc::default(),
            elsewhere,
        }
    }

    /// Whether this is the first run after that which warmed up the connections.
    fn is_first(&self) -> bool {
        self.runs.fetch_add(1, Ordering::SeqCst) == 1
    }

    async fn waits(&self) {
        self.runs_now.notify_one();
        self.goes_on.notified().await;
    }
}

impl FulfilIn<PostgresTx> for Handler {
    type Error = sqlx::Error;

    async fn fulfil_in(&self, f: Fulfilment, tx: &mut PostgresTx) -> sqlx::Result<Outcome> {
        let first = self.is_first();
        // Not prepared, so that it is sent each time.
        let insert = format!("INSERT INTO effects VALUES ({})", f.id);
        raw_sql(AssertSqlSafe(insert)).execute(&mut **tx).await?;
        if first {
            self.waits().await;
        }
        match self.does {
            Fails if first => Err(sqlx::Error::RowNotFound),
            Doubts if first => Ok(Outcome::InDoubt("timed out".into())),
            GoesOn if first => {
                tx.execute("SELECT pg_sleep(30)").await?;
                Ok(Outcome::Fulfilled)
            }
            _ => Ok(Outcome::Fulfilled),
        }
    }
}

struct Elsewhere(Handler);

impl Fulfil for Elsewhere {
    type Error = sqlx::Error;

    async fn fulfil(&self, f: Fulfilment) -> sqlx::Result<Outcome> {
        if self.0.is_first() {
            self.0.waits().await;
        }
        let id = f.id.get() as i64;
        let insert = sqlx::query("INSERT INTO effects VALUES ($1)").bind(id);
        insert.execute(&self.0.elsewhere).await?;
        Ok(Outcome::Fulfilled)
    }

    async fn was_fulfilled(&self, f: &Fulfilment) -> sqlx::Result<Option<bool>> {
        let id = f.id.get() as i64;
        let taken = sqlx::query_scalar("SELECT EXISTS (SELECT FROM effects WHERE id = $1)");
        Ok(Some(taken.bind(id).fetch_one(&self.0.elsewhere).await?))
    }
}

/// The errors of the store, by whether the handler had run.
#[derive(Clone, Default)]
struct StoreFailed(Arc<Mutex<Vec<bool>>>);

impl Observer for StoreFailed {
    fn observe(&self, event: &DeliveryEvent<'_>) {
        if let DeliveryEvent::StoreFailed { after_handler, .. } = event {
            self.0.lock().expect("whole").push(*after_handler);
        }
    }
}

struct Case {
    id: u64,
    when: When,
    silence: Silence,
    does: Does,
    /// How the delivery ends, and the one after it.
    ends: (Verdict, Verdict),
    runs: u32,
}

/// Delivers it with the silence, then once more without. Returns the first one's store errors.
async fn tell(case: &Case, proxy: &Proxy, handler: &Handler, webhook: &Webhook) {
    let Case { id, when, silence, does, ends, runs } = *case;
    let told = format!("{when:?} {silence:?} {does:?}");
    let failed = StoreFailed::default();
    let webhook = webhook.clone().observe(failed.clone());
    let limit =
        if matches!(silence, At("INTO effects", _)) || matches!(does, GoesOn) { 1 } else { 60 };
    let webhook = webhook.attempt_within(Duration::from_secs(limit));
    assert_eq!(
        deliver(&webhook, id + 1).await,
        Verdict::Fulfilled,
        "{told}: the connections are warm"
    );

    let falls = |silence| match silence {
        Open => proxy.silence(),
        All => {
            proxy.silence_new(true);
            proxy.silence();
        }
        At(text, through) => proxy.silence_at(Some((text, through))),
        No => {}
    };
    if when == Before {
        falls(silence);
        handler.goes_on.notify_one();
    }
    let meanwhile = async {
        handler.runs_now.notified().await;
        if when == Meanwhile {
            falls(silence);
            handler.goes_on.notify_one();
        }
        std::future::pending::<()>().await
    };
    let begun = Instant::now();
    let verdict = tokio::select! {
        verdict = deliver(&webhook, id) => verdict,
        () = meanwhile => unreachable!(),
    };
    assert_eq!(verdict, ends.0, "{told}");
    assert!(begun.elapsed() < BOUND, "{told}: {:?}", begun.elapsed());
    let expected: &[bool] = match verdict {
        Verdict::StoreUnavailable => &[false],
        Verdict::NotRecorded => &[true],
        // It was fulfilled, as the handler said, and then undone.
        Verdict::Failed if (when, does) == (Meanwhile, Fulfils) => &[true],
        _ => &[],
    };
    assert_eq!(*failed.0.lock().expect("whole"), expected, "{told}");

    proxy.silence_new(false);
    proxy.silence_at(None);
    handler.goes_on.notify_one();
    let begun = Instant::now();
    let mut verdict = deliver(&webhook, id).await;
    // The server ends a session a moment after it was told to.
    while verdict == Verdict::InProgress && begun.elapsed() < Duration::from_secs(1) {
        verdict = deliver(&webhook, id).await;
    }
    assert_eq!(verdict, ends.1, "{told}: the next delivery");
    assert!(begun.elapsed() < Duration::from_secs(5), "{told}: {:?}", begun.elapsed());
    assert_eq!(handler.runs.load(Ordering::SeqCst), runs + 1, "{told}: runs");
    timeout(Duration::from_secs(2), webhook.close()).await.expect("it is closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn effect_and_record_stay_together() {
    use Verdict::{Failed, Fulfilled, InDoubt, NotRecorded, StoreUnavailable};
    story(|db| async move {
        let pool = db.ready(4).await;
        #[rustfmt::skip]
        let cases = [
            // The idle ones are replaced.
            (Before, Open, Fulfils, Fulfilled, Fulfilled, 1),
            (Before, All, Fulfils, StoreUnavailable, Fulfilled, 1),
            (Before, At("SAVEPOINT", false), Fulfils, StoreUnavailable, Fulfilled, 1),
            (Before, At("SAVEPOINT", true), Fulfils, StoreUnavailable, Fulfilled, 1),
            (Before, At("INTO effects", false), Fulfils, Failed, Fulfilled, 2),
            (Before, At("INTO effects", true), Fulfils, Failed, Fulfilled, 2),
            (Meanwhile, Open, Fulfils, Failed, Fulfilled, 2),
            // What the record is written with; the note on another connection, too.
            (Meanwhile, At("user-7", false), Fulfils, NotRecorded, Fulfilled, 2),
            (Meanwhile, At("user-7", true), Fulfils, NotRecorded, Fulfilled, 2),
            (Meanwhile, At("COMMIT\0", false), Fulfils, NotRecorded, Fulfilled, 2),
            // Committed, and recorded with it.
            (Meanwhile, At("COMMIT\0", true), Fulfils, NotRecorded, Fulfilled, 1),
            (Meanwhile, At("ROLLBACK TO", false), Fails, Failed, Fulfilled, 2),
            (Meanwhile, At("ROLLBACK TO", true), Doubts, InDoubt, InDoubt, 1),
            (Before, No, GoesOn, Failed, Fulfilled, 2),
        ];
        let cases = (1..).zip(cases).map(|(at, (when, silence, does, first, next, runs))| {
            let (pool, url) = (pool.clone(), db.url.clone());
            async move {
                let proxy = Proxy::start(&url).await;
                let store = PostgresStore::new(PgPool::connect_lazy(&proxy.url).expect("a URL"));
                let handler = Handler::new(does, pool);
                let webhook = webhook(handler.clone(), store);
                let case = Case { id: at * 10, when, silence, does, ends: (first, next), runs };
                tell(&case, &proxy, &handler, &webhook).await;
                (case.id as i64, next)
            }
        });
        let told = join_all(cases).await;
        let effects = effects(&pool).await;
        for (id, next) in told {
            let times = effects.iter().find(|(it, _)| *it == id).map_or(0, |(_, times)| *times);
            assert_eq!(times, i64::from(next == Fulfilled), "{id}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_holds_no_connection_meanwhile() {
    use Verdict::{Fulfilled, InProgress, NotRecorded, StoreUnavailable};
    story(|db| async move {
        let pool = db.ready(4).await;
        #[rustfmt::skip]
        let cases = [
            (Before, Open, Fulfilled, Fulfilled, 1),
            (Before, All, StoreUnavailable, Fulfilled, 1),
            (Before, At("SAVEPOINT", true), StoreUnavailable, Fulfilled, 1),
            // The record can only say that it started.
            (Before, At("COMMIT\0", true), StoreUnavailable, InProgress, 0),
            (Meanwhile, Open, Fulfilled, Fulfilled, 1),
            (Meanwhile, At("fulfilled", false), NotRecorded, InProgress, 1),
            (Meanwhile, At("COMMIT\0", false), NotRecorded, InProgress, 1),
            (Meanwhile, At("COMMIT\0", true), NotRecorded, Fulfilled, 1),
        ];
        let cases = (1..).zip(cases).map(|(at, (when, silence, first, next, runs))| {
            let (pool, db) = (pool.clone(), db.clone());
            async move {
                let proxy = Proxy::start(&db.url).await;
                let store = PostgresJournal::new(PgPool::connect_lazy(&proxy.url).expect("a URL"));
                let handler = Handler::new(Fulfils, pool.clone());
                let first_webhook = webhook(Elsewhere(handler.clone()), store.clone());
                let ends = (first, next);
                let case = Case { id: at * 10, when, silence, does: Fulfils, ends, runs };
                tell(&case, &proxy, &handler, &first_webhook).await;
                // Once its time is over, `was_fulfilled` is asked.
                let ago = "started_at = started_at - interval '2 minutes'";
                run(
                    &pool,
                    format!("UPDATE firstpromoter_fulfilments SET {ago} WHERE id = {}", case.id),
                )
                .await;
                handler.goes_on.notify_one();
                let mut verdict = InProgress;
                for _ in 0..100 {
                    verdict =
                        deliver(&webhook(Elsewhere(handler.clone()), store.clone()), case.id).await;
                    if verdict != InProgress {
                        break;
                    }
                    sleep(Duration::from_millis(100)).await;
                }
                assert_eq!(verdict, Fulfilled, "{when:?} {silence:?}");
            }
        });
        let told = join_all(cases).await.len();
        let effects = effects(&pool).await;
        assert_eq!(effects.len(), told * 2);
        assert!(effects.iter().all(|(_, times)| *times == 1), "{effects:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_as_the_store_may_have() {
    story(|db| async move {
        let pool = db.ready(4).await;
        let proxy = Proxy::start(&db.url).await;
        let store = PostgresStore::new(PgPool::connect_lazy(&proxy.url).expect("a URL"));
        let handler = Handler::new(Fulfils, pool.clone());
        handler.goes_on.notify_one();
        let webhook = webhook(handler, store);
        proxy.silence_at(Some(("COMMIT\0", false)));
        let begun = Instant::now();
        for verdict in join_all((1..9).map(|id| deliver(&webhook, id))).await {
            assert_eq!(verdict, Verdict::NotRecorded);
        }
        assert!(begun.elapsed() < BOUND, "{:?}", begun.elapsed());
        proxy.silence_at(None);
        let begun = Instant::now();
        assert_eq!(deliver(&webhook, 9).await, Verdict::Fulfilled);
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        sleep(Duration::from_millis(100)).await;
        for verdict in join_all((1..9).map(|id| deliver(&webhook, id))).await {
            assert_eq!(verdict, Verdict::Fulfilled);
        }
        assert_eq!(effects(&pool).await, (1..10).map(|id| (id, 1)).collect::<Vec<_>>());
    })
    .await;
}

/// The ROLLBACK of what was undone, or found busy, is never heard of: the answer does not wait for it,
/// and the fulfilment is free.
#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_is_not_waited_for_long() {
    story(|db| async move {
        let pool = db.ready(4).await;
        let other = PostgresStore::new(pool.clone());
        let journal = PostgresJournal::new(pool.clone());
        for (at, (through, is_busy)) in
            (0..).zip([(false, false), (true, false), (false, true), (true, true)])
        {
            let told = format!("{through} {is_busy}");
            let proxy = Proxy::start(&db.url).await;
            let store = PostgresStore::new(PgPool::connect_lazy(&proxy.url).expect("a URL"));
            let (warm, of) = (claim(2 * at), claim(2 * at + 1));
            let Begin::Run { tx, .. } = patiently(&store, &warm).await else { panic!() };
            store.end(tx, End::Pending).await.expect("a connection to use again");
            let begun = Instant::now();
            if is_busy {
                let Begin::Run { tx, .. } = patiently(&journal, &of).await else { panic!() };
                proxy.silence_at(Some(("ROLLBACK\0", through)));
                let busy = store.begin(&of).await.expect("it is known");
                assert!(matches!(busy, Begin::Busy), "{told}");
                let ended = journal.end(tx, End::Failed("no".into())).await.expect("a database");
                assert_eq!(ended, State::Failed, "{told}");
            } else {
                let Begin::Run { tx, .. } = patiently(&store, &of).await else { panic!() };
                proxy.silence_at(Some(("ROLLBACK\0", through)));
                let ended = store.end(tx, End::Failed("no".into())).await.expect("a database");
                assert_eq!(ended, State::Failed, "{told}");
            }
            assert_eq!(kind(&patiently(&other, &of).await), "run 2", "{told}");
            assert!(begun.elapsed() < Duration::from_secs(4), "{told}: {:?}", begun.elapsed());
        }
    })
    .await;
}
