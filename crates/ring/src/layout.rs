//! Who owns what: the record that nodes agree on.
//!
//! A layout is data, decided once and carried to everybody, never computed by each node for itself. It says where each
//! partition stands ([`Entry`]), and at which version that was decided last: the partition's epoch. How one layout follows from
//! another is in `step.rs`.

use alloc::string::String;
use alloc::vec::Vec;

use crate::{Entry, KeyHash, MAX_DEPTH, NodeId, PartitionId};

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

/// Who belongs to the cluster, and who does not any more. Each list is sorted by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    /// Who may own partitions, keeps copies for others, and votes on the next layout.
    pub members: Vec<Member>,
    /// Those of them that are to go once they hold nothing.
    pub leaving: Vec<NodeId>,
    /// Those that are gone for good: whatever they say is refused.
    pub removed: Vec<NodeId>,
}

/// A partition in a layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    /// The version that decided on it last.
    pub(crate) epoch: u64,
    pub(crate) entry: Entry,
}

/// Where every partition stands, with the members that its owners were chosen from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    pub(crate) generation: u32,
    pub(crate) version: u64,
    pub(crate) depth: u8,
    pub(crate) replicas: u8,
    pub(crate) roster: Roster,
    /// By prefix.
    pub(crate) partitions: Vec<Held>,
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
    /// Members are not sorted by id, or repeat; or one is to go that is no member, or is gone and a member.
    #[error("the members are not sorted by id and distinct")]
    Members,
    /// An owner is no member, or a partition's owners are none, or not distinct.
    #[error("a partition's owners are not distinct members")]
    Owners,
}

impl Layout {
    /// A layout in which nothing moves. `slots` holds `replicas` indices of members for each partition.
    ///
    /// # Errors
    /// [`LayoutError`] names the first rule that the parts break.
    pub fn new(
        version: u64,
        depth: u8,
        replicas: u8,
        members: Vec<Member>,
        slots: &[u16],
    ) -> Result<Self, LayoutError> {
        if depth > MAX_DEPTH {
            return Err(LayoutError::Depth);
        }
        let per_partition = usize::from(replicas);
        if replicas == 0 || members.len() < per_partition || slots.len() != per_partition << depth {
            return Err(LayoutError::Counts);
        }
        let id = |&slot: &u16| members.get(usize::from(slot)).map(|member| member.id);
        let entry = |owners: &[u16]| {
            let owners = owners.iter().map(id).collect::<Option<Vec<_>>>().ok_or(LayoutError::Owners)?;
            Ok(Held { epoch: 1, entry: Entry::Settled(owners) })
        };
        let partitions = slots.chunks(per_partition).map(entry).collect::<Result<_, _>>()?;
        let roster = Roster { members, ..Roster::default() };
        Self { generation: 1, version, depth, replicas, roster, partitions }.checked()
    }

    /// The layout, if it keeps its own rules.
    pub(crate) fn checked(self) -> Result<Self, LayoutError> {
        let Roster { members, leaving, removed } = &self.roster;
        if self.depth > MAX_DEPTH {
            return Err(LayoutError::Depth);
        }
        if self.replicas == 0
            || members.is_empty()
            || members.len() > usize::from(u16::MAX)
            || self.partitions.len() != 1 << self.depth
        {
            return Err(LayoutError::Counts);
        }
        let is_sorted = |ids: &[NodeId]| ids.windows(2).all(|pair| pair[0] < pair[1]);
        let are_sorted = members.windows(2).all(|pair| pair[0].id < pair[1].id);
        let fits =
            leaving.iter().all(|id| self.is_member(*id)) && !removed.iter().any(|id| self.is_member(*id));
        if !are_sorted || !is_sorted(leaving) || !is_sorted(removed) || !fits {
            return Err(LayoutError::Members);
        }
        let is_sound = |set: &[NodeId]| {
            let known = set.iter().all(|owner| self.is_member(*owner));
            known && !set.is_empty() && set.iter().enumerate().all(|(at, owner)| !set[..at].contains(owner))
        };
        let mut sets = self.partitions.iter().flat_map(|held| held.entry.write_sets());
        if sets.all(is_sound) { Ok(self) } else { Err(LayoutError::Owners) }
    }

    /// Higher after a forced layout.
    #[must_use]
    pub const fn generation(&self) -> u32 {
        self.generation
    }

