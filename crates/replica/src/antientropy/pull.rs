//! Taking over what another replica has seen (`docs/causality.md`, Handing on).
//!
//! A replica that missed a write which was replaced since will never be shown it: its seen-set has a gap there for
//! ever, and nothing that speaks of it could be forgotten. So a replica takes over another's seen-set, once all that
//! the other had when it had seen this is here.
//!
//! To be told of it is not enough, and neither is its seen-set of the end: what the other merged meanwhile may never have
//! come. So the set is that of the beginning, synced, and every key whose versions differ is gone through before it is
//! taken over. One trap is left: a version of the set, replaced long ago, may arrive late from elsewhere, at a key that
//! was gone through already. It would be live here, and seen, and what replaced it forgotten everywhere. So what is new
//! meanwhile is watched, and the set is not taken over if one of those is in it. Under a steady load a set of the present
//! moment always has some that are still on their way; that of the exchange before has not, and serves as well.

use std::collections::{BTreeMap, BTreeSet};

use gramme_plant::planted;
use gramme_ring::{NodeId, PartitionId};
use gramme_wire::peer::{RootsReply, Seen};

use crate::coordinator::Around;
use crate::shard::Shard;

/// What one exchange has still to look at of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// Its leaves were not compared yet.
    All,
    Leaves(usize),
    /// Something of it could not be taken.
    Spoilt,
}

/// A partition on its way from another replica.
#[derive(Debug)]
struct Pull {
    began: u64,
    /// This disk's own life: what was brought to another one is gone.
    own_life: u64,
    /// Since when what is new is watched, by the shard's count.
    since: usize,
    /// What the other had seen at the beginning; nothing before it has said so.
    seen: Option<Seen>,
    /// Whether its copy counts.
    counts: bool,
    /// The layout that it had on its disk then.
    fenced: (u32, u64),
    left: Left,
}

/// A partition of which all that another had is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Whole {
    pub(super) partition: PartitionId,
    pub(super) peer: NodeId,
    pub(super) began: u64,
    /// Whether the other's copy counts.
    pub(super) counts: bool,
    /// The layout that the other had on its disk at the beginning.
    pub(super) fenced: (u32, u64),
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Pulls {
    pulls: BTreeMap<(NodeId, PartitionId), Pull>,
    /// Sets that could not be taken over because something of them was on its way.
    older: BTreeMap<(NodeId, PartitionId), Seen>,
}

impl Pulls {
    /// An exchange with a peer begins, in which these partitions are to be pulled.
    pub(super) fn begin(&mut self, around: &mut Around<'_>, peer: NodeId, partitions: &[PartitionId]) {
        self.end(around.shard, peer);
        for &partition in partitions {
            if let Some(since) = around.shard.watch(partition) {
                let began = around.cx.now.monotonic;
                let own_life = around.shard.tenures(partition).1;
                let (counts, fenced, left) = (true, (0, 0), Left::All);
                let pull = Pull { began, own_life, since, seen: None, counts, fenced, left };
                self.pulls.insert((peer, partition), pull);
            }
        }
    }

    /// Nothing comes of what is under way with a peer.
    pub(super) fn end(&mut self, shard: &mut Shard, peer: NodeId) {
        let of_peer: Vec<_> = self.pulls.keys().filter(|(with, _)| *with == peer).copied().collect();
        for (peer, partition) in of_peer {
            self.pulls.remove(&(peer, partition));
            shard.unwatch(partition);
        }
    }

