//! What the store's threads share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

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
    /// The present one; a compaction puts another in its place, and its number.
    engine: RwLock<(u64, Arc<dyn Engine>)>,
    buffer: Mutex<Buffer>,
    pub(crate) hooks: Hooks,
    pub(crate) counters: Counters,
    pub(crate) replay_bytes: AtomicU64,
    /// Bytes of objects, as the owner counts them.
    pub(crate) stored_bytes: AtomicU64,
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
        engine: (u64, Arc<dyn Engine>),
        buffer: Buffer,
        hooks: Hooks,
    ) -> Self {
        Self {
            options,
            store_id,
            engine: RwLock::new(engine),
            buffer: Mutex::new(buffer),
            hooks,
            counters: Counters::default(),
            replay_bytes: AtomicU64::new(0),
            stored_bytes: AtomicU64::new(u64::MAX),
            failed: AtomicBool::new(false),
            cramped: AtomicBool::new(false),
            directory,
        }
    }

    pub(crate) fn buffer(&self) -> MutexGuard<'_, Buffer> {
        // A panic elsewhere cannot leave the maps torn: each operation on them is one call.
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The present engine. What is asked of one engine, asked in parts, is to be asked of one `Arc`.
    pub(crate) fn engine(&self) -> Arc<dyn Engine> {
        Arc::clone(&self.engine.read().unwrap_or_else(PoisonError::into_inner).1)
    }

    pub(crate) fn engine_number(&self) -> u64 {
        self.engine.read().unwrap_or_else(PoisonError::into_inner).0
    }

    /// Puts another engine in its place; returns the one before.
    pub(crate) fn replace_engine(&self, number: u64, engine: Arc<dyn Engine>) -> (u64, Arc<dyn Engine>) {
        std::mem::replace(&mut *self.engine.write().unwrap_or_else(PoisonError::into_inner), (number, engine))
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
