//! Which partitions this node has: those that a layout gives it, and those that it gave it before.
//!
//! What becomes this node's own begins empty, with a tenure of its own, and takes writes at once; what others have is taken
//! over by and by. What is its own no more takes nothing, and stays until its owners have all of it. Then it is dropped.
//!
//! Dropping is where data is lost in the end if anything before went wrong, and one way to lose it is subtle. A replica that
//! compares with this one takes over what this one has seen, since it then has everything that is here. If rows went meanwhile
//! it would take for replaced what it never had. So before the first row goes this is another disk, which has seen nothing, and
//! shows nothing to anybody; that is durable before any row goes.

use bytes::Bytes;
use gramme_codec::Codec;
use gramme_plant::planted;
use gramme_ring::{Layout, NodeId, PartitionId};
use gramme_vclock::Actor;
use gramme_wire::peer::Class;

use super::{Fresh, Level, Partition, Ready, Role, Scanner, Shard, Writer};
use crate::cx::Cx;
use crate::io::Change;
use crate::place::Place;

/// The record that this directory has lost data once.
const META_LOST: &[u8] = b"lost";
/// Rows of a dropped partition that are read at once.
const ROWS: usize = 128;

pub(super) fn lost_record() -> Change {
    Change::Meta { name: Bytes::from_static(META_LOST), value: true.to_bytes() }
}

/// Whether this directory has lost data once.
pub(crate) fn has_lost(meta: &std::collections::BTreeMap<Bytes, Bytes>) -> bool {
    meta.contains_key(META_LOST)
}

impl Shard {
    /// A partition that this node may show to others: its own, or one that it has not begun to drop.
    pub(super) fn shown(&self, partition: PartitionId) -> Option<&Partition> {
        self.partitions.get(&partition).filter(|had| had.role() != Role::Dropping || planted!(ShowDropping))
    }

    /// Whether this node has a partition that it may show to others.
    pub(crate) fn shows(&self, partition: PartitionId) -> bool {
        self.shown(partition).is_some()
    }

    /// Partitions whose rows others may be shown.
    pub(crate) fn all_shown(&self) -> impl Iterator<Item = PartitionId> {
        self.partitions.iter().filter(|(_, had)| had.role() != Role::Dropping).map(|(id, _)| *id)
    }

    /// Partitions that are not this node's own any more, and that it has not begun to drop.
    pub(crate) fn left(&self) -> impl Iterator<Item = PartitionId> {
        self.of_role(Role::Former)
    }

    /// Whether it has something of a partition that is not its own any more.
    pub(crate) fn has_left(&self, partition: PartitionId) -> bool {
        self.partitions.get(&partition).is_some_and(|had| !had.is_owned())
    }

    fn of_role(&self, role: Role) -> impl Iterator<Item = PartitionId> {
        self.partitions.iter().filter(move |(_, had)| had.role() == role).map(|(id, _)| *id)
    }

    /// Whether anything is here that is not this node's own, or goes.
    pub(crate) fn has_foreign(&self) -> bool {
        self.partitions.values().any(|had| !had.is_owned()) || !self.hints.backlogs().is_empty()
    }

    /// Whether this directory has ever lost data.
    pub(crate) const fn has_ever_lost(&self) -> bool {
        self.has_lost
    }

    /// A later layout is in force: takes the partitions that it gives to this node, and leaves those that it does not. All of it
    /// is one batch, with the layout's own `row`: what follows stands behind it in the log.
    pub(crate) fn take_layout(&mut self, cx: &mut Cx, layout: &Layout, changed: &[PartitionId], row: Change) {
        let me = cx.me();
        changed.iter().for_each(|partition| self.hints.forget_actor(*partition));
        let mut rows = vec![row];
        for partition in layout.partitions() {
            let is_owned = layout.is_holder(partition, me);
            match self.partitions.get_mut(&partition) {
                Some(had) if is_owned && had.role() != Role::Dropping => {
                    rows.extend(had.become_role(Role::Owner).then(|| had.record()));
                }
                Some(had) if !is_owned && had.is_owned() => {
                    had.become_role(Role::Former);
                    rows.push(had.record());
                }
                None if is_owned => rows.push(self.begin(cx, partition)),
                _ => {}
            }
            if let Some(owned) = self.owned_mut(partition) {
                owned.forget_others(|node| layout.is_holder(partition, node));
                let others: Vec<NodeId> = layout.holders_but(partition, me).collect();
                self.reclaim.set_others(partition, Some(others));
            } else {
                self.reclaim.set_others(partition, None);
            }
        }
        self.commit_and_tell(cx, rows, Level::Synced, Writer::Layout(layout.rank()));
        self.count_uncounted(cx);
    }

