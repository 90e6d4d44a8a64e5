//! What a replica is told about itself and its cluster.

use std::collections::BTreeMap;

use gramme_admission::Limits;
use gramme_ring::{Keyspace, Layout, NodeId};

use crate::coordinator::Secrets;

/// Bits of the hash below a partition that name a leaf of its hash tree: 64 leaves a partition.
pub const LEAF_BITS: u8 = 6;

/// A replica's configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node.
    pub node: NodeId,
    /// Where each node listened when the cluster was founded, and where this one listens now.
    pub addresses: BTreeMap<NodeId, Vec<String>>,
    /// Who owns what: the layout that the cluster was founded with, or a later one. A later one that is stored comes before it.
    pub layout: Layout,
    /// How keys are placed.
    pub keyspace: Keyspace,
    /// What seals contexts.
    pub secrets: Secrets,
    /// Client requests under way at once; more are refused.
    pub max_requests: usize,
    /// What may be on its way to the disk at once; what is more is refused as busy.
    pub bounds: Bounds,
    /// How fast work goes that nobody waits for, and what it must leave alone.
    pub background: Limits,
    /// How long after one pass over all rows has begun the next may, in microseconds.
    pub scrub_every: u64,
}

/// How much a replica takes that its disk has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of objects that are staged and not durable.
    pub bytes: u64,
    /// Batches that are staged and not durable.
    pub batches: usize,
    /// Rows that are being read, and those who wait for a batch.
    pub reads: usize,
    /// Bytes of objects that stay in memory, decoded, after they were used.
    pub cached: u64,
    /// Bytes of objects that are kept for each node that cannot be reached.
    pub hints: u64,
    /// Bytes from which on a value is asked of one owner alone, and of the others only whether they hold it.
    pub large: u32,
}

impl Bounds {
    /// What a node with a few gigabytes of memory can hold of each.
    pub const USUAL: Self = Self {
        bytes: 64 << 20,
        batches: 16_384,
        reads: 65_536,
        cached: 16 << 20,
        hints: 1 << 30,
        large: 8_192,
    };
}
