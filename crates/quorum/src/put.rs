//! A put: count acknowledgements until W, and never one of a replica that is known to have lost its disk.

use gramme_plant::planted;
use gramme_ring::NodeId;
use gramme_vclock::Actor;

use crate::roll::{Heard, Member, Roll};
use crate::{Failure, Seat, Sets, Shortfall};

/// One start of a node on a partition, with when it began. A later one means that the earlier is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tenure {
    /// The actor that it writes as; `None` while unknown.
    pub actor: Option<Actor>,
    /// When it began: microseconds of the node's clock, never the same or earlier for a later tenure.
    pub born: u64,
}

gramme_codec::structs! { Tenure { actor: Option<Actor>, born: u64 } }

/// What one replica acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Who.
    pub node: NodeId,
    /// The replica's zone, as a number.
    pub zone: u16,
    /// Whether the write would survive a loss of power there.
    pub synced: bool,
    /// The replica's tenure on the partition.
    pub tenure: Tenure,
    /// The tenures of the other members, as far as this replica knows them.
    pub known: Vec<(NodeId, Tenure)>,
}

/// What a put needs beside W of each set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PutNeeds {
    /// Acknowledgements of owners, of each set.
    pub primaries: u8,
    /// Acknowledgements that would survive a loss of power, of each set.
    pub synced: u8,
}

/// What was known when a put was answered. While the partition moves it is counted over old owners and new ones, and each number
/// is the smaller of the two: whoever reads asks only one of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Acknowledgements that count.
    pub acks: u8,
    /// Of owners.
    pub primaries: u8,
    /// Of fallbacks.
    pub fallbacks: u8,
    /// Different zones among them.
    pub zones: u8,
    /// That would survive a loss of power.
    pub synced: u8,
}

impl Receipt {
    /// What holds of both.
    fn smaller(self, other: Self) -> Self {
        let (acks, primaries) = (self.acks.min(other.acks), self.primaries.min(other.primaries));
        let (zones, synced) = (self.zones.min(other.zones), self.synced.min(other.synced));
        Self { acks, primaries, fallbacks: acks - primaries, zones, synced }
    }
}

gramme_codec::structs! { Receipt { acks: u8, primaries: u8, fallbacks: u8, zones: u8, synced: u8 } }

/// What to do after a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PutVerdict {
    /// Wait for more.
    Wait,
    /// Answer the client that it is done.
    Done(Receipt),
    /// Answer the client that it is not, and may yet appear.
    Fail(Shortfall),
    /// All have been heard (or given up): forget the request.
    Finished,
}

/// One put in progress.
///
/// ```
/// use gramme_quorum::{Ack, Failure, PutNeeds, PutRequest, PutVerdict, Seat, Sets, Tenure};
/// use gramme_ring::NodeId;
/// let mut put = PutRequest::new(&Sets::one(vec![NodeId(1), NodeId(2), NodeId(3)], 2), PutNeeds::default());
/// let ack = |node| Ack { node, zone: 0, synced: true, tenure: Tenure::default(), known: Vec::new() };
/// put.allow_fallbacks(1);
/// assert_eq!(put.on_ack(ack(NodeId(1))), PutVerdict::Wait);
/// // The owner of slot 1 cannot be reached: the next node of the preference list stands in for it.
/// let verdict = put.on_failure(NodeId(2), Failure::Down);
/// assert_eq!((verdict, put.vacant()), (PutVerdict::Wait, Some(Seat { set: 0, slot: 1 })));
/// assert!(put.substitute(Seat { set: 0, slot: 1 }, NodeId(4)));
/// let PutVerdict::Done(receipt) = put.on_ack(ack(NodeId(4))) else { panic!("two of three") };
/// assert_eq!((receipt.acks, receipt.primaries, receipt.fallbacks), (2, 1, 1));
/// ```
#[derive(Clone, Debug)]
pub struct PutRequest {
    needs: PutNeeds,
    roll: Roll<Ack>,
}

impl PutRequest {
    /// A put over these sets; each must reach its own W.
    #[must_use]
    pub fn new(sets: &Sets, needs: PutNeeds) -> Self {
        Self { needs, roll: Roll::new(sets) }
    }

