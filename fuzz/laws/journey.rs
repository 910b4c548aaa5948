//! *Whatever the bytes, faults and order: `200` if and only if it is fulfilled, and fulfilled at most
//! once.*
//!
//! A script of bytes is played against a webhook with a faulty handler, a faulty store and a faulty
//! network, while the books record every effect. "If and only if" means:
//!
//! * **Only if.** At the moment of a `200` the fulfilment has taken effect once, for the promoter of
//!   this delivery, and the store has durably recorded it.
//! * **If.** Once that is so, every whole delivery is answered with `200`, through restarts. Where the
//!   store failed after the effect, the fulfilment is in doubt: it becomes `200` when `was_fulfilled`
//!   or an operator says so, and is never run again otherwise.
//! * **At most once**, and never by two handlers at a time, whatever was dropped, late or repeated.
//! * **At last.** When the faults are over, every fulfilment that is not in doubt can be fulfilled: no
//!   attempt is stuck.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    future::{Future, pending},
    panic::resume_unwind,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, join, poll_immediate},
    stream::FuturesUnordered,
};
use http::Request;
use http_body::{Body, Frame};
use serde_json::Value;
use tower::ServiceExt;
use tower_firstpromoter::{
    Access, BoxError, FulfilIn, Outcome, Verdict, Webhook,
    event::{Fulfilment, FulfilmentId},
    observe::DeliveryEvent,
    store::{Begin, Claim, End, MemoryStore, MemoryTx, Record, State, Store},
};

const SECRET: &str = "at-least-16-bytes";

/// Panics if the law does not hold for this script.
pub(crate) fn check(script: &[u8]) {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
    }
    let mut script = Script(script);
    let setting = script.next();
    RUNTIME.with(|runtime| {
        if setting & 2 == 0 {
            runtime.block_on(play::<false>(setting, script));
        } else {
            runtime.block_on(play::<true>(setting, script));
        }
    });
}

/// Bytes to decide by; past their end, each decision is the harmless one.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn next(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }
}

