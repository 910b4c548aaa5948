//! "The body was not what its head had promised."
//!
//! Lengths that lie, bodies that break, stall, trickle or never end: each delivery gets its answer
//! in time, and nothing is read needlessly.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes};
use futures::FutureExt;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};
use tower::ServiceExt;
use tower_firstpromoter::{Verdict, event::Fulfilment, fulfil_fn};

mod delivery;
use delivery::{DOCUMENTED, fulfilled, never, post, verdict};

const LIMIT: usize = 256 * 1024;

/// One step of a body's script.
#[derive(Clone)]
enum Step {
    Data(Bytes),
    Trailers,
    Break,
    Wait(Duration),
    /// A blank after each such pause, without end.
    Trickle(Duration),
    Stall,
    /// This from here on, without end.
    Repeat(Box<Step>),
}
use Step::{Break, Data, Repeat, Stall, Trailers, Trickle, Wait};

/// A body that does what its script says. Polled after its end it panics, as a body may.
struct Scripted {
    steps: VecDeque<Step>,
    hint: SizeHint,
    sleep: Option<Pin<Box<Sleep>>>,
    polls: Arc<AtomicUsize>,
    ended: bool,
}

impl Scripted {
    fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self {
            steps: steps.into_iter().collect(),
            hint: SizeHint::default(),
            sleep: None,
            polls: Arc::default(),
            ended: false,
        }
    }

    fn hint(mut self, bytes: usize) -> Self {
        self.hint = SizeHint::with_exact(bytes as u64);
        self
    }
}

impl Body for Scripted {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        self.polls.fetch_add(1, Ordering::Relaxed);
        loop {
            if let Some(sleep) = &mut self.sleep {
                std::task::ready!(sleep.as_mut().poll(cx));
                self.sleep = None;
            }
            assert!(!self.ended, "polled after its end");
            let step = match self.steps.pop_front() {
                Some(Repeat(step)) => {
                    self.steps.push_front(Repeat(step.clone()));
                    Some(*step)
                }
                step => step,
            };
            return Poll::Ready(match step {
                Some(Data(bytes)) => Some(Ok(Frame::data(bytes))),
                Some(Trailers) => Some(Ok(Frame::trailers(HeaderMap::new()))),
                Some(Wait(pause)) => {
                    self.sleep = Some(Box::pin(sleep(pause)));
                    continue;
                }
                Some(Break) => Some(Err("the connection was reset")),
                Some(Trickle(pause)) => {
                    self.sleep = Some(Box::pin(sleep(pause)));
                    self.steps.extend([data(" "), Trickle(pause)]);
                    continue;
                }
                Some(Stall) => {
                    self.steps.push_front(Stall);
                    return Poll::Pending;
                }
                Some(Repeat(_)) => unreachable!("taken apart above"),
                None => {
                    self.ended = true;
                    None
                }
            });
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.hint
    }
}

fn data(text: impl AsRef<[u8]>) -> Step {
    Data(Bytes::copy_from_slice(text.as_ref()))
}

fn a_byte_at_a_time(text: &str) -> impl Iterator<Item = Step> {
    text.as_bytes().chunks(1).map(data)
}

/// The documented example, filled up with blanks.
fn padded(length: usize) -> String {
    DOCUMENTED.to_owned() + &" ".repeat(length - DOCUMENTED.len())
}

