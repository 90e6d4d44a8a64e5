//! The dotted version vector set: the live versions of one key, and everything that was ever merged into it.

use alloc::vec::Vec;

use crate::{Context, Dot};

/// The siblings of one key with their dots, under one context.
///
/// Invariants: live dots are sorted and distinct, and the context covers each of them. A set may have a
/// context and no sibling at all.
///
/// `merge` is commutative, associative and idempotent, so replicas that have merged the same writes in any
/// order, any number of times, are equal. One dot must always name one value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VersionSet<V> {
    context: Context,
    live: Vec<(Dot, V)>,
}

impl<V> Default for VersionSet<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V> VersionSet<V> {
    /// The set of a key that nobody has written.
    #[must_use]
    pub const fn new() -> Self {
        Self { context: Context::new(), live: Vec::new() }
    }

    /// Rebuilds a set from its parts, as a decoder does. Live dots are added to the context.
    #[must_use]
    pub fn from_parts(mut context: Context, mut live: Vec<(Dot, V)>) -> Self {
        live.sort_by_key(|(dot, _)| *dot);
        live.dedup_by_key(|(dot, _)| *dot);
        for (dot, _) in &live {
            context.insert(*dot);
        }
        Self { context, live }
    }

    /// Everything that was ever merged into this set. A reader of the whole set may write with it.
    #[must_use]
    pub const fn context(&self) -> &Context {
        &self.context
    }

    /// The live versions, by dot.
    #[must_use]
    pub fn versions(&self) -> &[(Dot, V)] {
        &self.live
    }

    /// The live values, by dot.
    pub fn values(&self) -> impl ExactSizeIterator<Item = &V> {
        self.live.iter().map(|(_, value)| value)
    }

    /// The live dots, sorted.
    pub fn dots(&self) -> impl ExactSizeIterator<Item = Dot> + '_ {
        self.live.iter().map(|(dot, _)| *dot)
    }

    /// Whether `dot` is one of the live versions.
    #[must_use]
    pub fn is_live(&self, dot: Dot) -> bool {
        self.live.binary_search_by_key(&dot, |(dot, _)| *dot).is_ok()
    }

    /// How many live versions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// Whether there is no live version (there may be a context all the same).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// How many versions would be live after a put with `read`: those that it does not replace, and its own.
    #[must_use]
    pub fn len_after_put(&self, read: &Context) -> usize {
        1 + self.dots().filter(|&dot| !read.covers(dot)).count()
    }

    /// Writes `value` as `dot`, replacing what `read` covers and nothing else.
    pub fn put(&mut self, read: &Context, dot: Dot, value: V) {
        self.live.retain(|(live, _)| !read.covers(*live));
        if let Err(at) = self.live.binary_search_by_key(&dot, |(dot, _)| *dot) {
            self.live.insert(at, (dot, value));
        }
        self.context.join(read);
        self.context.insert(dot);
    }

    /// Puts another value in the place of a live version's. Every replica must get to the same one.
    pub fn replace(&mut self, dot: Dot, value: V) {
        if let Ok(at) = self.live.binary_search_by_key(&dot, |(dot, _)| *dot) {
            self.live[at].1 = value;
        }
    }

    /// Raises the context's entry for `dot`'s actor to `dot`. Keeps contexts as short as there are writers.
    ///
    /// Only the actor itself may decide this, for a state that it sends to replicas, never for a context that
    /// it gives to a client: only the actor knows which dots of its own up to here are of this key. Whoever
    /// merges the raised state drops those of them that are not live in it. So each must have been replaced by
    /// what is live in this state or covered by its context, in every state that the actor could fall back to:
    /// not by a write that the actor alone has heard of.
    pub fn raise_own_entry(&mut self, dot: Dot) {
        self.context.raise(dot.actor, dot.counter);
    }

    /// Drops the live versions that `keep` refuses. The context still covers them.
    pub fn retain(&mut self, mut keep: impl FnMut(Dot, &V) -> bool) {
        self.live.retain(|(dot, value)| keep(*dot, value));
    }

    /// Merges all that `other` knows: a version stays if both hold it, or if the side without it never saw it.
    pub fn merge(&mut self, other: &Self)
    where
        V: Clone,
    {
        let kept = |live: &(Dot, V)| other.is_live(live.0) || !other.context.covers(live.0);
        let mut merged: Vec<_> = self.live.iter().filter(|live| kept(live)).cloned().collect();
        let news = |live: &&(Dot, V)| !self.context.covers(live.0);
        merged.extend(other.live.iter().filter(news).cloned());
        merged.sort_by_key(|(dot, _)| *dot);
        self.live = merged;
        self.context.join(&other.context);
    }
}
