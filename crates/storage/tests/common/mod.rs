//! A store with a model of what it must hold.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test binary uses a part of it")]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};

use bytes::Bytes;
use gramme_merkle::{Digest, Leaf, leaf_of};
use gramme_ring::{KeyHash, PartitionId};
use gramme_storage::{
    Batch, Commit, CommitError, EngineKind, Event, Hooks, Name, OpenError, Opened, Options, Row, Space, Store,
};

pub const DEPTH: u8 = 4;
pub const LEAF_BITS: u8 = 4;

pub const fn partition(prefix: u32) -> PartitionId {
    PartitionId { prefix, depth: DEPTH }
}

pub fn name(hash: u64, key: &Bytes) -> Name {
    Name { space: Space::Data, hash, key: key.clone() }
}

/// The partition that a place lies in, and its leaf there.
pub fn leaf_at(hash: u64) -> (PartitionId, u32) {
    (PartitionId::of(KeyHash(hash), DEPTH), leaf_of(hash << DEPTH, LEAF_BITS))
}

/// The place and name of an object.
pub fn object(name: &str) -> (u64, Bytes) {
    let hash = blake3::hash(name.as_bytes());
    let first = hash.as_bytes().first_chunk().expect("32 bytes");
    (u64::from_be_bytes(*first), Bytes::copy_from_slice(name.as_bytes()))
}

/// Where the frames of a log segment end; behind them zeros lie ahead.
pub fn frames_end(segment: &[u8]) -> usize {
    let mut end = 44;
    while segment.get(end..end + 4) == Some(b"GRFM") {
        let length = segment[end + 4..].first_chunk().expect("a length");
        end += 32 + u32::from_le_bytes(*length) as usize;
    }
    end
}

/// Bytes that are different for each object and generation.
pub fn value(hash: u64, size: usize, generation: u64) -> Bytes {
    let mut bytes = generation.to_le_bytes().to_vec();
    bytes.extend((0..size).map(|at| (hash >> (at % 57)) as u8 ^ at as u8));
    bytes.into()
}

pub fn digest(key: &[u8], value: &[u8]) -> Digest {
    Digest::of(key, value)
}

#[derive(Default)]
struct Progress {
    written: u64,
    synced: u64,
    failed: Option<(u64, u64, CommitError)>,
}

/// Waits for what the committer reports.
#[derive(Clone, Default)]
pub struct Watch {
    progress: Arc<(Mutex<Progress>, Condvar)>,
}

impl Watch {
    pub fn hooks(&self, on_event: impl Fn(Event) + Send + Sync + 'static) -> Hooks {
        let progress = Arc::clone(&self.progress);
        let on_commit = move |commit| {
            let mut progress_now = progress.0.lock().expect("no panic");
            match commit {
                Commit::Written { through } => progress_now.written = through,
                Commit::Synced { through } => {
                    (progress_now.written, progress_now.synced) = (through, through);
                }
                Commit::Failed { from, through, error } => progress_now.failed = Some((from, through, error)),
            }
            progress.1.notify_all();
        };
        Hooks { on_commit: Box::new(on_commit), on_event: Box::new(on_event) }
    }

    pub fn wait(&self, sequence: u64, sync: bool) -> Result<(), CommitError> {
        let mut progress = self.progress.0.lock().expect("no panic");
        loop {
            if let Some((from, through, error)) = progress.failed
                && (from..=through).contains(&sequence)
            {
                return Err(error);
            }
            if (if sync { progress.synced } else { progress.written }) >= sequence {
                return Ok(());
            }
            progress = self.progress.1.wait(progress).expect("no panic");
        }
    }
}

pub struct Bench {
    directory: tempfile::TempDir,
    pub options: Options,
    store: Option<Store>,
    watch: Watch,
    leaves: BTreeMap<(PartitionId, u32), Leaf>,
    expected: BTreeMap<Bytes, (u64, Bytes)>,
    generation: u64,
}

pub fn options(engine: EngineKind) -> Options {
    let mut options = Options::new(engine, LEAF_BITS);
    options.segment_bytes = 100_000;
    options.min_free_bytes = 0;
    options
}

impl Bench {
    pub fn new(engine: EngineKind) -> Self {
        Self::with_id(engine, [7; 16])
    }

