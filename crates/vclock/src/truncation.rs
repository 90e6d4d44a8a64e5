//! Clock truncation as the paper has it (section 4.4), for comparison. The store never uses it.
//!
//! The paper bounds a clock by dropping its oldest entry, by wall-clock time, once there are more than about
//! ten. It notes that this can make a descendant look concurrent. There is worse: two replicas that truncate
//! at different moments stay unequal for ever, since neither has a reason to give way. Here contexts stay
//! short because a coordinator raises its own entry instead ([`VersionSet::raise_own_entry`]).
//!
//! [`VersionSet::raise_own_entry`]: crate::VersionSet::raise_own_entry

use alloc::vec::Vec;

use crate::{Actor, VersionVector};

/// The paper's threshold ("say 10").
pub const THRESHOLD: usize = 10;

/// One entry of a clock that remembers when its actor last wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamped {
    /// Who wrote.
    pub actor: Actor,
    /// Its counter.
    pub counter: u64,
    /// When it last raised this entry, in milliseconds of its wall clock.
    pub millis: u64,
}

/// Drops the oldest entries of `clock` until at most `threshold` are left, and returns the plain vector.
///
/// ```
/// use gramme_vclock::{truncation::{Stamped, truncate}, Actor};
/// let entry = |actor, millis| Stamped { actor: Actor(actor), counter: 1, millis };
/// let short = truncate(vec![entry(1, 30), entry(2, 10), entry(3, 20)], 2);
/// assert_eq!(short.iter().map(|(actor, _)| actor.0).collect::<Vec<_>>(), [1, 3]);
/// ```
#[must_use]
pub fn truncate(mut clock: Vec<Stamped>, threshold: usize) -> VersionVector {
    clock.sort_by_key(|entry| (entry.millis, entry.actor));
    let excess = clock.len().saturating_sub(threshold);
    clock.into_iter().skip(excess).map(|entry| (entry.actor, entry.counter)).collect()
}
