//! Deletes that leave nothing: when what a key has replaced may be forgotten (`docs/causality.md`, Forgetting).
//!
//! A tombstone, and a context, keep what they replaced from coming back. Forgetting them after some time brings deleted
//! values back: some node was away for longer, some message was later. So nothing here goes by the clock, but by proof.
//! Each owner has a seen-set, and refuses what is in it and not live. Once every owner has seen all that a key speaks
//! of, no message and no disk can bring any of it back, and the key may forget it, whole: entry by entry would leave a
//! context that covers too little.
//!
//! So each owner must know what the others have seen, durably; they say so when they compare what they hold
//! (`antientropy/pull.rs`). What is kept here of that is in memory only: it is heard again.
//!
//! Keys with something to forget wait here, so many at most; whoever finds no room is found again when the partition's
//! rows are next gone through. That a key waits a moment before it is looked at saves work where it is soon written
//! anew; it proves nothing.

use std::collections::{BTreeMap, BTreeSet};

use gramme_object::Object;
use gramme_plant::planted;
use gramme_ring::{NodeId, PartitionId};
use gramme_vclock::{Actor, Context, SeenSet};

use crate::place::Place;
use crate::request::Blocked;

/// Keys that wait, of all partitions together.
const WAITING: usize = 16_384;
/// How long a key waits before it is looked at, in microseconds.
const REST: u64 = 3_000_000;

/// After how long a key that still waits may be waiting for dots that nobody will ever see, in microseconds.
const LONG: u64 = 15_000_000;

/// A key with something to forget.
#[derive(Debug)]
struct Waiting {
    context: Context,
    since: u64,
}

#[derive(Debug, Default)]
struct Kept {
    /// The other owners, and what they have seen, as they said last.
    others: BTreeMap<NodeId, Option<SeenSet>>,
    waiting: BTreeMap<Place, Waiting>,
    /// Whether keys may be waiting that there was no room for.
    has_more: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Reclaim {
    partitions: BTreeMap<PartitionId, Kept>,
    /// Partitions of which something has changed since their keys were last looked at.
    changed: BTreeSet<PartitionId>,
    /// The partition that was looked at last: the others come first.
    last: Option<PartitionId>,
    count: usize,
}

impl Reclaim {
    /// The partitions of this node, each with its other owners. What waits in them is not known yet.
    pub(super) fn new(partitions: impl Iterator<Item = (PartitionId, Vec<NodeId>)>) -> Self {
        let kept = |(id, others): (PartitionId, Vec<NodeId>)| {
            let others = others.into_iter().map(|node| (node, None)).collect();
            (id, Kept { others, waiting: BTreeMap::new(), has_more: true })
        };
        let partitions = partitions.map(kept).collect();
        Self { partitions, changed: BTreeSet::new(), last: None, count: 0 }
    }

    /// A partition has these other owners from now on; what they have seen must be heard anew. `None` if it is not this node's
    /// own any more.
    pub(super) fn set_others(&mut self, partition: PartitionId, others: Option<Vec<NodeId>>) {
        let before = self.partitions.remove(&partition);
        let Some(others) = others else {
            self.count -= before.map_or(0, |kept| kept.waiting.len());
            self.changed.remove(&partition);
            return;
        };
        let others = others.into_iter().map(|node| (node, None)).collect();
        let (waiting, has_more) =
            before.map_or((BTreeMap::new(), true), |kept| (kept.waiting, kept.has_more));
        self.partitions.insert(partition, Kept { others, waiting, has_more });
        // Where there is no other owner nobody else has to be heard.
        self.changed.insert(partition);
    }

    /// How many keys wait.
    pub(super) const fn len(&self) -> usize {
        self.count
    }

    /// The partitions in which keys wait, with their other owners.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (PartitionId, Vec<NodeId>)> {
        let waiting = self.partitions.iter().filter(|(_, kept)| !kept.waiting.is_empty());
        waiting.map(|(id, kept)| (*id, kept.others.keys().copied().collect()))
    }

    /// A key has this state now.
    pub(super) fn note(&mut self, place: &Place, object: &Object, now: u64) {
        let Some(kept) = self.partitions.get_mut(&place.partition) else { return };
        if !has_something_to_forget(object, kept.others.len()) {
            if !kept.waiting.is_empty() {
                self.count -= usize::from(kept.waiting.remove(place).is_some());
            }
            return;
        }
        let waiting = Waiting { context: object.context().clone(), since: now };
        if let Some(before) = kept.waiting.get_mut(place) {
            *before = waiting;
        } else if self.count < WAITING {
            kept.waiting.insert(place.clone(), waiting);
            self.count += 1;
        } else {
            kept.has_more = true;
        }
        self.changed.insert(place.partition);
    }

    /// A key is found on the disk in this state. It may have changed since.
    pub(super) fn note_found(&mut self, place: &Place, object: &Object, now: u64) {
        let kept = self.partitions.get(&place.partition);
        let Some(kept) = kept.filter(|kept| !kept.waiting.contains_key(place)) else { return };
        if has_something_to_forget(object, kept.others.len()) {
            self.note(place, object, now);
        }
    }

    /// The partitions whose rows must be gone through, if there is room for what is found there.
    pub(super) fn take_unknown(&mut self) -> BTreeSet<PartitionId> {
        if self.count > WAITING / 2 {
            return BTreeSet::new();
        }
        let unknown = self.partitions.iter_mut().filter(|(_, kept)| kept.has_more);
        unknown
            .map(|(id, kept)| {
                kept.has_more = false;
                *id
            })
            .collect()
    }