    /// Which layout this is; each is one higher than the last.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// By which of two layouts the later one is found.
    #[must_use]
    pub const fn rank(&self) -> (u32, u64) {
        (self.generation, self.version)
    }

    /// How many bits of the hash name a partition.
    #[must_use]
    pub const fn depth(&self) -> u8 {
        self.depth
    }

    /// N: how many owners each partition has, or will have.
    #[must_use]
    pub const fn replicas(&self) -> u8 {
        self.replicas
    }

    /// The members, by id.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.roster.members
    }

    /// Who belongs to the cluster, and who does not any more.
    #[must_use]
    pub const fn roster(&self) -> &Roster {
        &self.roster
    }

    /// A member.
    #[must_use]
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        let at = self.members().binary_search_by_key(&node, |member| member.id).ok()?;
        self.members().get(at)
    }

    /// Whether a node is a member.
    #[must_use]
    pub fn is_member(&self, node: NodeId) -> bool {
        self.member(node).is_some()
    }

    /// Whether a node is gone for good.
    #[must_use]
    pub fn is_removed(&self, node: NodeId) -> bool {
        self.roster.removed.binary_search(&node).is_ok()
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

    fn held(&self, partition: PartitionId) -> Option<&Held> {
        self.partitions.get(partition.prefix as usize).filter(|_| partition.depth == self.depth)
    }

    /// Where a partition stands; nothing for one of another depth.
    #[must_use]
    pub fn entry(&self, partition: PartitionId) -> Option<&Entry> {
        self.held(partition).map(|held| &held.entry)
    }

    /// The version that decided on a partition last; 0 for one of another depth.
    #[must_use]
    pub fn epoch(&self, partition: PartitionId) -> u64 {
        self.held(partition).map_or(0, |held| held.epoch)
    }

    /// Partitions whose owners change, with where they stand.
    pub fn moving(&self) -> impl Iterator<Item = (PartitionId, &Entry)> {
        let moving = self.partitions().zip(&self.partitions).filter(|(_, held)| !held.entry.is_settled());
        moving.map(|(partition, held)| (partition, &held.entry))
    }

    /// The owners of `partition` that readers ask, slot by slot; nothing for a partition of another depth.
    pub fn owners(&self, partition: PartitionId) -> impl ExactSizeIterator<Item = NodeId> + '_ {
        self.entry(partition).map_or(&[][..], Entry::read_set).iter().copied()
    }

    /// All that store a partition, old owners and new ones, without `node`.
    pub fn holders_but(
        &self,
        partition: PartitionId,
        node: NodeId,
    ) -> impl Iterator<Item = NodeId> + Clone + '_ {
        self.entry(partition).into_iter().flat_map(Entry::holders).filter(move |&id| id != node)
    }

    /// Whether `node` stores a partition, as an old owner or a new one.
    #[must_use]
    pub fn is_holder(&self, partition: PartitionId, node: NodeId) -> bool {
        self.entry(partition).is_some_and(|entry| entry.is_member(node))
    }

    /// The slot that `node` holds in `partition`, if readers ask it.
    #[must_use]
    pub fn slot_of(&self, partition: PartitionId, node: NodeId) -> Option<u8> {
        // At most 255 owners, since `replicas` is a u8.
        self.owners(partition).position(|owner| owner == node).map(|slot| slot as u8)
    }

    /// Every node in the order in which the paper (sections 4.3 and 4.6) walks the ring: the owners, those that the partition
    /// moves from or to, then the others, those in a zone without an owner first, in an order of each partition's own.
    /// O(S log S).
    #[must_use]
    pub fn preference_list(&self, partition: PartitionId) -> Vec<NodeId> {
        let Some(entry) = self.entry(partition) else { return Vec::new() };
        let owners = entry.read_set();
        let zone = |id: NodeId| self.member(id).map(|member| &member.zone);
        let zones: Vec<_> = owners.iter().map(|&owner| zone(owner)).collect();
        let others = self.members().iter().filter(|member| !entry.is_member(member.id));
        let mut others: Vec<(bool, u64, NodeId)> = others
            .map(|member| (zones.contains(&Some(&member.zone)), rank(partition, member.id), member.id))
            .collect();
        others.sort_unstable();
        let pending = entry.holders().filter(|holder| !owners.contains(holder));
        owners.iter().copied().chain(pending).chain(others.into_iter().map(|(_, _, id)| id)).collect()
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
