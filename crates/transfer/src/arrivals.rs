//! What this node is to own, and from whom it has taken it over.

use std::collections::{BTreeMap, BTreeSet};

use gramme_plant::planted;
use gramme_ring::{Entry, Layout, NodeId, PartitionId, Quorums};

use crate::Rank;

/// A partition that this node is to own.
#[derive(Clone, Debug)]
struct Arrival {
    /// The decision under which it moves.
    epoch: Rank,
    /// The old owners. This node may be one of them.
    from: Vec<NodeId>,
    /// The new owners.
    to: Vec<NodeId>,
    /// Those of whose data everything is here, durably.
    taken: BTreeSet<NodeId>,
}

impl Arrival {
    /// Whom a new owner that has nothing asks first.
    fn first(&self, partition: PartitionId, is_there: impl Fn(NodeId) -> bool) -> Option<NodeId> {
        let there: Vec<NodeId> = self.from.iter().copied().filter(|node| is_there(*node)).collect();
        let goes = there.iter().copied().find(|node| !self.to.contains(node));
        let other = || there.get(partition.prefix as usize % there.len().max(1)).copied();
        goes.or_else(other)
    }
}

/// See the crate's documentation.
#[derive(Clone, Debug, Default)]
pub struct Arrivals {
    me: Option<NodeId>,
    of: BTreeMap<PartitionId, Arrival>,
}

impl Arrivals {
    /// A layout is in force. What was taken under an earlier decision of a partition does not count for a later one.
    pub fn on_layout(&mut self, me: NodeId, layout: &Layout) {
        self.me = Some(me);
        let mut before = std::mem::take(&mut self.of);
        for (partition, entry) in layout.moving() {
            let Entry::Joining { from, to } = entry else { continue };
            let epoch = (layout.generation(), layout.epoch(partition));
            if to.contains(&me) {
                let before = before.remove(&partition);
                let same = before.filter(|arrival| arrival.epoch == epoch || planted!(KeepTaken));
                let new = || Arrival { epoch, from: from.clone(), to: to.clone(), taken: BTreeSet::new() };
                self.of.insert(partition, same.unwrap_or_else(new));
            }
        }
    }

    /// Data was lost here: nothing that was taken is known to be there.
    pub fn on_lost(&mut self) {
        self.of.values_mut().for_each(|arrival| arrival.taken.clear());
    }

    /// What is to be taken from a peer now. A node that has nothing of a partition takes it from one old owner first, or it
    /// would be sent everything by all of them: from one that goes, if it `is_there` and its copy counts.
    pub fn wanted(&self, peer: NodeId, is_there: impl Fn(NodeId, PartitionId) -> bool) -> Vec<PartitionId> {
        let wants = |(partition, arrival): &(&PartitionId, &Arrival)| {
            let is_source =
                Some(peer) != self.me && arrival.from.contains(&peer) && !arrival.taken.contains(&peer);
            let has_some = !arrival.taken.is_empty() || self.me.is_some_and(|me| arrival.from.contains(&me));
            let is_there = |node| is_there(node, **partition);
            is_source && (has_some || arrival.first(**partition, is_there) == Some(peer))
        };
        self.of.iter().filter(wants).map(|(partition, _)| *partition).collect()
    }

    /// Whether everything that a peer had of a partition is here.
    #[must_use]
    pub fn has_taken(&self, partition: PartitionId, peer: NodeId) -> bool {
        self.of.get(&partition).is_some_and(|arrival| arrival.taken.contains(&peer))
    }

    /// Whether anything is to be taken from anybody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    /// Everything that a peer had of a partition is here. `fenced` is the layout that the peer had durably before that was
    /// begun: if it is of an earlier decision, later writes may have come to it behind the copy.
    pub fn on_taken(&mut self, partition: PartitionId, peer: NodeId, fenced: Rank) {
        if let Some(arrival) = self.of.get_mut(&partition)
            && arrival.from.contains(&peer)
            && (fenced >= arrival.epoch || planted!(CountUnfenced))
        {
            arrival.taken.insert(peer);
        }
    }

    /// The partitions of which this node has everything: of so many old owners that every write is among them, itself counted
    /// if it is one and has the layout durably (`fenced`), and of all that are there and count.
    pub fn complete(&self, fenced: Rank, is_there: impl Fn(NodeId, PartitionId) -> bool) -> Vec<PartitionId> {
        let is_complete = |partition: PartitionId, arrival: &Arrival| {
            let has = |node: &NodeId| {
                arrival.taken.contains(node) || Some(*node) == self.me && fenced >= arrival.epoch
            };
            let taken = arrival.from.iter().filter(|node| has(node)).count();
            let from = arrival.from.len();
            if planted!(OneSource) {
                return taken > 0;
            }
            taken >= Entry::sources(from, Quorums::majority(from))
                && arrival.from.iter().all(|node| has(node) || !is_there(*node, partition))
        };
        let complete = self.of.iter().filter(|(partition, arrival)| is_complete(**partition, arrival));
        complete.map(|(partition, _)| *partition).collect()
    }
}
