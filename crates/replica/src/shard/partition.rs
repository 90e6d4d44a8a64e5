//! One partition on this node: what it is here, its tenure, its counter, what it has seen, and its hash tree.

use std::collections::{BTreeMap, BTreeSet};

use gramme_codec::DecodeError;
use gramme_merkle::{Digest, Leaf, Tree};
use gramme_object::Object;
use gramme_plant::planted;
use gramme_quorum::Tenure;
use gramme_ring::{NodeId, PartitionId};
use gramme_vclock::{Actor, Dot, SeenSet};
use gramme_wire::peer::Sum;

use super::record::{Note, Record, Role};
use crate::config::LEAF_BITS;
use crate::io::{Change, RecoveredPartition};
use crate::place::Place;

/// A record is rewritten after this many notes, so that a start reads few.
const NOTES_PER_RECORD: u32 = 64;

/// Why a partition's copy here counts for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Uncounted {
    /// It cannot prove that it holds what it acknowledged.
    Amnesiac,
    /// Nobody has said yet whether it can.
    Unproven,
}

/// A partition that this node has.
#[derive(Clone, Debug)]
pub(crate) struct Partition {
    id: PartitionId,
    role: Role,
    actor: Actor,
    born: u64,
    /// Dots minted in this tenure.
    counter: u64,
    /// This disk's life: a random number, drawn anew when data was lost or rolled back.
    life: u64,
    /// Batches that changed the partition, over all tenures.
    changes: u64,
    seen: SeenSet,
    tree: Tree,
    total: Leaf,
    /// Bytes of all objects.
    bytes: u64,
    known: BTreeMap<NodeId, Tenure>,
    /// Tenures that are nobody's, of which something may still be missing here.
    closing: BTreeSet<Actor>,
    is_amnesiac: bool,
    is_proven: bool,
    notes: u32,
    /// Dots that were new here, while somebody watches; see [`Self::watch`].
    gains: Gains,
}

/// Dots that were new, with the replica that an exchange brought them from.
#[derive(Clone, Debug, Default)]
struct Gains {
    watchers: usize,
    dots: Vec<(Dot, Option<NodeId>)>,
}

/// Gains that are remembered while somebody watches; whoever watches longer must begin anew.
const GAINS: usize = 65_536;

/// What begins a new tenure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fresh {
    pub(crate) actor: Actor,
    /// The life of a disk that has none yet.
    pub(crate) life: u64,
    /// Later than the birth of any tenure before it.
    pub(crate) born: u64,
}

impl Partition {
    /// Begins a new tenure on what is stored.
    pub(crate) fn begin(
        id: PartitionId,
        stored: &RecoveredPartition,
        fresh: Fresh,
    ) -> Result<Self, DecodeError> {
        let mut record = match stored.record.is_empty() {
            true => founding(fresh),
            false => Record::decode(stored.record.clone())?,
        };
        let (mut actor, mut counter) = (fresh.actor, 0);
        if planted!(KeepTenure) {
            (actor, counter) = (record.actor, record.counter);
        }
        for note in &stored.notes {
            let note = Note::decode(note.clone())?;
            if note.changes > record.changes {
                (record.changes, record.bytes) = (note.changes, note.bytes);
            }
            counter = if planted!(KeepTenure) { counter.max(note.counter) } else { counter };
            for dot in note.dots {
                record.seen.insert(dot);
            }
        }
        if planted!(KeepTenure) && !stored.record.is_empty() {
            // A margin for what a crash may have taken.
            counter += 64;
        }
        let mut tree = Tree::new(LEAF_BITS);
        stored.leaves.iter().for_each(|(number, leaf)| tree.set_leaf(*number, *leaf));
        Ok(Self::of(id, record, (tree, stored.total), (actor, counter, fresh.born)))
    }

    /// A partition that this node has nothing of.
    pub(crate) fn new(id: PartitionId, fresh: Fresh) -> Self {
        let tenure = (fresh.actor, 0, fresh.born);
        Self::of(id, founding(fresh), (Tree::new(LEAF_BITS), Leaf::default()), tenure)
    }

