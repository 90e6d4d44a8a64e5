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
    /// Of each leaf when its first value expires and when it is next looked at, in milliseconds since 1970; the
    /// latter in order.
    leaves: BTreeMap<(PartitionId, u32), (u64, u64)>,
    due: BTreeSet<(u64, PartitionId, u32)>,
}

impl Expiring {
    /// A key has this state, or was found in it.
    pub(super) fn note(&mut self, place: &Place, object: &Object) {
        if let Some(expires) = object.next_expiry() {
            let at = expires.div_ceil(STEP).saturating_mul(STEP);
            let leaf = (place.partition, place.leaf());
            if self.leaves.get(&leaf).is_none_or(|(instant, _)| *instant > at) {
                self.set(leaf, (at, at));
            }
        }
    }

    /// A leaf in which a value expires at `instant` is to be gone through at `at`, not before.
    pub(super) fn later(&mut self, leaf: (PartitionId, u32), instant: u64, at: u64) {
        let before = self.leaves.get(&leaf).map_or(u64::MAX, |(before, _)| *before);
        self.set(leaf, (instant.min(before), at));
    }

    fn set(&mut self, leaf: (PartitionId, u32), (instant, at): (u64, u64)) {
        if let Some((_, before)) = self.leaves.insert(leaf, (instant, at)) {
            self.due.remove(&(before, leaf.0, leaf.1));
        }
        self.due.insert((at, leaf.0, leaf.1));
    }

    /// Takes a leaf whose time has come, with the first instant in it.
    pub(super) fn take_due(&mut self, millis: u64) -> Option<((PartitionId, u32), u64)> {
        let &(at, partition, leaf) = self.due.first().filter(|(at, ..)| *at <= millis)?;
        self.due.remove(&(at, partition, leaf));
        let (instant, _) = self.leaves.remove(&(partition, leaf))?;
        Some(((partition, leaf), instant))
    }
}
