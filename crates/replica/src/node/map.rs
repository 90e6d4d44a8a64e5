//! Which partition belongs to whom, and at which epoch: the layout in force, as requests need it.
//!
//! Every request about a partition carries its epoch. A replica that knows a later one refuses it as stale; one that knows an
//! earlier one first asks for the layout that it has missed (`node/layouts.rs`).

use std::collections::BTreeMap;
use std::sync::Arc;

use gramme_object::Key;
use gramme_plant::planted;
use gramme_quorum::{ReplicaSet, Seat, Sets, Threshold};
use gramme_ring::{Entry, Keyspace, Layout, Member, NodeId, PartitionId};

use crate::place::{Place, Space};

/// Which version of a partition's ownership: greater ones replace lower ones, compared as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Epoch {
    /// Higher after a forced layout.
    pub(crate) generation: u32,
    pub(crate) number: u64,
}

/// R or W: how many of a set of owners must do their part. Two sets may differ in number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Need {
    /// What the request asks, or its bucket.
    threshold: Threshold,
}

impl Need {
    pub(crate) const fn new(asked: Threshold, bucket: Threshold) -> Self {
        Self { threshold: if matches!(asked, Threshold::Default) { bucket } else { asked } }
    }

    /// How many of a set of so many; all of one that is too small.
    fn of(self, owners: usize) -> u8 {
        // At most 255, as many as N can be.
        let owners = owners as u8;
        self.threshold.resolve_positive(owners, Threshold::Quorum).unwrap_or(owners)
    }

    /// How many of a set readers ask for. While N goes down the old owners are more than N, and W of them may be as few as of
    /// the new ones: as many more must answer.
    fn of_readers(self, owners: usize, replicas: u8) -> u8 {
        let more = owners.saturating_sub(usize::from(replicas));
        if more == 0 { self.of(owners) } else { (usize::from(self.of(replicas.into())) + more) as u8 }
    }

    fn set(self, owners: &[NodeId]) -> ReplicaSet {
        ReplicaSet { owners: owners.to_vec(), need: self.of(owners.len()) }
    }
}

/// The layout in force.
#[derive(Clone, Debug)]
pub(crate) struct Map {
    layout: Layout,
    keyspace: Keyspace,
    /// Who stands in, by partition, where that was asked.
    fallbacks: BTreeMap<PartitionId, Arc<[NodeId]>>,
}

/// The most fallbacks that are looked at for one that can be reached.
const FALLBACKS: usize = 32;

impl Map {
    pub(crate) const fn new(layout: Layout, keyspace: Keyspace) -> Self {
        Self { layout, keyspace, fallbacks: BTreeMap::new() }
    }

    /// Takes a later layout.
    pub(crate) fn set_layout(&mut self, layout: Layout) {
        self.layout = layout;
        self.fallbacks.clear();
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
        self.layout.entry(partition).is_some()
    }

    pub(crate) fn members(&self) -> &[Member] {
        self.layout.members()
    }

    /// The members but this one.
    pub(crate) fn others(&self, me: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        self.members().iter().map(|member| member.id).filter(move |id| *id != me)
    }

    /// A node's zone as a number: its place among the zones' names.
    pub(crate) fn zone(&self, node: NodeId) -> u16 {
        let zone = self.layout.member(node).map(|member| &member.zone);
        let first = self.members().iter().position(|member| Some(&member.zone) == zone);
        // At most 65,535 members.
        first.unwrap_or(0) as u16
    }

    /// N.
    pub(crate) const fn replicas(&self) -> u8 {
        self.layout.replicas()
    }

