//! sled 0.34.7 as an index behind the log.
//!
//! What it needs around it, as measured: its `flush` only starts write-back, so [`Engine::sync`] syncs every
//! file in its directory by itself; damaged files can make it panic, so every call catches that; it may come
//! back from damage with fewer rows and no error, so the store checks what it holds at every open. Threads of
//! its own still write, and hold its lock, when it has been dropped: a drop here waits for them.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use bytes::Bytes;

use super::{Engine, EngineError, EngineOp};

const CACHE_BYTES: u64 = 128 << 20;
/// A page above a quarter of it goes to a file of its own, which sled neither syncs when it writes it nor keeps
/// until the next sync when it replaces it. The largest page of ours is 26 rows of a chunk each.
const SEGMENT_BYTES: usize = 2 << 20;
/// How long a drop waits for sled's own threads. Only a disk that hangs takes so long.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct SledEngine {
    db: sled::Db,
    directory: PathBuf,
    /// After `db`: it waits for what that leaves behind.
    _lock: LockFile,
}

/// The file that sled holds a lock on as long as one of its threads works.
#[derive(Debug)]
struct LockFile(PathBuf);

impl Drop for LockFile {
    fn drop(&mut self) {
        let Ok(file) = File::open(&self.0) else { return };
        let until = Instant::now() + PATIENCE;
        while file.try_lock().is_err() && Instant::now() < until {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl SledEngine {
    pub(crate) fn open(directory: &Path) -> Result<Self, EngineError> {
        let config = sled::Config::new()
            .path(directory)
            .mode(sled::Mode::HighThroughput)
            .cache_capacity(CACHE_BYTES)
            .segment_size(SEGMENT_BYTES)
            .flush_every_ms(None);
        let db = guarded("open", || config.open())?;
        Ok(Self { db, directory: directory.to_owned(), _lock: LockFile(directory.join("db")) })
    }
}

impl Engine for SledEngine {
    fn name(&self) -> &'static str {
        "sled"
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let value = guarded("read", || self.db.get(key))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn apply(&self, ops: Vec<EngineOp>) -> Result<(), EngineError> {
        let mut batch = sled::Batch::default();
        for op in ops {
            match op {
                EngineOp::Put(key, value) => batch.insert(key, value),
                EngineOp::Remove(key) => batch.remove(key),
            }
        }
        guarded("write", || self.db.apply_batch(batch))
    }

    fn range(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], Bytes) -> bool,
    ) -> Result<(), EngineError> {
        let mut rows = match to {
            Some(to) => self.db.range(from..to),
            None => self.db.range(from..),
        };
        while let Some((key, value)) = guarded("scan", || rows.next().transpose())? {
            if !visit(&key, Bytes::copy_from_slice(&value)) {
                break;
            }
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), EngineError> {
        guarded("flush", || self.db.flush())?;
        sync_tree(&self.directory).map_err(|error| failed("sync", error.to_string()))
    }

    fn is_persistent(&self) -> bool {
        true
    }
}

/// How often a directory is read again because a file in it was renamed meanwhile.
const PASSES: usize = 16;

/// Syncs every file below `directory`, and the directories themselves. sled renames its snapshots while it
/// works, so a file that is gone when its turn comes means: look again.
fn sync_tree(directory: &Path) -> io::Result<()> {
    for _ in 1..PASSES {
        match sync_pass(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => return result,
        }
    }
    sync_pass(directory)
}

fn sync_pass(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_pass(&entry.path())?;
        } else {
            File::open(entry.path())?.sync_all()?;
        }
    }
    File::open(directory)?.sync_all()
}

fn guarded<T>(action: &'static str, call: impl FnOnce() -> sled::Result<T>) -> Result<T, EngineError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|error| failed(action, error.to_string())),
        Err(_) => Err(failed(action, "it panicked".to_owned())),
    }
}

fn failed(action: &'static str, message: String) -> EngineError {
    EngineError { engine: "sled", action, message }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// With more threads than processors, one of sled's is often put aside at the wrong moment.
    #[test]
    fn what_was_dropped_opens_again_at_once() {
        let directory = tempfile::tempdir().expect("a directory");
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                });
            }
            let reopened = (0..200_u32).try_for_each(|round| {
                let rows = (0..300).map(|_| EngineOp::Put(round.to_be_bytes().into(), vec![7; 2_000]));
                SledEngine::open(directory.path())?.apply(rows.collect())
            });
            done.store(true, Ordering::Relaxed);
            reopened.expect("nobody else has it");
        });
    }
}
