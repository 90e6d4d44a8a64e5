//! The proof at open: what is stored is all that was acknowledged, as far as this disk can tell.
//!
//! Three links: each row's head fits its checksum; the digests of a leaf's rows add up to the leaf; the leaves of
//! a partition add up to the total that the manifest, or a later batch in the log, has recorded for it. An
//! engine that came back with fewer rows breaks the second link, one that came back empty the third.
//!
//! Heads are read by all processors, each its part of the hash space. Objects in chunks are not read: whoever
//! reads one checks it then.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZero;

use bytes::Bytes;
use gramme_merkle::{Digest, Leaf, leaf_of};
use gramme_ring::{KeyHash, PartitionId};

use crate::batch::{Name, Space};
use crate::buffer::{Buffer, Pending};
use crate::engine::{Engine, EngineError, scan};
use crate::rows;

/// Why a partition cannot be proven whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// A stored row does not fit its checksum, or lacks a part.
    Row(String),
    /// The objects of a leaf are not those that it was built from.
    Leaf {
        /// The leaf's number.
        number: u32,
        /// How many objects were found.
        found: u64,
        /// How many there must be.
        expected: u64,
    },
    /// The leaves are not those that were recorded.
    Total {
        /// How many objects the leaves count.
        found: u64,
        /// How many were recorded.
        expected: u64,
    },
    /// The partition's own record is missing or damaged.
    Record,
    /// Objects are there that lie in no partition of the store.
    Stray {
        /// How many.
        found: u64,
    },
}

type Leaves = BTreeMap<(PartitionId, u32), Leaf>;

/// What the proof found.
#[derive(Debug, Default)]
pub(crate) struct Proof {
    pub(crate) damaged: BTreeMap<PartitionId, Damage>,
    pub(crate) leaves: Leaves,
    /// What there is of hinted objects for each target.
    pub(crate) hints: BTreeMap<u64, Leaf>,
}

impl Proof {
    fn damage(&mut self, partition: PartitionId, damage: Damage) {
        self.damaged.entry(partition).or_insert(damage);
    }
}

/// Proves what is stored. Fills the buffer's filters on the way.
pub(crate) fn verify(engine: &dyn Engine, buffer: &mut Buffer, leaf_bits: u8) -> Result<Proof, EngineError> {
    let mut proof = Proof::default();
    load_leaves(engine, buffer, &mut proof)?;
    let known: BTreeSet<_> = buffer
        .partitions
        .keys()
        .copied()
        .chain(proof.leaves.keys().map(|(partition, _)| *partition))
        .collect();
    let found = sum_objects(engine, buffer, &Cut::new(known, leaf_bits), &mut proof)?;
    compare_leaves(&found, &mut proof);
    compare_totals(buffer, &mut proof);
    Ok(proof)
}

/// Which partition and leaf a place lies in.
struct Cut {
    partitions: BTreeSet<PartitionId>,
    depths: BTreeSet<u8>,
    leaf_bits: u8,
}

impl Cut {
    fn new(partitions: BTreeSet<PartitionId>, leaf_bits: u8) -> Self {
        let depths = partitions.iter().map(|partition| partition.depth).collect();
        Self { partitions, depths, leaf_bits }
    }

    fn find(&self, hash: u64) -> Option<(PartitionId, u32)> {
        let at = |depth: &u8| PartitionId::of(KeyHash(hash), *depth);
        let partition = self.depths.iter().map(at).find(|partition| self.partitions.contains(partition))?;
        Some((partition, leaf_of(hash << partition.depth, self.leaf_bits)))
    }
}

/// What one part of the hash space holds.
#[derive(Default)]
struct Part {
    leaves: Leaves,
    damaged: Vec<(PartitionId, Damage)>,
    hashes: Vec<u64>,
    chunked: Vec<u64>,
    strays: u64,
}

