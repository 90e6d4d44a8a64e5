//! What the store's threads share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::buffer::Buffer;
use crate::directory::Directory;
use crate::engine::Engine;
use crate::error::CommitError;
use crate::options::Options;
use crate::report::{Commit, Hooks};
use crate::stats::Counters;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) store_id: [u8; 16],
    pub(crate) engine: Arc<dyn Engine>,
    buffer: Mutex<Buffer>,
    pub(crate) hooks: Hooks,
    pub(crate) counters: Counters,
    pub(crate) replay_bytes: AtomicU64,
    /// Set when the disk has failed: nothing is taken any more.
    failed: AtomicBool,
    /// Set while checkpoints are refused, because too little space is free for them.
    pub(crate) cramped: AtomicBool,
    /// Last: its lock must outlive the engine, which writes when it is dropped.
    pub(crate) directory: Directory,
}

impl Shared {
    pub(crate) fn new(
        directory: Directory,
        options: Options,
        store_id: [u8; 16],
        engine: Arc<dyn Engine>,
        buffer: Buffer,
        hooks: Hooks,
    ) -> Self {
        Self {
            options,
            store_id,
            engine,
            buffer: Mutex::new(buffer),
            hooks,
            counters: Counters::default(),
            replay_bytes: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            cramped: AtomicBool::new(false),
            directory,
        }
    }

    pub(crate) fn buffer(&self) -> MutexGuard<'_, Buffer> {
        // A panic elsewhere cannot leave the maps torn: each operation on them is one call.
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Nothing is taken any more.
    pub(crate) fn set_failed(&self) {
        self.failed.store(true, Ordering::Release);
    }
}

/// Says that the store has failed if its thread panics: whoever waits for a commit would wait for ever, and the
/// node would seem well.
pub(crate) struct Watch(pub(crate) Arc<Shared>);

impl Drop for Watch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.set_failed();
            let through = self.0.buffer().sequence;
            let failed = Commit::Failed { from: through + 1, through, error: CommitError::Panicked };
            (self.0.hooks.on_commit)(failed);
        }
    }
}
