//! Who sits where, and who was heard with what: what a get and a put have in common.
//!
//! A request needs R or W of a *set* of slots; a write, while its partition moves, of two sets. A slot is held
//! by its owner, or by a fallback that stands in for it. Counting nodes goes wrong as soon as one node stands
//! in for a second slot, and counting slot numbers as soon as there are two sets: six acknowledgements of two
//! disjoint sets look like three. So what is counted is *seats*: a slot of a set, once, whoever answers for it.

use gramme_ring::NodeId;

use crate::{Failure, Shortfall};

/// The most slots of a set.
pub const MAX_SLOTS: usize = 32;
const SETS: usize = 2;

/// A slot of one of a request's sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seat {
    /// 0 for the owners that readers ask; 1, while the partition moves, for the others that take its writes.
    pub set: u8,
    /// The place in the preference list.
    pub slot: u8,
}

gramme_codec::structs! { Seat { set: u8, slot: u8 } }

/// The owners of a partition, slot by slot, of which so many must do their part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaSet {
    /// The owners, by slot; at most [`MAX_SLOTS`].
    pub owners: Vec<NodeId>,
    /// R or W.
    pub need: u8,
}

/// The sets that a request counts over, each with its own threshold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sets {
    /// The owners that readers ask.
    pub now: ReplicaSet,
    /// While the partition moves, those that it moves to, or from.
    pub next: Option<ReplicaSet>,
}

impl Sets {
    /// One set, as long as nothing moves.
    #[must_use]
    pub const fn one(owners: Vec<NodeId>, need: u8) -> Self {
        Self { now: ReplicaSet { owners, need }, next: None }
    }

    fn each(&self) -> impl Iterator<Item = &ReplicaSet> {
        std::iter::once(&self.now).chain(&self.next)
    }
}

/// The seats of one node: a bit for each slot of each set.
type Seats = [u32; SETS];

#[derive(Clone, Debug)]
pub(crate) struct Member<T> {
    pub(crate) node: NodeId,
    seats: Seats,
    /// Whether it is an owner, not a fallback.
    pub(crate) is_owner: bool,
    pub(crate) heard: Option<Heard<T>>,
}

#[derive(Clone, Debug)]
pub(crate) enum Heard<T> {
    Answer(T),
    Failure(Failure),
}

#[derive(Clone, Debug)]
pub(crate) struct Roll<T> {
    need: [u8; SETS],
    /// The seats of all owners.
    all: Seats,
    pub(crate) members: Vec<Member<T>>,
    /// How many fallbacks may still be brought.
    spares: u8,
    pub(crate) answered: bool,
}

impl<T> Member<T> {
    /// Whether it has a seat in a set.
    pub(crate) const fn sits_in(&self, set: usize) -> bool {
        self.seats[set] != 0
    }
}

impl<T> Roll<T> {
    pub(crate) fn new(sets: &Sets) -> Self {
        let mut roll = Self {
            need: [0; SETS],
            all: [0; SETS],
            members: Vec::with_capacity(sets.now.owners.len()),
            spares: 0,
            answered: false,
        };
        roll.seat(sets);
        roll
    }

    fn seat(&mut self, sets: &Sets) {
        for (set, replicas) in sets.each().enumerate() {
            self.need[set] = replicas.need;
            for (slot, &node) in replicas.owners.iter().take(MAX_SLOTS).enumerate() {
                let bit = 1 << slot;
                self.all[set] |= bit;
                match self.members.iter_mut().find(|member| member.node == node) {
                    Some(member) => member.seats[set] |= bit,
                    None => {
                        let mut seats = [0; SETS];
                        seats[set] = bit;
                        self.members.push(Member { node, seats, is_owner: true, heard: None });
                    }
                }
            }
        }
    }

    /// Counts from zero over other sets: nothing that was heard before counts.
    pub(crate) fn restart(&mut self, sets: &Sets) {
        self.members.clear();
        (self.need, self.all) = ([0; SETS], [0; SETS]);
        self.seat(sets);
    }

    /// How many more fallbacks may be brought; without any a request is lost as soon as its owners are.
    pub(crate) fn allow_spares(&mut self, spares: u8) {
        self.spares = spares;
    }

