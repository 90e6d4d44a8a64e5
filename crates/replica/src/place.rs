//! Where a key belongs: worked out once, where the key comes in, and carried from there.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use gramme_object::Key;
use gramme_ring::{KeyHash, NodeId, PartitionId};

use crate::config::LEAF_BITS;

/// What an object is kept for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Space {
    /// It belongs here.
    #[default]
    Data,
    /// It belongs to this node, and is handed on when that is back.
    Hints(NodeId),
}

/// A key, with its place in the hash space and the partition that this lies in.
#[derive(Clone, Debug)]
pub struct Place {
    /// What the object is kept for.
    pub space: Space,
    /// The partition.
    pub partition: PartitionId,
    /// The key's place.
    pub hash: KeyHash,
    /// The key.
    pub key: Key,
}

impl Place {
    /// The number of its leaf in the partition's hash tree.
    pub(crate) fn leaf(&self) -> u32 {
        gramme_merkle::leaf_of(self.hash.0 << self.partition.depth, LEAF_BITS)
    }

    /// By what places are told apart and ordered: rows of a partition stand together, in the order of the hash.
    fn name(&self) -> (Space, KeyHash, &Key) {
        (self.space, self.hash, &self.key)
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Place {}

impl Hash for Place {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // The key's place is a hash of the key already; to tell places apart further is equality's work.
        state.write_u64(self.hash.0);
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> Ordering {
        self.name().cmp(&other.name())
    }
}
