//! The replica's disk: its changes as rows of the store, and the store's progress as numbers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use gramme_replica::{Change, Place, Recovered, RecoveredPartition};
use gramme_ring::NodeId;
use gramme_storage::{Batch, Commit, Hooks, Name, Opened, Row, Stats, Store};
use gramme_wire::peer::Room;

use super::Shared;

/// What an engine needs for a row beside its value: its key, checksums, and a part of the tree.
const ROW_BYTES: u64 = 128;

/// An open store, and where its numbering stands: the store's sequences go on where the last start ended,
/// the replica's begin at 1.
pub(crate) struct Disk {
    store: Arc<Store>,
    shared: Arc<Shared>,
    base: u64,
    /// Whether each commit is waited for on the spot: on paused time no thread may work on the side.
    waits: bool,
}

/// Tells the driver of commits. The numbers are the store's.
pub(crate) fn hooks(shared: &Arc<Shared>) -> Hooks {
    let shared = Arc::clone(shared);
    Hooks::on_commit(move |commit| {
        match commit {
            Commit::Written { through } => shared.written.store(through, Ordering::Release),
            Commit::Synced { through } => shared.synced.store(through, Ordering::Release),
            Commit::Failed { error, .. } => {
                // First what counts: a log on the same disk may fail as well.
                shared.commit_failed.store(true, Ordering::Release);
                tracing::error!(%error, "a commit failed");
            }
        }
        shared.committed.notify_one();
    })
}

/// What a replica starts from.
pub(crate) fn recovered(opened: &Opened) -> Recovered {
    let partition = |row: &gramme_storage::PartitionRow| RecoveredPartition {
        total: row.total,
        record: row.record.clone(),
        notes: row.notes.clone(),
        leaves: row.leaves.clone(),
    };
    let partitions: BTreeMap<_, _> =
        opened.partitions.iter().map(|(id, row)| (*id, partition(row))).collect();
    let hints = opened.hints.iter().map(|(target, sum)| (NodeId(*target), *sum)).collect();
    Recovered { position: opened.position, partitions, meta: opened.meta.clone(), hints }
}

impl Disk {
    pub(crate) const fn new(store: Arc<Store>, position: u64, shared: Arc<Shared>, waits: bool) -> Self {
        Self { store, shared, base: position, waits }
    }

    /// A row, if it is known without waiting for a disk.
    pub(crate) fn load_buffered(&self, place: &Place) -> Option<Option<Bytes>> {
        self.store.get_buffered(&name(place))
    }

    pub(crate) fn commit(&self, changes: Vec<Change>, sync: bool) {
        let rows = changes.into_iter().map(row).collect();
        let submitted = self.store.submit(Batch { rows }, sync || self.waits);
        while self.waits
            && self.shared.synced.load(Ordering::Acquire) < submitted
            && !self.shared.commit_failed.load(Ordering::Acquire)
        {
            std::thread::yield_now();
        }
    }

    /// How far batches are written and synced, in the replica's numbers, and whether one has failed.
    pub(crate) fn progress(&self) -> (u64, u64, bool) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Acquire).saturating_sub(self.base);
        // Synced first: what is synced by then has been written by then.
        let synced = read(&self.shared.synced);
        (read(&self.shared.written).max(synced), synced, self.shared.commit_failed.load(Ordering::Acquire))
    }

    pub(crate) fn room(&self) -> Room {
        match self.store.room() {
            gramme_storage::Room::Enough => Room::Enough,
            gramme_storage::Room::Low => Room::Low,
            gramme_storage::Room::None => Room::None,
        }
    }

    /// Says how much there is to store, so that the store knows when its engine takes far more.
    pub(crate) fn note_stored(&self, stats: &gramme_replica::Stats) {
        let rows = stats.keys + stats.hints;
        self.store.note_stored(stats.bytes + stats.hint_bytes + rows * ROW_BYTES);
    }

    pub(crate) fn stats(&self) -> Stats {
        self.store.stats()
    }

    /// Nobody else may hold the store any more.
    pub(crate) fn close(self) {
        match Arc::into_inner(self.store) {
            Some(store) => store.close(),
            None => tracing::error!(
                "the store is still in use, and is not closed cleanly; the log has everything"
            ),
        }
    }
}

pub(super) const fn space_of(space: gramme_replica::Space) -> gramme_storage::Space {
    match space {
        gramme_replica::Space::Data => gramme_storage::Space::Data,
        gramme_replica::Space::Hints(target) => gramme_storage::Space::Hint(target.0),
    }
}

/// What a key's row is called.
pub(super) fn name(place: &Place) -> Name {
    let space = space_of(place.space);
    Name { space, hash: place.hash.0, key: place.key.as_bytes().clone() }
}

fn row(change: Change) -> Row {
    match change {
        Change::Object { place, digest, object } => Row::Data { name: name(&place), digest, value: object },
        Change::Removed { place } => Row::Removed { name: name(&place) },
        Change::Leaf { partition, number, leaf } => Row::Leaf { partition, number, leaf },
        Change::Partition { partition, total, record } => Row::Partition { partition, total, record },
        Change::Note { partition, total, note } => Row::Note { partition, total, note },
        Change::Meta { name, value } => Row::Meta { name, value },
    }
}
