//! All records, and hashes of them that find out cheaply where two tables differ.
//!
//! A hash of the whole says whether anything differs, 64 hashes of buckets say where. Each of those is the sum (exclusive
//! or) of its records' hashes, so that a change costs the same in a table of any size.

use std::collections::BTreeMap;

use gramme_ring::NodeId;

use crate::record::Record;

/// How many buckets the records fall into.
pub(crate) const BUCKETS: usize = 64;
/// The most records that a table takes.
const RECORDS: usize = 16_384;
/// From the lowest id to the highest.
pub(crate) const ALL: (NodeId, NodeId) = (NodeId(0), NodeId(u64::MAX));

#[derive(Debug)]
struct Entry {
    record: Record,
    hash: u64,
}

#[derive(Debug)]
pub(crate) struct Table {
    entries: BTreeMap<NodeId, Entry>,
    buckets: [u64; BUCKETS],
}

/// The bucket of a node; ids may be small numbers, and spread all the same.
pub(crate) const fn bucket(node: NodeId) -> usize {
    (node.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58) as usize
}

impl Table {
    pub(crate) const fn new() -> Self {
        Self { entries: BTreeMap::new(), buckets: [0; BUCKETS] }
    }

    /// Whether there is room for it, and it is as records are.
    pub(crate) fn takes(&self, record: &Record) -> bool {
        record.is_valid() && (self.entries.len() < RECORDS || self.entries.contains_key(&record.node))
    }

    /// Merges a record; says whether that changed anything. One that the table does not take changes nothing.
    pub(crate) fn merge(&mut self, record: &Record) -> bool {
        if !self.takes(record) {
            return false;
        }
        let is_known = self.entries.contains_key(&record.node);
        let entry = self.entries.entry(record.node).or_insert_with(|| {
            let mut record = record.clone();
            record.detach();
            Entry { record, hash: 0 }
        });
        let is_changed = entry.record.merge(record) || !is_known;
        if is_changed {
            let hash = entry.record.hash();
            self.buckets[bucket(record.node)] ^= entry.hash ^ hash;
            entry.hash = hash;
        }
        is_changed
    }

    pub(crate) fn get(&self, node: NodeId) -> Option<&Record> {
        self.entries.get(&node).map(|entry| &entry.record)
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = &Record> {
        self.entries.values().map(|entry| &entry.record)
    }

    /// The ids of those who are members now.
    pub(crate) fn members(&self) -> impl Iterator<Item = NodeId> {
        self.records().filter(|record| record.is_member()).map(|record| record.node)
    }

    /// Not their sum: records in different buckets could cancel each other.
    pub(crate) fn root(&self) -> u64 {
        let mut hasher = blake3::Hasher::new();
        for bucket in &self.buckets {
            hasher.update(&bucket.to_le_bytes());
        }
        hasher.finalize().as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    pub(crate) const fn buckets(&self) -> &[u64; BUCKETS] {
        &self.buckets
    }

    /// The records of some buckets between two ids, with their hashes. `buckets` has a bit for each.
    pub(crate) fn within(
        &self,
        buckets: u64,
        (first, last): (NodeId, NodeId),
    ) -> impl Iterator<Item = (&Record, u64)> {
        let ids = (first <= last).then_some(first..=last);
        let entries = ids.into_iter().flat_map(|ids| self.entries.range(ids));
        entries
            .filter(move |(node, _)| buckets >> bucket(**node) & 1 == 1)
            .map(|(_, entry)| (&entry.record, entry.hash))
    }
}
