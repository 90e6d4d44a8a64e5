//! Tenures that are being closed: known to be nobody's, and written under no more (`docs/causality.md`, Forgetting).
//!
//! An owner keeps them in the partition's record until it has seen all that there is of them. Other members may be
//! asked to keep a late write for an owner, and refuse it; they have a record of their own for that, which stays: a
//! message may be as late as it likes.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use gramme_codec::{Codec, DecodeError};
use gramme_ring::PartitionId;
use gramme_vclock::{Actor, Dot};
use gramme_wire::peer::Class;

use super::{Level, Shard, Writer};
use crate::cx::Cx;
use crate::io::Change;

/// What the names of the records of others' partitions begin with.
const META_PREFIX: &[u8] = b"closed/";
const FORMAT: u8 = 1;
/// Partitions that are looked at at once for what obstructs them.
const SOME: usize = 64;

/// Closed tenures of partitions that are not this node's own.
pub(crate) type Closed = BTreeMap<PartitionId, BTreeSet<Actor>>;

impl Shard {
    /// Those of the actors under which this node writes.
    pub(crate) fn alive(&self, partition: PartitionId, actors: &[Actor]) -> Vec<Actor> {
        let had = self.partitions.get(&partition).and_then(|had| had.tenure().actor);
        let ours = [had, self.hints.actor(partition)];
        actors.iter().copied().filter(|actor| ours.contains(&Some(*actor))).collect()
    }

    /// Records that these tenures are closed, and tells the writer.
    pub(crate) fn close(&mut self, cx: &mut Cx, partition: PartitionId, actors: &[Actor], writer: Writer) {
        let row = match self.partitions.get_mut(&partition).filter(|partition| partition.is_owned()) {
            Some(owned) => owned.close(actors).then(|| owned.record()),
            None => {
                let closed = self.closed.entry(partition).or_default();
                let before = closed.len();
                closed.extend(actors);
                (closed.len() > before).then(|| row(partition, closed))
            }
        };
        self.commit_and_tell(cx, row.into_iter().collect(), Level::Synced, writer);
    }

    /// Whether a write is one of a closed tenure, which nobody has taken before.
    pub(super) fn is_closed(&self, partition: PartitionId, dot: Dot) -> bool {
        match self.owned(partition) {
            Some(owned) => owned.is_closed(dot),
            None => self.closed.get(&partition).is_some_and(|closed| closed.contains(&dot.actor)),
        }
    }

    /// All that there is of these tenures is here.
    pub(crate) fn finish(&mut self, cx: &mut Cx, partition: PartitionId, actors: &[Actor]) {
        if let Some(owned) = self.owned_mut(partition) {
            owned.finish(actors);
            let row = owned.record();
            self.commits.commit(cx, vec![row], Level::Synced, Class::Background);
            self.reclaim.note_change(partition);
        }
    }

    /// Tenures, by partition, that keep something from being forgotten, or are being closed: of some partitions from this
    /// one on, and which one is the next.
    pub(crate) fn obstructing(
        &self,
        now: u64,
        from: Option<PartitionId>,
    ) -> (BTreeMap<PartitionId, BTreeSet<Actor>>, Option<PartitionId>) {
        let mut all: BTreeMap<PartitionId, BTreeSet<Actor>> = BTreeMap::new();
        let from = from.unwrap_or(PartitionId { prefix: 0, depth: 0 });
        for (id, owned) in self.partitions.range(from..).take(SOME).filter(|(_, had)| had.is_owned()) {
            let mut actors = self.reclaim.obstructing(*id, owned.seen(), now);
            actors.extend(owned.closing());
            actors.retain(|actor| !owned.is_known(*actor) && !owned.seen().is_finished(*actor));
            if !actors.is_empty() {
                all.insert(*id, actors);
            }
        }
        (all, self.partitions.range(from..).nth(SOME).map(|(id, _)| *id))
    }

    /// The partitions that have tenures to close.
    pub(crate) fn closing(&self) -> impl Iterator<Item = PartitionId> {
        let closing =
            self.partitions.iter().filter(|(_, had)| had.is_owned() && had.closing().next().is_some());
        closing.map(|(id, _)| *id)
    }
}

/// ```text
/// u8 format = 1 | actors
/// ```
fn row(partition: PartitionId, closed: &BTreeSet<Actor>) -> Change {
    let mut name = META_PREFIX.to_vec();
    partition.encode_to(&mut name);
    let mut value = vec![FORMAT];
    closed.iter().copied().collect::<Vec<Actor>>().encode_to(&mut value);
    Change::Meta { name: name.into(), value: value.into() }
}

/// What was stored of closed tenures.
pub(crate) fn recovered(meta: &BTreeMap<Bytes, Bytes>) -> Result<Closed, DecodeError> {
    let rows = meta.iter().filter(|(name, _)| name.starts_with(META_PREFIX));
    rows.map(|(name, value)| {
        let partition = PartitionId::parse_all(name.slice(META_PREFIX.len()..))?;
        let mut value = value.clone();
        match u8::parse(&mut value)? {
            FORMAT => Ok((partition, Vec::parse_all(value)?.into_iter().collect())),
            format => Err(DecodeError::Version(format)),
        }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes on every disk.
    #[test]
    fn golden() {
        let partition = PartitionId { prefix: 3, depth: 4 };
        let closed: BTreeSet<Actor> = [Actor(7), Actor(9)].into();
        let Change::Meta { name, value } = row(partition, &closed) else { panic!("a row") };
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let line = format!("{} {}\n", hex(&name), hex(&value));
        let golden = include_str!("../../tests/golden/closed-1.txt");
        assert!(line == golden, "the format has changed; it is now\n{line}");
        for end in 0..value.len() {
            assert!(recovered(&[(name.clone(), value.slice(..end))].into()).is_err(), "cut at {end}");
        }
        assert_eq!(recovered(&[(name, value)].into()), Ok([(partition, closed)].into()));
    }
}