    /// How many more fallbacks may stand in for owners; none unless this is called.
    pub fn allow_fallbacks(&mut self, count: u8) {
        self.roll.allow_spares(count);
    }

    /// There are no more fallbacks: what they alone could have done is lost.
    pub fn on_no_fallback(&mut self) -> PutVerdict {
        self.roll.allow_spares(0);
        self.verdict()
    }

    /// A seat that nobody holds any more, and a fallback may.
    #[must_use]
    pub fn vacant(&self) -> Option<Seat> {
        self.roll.vacant(is_gone)
    }

    /// Puts a fallback on a seat, to be written to like an owner. Says whether it may: it must hold no other seat
    /// of the set, be no owner, and fallbacks must be left. An owner that is only late keeps its seat too.
    pub fn substitute(&mut self, seat: Seat, node: NodeId) -> bool {
        self.roll.substitute(seat, node)
    }

    /// Counts from zero over the sets of a new epoch. What was acknowledged before says nothing about them.
    pub fn restart(&mut self, sets: &Sets) {
        self.roll.restart(sets);
    }

    /// The replicas to write to, each once.
    pub fn members(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.roll.nodes()
    }

    /// The seat that a replica is written to for.
    #[must_use]
    pub fn seat_of(&self, node: NodeId) -> Option<Seat> {
        self.roll.seat_of(node)
    }

    /// Whether the client has its answer.
    #[must_use]
    pub const fn is_answered(&self) -> bool {
        self.roll.answered
    }

