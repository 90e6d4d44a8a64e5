//! A disk with a process's buffer, the operating system's cache, and a platter.
//!
//! A batch is handed over (it goes with the process), written (it goes with the power), and synced (it stays).
//! A loss of power keeps what was synced and a random beginning of the rest, as a log of checksummed frames
//! does. A sync that fails leaves its batches readable and never writes them: the kernel holds them as clean.
//! What comes after them in the log is lost with them, until a start writes all of it anew.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use gramme_merkle::Digest;
use gramme_object::Key;
use gramme_replica::{Change, LoadFailed, Place, Recovered, RecoveredPartition, Space};
use gramme_ring::{NodeId, PartitionId};
use rand::RngExt;

use crate::random::Rng;

/// A disk's content.
#[derive(Clone, Debug, Default)]
pub(crate) struct Image {
    objects: BTreeMap<Key, Bytes>,
    /// What is kept for other nodes, with its digest.
    hints: BTreeMap<Place, (Digest, Bytes)>,
    /// What else a start finds; its position counts the batches that are in here.
    recovered: Recovered,
}

impl Image {
    fn apply(&mut self, changes: &[Change]) {
        self.recovered.position += 1;
        for change in changes {
            match change {
                Change::Object { place, object, .. } if place.space == Space::Data => {
                    self.objects.insert(place.key.clone(), object.clone());
                }
                Change::Object { place, digest, object } => {
                    self.hints.insert(place.clone(), (*digest, object.clone()));
                }
                Change::Removed { place } if place.space == Space::Data => {
                    self.objects.remove(&place.key);
                }
                Change::Removed { place } => {
                    self.hints.remove(place);
                }
                Change::Leaf { partition, number, leaf } => {
                    self.row(*partition).leaves.insert(*number, *leaf);
                }
                Change::Partition { partition, total, record } => {
                    let row = self.row(*partition);
                    (row.total, row.record) = (*total, record.clone());
                    row.notes.clear();
                }
                Change::Note { partition, total, note } => {
                    let row = self.row(*partition);
                    row.total = *total;
                    row.notes.push(note.clone());
                }
                Change::Meta { name, value } => {
                    self.recovered.meta.insert(name.clone(), value.clone());
                }
            }
        }
    }

    fn row(&mut self, partition: PartitionId) -> &mut RecoveredPartition {
        self.recovered.partitions.entry(partition).or_default()
    }
}

#[derive(Debug)]
struct Batch {
    changes: Vec<Change>,
    sync: bool,
}

/// One node's disk.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    synced: Image,
    written: Image,
    unsynced: VecDeque<Batch>,
    buffered: VecDeque<Batch>,
    /// Batches of this process that are written, and synced.
    written_through: u64,
    synced_through: u64,
    /// What the sync that is under way covers.
    syncing_through: u64,
    /// A sync has failed in this start: what the log holds from there on will not survive.
    has_hole: bool,
    pub(crate) fails_next_write: bool,
    pub(crate) fails_next_sync: bool,
    pub(crate) fails_reads: bool,
    pub(crate) slowness: u64,
    /// Whether an event that writes, or syncs, is on its way.
    pub(crate) is_writing: bool,
    pub(crate) is_syncing: bool,
    /// Whether somebody waits for the sync that is under way.
    is_urgent: bool,
    /// The number of that sync.
    pub(crate) sync: u64,
    snapshot: Option<Image>,
}

/// A batch did not become durable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failed;

impl Disk {
    pub(crate) fn submit(&mut self, changes: Vec<Change>, sync: bool) {
        self.buffered.push_back(Batch { changes, sync });
    }

    /// Writes all that was handed over.
    pub(crate) fn write(&mut self) -> Result<(), Failed> {
        if std::mem::take(&mut self.fails_next_write) {
            self.buffered.clear();
            return Err(Failed);
        }
        while let Some(batch) = self.buffered.pop_front() {
            self.written.apply(&batch.changes);
            self.unsynced.push_back(batch);
            self.written_through += 1;
        }
        Ok(())
    }

    /// Begins a sync of what is written; says whether somebody waits for it.
    pub(crate) fn begin_sync(&mut self) -> bool {
        self.syncing_through = self.written_through;
        self.sync += 1;
        self.is_syncing = true;
        self.is_urgent = self.is_waited_for();
        self.is_urgent
    }

    fn is_waited_for(&self) -> bool {
        self.unsynced.iter().any(|batch| batch.sync)
    }

    /// Whether a sync is under way that nothing can hurry.
    pub(crate) fn is_busy_syncing(&self) -> bool {
        self.is_syncing && (self.is_urgent || !self.is_waited_for())
    }

