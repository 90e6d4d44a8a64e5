//! One partition on this node: its term, its counter, and what it has seen.
//!
//! Stored as a record, rewritten whole now and then, with small notes in between (one in each batch). Notes
//! only ever add, so reading one twice, or one older than the record, does no harm.
//!
//! ```text
//! record  u8 format = 1 | u8 state | u8 role | u64 actor | u64 born | u64 counter | u64 life | u64 commits
//!         | u64 bytes | u32 generation | u64 epoch | seen-set | entry | floors | fence | amnesia | cursors
//!         (five byte strings, empty for now but amnesia: a 1 if there is any) | peers still to pull from (ids) | tenures being closed (actors)
//!         | known tenures (id, tenure)
//! note    u8 format = 1 | u64 actor | u64 counter | u64 commits | u64 bytes | dots
//! ```

use std::collections::BTreeMap;

use bytes::Bytes;
use gramme_merkle::Leaf;
use gramme_object::Object;
use gramme_quorum::Tenure;
use gramme_ring::NodeId;
use gramme_vclock::{Actor, Dot, SeenSet};
use gramme_wire::WireError;
use gramme_wire::codec::Wire;

const FORMAT: u8 = 1;
const STATE_SETTLED: u8 = 1;
const ROLE_OWNER: u8 = 1;
/// A record is rewritten after this many notes, so that a start reads few.
const NOTES_PER_RECORD: u32 = 64;

/// A partition that this node owns.
#[derive(Clone, Debug)]
pub(crate) struct Partition {
    actor: Actor,
    born: u64,
    /// Dots minted in this tenure.
    counter: u64,
    /// This disk's life: a random number, drawn anew when data was lost or rolled back.
    pub(crate) life: u64,
    /// Batches that changed the partition, over all tenures.
    commits: u64,
    pub(crate) generation: u32,
    pub(crate) epoch: u64,
    pub(crate) seen: SeenSet,
    pub(crate) total: Leaf,
    /// Bytes of all objects.
    pub(crate) bytes: u64,
    known: BTreeMap<NodeId, Tenure>,
    /// It cannot prove that it holds what it acknowledged.
    pub(crate) is_amnesiac: bool,
    notes: u32,
}

/// What a record or its notes say. The rest of the record is for what is not built yet.
struct Stored {
    born: u64,
    life: u64,
    commits: u64,
    bytes: u64,
    generation: u32,
    epoch: u64,
    seen: SeenSet,
    known: Vec<(NodeId, Tenure)>,
    is_amnesiac: bool,
}

impl Partition {
    /// Begins a new tenure on what is stored. `fresh` is the new actor and, for a first start, the new life.
    pub(crate) fn begin(
        total: Leaf,
        record: &Bytes,
        notes: &[Bytes],
        fresh: (Actor, u64),
        wall: u64,
    ) -> Result<Self, WireError> {
        let mut stored =
            if record.is_empty() { Stored::none(fresh.1) } else { decode_record(record.clone())? };
        for note in notes {
            stored.add_note(note.clone())?;
        }
        #[cfg(gramme_planted)]
        let (fresh, counter) = planted_term(record, notes, fresh);
        #[cfg(not(gramme_planted))]
        let counter = 0;
        Ok(Self {
            actor: fresh.0,
            // Later than any before, even if the clock went back.
            born: wall.max(stored.born + 1),
            counter,
            life: stored.life,
            commits: stored.commits,
            generation: stored.generation,
            epoch: stored.epoch,
            seen: stored.seen,
            total,
            bytes: stored.bytes,
            known: stored.known.into_iter().collect(),
            is_amnesiac: stored.is_amnesiac,
            notes: 0,
        })
    }

    /// This node's term.
    pub(crate) const fn tenure(&self) -> Tenure {
        Tenure { actor: Some(self.actor), born: self.born }
    }

    /// Names a new write. It counts as seen, by the batch that carries it.
    pub(crate) fn mint(&mut self) -> Dot {
        self.counter += 1;
        Dot::new(self.actor, self.counter)
    }

    /// Marks what merging `object` shows us: its live dots and the dots outside its vector. Never its vector,
    /// which names dots that nobody has shown us. Returns what is new.
    pub(crate) fn see(&mut self, object: &Object) -> Vec<Dot> {
        #[cfg(gramme_planted)]
        if gramme_vclock::planted::is(gramme_vclock::planted::Plant::SeenFromVector) {
            for (actor, counter) in object.context().vector().iter() {
                for counter in counter.saturating_sub(64).max(1)..=counter {
                    self.seen.insert(Dot::new(actor, counter));
                }
            }
        }
        let shown = object.versions().dots().chain(object.context().outside().iter().copied());
        shown.filter(|&dot| self.seen.insert(dot)).collect()
    }

