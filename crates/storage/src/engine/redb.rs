//! redb 4.6 as an index behind the log.
//!
//! What it needs around it, as measured: it trusts a file that was closed cleanly, so every open has it check
//! the whole file; after a one-phase commit it answers damage with the commit before, and says nothing, so
//! every durable commit has two; it may panic all the same, so every call catches that; it syncs its file and
//! never the directory, so opening does that.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use bytes::Bytes;
use redb::backends::FileBackend;
use redb::{Builder, Database, Durability, ReadableDatabase, TableDefinition};

use super::{Engine, EngineError, EngineOp};
use crate::files::{make_private, private_options, sync_directory};

const CACHE_BYTES: usize = 128 << 20;
const FILE: &str = "rows.redb";
const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");

#[derive(Debug)]
pub(crate) struct RedbEngine {
    db: Database,
}

impl RedbEngine {
    pub(crate) fn open(directory: &Path) -> Result<Self, EngineError> {
        make_private(directory).map_err(|error| failed("open", error.to_string()))?;
        let file = open_file(directory).map_err(|error| failed("open", error.to_string()))?;
        let db = guarded("open", || {
            let db = Builder::new()
                .set_cache_size(CACHE_BYTES)
                .set_check_integrity_on_open(true)
                .create_with_backend(FileBackend::new(file)?)?;
            // Readers do not make tables.
            let mut write = db.begin_write()?;
            write.set_two_phase_commit(true);
            write.open_table(ROWS)?;
            write.commit()?;
            Ok(db)
        })?;
        Ok(Self { db })
    }
}

fn open_file(directory: &Path) -> std::io::Result<File> {
    let file = private_options().create(true).truncate(false).open(directory.join(FILE))?;
    sync_directory(directory)?;
    Ok(file)
}

impl Engine for RedbEngine {
    fn name(&self) -> &'static str {
        "redb"
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        guarded("read", || {
            let rows = self.db.begin_read()?.open_table(ROWS)?;
            Ok(rows.get(key)?.map(|value| Bytes::copy_from_slice(value.value())))
        })
    }

    fn apply(&self, ops: Vec<EngineOp>) -> Result<(), EngineError> {
        guarded("write", || {
            let mut write = self.db.begin_write()?;
            write.set_durability(Durability::None)?;
            {
                let mut rows = write.open_table(ROWS)?;
                for op in &ops {
                    match op {
                        EngineOp::Put(key, value) => rows.insert(key.as_slice(), value.as_slice())?,
                        EngineOp::Remove(key) => rows.remove(key.as_slice())?,
                    };
                }
            }
            Ok(write.commit()?)
        })
    }

    fn range(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], Bytes) -> bool,
    ) -> Result<(), EngineError> {
        let mut rows =
            guarded("scan", || Ok(self.db.begin_read()?.open_table(ROWS)?.range_owned(from..)?))?;
        while let Some((key, value)) = guarded("scan", || Ok(rows.next().transpose()?))? {
            let is_past = to.is_some_and(|to| key.value() >= to);
            if is_past || !visit(key.value(), Bytes::copy_from_slice(value.value())) {
                break;
            }
        }
        Ok(())
    }

    /// A durable commit takes with it all that were committed before and were not.
    fn sync(&self) -> Result<(), EngineError> {
        guarded("sync", || {
            let mut write = self.db.begin_write()?;
            write.set_two_phase_commit(true);
            Ok(write.commit()?)
        })
    }

    fn is_persistent(&self) -> bool {
        true
    }
}

fn guarded<T>(action: &'static str, call: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, EngineError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|error| failed(action, error.to_string())),
        Err(_) => Err(failed(action, "it panicked".to_owned())),
    }
}

fn failed(action: &'static str, message: String) -> EngineError {
    EngineError { engine: "redb", action, message }
}
