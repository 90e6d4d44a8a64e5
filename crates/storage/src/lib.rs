//! Durable local storage for one shard of one node.
//!
//! # The problem
//!
//! A replica's acknowledgement is a promise that outlives its process and, where asked, its machine's power.
//! Embedded engines promise less than they seem to: sled 0.34's `flush` starts write-back and does not wait
//! for the device, and its large values go to files that it never syncs. And a store that syncs each write by
//! itself spends nearly all its time doing so.
//!
//! # The idea
//!
//! The paper's section 6.1, with a log in front. A write goes to a **commit log** of ours: one committer
//! thread takes all batches that are waiting, appends them with one `write` and, where one of them asks,
//! makes them durable with one `fdatasync` (group commit). The **object buffer** holds what the engine does
//! not have yet and answers reads first. A **checkpoint** writes the buffer to the [`Engine`], once per key
//! however often it was overwritten, flushes *and syncs* it, records what it must hold in a manifest, and
//! only then drops log segments. So durability never rests on an engine's flush. A **filter** in memory knows
//! of most keys that are not there that they are not, so that a new key costs no look into the engine.
//!
//! At open everything is checked against everything: rows against their checksums, the digests of rows
//! against the leaves of the hash tree, leaves against totals that the manifest and the log have recorded.
//! What cannot be proven is reported by partition ([`Opened::damaged`]); nothing is silently less.
//!
//! ```text
//! DIR/IDENTITY   what this store is: written last when it is created
//! DIR/LOCK       held while it is open
//! DIR/RESERVE    space given back when the disk runs full
//! DIR/MANIFEST   the last checkpoint, replaced atomically
//! DIR/log/       0000000000000001.log …
//! DIR/engine/    the engine's own files
//! ```
//!
//! # What is not here
//!
//! No network, no clocks, no meaning: it sees bytes, hashes and digests. It does not merge and does not know
//! what a sibling is.
#![forbid(unsafe_code)]

mod batch;
mod buffer;
mod checkpoint;
mod commands;
mod committer;
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
