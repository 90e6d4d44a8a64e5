//! What this node owns no more, and who has taken it over.

use std::collections::{BTreeMap, BTreeSet};

use gramme_ring::{Layout, NodeId, PartitionId};

use crate::Rank;

/// Partitions that are handed over at once.
const AT_ONCE: usize = 64;
/// How long an owner may take before it is asked again, in microseconds.
const AGAIN: u64 = 15_000_000;

/// A partition that this node owns no more.
#[derive(Clone, Debug)]
struct Departure {
    epoch: Rank,
    owners: Vec<NodeId>,
    /// Owners that have all that is here, durably.
    done: BTreeSet<NodeId>,
    /// Those that were asked to take it, and when to ask again.
    asked: BTreeMap<NodeId, u64>,
}

impl Departure {
    fn is_over(&self) -> bool {
        self.done.len() > self.owners.len() / 2
    }
}

/// See the crate's documentation.
#[derive(Clone, Debug, Default)]
pub struct Departures {
    of: BTreeMap<PartitionId, Departure>,
}

impl Departures {
    /// A layout is in force, and on this node's disk. `left` are the partitions that it holds and that are not its own. What
    /// still moves waits.
    pub fn on_layout(&mut self, layout: &Layout, left: impl Iterator<Item = PartitionId>) {
        let mut before = std::mem::take(&mut self.of);
        for partition in left {
            let is_settled = layout.entry(partition).is_some_and(gramme_ring::Entry::is_settled);
            if !is_settled {
                continue;
            }
            let epoch = (layout.generation(), layout.epoch(partition));
            let same = before.remove(&partition).filter(|departure| departure.epoch == epoch);
            let owners = layout.owners(partition).collect();
            let new = || Departure { epoch, owners, done: BTreeSet::new(), asked: BTreeMap::new() };
            self.of.insert(partition, same.unwrap_or_else(new));
        }
    }

    /// Whom to ask to take over what, now.
    pub fn due(&mut self, now: u64, is_there: impl Fn(NodeId) -> bool) -> Vec<(PartitionId, NodeId)> {
        let mut due = Vec::new();
        for (partition, departure) in self.of.iter_mut().filter(|(_, of)| !of.is_over()).take(AT_ONCE) {
            for &owner in &departure.owners {
                let is_due = departure.asked.get(&owner).is_none_or(|again| *again <= now);
                if is_due && is_there(owner) && !departure.done.contains(&owner) {
                    departure.asked.insert(owner, now + AGAIN);
                    due.push((*partition, owner));
                }
            }
        }
        due
    }

    /// An owner was asked in vain.
    pub fn on_failed(&mut self, partition: PartitionId, owner: NodeId, again: u64) {
        if let Some(asked) = self.of.get_mut(&partition).and_then(|of| of.asked.get_mut(&owner)) {
            *asked = again;
        }
    }

    /// An owner has all that was here when it was asked. Says whether enough of them have, so that it can be dropped.
    pub fn on_done(&mut self, partition: PartitionId, owner: NodeId, epoch: Rank) -> bool {
        let Some(departure) = self.of.get_mut(&partition).filter(|of| of.epoch == epoch) else {
            return false;
        };
        if departure.owners.contains(&owner) {
            departure.done.insert(owner);
        }
        departure.is_over()
    }

    /// It is dropped.
    pub fn forget(&mut self, partition: PartitionId) {
        self.of.remove(&partition);
    }
}
