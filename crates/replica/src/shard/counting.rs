//! Which partitions count towards R and W, and what changes that: a start, a proof, a loss, and the end of amnesia.

use gramme_merkle::Leaf;
use gramme_plant::planted;
use gramme_quorum::Tenure;
use gramme_ring::PartitionId;
use gramme_vclock::Actor;
use gramme_wire::peer::Class;

use super::{Fresh, Level, Lost, Partition, Role, Shard, Uncounted};
use crate::cx::Cx;
use crate::io::Change;
use crate::place::Place;

impl Shard {
    /// Whether this node's copy of a partition counts towards R and W. What it keeps as a fallback counts if all
    /// that is its own does: a disk that may have lost the one may have lost the other.
    pub(crate) fn counts(&self, partition: PartitionId) -> Result<(), Uncounted> {
        let own = self.owned(partition).map(Partition::counts);
        let counts = own.unwrap_or_else(|| self.uncounted.map_or(Ok(()), Err));
        if planted!(CountAmnesiac) { Ok(()) } else { counts }
    }

    /// Whether all partitions count.
    pub(crate) const fn all_count(&self) -> bool {
        self.uncounted.is_none()
    }

    /// The partitions that do not count, if they are so few; none otherwise.
    pub(crate) fn uncounted(&self, few: usize) -> Vec<PartitionId> {
        let uncounted = self.partitions.iter().filter(|(_, had)| had.is_owned() && had.counts().is_err());
        let some: Vec<_> = uncounted.map(|(id, _)| *id).take(few + 1).collect();
        if some.len() > few { Vec::new() } else { some }
    }

    pub(crate) fn all_proven(&self) -> bool {
        self.partitions.values().filter(|had| had.is_owned()).all(Partition::is_proven)
    }

    /// The partitions that may lack what they acknowledged.
    pub(crate) fn amnesiac(&self) -> impl Iterator<Item = PartitionId> {
        let amnesiac = self.partitions.iter().filter(|(_, had)| had.is_owned() && had.is_amnesiac());
        amnesiac.map(|(id, _)| *id)
    }

    /// Keys that this node has of a partition.
    pub(crate) fn keys_of(&self, partition: PartitionId) -> u64 {
        self.owned(partition).map_or(0, |owned| owned.total().count)
    }

    /// Data was lost: no partition counts for anything any more.
    pub(crate) fn lose(&mut self, cx: &mut Cx, lost: Lost) {
        cx.stats.losses += 1;
        cx.boot = cx.boot.max(lost.born_after.saturating_add(1));
        // Memory may have been put back with the disk: what it would name next may be named already.
        self.hints.lose();
        self.tenure = Tenure { actor: Some(Actor(cx.random())), born: cx.boot };
        self.has_lost = true;
        let mut rows = vec![lost.record, crate::node::boot_record(cx.boot), super::holding::lost_record()];
        for owned in self.partitions.values_mut() {
            owned.lose(Fresh { actor: Actor(cx.random()), life: cx.random(), born: cx.boot });
            rows.push(owned.record());
        }
        self.commits.commit(cx, rows, Level::Synced, Class::Foreground);
        self.count_uncounted(cx);
    }

    /// Whether one of these rows is being read.
    pub(crate) fn is_loading(&self, places: &[Place]) -> bool {
        places.iter().any(|place| self.overlay.is_loading(place))
    }

    /// Rows of a leaf are damaged, and those that can be read add up to `readable`. What is whole in memory is written
    /// anew; if anything else is lost, the partition has lost data, and this says so.
    pub(crate) fn lose_rows(
        &mut self,
        cx: &mut Cx,
        (partition, leaf, mut readable): (PartitionId, u32, Leaf),
        damaged: &[Place],
    ) -> bool {
        let (actor, life) = (Actor(cx.random()), cx.random());
        let (mut rows, mut lost) = (Vec::new(), 0);
        for place in damaged {
            match self.in_memory(place) {
                Some((digest, object)) => {
                    readable.replace(None, Some(digest));
                    rows.push(Change::Object { place: place.clone(), digest, object });
                }
                None => {
                    lost += 1;
                    rows.push(Change::Removed { place: place.clone() });
                }
            }
        }
        let Some(owned) = self.partitions.get_mut(&partition).filter(|had| had.role() != Role::Dropping)
        else {
            return false;
        };
        if lost > 0 {
            cx.stats.losses += 1;
            cx.stats.keys -= owned.leaf(leaf).count.saturating_sub(readable.count);
            rows.extend(owned.lose_rows(Fresh { actor, life, born: cx.boot }, leaf, readable));
            cx.stats.rows_lost += lost;
        }
        self.commits.commit(cx, rows, Level::Synced, Class::Foreground);
        self.count_uncounted(cx);
        lost > 0
    }

    /// Lets amnesiac partitions count again. What was merged before stands before this in the log.
    pub(crate) fn remember(&mut self, cx: &mut Cx, partitions: &[PartitionId]) {
        let rows: Vec<Change> =
            partitions.iter().filter_map(|id| Some(self.owned_mut(*id)?.remember())).collect();
        self.commits.commit(cx, rows, Level::Synced, Class::Foreground);
        self.count_uncounted(cx);
    }

    /// Lets those partitions count of which `is_proven` says so.
    pub(crate) fn prove(&mut self, cx: &mut Cx, is_proven: impl Fn(PartitionId) -> bool) {
        for (id, owned) in self.partitions.iter_mut().filter(|(_, had)| had.is_owned() && !had.is_proven()) {
            if is_proven(*id) {
                owned.prove();
            }
        }
        self.count_uncounted(cx);
    }

    /// The first batch of a start: every partition's new tenure, and what else a start stores.
    pub(crate) fn store_start(&mut self, cx: &mut Cx, mut rows: Vec<Change>) {
        rows.extend(self.partitions.values_mut().map(Partition::record));
        self.commits.commit(cx, rows, Level::Synced, Class::Foreground);
        cx.stats.keys = self.partitions.values().map(|owned| owned.total().count).sum();
        cx.stats.bytes = self.partitions.values().map(Partition::bytes).sum();
        self.count_uncounted(cx);
    }

    pub(super) fn count_uncounted(&mut self, cx: &mut Cx) {
        let owned = || self.partitions.values().filter(|had| had.is_owned());
        self.uncounted = owned().find_map(|owned| owned.counts().err());
        let count = |of: fn(&Partition) -> bool| owned().filter(|owned| of(owned)).count() as u64;
        cx.stats.amnesiac_partitions = count(Partition::is_amnesiac);
        cx.stats.unproven_partitions = count(|owned| !owned.is_proven());
    }
}
