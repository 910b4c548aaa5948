//! *Whatever the bytes, faults and order: `200` if and only if the reward is granted, and granted at
//! most once.*
//!
//! A script of bytes is played against a webhook with a faulty handler, a faulty store and a faulty
//! network, while the shop, who grants, keeps the books. "If and only if" means:
//!
//! * **Only if.** At the moment of a `200` the shop has granted this reward, once, and the store has
//!   durably taken it down. Without a store: the handler said so for this very delivery.
//! * **If.** Once that is so, every whole delivery is answered with `200`, through restarts. Where the
//!   store failed after the grant, the answer is `503` and the reward in doubt: it becomes `200`
//!   when the handler remembers it or an operator settles it, and is never granted again.
//! * **At most once**, and never by two handlers at a time, whatever was dropped, late or repeated.
//! * **At last.** When the faults are over, every reward that is not in doubt can be granted: no
//!   claim is stuck.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    future::Future,
    panic::resume_unwind,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::{
    StreamExt,
    future::{BoxFuture, join, poll_immediate},
    stream::FuturesUnordered,
};
use http::{Request, Response};
use http_body::{Body, Frame};
use serde_json::Value;
use tower::ServiceExt;
use tower_firstpromoter::{
    Access, BoxError, Fulfil, FulfilIn, Outcome, ReplyBody, Verdict, Webhook,
    event::{Fulfilment, FulfilmentId},
    observe::Seen,
    once::{Begin, Claim, End, MemoryStore, Once, Record, Store},
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
    RUNTIME.with(|runtime| runtime.block_on(play(Script(script))));
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

async fn play(mut script: Script<'_>) {
    let setting = script.next();
    let mode = match setting & 3 {
        0 | 1 => Mode::Elsewhere,
        2 => Mode::InTransaction,
        _ => Mode::Alone,
    };
    let faults: VecDeque<u8> = (0..script.next() % 16).map(|_| script.next()).collect();
    let shop = Shop(Arc::new(Mutex::new(Books {
        mode,
        idempotent: setting & 4 != 0,
        watched: setting & 32 != 0,
        memory: (setting >> 3) & 3,
        faults,
        ..Books::default()
    })));
    let store = Faulty { inner: MemoryStore::new(10_000), shop: shop.clone() };
    let mut hook = Hook::new(&shop, &store);
    let mut old = Vec::new();

    let mut deliveries = FuturesUnordered::new();
    let mut serial = 0;
    while !script.0.is_empty() && serial < 16 {
        serial += 1;
        let step = script.next();
        if step >= 0xf8 {
            // A second process, beside the first one or after it.
            let successor = Hook::new(&shop, &store);
            old.push(std::mem::replace(&mut hook, successor));
            if step & 1 == 0 {
                // Its senders still listen.
                let senders = async { while deliveries.next().await.is_some() {} };
                join(old.last().expect("one").close(), senders).await;
            }
            continue;
        }
        let sent = Sent::new(&mut script, step);
        deliveries.push(deliver(hook.clone(), shop.clone(), sent));
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
    shop.books().faults.clear();
    afterwards(&shop, &store).await;
    if let Some(breach) = shop.books().breach.take() {
        panic!("{breach}");
    }
}

/// All faults are over.
async fn afterwards(shop: &Shop, store: &Faulty) {
    let mode = shop.books().mode;
    if mode == Mode::Alone {
        let books = shop.books();
        assert_eq!(books.said_so, books.answered_200, "200s without a store");
        return;
    }
    let hook = Hook::new(shop, store);
    let doubted = store.inner.in_doubt().await.expect("it cannot fail");
    let ids: HashSet<u64> = shop.books().seen.iter().copied().chain([1, 2]).collect();
    for id in ids {
        let (recorded, granted) = {
            let books = shop.books();
            (books.recorded.contains(&id), books.granted(id))
        };
        let doubted = mode == Mode::Elsewhere
            && !shop.books().idempotent
            && doubted.iter().any(|record| record.id.get() == id);
        assert!(!(recorded && doubted), "recorded and in doubt");
        let knows = shop.books().memory == 0;

        let (status, verdict) = whole_delivery(&hook, id).await;
        if doubted && !knows {
            assert_eq!((status, verdict), (500, Verdict::InDoubt));
            assert_eq!(shop.books().granted(id), granted, "granted in doubt");
            assert!(store.settle(id.into(), granted > 0).await.expect("it cannot fail"));
            assert_eq!(whole_delivery(&hook, id).await.0, 200, "settled");
        } else {
            assert_eq!((status, verdict), (200, Verdict::Granted), "{recorded} {doubted}");
        }
        let again = join(whole_delivery(&hook, id), whole_delivery(&hook, id)).await;
        assert_eq!((again.0.0, again.1.0), (200, 200), "again");
        assert_eq!(shop.books().granted(id), 1, "times granted");
    }
    hook.close().await;
    let (status, verdict) = whole_delivery(&hook, u64::MAX).await;
    assert_eq!((status, verdict), (503, Verdict::ShuttingDown));
}

async fn whole_delivery(hook: &Hook, id: u64) -> (u16, Verdict) {
    let mut sent = Sent::new(&mut Script(&[]), 0);
    sent.body = payload(id, 0);
    let answer = hook.call(sent.request()).await;
    (answer.status().as_u16(), *answer.extensions().get().expect("a verdict"))
}

#[derive(Clone)]
enum Hook {
    Once(Webhook<Once>),
    Alone(Webhook<Shop>),
}

impl Hook {
    fn new(shop: &Shop, store: &Faulty) -> Self {
        let access = Access::query("key", SECRET);
        let (mode, idempotent, watched) = {
            let books = shop.books();
            (books.mode, books.idempotent, books.watched)
        };
        // Whoever watches, the law holds.
        let observer = move |_: &Seen<'_>| {
            if watched {
                resume_unwind(Box::new("the observer panics"));
            }
        };
        let hook = match mode {
            Mode::Alone => {
                return Self::Alone(Webhook::new(shop.clone(), access).observe(observer));
            }
            Mode::Elsewhere => Webhook::new(shop.clone(), access).once(store.clone()),
            Mode::InTransaction => Webhook::new(InTx(shop.clone()), access).once(store.clone()),
        };
        let hook = hook.observe(observer);
        Self::Once(if idempotent { hook.handler_is_idempotent() } else { hook })
    }

    async fn call(&self, request: Request<Frames>) -> Response<ReplyBody> {
        let answer = match self {
            Self::Once(hook) => hook.clone().oneshot(request).await,
            Self::Alone(hook) => hook.clone().oneshot(request).await,
        };
        answer.unwrap_or_else(|never| match never {})
    }

    async fn close(&self) {
        if let Self::Once(hook) = self {
            hook.close().await;
        }
    }
}

/// Sends it, and judges the answer.
async fn deliver(hook: Hook, shop: Shop, sent: Sent) {
    let id = sent.reads_as();
    let due = sent.is_whole() && {
        let books = shop.books();
        let reward = Fulfilment::decode(sent.body.clone()).map(|fulfilment| fulfilment.id.get());
        books.mode != Mode::Alone
            && books.faults.is_empty()
            && books.slow_calls == 0
            && reward.is_ok_and(|reward| id == Some(reward) && books.recorded.contains(&reward))
    };
    let request = sent.request();
    let answer = UpTo { polls: sent.patience, work: Box::pin(hook.call(request)) }.await;
    let mut books = shop.books();
    let Some(answer) = answer else {
        if due {
            books.breach("a whole delivery of a granted reward has to wait");
        }
        return;
    };
    let verdict = *answer.extensions().get::<Verdict>().expect("a verdict");
    assert_eq!(answer.status(), verdict.status());
    if answer.status() == 200 {
        books.answered_200 += 1;
        match id.filter(|_| sent.has_secret) {
            None => books.breach(format!("200 for what is no fulfilment: {:?}", sent.body)),
            Some(_) if books.mode == Mode::Alone => {}
            Some(id) => {
                if books.granted(id) != 1 || !books.recorded.contains(&id) {
                    books.breach(format!("200 for {id}, which nobody granted"));
                }
            }
        }
    } else if due && verdict != Verdict::ShuttingDown {
        let now = format!("{:?} running {:?}", books.recorded, books.at_work);
        let (how, patience) = (sent.how, sent.patience);
        books.breach(format!("{verdict:?} for {id:?} of {now}, sent {how} {patience:?}"));
    }
}

/// One delivery and what befalls it.
struct Sent {
    body: Bytes,
    has_secret: bool,
    how: u8,
    chunk: usize,
    /// So many polls, then the sender hangs up.
    patience: Option<u8>,
}

impl Sent {
    fn new(script: &mut Script<'_>, step: u8) -> Self {
        let id = u64::from(step & 1) + 1;
        let body = payload(id, if step & 2 == 0 { 0 } else { script.next() });
        let body = if step & 4 == 0 { body } else { spoilt(body, script) };
        let how = if step & 8 == 0 { 0 } else { script.next() };
        let patience = (step & 16 != 0).then(|| script.next() % 8);
        let has_secret = step & 96 != 96;
        Self { body, has_secret, how: how & 7, chunk: usize::from(how >> 3), patience }
    }

    fn request(&self) -> Request<Frames> {
        let key = if self.has_secret { SECRET } else { "at-least-16-bytez" };
        let request = Request::post(format!("/?key={key}"))
            .header("content-type", "application/json")
            .body(Frames::new(self));
        request.expect("a request")
    }

    fn is_whole(&self) -> bool {
        self.has_secret && self.patience.is_none() && !matches!(self.how, 3 | 4 | 6)
    }

    /// Which reward another reader would say that this is for.
    fn reads_as(&self) -> Option<u64> {
        let Ok(value) = serde_json::from_slice::<Value>(&self.body) else {
            // There is text that `Value` cannot hold, in a member nobody needs.
            return Some(Fulfilment::decode(self.body.clone()).ok()?.id.get());
        };
        let data = &value["data"];
        let id = data["id"].as_u64().or_else(|| data["id"].as_str()?.parse().ok())?;
        let promoter = &data["promoter"]["id"];
        let complete = value["event"]["type"] == "fulfilment_pending"
            && (data["amount"].is_number() || data["amount"].is_string())
            && data["unit"].as_str().is_some_and(|unit| !unit.is_empty())
            && (promoter.is_u64() || promoter.is_string())
            && data["status"].as_str().is_none_or(|status| matches!(status, "" | "pending"));
        complete.then_some(id)
    }
}

/// `event.id` tells the handler what to do.
fn payload(id: u64, behaviour: u8) -> Bytes {
    format!(
        r#"{{"event":{{"id":{behaviour},"type":"fulfilment_pending"}},"data":{{"id":{id},"amount":3,"unit":"credits","promoter":{{"id":7,"cust_id":""}}}}}}"#
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

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Mode {
    /// Grants elsewhere, so that a grant cut off is in doubt.
    #[default]
    Elsewhere,
    /// Grants in the store's transaction, which undoes what is cut off.
    InTransaction,
    /// No store.
    Alone,
}

/// Who grants, and whatever is known about it.
#[derive(Clone)]
struct Shop(Arc<Mutex<Books>>);

#[derive(Default)]
struct Books {
    mode: Mode,
    idempotent: bool,
    /// Whether an observer panics at each thing it is told.
    watched: bool,
    /// What `was_granted` answers: the truth, nothing, an error, a panic.
    memory: u8,
    /// For the store's next calls.
    faults: VecDeque<u8>,
    /// Calls of the store that a fault holds up.
    slow_calls: u32,
    granted: HashMap<u64, u32>,
    recorded: HashSet<u64>,
    at_work: HashSet<u64>,
    seen: HashSet<u64>,
    said_so: u32,
    answered_200: u32,
    /// Not a panic at once, because the webhook would catch it.
    breach: Option<String>,
}

impl Books {
    fn granted(&self, id: u64) -> u32 {
        self.granted.get(&id).copied().unwrap_or(0)
    }

    fn grant(&mut self, id: u64) {
        if self.idempotent && self.granted(id) > 0 {
            return;
        }
        *self.granted.entry(id).or_default() += 1;
        if self.mode != Mode::Alone && self.granted(id) > 1 {
            self.breach(format!("{id} is granted twice"));
        }
    }

    fn breach(&mut self, what: impl Into<String>) {
        self.breach.get_or_insert(what.into());
    }
}

struct AtWork<'a>(&'a Shop, u64);

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.books().at_work.remove(&self.1);
    }
}

