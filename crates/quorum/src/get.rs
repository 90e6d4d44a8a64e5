//! A get: ask all, answer at R, go on listening, and say what to repair.
//!
//! A fallback stands in for an owner that is gone, and knows only what was written since. So that there is nothing
//! under a key is said only if an owner has said so.
//!
//! An owner that lacks a version which another shows has not seen it yet, or has seen it replaced and forgotten by
//! what: a tombstone goes once everybody has seen it, and its context with it. A slow reply would then bring a deleted
//! value back. So where owners differ those that lack a version are asked what became of it before the client is
//! answered, once. A version that one of them has seen and does not hold was replaced: perhaps forgotten long ago,
//! perhaps a moment ago, by what it holds now. So what it holds now is part of the answer. That itself need not be asked
//! about: nobody can have forgotten yet what this owner has not seen, and those who were heard were heard before.
//!
//! A large value need not come from every owner: all but one may withhold it and say which versions they hold. The value
//! is then asked for only if it comes from nobody else, be it for the client or for a repair.

mod values;

use gramme_object::Object;
use gramme_plant::planted;
use gramme_ring::NodeId;
use gramme_vclock::{Context, Dot};

use crate::roll::{Heard, Member, Roll};
use crate::{Failure, Seat, Sets, Shortfall};
use values::{Patience, is_hollow};

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
    /// Ask these owners what became of versions that they do not hold; see [`GetRequest::on_covered`].
    Ask(Vec<Question>),
    /// Ask these replicas for values that they withheld, in the same way, and call [`GetRequest::on_patience_over`] a little
    /// later: others may have them.
    AskValues(Vec<Question>),
    /// A value is withheld by those who were heard, and may yet come from somebody else. Call
    /// [`GetRequest::on_patience_over`] a little later.
    WaitForValue,
    /// Answer the client with this: all that was heard so far, merged.
    Answer(Object),
    /// All have been heard, and none has all that the client's session has read or written: ask others, or later.
    Behind,
    /// Answer the client that it cannot be done any more.
    Fail(Shortfall),
    /// All have been heard (or given up); take [`GetRequest::repairs`] and forget the request.
    Finished,
}

/// What a replica says beyond the versions that it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beside {
    /// What of the session it has merged, or overwritten.
    pub seen: Context,
    /// Of these versions the value was left out.
    pub withheld: Vec<Dot>,
}

/// What an owner is asked of versions: what became of those that others hold and it does not, or for the values that it
/// withheld.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The owner.
    pub node: NodeId,
    /// The versions.
    pub dots: Vec<Dot>,
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
    /// What the session knows, and this replica has merged or overwritten.
    seen: Option<Box<Context>>,
    /// Versions that it holds and of which it left out the value.
    withheld: Vec<Dot>,
    /// What it was asked about, beyond what it said.
    asked: Vec<Dot>,
    /// How many questions for what became of versions it has not answered, and how many for values.
    open: u8,
    fetching: u8,
    /// Versions that it has seen replaced. Who does not count in the end says nothing of them.
    dead: Vec<Dot>,
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
    /// What the client's session has read or written.
    session: Context,
    /// Versions that nobody is asked about: they came with an answer to such a question.
    fresh: Vec<Dot>,
    patience: Patience,
    /// Whether there is no more time to ask anybody.
    is_over: bool,
}

impl GetRequest {
    /// A get over these sets; each must reach its own R, and so many owners must answer.
    #[must_use]
    pub fn new(sets: &Sets, primaries: u8) -> Self {
        let (session, fresh) = (Context::new(), Vec::new());
        Self { primaries, roll: Roll::new(sets), session, fresh, patience: Patience::New, is_over: false }
    }

    /// How many more fallbacks may stand in for owners; none unless this is called.
    pub fn allow_fallbacks(&mut self, count: u8) {
        self.roll.allow_spares(count);
    }

