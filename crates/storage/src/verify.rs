//! The proof at open: what is stored is all that was acknowledged, as far as this disk can tell.
//!
//! Three links: each row fits its checksum; the digests of a leaf's rows add up to the leaf; the leaves of a
//! partition add up to the total that the manifest, or a later batch in the log, has recorded for it. An
//! engine that came back with fewer rows breaks the second link, one that came back empty the third.

use std::collections::BTreeMap;

use gramme_merkle::{Digest, Leaf, leaf_of};

use crate::buffer::{Buffer, Pending};
use crate::engine::{Engine, EngineError};
use crate::rows;
use crate::store::Shape;

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
}

/// What the proof found.
#[derive(Debug, Default)]
pub(crate) struct Proof {
    pub(crate) damaged: BTreeMap<u32, Damage>,
    pub(crate) leaves: BTreeMap<u32, Leaf>,
}

pub(crate) fn verify(engine: &dyn Engine, buffer: &Buffer, shape: Shape) -> Result<Proof, EngineError> {
    let mut proof = Proof::default();
    let found = sum_objects(engine, buffer, shape, &mut proof)?;
    load_leaves(engine, buffer, shape, &mut proof)?;
    compare_leaves(&found, shape, &mut proof);
    compare_totals(buffer, shape, &mut proof);
    Ok(proof)
}

impl Proof {
    fn damage(&mut self, partition: u32, damage: Damage) {
        self.damaged.entry(partition).or_insert(damage);
    }
}

/// Adds up the digests of all objects, leaf by leaf.
fn sum_objects(
    engine: &dyn Engine,
    buffer: &Buffer,
    shape: Shape,
    proof: &mut Proof,
) -> Result<BTreeMap<u32, Leaf>, EngineError> {
    let prefix = rows::data_prefix();
    let pending = buffer.scan(&prefix);
    let mut leaves: BTreeMap<u32, Leaf> = BTreeMap::new();
    let mut add = |hash: u64, digest: Digest| {
        leaves.entry(leaf_of(hash, shape.leaf_bits)).or_default().replace(None, Some(digest));
    };
    engine.scan(&prefix, &mut |name, head| {
        if pending.contains_key(name) {
            return;
        }
        let Some((hash, _)) = rows::split_data_key(name) else { return };
        match rows::get_data(engine, name, &head) {
            Ok((digest, _)) => add(hash, digest),
            Err(error) => proof.damage(leaf_of(hash, shape.depth), Damage::Row(error.to_string())),
        }
    })?;
    for (name, row) in &pending {
        if let (Some((hash, _)), Pending::Data { digest, .. }) = (rows::split_data_key(name), row) {
            add(hash, *digest);
        }
    }
    Ok(leaves)
}

fn load_leaves(
    engine: &dyn Engine,
    buffer: &Buffer,
    shape: Shape,
    proof: &mut Proof,
) -> Result<(), EngineError> {
    let prefix = rows::leaf_prefix();
    let mut stored = BTreeMap::new();
    engine.scan(&prefix, &mut |name, sealed| {
        stored.insert(name.to_vec(), rows::unseal(name, &sealed));
    })?;
    for (name, row) in buffer.scan(&prefix) {
        if let Pending::Plain(value) = row {
            stored.insert(name, Ok(value));
        }
    }
    for (name, value) in stored {
        let Some(number) = rows::split_number(&name) else { continue };
        match value.ok().as_deref().and_then(Leaf::from_bytes) {
            Some(leaf) => {
                proof.leaves.insert(number, leaf);
            }
            None => proof.damage(partition_of_leaf(number, shape), Damage::Row("a leaf is damaged".into())),
        }
    }
    Ok(())
}

fn compare_leaves(found: &BTreeMap<u32, Leaf>, shape: Shape, proof: &mut Proof) {
    let numbers: Vec<u32> = found.keys().chain(proof.leaves.keys()).copied().collect();
    for number in numbers {
        let have = found.get(&number).copied().unwrap_or_default();
        let want = proof.leaves.get(&number).copied().unwrap_or_default();
        if have != want {
            let damage = Damage::Leaf { number, found: have.count, expected: want.count };
            proof.damage(partition_of_leaf(number, shape), damage);
        }
    }
}

fn compare_totals(buffer: &Buffer, shape: Shape, proof: &mut Proof) {
    let mut sums: BTreeMap<u32, Leaf> = BTreeMap::new();
    for (number, leaf) in &proof.leaves {
        sums.entry(partition_of_leaf(*number, shape)).or_default().add(*leaf);
    }
    let prefixes: Vec<u32> = sums.keys().chain(buffer.partitions.keys()).copied().collect();
    for prefix in prefixes {
        let have = sums.get(&prefix).copied().unwrap_or_default();
        let want = buffer.partitions.get(&prefix).map(|state| state.total).unwrap_or_default();
        if have != want {
            proof.damage(prefix, Damage::Total { found: have.count, expected: want.count });
        }
    }
}

const fn partition_of_leaf(number: u32, shape: Shape) -> u32 {
    number >> (shape.leaf_bits - shape.depth)
}
