//! What a store counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters since the store was opened, and gauges; a plain copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Batches committed.
    pub batches: u64,
    /// Writes to the log; each takes all batches that were waiting.
    pub log_writes: u64,
    /// Bytes appended to the log.
    pub log_bytes: u64,
    /// Times the log was synced.
    pub syncs: u64,
    /// Checkpoints completed.
    pub checkpoints: u64,
    /// Rows that checkpoints wrote to the engine.
    pub engine_rows: u64,
    /// Bytes in the object buffer now.
    pub buffer_bytes: u64,
    /// Bytes of log that a restart would replay, now.
    pub replay_bytes: u64,
    /// 1 while the disk is too full to take writes.
    pub disk_full: u64,
    /// Bytes that the engine's files took on the disk after the last checkpoint.
    pub engine_bytes: u64,
    /// Times that the engine was copied to a new one, to give back space.
    pub compactions: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) batches: AtomicU64,
    pub(crate) log_writes: AtomicU64,
    pub(crate) log_bytes: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) checkpoints: AtomicU64,
    pub(crate) engine_rows: AtomicU64,
    pub(crate) disk_full: AtomicU64,
    pub(crate) engine_bytes: AtomicU64,
    pub(crate) compactions: AtomicU64,
}

pub(crate) fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

pub(crate) fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
