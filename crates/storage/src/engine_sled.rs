//! sled 0.34.7 as an index behind the log.
//!
//! What it needs around it, as measured: its `flush` only starts write-back, so [`Engine::sync`] syncs every
//! file in its directory by itself; damaged files can make it panic, so every call catches that; it may come
//! back from damage with fewer rows and no error, so the store checks what it holds at every open.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::{fs, io};

use bytes::Bytes;

use crate::engine::{Engine, EngineError, EngineOp};

const CACHE_BYTES: u64 = 128 << 20;

#[derive(Debug)]
pub(crate) struct SledEngine {
    db: sled::Db,
    directory: PathBuf,
}

impl SledEngine {
    pub(crate) fn open(directory: &Path) -> Result<Self, EngineError> {
        let config = sled::Config::new()
            .path(directory)
            .mode(sled::Mode::HighThroughput)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(None);
        let db = guarded("open", || config.open())?;
        Ok(Self { db, directory: directory.to_owned() })
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

    fn scan(&self, prefix: &[u8], visit: &mut dyn FnMut(&[u8], Bytes)) -> Result<(), EngineError> {
        let mut rows = self.db.scan_prefix(prefix);
        while let Some((key, value)) = guarded("scan", || rows.next().transpose())? {
            visit(&key, Bytes::copy_from_slice(&value));
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