async fn play<const UNDOES: bool>(setting: u8, mut script: Script<'_>)
where
    Handler: FulfilIn<Tx<UNDOES>>,
{
    let faults: VecDeque<u8> = (0..script.next() % 16).map(|_| script.next()).collect();
    let books = Handler(Arc::new(Mutex::new(Books {
        short: setting & 1 != 0,
        idempotent: setting & 4 != 0,
        memory: (setting >> 3) & 3,
        watched: setting & 32 != 0,
        hangs: setting & 64 != 0,
        faults,
        ..Books::default()
    })));
    let store = Faulty::<UNDOES> { inner: MemoryStore::new(10_000), books: books.clone() };
    let mut hook = hook(&books, &store);
    let mut old = Vec::new();

    let mut deliveries = FuturesUnordered::new();
    let mut serial = 0;
    while !script.0.is_empty() && serial < 16 {
        serial += 1;
        let step = script.next();
        if step >= 0xf8 {
            // A second process, beside the first one or after it.
            let successor = self::hook(&books, &store);
            old.push(std::mem::replace(&mut hook, successor));
            if step & 1 == 0 {
                // Its senders still listen.
                let senders = async { while deliveries.next().await.is_some() {} };
                join(old.last().expect("one").close(), senders).await;
            }
            continue;
        }
        let sent = Sent::new(&mut script, step);
        deliveries.push(deliver(hook.clone(), books.clone(), sent));
        if step & 0x80 == 0 {
            while deliveries.next().await.is_some() {}
        } else {
            let _ = poll_immediate(deliveries.next()).await;
        }
    }
    while deliveries.next().await.is_some() {}
    old.push(hook);
    for hook in &old {
        hook.close().await;
    }
    // What the store does late has been done by then.
    tokio::time::sleep(Duration::from_secs(60)).await;
    books.lock().faults.clear();
    books.lock().hangs = false;
    afterwards(&books, &store).await;
    if let Some(breach) = books.lock().breach.take() {
        panic!("{breach}");
    }
}

/// All faults are over.
async fn afterwards<const UNDOES: bool>(books: &Handler, store: &Faulty<UNDOES>)
where
    Handler: FulfilIn<Tx<UNDOES>>,
{
    let hook = hook(books, store);
    let ids: HashSet<u64> = books.lock().seen.iter().copied().chain([1, 2]).collect();
    for id in ids {
        let record = store.get(id.into()).await.expect("it cannot fail");
        let promoter = record.as_ref().map_or(7, |record| record.promoter.get());
        // What never ran may be forged, and belongs to no promoter.
        let ran = record.as_ref().is_some_and(|it| it.attempts > 0 || it.state != State::Failed);
        let state = record.map(|record| record.state);
        let (recorded, times, knows) = {
            let books = books.lock();
            let knows = books.memory == 0 || books.idempotent;
            (books.recorded.contains_key(&id), books.times(id), knows)
        };
        assert_eq!(recorded, state == Some(State::Fulfilled), "{state:?}");
        assert_ne!(state, Some(State::Started), "nobody is at work");
        if UNDOES {
            assert_eq!(recorded, times > 0, "effect and record go together");
        }

        if ran {
            let another = whole_delivery(&hook, id, promoter ^ 1).await;
            assert_eq!(another, (500, Verdict::RecordMismatch), "another promoter's");
        }
        let (status, verdict) = whole_delivery(&hook, id, promoter).await;
        if state == Some(State::InDoubt) && !knows {
            assert_eq!((status, verdict), (500, Verdict::InDoubt));
            assert_eq!(books.lock().times(id), times, "ran in doubt");
            assert!(store.resolve(id.into(), times > 0).await.expect("it cannot fail"));
            assert_eq!(whole_delivery(&hook, id, promoter).await.0, 200, "resolved");
        } else {
            assert_eq!((status, verdict), (200, Verdict::Fulfilled), "{state:?}");
        }
        let again =
            join(whole_delivery(&hook, id, promoter), whole_delivery(&hook, id, promoter)).await;
        assert_eq!((again.0.0, again.1.0), (200, 200), "again");
        assert_eq!(books.lock().times(id), 1, "times fulfilled");
    }
    hook.close().await;
    let (status, verdict) = whole_delivery(&hook, u64::MAX, 7).await;
    assert_eq!((status, verdict), (503, Verdict::ShuttingDown));
}

async fn whole_delivery(hook: &Webhook, id: u64, promoter: u64) -> (u16, Verdict) {
    let mut sent = Sent::new(&mut Script(&[]), 0);
    sent.body = payload(id, promoter, 0);
    let answer = hook.clone().oneshot(sent.request()).await.unwrap_or_else(|never| match never {});
    (answer.status().as_u16(), *answer.extensions().get().expect("a verdict"))
}

fn hook<const UNDOES: bool>(books: &Handler, store: &Faulty<UNDOES>) -> Webhook
where
    Handler: FulfilIn<Tx<UNDOES>>,
{
    let (watched, short) = {
        let books = books.lock();
        (books.watched, books.short)
    };
    let access = Access::query("key", SECRET).expect("long enough");
    Webhook::new(books.clone(), store.clone(), access)
        // Below or above the deadline of a delivery.
        .attempt_within(Duration::from_secs(if short { 9 } else { 20 }))
        // Whoever watches, the law holds.
        .observe(move |_: &DeliveryEvent<'_>| {
            if watched {
                resume_unwind(Box::new("the observer panics"));
            }
        })
}

/// Sends it, and judges the answer.
async fn deliver(hook: Webhook, books: Handler, sent: Sent) {
    let reading = sent.reads_as();
    let due = sent.is_whole() && {
        let books = books.lock();
        let decoded = Fulfilment::decode(sent.body.clone());
        let decoded = decoded.map(|it| (it.id.get(), it.promoter.id.get()));
        books.faults.is_empty()
            && books.slow_calls == 0
            && decoded
                .is_ok_and(|it| reading == Some(it) && books.recorded.get(&it.0) == Some(&it.1))
    };
    let call = async { hook.oneshot(sent.request()).await.unwrap_or_else(|never| match never {}) };
    let answer = UpTo { polls: sent.hangs_up_after, work: Box::pin(call) }.await;
    let mut books = books.lock();
    let Some(answer) = answer else {
        if due {
            books.breach("a whole delivery of what is fulfilled has to wait");
        }
        return;
    };
    let verdict = *answer.extensions().get::<Verdict>().expect("a verdict");
    assert_eq!(answer.status(), verdict.status());
    if answer.status() == 200 {
        match reading.filter(|_| sent.has_secret) {
            None => books.breach(format!("200 for what is no fulfilment: {:?}", sent.body)),
            Some((id, promoter)) => {
                if books.times(id) != 1 || books.recorded.get(&id) != Some(&promoter) {
                    books.breach(format!("200 for {id} of {promoter}, which is not fulfilled"));
                }
            }
        }
    } else if due && verdict != Verdict::ShuttingDown {
        let now = format!("{:?} running {:?}", books.recorded, books.at_work);
        let (how, hangs_up_after) = (sent.how, sent.hangs_up_after);
        books
            .breach(format!("{verdict:?} for {reading:?} of {now}, sent {how} {hangs_up_after:?}"));
    }
}