    /// The partitions that are pulled from a peer.
    pub(super) fn of(&self, peer: NodeId) -> impl Iterator<Item = PartitionId> + '_ {
        self.pulls.keys().filter(move |(with, _)| *with == peer).map(|(_, partition)| *partition)
    }

    /// The last partition that is pulled from a peer.
    pub(super) fn last_of(&self, peer: NodeId) -> Option<PartitionId> {
        self.of(peer).last()
    }

    /// A peer cannot be reached: when it is back it may be another disk.
    pub(super) fn forget(&mut self, shard: &mut Shard, peer: NodeId) {
        self.end(shard, peer);
        self.older.retain(|(with, _), _| *with != peer);
    }

    /// This node has lost data: nothing that is under way proves anything.
    pub(super) fn lose(&mut self, shard: &mut Shard) {
        for (_, partition) in std::mem::take(&mut self.pulls).into_keys() {
            shard.unwatch(partition);
        }
        self.older.clear();
    }

    /// The roots were compared.
    pub(super) fn on_roots(
        &mut self,
        around: &mut Around<'_>,
        peer: NodeId,
        reply: &RootsReply,
        differing: &[PartitionId],
    ) -> Vec<Whole> {
        let (differing, uncounted): (BTreeSet<_>, BTreeSet<_>) =
            (differing.iter().collect(), reply.uncounted.iter().collect());
        for seen in &reply.seen {
            if let Some(pull) = self.pulls.get_mut(&(peer, seen.partition)) {
                pull.seen = Some(seen.clone());
                pull.counts = !uncounted.contains(&seen.partition);
                pull.fenced = reply.fenced;
                if !differing.contains(&seen.partition) || planted!(PullUncompared) {
                    pull.left = Left::Leaves(0);
                }
            }
        }
        self.take_whole(around, peer)
    }

    /// So many leaves of a partition differ.
    pub(super) fn on_leaves(
        &mut self,
        around: &mut Around<'_>,
        (peer, partition): (NodeId, PartitionId),
        leaves: usize,
    ) -> Vec<Whole> {
        if let Some(pull) = self.pulls.get_mut(&(peer, partition)).filter(|pull| pull.left == Left::All) {
            pull.left = Left::Leaves(leaves);
        }
        self.take_whole(around, peer)
    }

    /// Rows of a partition came from this disk life of the peer.
    pub(super) fn on_life(&mut self, (peer, partition): (NodeId, PartitionId), life: u64) {
        if let Some(pull) = self.pulls.get_mut(&(peer, partition))
            && pull.seen.as_ref().is_some_and(|seen| seen.life != life)
        {
            pull.left = Left::Spoilt;
        }
    }

    /// A leaf was gone through; `is_whole` if everything that came was taken.
    pub(super) fn on_leaf(
        &mut self,
        around: &mut Around<'_>,
        (peer, partition): (NodeId, PartitionId),
        is_whole: bool,
    ) -> Vec<Whole> {
        if let Some(pull) = self.pulls.get_mut(&(peer, partition)) {
            pull.left = match pull.left {
                Left::Leaves(leaves) if is_whole => Left::Leaves(leaves.saturating_sub(1)),
                _ => Left::Spoilt,
            };
        }
        self.take_whole(around, peer)
    }

    /// Ends the pulls that are through, and takes over what can be.
    fn take_whole(&mut self, around: &mut Around<'_>, peer: NodeId) -> Vec<Whole> {
        let is_through = |(key, pull): &(&(NodeId, PartitionId), &Pull)| {
            key.0 == peer && matches!(pull.left, Left::Leaves(0) | Left::Spoilt)
        };
        let through: Vec<_> = self.pulls.iter().filter(is_through).map(|(key, _)| *key).collect();
        let mut whole = Vec::new();
        for key in through {
            let Some(pull) = self.pulls.remove(&key) else { continue };
            if pull.left != Left::Spoilt {
                whole.extend(self.take(around, key, pull));
            }
            around.shard.unwatch(key.1);
        }
        whole
    }

    fn take(
        &mut self,
        around: &mut Around<'_>,
        (peer, partition): (NodeId, PartitionId),
        pull: Pull,
    ) -> Option<Whole> {
        let Pull { began, own_life, since, seen: Some(seen), counts, fenced, .. } = pull else { return None };
        let is_same_disk = around.shard.owns(partition) && around.shard.tenures(partition).1 == own_life;
        if !is_same_disk {
            self.older.remove(&(peer, partition));
            return None;
        }
        let older = self.older.remove(&(peer, partition)).filter(|older| older.life == seen.life);
        let Around { cx, shard, .. } = around;
        let is_sound = |seen: &Seen, shard: &Shard| !shard.has_gained(partition, since, &seen.dots, peer);
        if is_sound(&seen, shard) {
            shard.take_seen(cx, partition, peer, seen.dots);
        } else {
            cx.stats.pulls_late += 1;
            self.older.insert((peer, partition), seen);
            let older = older.filter(|older| is_sound(older, shard))?;
            shard.take_seen(cx, partition, peer, older.dots);
        }
        cx.stats.pulls += 1;
        Some(Whole { partition, peer, began, counts, fenced })
    }
}
