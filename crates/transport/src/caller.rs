//! Calls over a link: a request, and the one answer to it, within a deadline.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::frame::{Frame, Kind};
use crate::link::{Link, SendError};

/// Calls under way at once on one link.
const CALLS: usize = 4_096;

/// Why a call has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Not a byte has left.
    #[error("the request was not sent: {0}")]
    NotSent(#[from] SendError),
    /// It left, and no answer came in time or before the connection broke.
    #[error("the request was sent, and no answer came")]
    Unknown,
}

/// A message to answer with: its number, and its body.
pub type ServerMessage = (u16, Bytes);

/// The calling side of a link.
#[derive(Clone, Debug)]
pub struct Caller {
    link: Link,
    waiting: Arc<Mutex<Waiting>>,
    permits: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    closed: bool,
    calls: BTreeMap<u64, oneshot::Sender<ServerMessage>>,
}

impl Caller {
    /// Calls over `link`. Its owner hands it the frames that come ([`Caller::take`]) and its end
    /// ([`Caller::close`]).
    #[must_use]
    pub fn new(link: Link) -> Self {
        Self { link, waiting: Arc::default(), permits: Arc::new(Semaphore::new(CALLS)) }
    }

    /// The link it calls over.
    #[must_use]
    pub const fn link(&self) -> &Link {
        &self.link
    }

    /// Asks, and waits for the answer. Dropping the future tells the other side that nobody waits.
    ///
    /// # Errors
    /// [`CallError`] says whether the request may have been done.
    pub async fn call(&self, method: u16, body: Bytes, within: Duration) -> Result<ServerMessage, CallError> {
        let permit = Arc::clone(&self.permits).try_acquire_owned().map_err(|_| SendError::Busy)?;
        let (answer, answered) = oneshot::channel();
        let id = self.register(answer)?;
        let guard = CallGuard { caller: self, id, done: false, _permit: permit };
        let ttl = u32::try_from(within.as_micros()).unwrap_or(u32::MAX);
        self.link.send(Frame { kind: Kind::Request, method, id, ttl, body })?;
        guard.wait(answered, within).await
    }

    fn register(&self, answer: oneshot::Sender<ServerMessage>) -> Result<u64, SendError> {
        let mut waiting = self.waiting();
        if waiting.closed {
            return Err(SendError::Closed);
        }
        waiting.next += 1;
        let id = waiting.next;
        waiting.calls.insert(id, answer);
        Ok(id)
    }

    /// Takes frames that came on the link; whatever answers no call is dropped.
    pub fn take(&self, frames: Vec<Frame>) {
        let mut waiting = self.waiting();
        for frame in frames {
            if frame.kind == Kind::Reply
                && let Some(answer) = waiting.calls.remove(&frame.id)
            {
                // The caller may have gone in this instant.
                let _ = answer.send((frame.method, frame.body));
            }
        }
    }

    /// Ends all calls: their outcome is unknown.
    pub fn close(&self) {
        let mut waiting = self.waiting();
        waiting.closed = true;
        waiting.calls.clear();
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets the call when it ends, however it ends.
struct CallGuard<'a> {
    caller: &'a Caller,
    id: u64,
    done: bool,
    _permit: OwnedSemaphorePermit,
}

impl CallGuard<'_> {
    async fn wait(
        mut self,
        answered: oneshot::Receiver<ServerMessage>,
        within: Duration,
    ) -> Result<ServerMessage, CallError> {
        let answer = tokio::time::timeout(within, answered).await;
        let answer = answer.ok().and_then(Result::ok);
        self.done = answer.is_some();
        answer.ok_or(CallError::Unknown)
    }
}

impl Drop for CallGuard<'_> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        if self.caller.waiting().calls.remove(&self.id).is_some() {
            let _ = self.caller.link.send(Frame::signal(Kind::Cancel, self.id));
        }
    }
}
