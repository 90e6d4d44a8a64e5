//! Making a store, and opening one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bytes::Bytes;
use gramme_merkle::Leaf;

use crate::batch::{Batch, Row};
use crate::buffer::{Buffer, PartitionState, Pending};
use crate::checkpoint::decode_partition;
use crate::directory::{Directory, Identity, make_private};
use crate::engine::{Engine, EngineError};
use crate::error::OpenError;
use crate::log::{self, LogWriter};
use crate::manifest::Manifest;
use crate::rows;
use crate::store::{Hooks, Options, Store};
use crate::verify::{Damage, verify};

/// A store that has been opened, and all that its owner keeps in memory.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: Store,
    /// Each partition's record, by prefix.
    pub partitions: BTreeMap<u32, PartitionRow>,
    /// The leaves of the hash tree that are not empty, by number.
    pub leaves: BTreeMap<u32, Leaf>,
    /// The node's own records, by name.
    pub meta: BTreeMap<Bytes, Bytes>,
    /// Partitions of which the store cannot prove that it holds all it acknowledged, and why.
    pub damaged: BTreeMap<u32, Damage>,
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
}

pub(crate) fn create(path: &Path, id: [u8; 16], options: &Options) -> Result<(), OpenError> {
    make_private(path)?;
    let directory = Directory::lock(path)?;
    match directory.read_identity() {
        Err(OpenError::Missing(_)) => {}
        Ok(_) => return Err(OpenError::Exists(path.to_owned())),
        Err(error) => return Err(error),
    }
    make_private(&directory.log())?;
    make_private(&directory.engine())?;
    // What an interrupted creation has left; the identity comes last, so nothing was ever stored.
    for part in [directory.log(), directory.engine()] {
        std::fs::remove_dir_all(&part).map_err(OpenError::io(&part))?;
        make_private(&part)?;
    }
    let log = directory.log();
    LogWriter::create(&log, id, 1, 0).map_err(OpenError::io(&log))?;
    options.engine.open(&directory.engine())?.sync()?;
    let manifest = Manifest { store: id, sequence: 0, first_segment: 1, totals: BTreeMap::new() };
    manifest.write(&directory.manifest()).map_err(OpenError::io(directory.manifest()))?;
    directory.make_reserve();
    directory.write_identity(&Identity { id, shape: options.shape, engine: options.engine })
}

pub(crate) fn open(path: &Path, options: Options, hooks: Hooks) -> Result<Opened, OpenError> {
    if !path.is_dir() {
        return Err(OpenError::Missing(path.to_owned()));
    }
    make_private(path)?;
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
    let engine = options.engine.open(&directory.engine())?;
    check_mark(engine.as_ref(), &manifest)?;
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
    let proof = verify(engine.as_ref(), &buffer, options.shape)?;
    let mut damaged = proof.damaged;
    for prefix in damaged_records.difference(&touched) {
        damaged.entry(*prefix).or_insert(Damage::Record);
    }
    if !is_full {
        directory.make_reserve();
    }
    let meta = load_meta(engine.as_ref(), &buffer)?;
    let row = |state: &PartitionState| PartitionRow {
        total: state.total,
        record: state.record.clone(),
        notes: state.notes.clone(),
    };
    let partitions = buffer.partitions.iter().map(|(prefix, state)| (*prefix, row(state))).collect();
    let store = Store::start(directory, options, identity.id, engine, buffer, recovered.writer, hooks)?;
    Ok(Opened { store, partitions, leaves: proof.leaves, meta, damaged })
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
    if identity.shape == options.shape && identity.engine == options.engine {
        return Ok(());
    }
    let describe =
        |engine: &str, depth, leaves| format!("engine {engine}, 2^{depth} partitions, 2^{leaves} leaves");
    let (found, wanted) = (identity.shape, options.shape);
    Err(OpenError::Mismatch {
        path: path.to_owned(),
        found: describe(identity.engine.name(), found.depth, found.leaf_bits),
        wanted: describe(options.engine.name(), wanted.depth, wanted.leaf_bits),
    })
}

/// Loads the partitions' records from the engine. The manifest's totals are the ones to prove; the engine may
/// be ahead of it, and then the log will say so again. Returns those whose record is missing or damaged.
fn load_partitions(
    engine: &dyn Engine,
    manifest: &Manifest,
    buffer: &mut Buffer,
) -> Result<BTreeSet<u32>, EngineError> {
    let mut unreadable: BTreeSet<u32> = manifest.totals.keys().copied().collect();
    engine.scan(&rows::partition_prefix(), &mut |name, sealed| {
        let state = rows::unseal(name, &sealed).ok().and_then(decode_partition);
        let Some(prefix) = rows::split_number(name) else { return };
        match state {
            Some(state) => {
                unreadable.remove(&prefix);
                buffer.partitions.insert(prefix, state);
            }
            None => {
                unreadable.insert(prefix);
            }
        }
    })?;
    for (prefix, total) in &manifest.totals {
        buffer.partitions.entry(*prefix).or_default().total = *total;
    }
    Ok(unreadable)
}

/// The partition whose record this row brings whole.
fn whole_record(row: &Row) -> Option<u32> {
    match row {
        Row::Partition { prefix, .. } => Some(*prefix),
        _ => None,
    }
}

fn load_meta(engine: &dyn Engine, buffer: &Buffer) -> Result<BTreeMap<Bytes, Bytes>, OpenError> {
    let prefix = rows::meta_prefix();
    let mut meta = BTreeMap::new();
    let mut damaged = false;
    engine.scan(&prefix, &mut |name, sealed| match rows::unseal(name, &sealed) {
        Ok(value) => {
            meta.insert(Bytes::copy_from_slice(&name[1..]), value);
        }
        Err(_) => damaged = true,
    })?;
    for (name, row) in buffer.scan(&prefix) {
        if let Pending::Plain(value) = row {
            meta.insert(Bytes::copy_from_slice(&name[1..]), value);
        }
    }
    if damaged {
        Err(OpenError::damaged("engine", "a record of the node's own is damaged"))
    } else {
        Ok(meta)
    }
}
