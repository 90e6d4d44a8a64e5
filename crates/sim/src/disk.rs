//! A disk with a process buffer, the operating system's cache, and a platter.
//!
//! A batch is handed over (it may still be lost with the process), written (it survives the process), and
//! synced (it survives a loss of power). A loss of power keeps what was synced and a random part of the rest,
//! in order, as the commit log's checksummed frames do.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use gramme_merkle::Leaf;
use gramme_object::Key;
use gramme_replica::{Change, Recovered, RecoveredPartition};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

#[derive(Clone, Debug, Default)]
struct Image {
    objects: BTreeMap<Key, Bytes>,
    recovered: Recovered,
}

impl Image {
    fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Object { key, object, .. } => {
                    self.objects.insert(key.clone(), object.clone());
                }
                Change::Leaf { number, leaf } => {
                    self.recovered.leaves.insert(*number, *leaf);
                }
                Change::Partition { prefix, total, record } => {
                    let row = RecoveredPartition { total: *total, record: record.clone(), notes: Vec::new() };
                    self.recovered.partitions.insert(*prefix, row);
                }
                Change::Note { prefix, total, note } => {
                    let row = self.recovered.partitions.entry(*prefix).or_default();
                    row.total = *total;
                    row.notes.push(note.clone());
                }
                Change::Meta { name, value } => {
                    self.recovered.meta.insert(Bytes::from_static(name.as_bytes()), value.clone());
                }
            }
        }
    }
}

/// One node's disk.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    synced: Image,
    written: Image,
    unsynced: VecDeque<Vec<Change>>,
    buffered: VecDeque<Vec<Change>>,
    /// Batches of this process that are written, and synced.
    pub(crate) written_through: u64,
    pub(crate) synced_through: u64,
}

impl Disk {
    pub(crate) fn submit(&mut self, changes: Vec<Change>) {
        self.buffered.push_back(changes);
    }

    /// Writes all that was handed over.
    pub(crate) fn write(&mut self) {
        while let Some(changes) = self.buffered.pop_front() {
            self.written.apply(&changes);
            self.unsynced.push_back(changes);
            self.written_through += 1;
        }
    }

    /// Syncs all that was written.
    pub(crate) fn sync(&mut self) {
        for changes in self.unsynced.drain(..) {
            self.synced.apply(&changes);
        }
        self.synced_through = self.written_through;
    }

    /// The process is gone: what it had not written is lost.
    pub(crate) fn crash(&mut self) {
        self.buffered.clear();
        (self.written_through, self.synced_through) = (0, 0);
    }

    /// The power is gone: of what was not synced a random beginning survives. Returns how many batches went.
    pub(crate) fn lose_power(&mut self, rng: &mut ChaCha8Rng) -> usize {
        let kept = rng.random_range(0..=self.unsynced.len());
        let lost = self.unsynced.len() - kept + self.buffered.len();
        for changes in self.unsynced.drain(..).take(kept) {
            self.synced.apply(&changes);
        }
        self.written = self.synced.clone();
        self.crash();
        lost
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Bytes> {
        self.written.objects.get(key).cloned()
    }

    /// What a start finds.
    pub(crate) fn recover(&self) -> Recovered {
        self.written.recovered.clone()
    }

    /// All objects, as written.
    pub(crate) fn objects(&self) -> &BTreeMap<Key, Bytes> {
        &self.written.objects
    }

    /// The sum of all leaves, to compare with the objects.
    pub(crate) fn leaves(&self) -> Leaf {
        let mut sum = Leaf::default();
        self.written.recovered.leaves.values().for_each(|leaf| sum.add(*leaf));
        sum
    }
}
