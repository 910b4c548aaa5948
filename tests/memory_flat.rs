//! "A stranger's upload took all of the memory."
//!
//! Memory follows what has arrived and stops at the limit, whatever length the head announces and
//! however the body arrives. Counted by the allocator, on one thread, in a test binary of its own.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    convert::Infallible,
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame};
use tower::ServiceExt;
use tower_firstpromoter::{Verdict, Webhook, fulfil_fn, store::MemoryStore};

mod delivery;
use delivery::{DOCUMENTED, access, fulfilled, post, verdict};

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(live, Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Pieces of one static text, so that the body itself allocates nothing.
struct Pieces {
    text: &'static [u8],
    piece: usize,
    times: usize,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.times == 0 {
            return Poll::Ready(None);
        }
        let at = self.piece.min(self.text.len());
        let (piece, rest) = self.text.split_at(at);
        if rest.is_empty() {
            self.times -= 1;
        } else {
            self.text = rest;
        }
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(piece)))))
    }
}

/// One test in this file: another thread's memory would be counted as well.
#[tokio::test]
async fn memory_follows_what_has_arrived() {
    static BLANKS: [u8; 64 * 1024] = [b' '; 64 * 1024];
    let example = DOCUMENTED.as_bytes();
    let once = |text, piece| Pieces { text, piece, times: 1 };
    let many = |times| Pieces { text: &BLANKS, piece: BLANKS.len(), times };
    let absurd = Some("4000000000000000");
    let promised = Some("262144");

    const KIB: usize = 1024;
    for (what, length, body, expected, most) in [
        ("in one piece", None, once(example, example.len()), Verdict::Fulfilled, 8 * KIB),
        ("a byte at a time", None, once(example, 1), Verdict::Fulfilled, 16 * KIB),
        (
            "256 KiB promised, little sent",
            promised,
            once(example, 100),
            Verdict::Fulfilled,
            16 * KIB,
        ),
        ("4 PB promised", absurd, many(1), Verdict::BodyTooLarge, 4 * KIB),
        ("64 MiB", None, many(1024), Verdict::BodyTooLarge, 1024 * KIB),
        ("without end", None, many(usize::MAX), Verdict::BodyTooLarge, 1024 * KIB),
        (
            "a byte at a time, without end",
            None,
            Pieces { piece: 1, ..many(usize::MAX) },
            Verdict::BodyTooLarge,
            1024 * KIB,
        ),
    ] {
        let mut request = post(body);
        if let Some(length) = length {
            request.headers_mut().insert("content-length", length.parse().expect("a value"));
        }
        let before = LIVE.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        let webhook = Webhook::new(fulfil_fn(fulfilled), MemoryStore::new(10), access());
        let answer = webhook.oneshot(request).await.expect("an answer");
        let peak = PEAK.load(Ordering::Relaxed) - before;
        assert_eq!(verdict(&answer), expected, "{what}");
        assert!(peak <= most, "{what}: {peak} bytes at once");
        drop(answer);
        let kept = LIVE.load(Ordering::Relaxed).saturating_sub(before);
        assert!(kept < KIB, "{what}: {kept} bytes kept");
        println!("{what}: at most {peak} bytes at once");
    }
}