    /// Begins a partition that this node has nothing of; returns what is to be stored.
    fn begin(&mut self, cx: &mut Cx, partition: PartitionId) -> Change {
        // Later than the tenure that it may have had there before, in this start.
        self.born = (self.born + 1).max(cx.boot);
        let fresh = Fresh { actor: Actor(cx.random()), life: cx.random(), born: self.born };
        let mut begun = Partition::new(partition, fresh);
        if self.has_lost {
            // It may have been here, and have acknowledged what is nowhere else.
            begun.doubt();
        }
        let row = begun.record();
        self.partitions.insert(partition, begun);
        row
    }

    /// The owners have all that is here of a partition: it goes.
    pub(crate) fn begin_dropping(&mut self, cx: &mut Cx, partition: PartitionId) {
        let life = cx.random();
        if let Some(had) = self.partitions.get_mut(&partition).filter(|had| had.role() == Role::Former) {
            let row = had.begin_dropping(life);
            self.commits.commit(cx, vec![row], Level::Synced, Class::Background);
        }
    }

    /// A partition whose rows are to go.
    pub(crate) fn next_to_drop(&self) -> Option<PartitionId> {
        self.of_role(Role::Dropping).next()
    }

    /// Reads the first rows of a partition that is dropped, once all that was staged of it is written: what was on its way
    /// when it was left, and the removal of those that were read before.
    pub(crate) fn scan_dropped(&mut self, cx: &mut Cx, partition: PartitionId) {
        let (first, last) = crate::antientropy::range_of(partition);
        self.scan_range(cx, (partition, first, last), ROWS, Scanner::Dropping(partition));
    }

    /// Lets a row go of a partition that is dropped.
    pub(crate) fn drop_row(&mut self, cx: &mut Cx, place: &Place) {
        self.with(cx, place, super::Operation::Drop);
    }

    pub(super) fn drop_ready(&mut self, cx: &mut Cx, place: &Place) {
        if let Some(old) = self.overlay.ready(place).cloned() {
            self.drop_state(cx, place, &old);
        }
    }

    /// A row that cannot be read: what it has in its leaf is not known, and goes with the last one.
    pub(super) fn drop_unread(&mut self, cx: &mut Cx, place: &Place) {
        self.commits.commit(
            cx,
            vec![Change::Removed { place: place.clone() }],
            Level::Written,
            Class::Background,
        );
    }

    fn drop_state(&mut self, cx: &mut Cx, place: &Place, old: &Ready) {
        let is_dropped =
            self.partitions.get(&place.partition).is_some_and(|had| had.role() == Role::Dropping);
        if !is_dropped || old.stored.is_empty() {
            return;
        }
        let before = (Some(old.digest(&place.key)), old.stored.len() as u64);
        let mut with = Vec::new();
        self.replace(cx, place, before, (None, 0), (Vec::new(), &mut with));
        self.remove(cx, place, old, with);
    }

    /// All rows of a partition are gone: so is the partition. If a layout has given it back meanwhile it begins anew.
    pub(crate) fn end_dropping(&mut self, cx: &mut Cx, layout: &Layout, partition: PartitionId) {
        let Some(had) = self.partitions.remove(&partition) else { return };
        cx.stats.keys = cx.stats.keys.saturating_sub(had.total().count);
        cx.stats.bytes = cx.stats.bytes.saturating_sub(had.bytes());
        cx.stats.partitions_dropped += 1;
        let mut rows = had.emptied();
        if layout.is_holder(partition, cx.me()) {
            rows.push(self.begin(cx, partition));
            let others = layout.holders_but(partition, cx.me()).collect();
            self.reclaim.set_others(partition, Some(others));
        }
        self.commits.commit(cx, rows, Level::Synced, Class::Background);
        self.count_uncounted(cx);
    }
}
