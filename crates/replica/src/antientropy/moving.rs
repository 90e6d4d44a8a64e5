//! Copying what moves: a new owner pulls from old ones, and an owner from one that owns it no more.
//!
//! Both are exchanges like any other, so what is there already is not sent again, and one that is broken off goes on where it
//! was. Only who begins them is different. Between an old owner and a new one the new one does, or both would send everything;
//! and at first it asks one old owner alone. What an owner has left is only taken from it.

use std::collections::BTreeMap;

use gramme_antientropy::Input;
use gramme_ring::{Entry, Layout, NodeId, PartitionId};
use gramme_transfer::Arrivals;
use gramme_wire::peer::{Status, TakeOver};

use super::Exchanges;
use super::pull::Whole;
use crate::coordinator::Around;
use crate::shard::{Level, Writer};

/// Partitions that others want to be rid of, of all together.
const DRAINS: usize = 4_096;
/// How often peers are asked while something of theirs is wanted, in microseconds.
const NUDGE: u64 = 500_000;
/// How long after a request it is taken for over, in microseconds: while it is wanted it is made every few seconds.
const PATIENCE: u64 = 30_000_000;

/// One that wants to be rid of a partition.
#[derive(Clone, Copy, Debug)]
struct Asked {
    /// The number of its request.
    id: u64,
    /// When it came first: a copy that began before says nothing.
    since: u64,
    /// When it came last: whoever is rid of it asks no more.
    heard: u64,
}

impl Asked {
    const fn is_meant(&self, now: u64) -> bool {
        now < self.heard + PATIENCE
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Moving {
    arrivals: Arrivals,
    drains: BTreeMap<(NodeId, PartitionId), Asked>,
    nudge: u64,
}

impl Moving {
    pub(super) fn on_gone(&mut self, peer: NodeId) {
        self.drains.retain(|(from, _), _| *from != peer);
    }

    pub(super) fn on_lost(&mut self) {
        self.arrivals.on_lost();
        self.drains.clear();
    }

    /// The partitions to be taken from a peer.
    pub(super) fn wanted<'a>(
        &'a self,
        around: &'a Around<'_>,
        peer: NodeId,
    ) -> impl Iterator<Item = PartitionId> + 'a {
        let peers = around.node.peers();
        let now = around.cx.now.monotonic;
        let arrivals =
            self.arrivals.wanted(peer, move |node, partition| peers.is_sound(node, partition, now));
        let drains =
            self.drains.iter().filter(move |((from, _), asked)| *from == peer && asked.is_meant(now));
        let drains = drains.map(|((_, partition), _)| *partition);
        arrivals.into_iter().chain(drains)
    }

    /// All that others had of partitions is here.
    pub(super) fn on_whole(&mut self, around: &mut Around<'_>, whole: &[Whole]) {
        for whole in whole {
            let Whole { partition, peer, began, counts, fenced } = *whole;
            if counts {
                self.arrivals.on_taken(partition, peer, fenced);
            }
            let Some(asked) = self.drains.get(&(peer, partition)).filter(|asked| began >= asked.since) else {
                continue;
            };
            let writer = Writer::TakeOver { to: peer, id: asked.id, partition };
            self.drains.remove(&(peer, partition));
            around.shard.confirm(around.cx, writer, Level::Synced);
        }
    }
}

impl Exchanges {
    /// What this node is to own, and from whom it has taken it over.
    pub(crate) const fn arrivals(&self) -> &Arrivals {
        &self.moving.arrivals
    }

    /// A layout is in force, under which these partitions have other owners.
    pub(crate) fn on_layout(&mut self, around: &mut Around<'_>, changed: &[PartitionId]) {
        self.moving.arrivals.on_layout(around.cx.me(), around.node.map.layout());
        self.proof.on_layout(changed);
        self.moving.drains.retain(|(_, partition), _| !changed.contains(partition));
        self.closing.on_layout(around.cx.now.monotonic, changed);
        self.moving.nudge = 0;
        self.pull_what_moves(around);
    }

    /// Begins exchanges with those of whom something is wanted.
    pub(crate) fn pull_what_moves(&mut self, around: &mut Around<'_>) {
        let now = around.cx.now.monotonic;
        if now < self.moving.nudge || self.moving.arrivals.is_empty() && self.moving.drains.is_empty() {
            return;
        }
        self.moving.nudge = now + NUDGE;
        for peer in around.node.map.others(around.cx.me()).collect::<Vec<_>>() {
            if self.moving.wanted(around, peer).next().is_some() {
                self.step(around, Input::Needed(peer));
            }
        }
    }

    /// Another node asks this one to take over what it owns no more.
    pub(crate) fn on_take_over(&mut self, around: &mut Around<'_>, from: NodeId, id: u64, asked: &TakeOver) {
        let (partition, now) = (asked.header.partition, around.cx.now.monotonic);
        self.moving.drains.retain(|_, asked| asked.is_meant(now));
        let admitted = around.admit_partition(from, &asked.header).and_then(|()| {
            let is_full = self.moving.drains.len() >= DRAINS;
            let is_settled = around.node.map.is_settled(partition) && around.shard.owns(partition);
            if !is_settled {
                Err(Status::NotOwner)
            } else if is_full {
                Err(Status::Busy)
            } else {
                Ok(())
            }
        });
        if let Err(status) = admitted {
            return around.answer_take_over((from, id), partition, status);
        }
        let asked =
            self.moving.drains.entry((from, partition)).or_insert(Asked { id, since: now, heard: now });
        (asked.id, asked.heard) = (id, now);
        self.moving.nudge = 0;
        self.pull_what_moves(around);
    }

    /// Adds what is pulled from a peer that owns it no more to the partitions that differ.
    pub(super) fn add_left(&self, around: &Around<'_>, peer: NodeId, differing: &mut Vec<PartitionId>) {
        let layout = around.node.map.layout();
        differing.extend(self.pulls.of(peer).filter(|partition| !layout.is_holder(*partition, peer)));
    }

    /// Of the partitions that differ, leaves out what is not to be copied now, or by this exchange. A pull of one that is left
    /// out is none: that it differs was noted before.
    pub(super) fn choose_moving(&self, around: &Around<'_>, peer: NodeId, differing: &mut Vec<PartitionId>) {
        let (layout, me) = (around.node.map.layout(), around.cx.me());
        differing.retain(|partition| {
            if self.pulls.of(peer).any(|id| id == *partition) {
                true
            } else if arrives(layout, *partition, me) {
                self.moving.arrivals.has_taken(*partition, peer)
            } else {
                !arrives(layout, *partition, peer)
            }
        });
    }
}

/// Whether a partition moves to a node that has nothing of it yet.
pub(super) fn arrives(layout: &Layout, partition: PartitionId, node: NodeId) -> bool {
    match layout.entry(partition) {
        Some(Entry::Joining { from, to }) => to.contains(&node) && !from.contains(&node),
        _ => false,
    }
}
