//! What clients did and were told.

use std::collections::{BTreeMap, BTreeSet};

/// Names a write for ever: it is the value that was written.
pub type WriteId = u64;

/// One write.
#[derive(Clone, Debug, Default)]
pub struct WriteRecord {
    /// The key's number.
    pub key: usize,
    /// The writes whose values its writer had read, or written itself, when it sent the context along.
    pub read: BTreeSet<WriteId>,
    /// Whether it deleted instead of storing a value.
    pub is_delete: bool,
    /// When it was sent.
    pub sent: u64,
    /// When it was acknowledged; `None` if the outcome is unknown.
    pub acked: Option<u64>,
    /// Whether the client was told for certain that it was not done.
    pub refused: bool,
}

/// One read that was answered.
#[derive(Clone, Debug)]
pub struct ReadRecord {
    /// The key's number.
    pub key: usize,
    /// The values that it showed.
    pub values: BTreeSet<WriteId>,
    /// When it was sent.
    pub sent: u64,
    /// When it was answered.
    pub answered: u64,
}

/// A whole run.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// All writes.
    pub writes: BTreeMap<WriteId, WriteRecord>,
    /// All reads.
    pub reads: Vec<ReadRecord>,
    /// What each key shows in the end, read at R=N after everything was healed.
    pub last: BTreeMap<usize, BTreeSet<WriteId>>,
    /// Which value each dot named, by key and dot.
    pub dots: BTreeMap<(usize, String), BTreeSet<WriteId>>,
    /// The keys on which replicas differ in the end.
    pub unequal: Vec<String>,
}
