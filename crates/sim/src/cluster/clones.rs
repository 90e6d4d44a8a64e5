//! A copied directory, started: two processes are one node.
//!
//! Some of the other nodes speak to one of the two, some to the other, as on two sides of a cut. When they meet one of the
//! two is turned away, and what it alone has taken is gone with it. Which process a node
//! speaks to is what it is connected to; that nobody listens to both is the driver's work, and tested there.

use gramme_ring::NodeId;
use rand::RngExt;

use super::{Cluster, id_of, node_of};
use crate::event::{Event, Heal};
use crate::fault::Fault;
use crate::history::Damage;

/// A copy that is running.
#[derive(Debug)]
pub(super) struct Twin {
    since: u64,
    /// Who was cut off from the first process, to speak to the copy.
    takes: Vec<usize>,
}

impl Cluster {
    /// How many nodes there are; a copy has the place after them.
    pub(super) const fn members(&self) -> usize {
        self.settings.nodes
    }

    /// Which node a process is.
    pub(super) const fn id(&self, process: usize) -> NodeId {
        if process == self.settings.nodes { id_of(self.victim) } else { id_of(process) }
    }

    /// The nodes that a process is not.
    pub(super) fn others(&self, process: usize) -> impl Iterator<Item = usize> + use<> {
        let node = node_of(self.id(process));
        (0..self.members()).filter(move |other| *other != node)
    }

    /// The other process of the same node.
    const fn twin(&self, process: usize) -> Option<usize> {
        if process == self.settings.nodes {
            Some(self.victim)
        } else if process == self.victim {
            Some(self.settings.nodes)
        } else {
            None
        }
    }

    /// The process that `from` speaks to under this id.
    pub(super) fn process_of(&self, from: usize, to: NodeId) -> usize {
        let first = node_of(to);
        let twin = self.twin(first).filter(|twin| self.network.is_connected(from, *twin));
        twin.unwrap_or(first)
    }

    /// Whether a node does not listen to this process: it speaks to the other one of that node.
    pub(super) fn is_deaf_to(&self, node: usize, from: usize) -> bool {
        self.twin(from).is_some_and(|twin| self.network.is_connected(node, twin))
    }

    /// The connections to a node that end when a new one is made, whichever process they were to.
    pub(super) fn processes(&self, process: usize) -> impl Iterator<Item = usize> + use<> {
        std::iter::once(process).chain(self.twin(process))
    }

    /// The process that a client's request to a node reaches.
    pub(super) fn some_process(&mut self, node: usize) -> usize {
        let has_copy = node == self.victim && self.copy.is_some();
        if has_copy && self.random.clients.random_range(0..2) == 0 { self.members() } else { node }
    }

    /// Copies the victim's directory and starts the copy, with some of the others on its side.
    pub(super) fn clone_directory(&mut self, lasts: u64) {
        let (node, copy) = (self.victim, self.members());
        let others: Vec<usize> = self.others(node).collect();
        if others.is_empty() || self.nodes[node].replica.is_none() {
            return self.strike_later(Fault::Cloned);
        }
        self.counts.note(Fault::Cloned);
        let first = others[self.random.nemesis.random_range(0..others.len())];
        let mut takes = |other: &usize| *other == first || self.random.nemesis.random_range(0..2) == 0;
        let (takes, stays): (Vec<usize>, Vec<usize>) = others.iter().copied().partition(&mut takes);
        self.nodes[copy].disk = self.nodes[node].disk.copied();
        self.nodes[copy].clock_offset = self.nodes[node].clock_offset;
        for other in &takes {
            self.cut_between(node, *other);
        }
        stays.iter().for_each(|other| self.cut_between(copy, *other));
        self.copy = Some(Twin { since: self.now, takes });
        let after = self.random.nemesis.random_range(1_000..500_000);
        self.schedule(after, Event::Start(copy));
        self.schedule(2 * lasts, Event::Heal(Heal::Copy));
    }

    fn cut_between(&mut self, a: usize, b: usize) {
        self.network.cut(a, b);
        self.network.cut(b, a);
    }

    /// The two meet: one goes.
    pub(super) fn end_copy(&mut self) {
        let Some(Twin { since, takes }) = self.copy.take() else { return };
        let (node, copy) = (self.victim, self.members());
        self.stop(copy);
        let disk = std::mem::take(&mut self.nodes[copy].disk);
        // Perhaps it is the copy that an administrator keeps.
        if self.random.nemesis.random_range(0..2) == 0 {
            self.nodes[node].disk = disk.copied();
            self.stop(node);
            self.start_later(node, 500_000);
        }
        for other in 0..copy {
            self.network.open(copy, other);
        }
        for other in takes {
            self.network.heal(node, other);
            self.network.heal(other, node);
            let after = self.random.nemesis.random_range(1_000..1_000_000);
            self.schedule(after, Event::Connect { between: (node, other) });
        }
        // What one of the two has taken the other had not, all the while.
        self.history.damage.push(Damage { node, since, at: self.now, key: None, synced: true, mended: None });
    }
}