#[tokio::test(start_paused = true)]
async fn each_body_gets_its_answer() {
    let seconds = Duration::from_secs;
    let blanks = || data(" ".repeat(16 * 1024));
    let example = || data(DOCUMENTED);
    let (first, second) = DOCUMENTED.split_at(1_000);
    let halves = || [data(first), data(second)];

    use Verdict::{BodyBroken, BodyTimeout, BodyTooLarge, Fulfilled, NotJson};
    for (what, steps, expected, polls, time) in [
        ("whole", vec![example()], Fulfilled, 2, 0),
        ("in two", halves().to_vec(), Fulfilled, 3, 0),
        ("a byte at a time", a_byte_at_a_time(DOCUMENTED).collect(), Fulfilled, 5_000, 0),
        ("with trailers", vec![example(), Trailers], Fulfilled, 3, 0),
        (
            "with empty frames",
            vec![data(""), data(first), data(""), data(second), data(""), Trailers],
            Fulfilled,
            7,
            0,
        ),
        ("just in time", vec![data(first), Wait(seconds(9)), data(second)], Fulfilled, 9, 9),
        ("up to the limit", vec![data(padded(LIMIT))], Fulfilled, 2, 0),
        (
            "up to the limit, then nothing",
            vec![data(padded(LIMIT)), data(""), data(""), Trailers],
            Fulfilled,
            5,
            0,
        ),
        ("a byte over it", vec![data(padded(LIMIT + 1))], BodyTooLarge, 1, 0),
        ("a byte over it, later", vec![data(padded(LIMIT)), data(" ")], BodyTooLarge, 2, 0),
        ("64 MiB", vec![blanks(); 4096], BodyTooLarge, 17, 0),
        ("without end", vec![Repeat(Box::new(blanks()))], BodyTooLarge, 17, 0),
        ("nothing without end", vec![Repeat(Box::new(data("")))], BodyTooLarge, LIMIT + 1, 0),
        ("trailers without end", vec![Repeat(Box::new(Trailers))], BodyTooLarge, LIMIT + 1, 0),
        ("broken at once", vec![Break], BodyBroken, 1, 0),
        ("broken half-way", vec![data(first), Break], BodyBroken, 2, 0),
        ("broken at the very end", vec![example(), Break], BodyBroken, 2, 0),
        ("nothing at all", vec![], NotJson, 1, 0),
        ("too short", vec![data(first)], NotJson, 2, 0),
        ("stalled at once", vec![Stall], BodyTimeout, 9, 10),
        ("stalled at the very end", vec![example(), Stall], BodyTimeout, 9, 10),
        ("a byte a second", vec![data(first), Trickle(seconds(1))], BodyTimeout, 30, 10),
    ] {
        let body = Scripted::new(steps);
        let polled = Arc::clone(&body.polls);
        let start = Instant::now();
        let answer = delivery::webhook(fulfil_fn(fulfilled)).oneshot(post(body)).await;
        let answer = answer.expect("an answer");
        assert_eq!(verdict(&answer), expected, "{what}");
        assert_eq!(start.elapsed().as_secs(), time, "{what}");
        let polled = polled.load(Ordering::Relaxed);
        assert!(polled <= polls, "{what}: polled {polled} times");
    }
}

/// What the head says of the length may refuse, and decides nothing else.
#[tokio::test]
async fn lengths_that_are_true_and_others() {
    let length = DOCUMENTED.len();
    let huge = Some("4000000000000000");
    for (what, header, hint, expected) in [
        ("true", Some(&*length.to_string()), Some(length), Verdict::Fulfilled),
        ("unknown", None, None, Verdict::Fulfilled),
        ("too small", Some("10"), None, Verdict::Fulfilled),
        ("too large", Some("200000"), None, Verdict::Fulfilled),
        ("not a number", Some("many"), None, Verdict::Fulfilled),
        ("negative", Some("-1"), None, Verdict::Fulfilled),
        ("past 64 bits", Some("18446744073709551616"), None, Verdict::Fulfilled),
        ("just over the limit", Some("262145"), None, Verdict::BodyTooLarge),
        ("absurd", huge, None, Verdict::BodyTooLarge),
        ("absurd and believed", huge, Some(4_000_000_000_000_000), Verdict::BodyTooLarge),
        ("known by the body alone", None, Some(LIMIT + 1), Verdict::BodyTooLarge),
    ] {
        let mut body = Scripted::new([data(DOCUMENTED)]);
        if let Some(hint) = hint {
            body = body.hint(hint);
        }
        let polled = Arc::clone(&body.polls);
        let mut request = post(body);
        if let Some(header) = header {
            request.headers_mut().insert("content-length", header.parse().expect("a value"));
        }
        let webhook = delivery::webhook(fulfil_fn(fulfilled));
        let answer = webhook.oneshot(request).await.expect("an answer");
        assert_eq!(verdict(&answer), expected, "{what}");
        if expected != Verdict::Fulfilled {
            assert_eq!(polled.load(Ordering::Relaxed), 0, "{what}: read in spite of it");
        }
    }
}

/// Not what the contract of bodies asks for, which is what is left; but what some say.
#[tokio::test(start_paused = true)]
async fn a_length_that_stays_the_same() {
    let (first, second) = DOCUMENTED.split_at(2_000);
    let steps = [data(first), Wait(Duration::from_secs(1)), data(second)];
    let body = Scripted::new(steps).hint(DOCUMENTED.len());
    let webhook = delivery::webhook(fulfil_fn(fulfilled)).body_limit(DOCUMENTED.len());
    let answer = webhook.oneshot(post(body)).await.expect("an answer");
    assert_eq!(verdict(&answer), Verdict::Fulfilled);
}

#[tokio::test]
async fn another_limit() {
    let least = delivery::LEAST.len();
    for (limit, expected) in [
        (least, Verdict::Fulfilled),
        (least - 1, Verdict::BodyTooLarge),
        (0, Verdict::BodyTooLarge),
        (usize::MAX, Verdict::Fulfilled),
    ] {
        for pieces in [1, 2, least] {
            let length = least.div_ceil(pieces);
            let body = Scripted::new(delivery::LEAST.as_bytes().chunks(length).map(data));
            let webhook = delivery::webhook(fulfil_fn(fulfilled)).body_limit(limit);
            let answer = webhook.oneshot(post(body)).await.expect("an answer");
            assert_eq!(verdict(&answer), expected, "{limit} in {pieces}");
        }
    }
}