    /// Puts a fallback in the place of the owner of a seat, in both sets if that sits in both: what it keeps it keeps for
    /// that owner. It may stand in for one owner of a set only.
    pub(crate) fn substitute(&mut self, seat: Seat, node: NodeId) -> bool {
        let set = usize::from(seat.set);
        let bit = 1_u32.checked_shl(u32::from(seat.slot)).unwrap_or(0);
        let sits = |member: &&Member<T>| {
            member.is_owner && member.seats.get(set).is_some_and(|seats| seats & bit != 0)
        };
        let Some(seats) = self.members.iter().find(sits).map(|owner| owner.seats).filter(|_| self.spares > 0)
        else {
            return false;
        };
        let shares = |of: &Seats| (0..SETS).any(|set| of[set] != 0 && seats[set] != 0);
        match self.members.iter_mut().find(|member| member.node == node) {
            Some(member) if member.is_owner || shares(&member.seats) => return false,
            // What a witness has said it is asked again: now it counts.
            Some(member) => {
                (0..SETS).for_each(|set| member.seats[set] |= seats[set]);
                member.heard = None;
            }
            None => self.members.push(Member { node, seats, is_owner: false, heard: None }),
        }
        self.spares -= 1;
        true
    }

    /// Asks a node that holds no seat: what it says is heard, and counts for nothing. Says whether it is not asked already.
    pub(crate) fn add_witness(&mut self, node: NodeId) -> bool {
        let is_new = self.members.iter().all(|member| member.node != node);
        if is_new {
            self.members.push(Member { node, seats: [0; SETS], is_owner: false, heard: None });
        }
        is_new
    }

    /// A seat that nobody holds any more and a fallback could, if any may still be brought. `is_gone` says which
    /// of those that were heard hold theirs no longer.
    pub(crate) fn vacant(&self, is_gone: impl Fn(&Heard<T>) -> bool) -> Option<Seat> {
        if self.spares == 0 {
            return None;
        }
        let vacant = self.vacancies(is_gone);
        let set = (0..SETS).find(|&set| vacant[set] != 0)?;
        Some(Seat { set: set as u8, slot: vacant[set].trailing_zeros() as u8 })
    }

    fn vacancies(&self, is_gone: impl Fn(&Heard<T>) -> bool) -> Seats {
        let held = self.seats_of(|member| !member.heard.as_ref().is_some_and(&is_gone));
        let mut vacant = self.all;
        (0..SETS).for_each(|set| vacant[set] &= !held[set]);
        vacant
    }

