//! Making a store, and opening one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bytes::Bytes;
use gramme_merkle::Leaf;
use gramme_ring::PartitionId;

use crate::batch::{Batch, Row};
use crate::buffer::Buffer;
use crate::directory::{Directory, Identity};
use crate::engine::{Engine, EngineError, scan};
use crate::error::OpenError;
use crate::files::make_private;
use crate::log::{self, LogWriter};
use crate::manifest::Manifest;
use crate::options::Options;
use crate::report::Hooks;
use crate::rows;
use crate::shared::Shared;
use crate::store::Store;
use crate::verify::{Damage, verify};

/// A store that has been opened, and all that its owner keeps in memory.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: Store,
    /// The number of the last batch that it has ever committed.
    pub position: u64,
    /// Each partition's record.
    pub partitions: BTreeMap<PartitionId, PartitionRow>,
    /// The node's own records, by name.
    pub meta: BTreeMap<Bytes, Bytes>,
    /// Partitions of which the store cannot prove that it holds all it acknowledged, and why.
    pub damaged: BTreeMap<PartitionId, Damage>,
    /// What was found of hinted objects for each target, as a leaf sums it up; nothing says what there must be.
    pub hints: BTreeMap<u64, Leaf>,
}

/// A partition's record as it was stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionRow {
    /// All keys of the partition.
    pub total: Leaf,
    /// The last whole record.
    pub record: Bytes,
    /// The additions since, in order. After a crash some may stand twice, or be older than the record.
    pub notes: Vec<Bytes>,
    /// The leaves of its hash tree that are not empty, by number.
    pub leaves: BTreeMap<u32, Leaf>,
}

pub(crate) fn create(path: &Path, id: [u8; 16], options: &Options) -> Result<(), OpenError> {
    make_private(path).map_err(OpenError::io(path))?;
    let directory = Directory::lock(path)?;
    match directory.read_identity() {
        Err(OpenError::Missing(_)) => {}
        Ok(_) => return Err(OpenError::Exists(path.to_owned())),
        Err(error) => return Err(error),
    }
    for part in [directory.log(), directory.engine(0)] {
        make_private(&part).map_err(OpenError::io(&part))?;
    }
    // What an interrupted creation has left; the identity comes last, so nothing was ever stored.
    for part in [directory.log(), directory.engine(0)] {
        std::fs::remove_dir_all(&part).map_err(OpenError::io(&part))?;
        make_private(&part).map_err(OpenError::io(&part))?;
    }
    let log = directory.log();
    LogWriter::create(&log, id, 1, 0).map_err(OpenError::io(&log))?;
    options.engine.open(&directory.engine(0))?.sync()?;
    let manifest = Manifest { store: id, sequence: 0, first_segment: 1, engine: 0, totals: BTreeMap::new() };
    manifest.write(&directory.manifest()).map_err(OpenError::io(directory.manifest()))?;
    directory.make_reserve();
    // The directory's own entry: without it all of this could be gone after a loss of power.
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        crate::files::sync_directory(parent).map_err(OpenError::io(parent))?;
    }
    directory.write_identity(&Identity { id, leaf_bits: options.leaf_bits, engine: options.engine })
}

pub(crate) fn check_unused(path: &Path) -> Result<(), OpenError> {
    if !path.is_dir() {
        return Err(OpenError::Missing(path.to_owned()));
    }
    Directory::lock(path).map(drop)
}

