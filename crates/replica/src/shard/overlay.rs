//! The overlay: objects that are being loaded, are staged and not yet durable, or were used a moment ago.
//!
//! The problem: a write must merge with what is stored, and what is stored changes in batches that take a
//! moment to become durable. Merging with the disk's state would lose the batch under way; showing the
//! batch's state would show what a crash can take back.
//!
//! The idea: a slot per key with work on it. The first operation loads the object; while it loads, others
//! queue. Then each runs on the slot's object, which is the newest staged state; a write stages a batch and
//! is told when that is durable; a read takes the state as it is and is answered when the last batch in it is
//! durable. A slot with nothing under way may stay for a while, so that a key that is used again need not be
//! read and decoded again; the oldest go first, but for those that were used since.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use foldhash::fast::FixedState;
use gramme_merkle::Digest;
use gramme_object::{Key, Object};

use super::{Level, Operation, digest_of};
use crate::place::Place;

/// A key's newest state. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Ready {
    pub(crate) object: Arc<Object>,
    /// The stored form of `object`; empty if nothing is stored.
    pub(crate) stored: Bytes,
    /// What it adds to its leaf, if that is known.
    pub(super) digest: Option<Digest>,
    /// The last batch that changed it, and how durable it must be before the state may be shown.
    pub(super) staged: Option<(u64, Level)>,
}

impl Ready {
    /// What the key adds to its leaf, or to what is kept for its target.
    pub(super) fn digest(&self, key: &Key) -> Digest {
        self.digest.unwrap_or_else(|| digest_of(key, &self.object))
    }

    /// A state that is shown, and stands nowhere as it is.
    pub(super) fn of(object: Object) -> Self {
        let stored = if object.is_empty() { Bytes::new() } else { object.encode().into() };
        Self { object: Arc::new(object), stored, digest: None, staged: None }
    }
}

#[derive(Debug)]
enum Slot {
    Loading { first: Operation, others: Vec<Operation> },
    Ready { ready: Ready, idle: Option<u64>, is_used: bool },
}

#[allow(clippy::disallowed_types, reason = "never gone through: its order shows nowhere")]
type Slots = std::collections::HashMap<Place, Slot, FixedState>;

/// See the module.
#[derive(Debug)]
pub(super) struct Overlay {
    slots: Slots,
    /// Rows that are being read, and since when.
    loads: BTreeMap<u64, (Place, u64)>,
    /// Operations that wait for a load, and the bytes that they bring.
    queued: usize,
    queued_bytes: u64,
    next_load: u64,
    /// Slots with nothing under way, the oldest first, by the number under which they became idle.
    idle: VecDeque<(u64, Place)>,
    next_idle: u64,
    idle_bytes: u64,
}

impl Overlay {
    /// An empty one. Nobody outside may know `seed`, or they could choose keys that collide.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            slots: Slots::with_hasher(FixedState::with_seed(seed)),
            loads: BTreeMap::new(),
            queued: 0,
            queued_bytes: 0,
            next_load: 0,
            idle: VecDeque::new(),
            next_idle: 0,
            idle_bytes: 0,
        }
    }

    /// Operations that wait for a row to be read.
    pub(super) const fn queued(&self) -> usize {
        self.queued
    }

    /// The bytes that they bring.
    pub(super) const fn queued_bytes(&self) -> u64 {
        self.queued_bytes
    }

    /// Whether the key is there; if not, `operation` waits for it. Says the number of a load to ask for.
    pub(super) fn begin(
        &mut self,
        now: u64,
        place: &Place,
        operation: Operation,
    ) -> Result<Operation, Option<u64>> {
        if let Some(Slot::Ready { is_used, .. }) = self.slots.get_mut(place) {
            *is_used = true;
            return Ok(operation);
        }
        self.queued += 1;
        self.queued_bytes += operation.bytes();
        match self.slots.get_mut(place) {
            Some(Slot::Loading { others, .. }) => {
                others.push(operation);
                Err(None)
            }
            _ => {
                let slot = Slot::Loading { first: operation, others: Vec::new() };
                self.slots.insert(place.clone(), slot);
                self.next_load += 1;
                self.loads.insert(self.next_load, (place.clone(), now));
                Err(Some(self.next_load))
            }
        }
    }

    /// A row has been read: returns its place, since when that was under way, and what waited for it. The slot is free.
    pub(super) fn end_load(&mut self, load: u64) -> Option<(Place, u64, Operation, Vec<Operation>)> {
        let (place, began) = self.loads.remove(&load)?;
        match self.slots.remove(&place) {
            Some(Slot::Loading { first, others }) => {
                self.queued -= 1 + others.len();
                let bytes = std::iter::once(&first).chain(&others).map(Operation::bytes);
                self.queued_bytes -= bytes.sum::<u64>();
                Some((place, began, first, others))
            }
            slot => {
                debug_assert!(false, "a load ends on {slot:?}");
                None
            }
        }
    }

    /// Whether a row is being read. What comes of it is as old as the reading.
    pub(super) fn is_loading(&self, place: &Place) -> bool {
        matches!(self.slots.get(place), Some(Slot::Loading { .. }))
    }

    pub(super) fn ready(&self, place: &Place) -> Option<&Ready> {
        match self.slots.get(place) {
            Some(Slot::Ready { ready, .. }) => Some(ready),
            _ => None,
        }
    }

    /// Puts a state in place. What is staged in it keeps it there until [`Self::rest`].
    pub(super) fn set(&mut self, place: &Place, ready: Ready) {
        let is_staged = ready.staged.is_some();
        if let Some(Slot::Ready { ready: old, idle: Some(_), .. }) = self.slots.get(place) {
            self.idle_bytes -= old.stored.len() as u64;
        }
        match self.slots.get_mut(place) {
            Some(slot) => *slot = Slot::Ready { ready, idle: None, is_used: true },
            None => {
                let slot = Slot::Ready { ready, idle: None, is_used: false };
                self.slots.insert(place.clone(), slot);
            }
        }
        if !is_staged {
            self.rest(place, 0);
        }
    }

    /// The batch `sequence` is durable: a key with nothing staged after it has nothing under way.
    pub(super) fn rest(&mut self, place: &Place, sequence: u64) {
        let Some(Slot::Ready { ready, idle, is_used }) = self.slots.get_mut(place) else { return };
        if ready.staged.is_some_and(|(staged, _)| staged > sequence) || idle.is_some() {
            return;
        }
        self.next_idle += 1;
        ready.staged = None;
        (*idle, *is_used) = (Some(self.next_idle), false);
        self.idle_bytes += ready.stored.len() as u64;
        self.idle.push_back((self.next_idle, place.clone()));
    }

    /// Lets idle slots go until those that stay have at most `most` bytes and the number that fits them.
    /// Called at the end of a step, so that what a step has loaded stays for all of it.
    pub(super) fn trim(&mut self, most: u64) {
        while self.idle_bytes > most || self.idle.len() as u64 > most / BYTES_PER_SLOT {
            let Some((number, place)) = self.idle.pop_front() else { return };
            let Some(Slot::Ready { ready, idle, is_used }) = self.slots.get_mut(&place) else { continue };
            if *idle != Some(number) {
                continue;
            }
            if std::mem::take(is_used) && most > 0 {
                self.next_idle += 1;
                *idle = Some(self.next_idle);
                self.idle.push_back((self.next_idle, place));
                continue;
            }
            self.idle_bytes -= ready.stored.len() as u64;
            self.slots.remove(&place);
        }
    }
}