    /// How many batches have changed it, over all tenures.
    pub(crate) const fn commits(&self) -> u64 {
        self.commits
    }

    /// Data was lost: it counts for nothing, and is another disk from now on.
    pub(crate) const fn lose(&mut self, life: u64) {
        self.life = life;
        self.is_amnesiac = true;
    }

    /// Learns another member's term; a later birth replaces an earlier.
    pub(crate) fn learn(&mut self, node: NodeId, tenure: Tenure) {
        let known = self.known.entry(node).or_default();
        if tenure.actor.is_some() && tenure.born > known.born {
            *known = tenure;
        }
    }

    /// The other members' terms.
    pub(crate) fn known(&self) -> Vec<(NodeId, Tenure)> {
        self.known.iter().map(|(node, tenure)| (*node, *tenure)).collect()
    }

    /// What the next batch must carry: a note, or the whole record when it is time. The flag says which.
    pub(crate) fn next_entry(&mut self, dots: Vec<Dot>) -> (bool, Bytes) {
        self.commits += 1;
        self.notes += 1;
        if self.notes > NOTES_PER_RECORD {
            return (true, self.record());
        }
        let mut out = vec![FORMAT];
        self.actor.encode_to(&mut out);
        for number in [self.counter, self.commits, self.bytes] {
            number.encode_to(&mut out);
        }
        dots.encode_to(&mut out);
        (false, out.into())
    }

    /// The whole record. Notes are counted from here.
    pub(crate) fn record(&mut self) -> Bytes {
        self.notes = 0;
        let mut out = vec![FORMAT, STATE_SETTLED, ROLE_OWNER];
        self.actor.encode_to(&mut out);
        for number in [self.born, self.counter, self.life, self.commits, self.bytes] {
            number.encode_to(&mut out);
        }
        self.generation.encode_to(&mut out);
        self.epoch.encode_to(&mut out);
        self.seen.encode(&mut out);
        for _ in ["entry", "floors", "fence"] {
            Bytes::new().encode_to(&mut out);
        }
        let amnesia: &'static [u8] = if self.is_amnesiac { &[1] } else { &[] };
        Bytes::from_static(amnesia).encode_to(&mut out);
        Bytes::new().encode_to(&mut out);
        Vec::<NodeId>::new().encode_to(&mut out);
        Vec::<Actor>::new().encode_to(&mut out);
        self.known().encode_to(&mut out);
        out.into()
    }
}

impl Stored {
    const fn none(life: u64) -> Self {
        let seen = SeenSet::new();
        Self {
            born: 0,
            life,
            commits: 0,
            bytes: 0,
            generation: 1,
            epoch: 1,
            seen,
            known: Vec::new(),
            is_amnesiac: false,
        }
    }

    fn add_note(&mut self, mut note: Bytes) -> Result<(), WireError> {
        let format = u8::parse(&mut note)?;
        if format != FORMAT {
            return Err(WireError::Version(format));
        }
        let (_actor, _counter) = <(Actor, u64)>::parse(&mut note)?;
        let (commits, bytes) = <(u64, u64)>::parse(&mut note)?;
        if commits > self.commits {
            (self.commits, self.bytes) = (commits, bytes);
        }
        for dot in Vec::<Dot>::parse(&mut note)? {
            self.seen.insert(dot);
        }
        if note.is_empty() { Ok(()) } else { Err(WireError::Malformed) }
    }
}

/// The term that a bug goes on with: the last one, with the record's counter alone, or with the notes' and a
/// margin for what a crash may have taken.
#[cfg(gramme_planted)]
fn planted_term(record: &Bytes, notes: &[Bytes], fresh: (Actor, u64)) -> ((Actor, u64), u64) {
    use gramme_vclock::planted::{Plant, is};
    let term = |mut bytes: Bytes, skip: usize, has_birth: bool| {
        bytes = bytes.slice(skip..);
        let actor = Actor::parse(&mut bytes).ok()?;
        let _birth = if has_birth { u64::parse(&mut bytes).ok()? } else { 0 };
        Some((actor, u64::parse(&mut bytes).ok()?))
    };
    let stored = (!record.is_empty()).then(|| term(record.clone(), 3, true)).flatten();
    let noted = notes.last().and_then(|note| term(note.clone(), 1, false));
    match stored {
        Some((actor, counter)) if is(Plant::ReuseDot) => ((actor, fresh.1), counter),
        Some((actor, counter)) if is(Plant::KeepTenure) => {
            ((actor, fresh.1), noted.map_or(counter, |(_, noted)| noted.max(counter)) + 64)
        }
        _ => (fresh, 0),
    }
}

