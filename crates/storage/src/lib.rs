#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod batch;
mod buffer;
mod checkpoint;
mod commands;
mod committer;
mod compaction;
mod directory;
mod engine;
mod error;
mod files;
mod filter;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod log;
mod manifest;
mod open;
mod options;
mod report;
mod rows;
mod scan;
mod shared;
mod stats;
mod store;
mod verify;

pub use batch::{Batch, Name, Row, Space};
pub use engine::{Engine, EngineError, EngineKind, EngineOp};
pub use error::{CommitError, OpenError, ReadError};
pub use open::{Opened, PartitionRow};
pub use options::Options;
pub use report::{Commit, Event, Hooks, Room};
pub use scan::{Page, Range};
pub use stats::Stats;
pub use store::Store;
pub use verify::Damage;
