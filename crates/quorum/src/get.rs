//! A get: ask all, answer at R, go on listening, and say what to repair.
//!
//! A fallback stands in for an owner that is gone, and knows only what was written since. So that there is nothing
//! under a key is said only if an owner has said so.

use gramme_object::Object;
use gramme_ring::NodeId;

use crate::roll::{Heard, Member, Roll};
use crate::{Failure, Seat, Sets, Shortfall};

/// What one replica said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GetReply {
    /// All versions that it holds; an empty object if none.
    Object(Object),
    /// What a replica holds that counts for nothing, and why it does: it adds to the answer, not to R.
    Uncounted(Object, Failure),
    /// Nothing useful. A failed disk is here, never an empty object.
    Failed(Failure),
}

/// What to do after a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GetVerdict {
    /// Wait for more.
    Wait,
    /// Answer the client with this: all that was heard so far, merged.
    Answer(Object),
    /// Answer the client that it cannot be done any more.
    Fail(Shortfall),
    /// All have been heard (or given up); take [`GetRequest::repairs`] and forget the request.
    Finished,
}

/// A replica that lacks versions which another holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// The replica.
    pub node: NodeId,
    /// The seat that it was asked for.
    pub seat: Seat,
    /// What it must merge.
    pub object: Object,
}

#[derive(Clone, Debug)]
struct Answer {
    object: Object,
    /// Why it does not count towards R, if it does not.
    uncounted: Option<Failure>,
}

/// One get in progress.
///
/// ```
/// use gramme_object::Object;
/// use gramme_quorum::{GetReply, GetRequest, GetVerdict, Sets};
/// use gramme_ring::NodeId;
/// let mut get = GetRequest::new(&Sets::one(vec![NodeId(1), NodeId(2), NodeId(3)], 2), 0);
/// assert_eq!(get.on_reply(NodeId(1), GetReply::Object(Object::new())), GetVerdict::Wait);
/// let verdict = get.on_reply(NodeId(3), GetReply::Object(Object::new()));
/// assert_eq!(verdict, GetVerdict::Answer(Object::new()));
/// ```
#[derive(Clone, Debug)]
pub struct GetRequest {
    /// How many owners must answer.
    primaries: u8,
    roll: Roll<Answer>,
}

impl GetRequest {
    /// A get over these sets; each must reach its own R, and so many owners must answer.
    #[must_use]
    pub fn new(sets: &Sets, primaries: u8) -> Self {
        Self { primaries, roll: Roll::new(sets) }
    }

    /// How many more fallbacks may stand in for owners; none unless this is called.
    pub fn allow_fallbacks(&mut self, count: u8) {
        self.roll.allow_spares(count);
    }

    /// There are no more fallbacks: what they alone could have done is lost.
    pub fn on_no_fallback(&mut self) -> GetVerdict {
        self.roll.allow_spares(0);
        self.verdict()
    }

    /// A seat that nobody holds any more, and a fallback may.
    #[must_use]
    pub fn vacant(&self) -> Option<Seat> {
        self.roll.vacant(is_gone)
    }

    /// The seat that a replica is asked for.
    #[must_use]
    pub fn seat_of(&self, node: NodeId) -> Option<Seat> {
        self.roll.seat_of(node)
    }

    /// Puts a fallback on a seat, to be asked like an owner. Says whether it may: it must hold no other seat of the
    /// set, be no owner, and fallbacks must be left.
    pub fn substitute(&mut self, seat: Seat, node: NodeId) -> bool {
        self.roll.substitute(seat, node)
    }

    /// Whether the client has its answer.
    #[must_use]
    pub const fn is_answered(&self) -> bool {
        self.roll.answered
    }

    /// The replicas to ask, each once.
    pub fn members(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.roll.nodes()
    }

