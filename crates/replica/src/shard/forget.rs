//! What goes: hinted copies that were handed on, versions that were replaced elsewhere, and what every owner has seen.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use gramme_merkle::Digest;
use gramme_object::Object;
use gramme_plant::planted;
use gramme_ring::{NodeId, PartitionId};
use gramme_vclock::{Dot, SeenSet};
use gramme_wire::peer::{Class, Status};

use super::{Covered, Level, Operation, Ready, Shard, Waiter, Writer, done};
use crate::cx::Cx;
use crate::io::Change;
use crate::place::{Place, Space};
use crate::request::Blocked;

/// Keys that are looked at at once for something to forget.
const AT_ONCE: usize = 1_024;
/// Keys of which it is looked whether they may forget, about.
const LOOKED_AT: usize = 2_048;

impl Shard {
    /// Lets a hinted copy go that was handed on and is durable there, unless it has changed since.
    pub(crate) fn forget_hint(&mut self, cx: &mut Cx, place: &Place, stored: Bytes) {
        self.with(cx, place, Operation::Forget(stored));
    }

    /// A hinted copy was found damaged. Read once more, it is written anew if memory has it, and goes otherwise.
    pub(crate) fn check_hint(&mut self, cx: &mut Cx, place: &Place) {
        self.with(cx, place, Operation::Rewrite);
    }

    pub(super) fn rewrite(&mut self, cx: &mut Cx, place: &Place) {
        if let Some((digest, object)) = self.in_memory(place) {
            let change = Change::Object { place: place.clone(), digest, object };
            self.commits.commit(cx, vec![change], Level::Written, Class::Background);
        }
    }

    pub(super) fn drop_hint(&mut self, cx: &mut Cx, place: &Place) {
        let Space::Hints(target) = place.space else { return };
        if self.overlay.ready(place).is_some() {
            // It went a moment ago: it was found twice.
            return;
        }
        cx.stats.hints_lost += 1;
        let sum = self.hints.drop_damaged(target, place.partition);
        self.remove(cx, place, &Ready::of(Object::new()), vec![sum]);
    }

    /// A row as memory has it, with its digest.
    pub(super) fn in_memory(&self, place: &Place) -> Option<(Digest, Bytes)> {
        let ready = self.overlay.ready(place).filter(|ready| !ready.stored.is_empty())?;
        Some((ready.digest(&place.key), ready.stored.clone()))
    }

    pub(super) fn forget(&mut self, cx: &mut Cx, place: &Place, stored: &Bytes) {
        let (Some(old), Space::Hints(target)) = (self.overlay.ready(place).cloned(), place.space) else {
            return debug_assert!(false, "what is forgotten is a hinted copy, and loaded");
        };
        if old.stored.is_empty() || old.stored != *stored {
            return;
        }
        let of = (target, place.partition);
        let sum = self.hints.replace(of, (Some(old.digest(&place.key)), old.stored.len() as u64), (None, 0));
        self.remove(cx, place, &old, vec![sum]);
    }

    /// Commits that a row is gone, with what goes with that.
    pub(super) fn remove(&mut self, cx: &mut Cx, place: &Place, old: &Ready, with: Vec<Change>) {
        let changes = std::iter::once(Change::Removed { place: place.clone() }).chain(with).collect();
        let level = old.staged.map_or(Level::Written, |(_, staged)| staged);
        let sequence = self.commits.commit(cx, changes, level, Class::Background);
        let (object, stored) = (Arc::new(Object::new()), Bytes::new());
        let ready = Ready { object, stored, digest: None, staged: Some((sequence, level)) };
        self.overlay.set(place, ready);
        self.commits.wait(sequence, level, Waiter::Slot(place.clone(), sequence));
    }

    /// Puts a row of a partition in the place of another: what changes in its tree, its record and the counters.
    pub(super) fn replace(
        &mut self,
        cx: &mut Cx,
        place: &Place,
        old: (Option<Digest>, u64),
        new: (Option<Digest>, u64),
        (news, changes): (Vec<Dot>, &mut Vec<Change>),
    ) {
        let Some(owned) = self.partitions.get_mut(&place.partition) else { return };
        let count =
            |digest: Option<Digest>| u64::from(digest.is_some_and(|digest| digest != Digest::NOTHING));
        cx.stats.keys = cx.stats.keys + count(new.0) - count(old.0);
        cx.stats.bytes = cx.stats.bytes + new.1 - old.1;
        changes.push(owned.replace(place, old, new));
        changes.push(owned.next_entry(news));
    }

