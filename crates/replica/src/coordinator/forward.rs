//! Puts that this node hands to an owner, because it is none itself or cannot take it.
//!
//! A put must be handed on until an owner takes it, and never to two of them. So it goes to the next owner
//! only where it is certain that the last one has not begun: it did not leave, or the owner said so. Once it
//! has left and no answer comes, its outcome is unknown, and the client is told exactly that.

use gramme_gossip::Opinion;
use gramme_quorum::{Failure, PutError, Seat, Shortfall};
use gramme_ring::NodeId;
use gramme_wire::PeerMessage;
use gramme_wire::peer::{self, Class, ForwardReply};

use super::duplicates::Identity;
use super::put::Asker;
use super::{Around, Coordinator};
use crate::cx::Cx;
use crate::node::Node;
use crate::place::Place;
use crate::serve::request_header;
use crate::shard::Uncounted;
use crate::timers::Timer;

/// A put on its way through an owner.
#[derive(Debug)]
pub(super) struct Forward {
    place: Place,
    identity: Identity,
    put: peer::Put,
    /// Owners not yet tried, the next one last.
    candidates: Vec<NodeId>,
    failed: Vec<(NodeId, Failure)>,
    /// Who has it now.
    sent_to: Option<NodeId>,
    deadline: u64,
}

/// Whether fallbacks may stand in for a put's owners.
fn is_sloppy(node: &Node, put: &peer::Put) -> bool {
    // A bucket type that is not known is refused by whoever coordinates.
    let by_bucket = || node.properties(&put.key).is_some_and(|properties| properties.sloppy);
    put.sloppy.unwrap_or_else(by_bucket)
}

impl Coordinator {
    pub(super) fn start_forward(
        &mut self,
        around: &mut Around<'_>,
        identity: Identity,
        place: Place,
        put: peer::Put,
    ) {
        let Around { cx, node, shard } = around;
        if self.is_overloaded(cx) {
            cx.stats.busy += 1;
            return self.conclude(cx, identity, Err(PutError::Busy));
        }
        cx.stats.forwards += 1;
        let mut candidates: Vec<NodeId> = node.map.layout().holders_but(place.partition, cx.me()).collect();
        if is_sloppy(node, &put) && !shard.owns(place.partition) {
            // One that is silent may keep it until the time is over; this node can stand in.
            candidates.retain(|&owner| node.peers().state(owner) == Opinion::Alive);
        }
        // Taken from the end: those that answer come first, in the order of the slots.
        candidates.reverse();
        candidates.sort_by_key(|&owner| std::cmp::Reverse(node.peers().state(owner)));
        let (id, deadline) = (cx.next_request(), cx.after(put.timeout));
        let failed = Vec::new();
        let forward = Forward { place, identity, put, candidates, failed, sent_to: None, deadline };
        self.forwards.insert(id, forward);
        cx.timers.set(deadline, Timer::Forward(id));
        self.forward_to_next(around, id);
    }

    fn forward_to_next(&mut self, around: &mut Around<'_>, id: u64) {
        let Some(forward) = self.forwards.get_mut(&id) else { return };
        let Some(owner) = forward.candidates.pop() else {
            if self.may_stand_in(around, id) {
                return self.stand_in(around, id);
            }
            let Some(forward) = self.forwards.get(&id) else { return };
            let is_busy =
                matches!(self.may_coordinate(around, &forward.place, &forward.put), Err(PutError::Busy));
            if is_busy && forward.failed.iter().all(|(_, failure)| *failure == Failure::Busy) {
                around.cx.stats.busy += 1;
                return self.conclude_forward(around.cx, id, Err(PutError::Busy));
            }
            let shortfall = Shortfall { needed: 1, answered: Vec::new(), failed: forward.failed.clone() };
            return self.conclude_forward(around.cx, id, Err(PutError::NoCoordinator(shortfall)));
        };
        let Around { cx, node, .. } = around;
        forward.sent_to = Some(owner);
        let ttl = forward.deadline.saturating_sub(cx.now.monotonic);
        let mut put = forward.put.clone();
        // The owner gives up a tenth before we do, so that its answer still finds us.
        put.timeout = (ttl * 9 / 10_000) as u32;
        let identity = forward.identity;
        let mut header =
            request_header(cx, node, forward.place.partition, identity.request, Class::Foreground);
        (header.origin, header.boot) = (identity.origin, identity.boot);
        cx.send(owner, id, ttl, PeerMessage::Forward(Box::new(peer::Forward { header, put })));
    }