/// A body that always has something ready must let the others of its thread have their turns.
#[tokio::test]
async fn nothing_spins() {
    for endless in [data(""), Trailers] {
        let body = Scripted::new([Repeat(Box::new(endless))]);
        let polled = Arc::clone(&body.polls);
        let webhook = delivery::webhook(fulfil_fn(never));
        let turns = async {
            let mut most = 0;
            let mut before = 0;
            while before <= LIMIT {
                tokio::task::yield_now().await;
                let now = polled.load(Ordering::Relaxed);
                most = most.max(now - before);
                before = now;
            }
            most
        };
        let (answer, most) = tokio::join!(webhook.oneshot(post(body)), turns);
        assert_eq!(verdict(&answer.expect("an answer")), Verdict::BodyTooLarge);
        // 64 a turn; `join!` takes turns in who is first, so there may be two in a row.
        assert!(most <= 2 * 64, "{most} frames in one turn");
    }
}

/// The upload and the attempt share one time limit: the sender's.
#[tokio::test(start_paused = true)]
async fn a_slow_upload_leaves_less_time_for_the_attempt() {
    let seconds = Duration::from_secs;
    let slow = fulfil_fn(async |fulfilment: Fulfilment| {
        sleep(Duration::from_secs(6)).await;
        fulfilled(fulfilment).await
    });
    let webhook = delivery::webhook(slow);
    let body = || Scripted::new([Wait(seconds(6)), data(DOCUMENTED)]);

    let start = Instant::now();
    let answer = webhook.clone().oneshot(post(body())).await.expect("an answer");
    assert_eq!(verdict(&answer), Verdict::InProgress);
    assert_eq!(start.elapsed(), seconds(10));

    let answer = webhook.oneshot(post(body())).await.expect("an answer");
    assert_eq!(verdict(&answer), Verdict::Fulfilled);
    assert_eq!(start.elapsed(), seconds(16), "by then it was fulfilled");
}

/// Data that is not contiguous, as some servers' own buffers are.
#[tokio::test]
async fn data_in_pieces() {
    struct Pieces(Option<bytes::buf::Chain<Bytes, Bytes>>);
    impl Body for Pieces {
        type Data = bytes::buf::Chain<Bytes, Bytes>;
        type Error = Infallible;
        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Self::Data>, Infallible>>> {
            Poll::Ready(self.0.take().map(|data| Ok(Frame::data(data))))
        }
    }
    let (first, second) = DOCUMENTED.split_at(1_000);
    let body = Pieces(Some(Bytes::from(first).chain(Bytes::from(second))));
    let webhook = delivery::webhook(fulfil_fn(fulfilled));
    let answer = webhook.oneshot(post(body)).await.expect("an answer");
    assert_eq!(verdict(&answer), Verdict::Fulfilled);
}

/// A server reads into a buffer of its own, which it can use again when nobody holds a piece of it. A
/// stalled upload that held the first piece, or the head, would cost a buffer, not what has arrived.
#[tokio::test]
async fn nothing_of_the_servers_is_held() {
    /// A piece of a server's buffer, which lasts as long as `buffer` says.
    struct Piece {
        text: &'static [u8],
        _buffer: Arc<()>,
    }
    impl AsRef<[u8]> for Piece {
        fn as_ref(&self) -> &[u8] {
            self.text
        }
    }
    let buffer = Arc::new(());
    let piece = |text: &'static str| {
        Bytes::from_owner(Piece { text: text.as_bytes(), _buffer: Arc::clone(&buffer) })
    };
    let (first, _) = DOCUMENTED.split_at(1_000);
    let mut request = post(Scripted::new([Data(piece(first)), Stall]));
    let agent = HeaderValue::from_maybe_shared(piece("a sender")).expect("a value");
    request.headers_mut().insert("user-agent", agent);
    assert_eq!(Arc::strong_count(&buffer), 3);

    let mut delivery = pin!(delivery::webhook(fulfil_fn(never)).oneshot(request));
    assert!(delivery.as_mut().now_or_never().is_none(), "it waits for the rest");
    assert_eq!(Arc::strong_count(&buffer), 1, "it holds what is the server's");
}

/// The other side of it: what arrives whole, as nearly all do, is not copied.
#[tokio::test]
async fn what_comes_whole_stays_where_it_is() {
    let handler = fulfil_fn(async |fulfilment: Fulfilment| {
        assert_eq!(fulfilment.as_bytes().as_ptr(), DOCUMENTED.as_ptr());
        fulfilled(fulfilment).await
    });
    let body = delivery::full(Bytes::from_static(DOCUMENTED.as_bytes()));
    let answer = delivery::webhook(handler).oneshot(post(body)).await.expect("an answer");
    assert_eq!(verdict(&answer), Verdict::Fulfilled);
}