    fn of(
        id: PartitionId,
        record: Record,
        (tree, total): (Tree, Leaf),
        (actor, counter, born): (Actor, u64, u64),
    ) -> Self {
        Self {
            id,
            role: record.role,
            actor,
            // Later than any before, even if the clock went back.
            born: born.max(record.born + 1),
            counter,
            life: record.life,
            changes: record.changes,
            seen: record.seen,
            tree,
            total,
            bytes: record.bytes,
            known: record.known.into_iter().collect(),
            closing: record.closing.into_iter().collect(),
            is_amnesiac: record.is_amnesiac,
            is_proven: false,
            notes: 0,
            gains: Gains::default(),
        }
    }

    pub(crate) const fn role(&self) -> Role {
        self.role
    }

    /// Whether this node takes its writes.
    pub(crate) const fn is_owned(&self) -> bool {
        matches!(self.role, Role::Owner)
    }

    /// It becomes something else here; says whether that is new.
    pub(crate) fn become_role(&mut self, role: Role) -> bool {
        std::mem::replace(&mut self.role, role) != role
    }

    /// Its rows go from now on. What they were is not known here any more, and whoever has asked what is here asked another
    /// disk: what this one has seen is not what it has.
    pub(crate) fn begin_dropping(&mut self, life: u64) -> Change {
        if planted!(ShowDropping) {
            self.role = Role::Dropping;
            return self.record();
        }
        (self.role, self.life, self.seen) = (Role::Dropping, life, SeenSet::new());
        self.closing.clear();
        self.record()
    }

    /// All its rows are gone; returns what is to be stored.
    pub(crate) fn emptied(mut self) -> Vec<Change> {
        let full = (0..1 << LEAF_BITS).filter(|number| self.tree.leaf(*number) != Leaf::default());
        let empty = |number| Change::Leaf { partition: self.id, number, leaf: Leaf::default() };
        let mut rows: Vec<Change> = full.map(empty).collect();
        (self.total, self.bytes) = (Leaf::default(), 0);
        self.known.clear();
        rows.push(self.record());
        rows
    }

    /// This node's tenure.
    pub(crate) const fn tenure(&self) -> Tenure {
        Tenure { actor: Some(self.actor), born: self.born }
    }

    pub(crate) const fn life(&self) -> u64 {
        self.life
    }

    pub(crate) const fn total(&self) -> Leaf {
        self.total
    }

    /// The leaves that are not empty, by number.
    pub(crate) fn leaves(&self) -> Vec<(u32, Sum)> {
        let leaves = (0..1 << LEAF_BITS).map(|number| (number, self.tree.leaf(number)));
        leaves.filter(|(_, leaf)| leaf.count > 0).map(|(number, leaf)| (number, sum_of(leaf))).collect()
    }

    pub(crate) fn leaf(&self, number: u32) -> Leaf {
        self.tree.leaf(number)
    }

    /// How often it has changed.
    pub(crate) const fn changes(&self) -> u64 {
        self.changes
    }

