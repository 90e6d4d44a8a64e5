//! Which partition belongs to whom, and at which epoch.
//!
//! Every request about a partition carries its epoch. A replica that knows a later one refuses it as stale, one
//! that knows an earlier one adopts the later. A node that owns nothing of a partition coordinates for it all
//! the same, so it must know its epoch too: what it would take from its own partition record is here for all.

use std::collections::BTreeMap;

use gramme_object::Key;
use gramme_quorum::Sets;
use gramme_ring::{Keyspace, Layout, Member, NodeId, PartitionId};

use crate::place::{Place, Space};

/// Which version of a partition's ownership: greater ones replace lower ones, compared as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Epoch {
    /// Higher after a forced layout.
    pub(crate) generation: u32,
    pub(crate) number: u64,
}

gramme_codec::structs! { Epoch { generation: u32, number: u64 } }

impl Epoch {
    /// That of a partition which has never changed hands.
    pub(crate) const FOUNDING: Self = Self { generation: 1, number: 1 };
}

/// The layout in force, with what has been learnt since.
#[derive(Clone, Debug)]
pub(crate) struct Map {
    layout: Layout,
    keyspace: Keyspace,
    /// The epochs of partitions that have changed hands.
    epochs: BTreeMap<PartitionId, Epoch>,
}

impl Map {
    pub(crate) const fn new(layout: Layout, keyspace: Keyspace) -> Self {
        Self { layout, keyspace, epochs: BTreeMap::new() }
    }

    /// Where a key belongs. The one place where a key is hashed.
    pub(crate) fn place(&self, key: Key) -> Place {
        let hash = self.keyspace.hash(key.as_bytes());
        Place { space: Space::Data, partition: self.layout.partition_of(hash), hash, key }
    }

    /// A number that nobody finds who does not know the cluster's placement key.
    pub(crate) fn keyed_digest(&self, bytes: &[u8]) -> u64 {
        self.keyspace.hash(bytes).0
    }

    pub(crate) const fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(crate) fn members(&self) -> &[Member] {
        self.layout.members()
    }

    /// N.
    pub(crate) const fn replicas(&self) -> u8 {
        self.layout.replicas()
    }

    pub(crate) fn owners(&self, partition: PartitionId) -> impl ExactSizeIterator<Item = NodeId> + '_ {
        self.layout.owners(partition)
    }

    /// The sets that a request about the partition counts over.
    pub(crate) fn sets(&self, partition: PartitionId, need: u8) -> Sets {
        Sets::one(self.owners(partition).collect(), need)
    }

    pub(crate) fn epoch(&self, partition: PartitionId) -> Epoch {
        self.epochs.get(&partition).copied().unwrap_or(Epoch::FOUNDING)
    }

    /// Learns of an epoch; says whether it is later than the one that was known.
    pub(crate) fn adopt(&mut self, partition: PartitionId, epoch: Epoch) -> bool {
        let is_later = epoch > self.epoch(partition);
        if is_later {
            self.epochs.insert(partition, epoch);
        }
        is_later
    }
}
