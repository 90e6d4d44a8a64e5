//! The one path of all writes: a state is merged into the newest one that is staged, and committed with what follows
//! from it.
//!
//! A replica write, read repair, a handed-on hint and an exchange end in [`Shard::merge`], a put of this node's own in
//! [`Shard::stage_put`]. What a partition has seen and does not hold any more was replaced: it is refused whoever brings
//! it, and they are told so (`docs/causality.md`, Merging).

use std::sync::Arc;

use bytes::Bytes;
use gramme_object::{Object, limits};
use gramme_plant::planted;
use gramme_vclock::Dot;
use gramme_wire::peer::{Class, Status};

use super::work::Operation;
use super::{Brought, Covered, Level, Ready, Shard, Waiter, Writer, digest_of, done};
use crate::cx::Cx;
use crate::io::Change;
use crate::place::{Place, Space};

impl Shard {
    /// Merges a state into a key, and tells the writer when that is durable to the level.
    pub(crate) fn merge(
        &mut self,
        cx: &mut Cx,
        place: &Place,
        brought: Brought,
        writer: Writer,
        (level, class): (Level, Class),
    ) {
        let brought = Box::new(brought);
        self.with(cx, place, Operation::Merge { brought, writer, level, class });
    }

    /// Stages what a put makes of a key that was loaded in this step; `stored` is the form of `object`. The
    /// same bytes go to the other replicas.
    pub(crate) fn stage_put(
        &mut self,
        cx: &mut Cx,
        place: &Place,
        (object, stored): (Arc<Object>, Bytes),
        put: u64,
        level: Level,
    ) {
        let Some(old) = self.overlay.ready(place).cloned() else {
            debug_assert!(false, "a put is staged on a key that is not loaded");
            return self.tell(Writer::Put(put), Status::DiskError);
        };
        let writer = Writer::Put(put);
        let Some(news) = self.see(place, &object, &writer) else {
            return self.tell(writer, Status::NotOwner);
        };
        let sequence = self.stage(cx, place, &old, (object, stored), news, (level, Class::Foreground));
        self.tell_when_durable((sequence, level), writer, done(level), Covered::default());
    }

    pub(super) fn merge_ready(
        &mut self,
        cx: &mut Cx,
        place: &Place,
        brought: Brought,
        writer: Writer,
        (level, class): (Level, Class),
    ) {
        let Some(old) = self.overlay.ready(place).cloned() else {
            debug_assert!(false, "a state is merged into a key that is not loaded");
            return self.tell(writer, Status::DiskError);
        };
        if let Writer::Peer { dot: Some(dot), .. } = writer
            && self.is_closed(place.partition, dot)
        {
            // Asked here and not before: it may have been closed while the key was loaded.
            return self.tell(writer, Status::Closed);
        }
        let Brought { mut object, stored } = brought;
        let before = object.versions().len();
        // A version that was seen here and is not here any more was replaced: it is refused from any source.
        let owned = self.owned(place.partition).filter(|_| place.space == Space::Data);
        let mut covered = Vec::new();
        object.versions_mut().retain(|dot, _| {
            let is_seen = owned.is_some_and(|owned| owned.has_seen(dot)) && !planted!(TakeOld);
            let is_gone = is_seen || old.object.context().covers(dot);
            let is_refused = is_gone && !old.object.versions().is_live(dot);
            if is_refused {
                covered.push(dot);
            }
            !is_refused
        });
        cx.stats.versions_refused += covered.len() as u64;
        let status = if before > 0 && covered.len() == before { Status::Covered } else { done(level) };
        // Whoever is told that a version was replaced lets it go: what replaced it must not be lost after that.
        let level = if covered.is_empty() { level } else { Level::Synced };
        // A state that includes ours, as the usual overwrite does, is stored as it came; not with values that were purged
        // here.
        let includes_ours = covered.is_empty()
            && object.context().includes(old.object.context())
            && !old.object.siblings().iter().any(|(dot, ours)| object.differs(*dot, ours));
        let merged = (!includes_ours).then(|| {
            let mut merged = (*old.object).clone();
            merged.merge(&object);
            merged
        });
        let is_same = *merged.as_ref().unwrap_or(&object) == *old.object;
        let stored = match &merged {
            _ if is_same => old.stored.clone(),
            Some(merged) => merged.encode().into(),
            None => stored,
        };
        let covered = match covered.is_empty() {
            true => Covered::default(),
            false => Covered { dots: covered, object: stored.clone() },
        };
        if stored.len() as u64 > limits::STORED && stored.len() > old.stored.len() {
            cx.stats.too_large += 1;
            return self.tell(writer, Status::TooLarge);
        }
        let Some(news) = self.see(place, &object, &writer) else {
            return self.tell(writer, Status::NotOwner);
        };
        if is_same && news.is_empty() {
            let sequence = match old.staged {
                Some((sequence, staged)) if staged >= level => sequence,
                _ => self.commits.barrier(cx, level),
            };
            return self.tell_when_durable((sequence, level), writer, status, covered);
        }
        let merged = (Arc::new(merged.unwrap_or(object)), stored);
        let sequence = self.stage(cx, place, &old, merged, news, (level, class));
        self.tell_when_durable((sequence, level), writer, status, covered);
    }

    /// Marks what an object shows as seen; returns what is new of it. Nothing for a partition that is not this
    /// node's own, whose hinted copies are in no seen-set.
    fn see(&mut self, place: &Place, object: &Object, writer: &Writer) -> Option<Vec<Dot>> {
        let from = match writer {
            Writer::Exchange(_, peer) => Some(*peer),
            _ => None,
        };
        match place.space {
            Space::Data => self.owned_mut(place.partition).map(|owned| owned.see(object, from)),
            Space::Hints(_) => Some(Vec::new()),
        }
    }

    /// Commits a key's new object, with its leaf and its partition's note or with what is kept for its target, as
    /// one batch.
    pub(super) fn stage(
        &mut self,
        cx: &mut Cx,
        place: &Place,
        old: &Ready,
        (object, stored): (Arc<Object>, Bytes),
        news: Vec<Dot>,
        (level, class): (Level, Class),
    ) -> u64 {
        let digest = digest_of(&place.key, &object);
        let (old_bytes, new_bytes) = (old.stored.len() as u64, stored.len() as u64);
        let is_new = old.stored.is_empty();
        let old_digest = (!is_new).then(|| old.digest(&place.key));
        let mut changes = Vec::with_capacity(3);
        changes.push(Change::Object { place: place.clone(), digest, object: stored.clone() });
        match place.space {
            Space::Hints(target) => {
                cx.stats.hints_stored += 1;
                let (of, new) = ((target, place.partition), (Some(digest), new_bytes));
                changes.push(self.hints.replace(of, (old_digest, old_bytes), new));
            }
            Space::Data => {
                let (old, new) = ((old_digest, old_bytes), (Some(digest), new_bytes));
                self.replace(cx, place, old, new, (news, &mut changes));
                self.reclaim.note(place, &object, cx.now.monotonic);
                self.expiring.note(place, &object);
            }
        }
        // What is shown must be as durable as the most careful of the batches in it.
        let show = old.staged.map_or(level, |(_, staged)| staged.max(level));
        let sequence = self.commits.commit(cx, changes, show, class);
        let ready = Ready { object, stored, digest: Some(digest), staged: Some((sequence, show)) };
        self.overlay.set(place, ready);
        self.commits.wait(sequence, show, Waiter::Slot(place.clone(), sequence));
        sequence
    }
}
