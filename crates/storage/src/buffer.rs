//! The object buffer (the paper's section 6.1): what is committed and not yet in the engine.
//!
//! Two halves: writes go to the active one; a checkpoint freezes it and works it off while a new active one
//! fills. Reads look at both, newest first, before they ask the engine.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use gramme_merkle::{Digest, Leaf};

use crate::batch::{Batch, Row};
use crate::rows;

/// What a row will be in the engine.
#[derive(Clone, Debug)]
pub(crate) enum Pending {
    Data {
        digest: Digest,
        value: Bytes,
    },
    Removed,
    /// Leaves and meta records.
    Plain(Bytes),
}

/// A partition's record as it is now: always in memory, whole.
#[derive(Clone, Debug, Default)]
pub(crate) struct PartitionState {
    pub(crate) total: Leaf,
    pub(crate) record: Bytes,
    pub(crate) notes: Vec<Bytes>,
}

/// Rows by their engine key, with what they cost.
#[derive(Debug, Default)]
pub(crate) struct Half {
    pub(crate) rows: HashMap<Vec<u8>, Pending>,
    /// Partitions whose record changed.
    pub(crate) partitions: BTreeSet<u32>,
    bytes: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Buffer {
    active: Half,
    frozen: Option<Arc<Half>>,
    pub(crate) partitions: BTreeMap<u32, PartitionState>,
    /// The last batch that is in here or in the engine.
    pub(crate) sequence: u64,
}

impl Buffer {
    /// Takes a committed batch.
    pub(crate) fn apply(&mut self, sequence: u64, batch: Batch) {
        self.sequence = sequence;
        for row in batch.rows {
            self.apply_row(row);
        }
    }

    fn apply_row(&mut self, row: Row) {
        match row {
            Row::Data { hash, key, digest, value } => {
                self.insert(rows::data_key(hash, &key), Pending::Data { digest, value });
            }
            Row::Removed { hash, key } => self.insert(rows::data_key(hash, &key), Pending::Removed),
            Row::Leaf { number, leaf } => {
                let value = Bytes::copy_from_slice(&leaf.to_bytes());
                self.insert(rows::numbered_key(rows::leaf_prefix(), number), Pending::Plain(value));
            }
            Row::Meta { name, value } => self.insert(rows::meta_key(&name), Pending::Plain(value)),
            Row::Partition { prefix, total, record } => {
                self.partitions.insert(prefix, PartitionState { total, record, notes: Vec::new() });
                self.active.partitions.insert(prefix);
            }
            Row::Note { prefix, total, note } => {
                let state = self.partitions.entry(prefix).or_default();
                state.total = total;
                state.notes.push(note);
                self.active.partitions.insert(prefix);
            }
        }
    }

    fn insert(&mut self, key: Vec<u8>, pending: Pending) {
        // A rough cost of the map's own bookkeeping per row.
        let cost = |key: usize, pending: &Pending| key as u64 + pending.size() + 96;
        let key_size = key.len();
        self.active.bytes += cost(key_size, &pending);
        if let Some(old) = self.active.rows.insert(key, pending) {
            self.active.bytes -= cost(key_size, &old);
        }
    }

    /// The newest pending state of a row.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Pending> {
        let frozen = || self.frozen.as_ref().and_then(|frozen| frozen.rows.get(key));
        self.active.rows.get(key).or_else(frozen).cloned()
    }

    /// All pending rows whose keys begin with `prefix`, newest state of each.
    pub(crate) fn scan(&self, prefix: &[u8]) -> BTreeMap<Vec<u8>, Pending> {
        let halves = self.frozen.iter().map(Arc::as_ref).chain([&self.active]);
        let rows = halves.flat_map(|half| half.rows.iter()).filter(|(key, _)| key.starts_with(prefix));
        rows.map(|(key, pending)| (key.clone(), pending.clone())).collect()
    }

    /// Freezes what is active, to be written to the engine.
    pub(crate) fn freeze(&mut self) -> Arc<Half> {
        let frozen = Arc::new(std::mem::take(&mut self.active));
        self.frozen = Some(Arc::clone(&frozen));
        frozen
    }

    /// The engine has all that was frozen.
    pub(crate) fn thaw(&mut self) {
        self.frozen = None;
    }

    /// Bytes in both halves.
    pub(crate) fn bytes(&self) -> u64 {
        self.active.bytes + self.frozen.as_ref().map_or(0, |frozen| frozen.bytes)
    }

    /// Bytes that a checkpoint would freeze now.
    pub(crate) fn active_bytes(&self) -> u64 {
        self.active.bytes
    }

    /// Whether anything waits for a checkpoint.
    pub(crate) fn is_dirty(&self) -> bool {
        !self.active.rows.is_empty() || !self.active.partitions.is_empty()
    }

    pub(crate) fn totals(&self) -> BTreeMap<u32, Leaf> {
        self.partitions.iter().map(|(prefix, state)| (*prefix, state.total)).collect()
    }
}

impl Pending {
    fn size(&self) -> u64 {
        match self {
            Self::Data { value, .. } | Self::Plain(value) => value.len() as u64,
            Self::Removed => 0,
        }
    }
}