/// About what a slot of a small object costs beside its bytes.
const BYTES_PER_SLOT: u64 = 512;

#[cfg(test)]
mod tests {
    use gramme_ring::{KeyHash, PartitionId};

    use super::*;
    use crate::place::Space;
    use crate::shard::{Brought, Writer};

    fn place(number: u64) -> Place {
        let key = Key::new("default", "b", number.to_string()).expect("valid parts");
        let partition = PartitionId { prefix: 0, depth: 0 };
        Place { space: Space::Data, partition, hash: KeyHash(number), key }
    }

    fn ready(bytes: usize) -> Ready {
        let stored = vec![0; bytes].into();
        Ready { object: Arc::new(Object::new()), stored, digest: None, staged: None }
    }

    #[test]
    fn whoever_waits_for_a_load_is_counted_until_it_ends() {
        let mut overlay = Overlay::new(1);
        let loads: Vec<_> =
            (0..3).map(|put| overlay.begin(0, &place(1), Operation::Coordinate(put)).err()).collect();
        let [Some(Some(load)), Some(None), Some(None)] = loads[..] else { panic!("one load: {loads:?}") };
        (3..5).for_each(|put| assert!(overlay.begin(0, &place(2), Operation::Coordinate(put)).is_err()));
        assert_eq!(overlay.queued(), 5);
        let (_, _, _, others) = overlay.end_load(load).expect("the load");
        assert_eq!((others.len(), overlay.queued()), (2, 2));
        assert!(overlay.end_load(load).is_none(), "it has ended");
    }

    #[test]
    fn what_waits_for_a_load_is_counted_in_bytes() {
        let merge = |bytes: usize| {
            let brought = Brought { object: Object::new(), stored: vec![0; bytes].into() };
            let (level, class) = (Level::Written, gramme_wire::peer::Class::Foreground);
            Operation::Merge { brought: Box::new(brought), writer: Writer::Nobody, level, class }
        };
        let mut overlay = Overlay::new(1);
        let load = overlay.begin(0, &place(1), merge(70)).err().flatten().expect("a load");
        assert!(overlay.begin(0, &place(1), merge(30)).is_err());
        assert!(overlay.begin(0, &place(2), merge(5)).is_err());
        assert_eq!(overlay.queued_bytes(), 105);
        overlay.end_load(load).expect("the load");
        assert_eq!(overlay.queued_bytes(), 5);
    }

    /// As much stays as there is room for, however much has come and gone, and what is used stays longer.
    #[test]
    fn what_was_used_stays_within_its_bytes() {
        const MOST: u64 = 100_000;
        let mut overlay = Overlay::new(1);
        for number in 0..1_000 {
            overlay.set(&place(number), ready(1_000));
            assert!(
                overlay.begin(0, &place(0), Operation::Coordinate(0)).is_ok(),
                "key 0 is used all the time"
            );
            overlay.trim(MOST);
        }
        let stays = (0..1_000).filter(|number| overlay.ready(&place(*number)).is_some()).count();
        assert_eq!(stays as u64, MOST / 1_000);
        assert_eq!(overlay.idle_bytes, MOST);
        // What is staged stays whatever else comes; it takes no room from the others.
        overlay.set(&place(7), Ready { staged: Some((9, Level::Synced)), ..ready(50_000) });
        overlay.trim(0);
        assert_eq!((overlay.slots.len(), overlay.idle_bytes), (1, 0));
        overlay.rest(&place(7), 8);
        overlay.trim(0);
        assert_eq!(overlay.slots.len(), 1, "a later batch is under way");
        overlay.rest(&place(7), 9);
        overlay.trim(0);
        assert_eq!((overlay.slots.len(), overlay.idle_bytes), (0, 0));
    }
}