    /// The nodes to ask, each once, owners first.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.members.iter().map(|member| member.node)
    }

    pub(crate) fn awaits(&self, node: NodeId) -> bool {
        self.members.iter().any(|member| member.node == node && member.heard.is_none())
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.members.iter().all(|member| member.heard.is_some())
    }

    /// The seat that `node` answers for, the first of several.
    pub(crate) fn seat_of(&self, node: NodeId) -> Option<Seat> {
        let member = self.members.iter().find(|member| member.node == node)?;
        let set = (0..SETS).find(|&set| member.seats[set] != 0)?;
        Some(Seat { set: set as u8, slot: member.seats[set].trailing_zeros() as u8 })
    }

    /// Notes what a node says. What a stranger says, or a node for the second time, is not noted.
    pub(crate) fn hear(&mut self, node: NodeId, heard: Heard<T>) -> bool {
        let awaited = |member: &&mut Member<T>| member.node == node && member.heard.is_none();
        let Some(member) = self.members.iter_mut().find(awaited) else { return false };
        member.heard = Some(heard);
        true
    }

    /// Whoever has not answered is silent.
    pub(crate) fn on_deadline(&mut self) {
        self.spares = 0;
        for member in self.members.iter_mut().filter(|member| member.heard.is_none()) {
            member.heard = Some(Heard::Failure(Failure::Silent));
        }
    }

    /// Whether the members that `counts` picks fill enough seats of each set.
    pub(crate) fn is_reached(&self, counts: impl Fn(&Member<T>) -> bool) -> bool {
        let seats = self.seats_of(counts);
        (0..SETS).all(|set| seats[set].count_ones() >= u32::from(self.need[set]))
    }

    /// The sets that there are, by number.
    pub(crate) fn sets(&self) -> impl Iterator<Item = usize> + '_ {
        (0..SETS).filter(|&set| self.all[set] != 0)
    }

    /// Whether those that `counts` picks fill so many seats of each set, or all of one that has fewer.
    pub(crate) fn fills(&self, need: u8, counts: impl Fn(&Member<T>) -> bool) -> bool {
        let seats = self.seats_of(counts);
        (0..SETS).all(|set| seats[set].count_ones() >= u32::from(need).min(self.all[set].count_ones()))
    }

    /// Whether they could still: `counts` picks those that did or may yet, and fallbacks may take what is vacant.
    pub(crate) fn is_within_reach(
        &self,
        counts: impl Fn(&Member<T>) -> bool,
        is_gone: impl Fn(&Heard<T>) -> bool,
    ) -> bool {
        self.could_have(|set| u32::from(self.need[set]), counts, is_gone)
    }

    /// The same for so many of each set, or all of one that has fewer.
    pub(crate) fn could_fill(
        &self,
        need: u8,
        counts: impl Fn(&Member<T>) -> bool,
        is_gone: impl Fn(&Heard<T>) -> bool,
    ) -> bool {
        self.could_have(|set| u32::from(need).min(self.all[set].count_ones()), counts, is_gone)
    }

    fn could_have(
        &self,
        need: impl Fn(usize) -> u32,
        counts: impl Fn(&Member<T>) -> bool,
        is_gone: impl Fn(&Heard<T>) -> bool,
    ) -> bool {
        let (seats, vacant) = (self.seats_of(counts), self.vacancies(is_gone));
        (0..SETS).all(|set| {
            let more = (vacant[set] & !seats[set]).count_ones().min(u32::from(self.spares));
            seats[set].count_ones() + more >= need(set)
        })
    }

    /// The members that `counts` picks, less those who stand in where another has filled the seat: once a hinted copy
    /// is handed on, the two are one. Owners come first.
    pub(crate) fn distinct(&self, counts: impl Fn(&Member<T>) -> bool) -> impl Iterator<Item = &Member<T>> {
        let owners = self.members.iter().filter(|member| member.is_owner);
        let fallbacks = self.members.iter().filter(|member| !member.is_owner);
        let mut filled = [0; SETS];
        owners.chain(fallbacks).filter(move |member| {
            if !counts(member) {
                return false;
            }
            let is_new = (0..SETS).any(|set| member.seats[set] & !filled[set] != 0);
            (0..SETS).for_each(|set| filled[set] |= member.seats[set]);
            is_new || member.is_owner
        })
    }

    /// The owner of a seat that a member sits on for it.
    pub(crate) fn owner_of(&self, fallback: &Member<T>) -> Option<&Member<T>> {
        let shares = |owner: &&Member<T>| (0..SETS).any(|set| owner.seats[set] & fallback.seats[set] != 0);
        self.members.iter().filter(|member| member.is_owner).find(shares)
    }

    fn seats_of(&self, counts: impl Fn(&Member<T>) -> bool) -> Seats {
        let mut seats = [0; SETS];
        for member in self.members.iter().filter(|member| counts(member)) {
            (0..SETS).for_each(|set| seats[set] |= member.seats[set]);
        }
        seats
    }

    /// What an error says: whom `counts` picks has answered; the others have not, and why.
    pub(crate) fn shortfall(
        &self,
        counts: impl Fn(&Member<T>) -> bool,
        why: impl Fn(&Member<T>) -> Failure,
    ) -> Shortfall {
        let (answered, failed): (Vec<_>, Vec<_>) = self.members.iter().partition(|member| counts(member));
        let mut failed: Vec<_> = failed.into_iter().map(|member| (member.node, why(member))).collect();
        failed.sort_unstable();
        Shortfall {
            needed: self.need.iter().copied().max().unwrap_or(0),
            answered: answered.into_iter().map(|member| member.node).collect(),
            failed,
        }
    }
}