    /// Ends versions of a key that another replica has seen replaced, and tells the writer.
    pub(crate) fn bury(&mut self, cx: &mut Cx, place: &Place, dots: Vec<Dot>, writer: Writer) {
        self.with(cx, place, Operation::Bury(dots, writer));
    }

    pub(super) fn bury_ready(&mut self, cx: &mut Cx, place: &Place, dots: &[Dot], writer: Writer) {
        let Some(old) = self.overlay.ready(place).cloned() else {
            debug_assert!(false, "a key is changed that is not loaded");
            return self.tell(writer, Status::DiskError);
        };
        let level = Level::Written;
        if !self.owns(place.partition) {
            return self.tell(writer, Status::NotOwner);
        }
        if !dots.iter().any(|dot| old.object.versions().is_live(*dot)) {
            return self.tell(writer, done(level));
        }
        let object = old.object.versions_of(|dot| !dots.contains(dot));
        cx.stats.versions_buried += (old.object.versions().len() - object.versions().len()) as u64;
        let stored = object.encode().into();
        let state = (Arc::new(object), stored);
        let sequence = self.stage(cx, place, &old, state, Vec::new(), (level, Class::Background));
        self.tell_when_durable((sequence, level), writer, done(level), Covered::default());
    }

    // What every owner has seen, and this node shows of it.

    pub(crate) fn seen(&self, partition: PartitionId) -> Option<(u64, &SeenSet)> {
        self.shown(partition).map(|shown| (shown.life(), shown.seen()))
    }

    /// Remembers from now on what is new in a partition; see [`Self::has_gained`].
    pub(crate) fn watch(&mut self, partition: PartitionId) -> Option<usize> {
        self.owned_mut(partition).map(super::Partition::watch)
    }

    pub(crate) fn unwatch(&mut self, partition: PartitionId) {
        if let Some(owned) = self.partitions.get_mut(&partition) {
            owned.unwatch();
        }
    }

    /// Whether one of `dots` came since then, and not by an exchange with `peer`.
    pub(crate) fn has_gained(
        &self,
        partition: PartitionId,
        since: usize,
        dots: &SeenSet,
        peer: NodeId,
    ) -> bool {
        self.owned(partition).is_none_or(|owned| owned.has_gained(since, dots, peer))
    }

    /// All that another owner had when it had seen this is here now, and it has this synced.
    pub(crate) fn take_seen(&mut self, cx: &mut Cx, partition: PartitionId, peer: NodeId, seen: SeenSet) {
        let Some(owned) = self.owned_mut(partition) else { return };
        if owned.take_seen(&seen) {
            let row = owned.record();
            self.commits.commit(cx, vec![row], Level::Written, Class::Background);
        }
        self.reclaim.learn(partition, peer, seen);
    }

    /// The partitions that have something to forget, with their other owners.
    pub(crate) fn reclaiming(&self) -> impl Iterator<Item = (PartitionId, Vec<NodeId>)> {
        self.reclaim.waiting()
    }

    /// The owners that keep a key from forgetting what was replaced, if it has something to forget and is ours.
    pub(crate) fn blocked(&self, me: NodeId, place: &Place, object: &Object) -> Option<Vec<Blocked>> {
        let owned = self.owned(place.partition)?;
        self.reclaim.blocked(place, object, (me, owned.seen()))
    }

    /// How often a partition has changed, if the disk shows all of that.
    pub(crate) fn changes(&self, partition: PartitionId) -> Option<u64> {
        let owned = self.owned(partition)?;
        self.commits.is_all_written().then(|| owned.changes())
    }

    /// All objects of a partition were read, and have so many bytes.
    pub(crate) fn recount(&mut self, cx: &mut Cx, partition: PartitionId, bytes: u64) {
        let Some(owned) = self.owned_mut(partition) else { return };
        let more = owned.recount(bytes);
        if more != 0 {
            cx.stats.bytes = cx.stats.bytes.saturating_add_signed(more);
            let row = owned.record();
            self.commits.commit(cx, vec![row], Level::Written, Class::Background);
        }
    }

