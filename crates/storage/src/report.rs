//! What a store reports to its owner.

use std::fmt;

use crate::error::CommitError;

/// What the committer reports, in order. Sequences are those that [`Store::submit`](crate::Store::submit)
/// returned. Batches that are synced at once are reported as synced alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commit {
    /// All batches up to this one survive the end of the process.
    Written {
        /// The last of them.
        through: u64,
    },
    /// All batches up to this one survive a loss of power.
    Synced {
        /// The last of them.
        through: u64,
    },
    /// These batches were not committed.
    Failed {
        /// The first of them.
        from: u64,
        /// The last of them.
        through: u64,
        /// Why.
        error: CommitError,
    },
}

/// Points in the store's background work, for metrics and for tests that must catch it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A checkpoint begins.
    CheckpointStarted,
    /// The engine was given all rows, and has not synced them.
    EngineFilled,
    /// The engine has synced; the manifest is still the old one.
    EngineSynced,
    /// The new manifest stands; the old log is still there.
    ManifestWritten,
    /// The checkpoint is complete.
    CheckpointDone,
    /// The engine takes too much disk: it is being copied to a new one.
    CompactionStarted,
    /// All is copied; the next checkpoint puts the new engine in the place of the old.
    CompactionCopied,
    /// The old engine is gone.
    CompactionDone,
}

/// Where the store reports. Called from its threads: be quick, and do not call the store from inside.
pub struct Hooks {
    /// What became of submitted batches.
    pub on_commit: Box<dyn Fn(Commit) + Send + Sync>,
    /// Where the background work stands.
    pub on_event: Box<dyn Fn(Event) + Send + Sync>,
}

impl Hooks {
    /// Reports commits to `on_commit` and nothing else.
    pub fn on_commit(on_commit: impl Fn(Commit) + Send + Sync + 'static) -> Self {
        Self { on_commit: Box::new(on_commit), on_event: Box::new(|_| ()) }
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hooks")
    }
}

/// What the disk has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Everything.
    Enough,
    /// Only what makes room.
    Low,
    /// Nothing.
    None,
}