    /// The owners that readers ask.
    pub(crate) fn owners(&self, partition: PartitionId) -> impl ExactSizeIterator<Item = NodeId> + '_ {
        self.layout.owners(partition)
    }

    /// All owners, old and new.
    pub(crate) fn holders(&self, partition: PartitionId) -> impl Iterator<Item = NodeId> + '_ {
        self.layout.entry(partition).into_iter().flat_map(Entry::holders)
    }

    /// Whether a node owns a partition, or may have owned it before: who did is not remembered.
    pub(crate) fn may_have_owned(&self, partition: PartitionId, node: NodeId) -> bool {
        self.layout.is_holder(partition, node) || self.layout.epoch(partition) > 1
    }

    pub(crate) fn is_settled(&self, partition: PartitionId) -> bool {
        self.layout.entry(partition).is_some_and(Entry::is_settled)
    }

    /// Who may stand in for the partition's owners, in the order of the preference list.
    pub(crate) fn fallbacks(&mut self, partition: PartitionId) -> Arc<[NodeId]> {
        let layout = &self.layout;
        let listed = || {
            let list = layout.preference_list(partition).into_iter();
            list.filter(|node| !layout.is_holder(partition, *node)).take(FALLBACKS).collect()
        };
        Arc::clone(self.fallbacks.entry(partition).or_insert_with(listed))
    }

    /// Where a fallback keeps a copy for the owner of this seat; nothing if there is no such owner.
    pub(crate) fn hint_place(&self, place: &Place, seat: Seat) -> Option<Place> {
        let (first, second) = self.layout.entry(place.partition).map(both)?;
        let set = if seat.set == 0 { Some(first) } else { second.filter(|_| seat.set == 1) };
        let owner = set?.get(usize::from(seat.slot))?;
        Some(Place { space: Space::Hints(*owner), ..place.clone() })
    }

    /// Whom a read of the partition asks.
    pub(crate) fn read_sets(&self, partition: PartitionId, r: Need) -> Sets {
        let owners = match self.layout.entry(partition) {
            Some(Entry::Joining { to, .. }) if planted!(ReadNewEarly) => to,
            entry => entry.map_or(&[][..], Entry::read_set),
        };
        let need = r.of_readers(owners.len(), self.replicas());
        Sets { now: ReplicaSet { owners: owners.to_vec(), need }, next: None }
    }

    /// How many owners a read asks for that wants so many of N.
    pub(crate) fn read_primaries(&self, partition: PartitionId, pr: u8) -> u8 {
        let owners = self.owners(partition).len();
        let more = if pr == 0 { 0 } else { owners.saturating_sub(usize::from(self.replicas())) };
        (usize::from(pr) + more).min(owners) as u8
    }

    /// Whom a write of the partition goes to: while it moves, old owners and new ones.
    pub(crate) fn write_sets(&self, partition: PartitionId, w: Need) -> Sets {
        let (now, next) = self.layout.entry(partition).map_or((&[][..], None), both);
        Sets { now: w.set(now), next: next.map(|owners| w.set(owners)) }
    }

    pub(crate) fn epoch(&self, partition: PartitionId) -> Epoch {
        Epoch { generation: self.layout.generation(), number: self.layout.epoch(partition) }
    }
}

/// The owners that readers ask, and the others, if a partition moves: the sets that seats are numbered in.
fn both(entry: &Entry) -> (&[NodeId], Option<&[NodeId]>) {
    match entry {
        Entry::Settled(owners) => (owners, None),
        Entry::Joining { from, to } => (from, Some(to)),
        Entry::Leaving { from, to } => (to, Some(from)),
    }
}

#[cfg(test)]
mod tests {
    use gramme_ring::{Move, Step};

    use super::*;

    const P: PartitionId = PartitionId { prefix: 0, depth: 0 };

    /// A cluster of five in which N goes from `from` to `to`, and the only partition begins to move.
    fn changing(from: u8, to: u8) -> Map {
        let members = (1..=5).map(|id| Member::new(NodeId(id))).collect();
        let slots: Vec<u16> = (0..from.into()).collect();
        let layout = Layout::new(1, 0, from, members, &slots).expect("sound");
        let owners = (1..=u64::from(to)).map(NodeId).collect();
        let step = Step { replicas: to, moves: vec![(0, Move::Begin(owners))], ..layout.step() };
        Map::new(layout.after(&step).expect("it follows"), Keyspace::new([0; 32]))
    }

    /// Whatever R and W are, if more than N together, readers and writers of the old owners have one in common.
    #[test]
    fn readers_and_writers_overlap_while_n_changes() {
        for (from, to) in [(5, 3), (3, 5), (5, 1), (1, 3), (3, 2), (2, 3)] {
            let map = changing(from, to);
            for r in 1..=to {
                for w in to + 1 - r..=to {
                    let need = |count| Need::new(Threshold::Count(count), Threshold::Default);
                    let read = map.read_sets(P, need(r)).now;
                    let written = map.write_sets(P, need(w)).now;
                    let sum = usize::from(read.need) + usize::from(written.need);
                    assert!(sum > read.owners.len(), "N from {from} to {to}, R = {r}, W = {w}");
                    let (primaries, of) = (map.read_primaries(P, r), usize::from(from));
                    assert!(usize::from(primaries) + usize::from(w.min(from)) > of, "PR = {r}, PW = {w}");
                }
            }
            assert_eq!(map.read_primaries(P, 0), 0);
        }
    }
}
