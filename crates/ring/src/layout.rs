//! Who owns what: the record that nodes agree on.

use alloc::string::String;
use alloc::vec::Vec;

use crate::{KeyHash, MAX_DEPTH, NodeId, PartitionId};

/// A node as the planner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: NodeId,
    /// Its capacity relative to the others'. 0 owns nothing.
    pub weight: u32,
    /// What fails with it: a rack, a room, a datacentre. Replicas are spread over zones.
    pub zone: String,
}

impl Member {
    /// A node of weight 100 in the zone without a name.
    #[must_use]
    pub const fn new(id: NodeId) -> Self {
        Self { id, weight: 100, zone: String::new() }
    }
}

/// The owners of every partition, with the members that they were chosen from.
///
/// Owners are kept as indices into the members: at Q = 65,536 and N = 3 that is 400 KiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    version: u64,
    depth: u8,
    replicas: u8,
    members: Vec<Member>,
    /// `replicas` indices for each partition, slot by slot.
    slots: Vec<u16>,
}

/// Why parts do not make a layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// The depth is over [`MAX_DEPTH`].
    #[error("a depth over {MAX_DEPTH}")]
    Depth,
    /// There are no replicas, more replicas than members, or more than 65,535 members.
    #[error("the numbers of members and replicas do not fit")]
    Counts,
    /// Members are not sorted by id, or repeat.
    #[error("the members are not sorted by id and distinct")]
    Members,
    /// A slot names no member, or a partition's slots are too many, too few or not distinct.
    #[error("a partition's owners are not distinct members, as many as there are replicas")]
    Slots,
}

impl Layout {
    /// Checks the parts and puts them together. `slots` holds `replicas` member indices per partition.
    ///
    /// # Errors
    /// [`LayoutError`] names the first rule that the parts break.
    pub fn new(
        version: u64,
        depth: u8,
        replicas: u8,
        members: Vec<Member>,
        slots: Vec<u16>,
    ) -> Result<Self, LayoutError> {
        let per_partition = usize::from(replicas);
        if depth > MAX_DEPTH {
            return Err(LayoutError::Depth);
        }
        if replicas == 0 || members.len() < per_partition || members.len() > usize::from(u16::MAX) {
            return Err(LayoutError::Counts);
        }
        if members.windows(2).any(|pair| pair[0].id >= pair[1].id) {
            return Err(LayoutError::Members);
        }
        let distinct = |owners: &[u16]| {
            let known = owners.iter().all(|&owner| usize::from(owner) < members.len());
            known && owners.iter().enumerate().all(|(at, owner)| !owners[..at].contains(owner))
        };
        if slots.len() != per_partition << depth || !slots.chunks(per_partition).all(distinct) {
            return Err(LayoutError::Slots);
        }
        Ok(Self { version, depth, replicas, members, slots })
    }

    /// Which layout this is; each change is one higher.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// How many bits of the hash name a partition.
    #[must_use]
    pub const fn depth(&self) -> u8 {
        self.depth
    }

    /// N: how many owners each partition has.
    #[must_use]
    pub const fn replicas(&self) -> u8 {
        self.replicas
    }

    /// The members, by id.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// All slots as member indices, `replicas` per partition.
    #[must_use]
    pub fn slots(&self) -> &[u16] {
        &self.slots
    }

    /// All partitions, in order.
    pub fn partitions(&self) -> impl ExactSizeIterator<Item = PartitionId> + use<> {
        let depth = self.depth;
        (0..1_u32 << depth).map(move |prefix| PartitionId { prefix, depth })
    }

    /// The partition that `hash` lies in.
    #[must_use]
    pub const fn partition_of(&self, hash: KeyHash) -> PartitionId {
        PartitionId::of(hash, self.depth)
    }

    /// The N owners of `partition`, slot by slot; nothing for a partition of another depth.
    pub fn owners(&self, partition: PartitionId) -> impl ExactSizeIterator<Item = NodeId> + '_ {
        self.owner_indices(partition).iter().map(|&owner| self.members[usize::from(owner)].id)
    }

    /// The owners of `partition` without `node`.
    pub fn owners_but(
        &self,
        partition: PartitionId,
        node: NodeId,
    ) -> impl Iterator<Item = NodeId> + Clone + '_ {
        let ids = self.owner_indices(partition).iter().map(|&owner| self.members[usize::from(owner)].id);
        ids.filter(move |&id| id != node)
    }

    /// The slot that `node` holds in `partition`, if it is an owner.
    #[must_use]
    pub fn slot_of(&self, partition: PartitionId, node: NodeId) -> Option<u8> {
        // At most 255 owners, since `replicas` is a u8.
        self.owners(partition).position(|owner| owner == node).map(|slot| slot as u8)
    }

    /// Every node in the order in which the paper (sections 4.3 and 4.6) walks the ring: the owners, then the
    /// others, those in a zone without an owner first, in an order of each partition's own. O(S log S).
    #[must_use]
    pub fn preference_list(&self, partition: PartitionId) -> Vec<NodeId> {
        let owners = self.owner_indices(partition);
        let zone = |at: usize| &self.members[at].zone;
        let mut others: Vec<(bool, u64, NodeId)> = (0..self.members.len())
            .filter(|&at| !owners.iter().any(|&owner| usize::from(owner) == at))
            .map(|at| {
                let same_zone = owners.iter().any(|&owner| zone(usize::from(owner)) == zone(at));
                (same_zone, rank(partition, self.members[at].id), self.members[at].id)
            })
            .collect();
        others.sort_unstable();
        self.owners(partition).chain(others.into_iter().map(|(_, _, id)| id)).collect()
    }

    fn owner_indices(&self, partition: PartitionId) -> &[u16] {
        if partition.depth != self.depth || partition.prefix >> self.depth != 0 {
            return &[];
        }
        let first = partition.prefix as usize * usize::from(self.replicas);
        &self.slots[first..first + usize::from(self.replicas)]
    }
}

/// A fixed pseudo-random number for a pair, the same on every machine: orders nodes differently for each
/// partition (the finaliser of splitmix64).
pub(crate) const fn rank(partition: PartitionId, node: NodeId) -> u64 {
    let mut x = node.0
        ^ ((partition.prefix as u64) << 8 | partition.depth as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