    /// Whether this node may coordinate a put that no owner can take.
    fn may_stand_in(&self, around: &mut Around<'_>, id: u64) -> bool {
        let Some(Forward { place, put, failed, .. }) = self.forwards.get(&id) else { return false };
        let is_gone = failed.iter().all(|(_, failure)| failure.vacates());
        let is_fallback = is_sloppy(around.node, put) && around.is_fallback(place.partition);
        // One that may lack what it has named before names nothing, as with owners.
        let is_whole = around.shard.counts(place.partition) != Err(Uncounted::Amnesiac);
        let hinted = around.node.map.hint_place(place, Seat::default());
        let bytes = put.content.as_ref().map_or(0, |content| content.as_bytes().len() as u64);
        let has_room = hinted.is_some_and(|hinted| around.admit_hint(&hinted, bytes).is_ok());
        is_gone && is_fallback && is_whole && has_room && self.may_write(around, put).is_ok()
    }

    fn stand_in(&mut self, around: &mut Around<'_>, id: u64) {
        let Some(forward) = self.forwards.remove(&id) else { return };
        let Forward { place, identity, mut put, deadline, .. } = forward;
        around.cx.timers.cancel(deadline, Timer::Forward(id));
        put.timeout = (deadline.saturating_sub(around.cx.now.monotonic) / 1_000) as u32;
        self.start_put(around, identity, place, put);
    }

    /// Another node hands a put to us.
    pub(crate) fn on_forward(
        &mut self,
        around: &mut Around<'_>,
        from: NodeId,
        id: u64,
        forward: peer::Forward,
    ) {
        let peer::Forward { header, put } = forward;
        let place = around.node.map.place(put.key.clone());
        let asker = Asker::Peer(from, id);
        let identity = Identity { origin: header.origin, boot: header.boot, request: header.request };
        // First whether it is a copy: a copy must not be told that nothing was begun.
        if !self.is_first(around.cx, identity, &put, asker) {
            return;
        }
        match self.may_coordinate(around, &place, &put) {
            Ok(()) => self.start_put(around, identity, place, put),
            Err(error) => self.conclude(around.cx, identity, Err(error)),
        }
    }

    pub(crate) fn on_forward_reply(
        &mut self,
        around: &mut Around<'_>,
        from: NodeId,
        id: u64,
        reply: ForwardReply,
    ) {
        if self.forwards.get(&id).is_none_or(|forward| forward.sent_to != Some(from)) {
            return;
        }
        let not_begun = match &reply.outcome {
            Err(PutError::Busy) => Some(Failure::Busy),
            Err(PutError::WriteStopped) => Some(Failure::WriteStopped),
            Err(PutError::Disk) => Some(Failure::Disk),
            Err(PutError::Clock) => Some(Failure::Clock),
            Err(PutError::NoCoordinator(shortfall)) => {
                Some(shortfall.failed.first().map_or(Failure::NotOwner, |(_, failure)| *failure))
            }
            _ => None,
        };
        match not_begun {
            Some(failure) => self.on_forward_not_begun(around, id, from, failure),
            None => self.conclude_forward(around.cx, id, reply.outcome),
        }
    }

    /// The owner has certainly not begun: try the next one.
    pub(super) fn on_forward_not_begun(
        &mut self,
        around: &mut Around<'_>,
        id: u64,
        node: NodeId,
        failure: Failure,
    ) {
        if let Some(forward) = self.forwards.get_mut(&id)
            && forward.sent_to == Some(node)
        {
            forward.failed.push((node, failure));
            forward.sent_to = None;
            self.forward_to_next(around, id);
        }
    }

    fn conclude_forward(&mut self, cx: &mut Cx, id: u64, outcome: Result<peer::PutDone, PutError>) {
        if let Some(forward) = self.forwards.remove(&id) {
            cx.timers.cancel(forward.deadline, Timer::Forward(id));
            self.conclude(cx, forward.identity, outcome);
        }
    }

    fn lose_forward(&mut self, cx: &mut Cx, id: u64, node: NodeId) {
        cx.stats.forwards_unknown += 1;
        self.conclude_forward(cx, id, Err(PutError::Unknown(node)));
    }

    pub(crate) fn on_forward_deadline(&mut self, cx: &mut Cx, id: u64) {
        if let Some(node) = self.forwards.get(&id).and_then(|forward| forward.sent_to) {
            self.lose_forward(cx, id, node);
        }
    }

    pub(super) fn on_forward_peer_down(&mut self, around: &mut Around<'_>, node: NodeId) {
        let with_it = self.forwards.iter().filter(|(_, forward)| forward.sent_to == Some(node));
        for id in with_it.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.lose_forward(around.cx, id, node);
        }
    }
}
