//! What a replica has seen, exactly.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::{Actor, Context, Dot};

/// A replica's durable set of dots: for each of them it has merged a state of the dot's key that contains it,
/// or has overwritten it.
///
/// The store refuses a dot that is in here and no longer live: whatever old message, hint or disk brings it
/// back, it was replaced. So the set must be exact. It rises from live dots and outside dots and never from a
/// vector entry, which names dots that nobody has shown us (two puts are enough to lose an acknowledged value
/// with that rule broken).
///
/// Per actor a base (all dots up to it) and the ranges beyond. A replica that misses no message needs 17
/// bytes an actor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenSet {
    actors: BTreeMap<Actor, Seen>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Every dot up to here.
    pub(crate) base: u64,
    /// Inclusive ranges beyond the base: sorted, disjoint, not touching each other or the base.
    pub(crate) ranges: Vec<(u64, u64)>,
    /// The actor is over and all that it wrote has been seen; it takes no more dots.
    pub(crate) finished: bool,
}

impl SeenSet {
    /// The set of a replica that has seen nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { actors: BTreeMap::new() }
    }

    /// Whether `dot` has been seen.
    #[must_use]
    pub fn contains(&self, dot: Dot) -> bool {
        self.actors.get(&dot.actor).is_some_and(|seen| seen.finished || seen.contains(dot.counter))
    }

    /// Adds one dot; says whether it is new.
    pub fn insert(&mut self, dot: Dot) -> bool {
        self.insert_range(dot.actor, dot.counter, dot.counter)
    }

    /// Adds the dots `first..=last` of `actor`; says whether any is new.
    pub fn insert_range(&mut self, actor: Actor, first: u64, last: u64) -> bool {
        if first == 0 || first > last {
            return false;
        }
        self.actors.entry(actor).or_default().insert(first, last)
    }

    /// Marks `actor` as over: all its dots count as seen from now on.
    pub fn finish(&mut self, actor: Actor) {
        let seen = self.actors.entry(actor).or_default();
        seen.finished = true;
        seen.ranges.clear();
    }

    /// Adds all of `other`.
    pub fn join(&mut self, other: &Self) {
        for (&actor, seen) in &other.actors {
            self.insert_range(actor, 1, seen.base);
            for &(first, last) in &seen.ranges {
                self.insert_range(actor, first, last);
            }
            if seen.finished {
                self.finish(actor);
            }
        }
    }

    /// Whether it has all that `other` has.
    #[must_use]
    pub fn includes(&self, other: &Self) -> bool {
        other.actors.iter().all(|(actor, theirs)| {
            let has = |first, last| self.has_range(*actor, first, last);
            let has_all = has(1, theirs.base) && theirs.ranges.iter().all(|&(first, last)| has(first, last));
            has_all && (!theirs.finished || self.actors.get(actor).is_some_and(|ours| ours.finished))
        })
    }

    /// Whether every dot that a context may speak of has been seen. An entry of its vector says only "up to here", so
    /// every dot of that actor up to there must have been.
    ///
    /// ```
    /// use gramme_vclock::{Actor, Context, SeenSet};
    /// let mut context = Context::new();
    /// context.raise(Actor(1), 3);
    /// let mut seen = SeenSet::new();
    /// seen.insert_range(Actor(1), 2, 3);
    /// assert!(!seen.includes_context(&context), "dot 1 may be one of this key's");
    /// seen.insert_range(Actor(1), 1, 1);
    /// assert!(seen.includes_context(&context));
    /// ```
    #[must_use]
    pub fn includes_context(&self, context: &Context) -> bool {
        context.vector().iter().all(|(actor, counter)| self.has_range(actor, 1, counter))
            && context.outside().iter().all(|&dot| self.contains(dot))
    }

    /// What of a context has been seen: its entries up to which every dot was, and its exact dots.
    #[must_use]
    pub fn part_of(&self, context: &Context) -> Context {
        let dots = context.outside().iter().copied().filter(|&dot| self.contains(dot));
        let mut part: Context = dots.collect();
        let entries = context.vector().iter().filter(|&(actor, counter)| self.has_range(actor, 1, counter));
        entries.for_each(|(actor, counter)| part.raise(actor, counter));
        part
    }

    /// Whether an actor is over, and all that it wrote has been seen.
    #[must_use]
    pub fn is_finished(&self, actor: Actor) -> bool {
        self.actors.get(&actor).is_some_and(|seen| seen.finished)
    }

    fn has_range(&self, actor: Actor, first: u64, last: u64) -> bool {
        first > last || self.actors.get(&actor).is_some_and(|seen| seen.finished || seen.has(first, last))
    }

    /// How many actors it knows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.actors.len()
    }

    /// Whether nothing has been seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.actors.is_empty()
    }

    /// How many ranges lie beyond the bases: the gaps that lost messages have left.
    #[must_use]
    pub fn gaps(&self) -> usize {
        self.actors.values().map(|seen| seen.ranges.len()).sum()
    }

    pub(crate) fn actors(&self) -> impl ExactSizeIterator<Item = (&Actor, &Seen)> {
        self.actors.iter()
    }

    pub(crate) fn restore(&mut self, actor: Actor, seen: Seen) {
        self.actors.insert(actor, seen);
    }
}

impl Seen {
    fn contains(&self, counter: u64) -> bool {
        let at = self.ranges.partition_point(|&(_, last)| last < counter);
        counter <= self.base || self.ranges.get(at).is_some_and(|&(first, _)| first <= counter)
    }

    /// Whether all of `first..=last` is in.
    fn has(&self, first: u64, last: u64) -> bool {
        let first = first.max(self.base.saturating_add(1));
        let at = self.ranges.partition_point(|&(_, end)| end < first);
        first > last || self.ranges.get(at).is_some_and(|range| range.0 <= first && last <= range.1)
    }

    fn insert(&mut self, first: u64, last: u64) -> bool {
        let first = first.max(self.base.saturating_add(1));
        if self.finished || first > last {
            return false;
        }
        // The ranges that overlap or touch the new one lie between these two.
        let from = self.ranges.partition_point(|&(_, end)| end.saturating_add(1) < first);
        let to = self.ranges.partition_point(|&(start, _)| start <= last.saturating_add(1));
        if to == from + 1 && self.ranges[from].0 <= first && last <= self.ranges[from].1 {
            return false;
        }
        let start = self.ranges[from..to].first().map_or(first, |range| range.0.min(first));
        let end = self.ranges[from..to].last().map_or(last, |range| range.1.max(last));
        self.ranges.splice(from..to, [(start, end)]);
        if self.ranges[0].0 == self.base.saturating_add(1) {
            self.base = self.ranges.remove(0).1;
        }
        true
    }
}