/// One delivery and what befalls it.
struct Sent {
    body: Bytes,
    has_secret: bool,
    how: u8,
    chunk: usize,
    /// So many polls, then the sender hangs up.
    hangs_up_after: Option<u8>,
}

impl Sent {
    fn new(script: &mut Script<'_>, step: u8) -> Self {
        let id = u64::from(step & 1) + 1;
        let body = payload(id, 7, if step & 2 == 0 { 0 } else { script.next() });
        let body = if step & 4 == 0 { body } else { spoilt(body, script) };
        let how = if step & 8 == 0 { 0 } else { script.next() };
        let hangs_up_after = (step & 16 != 0).then(|| script.next() % 8);
        let has_secret = step & 96 != 96;
        Self { body, has_secret, how: how & 7, chunk: usize::from(how >> 3), hangs_up_after }
    }

    fn request(&self) -> Request<Frames> {
        let key = if self.has_secret { SECRET } else { "at-least-16-bytez" };
        let request = Request::post(format!("/?key={key}"))
            .header("content-type", "application/json")
            .body(Frames::new(self));
        request.expect("a request")
    }

    fn is_whole(&self) -> bool {
        self.has_secret && self.hangs_up_after.is_none() && !matches!(self.how, 3 | 4 | 6)
    }

    /// The fulfilment and the promoter, as another reader finds them.
    fn reads_as(&self) -> Option<(u64, u64)> {
        let Ok(value) = serde_json::from_slice::<Value>(&self.body) else {
            // There is text that `Value` cannot hold, in a member nobody needs.
            let fulfilment = Fulfilment::decode(self.body.clone()).ok()?;
            return Some((fulfilment.id.get(), fulfilment.promoter.id.get()));
        };
        let data = &value["data"];
        let number = |value: &Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
        let complete = value["event"]["type"] == "fulfilment_pending"
            && (data["amount"].is_number() || data["amount"].is_string())
            && data["unit"].as_str().is_some_and(|unit| !unit.is_empty())
            && data["status"].as_str().is_none_or(|status| matches!(status, "" | "pending"));
        if complete { Some((number(&data["id"])?, number(&data["promoter"]["id"])?)) } else { None }
    }
}

/// `event.id` tells the handler what to do.
fn payload(id: u64, promoter: u64, behaviour: u8) -> Bytes {
    format!(
        r#"{{"event":{{"id":{behaviour},"type":"fulfilment_pending"}},"data":{{"id":{id},"amount":3,"unit":"credits","promoter":{{"id":{promoter},"cust_id":""}}}}}}"#
    )
    .into()
}

