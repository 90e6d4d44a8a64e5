//! Which partition belongs to whom, and at which epoch.
//!
//! Every request about a partition carries its epoch. A replica that knows a later one refuses it as stale, one
//! that knows an earlier one adopts the later. A node that owns nothing of a partition coordinates for it all
//! the same, so it must know its epoch too: what it would take from its own partition record is here for all.

use std::collections::BTreeMap;
use std::sync::Arc;

use gramme_object::Key;
use gramme_quorum::{Seat, Sets};
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
    /// Who stands in, by partition, where that was asked.
    fallbacks: BTreeMap<PartitionId, Arc<[NodeId]>>,
}

/// The most fallbacks that are looked at for one that can be reached.
const FALLBACKS: usize = 32;

impl Map {
    pub(crate) const fn new(layout: Layout, keyspace: Keyspace) -> Self {
        Self { layout, keyspace, epochs: BTreeMap::new(), fallbacks: BTreeMap::new() }
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

    /// Whether there is such a partition.
    pub(crate) fn has(&self, partition: PartitionId) -> bool {
        let depth = self.layout.depth();
        partition.depth == depth && u64::from(partition.prefix) < 1 << depth
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

    /// Who may stand in for the partition's owners, in the order of the preference list.
    pub(crate) fn fallbacks(&mut self, partition: PartitionId) -> Arc<[NodeId]> {
        let layout = &self.layout;
        let listed = || {
            let list = layout.preference_list(partition).into_iter();
            list.skip(usize::from(layout.replicas())).take(FALLBACKS).collect()
        };
        Arc::clone(self.fallbacks.entry(partition).or_insert_with(listed))
    }

    /// Where a fallback keeps a copy for the owner of this seat; nothing if there is no such owner.
    pub(crate) fn hint_place(&self, place: &Place, seat: Seat) -> Option<Place> {
        let owner = self.owners(place.partition).nth(usize::from(seat.slot)).filter(|_| seat.set == 0)?;
        Some(Place { space: Space::Hints(owner), ..place.clone() })
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
