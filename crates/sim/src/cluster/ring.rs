//! Changes of who owns what, and the layout that the nodes have agreed on.

use gramme_replica::{ClientRequest, PlanChange, PlanCommand};
use gramme_ring::{Layout, Member, NodeId, PartitionId};
use rand::RngExt;
use rand::seq::IndexedRandom;

use super::{Cluster, id_of, node_of};
use crate::fault::Fault;
use crate::history::Broken;

/// Weights that members are given.
const WEIGHTS: [u32; 5] = [0, 0, 50, 100, 300];

impl Cluster {
    /// An administrator changes something at one node, and has it decided; now and then takes back what is under way.
    pub(super) fn change_ring(&mut self, node: usize) {
        self.counts.note(Fault::RingChange);
        let gone = (0..self.members()).find(|node| self.nodes[*node].is_removed);
        if let Some(gone) = gone.filter(|_| self.random.ring.random_range(0..6) == 0) {
            // Somebody starts it again, who has not heard of it.
            return self.start(gone);
        }
        if self.random.ring.random_range(0..8) == 0 {
            self.ask_nobody(node, ClientRequest::Plan(PlanCommand::Cancel));
            return;
        }
        let Some(replica) = &self.nodes[node].replica else { return };
        let layout = replica.layout().clone();
        let mut changes = Vec::new();
        for _ in 0..self.random.ring.random_range(1..4) {
            changes.extend(self.some_change(&layout));
        }
        self.ask_nobody(node, ClientRequest::Plan(PlanCommand::Stage(changes)));
        self.ask_nobody(node, ClientRequest::Plan(PlanCommand::Commit));
    }

    /// Those that own nothing yet have joined.
    pub(super) fn admit_all(&mut self) {
        let outside = (0..self.members()).filter(|node| !self.layout.is_member(id_of(*node)));
        for node in outside.collect::<Vec<_>>() {
            let addresses = vec![super::nodes::address_of(node)];
            self.ask_nobody(0, ClientRequest::Admit { node: id_of(node), addresses });
        }
    }

    fn some_change(&mut self, layout: &Layout) -> Option<PlanChange> {
        let is_outside = |id: &NodeId| !layout.is_member(*id) && !layout.is_removed(*id);
        let outside = (0..self.members()).map(id_of).filter(is_outside);
        let outside: Vec<_> = outside.collect();
        let rng = &mut self.random.ring;
        let weight = *WEIGHTS.choose(rng)?;
        let member = layout.members().choose(rng)?.id;
        let zone = ["", "a", "b", "c"].choose(rng).map(|zone| (*zone).to_owned())?;
        Some(match outside.choose(rng) {
            Some(&id) if rng.random_range(0..2) == 0 => PlanChange::Add(Member { zone, ..Member::new(id) }),
            Some(&new) if rng.random_range(0..4) == 0 => PlanChange::Replace { old: member, new },
            _ if rng.random_range(0..6) == 0 && layout.members().len() > 3 => PlanChange::Remove(member),
            _ if rng.random_range(0..4) == 0 => PlanChange::Zone(member, zone),
            _ => PlanChange::Weight(member, weight),
        })
    }

    /// The latest layout that any node has.
    pub(super) fn refresh_layout(&mut self) {
        let layouts = self.nodes.iter().filter_map(|node| Some(node.replica.as_ref()?.layout()));
        let latest = layouts.max_by_key(|layout| layout.rank());
        let Some(latest) = latest.filter(|latest| latest.rank() > self.layout.rank()).cloned() else {
            return;
        };
        self.layout = latest;
    }

    /// A client hears now and then, from one node, who owns what.
    pub(super) fn tell_of_ring(&mut self, client: usize) {
        if !self.has(Fault::RingChange) || self.random.ring.random_range(0..50) != 0 {
            return;
        }
        let there: Vec<usize> =
            (0..self.members()).filter(|node| self.nodes[*node].replica.is_some()).collect();
        let Some(node) = there.choose(&mut self.random.ring) else { return };
        if let Some(replica) = &self.nodes[*node].replica {
            self.clients[client].learn(replica.layout());
        }
    }

    /// The nodes that were not removed.
    pub(super) fn there(&self) -> Vec<usize> {
        (0..self.members()).filter(|node| !self.nodes[*node].is_removed).collect()
    }

    /// The nodes that own a key now.
    pub(super) fn owners(&self, key: usize) -> Vec<usize> {
        self.layout.owners(self.layout.partition_of(self.keys[key].hash)).map(node_of).collect()
    }

    /// What moves ends, everybody knows of it, and what is a node's own no more is gone from its disk.
    pub(super) fn unmoved(&self) -> Option<Broken> {
        let moving = self.layout.moving().count();
        if moving > 0 {
            return Some(Broken::NoProgress(format!(
                "{moving} partitions still move: {:?}",
                self.layout.moving().next()
            )));
        }
        let behind = |node: &usize| {
            self.nodes[*node].replica.as_ref().is_some_and(|replica| replica.layout() != &self.layout)
        };
        if let Some(node) = (0..self.members()).find(behind) {
            return Some(Broken::NoProgress(format!("node {node} has not heard of the layout")));
        }
        let foreign = |node: usize| {
            let partition = |key: &gramme_object::Key| -> PartitionId {
                self.layout.partition_of(super::keyspace().hash(key.as_bytes()))
            };
            let mut keys = self.nodes[node].disk.objects().keys();
            let key = keys.find(|key| !self.layout.is_holder(partition(key), id_of(node)))?;
            Some(Broken::Unbounded(format!("node {node} keeps {key:?}, which it does not own any more")))
        };
        (0..self.members()).find_map(foreign)
    }

    /// A layout, once decided, is the same for all.
    pub(super) fn check_layout(&mut self, node: usize) {
        let this = &mut self.nodes[node];
        let Some(layout) = this.replica.as_ref().map(gramme_replica::Replica::layout) else { return };
        let rank = layout.rank();
        if std::mem::replace(&mut this.rank, rank) == rank {
            return;
        }
        if std::env::var("DBG").is_ok() {
            eprintln!(
                "{} node {node} layout {rank:?} {:?}",
                self.now,
                layout.partitions().map(|p| (p.prefix, layout.entry(p).cloned())).take(3).collect::<Vec<_>>()
            );
        }
        let known = match self.layouts.get(&rank) {
            Some(known) => known == layout,
            None => {
                // All that ever owned a key: whatever has happened to one of them may concern it.
                for (named, record) in self.keys.iter().zip(&mut self.history.keys) {
                    let owners = layout.holders_but(layout.partition_of(named.hash), NodeId(0)).map(node_of);
                    let new: Vec<usize> = owners.filter(|owner| !record.owners.contains(owner)).collect();
                    record.owners.extend(new);
                }
                self.layouts.insert(rank, layout.clone());
                true
            }
        };
        if !known {
            self.broken(Broken::Unequal(format!("node {node} has another layout {rank:?} than others")));
        }
    }
}