fn spoilt(body: Bytes, script: &mut Script<'_>) -> Bytes {
    let replaced = |from: &str, to: &str| {
        let text = std::str::from_utf8(&body).expect("our own");
        Bytes::from(text.replacen(from, to, 1))
    };
    match script.next() {
        0 => replaced("fulfilment_pending", "lead_signup"),
        1 => replaced("\"id\":7", "\"id\":\"7\",\"auth_token\":\"2-5P1S\""),
        2 => Bytes::from_static(br#"{"event":{"type":"fulfilment_pending"},"data":{"test":true}}"#),
        3 => replaced("\"amount\"", "\"status\":\"completed\",\"amount\""),
        4 => body.slice(..usize::from(script.next()) % body.len()),
        5 => [&body[..], &[script.next()]].concat().into(),
        6 => replaced("\"amount\":3", "\"amount\":null"),
        7 => replaced("\"amount\"", "\"id\":2,\"amount\""),
        8 => replaced("}}", "},\"deep\":[[[[1e999,\"\\ud800\"]]]]}"),
        // Another account's.
        10 | 11 => replaced("\"id\":7", "\"id\":8"),
        9 => {
            let length = usize::from(script.next()).min(script.0.len());
            let (bytes, rest) = script.0.split_at(length);
            script.0 = rest;
            Bytes::copy_from_slice(bytes)
        }
        at => {
            let mut body = body.to_vec();
            let at = usize::from(at) % body.len();
            body[at] = script.next();
            body.into()
        }
    }
}

/// A body, as the network cuts it up.
struct Frames {
    frames: VecDeque<Step>,
    nap: Option<Pin<Box<tokio::time::Sleep>>>,
}

enum Step {
    Data(Bytes),
    Trailers,
    Pause,
    Sleep(Duration),
    Break,
}

impl Frames {
    fn new(sent: &Sent) -> Self {
        let body = &sent.body;
        let size = if sent.chunk == 0 { body.len().max(1) } else { sent.chunk };
        let mut frames = VecDeque::new();
        for (index, start) in (0..body.len()).step_by(size).enumerate() {
            match sent.how {
                1 => frames.push_back(Step::Data(Bytes::new())),
                2 => frames.push_back(Step::Pause),
                3 if index == 1 => frames.push_back(Step::Break),
                7 if index < 4 => frames.push_back(Step::Sleep(Duration::from_secs(2))),
                _ => {}
            }
            frames.push_back(Step::Data(body.slice(start..body.len().min(start + size))));
        }
        match sent.how {
            3 | 6 => frames.push_back(Step::Break),
            4 => frames.push_back(Step::Sleep(Duration::MAX)),
            5 => frames.push_back(Step::Trailers),
            _ => {}
        }
        Self { frames, nap: None }
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        if let Some(nap) = &mut self.nap {
            if nap.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.nap = None;
        }
        Poll::Ready(match self.frames.pop_front() {
            Some(Step::Data(data)) => Some(Ok(Frame::data(data))),
            Some(Step::Trailers) => Some(Ok(Frame::trailers(http::HeaderMap::new()))),
            Some(Step::Break) => Some(Err("reset by peer")),
            Some(Step::Pause) => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Some(Step::Sleep(nap)) => {
                self.nap = Some(Box::pin(tokio::time::sleep(nap)));
                return self.poll_frame(cx);
            }
            None => None,
        })
    }
}

/// A future that is dropped after so many polls.
struct UpTo<'a, T> {
    polls: Option<u8>,
    work: BoxFuture<'a, T>,
}

impl<T> Future for UpTo<'_, T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if let Some(polls) = &mut self.polls {
            let Some(left) = polls.checked_sub(1) else { return Poll::Ready(None) };
            *polls = left;
            // As if its connection had something to say each time.
            cx.waker().wake_by_ref();
        }
        self.work.as_mut().poll(cx).map(Some)
    }
}

/// The handler, and the books of all effects.
#[derive(Clone)]
struct Handler(Arc<Mutex<Books>>);

#[derive(Default)]
struct Books {
    /// Whether an attempt is cut off before a delivery's deadline.
    short: bool,
    /// Whether a second run has no further effect, so that it may be run again in doubt.
    idempotent: bool,
    /// Whether an observer panics at each event.
    watched: bool,
    /// What `was_fulfilled` answers: the truth, nothing, an error, a panic.
    memory: u8,
    /// Whether `was_fulfilled` never answers.
    hangs: bool,
    /// For the store's next calls.
    faults: VecDeque<u8>,
    /// Calls of the store that a fault holds up.
    slow_calls: u32,
    effects: HashMap<u64, u32>,
    /// The promoter of each fulfilment that is durably recorded as fulfilled.
    recorded: HashMap<u64, u64>,
    at_work: HashSet<u64>,
    seen: HashSet<u64>,
    /// Not a panic at once, because the webhook would catch it.
    breach: Option<String>,
}

impl Books {
    fn times(&self, id: u64) -> u32 {
        self.effects.get(&id).copied().unwrap_or(0)
    }

    fn take_effect(&mut self, id: u64) {
        if self.idempotent && self.times(id) > 0 {
            return;
        }
        *self.effects.entry(id).or_default() += 1;
        if self.times(id) > 1 {
            self.breach(format!("{id} is fulfilled twice"));
        }
    }

