//! Dividing whole slots by weight, within bounds, and near what each has already.
//!
//! A cluster is full when its fullest node is: what counts is the largest number of slots for a weight, not how near each is to
//! its exact share. Shares rounded to the nearest whole number (largest remainders) can miss that, and give one node a slot
//! more and another one less at each change, for nothing. So the smallest largest ratio is found first, slot by slot, and
//! below it each keeps what it has.

use alloc::collections::BinaryHeap;
use alloc::vec::Vec;
use core::cmp::{Ordering, Reverse};

/// One receiver of slots.
#[derive(Clone, Copy)]
pub(crate) struct Share {
    pub(crate) weight: u64,
    pub(crate) least: u64,
    pub(crate) most: u64,
    /// What it has.
    pub(crate) has: u64,
}

/// Slots for a weight, as a fraction.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Ratio {
    slots: u64,
    weight: u64,
}

impl Ord for Ratio {
    fn cmp(&self, other: &Self) -> Ordering {
        let cross = |a: &Self, b: &Self| u128::from(a.slots) * u128::from(b.weight);
        cross(self, other).cmp(&cross(other, self))
    }
}

impl PartialOrd for Ratio {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Divides `total` among `shares` such that the largest ratio of slots to weight is the smallest possible within the bounds,
/// and as near to what each has as that allows. Where the bounds leave no way, the result adds up to less or more than
/// `total`. O(total × log n).
pub(crate) fn apportion(total: u64, shares: &[Share]) -> Vec<u64> {
    let best = add(shares.iter().map(|share| share.least).collect(), shares, total, |share| share.most);
    let ratio = |(slots, share): (&u64, &Share)| Ratio { slots: *slots, weight: share.weight };
    let above_least = best.iter().zip(shares).filter(|(slots, share)| **slots > share.least);
    let Some(largest) = above_least.map(ratio).max() else { return best };
    let limit = |share: &Share| {
        let whole = u128::from(largest.slots) * u128::from(share.weight) / u128::from(largest.weight.max(1));
        // At most `most`, which fits.
        (whole.min(u128::from(share.most)) as u64).max(share.least)
    };
    let kept = shares.iter().map(|share| share.has.clamp(share.least, limit(share))).collect();
    let kept = take_away(kept, shares, total);
    add(kept, shares, total, limit)
}

/// Gives slots one by one where they weigh least, until there are `total`.
fn add(mut slots: Vec<u64>, shares: &[Share], total: u64, most: impl Fn(&Share) -> u64) -> Vec<u64> {
    let next = |at: usize, slots: u64| {
        let is_free = shares[at].weight > 0 && slots < most(&shares[at]);
        is_free.then(|| Reverse((Ratio { slots: slots + 1, weight: shares[at].weight }, at)))
    };
    let mut heap: BinaryHeap<_> =
        slots.iter().enumerate().filter_map(|(at, slots)| next(at, *slots)).collect();
    let missing = total.saturating_sub(slots.iter().sum());
    for _ in 0..missing {
        let Some(Reverse((_, at))) = heap.pop() else { break };
        slots[at] += 1;
        heap.extend(next(at, slots[at]));
    }
    slots
}

/// Takes slots one by one where they weigh most, until there are no more than `total`.
fn take_away(mut slots: Vec<u64>, shares: &[Share], total: u64) -> Vec<u64> {
    let next = |at: usize, slots: u64| {
        let has_some = slots > shares[at].least && shares[at].weight > 0;
        has_some.then(|| (Ratio { slots, weight: shares[at].weight }, at))
    };
    let mut heap: BinaryHeap<_> =
        slots.iter().enumerate().filter_map(|(at, slots)| next(at, *slots)).collect();
    let too_many = slots.iter().sum::<u64>().saturating_sub(total);
    for _ in 0..too_many {
        let Some((_, at)) = heap.pop() else { break };
        slots[at] -= 1;
        heap.extend(next(at, slots[at]));
    }
    slots
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    const fn share(weight: u64, has: u64) -> Share {
        Share { weight, least: 0, most: 100, has }
    }

    #[test]
    fn the_fullest_is_as_empty_as_may_be() {
        // The exact shares are 1.43, 1.43, 7.14: rounded to the nearest the first would have two for its one.
        assert_eq!(apportion(10, &[share(1, 0), share(1, 0), share(5, 0)]), [1, 1, 8]);
        assert_eq!(apportion(3, &[share(0, 0), share(1, 0), share(2, 0)]), [0, 1, 2]);
    }

    #[test]
    fn who_may_keep_what_it_has_does() {
        // One of three is two too many, whoever it is.
        assert_eq!(apportion(7, &[share(1, 2), share(1, 3), share(1, 2)]), [2, 3, 2]);
        // A fourth comes: each gives what is over two.
        assert_eq!(apportion(8, &[share(1, 3), share(1, 3), share(1, 2), share(1, 0)]), [2, 2, 2, 2]);
    }

    #[test]
    fn bounds_hold() {
        let bounded = |least, most| Share { weight: 1, least, most, has: 0 };
        assert_eq!(apportion(9, &[bounded(0, 2), bounded(5, 9), bounded(0, 9)]), [2, 5, 2]);
        assert_eq!(apportion(9, &[bounded(0, 2), bounded(0, 3)]), vec![2, 3]);
        assert_eq!(apportion(1, &[bounded(2, 2), bounded(1, 3)]), vec![2, 1]);
    }
}
