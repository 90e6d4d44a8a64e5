//! The highest counter per actor.

use alloc::vec::Vec;
use core::cmp::Ordering;

use crate::{Actor, Dot};

/// For each actor, a counter up to which every one of its dots (of this key) is covered.
///
/// Sorted by actor; look-ups are O(log n), joins O(n + m). An entry is never 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct VersionVector {
    entries: Vec<(Actor, u64)>,
}

impl VersionVector {
    /// The vector that covers nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// Entries that are sorted by actor, each actor once, no counter 0.
    pub(crate) const fn from_sorted(entries: Vec<(Actor, u64)>) -> Self {
        Self { entries }
    }

    /// The counter of `actor`, 0 if it has none.
    #[must_use]
    pub fn get(&self, actor: Actor) -> u64 {
        self.position(actor).map_or(0, |at| self.entries[at].1)
    }

    /// Whether `dot` is at or below its actor's entry.
    #[must_use]
    pub fn covers(&self, dot: Dot) -> bool {
        self.get(dot.actor) >= dot.counter
    }

    /// Raises the entry of `actor` to `counter`, if it is lower.
    pub fn raise(&mut self, actor: Actor, counter: u64) {
        if counter == 0 {
            return;
        }
        match self.position(actor) {
            Ok(at) => self.entries[at].1 = self.entries[at].1.max(counter),
            Err(at) => self.entries.insert(at, (actor, counter)),
        }
    }

    /// Raises every entry to that of `other`, where that is higher.
    pub fn join(&mut self, other: &Self) {
        if other.entries.iter().all(|&(actor, _)| self.position(actor).is_ok()) {
            // Nothing to insert, as almost always.
            return other.entries.iter().for_each(|&(actor, counter)| self.raise(actor, counter));
        }
        let mut joined = Vec::with_capacity(self.entries.len() + other.entries.len());
        let (mut ours, mut theirs) = (self.entries.as_slice(), other.entries.as_slice());
        while let (Some((a, after_a)), Some((b, after_b))) = (ours.split_first(), theirs.split_first()) {
            joined.push(match a.0.cmp(&b.0) {
                Ordering::Less => *a,
                Ordering::Equal => *a.max(b),
                Ordering::Greater => *b,
            });
            if a.0 <= b.0 {
                ours = after_a;
            }
            if b.0 <= a.0 {
                theirs = after_b;
            }
        }
        joined.extend_from_slice(ours);
        joined.extend_from_slice(theirs);
        self.entries = joined;
    }

    /// Whether every entry of `other` is at or below ours.
    ///
    /// This is the paper's test (section 4.4): the version under `other` may be forgotten if so.
    #[must_use]
    pub fn descends(&self, other: &Self) -> bool {
        other.entries.iter().all(|&(actor, counter)| self.get(actor) >= counter)
    }

    /// The entries, by actor.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Actor, u64)> + '_ {
        self.entries.iter().copied()
    }

    /// How many actors have an entry.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no actor has an entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn position(&self, actor: Actor) -> Result<usize, usize> {
        self.entries.binary_search_by_key(&actor, |&(actor, _)| actor)
    }
}

impl FromIterator<(Actor, u64)> for VersionVector {
    fn from_iter<I: IntoIterator<Item = (Actor, u64)>>(entries: I) -> Self {
        let mut vector = Self::new();
        for (actor, counter) in entries {
            vector.raise(actor, counter);
        }
        vector
    }
}
