//! Whole clusters in one thread, from a seed.
//!
//! # The problem
//!
//! The faults that lose data are timings: a crash between a write and its sync, a reply of a former life, the
//! power of all nodes gone at one instant. Tests on real processes hit them by luck and cannot repeat them.
//!
//! # The idea
//!
//! The real [`Replica`](gramme_replica::Replica)s and the real router, over a simulated network, disk and
//! clock, all driven by one seed: the same seed gives the same run to the last bit ([`Outcome::trace`]).
//! Every message is encoded and decoded through `wire`. Clients write values that are never written twice and
//! keep a [`History`]; [`check`] judges it by the identity of values, never by the system's own clocks, since
//! a checker that trusts what it tests sees nothing.
//!
//! | part | is |
//! |---|---|
//! | `settings`, `fault` | what a seed expands to: the cluster's shape, and which faults are on |
//! | `cluster` | the run: safety, then liveness, then the last reads |
//! | `network`, `disk` | what nodes live on |
//! | `clients`, `history` | who asks, and what was said |
//! | `check` | who judges: one file a checker |
//! | `scenario` | a cluster driven by hand, for interleavings that have a name |
//! | `shrink`, `report` | a broken seed made short, and told |
//!
//! # What is not here
//!
//! No tokio, no quinn, no files, no wall clock but the one that says how fast the simulator is.
#![forbid(unsafe_code)]

mod batch;
pub mod check;
mod clients;
mod cluster;
mod disk;
mod event;
mod fault;
mod history;
mod network;
mod random;
pub mod report;
mod scenario;
mod settings;
mod shrink;

pub use batch::{Judged, judge, judge_all};
pub use cluster::{Outcome, run};
pub use fault::{Counts, Fault, FaultSet};
pub use history::{
    Broken, ChangeRecord, Damage, Fate, History, KeyRecord, Kind, ReadError, ReadRecord, WriteId, WriteRecord,
};
pub use scenario::Scenario;
pub use settings::Settings;
pub use shrink::shrink;
