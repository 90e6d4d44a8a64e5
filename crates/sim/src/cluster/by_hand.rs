//! What a [`Scenario`](crate::Scenario) does to a cluster.

use gramme_replica::{Replica, Response, Stats, Ticket};

use super::{Cluster, Hold};
use crate::event::Event;

impl Cluster {
    pub(crate) const fn now(&self) -> u64 {
        self.now
    }

    pub(crate) fn has_answer(&self, ticket: Ticket) -> bool {
        self.answers.contains_key(&ticket)
    }

    pub(crate) fn take_answer(&mut self, ticket: Ticket) -> Option<Response> {
        self.answers.remove(&ticket)
    }

    pub(crate) fn hold(&mut self, hold: Hold) {
        self.holds.push(hold);
    }

    pub(crate) fn release(&mut self) -> usize {
        self.holds.clear();
        let held = std::mem::take(&mut self.held);
        let count = held.len();
        for packet in held {
            self.schedule(100, Event::Arrive(packet));
        }
        count
    }

    pub(crate) fn crash_now(&mut self, node: usize) {
        self.nodes[node].disk.crash();
        self.stop(node);
    }

    pub(crate) fn cut_power_now(&mut self, node: usize) {
        self.nodes[node].disk.lose_power(&mut self.random.disk);
        self.stop(node);
    }

    pub(crate) fn lose_disk_now(&mut self, node: usize) {
        self.nodes[node].disk.lose();
        self.stop(node);
    }

    pub(crate) fn stats(&self, node: usize) -> Option<&Stats> {
        self.nodes[node].replica.as_ref().map(Replica::stats)
    }
}
