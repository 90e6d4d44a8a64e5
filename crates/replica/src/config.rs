//! What a replica is told about itself and its cluster.

use gramme_ring::{Keyspace, Layout, NodeId};

use crate::token::Secrets;

/// Bits of the hash that name a leaf of the hash tree below each partition: 64 leaves a partition.
const LEAF_BITS_BELOW: u8 = 6;

/// How many bits of the hash name a leaf of the hash tree, where partitions have `depth`.
#[must_use]
pub const fn leaf_bits(depth: u8) -> u8 {
    depth + LEAF_BITS_BELOW
}

/// A replica's configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node.
    pub node: NodeId,
    /// Who owns what.
    pub layout: Layout,
    /// How keys are placed.
    pub keyspace: Keyspace,
    /// What seals contexts.
    pub secrets: Secrets,
    /// Client requests under way at once; more are refused.
    pub max_requests: usize,
}

impl Config {
    /// The other nodes.
    pub(crate) fn others(&self) -> Vec<NodeId> {
        self.layout.members().iter().map(|member| member.id).filter(|&id| id != self.node).collect()
    }

    /// A node's zone as a number: its place among the zones' names.
    pub(crate) fn zone(&self, node: NodeId) -> u16 {
        let members = self.layout.members();
        let zone = members.iter().find(|member| member.id == node).map(|member| &member.zone);
        let first = members.iter().position(|member| Some(&member.zone) == zone);
        // At most 65,535 members.
        first.unwrap_or(0) as u16
    }
}