fn decode_record(mut input: Bytes) -> Result<Stored, WireError> {
    let format = u8::parse(&mut input)?;
    if format != FORMAT {
        return Err(WireError::Version(format));
    }
    let (_state, _role) = <(u8, u8)>::parse(&mut input)?;
    let (_actor, born) = <(Actor, u64)>::parse(&mut input)?;
    let (_counter, life) = <(u64, u64)>::parse(&mut input)?;
    let (commits, bytes) = <(u64, u64)>::parse(&mut input)?;
    let (generation, epoch) = <(u32, u64)>::parse(&mut input)?;
    let mut rest = &input[..];
    let seen = SeenSet::decode(&mut rest).map_err(|_| WireError::Malformed)?;
    let mut input = input.slice_ref(rest);
    for _ in ["entry", "floors", "fence"] {
        Bytes::parse(&mut input)?;
    }
    let is_amnesiac = !Bytes::parse(&mut input)?.is_empty();
    let _cursors = Bytes::parse(&mut input)?;
    Vec::<NodeId>::parse(&mut input)?;
    Vec::<Actor>::parse(&mut input)?;
    let known = Vec::parse(&mut input)?;
    if input.is_empty() {
        Ok(Stored { born, life, commits, bytes, generation, epoch, seen, known, is_amnesiac })
    } else {
        Err(WireError::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition() -> Partition {
        let begun = Partition::begin(Leaf::default(), &Bytes::new(), &[], (Actor(7), 8), 1_000);
        let mut partition = begun.expect("nothing to decode");
        partition.seen.insert(Dot::new(Actor(9), 2));
        partition.learn(NodeId(5), Tenure { actor: Some(Actor(6)), born: 4 });
        partition
    }

    /// The bytes on every disk.
    #[test]
    fn golden() {
        let mut partition = partition();
        let dot = partition.mint();
        let (whole, note) = partition.next_entry(vec![dot]);
        assert!(!whole);
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let lines = format!("record {}\nnote {}\n", hex(&partition.record()), hex(&note));
        assert_eq!(lines, include_str!("../tests/golden/partition-1.txt"));
    }

    #[test]
    fn a_new_tenure_keeps_what_was_seen_and_nothing_of_the_counter() {
        let mut old = partition();
        let record = old.record();
        let dot = old.mint();
        old.seen.insert(dot);
        old.bytes = 77;
        let (_, note) = old.next_entry(vec![dot]);
        let notes = [note.clone(), note];
        let mut new =
            Partition::begin(old.total, &record, &notes, (Actor(8), 99), 5).expect("its own record");
        assert_eq!((new.seen.clone(), new.life, new.bytes), (old.seen.clone(), 8, 77));
        assert!(new.tenure().born > old.tenure().born, "the clock went back, births do not");
        assert_eq!(new.mint(), Dot::new(Actor(8), 1));
        assert_eq!(new.known(), old.known());
    }

    #[test]
    fn an_older_note_takes_nothing_back() {
        let mut old = partition();
        old.bytes = 10;
        let (_, early) = old.next_entry(vec![Dot::new(Actor(7), 1)]);
        old.bytes = 20;
        let _ = old.next_entry(vec![]);
        let record = old.record();
        let new = Partition::begin(old.total, &record, &[early], (Actor(8), 9), 5).expect("decodes");
        assert_eq!(new.bytes, 20);
        assert!(new.seen.contains(Dot::new(Actor(7), 1)));
    }

    #[test]
    fn a_vector_entry_is_not_seen() {
        let mut partition = partition();
        let mut object = Object::new();
        object.versions_mut().raise_own_entry(Dot::new(Actor(9), 5));
        assert!(partition.see(&object).is_empty());
        assert!(!partition.seen.contains(Dot::new(Actor(9), 4)));
    }

    #[test]
    fn cut_records_are_refused() {
        let record = partition().record();
        for end in 1..record.len() {
            let cut = record.slice(..end);
            let begun = Partition::begin(Leaf::default(), &cut, &[], (Actor(1), 1), 0);
            assert!(begun.is_err(), "cut at {end}");
        }
    }
}
