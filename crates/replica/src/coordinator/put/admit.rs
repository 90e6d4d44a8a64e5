//! Whether this node may take a put: what it cannot do soon and well is another owner's.

use gramme_quorum::{Failure, PutError, Shortfall};
use gramme_wire::peer::{self, Class};

use super::super::{Around, Coordinator};
use crate::place::Place;
use crate::shard::Uncounted;

/// For how long the disk may owe somebody a batch before no more is begun that waits for it, in microseconds.
const DROWNING: u64 = 1_000_000;

impl Coordinator {
    /// Whether this node may coordinate a put, or why another owner should.
    pub(in crate::coordinator) fn may_coordinate(
        &self,
        around: &Around<'_>,
        place: &Place,
        put: &peer::Put,
    ) -> Result<(), PutError> {
        let Around { cx, shard, .. } = around;
        let other = |failure| {
            let failed = vec![(cx.me(), failure)];
            PutError::NoCoordinator(Shortfall { needed: 1, answered: Vec::new(), failed })
        };
        if !shard.owns(place.partition) {
            return Err(other(Failure::NotOwner));
        }
        if shard.counts(place.partition) == Err(Uncounted::Amnesiac) {
            return Err(other(Failure::Amnesiac));
        }
        self.may_write(around, put)
    }

    /// Whether this node may coordinate a put as far as its disk and its clock go.
    pub(in crate::coordinator) fn may_write(
        &self,
        around: &Around<'_>,
        put: &peer::Put,
    ) -> Result<(), PutError> {
        let Around { cx, node, shard } = around;
        if !shard.has_room_for(put.content.is_some()) {
            return Err(PutError::WriteStopped);
        }
        // What would wait for long is refused at the door: another owner takes it, or the client comes back.
        let is_drowning = cx.owed_since.is_some_and(|since| since + DROWNING <= cx.now.monotonic);
        if is_drowning || shard.is_full(cx, Class::Foreground) {
            return Err(PutError::Busy);
        }
        let properties = node.properties(&put.key);
        let by_clock = properties.is_some_and(|properties| {
            !properties.allow_mult || put.content.is_some() && put.expiry.instant(properties.ttl, 0).is_some()
        });
        // A start that has met nobody cannot know; it counts for nothing anyway.
        if by_clock && (!node.clock.is_compared() || node.clock.is_off(cx.now).is_some()) {
            return Err(PutError::Clock);
        }
        Ok(())
    }
}
