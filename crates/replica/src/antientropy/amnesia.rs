//! How amnesia ends: with a proof that nothing is missing any more (rule 11 of `docs/causality.md`).
//!
//! A copy that lost data counts for nothing. That it looks like the others' now proves nothing: what it acknowledged
//! may be on its way, or at a node that keeps it for this one or another owner. So a partition counts again only
//! when, since the loss, every other member has said that it keeps nothing for any of its owners, and after that an
//! exchange with each other owner, which must count itself, went through all that differed, and everything that came
//! was merged. An exchange that is broken off proves nothing of what it had not come to. A member that is away keeps
//! the proof from being made; an operator can accept the loss instead.

use std::collections::{BTreeMap, BTreeSet};

use gramme_plant::planted;
use gramme_ring::{NodeId, PartitionId};

use crate::coordinator::Around;

/// What one exchange has still to look at of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// Its leaves were not compared yet.
    All,
    Leaves(usize),
    /// Something of it could not be taken.
    Spoilt,
}

/// What has been proven since the last loss.
#[derive(Debug, Default)]
pub(super) struct Proof {
    /// When the present exchange with a peer began.
    began: BTreeMap<NodeId, u64>,
    left: BTreeMap<(NodeId, PartitionId), Left>,
    /// When the last exchange began that went through a partition with a peer.
    whole: BTreeMap<(PartitionId, NodeId), u64>,
}

impl Proof {
    pub(super) fn begin(&mut self, peer: NodeId, now: u64) {
        self.left.retain(|(with, _), _| *with != peer);
        self.began.insert(peer, now);
    }

    /// Data was lost: what was proven before says nothing.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The roots were compared. `uncounted` are those of the peer's that count for nothing.
    pub(super) fn on_roots(
        &mut self,
        around: &Around<'_>,
        peer: NodeId,
        differing: &[PartitionId],
        uncounted: &[PartitionId],
    ) {
        let layout = around.node.map.layout();
        let (differing, uncounted): (BTreeSet<_>, BTreeSet<_>) =
            (differing.iter().collect(), uncounted.iter().collect());
        for partition in around.shard.amnesiac() {
            let is_source = layout.slot_of(partition, peer).is_some() && !uncounted.contains(&partition);
            match (is_source, differing.contains(&partition)) {
                (false, _) => {}
                (true, true) => drop(self.left.insert((peer, partition), Left::All)),
                (true, false) => self.note_whole(peer, partition),
            }
        }
    }

    /// So many leaves of a partition differ.
    pub(super) fn on_leaves(&mut self, peer: NodeId, partition: PartitionId, leaves: usize) {
        if let Some(left) = self.left.get_mut(&(peer, partition)) {
            *left = Left::Leaves(leaves);
            self.check(peer, partition);
        }
    }

    /// A leaf was gone through; `is_whole` if everything that came was taken.
    pub(super) fn on_leaf(&mut self, peer: NodeId, partition: PartitionId, is_whole: bool) {
        if let Some(left) = self.left.get_mut(&(peer, partition)) {
            *left = match *left {
                Left::Leaves(leaves) if is_whole => Left::Leaves(leaves.saturating_sub(1)),
                _ => Left::Spoilt,
            };
            self.check(peer, partition);
        }
    }

    fn check(&mut self, peer: NodeId, partition: PartitionId) {
        if self.left.get(&(peer, partition)) == Some(&Left::Leaves(0)) {
            self.left.remove(&(peer, partition));
            self.note_whole(peer, partition);
        }
    }

    fn note_whole(&mut self, peer: NodeId, partition: PartitionId) {
        if let Some(began) = self.began.get(&peer) {
            self.whole.insert((partition, peer), *began);
        }
    }

    /// Lets those partitions count again of which nothing can be missing.
    pub(super) fn end_amnesia(&mut self, around: &mut Around<'_>) {
        let Around { cx, node, shard } = around;
        let (me, layout) = (cx.me(), node.map.layout());
        if layout.replicas() == 1 {
            // What was lost was nowhere else.
            return;
        }
        let is_proven = |partition: &PartitionId| {
            let Some(drained) = node.drained_since(cx, *partition) else { return false };
            let is_whole = |peer| self.whole.get(&(*partition, peer)).is_some_and(|began| *began >= drained);
            layout.owners_but(*partition, me).all(is_whole)
        };
        let proven: Vec<PartitionId> =
            shard.amnesiac().filter(|partition| planted!(RememberEarly) || is_proven(partition)).collect();
        if !proven.is_empty() {
            self.whole.retain(|(partition, _), _| !proven.contains(partition));
            shard.remember(cx, &proven);
        }
    }
}
