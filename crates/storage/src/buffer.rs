//! The object buffer (the paper's section 6.1): what is committed and not yet in the engine.
//!
//! Two halves: writes go to the active one; a checkpoint freezes it and drains it while a new active one
//! fills. Reads look at both, newest first, and at the filter, before they ask the engine.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use gramme_merkle::{Digest, Leaf};
use gramme_ring::PartitionId;

use crate::batch::{Batch, Name, Row};
use crate::filter::Filter;

/// What an object's row will be in the engine.
#[derive(Clone, Debug)]
pub(crate) enum Pending {
    Data { digest: Digest, value: Bytes },
    Removed,
}

/// What is known of a row without the engine.
#[derive(Clone, Debug)]
pub(crate) enum Known {
    Value(Bytes),
    Absent,
    AskEngine,
}

/// A partition's record as it is now: always in memory, whole.
#[derive(Clone, Debug, Default)]
pub(crate) struct PartitionState {
    pub(crate) total: Leaf,
    pub(crate) record: Bytes,
    pub(crate) notes: Vec<Bytes>,
}

/// Rows by their names, with what they cost.
#[derive(Debug, Default)]
pub(crate) struct Half {
    pub(crate) objects: BTreeMap<Name, Pending>,
    pub(crate) leaves: BTreeMap<(PartitionId, u32), Leaf>,
    pub(crate) meta: BTreeMap<Bytes, Bytes>,
    /// Partitions whose record changed.
    pub(crate) partitions: BTreeSet<PartitionId>,
    bytes: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Buffer {
    active: Half,
    frozen: Option<Arc<Half>>,
    pub(crate) partitions: BTreeMap<PartitionId, PartitionState>,
    /// The last batch that is in here or in the engine.
    pub(crate) sequence: u64,
    /// The objects that are, or were, in here or in the engine.
    pub(crate) filter: Filter,
    /// Those of them that the engine has, or had, in chunks.
    pub(crate) chunked: Filter,
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
            Row::Data { name, digest, value } => {
                self.filter.insert(name.filter_hash());
                self.active.insert(name, Pending::Data { digest, value });
            }
            Row::Removed { name } => self.active.insert(name, Pending::Removed),
            Row::Leaf { partition, number, leaf } => {
                self.active.bytes += LEAF_COST;
                if self.active.leaves.insert((partition, number), leaf).is_some() {
                    self.active.bytes -= LEAF_COST;
                }
            }
            Row::Meta { name, value } => {
                let cost = |value: &Bytes| ROW_COST + value.len() as u64;
                self.active.bytes += cost(&value);
                if let Some(old) = self.active.meta.insert(name, value) {
                    self.active.bytes -= cost(&old);
                }
            }
            Row::Partition { partition, total, record } => {
                self.partitions.insert(partition, PartitionState { total, record, notes: Vec::new() });
                self.active.partitions.insert(partition);
            }
            Row::Note { partition, total, note } => {
                let state = self.partitions.entry(partition).or_default();
                state.total = total;
                state.notes.push(note);
                self.active.partitions.insert(partition);
            }
        }
    }

    /// What is known of an object's row.
    pub(crate) fn get(&self, name: &Name) -> Known {
        let frozen = || self.frozen.as_ref().and_then(|frozen| frozen.objects.get(name));
        match self.active.objects.get(name).or_else(frozen) {
            Some(Pending::Data { value, .. }) => Known::Value(value.clone()),
            Some(Pending::Removed) => Known::Absent,
            None if self.filter.may_contain(name.filter_hash()) => Known::AskEngine,
            None => Known::Absent,
        }
    }

    /// The pending objects after `from`, in order and the newest state of each, at most `limit` of each half;
    /// and whether one of the halves has more.
    pub(crate) fn objects_after(
        &self,
        from: (Bound<Name>, Bound<Name>),
        limit: usize,
    ) -> (BTreeMap<Name, Pending>, Option<Name>) {
        let mut rows = BTreeMap::new();
        let mut complete_to: Option<Name> = None;
        for half in self.frozen.iter().map(Arc::as_ref).chain([&self.active]) {
            let mut taken = half.objects.range(from.clone());
            let mut last = None;
            for (name, pending) in taken.by_ref().take(limit) {
                rows.insert(name.clone(), pending.clone());
                last = Some(name);
            }
            if let Some(last) = last.filter(|_| taken.next().is_some()) {
                complete_to = Some(complete_to.map_or(last.clone(), |before| before.min(last.clone())));
            }
        }
        (rows, complete_to)
    }

    /// Both halves, the older first.
    pub(crate) fn halves(&self) -> impl Iterator<Item = &Half> {
        self.frozen.iter().map(Arc::as_ref).chain([&self.active])
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
        self.halves().map(|half| half.bytes).sum()
    }

    /// Bytes that a checkpoint would freeze now.
    pub(crate) fn active_bytes(&self) -> u64 {
        self.active.bytes
    }

    /// Whether anything waits for a checkpoint.
    pub(crate) fn is_dirty(&self) -> bool {
        let Half { objects, leaves, meta, partitions, .. } = &self.active;
        !(objects.is_empty() && leaves.is_empty() && meta.is_empty() && partitions.is_empty())
    }

    pub(crate) fn totals(&self) -> BTreeMap<PartitionId, Leaf> {
        self.partitions.iter().map(|(partition, state)| (*partition, state.total)).collect()
    }
}

/// A rough cost of a map's own bookkeeping per row, in bytes.
const ROW_COST: u64 = 128;
const LEAF_COST: u64 = 64;

impl Half {
    fn insert(&mut self, name: Name, pending: Pending) {
        let cost = |pending: &Pending| match pending {
            Pending::Data { value, .. } => value.len() as u64,
            Pending::Removed => 0,
        };
        let added = ROW_COST + name.key.len() as u64;
        self.bytes += added + cost(&pending);
        if let Some(old) = self.objects.insert(name, pending) {
            self.bytes -= added + cost(&old);
        }
    }
}