    /// Asks for an answer that has all of this: each version, or what replaced it.
    pub fn require(&mut self, session: Context) {
        self.session = session;
    }

    /// Asks a node that holds no seat, for what the session needs. Says whether it is not asked already.
    pub fn add_witness(&mut self, node: NodeId) -> bool {
        self.roll.add_witness(node)
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

    /// How many owners have answered, and count.
    #[must_use]
    pub fn owners_heard(&self) -> u8 {
        // At most as many as there are slots.
        self.owners(counts) as u8
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

    /// Whether this replica is an owner, not a fallback or a witness.
    #[must_use]
    pub fn is_owner(&self, node: NodeId) -> bool {
        self.roll.members.iter().any(|member| member.node == node && member.is_owner)
    }

    /// Whether nothing more can come: all have been heard.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.roll.is_complete() && !self.is_asking() && (!self.is_fetching() || self.has_values())
    }

    /// Whether this replica has not been heard yet.
    #[must_use]
    pub fn awaits(&self, node: NodeId) -> bool {
        self.roll.awaits(node)
    }

    /// Tells it of a reply. A second reply of one replica, or one of a stranger, changes nothing.
    pub fn on_reply(&mut self, from: NodeId, reply: GetReply) -> GetVerdict {
        self.on_reply_with(from, reply, Beside::default())
    }

    /// The same, of a replica that says more than what it holds.
    pub fn on_reply_with(&mut self, from: NodeId, reply: GetReply, beside: Beside) -> GetVerdict {
        let heard = match reply {
            GetReply::Object(object) => Heard::Answer(Answer::new(object, None, beside)),
            GetReply::Uncounted(object, why) => Heard::Answer(Answer::new(object, Some(why), beside)),
            GetReply::Failed(failure) => Heard::Failure(failure),
        };
        if self.roll.hear(from, heard) { self.verdict() } else { GetVerdict::Wait }
    }

    /// An owner says what it holds now, and which of the versions that it was asked about it has seen and does not hold.
    /// One that counts for nothing is a witness all the same.
    pub fn on_covered(&mut self, from: NodeId, reply: GetReply, covered: &[Dot]) -> GetVerdict {
        self.on_told(from, reply, covered, false)
    }

    fn on_told(&mut self, from: NodeId, reply: GetReply, covered: &[Dot], is_for_values: bool) -> GetVerdict {
        let covered = if planted!(ReadUncovered) { &[] } else { covered };
        let before = self.merged();
        let Some(member) = self.roll.members.iter_mut().find(|member| member.node == from) else {
            return GetVerdict::Wait;
        };
        match &mut member.heard {
            Some(Heard::Answer(answer)) if answer.owes(is_for_values) => match reply {
                // What it said before does not count without that.
                GetReply::Failed(failure) => give_up(member, failure),
                GetReply::Object(object) => answer.take(&object, covered, None, is_for_values),
                GetReply::Uncounted(object, why) => answer.take(&object, covered, Some(why), is_for_values),
            },
            _ => return GetVerdict::Wait,
        }
        let new = self.objects().flat_map(|object| object.versions().dots());
        let new: Vec<Dot> = new.filter(|dot| !before.context().covers(*dot)).collect();
        self.fresh.extend(new);
        self.give_up_hollow(from);
        self.verdict()
    }

    fn answer_mut(&mut self, node: NodeId) -> Option<&mut Answer> {
        let member = self.roll.members.iter_mut().find(|member| member.node == node)?;
        match &mut member.heard {
            Some(Heard::Answer(answer)) => Some(answer),
            _ => None,
        }
    }

    /// A replica turns out to count for nothing: what it said stays in the answer, and no longer counts.
    pub fn discount(&mut self, node: NodeId, why: Failure) -> GetVerdict {
        match self.answer_mut(node).filter(|answer| answer.uncounted.is_none()) {
            Some(answer) => answer.uncounted = Some(why),
            None => return GetVerdict::Wait,
        }
        self.verdict()
    }

    /// Tells it that the deadline has passed: whoever has not answered is silent.
    pub fn on_deadline(&mut self) -> GetVerdict {
        self.roll.on_deadline();
        self.is_over = true;
        self.give_up_asked();
        self.verdict()
    }

    /// Nobody answers any more what was asked. Values that came from others need not come twice.
    fn give_up_asked(&mut self) {
        let has_values = self.has_values();
        let is_missed = |member: &&mut Member<Answer>| is_asked(member) || is_hollow(member) && !has_values;
        for member in self.roll.members.iter_mut().filter(is_missed) {
            give_up(member, Failure::Silent);
        }
    }

    /// Which owners lack something that others hold, of those that were heard.
    #[must_use]
    pub fn repairs(&self) -> Vec<Repair> {
        // Almost always all agree, and nothing is built. What a value is missing of is left to anti-entropy.
        if self.do_agree() || !self.has_values() {
            return Vec::new();
        }
        let merged = self.merged();
        let lacks = |object: &Object| !object.versions().dots().eq(merged.versions().dots());
        let repair = |(member, answer): (&Member<Answer>, &Answer)| {
            let (node, seat) = (member.node, self.roll.seat_of(member.node).unwrap_or_default());
            (member.is_owner && lacks(&answer.object)).then(|| Repair { node, seat, object: merged.clone() })
        };
        self.answers().filter_map(repair).collect()
    }

    fn verdict(&mut self) -> GetVerdict {
        if self.roll.answered {
            return self.verdict_after();
        }
        while self.is_satisfied() {
            let questions = self.questions();
            let has_questions = !questions.is_empty();
            if has_questions && !self.is_over {
                return GetVerdict::Ask(questions);
            }
            if !has_questions {
                if self.is_asking() {
                    return GetVerdict::Wait;
                }
                if self.has_values() {
                    self.roll.answered = true;
                    return GetVerdict::Answer(self.merged());
                }
                if self.is_fetching() && !self.is_over {
                    return GetVerdict::Wait;
                }
                if let Some(wait) = self.wait_for_value() {
                    return wait;
                }
                let questions = self.value_questions();
                if !self.is_over {
                    return GetVerdict::AskValues(questions);
                }
            }
            self.give_up_asked();
        }
        if self.is_hopeless() {
            self.roll.answered = true;
            return GetVerdict::Fail(self.shortfall());
        }
        if self.is_complete() && !self.has_session() {
            return GetVerdict::Behind;
        }
        GetVerdict::Wait
    }

    /// The client has its answer: a repair may still need a value.
    fn verdict_after(&mut self) -> GetVerdict {
        if !self.is_complete() {
            return GetVerdict::Wait;
        }
        if self.is_over || self.do_agree() || self.has_values() {
            return GetVerdict::Finished;
        }
        GetVerdict::AskValues(self.value_questions())
    }

    /// Whether all that the session has read and written is in what was heard, or was replaced by that.
    fn has_session(&self) -> bool {
        if self.session.is_empty() {
            return true;
        }
        let mut has = Context::new();
        for (_, answer) in self.answers() {
            has.join(&answer.object.context().part_of(&self.session));
            answer.seen.iter().for_each(|seen| has.join(seen));
        }
        has.includes(&self.session) || planted!(ForgetSession)
    }

    /// Whether somebody was asked about versions, and has not answered.
    fn is_asking(&self) -> bool {
        self.roll.members.iter().any(is_asked)
    }

    /// Whether all who were heard hold the same versions.
    fn do_agree(&self) -> bool {
        let mut objects = self.objects();
        let Some(first) = objects.next() else { return true };
        objects.all(|object| object.versions().dots().eq(first.versions().dots()))
    }

    /// What is still to be asked of owners: each version once.
    fn questions(&mut self) -> Vec<Question> {
        if self.do_agree() {
            return Vec::new();
        }
        let merged = self.merged();
        let mut questions = Vec::new();
        for member in self.roll.members.iter_mut().filter(|member| member.is_owner) {
            let Some(Heard::Answer(answer)) = &mut member.heard else { continue };
            let is_known = |dot: &Dot| answer.object.versions().is_live(*dot) || self.fresh.contains(dot);
            let is_open = |dot: &Dot| !is_known(dot) && !answer.asked.contains(dot);
            let dots: Vec<Dot> = merged.versions().dots().filter(is_open).collect();
            if !dots.is_empty() {
                answer.asked.extend(&dots);
                answer.open = answer.open.saturating_add(1);
                questions.push(Question { node: member.node, dots });
            }
        }
        questions
    }

    fn is_satisfied(&self) -> bool {
        let owners = self.owners(counts);
        let is_sure = owners > 0 || self.objects().any(|object| !object.versions().is_empty());
        self.roll.is_reached(|member| counts(member.heard.as_ref()))
            && owners >= usize::from(self.primaries)
            && is_sure
            && self.has_session()
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

    fn answers(&self) -> impl Iterator<Item = (&Member<Answer>, &Answer)> {
        self.roll.members.iter().filter_map(|member| match &member.heard {
            Some(Heard::Answer(answer)) => Some((member, answer)),
            _ => None,
        })
    }

    fn objects(&self) -> impl Iterator<Item = &Object> {
        self.answers().map(|(_, answer)| &answer.object)
    }

    fn merged(&self) -> Object {
        let mut objects = self.objects();
        let mut merged = objects.next().cloned().unwrap_or_default();
        // Of equal states one is enough.
        objects.for_each(|object| {
            if *object != merged {
                merged.merge(object);
            }
        });
        // Its context still covers them, and so ends them where they are.
        if self.answers().any(|(_, answer)| !answer.dead.is_empty()) {
            let is_dead = |dot| self.answers().any(|(_, answer)| answer.dead.contains(&dot));
            merged.versions_mut().retain(|dot, _| !is_dead(dot));
        }
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

impl Answer {
    fn new(object: Object, uncounted: Option<Failure>, beside: Beside) -> Self {
        let Beside { seen, withheld } = beside;
        let seen = (!seen.is_empty()).then(|| Box::new(seen));
        Self { object, uncounted, seen, withheld, asked: Vec::new(), open: 0, fetching: 0, dead: Vec::new() }
    }

    /// Whether it has a question still to answer.
    const fn owes(&self, is_for_values: bool) -> bool {
        if is_for_values { self.fetching > 0 } else { self.open > 0 }
    }

    /// Takes what the replica holds now, with all values, and what it has seen replaced: the answer to an open question.
    fn take(&mut self, object: &Object, covered: &[Dot], uncounted: Option<Failure>, is_for_values: bool) {
        *(if is_for_values { &mut self.fetching } else { &mut self.open }) -= 1;
        self.dead.extend(covered);
        self.uncounted = self.uncounted.or(uncounted);
        self.object.merge(object);
        self.object.versions_mut().retain(|dot, _| !covered.contains(&dot));
        let versions = (self.object.versions(), object.versions());
        self.withheld.retain(|dot| versions.0.is_live(*dot) && !versions.1.is_live(*dot));
    }
}

fn is_asked(member: &Member<Answer>) -> bool {
    matches!(&member.heard, Some(Heard::Answer(answer)) if answer.open > 0)
}

/// One that does not answer what it was asked. What counts for nothing is as good without that, if it has its values.
fn give_up(member: &mut Member<Answer>, failure: Failure) {
    match &mut member.heard {
        Some(Heard::Answer(answer)) if answer.uncounted.is_some() && answer.withheld.is_empty() => {
            answer.open = 0;
        }
        heard => *heard = Some(Heard::Failure(failure)),
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