pub(crate) fn open(path: &Path, options: Options, hooks: Hooks) -> Result<Opened, OpenError> {
    if !path.is_dir() {
        return Err(OpenError::Missing(path.to_owned()));
    }
    make_private(path).map_err(OpenError::io(path))?;
    let directory = Directory::lock(path)?;
    let identity = directory.read_identity()?;
    check_identity(path, &identity, &options)?;
    let manifest = Manifest::read(&directory.manifest())?;
    if manifest.store != identity.id {
        return Err(OpenError::damaged(directory.manifest(), "it belongs to another store"));
    }
    let is_full = directory.is_nearly_full(options.min_free_bytes);
    if is_full {
        // The engine may need some space to open.
        directory.release_reserve();
    }
    if !directory.engine(manifest.engine).is_dir() {
        return Err(OpenError::damaged(
            directory.engine(manifest.engine),
            "the engine's directory is missing",
        ));
    }
    let engine = options.engine.open(&directory.engine(manifest.engine))?;
    check_mark(engine.as_ref(), &manifest)?;
    // Not before: of a directory that was put together by hand nothing is removed.
    directory.remove_other_engines(manifest.engine);
    let mut buffer = Buffer::default();
    let damaged_records = load_partitions(engine.as_ref(), &manifest, &mut buffer)?;
    buffer.sequence = manifest.sequence;
    let mut touched = BTreeSet::new();
    let replay = |frame: log::Frame| {
        let batch = Batch::decode(&frame.batch)
            .map_err(|_| OpenError::damaged(directory.log(), "a batch is not well formed"))?;
        touched.extend(batch.rows.iter().filter_map(whole_record));
        buffer.apply(frame.sequence, batch);
        Ok(())
    };
    let recovered =
        log::recover(&directory.log(), identity.id, manifest.first_segment, manifest.sequence, replay)?;
    buffer.sequence = recovered.last;
    let proof = verify(engine.as_ref(), &mut buffer, options.leaf_bits)?;
    let (mut damaged, hints) = (proof.damaged, proof.hints);
    for partition in damaged_records.difference(&touched) {
        damaged.entry(*partition).or_insert(Damage::Record);
    }
    if !is_full {
        directory.make_reserve();
    }
    let meta = load_meta(engine.as_ref(), &buffer)?;
    let mut partitions = partition_rows(&buffer);
    for ((partition, number), leaf) in proof.leaves {
        partitions.entry(partition).or_default().leaves.insert(number, leaf);
    }
    let position = buffer.sequence;
    let store = Store::start(
        Shared::new(directory, options, identity.id, (manifest.engine, engine), buffer, hooks),
        recovered.writer,
    )?;
    Ok(Opened { store, position, partitions, meta, damaged, hints })
}

fn partition_rows(buffer: &Buffer) -> BTreeMap<PartitionId, PartitionRow> {
    let rows = buffer.partitions.iter().map(|(partition, state)| {
        let (total, record, notes) = (state.total, state.record.clone(), state.notes.clone());
        (*partition, PartitionRow { total, record, notes, leaves: BTreeMap::new() })
    });
    rows.collect()
}

/// The engine must hold all that the manifest says it was given. Leaves and totals prove the data; records
/// carry nothing that says how new they must be, and an engine that falls back to an earlier state of its own
/// after damage would bring back old ones.
fn check_mark(engine: &dyn Engine, manifest: &Manifest) -> Result<(), OpenError> {
    if !engine.is_persistent() || manifest.sequence == 0 {
        return Ok(());
    }
    let name = rows::checkpoint_key();
    let sealed = engine.get(&name)?;
    let mark = sealed.and_then(|sealed| rows::unseal(&name, &sealed).ok());
    let mark = mark.and_then(|mark| mark.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)));
    match mark {
        Some(sequence) if sequence >= manifest.sequence => Ok(()),
        _ => Err(OpenError::damaged("engine", "it does not hold what its last checkpoint wrote")),
    }
}

fn check_identity(path: &Path, identity: &Identity, options: &Options) -> Result<(), OpenError> {
    if identity.leaf_bits == options.leaf_bits && identity.engine == options.engine {
        return Ok(());
    }
    let describe = |engine: &str, bits| format!("engine {engine}, 2^{bits} leaves a partition");
    Err(OpenError::Mismatch {
        path: path.to_owned(),
        found: describe(identity.engine.name(), identity.leaf_bits),
        wanted: describe(options.engine.name(), options.leaf_bits),
    })
}

