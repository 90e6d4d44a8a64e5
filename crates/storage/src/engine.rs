//! What the store asks of an engine: an index of bytes, nothing about durability until `sync`.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;

use crate::engine_memory::MemoryEngine;
use crate::engine_redb::RedbEngine;
use crate::engine_sled::SledEngine;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineOp {
    /// Sets the value of a key.
    Put(Vec<u8>, Vec<u8>),
    /// Removes a key; nothing if it is not there.
    Remove(Vec<u8>),
}

/// An engine failed or panicked. What it holds is unknown until it has been opened and checked again.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the {engine} engine failed to {action}: {message}")]
pub struct EngineError {
    /// The engine's name.
    pub engine: &'static str,
    /// What it was to do.
    pub action: &'static str,
    /// What it said.
    pub message: String,
}

/// An index from bytes to bytes.
///
/// Applied changes may be lost in a crash, whole or in part, until `sync` has returned: the log has them.
/// Keys have at most 2,100 bytes, values at most 64 KiB and a little.
pub trait Engine: Send + Sync + fmt::Debug {
    /// The engine's name, as configuration spells it.
    fn name(&self) -> &'static str;

    /// The value of a key.
    ///
    /// # Errors
    /// [`EngineError`], which must not be taken for an absent key.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError>;

    /// Makes all changes, in order. Readers may see some before the others.
    ///
    /// # Errors
    /// [`EngineError`]; some of the changes may have been made.
    fn apply(&self, ops: Vec<EngineOp>) -> Result<(), EngineError>;

    /// Visits the rows whose keys begin with `prefix`, in an order that is the same at every call.
    ///
    /// # Errors
    /// [`EngineError`]; the rows visited so far are valid.
    fn scan(&self, prefix: &[u8], visit: &mut dyn FnMut(&[u8], Bytes)) -> Result<(), EngineError>;

    /// Returns once all applied changes will survive a loss of power.
    ///
    /// # Errors
    /// [`EngineError`]; nothing may be taken for durable then.
    fn sync(&self) -> Result<(), EngineError>;

    /// Whether rows outlive the process at all. If not, the log keeps everything and is replayed whole.
    fn is_persistent(&self) -> bool;
}

/// The engines there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EngineKind {
    /// sled 0.34: the default.
    Sled,
    /// redb 4.
    Redb,
    /// A map in memory; the log is the store. For tests, and data small enough to replay.
    Memory,
}

impl EngineKind {
    /// All of them, so that one suite can run against each.
    pub const ALL: [Self; 3] = [Self::Sled, Self::Redb, Self::Memory];

    /// Its name in configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sled => "sled",
            Self::Redb => "redb",
            Self::Memory => "memory",
        }
    }

    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Sled => 1,
            Self::Memory => 2,
            Self::Redb => 3,
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    pub(crate) fn open(self, directory: &Path) -> Result<Arc<dyn Engine>, EngineError> {
        Ok(match self {
            Self::Sled => Arc::new(SledEngine::open(directory)?),
            Self::Redb => Arc::new(RedbEngine::open(directory)?),
            Self::Memory => Arc::new(MemoryEngine::default()),
        })
    }
}

impl FromStr for EngineKind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| format!("no engine is called '{name}'; there are sled, redb and memory"))
    }
}
