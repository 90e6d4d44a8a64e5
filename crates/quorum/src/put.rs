//! A put: count acknowledgements until W, and never one of a replica that is known to have lost its disk.

use gramme_ring::NodeId;
use gramme_vclock::Actor;

use crate::get::distinct_members;
use crate::{Failure, ReplicaSet, Shortfall};

/// A replica's term on a partition, with when it began. A later one means that the earlier is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tenure {
    /// The actor that it writes as; `None` while unknown.
    pub actor: Option<Actor>,
    /// When it began: microseconds of the node's clock, never the same or earlier for a later tenure.
    pub born: u64,
}

/// What one replica acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Who.
    pub node: NodeId,
    /// Whose place it takes in the preference list: its own, or that of the owner it stands in for.
    pub slot: u8,
    /// Whether it is an owner, not a fallback.
    pub primary: bool,
    /// The replica's zone, as a number.
    pub zone: u16,
    /// Whether the write would survive a loss of power there.
    pub synced: bool,
    /// The replica's term on the partition.
    pub tenure: Tenure,
    /// The terms of the other members, as far as this replica knows them.
    pub known: Vec<(NodeId, Tenure)>,
}

/// What a put needs beside W of each set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PutNeeds {
    /// Acknowledgements of owners.
    pub primaries: u8,
    /// Acknowledgements that would survive a loss of power.
    pub synced: u8,
}

/// What was known when a put was answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Acknowledgements that count.
    pub acks: u8,
    /// Of owners.
    pub primaries: u8,
    /// Of fallbacks.
    pub fallbacks: u8,
    /// Different zones among them.
    pub zones: u8,
    /// That would survive a loss of power.
    pub synced: u8,
}

/// What to do after a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PutVerdict {
    /// Wait for more.
    Wait,
    /// Answer the client that it is done.
    Done(Receipt),
    /// Answer the client that it is not, and may yet appear.
    Fail(Shortfall),
    /// All have been heard (or given up): forget the request.
    Finished,
}

/// One put in progress.
#[derive(Clone, Debug)]
pub struct PutRequest {
    sets: Vec<ReplicaSet>,
    needs: PutNeeds,
    acks: Vec<Ack>,
    failures: Vec<(NodeId, Failure)>,
    answered: bool,
}

impl PutRequest {
    /// A put over these replica sets; each must reach its own W.
    #[must_use]
    pub const fn new(sets: Vec<ReplicaSet>, needs: PutNeeds) -> Self {
        Self { sets, needs, acks: Vec::new(), failures: Vec::new(), answered: false }
    }

    /// The replicas to write to, each once.
    #[must_use]
    pub fn members(&self) -> Vec<NodeId> {
        distinct_members(&self.sets)
    }

    /// Whether the client has its answer.
    #[must_use]
    pub const fn is_answered(&self) -> bool {
        self.answered
    }

