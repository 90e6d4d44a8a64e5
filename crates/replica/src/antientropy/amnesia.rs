//! How amnesia ends: with a proof that nothing is missing any more (`docs/causality.md`, Handing on).
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

use super::moving::arrives;
use super::pull::Whole;
use crate::coordinator::Around;
use crate::request::Loss;

/// What has been proven since the last loss.
#[derive(Debug, Default)]
pub(super) struct Proof {
    /// When the last exchange began that went through a partition with a peer.
    whole: BTreeMap<(PartitionId, NodeId), u64>,
}

impl super::Exchanges {
    /// What may be missing of partitions that count for nothing.
    pub(crate) fn losses(&self, around: &Around<'_>) -> Vec<Loss> {
        self.proof.losses(around)
    }
}

impl Proof {
    /// Data was lost: what was proven before says nothing.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Partitions have other owners: one that is gained anew has nothing of what was compared before.
    pub(super) fn on_layout(&mut self, changed: &[PartitionId]) {
        self.whole.retain(|(partition, _), _| changed.binary_search(partition).is_err());
    }

    /// All that others had of partitions is here. Only what counts there is a proof.
    pub(super) fn on_whole(&mut self, around: &mut Around<'_>, whole: &[Whole]) {
        if around.cx.stats.amnesiac_partitions == 0 {
            return;
        }
        for whole in whole.iter().filter(|whole| whole.counts) {
            self.whole.insert((whole.partition, whole.peer), whole.began);
        }
        self.end_amnesia(around);
    }

    /// What may be missing of each partition that may lack something.
    fn losses(&self, around: &Around<'_>) -> Vec<Loss> {
        let Around { cx, node, shard } = around;
        let loss = |partition| {
            let drained = node.drained_since(cx, partition);
            let is_compared = |peer: &NodeId| {
                let began = self.whole.get(&(partition, *peer));
                began.is_some_and(|began| drained.is_none_or(|drained| *began >= drained))
            };
            let layout = node.map.layout();
            let others =
                layout.holders_but(partition, cx.me()).filter(|peer| !arrives(layout, partition, *peer));
            let not_compared: BTreeSet<NodeId> = others.filter(|peer| !is_compared(peer)).collect();
            Loss {
                partition,
                keys: shard.keys_of(partition),
                not_compared: not_compared.into_iter().collect(),
                may_keep: node.not_drained(cx, node.map.holders(partition).collect()),
            }
        };
        shard.amnesiac().map(loss).collect()
    }

    /// Lets those partitions count again of which nothing can be missing.
    pub(super) fn end_amnesia(&mut self, around: &mut Around<'_>) {
        let Around { cx, node, shard } = around;
        let (me, layout) = (cx.me(), node.map.layout());
        let is_proven = |partition: &PartitionId| {
            if layout.holders_but(*partition, me).next().is_none() {
                // What was lost was nowhere else.
                return false;
            }
            let Some(drained) = node.drained_since(cx, *partition) else { return false };
            let is_whole = |peer| self.whole.get(&(*partition, peer)).is_some_and(|began| *began >= drained);
            // A new owner has nothing that the old ones have not.
            let mut others =
                layout.holders_but(*partition, me).filter(|peer| !arrives(layout, *partition, *peer));
            others.all(is_whole)
        };
        let proven: Vec<PartitionId> =
            shard.amnesiac().filter(|partition| planted!(RememberEarly) || is_proven(partition)).collect();
        if !proven.is_empty() {
            self.whole.retain(|(partition, _), _| !proven.contains(partition));
            shard.remember(cx, &proven);
        }
    }
}
