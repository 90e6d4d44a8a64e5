//! What this node keeps for others: hinted copies, how many for whom, and its own tenures as their fallback.
//!
//! A fallback is no replica: it has no tree and no seen-set for the partition, and what it keeps is handed on and
//! then gone. So nothing proves its copies but a sum of their digests for each target, stored with each batch; a
//! start compares it with what it finds.
//!
//! # Writing without an owner
//!
//! Where no owner can be reached a fallback coordinates. Its versions need an actor of their own; it is drawn for
//! each partition, and kept in memory only, since no tenure outlives its start. Contexts must not grow by a dot with
//! every write, so a fallback raises its own entry as an owner does: that covers every older dot of its actor under
//! this key, and is right only as long as all those that are still live are in the state that it writes. Once a
//! hint was handed on they are not: its versions live on at the owner, and nothing here tells of them. So whenever
//! a hint of a partition goes, so does the actor. And a fallback coordinates a key on one copy only, that for the
//! owner of the first slot: when the partition's owners change, that is another copy, and so another actor.

use std::collections::BTreeMap;

use bytes::Bytes;
use gramme_codec::{Codec, DecodeError};
use gramme_merkle::{Digest, Leaf};
use gramme_object::Object;
use gramme_plant::planted;
use gramme_ring::{NodeId, PartitionId};
use gramme_vclock::{Actor, Dot};

use super::{Reader, Ready};
use crate::cx::Cx;
use crate::io::{Change, LoadFailed};
use crate::place::Place;

/// What the names of the stored sums begin with.
const META_PREFIX: &[u8] = b"hints/";
const FORMAT: u8 = 1;

/// What is kept for one target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// How many keys, and the sum of their digests.
    pub copies: Leaf,
    /// Bytes of their objects.
    pub bytes: u64,
}

/// Who is shown what of a key.
pub(super) type Shown = (Reader, Place, Result<Ready, LoadFailed>);

/// This node's actor on a partition that is not its own.
#[derive(Clone, Copy, Debug)]
struct Fallback {
    actor: Actor,
    counter: u64,
}

/// A read of all that is kept of one key.
#[derive(Debug)]
struct Reading {
    reader: Reader,
    place: Place,
    left: usize,
    found: Result<Option<Ready>, LoadFailed>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Hints {
    backlogs: BTreeMap<NodeId, Backlog>,
    fallbacks: BTreeMap<PartitionId, Fallback>,
    readings: BTreeMap<u64, Reading>,
    next_reading: u64,
}

impl Hints {
    /// What was kept when the last start ended.
    pub(super) fn new(backlogs: BTreeMap<NodeId, Backlog>) -> Self {
        Self { backlogs, fallbacks: BTreeMap::new(), readings: BTreeMap::new(), next_reading: 0 }
    }

    pub(super) const fn backlogs(&self) -> &BTreeMap<NodeId, Backlog> {
        &self.backlogs
    }

    /// Names a new write of a partition that is not this node's own.
    pub(super) fn mint(&mut self, cx: &mut Cx, partition: PartitionId) -> Dot {
        let actor = Actor(cx.random());
        let fallback = self.fallbacks.entry(partition).or_insert(Fallback { actor, counter: 0 });
        fallback.counter += 1;
        Dot::new(fallback.actor, fallback.counter)
    }

    /// The actor under which it writes of a partition that is not this node's own, if it does.
    pub(super) fn actor(&self, partition: PartitionId) -> Option<Actor> {
        self.fallbacks.get(&partition).map(|fallback| fallback.actor)
    }

    /// A partition has other owners: what is written for them stands in other copies.
    pub(super) fn forget_actor(&mut self, partition: PartitionId) {
        self.fallbacks.remove(&partition);
    }

    /// Data was lost: it names nothing more as whom it was.
    pub(super) fn lose(&mut self) {
        self.fallbacks.clear();
    }

    /// Begins to read so many copies of a key, if there are any; says under which number.
    pub(super) fn begin_read(&mut self, place: &Place, reader: &Reader, copies: usize) -> Option<u64> {
        if copies == 0 {
            return None;
        }
        self.next_reading += 1;
        let (reader, place) = (reader.clone(), place.clone());
        let reading = Reading { reader, place, left: copies, found: Ok(None) };
        self.readings.insert(self.next_reading, reading);
        Some(self.next_reading)
    }

    /// Adds a copy to those that were read; the last one ends the read. One that cannot be read spoils all: what
    /// is in it must not be taken for absent.
    pub(super) fn add(&mut self, read: u64, result: Result<Ready, LoadFailed>) -> Option<Shown> {
        let reading = self.readings.get_mut(&read)?;
        reading.left -= 1;
        reading.found = match (std::mem::replace(&mut reading.found, Ok(None)), result) {
            (Ok(None), Ok(ready)) => Ok(Some(ready)),
            (Ok(Some(before)), Ok(ready)) if before.object == ready.object => Ok(Some(before)),
            (Ok(Some(before)), Ok(ready)) => {
                let mut object = (*before.object).clone();
                object.merge(&ready.object);
                Ok(Some(Ready::of(object)))
            }
            (Err(LoadFailed), _) | (_, Err(LoadFailed)) => Err(LoadFailed),
        };
        if reading.left > 0 {
            return None;
        }
        let Reading { reader, place, found, .. } = self.readings.remove(&read)?;
        Some((reader, place, found.map(|found| found.unwrap_or_else(|| Ready::of(Object::new())))))
    }