    fn breach(&mut self, what: impl Into<String>) {
        self.breach.get_or_insert(what.into());
    }
}

struct AtWork<'a>(&'a Handler, u64);

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.lock().at_work.remove(&self.1);
    }
}

impl Handler {
    fn lock(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(|poison| poison.into_inner())
    }

    fn starts(&self, id: u64) -> AtWork<'_> {
        let mut books = self.lock();
        books.seen.insert(id);
        if !books.at_work.insert(id) {
            books.breach(format!("two handlers at {id}"));
        }
        AtWork(self, id)
    }

    fn run(
        &self,
        fulfilment: Fulfilment,
        take_effect: impl FnOnce(u64) + Send,
    ) -> impl Future<Output = Result<Outcome, BoxError>> + Send {
        let behaviour = fulfilment.event.id.unwrap_or(0) as u8;
        if behaviour == 6 {
            resume_unwind(Box::new("before the future"));
        }
        async move {
            let id = fulfilment.id.get();
            let _at_work = self.starts(id);
            nap(behaviour >> 3).await;
            if behaviour & 0x80 != 0 {
                pending::<()>().await; // until it is cut off
            }
            match behaviour & 7 {
                2 => return Ok(Outcome::Pending),
                3 => return Err("no such user".into()),
                4 => resume_unwind(Box::new("before the effect")),
                7 => return Ok(Outcome::InDoubt("timed out, before the effect".to_owned())),
                _ => take_effect(id),
            }
            // With the first one, this may last until it is cut off.
            nap(behaviour >> 5).await;
            match behaviour & 7 {
                1 => Ok(Outcome::InDoubt("timed out, after the effect".to_owned())),
                5 => resume_unwind(Box::new("after the effect")),
                _ => Ok(Outcome::Fulfilled),
            }
        }
    }

    async fn remembers(&self, fulfilment: &Fulfilment) -> Result<Option<bool>, BoxError> {
        let (memory, idempotent, hangs, took_effect) = {
            let books = self.lock();
            (books.memory, books.idempotent, books.hangs, books.times(fulfilment.id.get()) > 0)
        };
        if hangs {
            pending::<()>().await;
        }
        match memory {
            _ if idempotent => Ok(Some(false)),
            0 => Ok(Some(took_effect)),
            1 => Ok(None),
            2 => Err("cannot say".into()),
            _ => resume_unwind(Box::new("cannot say")),
        }
    }
}

async fn nap(kind: u8) {
    match kind & 3 {
        0 => {}
        1 => tokio::task::yield_now().await,
        2 => tokio::time::sleep(Duration::from_secs(1)).await,
        _ => tokio::time::sleep(Duration::from_secs(11)).await,
    }
}

/// In a journal, the effect is elsewhere.
impl FulfilIn<Tx<false>> for Handler {
    type Error = BoxError;

    fn fulfil_in(
        &self,
        fulfilment: Fulfilment,
        _: &mut Tx<false>,
    ) -> impl Future<Output = Result<Outcome, BoxError>> + Send {
        self.run(fulfilment, |id| self.lock().take_effect(id))
    }

    async fn was_fulfilled(&self, fulfilment: &Fulfilment) -> Result<Option<bool>, BoxError> {
        self.remembers(fulfilment).await
    }
}

/// In a transactional store, the effect commits with the record.
impl FulfilIn<Tx<true>> for Handler {
    type Error = BoxError;

    fn fulfil_in(
        &self,
        fulfilment: Fulfilment,
        tx: &mut Tx<true>,
    ) -> impl Future<Output = Result<Outcome, BoxError>> + Send {
        self.run(fulfilment, |_| tx.effect = true)
    }

    async fn was_fulfilled(&self, fulfilment: &Fulfilment) -> Result<Option<bool>, BoxError> {
        self.remembers(fulfilment).await
    }
}

/// A [`MemoryStore`] that fails as it is told to: a journal, or a transactional store.
#[derive(Clone)]
struct Faulty<const UNDOES: bool> {
    inner: MemoryStore,
    books: Handler,
}

struct Tx<const UNDOES: bool> {
    inner: Option<MemoryTx>,
    store: Faulty<UNDOES>,
    id: u64,
    promoter: u64,
    /// What commits with the record.
    effect: bool,
}