    /// Its objects have so many bytes; returns by how many that is more or less than was thought.
    pub(crate) const fn recount(&mut self, bytes: u64) -> i64 {
        bytes.wrapping_sub(std::mem::replace(&mut self.bytes, bytes)).cast_signed()
    }

    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) const fn is_amnesiac(&self) -> bool {
        self.is_amnesiac
    }

    pub(crate) const fn is_proven(&self) -> bool {
        self.is_proven
    }

    /// Whether its copy here counts towards R and W.
    pub(crate) const fn counts(&self) -> Result<(), Uncounted> {
        if self.is_amnesiac {
            Err(Uncounted::Amnesiac)
        } else if !self.is_proven {
            Err(Uncounted::Unproven)
        } else {
            Ok(())
        }
    }

    pub(crate) const fn prove(&mut self) {
        self.is_proven = true;
    }

    pub(crate) fn has_seen(&self, dot: Dot) -> bool {
        self.seen.contains(dot)
    }

    /// Names a new write. It counts as seen, by the batch that carries it.
    pub(crate) const fn mint(&mut self) -> Dot {
        self.counter += 1;
        Dot::new(self.actor, self.counter)
    }

    /// Marks what merging `object` shows us: its live dots and the dots outside its vector. Never its vector,
    /// which names dots that nobody has shown us. Returns what is new. `from` is the replica that an exchange brought
    /// it from.
    pub(crate) fn see(&mut self, object: &Object, from: Option<NodeId>) -> Vec<Dot> {
        if planted!(SeenFromVector) {
            for (actor, counter) in object.context().vector().iter() {
                for counter in counter.saturating_sub(64).max(1)..=counter {
                    self.seen.insert(Dot::new(actor, counter));
                }
            }
        }
        let shown = object.versions().dots().chain(object.context().outside().iter().copied());
        let news: Vec<Dot> = shown.filter(|&dot| self.seen.insert(dot)).collect();
        if self.gains.watchers > 0 && self.gains.dots.len() < GAINS {
            self.gains.dots.extend(news.iter().map(|dot| (*dot, from)));
        }
        news
    }

    pub(crate) const fn seen(&self) -> &SeenSet {
        &self.seen
    }

    /// Takes over what another has seen, once all that it had then is here; says whether anything is new.
    pub(crate) fn take_seen(&mut self, theirs: &SeenSet) -> bool {
        let is_news = !self.seen.includes(theirs);
        if is_news {
            self.seen.join(theirs);
            // The other has closed them, with all that there is of them.
            let seen = &self.seen;
            self.closing.retain(|actor| !seen.is_finished(*actor));
        }
        is_news
    }

    /// Remembers from now on what is new; returns where that begins. Ended by [`Self::unwatch`].
    pub(crate) const fn watch(&mut self) -> usize {
        self.gains.watchers += 1;
        self.gains.dots.len()
    }

    pub(crate) fn unwatch(&mut self) {
        self.gains.watchers = self.gains.watchers.saturating_sub(1);
        if self.gains.watchers == 0 {
            self.gains.dots = Vec::new();
        }
    }

    /// Whether one of `dots` came since then, and not by an exchange with `peer`; also if that is not known.
    pub(crate) fn has_gained(&self, since: usize, dots: &SeenSet, peer: NodeId) -> bool {
        let mut gained = self.gains.dots.iter().skip(since);
        self.gains.dots.len() >= GAINS || gained.any(|(dot, from)| *from != Some(peer) && dots.contains(*dot))
    }

    /// Data was lost: it counts for nothing, and is another disk from now on.
    /// From here on it writes under another actor: which numbers the old one has given out is not known any more.
    pub(crate) fn lose(&mut self, fresh: Fresh) {
        self.life = fresh.life;
        self.born = (self.born + 1).max(fresh.born);
        (self.actor, self.counter) = (fresh.actor, 0);
        self.is_amnesiac = true;
    }

    /// Rows were lost, and with them what was in them: what has been seen is not known any more, and neither is which of
    /// this node's own versions live on elsewhere. Returns what is to be stored; the leaf is `readable` now.
    pub(crate) fn lose_rows(&mut self, fresh: Fresh, number: u32, readable: Leaf) -> [Change; 2] {
        self.lose(fresh);
        self.seen = SeenSet::new();
        let before = self.tree.leaf(number);
        self.total.count = self.total.count + readable.count - before.count;
        self.total.sum = self.total.sum.wrapping_add(readable.sum).wrapping_sub(before.sum);
        self.tree.set_leaf(number, readable);
        [Change::Leaf { partition: self.id, number, leaf: readable }, self.record()]
    }

    /// What it holds may be less than what this node once acknowledged of it.
    pub(crate) const fn doubt(&mut self) {
        self.is_amnesiac = true;
    }

    /// Nothing is missing any more; returns what is to be stored.
    pub(crate) fn remember(&mut self) -> Change {
        self.is_amnesiac = false;
        self.record()
    }

    /// Learns another member's tenure; a later birth replaces an earlier.
    pub(crate) fn learn(&mut self, node: NodeId, tenure: Tenure) {
        let known = self.known.entry(node).or_default();
        if tenure.actor.is_some() && tenure.born > known.born {
            *known = tenure;
        }
    }

    /// Only these own it: what is known of others is of nobody's present tenure.
    pub(crate) fn forget_others(&mut self, is_owner: impl Fn(NodeId) -> bool) {
        self.known.retain(|node, _| is_owner(*node));
    }

    /// The other members' tenures.
    pub(crate) fn known(&self) -> Vec<(NodeId, Tenure)> {
        self.known.iter().map(|(node, tenure)| (*node, *tenure)).collect()
    }

    /// Whether it is the present tenure of this node, or of another as far as is known.
    pub(crate) fn is_known(&self, actor: Actor) -> bool {
        self.actor == actor || self.known.values().any(|tenure| tenure.actor == Some(actor))
    }

    /// Tenures that are being closed.
    pub(crate) fn closing(&self) -> impl Iterator<Item = Actor> {
        self.closing.iter().copied()
    }

    /// Whether a write is one of a tenure that is being closed, and was not taken before, or of a closed one. Of that all
    /// counts as seen, what never came too: it must not be acknowledged.
    pub(crate) fn is_closed(&self, dot: Dot) -> bool {
        self.closing.contains(&dot.actor) && !self.seen.contains(dot) || self.seen.is_finished(dot.actor)
    }

    /// Takes no more new writes of these; says whether that is new.
    pub(crate) fn close(&mut self, actors: &[Actor]) -> bool {
        let seen = &self.seen;
        let before = self.closing.len();
        self.closing.extend(actors.iter().filter(|actor| !seen.is_finished(**actor)));
        self.closing.len() > before
    }

    /// All that there is of these is here, and counts as seen.
    pub(crate) fn finish(&mut self, actors: &[Actor]) {
        for actor in actors {
            self.closing.remove(actor);
            self.seen.finish(*actor);
        }
    }

    /// Puts a key's new digest and size in the place of its old ones; the leaf must go with the same batch.
    pub(crate) fn replace(
        &mut self,
        place: &Place,
        old: (Option<Digest>, u64),
        new: (Option<Digest>, u64),
    ) -> Change {
        let below = place.hash.0 << self.id.depth;
        let number = self.tree.replace(below, old.0, new.0);
        self.total.replace(old.0, new.0);
        self.bytes = self.bytes + new.1 - old.1;
        Change::Leaf { partition: self.id, number, leaf: self.tree.leaf(number) }
    }

    /// What the next batch must carry: a note, or the whole record when it is time.
    pub(crate) fn next_entry(&mut self, dots: Vec<Dot>) -> Change {
        self.changes += 1;
        self.notes += 1;
        if self.notes > NOTES_PER_RECORD {
            return self.record();
        }
        let (actor, counter) = (self.actor, self.counter);
        let note = Note { actor, counter, changes: self.changes, bytes: self.bytes, dots };
        Change::Note { partition: self.id, total: self.total, note: note.encode() }
    }

    /// The whole record. Notes are counted from here.
    pub(crate) fn record(&mut self) -> Change {
        self.notes = 0;
        let record = Record {
            role: self.role,
            actor: self.actor,
            born: self.born,
            counter: self.counter,
            life: self.life,
            changes: self.changes,
            bytes: self.bytes,
            seen: self.seen.clone(),
            is_amnesiac: self.is_amnesiac,
            known: self.known(),
            closing: self.closing.iter().copied().collect(),
        };
        Change::Partition { partition: self.id, total: self.total, record: record.encode() }
    }
}