impl Shop {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(|poison| poison.into_inner())
    }

    fn sits_down(&self, id: u64) -> AtWork<'_> {
        let mut books = self.books();
        books.seen.insert(id);
        if !books.at_work.insert(id) && books.mode != Mode::Alone {
            books.breach(format!("two handlers at {id}"));
        }
        AtWork(self, id)
    }

    async fn work(
        &self,
        fulfilment: &Fulfilment,
        grant: impl FnOnce(u64),
    ) -> Result<Outcome, BoxError> {
        let behaviour = fulfilment.event.id.unwrap_or(0) as u8;
        let id = fulfilment.id.get();
        let _at_work = self.sits_down(id);
        nap(behaviour >> 3).await;
        match behaviour & 7 {
            2 => Ok(Outcome::Pending),
            3 => Err("no such user".into()),
            4 => resume_unwind(Box::new("before the grant")),
            5 => {
                grant(id);
                nap(behaviour >> 5).await;
                resume_unwind(Box::new("after the grant"))
            }
            _ => {
                grant(id);
                nap(behaviour >> 5).await;
                self.books().said_so += 1;
                Ok(Outcome::Fulfilled)
            }
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

impl Fulfil for Shop {
    type Error = BoxError;

    #[allow(clippy::manual_async_fn, reason = "one behaviour panics before there is a future")]
    fn fulfil(
        &self,
        fulfilment: Fulfilment,
    ) -> impl Future<Output = Result<Outcome, BoxError>> + Send {
        if fulfilment.event.id.unwrap_or(0) & 0xff == 6 {
            resume_unwind(Box::new("before the future"));
        }
        async move { self.work(&fulfilment, |id| self.books().grant(id)).await }
    }

    async fn was_granted(&self, fulfilment: &Fulfilment) -> Result<Option<bool>, BoxError> {
        let (memory, granted) = {
            let books = self.books();
            (books.memory, books.granted(fulfilment.id.get()) > 0)
        };
        match memory {
            0 => Ok(Some(granted)),
            1 => Ok(None),
            2 => Err("cannot say".into()),
            _ => resume_unwind(Box::new("cannot say")),
        }
    }
}

/// The shop, as it grants in a transaction.
struct InTx(Shop);

impl FulfilIn<Ticket> for InTx {
    type Error = BoxError;

    async fn fulfil_in(
        &self,
        fulfilment: Fulfilment,
        ticket: &mut Ticket,
    ) -> Result<Outcome, BoxError> {
        self.0.work(&fulfilment, |_| ticket.grants = true).await
    }
}

/// A [`MemoryStore`] that fails as it is told to.
#[derive(Clone)]
struct Faulty {
    inner: MemoryStore,
    shop: Shop,
}

struct Ticket {
    tx: <MemoryStore as Store>::Tx,
    id: u64,
    /// What commits with the record.
    grants: bool,
}

impl Faulty {
    fn fault(&self) -> u8 {
        self.shop.books().faults.pop_front().unwrap_or(0) & 7
    }

    async fn is_slow(&self) {
        self.shop.books().slow_calls += 1;
        nap(3).await;
        self.shop.books().slow_calls -= 1;
    }

    async fn really_begin(&self, claim: &Claim) -> Begin<Ticket> {
        let ticket = |tx| Ticket { tx, id: claim.id().get(), grants: false };
        match self.inner.begin(claim).await.unwrap_or_else(|never| match never {}) {
            Begin::Granted => Begin::Granted,
            Begin::Busy => Begin::Busy,
            Begin::Run { tx, attempt } => Begin::Run { tx: ticket(tx), attempt },
            // What was cut off is undone.
            Begin::InDoubt { tx, attempt } if claim.in_tx() => {
                Begin::Run { tx: ticket(tx), attempt }
            }
            Begin::InDoubt { tx, attempt } => Begin::InDoubt { tx: ticket(tx), attempt },
        }
    }

    async fn really_end(&self, ticket: Ticket, end: End) {
        let granted = end == End::Granted;
        if ticket.grants && granted {
            self.shop.books().grant(ticket.id);
        }
        self.inner.end(ticket.tx, end).await.unwrap_or_else(|never| match never {});
        if granted {
            self.shop.books().recorded.insert(ticket.id);
        }
    }
}

impl Store for Faulty {
    type Tx = Ticket;
    type Error = BoxError;

    const UNDOES: bool = true;

    async fn begin(&self, claim: &Claim) -> Result<Begin<Ticket>, BoxError> {
        self.shop.books().seen.insert(claim.id().get());
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

    async fn end(&self, ticket: Ticket, end: End) -> Result<(), BoxError> {
        match self.fault() {
            1 => Err("out of reach".into()),
            2 => {
                self.really_end(ticket, end).await;
                Err("the answer was lost".into())
            }
            3 => resume_unwind(Box::new("the store panics")),
            4 => {
                self.is_slow().await;
                self.really_end(ticket, end).await;
                Ok(())
            }
            5 => {
                self.really_end(ticket, end).await;
                resume_unwind(Box::new("the store panics"))
            }
            _ => {
                self.really_end(ticket, end).await;
                Ok(())
            }
        }
    }

    async fn forget(&self, id: FulfilmentId) -> Result<bool, BoxError> {
        Ok(self.inner.forget(id).await?)
    }

    async fn in_doubt(&self) -> Result<Vec<Record>, BoxError> {
        Ok(self.inner.in_doubt().await?)
    }

    async fn settle(&self, id: FulfilmentId, granted: bool) -> Result<bool, BoxError> {
        let settled = self.inner.settle(id, granted).await?;
        if settled && granted {
            self.shop.books().recorded.insert(id.get());
        }
        Ok(settled)
    }
}