    /// Another owner says what it has seen.
    pub(super) fn learn(&mut self, partition: PartitionId, node: NodeId, seen: SeenSet) {
        let theirs = self.partitions.get_mut(&partition).and_then(|kept| kept.others.get_mut(&node));
        if let Some(theirs) = theirs {
            *theirs = Some(seen);
            self.changed.insert(partition);
        }
    }

    /// Whether every owner has seen all that a context speaks of; `ours` is what this one has.
    pub(super) fn is_in_floor(&self, partition: PartitionId, ours: &SeenSet, context: &Context) -> bool {
        self.partitions.get(&partition).is_some_and(|kept| kept.is_in_floor(ours, context))
    }

    /// The owners that have not seen all that a key speaks of, if it has something to forget.
    pub(super) fn blocked(
        &self,
        place: &Place,
        object: &Object,
        us: (NodeId, &SeenSet),
    ) -> Option<Vec<Blocked>> {
        let kept = self.partitions.get(&place.partition)?;
        if !has_something_to_forget(object, kept.others.len()) {
            return None;
        }
        let lacks = |seen: &SeenSet| !seen.includes_context(object.context());
        let others = kept.others.iter().filter_map(|(&node, seen)| match seen {
            None => Some(Blocked { node, lacks: false }),
            Some(seen) => lacks(seen).then_some(Blocked { node, lacks: true }),
        });
        let ours = lacks(us.1).then_some(Blocked { node: us.0, lacks: true });
        Some(ours.into_iter().chain(others).collect())
    }

    /// More may be forgotten in a partition than before.
    pub(super) fn note_change(&mut self, partition: PartitionId) {
        self.changed.insert(partition);
    }

    /// The actors of dots that some owner has not seen, though all have said what they have, and that keys speak of
    /// which have waited for long.
    pub(super) fn obstructing(&self, partition: PartitionId, ours: &SeenSet, now: u64) -> BTreeSet<Actor> {
        let Some(kept) = self.partitions.get(&partition) else { return BTreeSet::new() };
        let Some(others) = kept.others.values().map(Option::as_ref).collect::<Option<Vec<_>>>() else {
            return BTreeSet::new();
        };
        let long = kept.waiting.values().filter(|waiting| waiting.since + LONG <= now);
        let is_missing = |actor: &Actor, context: &Context| {
            let of_actor = context.of_actor(*actor);
            !ours.includes_context(&of_actor) || others.iter().any(|seen| !seen.includes_context(&of_actor))
        };
        long.flat_map(|waiting| {
            let mut actors: BTreeSet<Actor> = waiting.context.actors().collect();
            actors.retain(|actor| is_missing(actor, &waiting.context));
            actors
        })
        .collect()
    }

    /// Partitions whose keys are to be looked at, with about so many of them together, one after the other in turns.
    /// Those in which some still rest are to be looked at again.
    pub(super) fn take_changed(&mut self, keys: usize) -> Vec<PartitionId> {
        let after = |id: &&PartitionId| self.last.is_none_or(|last| **id > last);
        let (later, earlier): (Vec<_>, Vec<_>) = self.changed.iter().partition(after);
        let mut sum = 0;
        let waiting = |id: &PartitionId| self.partitions.get(id).map_or(0, |kept| kept.waiting.len());
        let few = later.into_iter().chain(earlier).copied().take_while(|id| {
            let before = sum;
            sum += waiting(id);
            before < keys
        });
        let few: Vec<_> = few.collect();
        self.changed.retain(|id| !few.contains(id));
        self.last = few.last().copied().or(self.last);
        few
    }

    /// Takes at most so many keys of a partition whose time has come, and that may forget.
    pub(super) fn take_ready(
        &mut self,
        partition: PartitionId,
        ours: &SeenSet,
        now: u64,
        most: usize,
    ) -> Vec<Place> {
        let Some(kept) = self.partitions.get_mut(&partition) else { return Vec::new() };
        let has_rested = |waiting: &Waiting| waiting.since + REST <= now;
        let is_ready = |waiting: &Waiting| {
            has_rested(waiting) && (kept.is_in_floor(ours, &waiting.context) || planted!(ReclaimEarly))
        };
        let ready = kept.waiting.iter().filter(|(_, waiting)| is_ready(waiting));
        let ready: Vec<Place> = ready.map(|(place, _)| place.clone()).take(most).collect();
        for place in &ready {
            kept.waiting.remove(place);
        }
        self.count -= ready.len();
        if ready.len() == most || kept.waiting.values().any(|waiting| !has_rested(waiting)) {
            self.changed.insert(partition);
        }
        ready
    }
}

impl Kept {
    fn is_in_floor(&self, ours: &SeenSet, context: &Context) -> bool {
        let has = |seen: &Option<SeenSet>| seen.as_ref().is_some_and(|seen| seen.includes_context(context));
        ours.includes_context(context) && self.others.values().all(has)
    }
}

/// Whether a key is worth visiting: it has a tombstone, or nothing at all beside its context, or a context longer than
/// its versions and owners make it. Shorter ones do not grow, and would be made anew by the next put.
pub(super) fn has_something_to_forget(object: &Object, others: usize) -> bool {
    let versions = object.versions();
    let is_long = object.context().len() > versions.len() + others + 1;
    let has_tombstone = || versions.values().any(gramme_object::Sibling::is_tombstone);
    if versions.is_empty() { !object.context().is_empty() } else { is_long || has_tombstone() }
}
