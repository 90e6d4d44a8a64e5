//! Where values are that expire.
//!
//! An index of all instants would cost every write a row more. But nobody waits for a value to be purged: readers do not see
//! it any more (`gramme_object::Expiry`). So only this is known, in memory: of each leaf when its next value expires. When
//! that time has come the leaf is gone through. Times are rounded up, so that a leaf in which something expires all
//! the time is gone through once for all of that.

use std::collections::{BTreeMap, BTreeSet};

use gramme_object::Object;
use gramme_ring::PartitionId;

use crate::place::Place;

/// To what times are rounded up, in milliseconds.
pub(crate) const STEP: u64 = 30_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Expiring {
    /// When the first value of a leaf expires, in milliseconds since 1970; the same in the other order.
    leaves: BTreeMap<(PartitionId, u32), u64>,
    due: BTreeSet<(u64, PartitionId, u32)>,
}

impl Expiring {
    /// A key has this state, or was found in it.
    pub(super) fn note(&mut self, place: &Place, object: &Object) {
        if let Some(expires) = object.next_expiry() {
            self.note_leaf((place.partition, place.leaf()), expires.div_ceil(STEP) * STEP);
        }
    }

    /// A leaf is to be gone through at this time, in milliseconds since 1970.
    pub(super) fn note_leaf(&mut self, leaf: (PartitionId, u32), at: u64) {
        let before = self.leaves.get(&leaf).copied();
        if before.is_some_and(|before| before <= at) {
            return;
        }
        if let Some(before) = before {
            self.due.remove(&(before, leaf.0, leaf.1));
        }
        self.leaves.insert(leaf, at);
        self.due.insert((at, leaf.0, leaf.1));
    }

    /// Takes a leaf whose time has come, with that time.
    pub(super) fn take_due(&mut self, millis: u64) -> Option<((PartitionId, u32), u64)> {
        let &(at, partition, leaf) = self.due.first().filter(|(at, ..)| *at <= millis)?;
        self.due.remove(&(at, partition, leaf));
        self.leaves.remove(&(partition, leaf));
        Some(((partition, leaf), at))
    }
}