    /// Whether nothing more can come: all have been heard.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.roll.is_complete()
    }

    /// Whether this replica has not been heard yet.
    #[must_use]
    pub fn awaits(&self, node: NodeId) -> bool {
        self.roll.awaits(node)
    }

    /// Tells it of a reply. A second reply of one replica, or one of a stranger, changes nothing.
    pub fn on_reply(&mut self, from: NodeId, reply: GetReply) -> GetVerdict {
        let heard = match reply {
            GetReply::Object(object) => Heard::Answer(Answer { object, uncounted: None }),
            GetReply::Uncounted(object, why) => Heard::Answer(Answer { object, uncounted: Some(why) }),
            GetReply::Failed(failure) => Heard::Failure(failure),
        };
        if self.roll.hear(from, heard) { self.verdict() } else { GetVerdict::Wait }
    }

    /// A replica turns out to count for nothing: what it said stays in the answer, and no longer counts.
    pub fn discount(&mut self, node: NodeId, why: Failure) -> GetVerdict {
        let member = self.roll.members.iter_mut().find(|member| member.node == node);
        match member.and_then(|member| member.heard.as_mut()) {
            Some(Heard::Answer(answer)) if answer.uncounted.is_none() => {
                answer.uncounted = Some(why);
                self.verdict()
            }
            _ => GetVerdict::Wait,
        }
    }

    /// Tells it that the deadline has passed: whoever has not answered is silent.
    pub fn on_deadline(&mut self) -> GetVerdict {
        self.roll.on_deadline();
        self.verdict()
    }

    /// Which owners lack something that others hold, of those that were heard.
    #[must_use]
    pub fn repairs(&self) -> Vec<Repair> {
        let mut objects = self.objects();
        let Some((_, first)) = objects.next() else { return Vec::new() };
        // Almost always all agree, and nothing is built.
        if objects.all(|(_, object)| object.versions().dots().eq(first.versions().dots())) {
            return Vec::new();
        }
        let merged = self.merged();
        let lacks = |object: &Object| !object.versions().dots().eq(merged.versions().dots());
        let repair = |(member, object): (&Member<Answer>, &Object)| {
            let (node, seat) = (member.node, self.roll.seat_of(member.node).unwrap_or_default());
            (member.is_owner && lacks(object)).then(|| Repair { node, seat, object: merged.clone() })
        };
        self.objects().filter_map(repair).collect()
    }

    fn verdict(&mut self) -> GetVerdict {
        if self.roll.answered {
            return if self.is_complete() { GetVerdict::Finished } else { GetVerdict::Wait };
        }
        if self.is_satisfied() {
            self.roll.answered = true;
            return GetVerdict::Answer(self.merged());
        }
        if self.is_hopeless() {
            self.roll.answered = true;
            return GetVerdict::Fail(self.shortfall());
        }
        GetVerdict::Wait
    }

    fn is_satisfied(&self) -> bool {
        let owners = self.owners(counts);
        let is_sure = owners > 0 || self.objects().any(|(_, object)| !object.versions().is_empty());
        self.roll.is_reached(|member| counts(member.heard.as_ref()))
            && owners >= usize::from(self.primaries)
            && is_sure
    }

    fn is_hopeless(&self) -> bool {
        let owners = self.owners(|heard| heard.is_none() || counts(heard));
        let may = |member: &Member<Answer>| member.heard.is_none() || counts(member.heard.as_ref());
        !self.roll.is_within_reach(may, is_gone)
            || owners < usize::from(self.primaries)
            || owners == 0 && self.is_complete() && self.vacant().is_none()
    }

    fn owners(&self, counts: impl Fn(Option<&Heard<Answer>>) -> bool) -> usize {
        let owners = self.roll.members.iter().filter(|member| member.is_owner);
        owners.filter(|member| counts(member.heard.as_ref())).count()
    }

    fn objects(&self) -> impl Iterator<Item = (&Member<Answer>, &Object)> {
        self.roll.members.iter().filter_map(|member| match &member.heard {
            Some(Heard::Answer(answer)) => Some((member, &answer.object)),
            _ => None,
        })
    }

    fn merged(&self) -> Object {
        let mut objects = self.objects().map(|(_, object)| object);
        let mut merged = objects.next().cloned().unwrap_or_default();
        // Of equal states one is enough.
        objects.for_each(|object| {
            if *object != merged {
                merged.merge(object);
            }
        });
        merged
    }

    fn shortfall(&self) -> Shortfall {
        // Where fallbacks alone have answered, and know of nothing, nobody has.
        let has_owner = self.owners(counts) > 0;
        let mut shortfall = self.roll.shortfall(
            |member| counts(member.heard.as_ref()) && (has_owner || member.is_owner),
            |member| match &member.heard {
                Some(Heard::Answer(answer)) => answer.uncounted.unwrap_or(Failure::NotOwner),
                Some(Heard::Failure(failure)) => *failure,
                None => Failure::Silent,
            },
        );
        shortfall.needed = shortfall.needed.max(self.primaries);
        shortfall
    }
}

fn is_gone(heard: &Heard<Answer>) -> bool {
    match heard {
        Heard::Answer(answer) => answer.uncounted.is_some(),
        Heard::Failure(failure) => failure.vacates(),
    }
}

fn counts(heard: Option<&Heard<Answer>>) -> bool {
    matches!(heard, Some(Heard::Answer(answer)) if answer.uncounted.is_none())
}