    /// Whether something written waits for a sync.
    pub(crate) fn needs_sync(&self) -> bool {
        !self.unsynced.is_empty()
    }

    /// Ends the sync that is under way.
    pub(crate) fn end_sync(&mut self) -> Result<(), Failed> {
        self.is_syncing = false;
        let failed = std::mem::take(&mut self.fails_next_sync);
        self.has_hole |= failed;
        let count = (self.syncing_through - self.synced_through) as usize;
        for batch in self.unsynced.drain(..count) {
            if !self.has_hole {
                self.synced.apply(&batch.changes);
            }
        }
        self.synced_through = self.syncing_through;
        if failed { Err(Failed) } else { Ok(()) }
    }

    /// What survives the process, and the power.
    pub(crate) const fn progress(&self) -> (u64, u64) {
        (self.written_through, self.synced_through)
    }

    /// The process is gone: what it had not written is lost.
    pub(crate) fn crash(&mut self) {
        self.buffered.clear();
        self.unsynced.clear();
        (self.written_through, self.synced_through, self.syncing_through) = (0, 0, 0);
        (self.fails_next_write, self.fails_next_sync) = (false, false);
        (self.is_writing, self.is_syncing) = (false, false);
    }

    /// The power is gone: of what was not synced a random beginning survives. Says how many batches went.
    pub(crate) fn lose_power(&mut self, rng: &mut Rng) -> usize {
        let kept = if self.has_hole { 0 } else { rng.random_range(0..=self.unsynced.len()) };
        let lost = self.unsynced.len() - kept + self.buffered.len();
        for batch in self.unsynced.drain(..).take(kept) {
            self.synced.apply(&batch.changes);
        }
        self.written = self.synced.clone();
        self.crash();
        lost
    }

    /// A start: the log is written anew and synced before anything is shown of it.
    pub(crate) fn recover(&mut self) -> Recovered {
        self.synced = self.written.clone();
        self.has_hole = false;
        let mut recovered = self.written.recovered.clone();
        for (place, (digest, _)) in &self.written.hints {
            if let Space::Hints(target) = place.space {
                recovered.hints.entry(target).or_default().replace(None, Some(*digest));
            }
        }
        recovered
    }

    /// Remembers what is on the platter, for [`Self::roll_back`].
    pub(crate) fn take_snapshot(&mut self) {
        self.snapshot = Some(self.synced.clone());
    }

    /// A copy of the directory, while its process goes on.
    pub(crate) fn copied(&self) -> Self {
        Self { synced: self.written.clone(), written: self.written.clone(), ..Self::default() }
    }

    pub(crate) fn roll_back(&mut self) {
        self.replace(|disk| disk.snapshot.take().unwrap_or_default());
    }

    pub(crate) fn lose(&mut self) {
        self.replace(|_| Image::default());
    }

    fn replace(&mut self, by: impl FnOnce(&mut Self) -> Image) {
        self.crash();
        self.synced = by(self);
        self.written = self.synced.clone();
    }

    /// Flips one bit of one object; says of which key, if there is any.
    pub(crate) fn flip_bit(&mut self, rng: &mut Rng) -> Option<Key> {
        let count = self.written.objects.len();
        let at = rng.random_range(0..count.max(1));
        let (key, object) = self.written.objects.iter().nth(at)?;
        let (key, mut bytes) = (key.clone(), object.to_vec());
        let bit = rng.random_range(0..bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        self.written.objects.insert(key.clone(), bytes.clone().into());
        self.synced.objects.insert(key.clone(), bytes.into());
        Some(key)
    }

    pub(crate) fn load(&self, place: &Place) -> Result<Option<Bytes>, LoadFailed> {
        let stored = match place.space {
            Space::Data => self.written.objects.get(&place.key),
            Space::Hints(_) => self.written.hints.get(place).map(|(_, object)| object),
        };
        if self.fails_reads { Err(LoadFailed) } else { Ok(stored.cloned()) }
    }

    /// What is kept for a node.
    pub(crate) fn hints_for(&self, target: NodeId) -> Vec<(Place, Bytes)> {
        let hints = self.written.hints.iter().filter(|(place, _)| place.space == Space::Hints(target));
        hints.map(|(place, (_, object))| (place.clone(), object.clone())).collect()
    }

    /// All objects, as written.
    pub(crate) const fn objects(&self) -> &BTreeMap<Key, Bytes> {
        &self.written.objects
    }

    /// What else is written: records, and the leaves of the hash trees.
    pub(crate) const fn recovered(&self) -> &Recovered {
        &self.written.recovered
    }
}