    pub fn with_id(engine: EngineKind, id: [u8; 16]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let options = options(engine);
        Store::create(&directory.path().join("data"), id, &options).expect("a new store");
        let mut bench = Self {
            directory,
            options,
            store: None,
            watch: Watch::default(),
            leaves: BTreeMap::new(),
            expected: BTreeMap::new(),
            generation: 0,
        };
        bench.reopen();
        bench
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub fn store(&self) -> &Store {
        self.store.as_ref().expect("an open store")
    }

    pub fn expected(&self) -> &BTreeMap<Bytes, (u64, Bytes)> {
        &self.expected
    }

    pub fn try_create(&self) -> Result<(), OpenError> {
        Store::create(&self.path(), [8; 16], &self.options)
    }

    pub fn try_open(&self) -> Result<Opened, OpenError> {
        Store::open(&self.path(), self.options, self.watch.hooks(|_| ()))
    }

    /// Ends without a checkpoint.
    pub fn abandon(&mut self) {
        self.store = None;
    }

    pub fn close(&mut self) {
        self.store.take().expect("an open store").close();
    }

    pub fn reopen_and_look(&mut self) -> Opened {
        self.abandon();
        self.watch = Watch::default();
        self.try_open().expect("a store that opens")
    }

    pub fn adopt(&mut self, opened: Opened) {
        self.store = Some(opened.store);
    }

    pub fn reopen(&mut self) {
        let opened = self.reopen_and_look();
        assert!(opened.damaged.is_empty(), "{:?}", opened.damaged);
        let rows = opened.partitions.iter();
        let found =
            rows.flat_map(|(id, row)| row.leaves.iter().map(|(number, leaf)| ((*id, *number), *leaf)));
        let found: BTreeMap<_, _> = found.filter(|(_, leaf)| leaf.count > 0).collect();
        let mut expected = self.leaves.clone();
        expected.retain(|_, leaf| leaf.count > 0);
        assert_eq!(found, expected);
        self.adopt(opened);
    }

    pub fn close_and_open(&mut self) {
        self.close();
        self.reopen();
    }

    pub fn try_commit(&self, rows: Vec<Row>, sync: bool) -> Result<(), CommitError> {
        let sequence = self.store().submit(Batch { rows }, sync);
        self.watch.wait(sequence, sync)
    }

    pub fn commit(&self, rows: Vec<Row>, sync: bool) {
        self.try_commit(rows, sync).expect("a commit");
    }

    pub fn wait_synced(&self, sequence: u64) {
        self.watch.wait(sequence, true).expect("a commit");
    }

    pub fn row(&self, hash: u64, key: &Bytes, value: Bytes) -> Row {
        Row::Data { name: name(hash, key), digest: digest(key, &value), value }
    }

    /// The leaf of `hash` with one more object, which is not stored.
    pub fn leaf_with(&self, hash: u64, key: &Bytes) -> Row {
        let (partition, number) = leaf_at(hash);
        let mut leaf = self.leaves.get(&(partition, number)).copied().unwrap_or_default();
        leaf.replace(None, Some(digest(key, b"")));
        Row::Leaf { partition, number, leaf }
    }

    pub fn total(&self, partition: PartitionId) -> Leaf {
        let mut total = Leaf::default();
        for ((of, _), leaf) in &self.leaves {
            if *of == partition {
                total.add(*leaf);
            }
        }
        total
    }

    pub fn put(&mut self, name: &str, size: usize, sync: bool) {
        self.generation += 1;
        let (hash, key) = object(name);
        let value = value(hash, size, self.generation);
        let old = self.expected.insert(key.clone(), (hash, value.clone()));
        let rows = self.change(hash, &key, old, Some(value));
        self.commit(rows, sync);
    }

    pub fn remove(&mut self, name: &str) {
        let (hash, key) = object(name);
        let old = self.expected.remove(&key);
        let rows = self.change(hash, &key, old, None);
        self.commit(rows, true);
    }

    fn change(&mut self, hash: u64, key: &Bytes, old: Option<(u64, Bytes)>, new: Option<Bytes>) -> Vec<Row> {
        let (partition, number) = leaf_at(hash);
        let leaf = self.leaves.entry((partition, number)).or_default();
        let digest_of = |value: &Bytes| digest(key, value);
        leaf.replace(old.as_ref().map(|(_, old)| digest_of(old)), new.as_ref().map(digest_of));
        let leaf = *leaf;
        let data = match new {
            Some(value) => self.row(hash, key, value),
            None => Row::Removed { name: name(hash, key) },
        };
        let note = Bytes::copy_from_slice(&self.generation.to_le_bytes());
        vec![
            data,
            Row::Leaf { partition, number, leaf },
            Row::Note { partition, total: self.total(partition), note },
        ]
    }

    pub fn check(&self) {
        for (key, (hash, value)) in &self.expected {
            let stored = self.store().get(&name(*hash, key)).expect("a readable store");
            assert!(stored.as_ref() == Some(value), "{key:?} is not what was written");
        }
        let (hash, key) = object("never written");
        assert_eq!(self.store().get(&name(hash, &key)).expect("a readable store"), None);
    }

    pub fn newest_segment(&self) -> PathBuf {
        let entries = std::fs::read_dir(self.path().join("log")).expect("the log");
        entries.map(|entry| entry.expect("an entry").path()).max().expect("a segment")
    }
}

/// Copies a directory with all that is in it.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    std::fs::set_permissions(to, PermissionsExt::from_mode(0o700)).expect("its mode");
    for entry in std::fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

/// All files below a directory.
pub fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}
