//! The sending half of a stream: callers append to a buffer, one task writes what has gathered.

use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::frame::{Frame, Head};
use crate::link::SendError;
use crate::settings::LARGE;

#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    frames: usize,
    closed: bool,
}

/// A bounded buffer with one writer behind it.
#[derive(Debug)]
pub(crate) struct Lane {
    buffer: Mutex<Buffer>,
    filled: Notify,
    max_bytes: usize,
    max_frames: usize,
}

/// What an emptied buffer keeps of its memory, in bytes.
const SPARE: usize = 1 << 20;

impl Lane {
    pub(crate) fn new(max_bytes: usize, max_frames: usize) -> Self {
        Self { buffer: Mutex::default(), filled: Notify::new(), max_bytes, max_frames }
    }

    fn buffer(&self) -> MutexGuard<'_, Buffer> {
        // No call under the lock can panic halfway.
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a frame, or says at once why not; then nothing of it leaves.
    pub(crate) fn push(&self, frame: &Frame) -> Result<(), SendError> {
        self.push_with(frame.head(), |out| out.extend_from_slice(&frame.body)).map(drop)
    }

    /// Appends a frame whose body is written in place. One that comes out larger than `LARGE` is taken out
    /// again and given back: it goes another way.
    pub(crate) fn push_with(
        &self,
        head: Head,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Option<Frame>, SendError> {
        let mut buffer = self.buffer();
        if buffer.closed {
            return Err(SendError::Closed);
        }
        let (start, frames) = (buffer.bytes.len(), buffer.frames);
        let body_at = head.begin(&mut buffer.bytes);
        encode(&mut buffer.bytes);
        let length = buffer.bytes.len() - body_at;
        if length > LARGE {
            let body = Bytes::from(buffer.bytes.split_off(body_at));
            buffer.bytes.truncate(start);
            // One large message must not cost its size for as long as the link lives.
            buffer.bytes.shrink_to(4 * LARGE);
            return Ok(Some(head.with(body)));
        }
        // One frame always fits into an empty buffer.
        if (buffer.bytes.len() > self.max_bytes || frames >= self.max_frames) && frames > 0 {
            buffer.bytes.truncate(start);
            return Err(SendError::Busy);
        }
        head.end(&mut buffer.bytes, start);
        buffer.frames += 1;
        drop(buffer);
        self.filled.notify_one();
        Ok(None)
    }

    /// Waits for frames and takes all of them, leaving `spare` to be filled next. Nothing after it is closed.
    pub(crate) async fn take(&self, mut spare: Vec<u8>) -> Option<Vec<u8>> {
        loop {
            {
                let mut buffer = self.buffer();
                if !buffer.bytes.is_empty() {
                    buffer.frames = 0;
                    spare.clear();
                    spare.shrink_to(SPARE);
                    mem::swap(&mut buffer.bytes, &mut spare);
                    return Some(spare);
                }
                if buffer.closed {
                    return None;
                }
            }
            self.filled.notified().await;
        }
    }

    /// Refuses frames from now on.
    pub(crate) fn close(&self) {
        let mut buffer = self.buffer();
        buffer.closed = true;
        buffer.bytes = Vec::new();
        drop(buffer);
        self.filled.notify_one();
    }
}