    /// Whether nothing more can come: all have been heard.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.members().iter().all(|&node| self.has_heard(node))
    }

    /// Whether this replica has not been heard yet.
    #[must_use]
    pub fn awaits(&self, node: NodeId) -> bool {
        self.members().contains(&node) && !self.has_heard(node)
    }

    /// Tells it of an acknowledgement. A second one of the same node changes nothing.
    pub fn on_ack(&mut self, ack: Ack) -> PutVerdict {
        #[cfg(gramme_planted)]
        if gramme_vclock::planted::is(gramme_vclock::planted::Plant::CountTwice) {
            self.acks.push(ack);
            return self.verdict();
        }
        if self.has_heard(ack.node) {
            return PutVerdict::Wait;
        }
        self.acks.push(ack);
        self.verdict()
    }

    /// Tells it that a replica did not do its part.
    pub fn on_failure(&mut self, node: NodeId, failure: Failure) -> PutVerdict {
        if !self.awaits(node) {
            return PutVerdict::Wait;
        }
        self.failures.push((node, failure));
        self.verdict()
    }

    /// Tells it that the deadline has passed: whoever has not answered is silent.
    pub fn on_deadline(&mut self) -> PutVerdict {
        for node in self.members() {
            if !self.has_heard(node) {
                self.failures.push((node, Failure::Silent));
            }
        }
        self.verdict()
    }

    fn verdict(&mut self) -> PutVerdict {
        let open = self.members().iter().filter(|&&node| !self.has_heard(node)).count();
        if self.answered {
            return if open == 0 { PutVerdict::Finished } else { PutVerdict::Wait };
        }
        let receipt = self.receipt();
        if self.is_satisfied(&receipt) {
            self.answered = true;
            return PutVerdict::Done(receipt);
        }
        if self.is_hopeless(&receipt, open) {
            self.answered = true;
            return PutVerdict::Fail(self.shortfall());
        }
        PutVerdict::Wait
    }

    fn is_satisfied(&self, receipt: &Receipt) -> bool {
        self.sets.iter().all(|set| self.count_in(set) >= usize::from(set.need))
            && receipt.primaries >= self.needs.primaries
            && receipt.synced >= self.needs.synced
    }

    fn is_hopeless(&self, receipt: &Receipt, open: usize) -> bool {
        let open_in = |set: &ReplicaSet| set.members.iter().filter(|&&node| !self.has_heard(node)).count();
        self.sets.iter().any(|set| self.count_in(set) + open_in(set) < usize::from(set.need))
            || usize::from(receipt.primaries) + open < usize::from(self.needs.primaries)
            || usize::from(receipt.synced) + open < usize::from(self.needs.synced)
    }

    /// The acknowledgements that count: of different nodes and different slots, and none of a tenure that
    /// another acknowledger knows to be over (its disk may have gone with it).
    fn counted(&self) -> Vec<&Ack> {
        let mut counted: Vec<&Ack> = Vec::new();
        for ack in &self.acks {
            let twice = counted.iter().any(|other| other.node == ack.node || other.slot == ack.slot);
            #[cfg(gramme_planted)]
            let twice = twice && !gramme_vclock::planted::is(gramme_vclock::planted::Plant::CountTwice);
            if !twice && !self.is_over(ack) {
                counted.push(ack);
            }
        }
        counted
    }

    fn is_over(&self, ack: &Ack) -> bool {
        let others = self.acks.iter().filter(|other| other.node != ack.node);
        let known = others.flat_map(|other| &other.known).filter(|(node, _)| *node == ack.node);
        known.into_iter().any(|(_, known)| known.actor != ack.tenure.actor && known.born > ack.tenure.born)
    }

    /// Acknowledgements for a set: of its members, or of fallbacks in its slots.
    fn count_in(&self, set: &ReplicaSet) -> usize {
        let counts = |ack: &&&Ack| {
            set.members.contains(&ack.node) || (!ack.primary && usize::from(ack.slot) < set.members.len())
        };
        self.counted().iter().filter(counts).count()
    }

    fn receipt(&self) -> Receipt {
        let counted = self.counted();
        let count = |wanted: &dyn Fn(&Ack) -> bool| counted.iter().filter(|ack| wanted(ack)).count() as u8;
        let mut zones: Vec<u16> = counted.iter().map(|ack| ack.zone).collect();
        zones.sort_unstable();
        zones.dedup();
        Receipt {
            acks: counted.len() as u8,
            primaries: count(&|ack| ack.primary),
            fallbacks: count(&|ack| !ack.primary),
            zones: zones.len() as u8,
            synced: count(&|ack| ack.synced),
        }
    }

    fn shortfall(&self) -> Shortfall {
        let mut failed = self.failures.clone();
        let open = self.members().into_iter().filter(|&node| !self.has_heard(node));
        failed.extend(open.map(|node| (node, Failure::Silent)));
        failed.sort_unstable();
        let needed = self.sets.iter().map(|set| set.need).max().unwrap_or(0);
        Shortfall {
            needed: needed.max(self.needs.primaries).max(self.needs.synced),
            answered: self.counted().iter().map(|ack| ack.node).collect(),
            failed,
        }
    }

    fn has_heard(&self, node: NodeId) -> bool {
        self.acks.iter().any(|ack| ack.node == node) || self.failures.iter().any(|(from, _)| *from == node)
    }
}