    /// A damaged copy was dropped; returns the row that goes with the same batch. Its part of the sum is not known: the
    /// next start finds what is there.
    pub(super) fn drop_damaged(&mut self, target: NodeId, partition: PartitionId) -> Change {
        let backlog = self.backlogs.entry(target).or_default();
        backlog.copies.count = backlog.copies.count.saturating_sub(1);
        let row = row(target, backlog);
        if backlog.copies.count == 0 {
            self.backlogs.remove(&target);
        }
        // Its versions may live on elsewhere, as those of one that was handed on.
        self.fallbacks.remove(&partition);
        row
    }

    /// Puts a copy's digest and size in the place of its old ones; returns the row that goes with the same batch.
    pub(super) fn replace(
        &mut self,
        (target, partition): (NodeId, PartitionId),
        old: (Option<Digest>, u64),
        new: (Option<Digest>, u64),
    ) -> Change {
        let backlog = self.backlogs.entry(target).or_default();
        debug_assert!(old.0.is_none() || backlog.copies.count > 0, "a copy goes that was not counted");
        backlog.copies.replace(old.0.filter(|_| backlog.copies.count > 0), new.0);
        // What a damaged copy had of them is not known.
        backlog.bytes = (backlog.bytes + new.1).saturating_sub(old.1);
        let row = row(target, backlog);
        if backlog.copies.count == 0 {
            self.backlogs.remove(&target);
        }
        if new.0.is_none() && !planted!(KeepFallbackActor) {
            self.fallbacks.remove(&partition);
        }
        row
    }
}

/// ```text
/// u8 format = 1 | u64 copies | u128 sum of their digests | u64 bytes
/// ```
fn row(target: NodeId, backlog: &Backlog) -> Change {
    let mut name = META_PREFIX.to_vec();
    target.encode_to(&mut name);
    let mut value = vec![FORMAT];
    value.extend_from_slice(&backlog.copies.to_bytes());
    backlog.bytes.encode_to(&mut value);
    Change::Meta { name: name.into(), value: value.into() }
}

/// What was kept for whom, by what was stored of it.
pub(crate) fn recovered(meta: &BTreeMap<Bytes, Bytes>) -> Result<BTreeMap<NodeId, Backlog>, DecodeError> {
    let rows = meta.iter().filter(|(name, _)| name.starts_with(META_PREFIX));
    let all: BTreeMap<_, _> = rows
        .map(|(name, value)| {
            let target = NodeId::parse_all(name.slice(META_PREFIX.len()..))?;
            Ok((target, decode(value.clone())?))
        })
        .collect::<Result<_, DecodeError>>()?;
    Ok(all.into_iter().filter(|(_, backlog)| backlog.copies.count > 0).collect())
}

fn decode(mut value: Bytes) -> Result<Backlog, DecodeError> {
    const LEAF: usize = 24;
    let format = u8::parse(&mut value)?;
    if format != FORMAT {
        return Err(DecodeError::Version(format));
    }
    if value.len() < LEAF {
        return Err(DecodeError::Malformed);
    }
    let copies = Leaf::from_bytes(&value.split_to(LEAF)).ok_or(DecodeError::Malformed)?;
    Ok(Backlog { copies, bytes: u64::parse_all(value)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const B: NodeId = NodeId(2);
    const PARTITION: PartitionId = PartitionId { prefix: 0, depth: 0 };

    /// The bytes on every disk.
    #[test]
    fn golden() {
        let mut hints = Hints::default();
        let Change::Meta { name, value } = hints.replace((B, PARTITION), (None, 0), (Some(Digest(7)), 30))
        else {
            panic!("a row")
        };
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let line = format!("{} {}\n", hex(&name), hex(&value));
        let golden = include_str!("../../tests/golden/hints-1.txt");
        assert!(line == golden, "the format has changed; it is now\n{line}");
        for end in 0..value.len() {
            assert!(decode(value.slice(..end)).is_err(), "cut at {end}");
        }
        let meta = [(name, value)].into();
        assert_eq!(recovered(&meta), Ok(hints.backlogs().clone()));
    }

    #[test]
    fn what_is_handed_on_is_not_counted_any_more() {
        let mut hints = Hints::default();
        hints.replace((B, PARTITION), (None, 0), (Some(Digest(7)), 30));
        hints.replace((B, PARTITION), (Some(Digest(7)), 30), (Some(Digest(8)), 20));
        assert_eq!(hints.backlogs()[&B], Backlog { copies: Leaf { count: 1, sum: 8 }, bytes: 20 });
        let Change::Meta { name, value } = hints.replace((B, PARTITION), (Some(Digest(8)), 20), (None, 0))
        else {
            panic!("a row")
        };
        assert!(hints.backlogs().is_empty());
        assert_eq!(recovered(&[(name, value)].into()), Ok(BTreeMap::new()));
    }
}