impl Part {
    fn add(&mut self, cut: &Cut, hash: u64, digest: Digest) {
        match cut.find(hash) {
            Some(leaf) => self.leaves.entry(leaf).or_default().replace(None, Some(digest)),
            None => self.strays += 1,
        }
    }

    fn read(&mut self, cut: &Cut, pending: &BTreeMap<Name, Pending>, key: &[u8], head: &Bytes) {
        let Some(hash) = rows::data_hash(key) else { return };
        self.hashes.push(hash);
        match rows::read_head(key, head) {
            Ok((digest, is_chunked)) => {
                if is_chunked {
                    self.chunked.push(hash);
                }
                let is_pending = !pending.is_empty()
                    && Name::of_engine_key(Space::Data, key).is_some_and(|name| pending.contains_key(&name));
                if !is_pending {
                    self.add(cut, hash, digest);
                }
            }
            Err(error) => match cut.find(hash) {
                Some((partition, _)) => self.damaged.push((partition, Damage::Row(error.to_string()))),
                None => self.strays += 1,
            },
        }
    }
}

/// Adds up the digests of all objects, leaf by leaf.
fn sum_objects(
    engine: &dyn Engine,
    buffer: &mut Buffer,
    cut: &Cut,
    proof: &mut Proof,
) -> Result<Leaves, EngineError> {
    let mut pending: BTreeMap<Name, Pending> = BTreeMap::new();
    for half in buffer.halves() {
        pending.extend(half.objects.iter().map(|(name, row)| (name.clone(), row.clone())));
    }
    let mut sum = Part::default();
    for (name, row) in pending.iter().filter(|(name, _)| name.space == Space::Data) {
        if let Pending::Data { digest, .. } = row {
            sum.add(cut, name.hash, *digest);
        }
    }
    let mut parts = vec![sum];
    parts.extend(read_parts(engine, cut, &pending)?);
    let keys = parts.iter().map(|part| part.hashes.len() as u64).sum::<u64>() + pending.len() as u64;
    let mut filter = crate::filter::Filter::for_keys(keys);
    pending.keys().for_each(|name| filter.insert(name.filter_hash()));
    let mut leaves = Leaves::new();
    let mut strays = 0;
    for part in parts {
        part.leaves.into_iter().for_each(|(leaf, sum)| leaves.entry(leaf).or_default().add(sum));
        part.damaged.into_iter().for_each(|(partition, damage)| proof.damage(partition, damage));
        part.hashes.into_iter().for_each(|hash| filter.insert(hash));
        part.chunked.into_iter().for_each(|hash| buffer.chunked.insert(hash));
        strays += part.strays;
    }
    buffer.filter = filter;
    proof.hints = read_hints(engine, buffer)?;
    if strays > 0 {
        proof.damage(PartitionId { prefix: 0, depth: 0 }, Damage::Stray { found: strays });
    }
    Ok(leaves)
}

