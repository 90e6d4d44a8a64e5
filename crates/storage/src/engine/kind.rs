//! Which engines there are.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use super::memory::MemoryEngine;
use super::redb::RedbEngine;
use super::sled::SledEngine;
use super::{Engine, EngineError};

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
