use std::{future::poll_fn, pin::pin};

use bytes::{Buf, Bytes, BytesMut};
use http_body::Body;

use crate::Verdict;

/// A body that is always ready yields to other tasks after so many frames.
const FRAMES_A_TURN: usize = 64;

/// Reads a body of at most `limit` bytes into one piece.
///
/// A body of one frame is not copied. The frames of a longer one are, each at once: a frame keeps
/// the transport's larger buffer from being reused. Memory follows what has arrived, never what was
/// announced.
pub(super) async fn read<B: Body>(body: B, limit: usize) -> Result<Bytes, Verdict> {
    let mut body = pin!(body);
    if body.size_hint().lower() > limit as u64 {
        return Err(Verdict::BodyTooLarge);
    }
    let mut bytes = BytesMut::new();
    let mut left = limit;
    // Frames without data are limited, too: a body of nothing else would never end.
    let mut empty_left = limit;
    for turn in 1.. {
        let frame = match poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
            Some(Ok(frame)) => frame,
            Some(Err(_)) => return Err(Verdict::BodyBroken),
            None => break,
        };
        match frame.into_data().ok().filter(Buf::has_remaining) {
            Some(mut data) => {
                let length = data.remaining();
                left = left.checked_sub(length).ok_or(Verdict::BodyTooLarge)?;
                if bytes.is_empty() && body.is_end_stream() {
                    return Ok(data.copy_to_bytes(length));
                }
                while data.has_remaining() {
                    let chunk = data.chunk();
                    let copied = chunk.len();
                    bytes.extend_from_slice(chunk);
                    data.advance(copied);
                }
            }
            None => empty_left = empty_left.checked_sub(1).ok_or(Verdict::BodyTooLarge)?,
        }
        if turn % FRAMES_A_TURN == 0 {
            tokio::task::yield_now().await;
        }
    }
    Ok(bytes.freeze())
}
