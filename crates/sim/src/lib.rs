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
//! keep a history; [`check`] judges it by the identity of values, never by the system's own clocks, since a
//! checker that trusts what it tests sees nothing.
//!
//! A run first breaks things (loss, delay, duplication, crashes, loss of power), then heals, reads every key
//! at R=N, and demands that all replicas are equal and nothing acknowledged is missing.
#![forbid(unsafe_code)]

pub mod check;
mod clients;
mod cluster;
mod disk;
mod history;
mod network;

pub use cluster::{Faults, Outcome, Settings, run};
pub use history::{History, ReadRecord, WriteId, WriteRecord};