    /// Whether nothing more can come: all have been heard.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.roll.is_complete()
    }

    /// Whether every owner has acknowledged, each acknowledgement counts, and each would survive a loss of power.
    #[must_use]
    pub fn is_unanimous(&self) -> bool {
        let mut owners = self.roll.members.iter().filter(|member| member.is_owner);
        owners.all(|member| self.is_synced(member))
    }

    /// Whether this replica has not been heard yet.
    #[must_use]
    pub fn awaits(&self, node: NodeId) -> bool {
        self.roll.awaits(node)
    }

    /// Tells it of an acknowledgement. A second one of the same node changes nothing.
    pub fn on_ack(&mut self, ack: Ack) -> PutVerdict {
        let node = ack.node;
        if self.roll.hear(node, Heard::Answer(ack)) { self.verdict() } else { PutVerdict::Wait }
    }

    /// Tells it that a replica did not do its part.
    pub fn on_failure(&mut self, node: NodeId, failure: Failure) -> PutVerdict {
        if self.roll.hear(node, Heard::Failure(failure)) { self.verdict() } else { PutVerdict::Wait }
    }

    /// A replica turns out to count for nothing: its acknowledgement is taken back.
    pub fn discount(&mut self, node: NodeId, why: Failure) -> PutVerdict {
        let member = self.roll.members.iter_mut().find(|member| member.node == node);
        match member.map(|member| &mut member.heard) {
            Some(heard @ Some(Heard::Answer(_))) => {
                *heard = Some(Heard::Failure(why));
                self.verdict()
            }
            _ => PutVerdict::Wait,
        }
    }

    /// Tells it that the deadline has passed: whoever has not answered is silent.
    pub fn on_deadline(&mut self) -> PutVerdict {
        self.roll.on_deadline();
        self.verdict()
    }

    fn verdict(&mut self) -> PutVerdict {
        if self.roll.answered {
            return if self.is_complete() { PutVerdict::Finished } else { PutVerdict::Wait };
        }
        if self.is_satisfied() {
            self.roll.answered = true;
            return PutVerdict::Done(self.receipt());
        }
        if self.is_hopeless() {
            self.roll.answered = true;
            return PutVerdict::Fail(self.shortfall());
        }
        PutVerdict::Wait
    }

    fn is_satisfied(&self) -> bool {
        let is_reached = if planted!(CountTwice) {
            // One node that sits in both sets, and each node, counts for two.
            2 * self.acks().count() >= usize::from(self.shortfall().needed)
        } else if planted!(SeatTwice) {
            self.acks().count() >= usize::from(self.shortfall().needed)
        } else {
            self.roll.is_reached(|member| self.counts(member))
        };
        let has_owners =
            self.roll.fills(self.needs.primaries, |member| member.is_owner && self.counts(member));
        is_reached && has_owners && self.roll.fills(self.needs.synced, |member| self.is_synced(member))
    }

    fn is_hopeless(&self) -> bool {
        let may = |member: &Member<Ack>| member.heard.is_none() || self.counts(member);
        let may_sync = |member: &Member<Ack>| member.heard.is_none() || self.is_synced(member);
        !self.roll.is_within_reach(may, is_gone)
            || !self.roll.fills(self.needs.primaries, |member| member.is_owner && may(member))
            || !self.roll.could_fill(self.needs.synced, may_sync, is_gone)
    }

    fn acks(&self) -> impl Iterator<Item = &Ack> {
        self.roll.members.iter().filter_map(|member| match &member.heard {
            Some(Heard::Answer(ack)) => Some(ack),
            _ => None,
        })
    }

    /// Whether a member's acknowledgement counts: one of a tenure that another acknowledger knows to be over
    /// does not (its disk may have gone with it).
    fn counts(&self, member: &Member<Ack>) -> bool {
        let is_good = |member: &Member<Ack>| match &member.heard {
            Some(Heard::Answer(ack)) => !self.is_over(ack),
            Some(Heard::Failure(_)) | None => false,
        };
        // What a fallback kept may have been handed on, and gone with the owner's disk.
        let has_lost = |owner: &Member<Ack>| matches!(owner.heard, Some(Heard::Answer(_))) && !is_good(owner);
        is_good(member) && (member.is_owner || !self.roll.owner_of(member).is_some_and(has_lost))
    }

    /// Whether a member has acknowledged, that counts, and it would survive a loss of power.
    fn is_synced(&self, member: &Member<Ack>) -> bool {
        matches!(&member.heard, Some(Heard::Answer(ack)) if ack.synced) && self.counts(member)
    }

    fn is_over(&self, ack: &Ack) -> bool {
        let others = self.acks().filter(|other| other.node != ack.node);
        let mut known = others.flat_map(|other| &other.known).filter(|(node, _)| *node == ack.node);
        known.any(|(_, known)| known.actor != ack.tenure.actor && known.born > ack.tenure.born)
    }

    fn receipt(&self) -> Receipt {
        let of_set = |set| self.receipt_of(set);
        self.roll.sets().map(of_set).reduce(Receipt::smaller).unwrap_or_default()
    }

    fn receipt_of(&self, set: usize) -> Receipt {
        let mut receipt = Receipt::default();
        let mut zones = [0; MAX_ZONES];
        for member in self.roll.distinct(|member| member.sits_in(set) && self.counts(member)) {
            let Some(Heard::Answer(ack)) = &member.heard else { continue };
            let counted = usize::from(receipt.zones);
            if counted < MAX_ZONES && !zones[..counted].contains(&ack.zone) {
                zones[counted] = ack.zone;
                receipt.zones += 1;
            }
            receipt.acks += 1;
            receipt.primaries += u8::from(member.is_owner);
        }
        receipt.fallbacks = receipt.acks - receipt.primaries;
        let is_counted = |member: &Member<Ack>| member.sits_in(set) && self.is_synced(member);
        receipt.synced = self.roll.distinct(is_counted).count() as u8;
        receipt
    }

    fn shortfall(&self) -> Shortfall {
        let mut shortfall = self.roll.shortfall(
            |member| self.counts(member),
            |member| match member.heard {
                Some(Heard::Failure(failure)) => failure,
                // An acknowledgement that does not count: its tenure is over.
                Some(Heard::Answer(_)) => Failure::Amnesiac,
                None => Failure::Silent,
            },
        );
        shortfall.needed = shortfall.needed.max(self.needs.primaries).max(self.needs.synced);
        shortfall
    }
}

fn is_gone(heard: &Heard<Ack>) -> bool {
    matches!(heard, Heard::Failure(failure) if failure.vacates())
}

/// The most zones that a receipt tells apart: as many as two sets can have members.
const MAX_ZONES: usize = 2 * crate::roll::MAX_SLOTS;
