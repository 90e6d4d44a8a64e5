//! Compaction: the engine is copied to a new one when it takes far more disk than there is to store.
//!
//! Engines keep the space of what was removed for what comes later: after everything was deleted sled's files, and
//! redb's, are as large as before. To ask the engine to give it back does not help where it cannot (sled), or needs it
//! to stand still (redb). So the rows are copied to an engine of their own in a new directory, a few at a time and by
//! the checkpointer, between whose checkpoints nothing else changes the engine; every checkpoint meanwhile writes to
//! both. When all is copied, the next manifest names the new directory: a crash before that leaves the old one, whole,
//! and the new one is removed at the next start.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::directory::Directory;
use crate::engine::{Engine, EngineError, EngineKind, EngineOp};
use crate::files::{make_private, sync_directory};

/// The engine may take this many times what is stored, beside [`Options::spare_bytes`](crate::Options::spare_bytes).
const MOST: u64 = 3;
/// Rows and bytes that are copied at once: few, since engines keep readers out meanwhile.
const ROWS: usize = 64;
const BYTES: usize = 256 << 10;
/// What a checkpoint may need however little is in the buffer: engines write more than they are given.
const LEAST_FREE: u64 = 8 << 20;
/// How long to wait after one that failed.
const PAUSE: Duration = Duration::from_secs(600);

/// An engine that is being filled.
#[derive(Debug)]
pub(crate) struct Compaction {
    pub(crate) number: u64,
    pub(crate) engine: Arc<dyn Engine>,
    /// Where the next slice begins; nothing once all is copied.
    next: Option<Vec<u8>>,
    /// Bytes that must stay free on the disk: it gives up before a copy stops the writes that it was to make room for.
    pub(crate) floor: u64,
    path: PathBuf,
}

impl Compaction {
    /// Begins with an empty engine.
    pub(crate) fn begin(
        directory: &Directory,
        number: u64,
        kind: EngineKind,
        floor: u64,
    ) -> Result<Self, EngineError> {
        let path = directory.engine(number);
        let failed = |error: std::io::Error| EngineError {
            engine: kind.name(),
            action: "make a directory",
            message: error.to_string(),
        };
        remove(&path).and_then(|()| make_private(&path)).map_err(failed)?;
        // The manifest must never name what a loss of power can take away.
        sync_directory(directory.path()).map_err(failed)?;
        let engine = kind.open(&path)?;
        Ok(Self { number, engine, next: Some(Vec::new()), floor, path })
    }

    /// Copies some rows.
    pub(crate) fn copy_some(&mut self, from: &dyn Engine) -> Result<(), EngineError> {
        let Some(first) = self.next.take() else { return Ok(()) };
        let (mut ops, mut bytes) = (Vec::new(), 0);
        from.range(&first, None, &mut |key, value| {
            if ops.len() >= ROWS || bytes >= BYTES {
                self.next = Some(key.to_vec());
                return false;
            }
            bytes += key.len() + value.len();
            ops.push(EngineOp::Put(key.to_vec(), value.to_vec()));
            true
        })?;
        self.engine.apply(ops)
    }

    pub(crate) const fn is_copied(&self) -> bool {
        self.next.is_none()
    }

    /// Gives up: the new engine is to go.
    pub(crate) fn abandon(self) -> Retired {
        Retired { engine: self.engine, path: self.path }
    }
}

/// How many bytes a copy must leave free, if it may begin. Where there is room it does not bring the store near the end of it;
/// where there is little, which is when it is needed most, it leaves what a last checkpoint needs.
pub(crate) fn floor(directory: &Directory, stored: u64, pending: u64, min_free: u64) -> Option<u64> {
    let needed = stored.saturating_mul(2).saturating_add(pending);
    let fits = |floor: &u64| !directory.is_nearly_full(needed.saturating_add(*floor));
    [min_free, min_free / 4].map(|floor| floor.max(LEAST_FREE)).into_iter().find(fits)
}

/// When to compact.
#[derive(Debug, Default)]
pub(crate) struct Due {
    /// What the engine took right after the last one: what it needs, whatever is stored.
    after: u64,
    failed: Option<Instant>,
}

impl Due {
    /// Whether an engine that takes `taken` bytes for `stored` bytes is to be copied.
    pub(crate) fn is_due(&self, taken: u64, stored: u64, spare: u64) -> bool {
        let is_paused = self.failed.is_some_and(|failed| failed.elapsed() < PAUSE);
        let most = stored.saturating_mul(MOST).saturating_add(spare);
        !is_paused && taken > most && taken / 2 > self.after
    }

    pub(crate) fn note_done(&mut self, taken: u64) {
        *self = Self { after: taken, failed: None };
    }

    pub(crate) fn note_failed(&mut self) {
        self.failed = Some(Instant::now());
    }
}

/// An engine that was replaced, or came to nothing: it goes when its last reader has done.
#[derive(Debug)]
pub(crate) struct Retired {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) path: PathBuf,
}

impl Retired {
    /// Removes it if nobody reads it any more; gives it back if somebody does.
    pub(crate) fn remove(self) -> Option<Self> {
        let Self { engine, path } = self;
        if Arc::strong_count(&engine) > 1 {
            return Some(Self { engine, path });
        }
        drop(engine);
        if let Err(error) = remove(&path) {
            tracing::warn!(%error, "files of an engine could not be removed; the next start does that");
        }
        None
    }
}

fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_due_when_most_of_the_space_is_for_nothing_and_a_compaction_would_help() {
        let mut due = Due::default();
        assert!(due.is_due(1_000, 100, 500) && !due.is_due(800, 100, 500));
        assert!(!due.is_due(u64::MAX, u64::MAX, 0), "what is not known");
        due.note_done(600);
        assert!(!due.is_due(1_000, 100, 500), "the engine needs that much for so little");
        assert!(due.is_due(1_300, 100, 500));
        due.note_failed();
        assert!(!due.is_due(1_300, 100, 500));
    }
}
