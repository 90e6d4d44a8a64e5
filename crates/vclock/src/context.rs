//! What its holder has read.

use alloc::vec::Vec;

use gramme_plant::planted;

use crate::{Actor, Dot, VersionVector};

/// A causal context: a version vector, and the dots outside it.
///
/// A reader gets it with the versions it covers and sends it back with the write that replaces them. The
/// outside dots are exact. A vector entry is not: it speaks of the dots of *this key* up to its counter,
/// whichever those are.
///
/// ```
/// use gramme_vclock::{Actor, Context, Dot};
/// let mut context = Context::new();
/// context.insert(Dot::new(Actor(1), 1));
/// context.insert(Dot::new(Actor(1), 2));
/// // 1 and 2 are neighbours, but the gap is not closed: each stays an exact dot.
/// assert_eq!((context.vector().len(), context.outside().len()), (0, 2));
/// context.raise(Actor(1), 2);
/// assert_eq!((context.vector().len(), context.outside().len()), (1, 0));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Context {
    vector: VersionVector,
    /// Sorted; none is covered by `vector`.
    outside: Vec<Dot>,
}

impl Context {
    /// The context of someone who has read nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { vector: VersionVector::new(), outside: Vec::new() }
    }

    /// The parts as they are stored: `outside` sorted, without what `vector` covers.
    pub(crate) const fn from_parts(vector: VersionVector, outside: Vec<Dot>) -> Self {
        Self { vector, outside }
    }

    /// Whether the holder has read `dot`, or something that replaced it.
    #[must_use]
    pub fn covers(&self, dot: Dot) -> bool {
        self.vector.covers(dot) || self.outside.binary_search(&dot).is_ok()
    }

    /// Whether everything that `other` covers is covered here too.
    ///
    /// An entry of `other`'s vector counts as covered only by an entry of ours: dots, however many, do not
    /// add up to a prefix.
    #[must_use]
    pub fn includes(&self, other: &Self) -> bool {
        self.vector.descends(&other.vector) && other.outside.iter().all(|&dot| self.covers(dot))
    }

    /// What of another is covered here too: its entries by entries of ours, its dots by anything.
    #[must_use]
    pub fn part_of(&self, other: &Self) -> Self {
        let mut part: Self = other.outside.iter().copied().filter(|&dot| self.covers(dot)).collect();
        let entries = other.vector.iter().filter(|&(actor, counter)| self.vector.get(actor) >= counter);
        entries.for_each(|(actor, counter)| part.raise(actor, counter));
        part
    }

    /// Adds one dot, exactly. Closes no gap.
    pub fn insert(&mut self, dot: Dot) {
        if planted!(RaiseToDot) {
            return self.raise(dot.actor, dot.counter);
        }
        if self.vector.covers(dot) {
            return;
        }
        if let Err(at) = self.outside.binary_search(&dot) {
            self.outside.insert(at, dot);
        }
    }

    /// Raises the vector's entry of `actor`, and drops the outside dots that it now covers.
    ///
    /// Sound only where the caller knows every live dot of `actor` on this key up to `counter` to be either
    /// in the state that carries this context or replaced by it.
    pub fn raise(&mut self, actor: Actor, counter: u64) {
        self.vector.raise(actor, counter);
        self.drop_covered();
    }

    /// Adds all that `other` covers. O(n + m).
    pub fn join(&mut self, other: &Self) {
        self.vector.join(&other.vector);
        if !other.outside.is_empty() {
            let ours = core::mem::take(&mut self.outside);
            self.outside = union(&ours, &other.outside);
        }
        self.drop_covered();
    }

    /// Drops the outside dots that `keep` refuses: they are no longer covered.
    pub fn retain_outside(&mut self, mut keep: impl FnMut(Dot) -> bool) {
        self.outside.retain(|&dot| keep(dot));
    }

    /// What it says of one actor.
    #[must_use]
    pub fn of_actor(&self, actor: Actor) -> Self {
        let outside = self.outside.iter().filter(|dot| dot.actor == actor);
        let mut of_actor: Self = outside.copied().collect();
        of_actor.raise(actor, self.vector.get(actor));
        of_actor
    }

    /// The actors that it speaks of; one may come twice.
    pub fn actors(&self) -> impl Iterator<Item = Actor> {
        self.vector.iter().map(|(actor, _)| actor).chain(self.outside.iter().map(|dot| dot.actor))
    }

    /// The inexact part.
    #[must_use]
    pub const fn vector(&self) -> &VersionVector {
        &self.vector
    }

    /// The exact dots that the vector does not cover, sorted.
    #[must_use]
    pub fn outside(&self) -> &[Dot] {
        &self.outside
    }

    /// Vector entries and outside dots together: what the context costs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.vector.len() + self.outside.len()
    }

    /// Whether it covers nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn drop_covered(&mut self) {
        let vector = &self.vector;
        self.outside.retain(|&dot| !vector.covers(dot));
    }
}

/// The dots of two sorted lists, each once, sorted.
fn union(ours: &[Dot], theirs: &[Dot]) -> Vec<Dot> {
    let mut all = Vec::with_capacity(ours.len() + theirs.len());
    let (mut ours, mut theirs) = (ours, theirs);
    while let (Some((a, after_a)), Some((b, after_b))) = (ours.split_first(), theirs.split_first()) {
        all.push(*a.min(b));
        if a <= b {
            ours = after_a;
        }
        if b <= a {
            theirs = after_b;
        }
    }
    all.extend_from_slice(ours);
    all.extend_from_slice(theirs);
    all
}

impl FromIterator<Dot> for Context {
    fn from_iter<I: IntoIterator<Item = Dot>>(dots: I) -> Self {
        let mut context = Self::new();
        for dot in dots {
            context.insert(dot);
        }
        context
    }
}