/// Reads the heads of all data rows, each processor a part of the hash space.
fn read_parts(
    engine: &dyn Engine,
    cut: &Cut,
    pending: &BTreeMap<Name, Pending>,
) -> Result<Vec<Part>, EngineError> {
    const MOST: usize = 8;
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(MOST) as u64;
    let width = u64::MAX / threads + 1;
    std::thread::scope(|scope| {
        let read = |at: u64| {
            let from = rows::place_key(Space::Data, at.wrapping_mul(width));
            let to = match at + 1 < threads {
                true => Some(rows::place_key(Space::Data, (at + 1).wrapping_mul(width))),
                false => crate::engine::end_of(&rows::space_prefix(Space::Data)),
            };
            let mut part = Part::default();
            let read = engine.range(&from, to.as_deref(), &mut |key, head| {
                part.read(cut, pending, key, &head);
                true
            });
            read.map(|()| part)
        };
        let running: Vec<_> = (0..threads).map(|at| scope.spawn(move || read(at))).collect();
        let ended = running.into_iter().map(std::thread::ScopedJoinHandle::join);
        // Engines catch their own panics, so one here is ours.
        ended.map(|part| part.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

/// Hinted objects are in no tree: they are summed up by target, for whoever knows what there must be. The filters
/// must know them all the same.
fn read_hints(engine: &dyn Engine, buffer: &mut Buffer) -> Result<BTreeMap<u64, Leaf>, EngineError> {
    let is_hint = |(name, _): &(&Name, &Pending)| matches!(name.space, Space::Hint(_));
    let pending = buffer.halves().flat_map(|half| half.objects.iter().filter(is_hint));
    let pending: BTreeMap<Name, Pending> =
        pending.map(|(name, pending)| (name.clone(), pending.clone())).collect();
    let mut sums: BTreeMap<u64, Leaf> = BTreeMap::new();
    let mut add = |space: Space, digest: Digest| {
        if let Space::Hint(target) = space {
            sums.entry(target).or_default().replace(None, Some(digest));
        }
    };
    let mut damaged = Vec::new();
    scan(engine, &rows::hint_prefix(), &mut |key, head| {
        let Some(name) = rows::hint_name(key) else { return };
        buffer.filter.insert(name.filter_hash());
        let Ok((digest, is_chunked)) = rows::read_head(key, &head) else {
            // It is there, and is dropped when it is to be handed on; the sum misses it.
            if let (Space::Hint(target), false) = (name.space, pending.contains_key(&name)) {
                damaged.push(target);
            }
            return;
        };
        if is_chunked {
            buffer.chunked.insert(name.filter_hash());
        }
        if !pending.contains_key(&name) {
            add(name.space, digest);
        }
    })?;
    for (name, pending) in &pending {
        if let Pending::Data { digest, .. } = pending {
            add(name.space, *digest);
        }
    }
    damaged.into_iter().for_each(|target| sums.entry(target).or_default().count += 1);
    Ok(sums)
}

fn load_leaves(engine: &dyn Engine, buffer: &Buffer, proof: &mut Proof) -> Result<(), EngineError> {
    scan(engine, &rows::leaf_prefix(), &mut |key, sealed| {
        let Some((partition, Some(number))) = rows::split_partition_key(key) else { return };
        let pending = || buffer.halves().any(|half| half.leaves.contains_key(&(partition, number)));
        match rows::unseal(key, &sealed).ok().as_ref().and_then(rows::decode_leaf) {
            Some(leaf) => drop(proof.leaves.insert((partition, number), leaf)),
            None if pending() => {}
            None => proof.damage(partition, Damage::Row("a leaf is damaged".into())),
        }
    })?;
    for half in buffer.halves() {
        proof.leaves.extend(half.leaves.iter().map(|(leaf, sum)| (*leaf, *sum)));
    }
    Ok(())
}

fn compare_leaves(found: &Leaves, proof: &mut Proof) {
    let all: Vec<_> = found.keys().chain(proof.leaves.keys()).copied().collect();
    for leaf in all {
        let have = found.get(&leaf).copied().unwrap_or_default();
        let want = proof.leaves.get(&leaf).copied().unwrap_or_default();
        if have != want {
            let (partition, number) = leaf;
            proof.damage(partition, Damage::Leaf { number, found: have.count, expected: want.count });
        }
    }
}

fn compare_totals(buffer: &Buffer, proof: &mut Proof) {
    let mut sums: BTreeMap<PartitionId, Leaf> = BTreeMap::new();
    for ((partition, _), leaf) in &proof.leaves {
        sums.entry(*partition).or_default().add(*leaf);
    }
    let all: Vec<_> = sums.keys().chain(buffer.partitions.keys()).copied().collect();
    for partition in all {
        let have = sums.get(&partition).copied().unwrap_or_default();
        let want = buffer.partitions.get(&partition).map(|state| state.total).unwrap_or_default();
        if have != want {
            proof.damage(partition, Damage::Total { found: have.count, expected: want.count });
        }
    }
}