/// Loads the partitions' records from the engine. The manifest's totals are the ones to prove; the engine may
/// be ahead of it, and then the log will say so again. Returns those whose record is missing or damaged.
fn load_partitions(
    engine: &dyn Engine,
    manifest: &Manifest,
    buffer: &mut Buffer,
) -> Result<BTreeSet<PartitionId>, EngineError> {
    let mut unreadable: BTreeSet<PartitionId> = manifest.totals.keys().copied().collect();
    scan(engine, &rows::partition_prefix(), &mut |name, sealed| {
        let state = rows::unseal(name, &sealed).ok().and_then(rows::decode_partition);
        let Some((partition, None)) = rows::split_partition_key(name) else { return };
        match state {
            Some(state) => {
                unreadable.remove(&partition);
                buffer.partitions.insert(partition, state);
            }
            None => {
                unreadable.insert(partition);
            }
        }
    })?;
    for (partition, total) in &manifest.totals {
        buffer.partitions.entry(*partition).or_default().total = *total;
    }
    Ok(unreadable)
}

/// The partition whose record this row brings whole.
fn whole_record(row: &Row) -> Option<PartitionId> {
    match row {
        Row::Partition { partition, .. } => Some(*partition),
        _ => None,
    }
}

fn load_meta(engine: &dyn Engine, buffer: &Buffer) -> Result<BTreeMap<Bytes, Bytes>, OpenError> {
    let prefix = rows::meta_prefix();
    let mut meta = BTreeMap::new();
    let mut damaged = false;
    scan(engine, &prefix, &mut |name, sealed| match rows::unseal(name, &sealed) {
        Ok(value) => {
            meta.insert(Bytes::copy_from_slice(&name[1..]), value);
        }
        Err(_) => damaged = true,
    })?;
    for half in buffer.halves() {
        meta.extend(half.meta.iter().map(|(name, value)| (name.clone(), value.clone())));
    }
    if damaged {
        Err(OpenError::damaged("engine", "a record of the node's own is damaged"))
    } else {
        Ok(meta)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::engine::{EngineKind, EngineOp};
    use crate::report::Commit;

    const PARTITION: PartitionId = PartitionId { prefix: 1, depth: 2 };

    fn options() -> Options {
        Options::new(EngineKind::Sled, 4)
    }

    /// Commits rows and closes the store; without a checkpoint they are in the log alone.
    fn commit(path: &Path, row: Row, has_checkpoint: bool) {
        let (told, tells) = mpsc::channel();
        let hooks = Hooks::on_commit(move |commit| {
            if let Commit::Synced { through } = commit {
                let _ = told.send(through);
            }
        });
        let store = open(path, options(), hooks).expect("a store").store;
        let sequence = store.submit(Batch { rows: vec![row] }, true);
        while tells.recv().expect("a commit") < sequence {}
        if has_checkpoint {
            store.close();
        }
    }

    fn damage_record(path: &Path) {
        let engine = EngineKind::Sled.open(&path.join("engine")).expect("an engine");
        engine.apply(vec![EngineOp::Put(rows::partition_key(PARTITION), vec![1; 40])]).expect("a change");
        engine.sync().expect("a change");
    }

    /// A record that the engine has lost matters only where the log does not bring it back whole.
    #[test]
    fn a_damaged_record_is_made_good_by_the_log() {
        let record = |record: &str| Row::Partition {
            partition: PARTITION,
            total: Leaf::default(),
            record: record.to_owned().into(),
        };
        let note = Row::Note { partition: PARTITION, total: Leaf::default(), note: "note".into() };
        for (row, is_whole) in [(record("new"), true), (note, false)] {
            let directory = tempfile::tempdir().expect("a temporary directory");
            let path = directory.path().join("data");
            create(&path, [1; 16], &options()).expect("a store");
            commit(&path, record("old"), true);
            commit(&path, row, false);
            damage_record(&path);
            let opened = open(&path, options(), Hooks::on_commit(|_| {})).expect("a store");
            let expected: BTreeMap<_, _> =
                [(PARTITION, Damage::Record)].into_iter().filter(|_| !is_whole).collect();
            assert_eq!(opened.damaged, expected);
            assert!(!is_whole || opened.partitions[&PARTITION].record == "new");
        }
    }
}