    /// A key is found on the disk, as it is there.
    pub(crate) fn note_found(&mut self, cx: &Cx, place: &Place, object: &Object) {
        self.reclaim.note_found(place, object, cx.now.monotonic);
        self.expiring.note(place, object);
    }

    /// The partitions in which keys may have something to forget that nobody has in mind. They are to be gone through.
    pub(crate) fn take_forgetful(&mut self) -> BTreeSet<PartitionId> {
        self.reclaim.take_unknown()
    }

    /// Has keys looked at that may have something to forget. Called now and then.
    pub(crate) fn reclaim(&mut self, cx: &mut Cx, by_clock: impl Fn(&Place) -> Option<u64>) {
        let mut left = if self.is_full(cx, Class::Background) { 0 } else { AT_ONCE };
        let mut looked_at = Vec::new();
        for partition in self.reclaim.take_changed(LOOKED_AT) {
            let Some(owned) = self.partitions.get(&partition) else { continue };
            let ready = self.reclaim.take_ready(partition, owned.seen(), cx.now.monotonic, left);
            left -= ready.len();
            looked_at.extend(ready);
        }
        for place in looked_at {
            self.with(cx, &place, Operation::Reclaim(by_clock(&place)));
        }
        cx.stats.reclaim_waiting = self.reclaim.len() as u64;
    }

    // What has expired.

    /// A leaf in which a value has expired, and since when.
    pub(crate) fn take_expired(&mut self, millis: u64) -> Option<((PartitionId, u32), u64)> {
        self.expiring.take_due(millis)
    }

    /// A leaf is to be looked at again at this time, in milliseconds since 1970.
    pub(crate) fn expire_later(&mut self, leaf: (PartitionId, u32), instant: u64, at: u64) {
        self.expiring.later(leaf, instant, at);
    }

    /// Drops a key's values that have expired at this time, in milliseconds since 1970.
    pub(crate) fn purge(&mut self, cx: &mut Cx, place: &Place, millis: u64) {
        self.with(cx, place, Operation::Purge(millis));
    }

    pub(super) fn purge_ready(&mut self, cx: &mut Cx, place: &Place, millis: u64) {
        let Some(old) = self.overlay.ready(place).cloned().filter(|_| self.owns(place.partition)) else {
            return;
        };
        let mut object = (*old.object).clone();
        let purged = object.purge(millis);
        if purged > 0 {
            cx.stats.values_purged += purged as u64;
            let stored = object.encode().into();
            let level = (Level::Written, Class::Background);
            self.stage(cx, place, &old, (Arc::new(object), stored), Vec::new(), level);
        }
    }

    pub(super) fn reclaim_ready(&mut self, cx: &mut Cx, place: &Place, by_clock: Option<u64>) {
        let Some(old) = self.overlay.ready(place).cloned() else { return };
        let Some(owned) = self.owned(place.partition) else { return };
        let is_in_floor = self.reclaim.is_in_floor(place.partition, owned.seen(), old.object.context());
        if !is_in_floor && !planted!(ReclaimEarly) {
            return self.reclaim.note(place, &old.object, cx.now.monotonic);
        }
        if by_clock.is_some_and(|millis| old.object.newest_stamp().millis() > millis) {
            // All owners must choose the same last writer, and a stamp that is ahead is not believed by all.
            return self.reclaim.note(place, &old.object, cx.now.monotonic);
        }
        let object = match by_clock {
            Some(millis) => old.object.last_writer(millis).reclaimed(),
            None => old.object.reclaimed(),
        };
        if object == *old.object {
            return;
        }
        cx.stats.reclaimed += 1;
        if !object.is_empty() {
            let stored = object.encode().into();
            let level = (Level::Written, Class::Background);
            self.stage(cx, place, &old, (Arc::new(object), stored), Vec::new(), level);
            return;
        }
        let before = (Some(old.digest(&place.key)), old.stored.len() as u64);
        let mut with = Vec::new();
        self.replace(cx, place, before, (None, 0), (Vec::new(), &mut with));
        self.reclaim.note(place, &object, cx.now.monotonic);
        self.remove(cx, place, &old, with);
    }
}
