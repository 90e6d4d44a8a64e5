//! Who stands in for an owner that cannot be reached (sections 4.5 and 4.6 of the paper).
//!
//! A request goes to the first N *healthy* nodes of the preference list. An owner that is silent is asked all the
//! same, beside whoever stands in for it: silence proves nothing. One that cannot take a request is stood in for at
//! once. One that has too much to do is not: its work would become another's, and then another's.

use gramme_gossip::Opinion;
use gramme_quorum::Seat;
use gramme_ring::{NodeId, PartitionId};

use super::Around;
use crate::node::Node;

/// A request that counts seats.
pub(super) trait Seated {
    fn seat_of(&self, node: NodeId) -> Option<Seat>;
    /// Says whether it may.
    fn substitute(&mut self, seat: Seat, node: NodeId) -> bool;
}

impl Seated for gramme_quorum::PutRequest {
    fn seat_of(&self, node: NodeId) -> Option<Seat> {
        self.seat_of(node)
    }

    fn substitute(&mut self, seat: Seat, node: NodeId) -> bool {
        self.substitute(seat, node)
    }
}

impl Seated for gramme_quorum::GetRequest {
    fn seat_of(&self, node: NodeId) -> Option<Seat> {
        self.seat_of(node)
    }

    fn substitute(&mut self, seat: Seat, node: NodeId) -> bool {
        self.substitute(seat, node)
    }
}

/// How many nodes may stand in for one request: twice as many as there are owners. More would not help where disks are
/// full everywhere, and each would be sent the write.
pub(super) fn fallbacks(node: &mut Node, partition: PartitionId) -> u8 {
    let most = 2 * usize::from(node.map.replicas());
    // At most 32 are looked at.
    node.map.fallbacks(partition).len().min(most) as u8
}

/// Puts the next node that can be reached on a seat; nothing if there is none.
pub(super) fn stand_in(
    around: &mut Around<'_>,
    partition: PartitionId,
    request: &mut impl Seated,
    seat: Seat,
) -> Option<NodeId> {
    let Around { cx, node, .. } = around;
    let fallbacks = node.map.fallbacks(partition);
    let is_healthy = |id: NodeId| id == cx.me() || node.peers().state(id) == Opinion::Alive;
    let next = fallbacks.iter().copied().find(|&id| is_healthy(id) && request.seat_of(id).is_none())?;
    request.substitute(seat, next).then_some(next)
}

/// Has others stand in for the owners that do not answer lately, but for the one whose seat is `taken`.
pub(super) fn stand_in_for_silent(
    around: &mut Around<'_>,
    partition: PartitionId,
    request: &mut impl Seated,
    taken: Option<Seat>,
) {
    let me = around.cx.me();
    let node = &around.node;
    let owners = node.map.holders(partition).filter(|&owner| owner != me);
    let silent: Vec<_> = owners.filter(|&owner| node.peers().state(owner) != Opinion::Alive).collect();
    for owner in silent {
        if let Some(seat) = request.seat_of(owner).filter(|seat| Some(*seat) != taken) {
            stand_in(around, partition, request, seat);
        }
    }
}
