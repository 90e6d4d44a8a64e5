//! The replica's disk: its changes as rows of the store, and the store's progress as numbers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use gramme_object::Key;
use gramme_replica::{Change, LoadFailed, Recovered, RecoveredPartition};
use gramme_ring::KeyHash;
use gramme_storage::{Batch, Commit, Hooks, Opened, Row, Stats, Store};

use super::Shared;

/// An open store, and where its numbering stands: the store's sequences go on where the last start ended,
/// the replica's begin at 1.
pub(crate) struct Disk {
    store: Store,
    shared: Arc<Shared>,
    base: Option<u64>,
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
    };
    let partitions: BTreeMap<_, _> =
        opened.partitions.iter().map(|(prefix, row)| (*prefix, partition(row))).collect();
    Recovered { partitions, leaves: opened.leaves.clone(), meta: opened.meta.clone() }
}

impl Disk {
    pub(crate) const fn new(store: Store, shared: Arc<Shared>, waits: bool) -> Self {
        Self { store, shared, base: None, waits }
    }

    /// Reads inline: from the object buffer mostly, else from the engine.
    pub(crate) fn load(&self, hash: KeyHash, key: &Key) -> Result<Option<Bytes>, LoadFailed> {
        self.store.get(hash.0, key.as_bytes()).map_err(|error| {
            tracing::error!(%error, ?key, "a row could not be read");
            LoadFailed
        })
    }

    pub(crate) fn commit(&mut self, sequence: u64, changes: Vec<Change>, sync: bool) {
        let rows = changes.into_iter().map(row).collect();
        let submitted = self.store.submit(Batch { rows }, sync || self.waits);
        self.base.get_or_insert(submitted - sequence);
        while self.waits
            && self.shared.synced.load(Ordering::Acquire) < submitted
            && !self.shared.commit_failed.load(Ordering::Acquire)
        {
            std::thread::yield_now();
        }
    }

    /// How far batches are written and synced, in the replica's numbers, and whether one has failed.
    pub(crate) fn progress(&self) -> (u64, u64, bool) {
        let base = self.base.unwrap_or(u64::MAX);
        let read =
            |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Acquire).saturating_sub(base);
        // Synced first: what is synced by then has been written by then.
        let synced = read(&self.shared.synced);
        (read(&self.shared.written), synced, self.shared.commit_failed.load(Ordering::Acquire))
    }

    pub(crate) fn is_full(&self) -> bool {
        self.store.is_disk_full()
    }

    pub(crate) fn stats(&self) -> Stats {
        self.store.stats()
    }

    pub(crate) fn close(self) {
        self.store.close();
    }
}

fn row(change: Change) -> Row {
    match change {
        Change::Object { hash, key, digest, object } => {
            Row::Data { hash: hash.0, key: key.as_bytes().clone(), digest, value: object }
        }
        Change::Leaf { number, leaf } => Row::Leaf { number, leaf },
        Change::Partition { prefix, total, record } => Row::Partition { prefix, total, record },
        Change::Note { prefix, total, note } => Row::Note { prefix, total, note },
        Change::Meta { name, value } => Row::Meta { name: Bytes::from_static(name.as_bytes()), value },
    }
}
