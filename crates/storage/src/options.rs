//! How a store works.

use std::time::Duration;

use crate::engine::EngineKind;

/// How a store works; may change from one start to the next, except the engine and the leaves.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The engine behind the log.
    pub engine: EngineKind,
    /// Bits of the hash below a partition that name a leaf of its hash tree; fixed when the store is created.
    pub leaf_bits: u8,
    /// A checkpoint begins when the object buffer has this many bytes.
    pub checkpoint_bytes: u64,
    /// Commits wait for a checkpoint when the object buffer has this many bytes.
    pub buffer_bytes: u64,
    /// A checkpoint begins at the latest this long after the last, if anything changed.
    pub checkpoint_interval: Duration,
    /// A log segment is closed when it has this many bytes.
    pub segment_bytes: u64,
    /// Values should not be taken when fewer bytes than this are free on the disk beside what a checkpoint
    /// needs, and nothing at half of it ([`Store::room`](crate::Store::room)); at an eighth batches fail.
    pub min_free_bytes: u64,
    /// The engine is copied to a new one, and the old one removed, when it takes this many bytes more than three
    /// times what is stored ([`Store::note_stored`](crate::Store::note_stored)).
    pub spare_bytes: u64,
}

impl Options {
    /// The usual sizes.
    #[must_use]
    pub const fn new(engine: EngineKind, leaf_bits: u8) -> Self {
        Self {
            engine,
            leaf_bits,
            checkpoint_bytes: 32 << 20,
            buffer_bytes: 128 << 20,
            checkpoint_interval: Duration::from_secs(60),
            segment_bytes: 32 << 20,
            min_free_bytes: 64 << 20,
            spare_bytes: 32 << 20,
        }
    }

    /// Below so many free bytes even batches that were begun are refused.
    pub(crate) const fn refuse_below(&self) -> u64 {
        self.min_free_bytes / 8
    }
}