impl<const UNDOES: bool> Drop for Tx<UNDOES> {
    fn drop(&mut self) {
        if let Some(tx) = self.inner.take().filter(|_| UNDOES) {
            let end = self.store.inner.end(tx, End::NotRun("undone".to_owned()));
            end.now_or_never().expect("it does not wait").expect("it cannot fail");
        }
    }
}

impl<const UNDOES: bool> Faulty<UNDOES> {
    fn fault(&self) -> u8 {
        self.books.lock().faults.pop_front().unwrap_or(0) & 7
    }

    async fn is_slow(&self) {
        self.books.lock().slow_calls += 1;
        nap(3).await;
        self.books.lock().slow_calls -= 1;
    }

    async fn really_begin(&self, claim: &Claim) -> Begin<Tx<UNDOES>> {
        let (id, promoter) = (claim.id().get(), claim.promoter().get());
        let tx = |tx| Tx { inner: Some(tx), store: self.clone(), id, promoter, effect: false };
        match self.inner.begin(claim).await.unwrap_or_else(|never| match never {}) {
            Begin::Run { tx: inner, attempt } => Begin::Run { tx: tx(inner), attempt },
            Begin::InDoubt { tx: inner, attempt } => Begin::InDoubt { tx: tx(inner), attempt },
            Begin::Fulfilled => Begin::Fulfilled,
            Begin::Busy => Begin::Busy,
            Begin::Mismatch => Begin::Mismatch,
        }
    }

    async fn really_end(&self, mut tx: Tx<UNDOES>, end: End) -> State {
        if tx.effect && matches!(end, End::Fulfilled | End::Pending) {
            self.books.lock().take_effect(tx.id);
        }
        let end = match end {
            End::Interrupted(reason) if UNDOES => End::Failed(reason),
            end => end,
        };
        let inner = tx.inner.take().expect("it is ended once");
        let state = self.inner.end(inner, end).await.unwrap_or_else(|never| match never {});
        if state == State::Fulfilled {
            self.books.lock().recorded.insert(tx.id, tx.promoter);
        }
        state
    }
}

impl<const UNDOES: bool> Store for Faulty<UNDOES> {
    type Tx = Tx<UNDOES>;
    type Error = BoxError;

    async fn begin(&self, claim: &Claim) -> Result<Begin<Tx<UNDOES>>, BoxError> {
        self.books.lock().seen.insert(claim.id().get());
        match self.fault() {
            1 => Err("out of reach".into()),
            2 => {
                drop(self.really_begin(claim).await);
                Err("the answer was lost".into())
            }
            3 => resume_unwind(Box::new("the store panics")),
            4 => {
                self.is_slow().await;
                Ok(self.really_begin(claim).await)
            }
            5 => {
                let begun = self.really_begin(claim).await;
                self.is_slow().await;
                Ok(begun)
            }
            _ => Ok(self.really_begin(claim).await),
        }
    }

    async fn end(&self, tx: Tx<UNDOES>, end: End) -> Result<State, BoxError> {
        match self.fault() {
            1 => Err("out of reach".into()),
            2 => {
                self.really_end(tx, end).await;
                Err("the answer was lost".into())
            }
            3 => resume_unwind(Box::new("the store panics")),
            4 => {
                self.is_slow().await;
                Ok(self.really_end(tx, end).await)
            }
            5 => {
                self.really_end(tx, end).await;
                resume_unwind(Box::new("the store panics"))
            }
            _ => Ok(self.really_end(tx, end).await),
        }
    }

    async fn get(&self, id: FulfilmentId) -> Result<Option<Record>, BoxError> {
        Ok(self.inner.get(id).await?)
    }

    async fn open(&self, limit: usize) -> Result<Vec<Record>, BoxError> {
        Ok(self.inner.open(limit).await?)
    }

    async fn resolve(&self, id: FulfilmentId, fulfilled: bool) -> Result<bool, BoxError> {
        let resolved = self.inner.resolve(id, fulfilled).await?;
        if let Some(record) = self.inner.get(id).await?.filter(|_| resolved && fulfilled) {
            self.books.lock().recorded.insert(id.get(), record.promoter.get());
        }
        Ok(resolved)
    }

    async fn forget(&self, id: FulfilmentId) -> Result<bool, BoxError> {
        Ok(self.inner.forget(id).await?)
    }
}
