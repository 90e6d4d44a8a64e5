//! A leaf that is gone through: what came is merged, what the other lacks is sent, and both are waited for.

use bytes::Bytes;
use gramme_object::{Key, Object};
use gramme_ring::{NodeId, PartitionId};
use gramme_wire::peer::{Class, RangeReply};

use crate::coordinator::Around;
use crate::place::Place;
use crate::serve::repair_level;
use crate::shard::{Brought, Writer};

/// A leaf that is gone through.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) peer: NodeId,
    pub(super) partition: PartitionId,
    /// The first place that was not compared yet, and the last one of the leaf.
    pub(super) next: u64,
    pub(super) last: u64,
    /// The rows that are being compared: the other may want some.
    pub(super) rows: Vec<(Place, Bytes)>,
    pub(super) keys: u64,
    pub(super) bytes: u64,
    /// Up to which place all was compared, and how much is still being merged, here or there.
    pub(super) through: u64,
    pub(super) merging: usize,
    /// Whether all that came was taken.
    pub(super) is_whole: bool,
    /// Whether it is just as the last exchange left it.
    pub(super) is_as_before: bool,
}

impl Task {
    /// Merges what this node lacked. Says whether there was room for it.
    pub(super) fn take(&mut self, around: &mut Around<'_>, number: u64, reply: &RangeReply) -> bool {
        self.through = reply.through;
        // What it cannot read it may have acknowledged, and this node lack.
        self.is_whole &= !reply.is_damaged;
        for (key, stored) in &reply.objects {
            if !self.merge(around, number, (key, stored)) {
                return false;
            }
        }
        true
    }

    /// The rows that the other wants. They count as being merged until it has answered.
    pub(super) fn take_wanted(&mut self, reply: &RangeReply) -> Vec<(Place, Bytes)> {
        let rows = std::mem::take(&mut self.rows);
        let wanted = rows.into_iter().filter(|(place, _)| reply.wants.contains(&place.key));
        let wanted: Vec<_> = wanted.collect();
        self.merging += wanted.len();
        self.bytes += wanted.iter().map(|(_, stored)| stored.len() as u64).sum::<u64>();
        wanted
    }

    pub(super) const fn on_merged(&mut self, is_taken: bool) {
        self.merging = self.merging.saturating_sub(1);
        if is_taken {
            self.keys += 1;
        } else {
            // It stays as it is, and stops no other.
            self.is_whole = false;
        }
    }

    pub(super) fn merge(
        &mut self,
        around: &mut Around<'_>,
        number: u64,
        (key, stored): (&Key, &Bytes),
    ) -> bool {
        let place = around.node.map.place(key.clone());
        let decoded = Object::decode(stored).ok().filter(|_| place.partition == self.partition);
        let Some(object) = decoded else {
            self.is_whole = false;
            return true;
        };
        let Around { cx, node, shard } = around;
        if !shard.has_room_for(object.has_value()) || shard.is_full(cx, Class::Background) {
            return false;
        }
        self.merging += 1;
        self.bytes += stored.len() as u64;
        let level = (repair_level(node, key), Class::Background);
        let brought = Brought { object, stored: stored.clone() };
        shard.merge(cx, &place, brought, Writer::Exchange(number, self.peer), level);
        true
    }
}
