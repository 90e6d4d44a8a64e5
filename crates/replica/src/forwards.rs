//! Puts that this node hands to an owner, because it is none itself or takes no writes.
//!
//! A put must be handed on until an owner takes it, and never to two of them. So it goes to the next owner
//! only where it is certain that the last one has not begun: it did not leave, or the owner said so. Once it
//! has left and no answer comes, its outcome is unknown, and the client is told exactly that.

use gramme_quorum::{Failure, PutError, Shortfall};
use gramme_ring::{NodeId, PartitionId};
use gramme_wire::PeerMessage;
use gramme_wire::peer::{self, ForwardReply};

use crate::Replica;
use crate::duplicates::Identity;
use crate::puts::Asker;
use crate::timers::Timer;

/// A put on its way through an owner.
#[derive(Debug)]
pub(crate) struct Forward {
    partition: PartitionId,
    identity: Identity,
    put: peer::Put,
    /// Owners not yet tried, the next one last.
    candidates: Vec<NodeId>,
    failed: Vec<(NodeId, Failure)>,
    /// Who has it now.
    sent_to: Option<NodeId>,
    deadline: u64,
}

impl Replica {
    pub(crate) fn start_forward(&mut self, identity: Identity, put: peer::Put) {
        if self.is_overloaded() {
            self.stats.busy += 1;
            return self.conclude(identity, Err(PutError::Busy));
        }
        self.stats.forwards += 1;
        let (_, partition) = self.place(&put.key);
        let mut candidates: Vec<NodeId> = self.config.layout.owners(partition).collect();
        candidates.retain(|&node| node != self.config.node);
        // Taken from the end: those that are up come first, in the order of the slots.
        candidates.reverse();
        candidates.sort_by_key(|&node| self.peers.is_up(node));
        let id = self.next_request();
        let deadline = self.now.monotonic + u64::from(put.timeout) * 1_000;
        let failed = Vec::new();
        let forward = Forward { partition, identity, put, candidates, failed, sent_to: None, deadline };
        self.forwards.insert(id, forward);
        self.timers.set(deadline, Timer::Forward(id));
        self.forward_to_next(id);
    }

    fn forward_to_next(&mut self, id: u64) {
        let Some(forward) = self.forwards.get_mut(&id) else { return };
        let Some(node) = forward.candidates.pop() else {
            let shortfall = Shortfall { needed: 1, answered: Vec::new(), failed: forward.failed.clone() };
            return self.conclude_forward(id, Err(PutError::NoCoordinator(shortfall)));
        };
        forward.sent_to = Some(node);
        let ttl = forward.deadline.saturating_sub(self.now.monotonic);
        let mut put = forward.put.clone();
        // The owner gives up a tenth before we do, so that its answer still finds us.
        put.timeout = (ttl * 9 / 10_000) as u32;
        let (partition, identity) = (forward.partition, forward.identity);
        let mut header = self.request_header(partition, identity.request);
        (header.origin, header.boot) = (identity.origin, identity.boot);
        self.send(node, id, ttl, PeerMessage::Forward(Box::new(peer::Forward { header, put })));
    }

    /// Another node hands a put to us.
    pub(crate) fn on_forward(&mut self, from: NodeId, id: u64, forward: peer::Forward) {
        let peer::Forward { header, put } = forward;
        let (_, partition) = self.place(&put.key);
        let refusal = match self.partitions.get(&partition.prefix) {
            None => Some(Failure::NotOwner),
            Some(owned) => owned.is_amnesiac.then_some(Failure::Amnesiac),
        };
        if let Some(failure) = refusal {
            let failed = vec![(self.config.node, failure)];
            let shortfall = Shortfall { needed: 1, answered: Vec::new(), failed };
            return self.tell(Asker::Peer(from, id, put.key), Err(PutError::NoCoordinator(shortfall)));
        }
        let identity = Identity { origin: header.origin, boot: header.boot, request: header.request };
        if self.is_first(identity, &put, Asker::Peer(from, id, put.key.clone())) {
            self.start_put(identity, put);
        }
    }

    pub(crate) fn on_forward_reply(&mut self, from: NodeId, id: u64, reply: ForwardReply) {
        let Some(forward) = self.forwards.get_mut(&id) else { return };
        if forward.sent_to != Some(from) {
            return;
        }
        let not_begun = match &reply.outcome {
            Err(PutError::Busy) => Some(Failure::Busy),
            Err(PutError::WriteStopped) => Some(Failure::WriteStopped),
            Err(PutError::Disk) => Some(Failure::Disk),
            Err(PutError::NoCoordinator(_)) => Some(Failure::NotOwner),
            _ => None,
        };
        match not_begun {
            Some(failure) => self.on_not_begun(id, from, failure),
            None => self.conclude_forward(id, reply.outcome),
        }
    }

    /// The owner has certainly not begun: try the next one.
    fn on_not_begun(&mut self, id: u64, node: NodeId, failure: Failure) {
        if let Some(forward) = self.forwards.get_mut(&id) {
            forward.failed.push((node, failure));
            forward.sent_to = None;
            self.forward_to_next(id);
        }
    }

    fn conclude_forward(&mut self, id: u64, outcome: Result<peer::PutDone, PutError>) {
        let Some(forward) = self.forwards.remove(&id) else { return };
        self.timers.cancel(forward.deadline, Timer::Forward(id));
        self.conclude(forward.identity, outcome);
    }

    pub(crate) fn on_forward_deadline(&mut self, id: u64) {
        if let Some(node) = self.forwards.get(&id).and_then(|forward| forward.sent_to) {
            #[cfg(gramme_planted)]
            if gramme_vclock::planted::is(gramme_vclock::planted::Plant::SendAgain) {
                return self.on_not_begun(id, node, Failure::Silent);
            }
            self.stats.forwards_unknown += 1;
            self.conclude_forward(id, Err(PutError::Unknown(node)));
        }
    }

    pub(crate) fn on_forward_undelivered(&mut self, to: NodeId, id: u64, busy: bool) {
        if self.forwards.get(&id).is_some_and(|forward| forward.sent_to == Some(to)) {
            self.on_not_begun(id, to, if busy { Failure::Busy } else { Failure::Down });
        }
    }

    pub(crate) fn on_forward_peer_down(&mut self, node: NodeId) {
        let with_it = self.forwards.iter().filter(|(_, forward)| forward.sent_to == Some(node));
        for id in with_it.map(|(id, _)| *id).collect::<Vec<_>>() {
            #[cfg(gramme_planted)]
            if gramme_vclock::planted::is(gramme_vclock::planted::Plant::SendAgain) {
                self.on_not_begun(id, node, Failure::Silent);
                continue;
            }
            self.stats.forwards_unknown += 1;
            self.conclude_forward(id, Err(PutError::Unknown(node)));
        }
    }
}