/// A leaf as it is sent.
pub(crate) const fn sum_of(leaf: Leaf) -> Sum {
    Sum { count: leaf.count, sum: leaf.sum }
}

/// The record of a partition that holds nothing yet.
fn founding(fresh: Fresh) -> Record {
    Record {
        role: Role::Owner,
        actor: fresh.actor,
        born: 0,
        counter: 0,
        life: fresh.life,
        changes: 0,
        bytes: 0,
        seen: SeenSet::new(),
        is_amnesiac: false,
        closing: Vec::new(),
        known: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const ID: PartitionId = PartitionId { prefix: 3, depth: 4 };

    fn begin(stored: &RecoveredPartition, actor: u64, born: u64) -> Result<Partition, DecodeError> {
        Partition::begin(ID, stored, Fresh { actor: Actor(actor), life: 8, born })
    }

    fn partition() -> Partition {
        let mut partition = begin(&RecoveredPartition::default(), 7, 1_000).expect("nothing to decode");
        partition.seen.insert(Dot::new(Actor(9), 2));
        partition.learn(NodeId(5), Tenure { actor: Some(Actor(6)), born: 4 });
        partition
    }

    fn record(partition: &mut Partition) -> Bytes {
        let Change::Partition { record, .. } = partition.record() else { panic!("a record") };
        record
    }

    fn note(partition: &mut Partition, dots: Vec<Dot>) -> Bytes {
        let Change::Note { note, .. } = partition.next_entry(dots) else { panic!("a note") };
        note
    }

    fn stored(of: &Partition, record: Bytes, notes: Vec<Bytes>) -> RecoveredPartition {
        RecoveredPartition { total: of.total, record, notes, leaves: BTreeMap::new() }
    }

    /// The bytes on every disk.
    #[test]
    fn golden() {
        let mut partition = partition();
        let dot = partition.mint();
        let note = note(&mut partition, vec![dot]);
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let lines = format!("record {}\nnote {}\n", hex(&record(&mut partition)), hex(&note));
        let golden = include_str!("../../tests/golden/partition-2.txt");
        assert!(lines == golden, "the format has changed; it is now\n{lines}");
    }

    #[test]
    fn a_new_tenure_keeps_what_was_seen_and_nothing_of_the_counter() {
        let mut old = partition();
        let record = record(&mut old);
        let dot = old.mint();
        old.seen.insert(dot);
        old.bytes = 77;
        let note = note(&mut old, vec![dot]);
        let mut new = begin(&stored(&old, record, vec![note.clone(), note]), 8, 5).expect("its own record");
        assert_eq!((new.seen.clone(), new.life, new.bytes), (old.seen.clone(), 8, 77));
        assert!(new.tenure().born > old.tenure().born, "the clock went back, births do not");
        assert_eq!(new.mint(), Dot::new(Actor(8), 1));
        assert_eq!(new.known(), old.known());
        assert_eq!(new.counts(), Err(Uncounted::Unproven));
    }

    #[test]
    fn an_older_note_takes_nothing_back() {
        let mut old = partition();
        old.bytes = 10;
        let early = note(&mut old, vec![Dot::new(Actor(7), 1)]);
        old.bytes = 20;
        let _ = note(&mut old, vec![]);
        let record = record(&mut old);
        let new = begin(&stored(&old, record, vec![early]), 8, 5).expect("decodes");
        assert_eq!(new.bytes, 20);
        assert!(new.has_seen(Dot::new(Actor(7), 1)));
    }

    #[test]
    fn a_vector_entry_is_not_seen() {
        let mut partition = partition();
        let mut object = Object::new();
        object.versions_mut().raise_own_entry(Dot::new(Actor(9), 5));
        assert!(partition.see(&object, None).is_empty());
        assert!(!partition.has_seen(Dot::new(Actor(9), 4)));
    }

    #[test]
    fn cut_records_are_refused() {
        let record = record(&mut partition());
        for end in 1..record.len() {
            assert!(begin(&stored(&partition(), record.slice(..end), vec![]), 1, 0).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn what_is_dropped_is_another_disk_and_has_seen_nothing() {
        let mut partition = partition();
        let life = partition.life();
        let row = partition.begin_dropping(life + 1);
        let Change::Partition { record, .. } = row else { panic!("a record") };
        let again = begin(&stored(&partition, record, vec![]), 1, 0).expect("its own record");
        assert_eq!((again.role(), again.life(), again.seen.is_empty()), (Role::Dropping, life + 1, true));
    }
}
