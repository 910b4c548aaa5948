//! The body, read up to the limit, however it comes.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use http_body::Body;
use pin_project_lite::pin_project;

use crate::Verdict;

/// A body that is always ready gives way after so many frames.
const FRAMES_A_TURN: usize = 64;

pin_project! {
    /// Collects a body into one piece. One that comes whole is not copied. Of others each frame is, at
    /// once: it would keep the transport's buffer from being used again, which is larger. Memory
    /// follows what has arrived, never what was announced.
    pub(crate) struct Read<B> {
        #[pin]
        body: B,
        bytes: BytesMut,
        left: usize,
        // Frames without data, which may be as many: a body of nothing else would never end.
        empty_left: usize,
    }
}

impl<B: Body> Read<B> {
    pub(crate) fn new(body: B, limit: usize) -> Self {
        Self { body, bytes: BytesMut::new(), left: limit, empty_left: limit }
    }

    pub(crate) fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Bytes, Verdict>> {
        let mut this = self.project();
        // Before anything has come; what it says later may still be the whole.
        if this.bytes.is_empty() && this.body.size_hint().lower() > *this.left as u64 {
            return Poll::Ready(Err(Verdict::BodyTooLarge));
        }
        for _ in 0..FRAMES_A_TURN {
            let frame = match ready!(this.body.as_mut().poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(_)) => return Poll::Ready(Err(Verdict::BodyBroken)),
                None => return Poll::Ready(Ok(std::mem::take(this.bytes).freeze())),
            };
            let data = frame.into_data().ok().filter(Buf::has_remaining);
            let length = data.as_ref().map_or(1, Buf::remaining);
            let left = if data.is_some() { &mut *this.left } else { &mut *this.empty_left };
            match left.checked_sub(length) {
                Some(less) => *left = less,
                None => return Poll::Ready(Err(Verdict::BodyTooLarge)),
            }
            let Some(mut data) = data else { continue };
            if this.bytes.is_empty() && this.body.is_end_stream() {
                return Poll::Ready(Ok(data.copy_to_bytes(length)));
            }
            while data.has_remaining() {
                let chunk = data.chunk();
                let copied = chunk.len();
                this.bytes.extend_from_slice(chunk);
                data.advance(copied);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
