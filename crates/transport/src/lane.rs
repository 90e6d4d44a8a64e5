//! The sending half of a stream: callers append to a buffer, one task writes what has gathered.

use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::frame::Frame;
use crate::link::SendError;

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
        let mut buffer = self.buffer();
        if buffer.closed {
            return Err(SendError::Closed);
        }
        // One frame always fits into an empty buffer.
        let full = buffer.bytes.len() + frame.size() > self.max_bytes || buffer.frames >= self.max_frames;
        if full && buffer.frames > 0 {
            return Err(SendError::Busy);
        }
        frame.encode(&mut buffer.bytes);
        buffer.frames += 1;
        drop(buffer);
        self.filled.notify_one();
        Ok(())
    }

    /// Waits for frames and takes all of them, leaving `spare` to be filled next. Nothing after it is closed.
    pub(crate) async fn take(&self, mut spare: Vec<u8>) -> Option<Vec<u8>> {
        loop {
            {
                let mut buffer = self.buffer();
                if !buffer.bytes.is_empty() {
                    buffer.frames = 0;
                    spare.clear();
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
