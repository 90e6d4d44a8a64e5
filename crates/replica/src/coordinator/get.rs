//! Gets that this node coordinates: ask all owners, or who stands in for them, answer at R, repair from what comes late.

use bytes::Bytes;
use gramme_gossip::Opinion;
use gramme_object::{Key, Object, limits};
use gramme_plant::planted;
use gramme_quorum::{Beside, Failure, GetError, GetReply, GetRequest, GetVerdict, Question, Threshold};
use gramme_ring::{NodeId, PartitionId};
use gramme_vclock::{Context, Dot};
use gramme_wire::PeerMessage;
use gramme_wire::peer::{self, Class, Read, ReadReply, Repair, Status};

use super::stand_in::{fallbacks, stand_in, stand_in_for_silent};
use super::{Around, Coordinator, LINGER, failure, hear_epoch};
use crate::cx::Cx;
use crate::io::{LoadFailed, Ticket};
use crate::node::{Need, Node, Properties};
use crate::place::Place;
use crate::request::{Found, Response};
use crate::serve::{repair_level, request_header};
use crate::shard::{Brought, Reader, Uncounted, View, Writer};
use crate::timers::Timer;

/// How long a repair is worth sending, in microseconds.
const REPAIR_TTL: u64 = 5_000_000;
/// How long it is at first, and at most, before all are asked again for what a session needs, in microseconds.
const AGAIN: u64 = 20_000;
const LONGEST: u64 = 1_000_000;
/// How long a large value may come from whom it was asked of first, before another is asked, in microseconds.
const PATIENCE: u64 = 25_000;
/// Nodes that are asked beside owners for what a session needs.
const WITNESSES: usize = 8;
/// Contexts that a session may bring, and dots in them.
const CONTEXTS: usize = 64;
const DOTS: usize = 4_096;

/// A get under way.
#[derive(Debug)]
pub(super) struct Get {
    ticket: Ticket,
    place: Place,
    /// Whether a reader sees siblings, or the last writer among them.
    allow_mult: bool,
    /// What the client wants compared with what is found.
    against: Option<Context>,
    /// What its session has read or written.
    session: Context,
    r: Need,
    pr: u8,
    sloppy: bool,
    /// Whether those are asked, too, who keep copies for others.
    is_wide: bool,
    /// How long it is before all are asked again for what the session needs, in microseconds.
    pause: u64,
    request: GetRequest,
    deadline: u64,
}

/// From how many bytes on a value may be left out, 0 for never, and what else is asked of a replica.
type Wanted = (u32, Option<Box<peer::Asked>>);

/// What an owner was asked of versions.
#[derive(Debug)]
pub(super) struct Asked {
    get: u64,
    question: Question,
    /// Whether for values, not for what became of versions.
    is_for_values: bool,
}

impl Asked {
    /// Tells the get of the answer.
    fn tell(&self, get: &mut Get, reply: GetReply, covered: &[Dot]) -> GetVerdict {
        match self.is_for_values {
            true => get.request.on_values(self.question.node, reply, covered),
            false => get.request.on_covered(self.question.node, reply, covered),
        }
    }
}

/// What a client asks for.
#[derive(Debug)]
pub(crate) struct AskedGet {
    pub(crate) key: Key,
    pub(crate) r: Threshold,
    pub(crate) pr: Threshold,
    pub(crate) timeout: u32,
    pub(crate) sloppy: Option<bool>,
    pub(crate) against: Bytes,
    pub(crate) session: Vec<Bytes>,
}

/// What a get's parameters come to.
struct Checked {
    r: Need,
    pr: u8,
    allow_mult: bool,
    sloppy: bool,
    against: Option<Context>,
    session: Context,
}

impl Get {
    /// What owners are asked beyond what they hold.
    fn asked(&self) -> Option<Box<peer::Asked>> {
        let asked = || Box::new(peer::Asked { dots: Vec::new(), session: self.session.clone() });
        (!self.session.is_empty()).then(asked)
    }
}

impl Coordinator {
    pub(crate) fn start_get(&mut self, around: &mut Around<'_>, ticket: Ticket, asked: AskedGet) {
        let checked = match self.check_get(around.cx, around.node, &asked) {
            Ok(checked) => checked,
            Err(error) => return around.cx.reply(ticket, Response::Get(Err(error))),
        };
        let Checked { r, pr, allow_mult, sloppy, against, session } = checked;
        around.cx.stats.gets += 1;
        let place = around.node.map.place(asked.key);
        let (id, deadline) = (around.cx.next_request(), around.cx.after(asked.timeout));
        around.cx.timers.set(deadline, Timer::Get(id));
        let request = request_of(around.node, place.partition, r, pr);
        let (is_wide, pause) = (false, AGAIN);
        let get = Get {
            ticket,
            place,
            allow_mult,
            against,
            session,
            r,
            pr,
            sloppy,
            is_wide,
            pause,
            request,
            deadline,
        };
        self.gets.insert(id, get);
        self.ask_all(around, id);
    }

    /// Asks all owners, or who stands in for them.
    fn ask_all(&mut self, around: &mut Around<'_>, id: u64) {
        let Some(get) = self.gets.get_mut(&id) else { return };
        get.request.require(get.session.clone());
        if get.sloppy {
            get.request.allow_fallbacks(fallbacks(around.node, get.place.partition));
            stand_in_for_silent(around, get.place.partition, &mut get.request, None);
        }
        // Others first: what this node says itself may end it.
        let (me, get) = (around.cx.me(), &*get);
        let full = with_values(around, get);
        for to in get.request.members().filter(|&to| to != me) {
            let may_withhold = full != to && get.request.is_owner(to);
            let withhold = if may_withhold { around.cx.config.bounds.large } else { 0 };
            send_read(around, id, get, to, (withhold, get.asked()));
        }
        if get.request.awaits(me) {
            self.ask(around, id, me);
        }
    }

    /// None of those who were heard has all that the session needs: asks others who may keep it, and after a while all
    /// again.
    fn on_behind(&mut self, around: &mut Around<'_>, id: u64) {
        let Some(get) = self.gets.get_mut(&id) else { return };
        if around.cx.now.monotonic >= get.deadline {
            around.cx.stats.gets_failed += 1;
            around.cx.reply(get.ticket, Response::Get(Err(GetError::Behind)));
            return self.finish_get(around, id);
        }
        let mut witnesses = Vec::new();
        if get.sloppy && !std::mem::replace(&mut get.is_wide, true) {
            let all = around.node.map.fallbacks(get.place.partition);
            let me = around.cx.me();
            let is_there = |node: &NodeId| *node == me || around.node.peers().state(*node) == Opinion::Alive;
            let few = all.iter().copied().filter(is_there).take(WITNESSES);
            witnesses.extend(few.filter(|&node| get.request.add_witness(node)));
        }
        if witnesses.is_empty() {
            let at = around.cx.now.monotonic + get.pause;
            get.pause = (get.pause * 2).min(LONGEST);
            return around.cx.timers.set(at.min(get.deadline), Timer::GetAgain(id));
        }
        around.cx.stats.gets_asked_again += 1;
        witnesses.into_iter().for_each(|to| self.ask(around, id, to));
    }

    /// What a session needs may have come meanwhile.
    pub(crate) fn on_get_again(&mut self, around: &mut Around<'_>, id: u64) {
        let Some(get) = self.gets.get_mut(&id).filter(|get| !get.request.is_answered()) else { return };
        if around.cx.now.monotonic >= get.deadline {
            return;
        }
        // What was asked before is for nobody.
        self.questions.retain(|_, asked| asked.get != id);
        get.request = request_of(around.node, get.place.partition, get.r, get.pr);
        get.is_wide = false;
        self.ask_all(around, id);
    }

    /// Partitions have other owners: gets of their keys begin again, under numbers that no late answer knows.
    pub(super) fn on_get_layout(&mut self, around: &mut Around<'_>, changed: &[PartitionId]) {
        let is_changed = |get: &Get| changed.binary_search(&get.place.partition).is_ok();
        let of_changed: Vec<u64> =
            self.gets.iter().filter(|(_, get)| is_changed(get)).map(|(id, _)| *id).collect();
        for old in of_changed {
            self.questions.retain(|_, asked| asked.get != old);
            let Some(mut get) = self.gets.remove(&old) else { continue };
            around.cx.timers.cancel(get.deadline, Timer::Get(old));
            if get.request.is_answered() {
                continue;
            }
            around.cx.stats.gets_restarted += 1;
            get.request = request_of(around.node, get.place.partition, get.r, get.pr);
            get.is_wide = false;
            let id = around.cx.next_request();
            around.cx.timers.set(get.deadline, Timer::Get(id));
            self.gets.insert(id, get);
            self.ask_all(around, id);
        }
    }

    /// A large value has not come for a while.
    pub(crate) fn on_get_value(&mut self, around: &mut Around<'_>, id: u64) {
        if let Some(get) = self.gets.get_mut(&id) {
            let verdict = get.request.on_patience_over();
            self.on_get_verdict(around, id, verdict);
        }
    }

    /// Asks a node, perhaps this one, for what it has of a get's key.
    fn ask(&mut self, around: &mut Around<'_>, id: u64, to: NodeId) {
        let Some(get) = self.gets.get(&id) else { return };
        if to != around.cx.me() {
            send_read(around, id, get, to, (0, get.asked()));
        } else if around.shard.is_crowded(around.cx) {
            self.on_get_failure(around, id, to, Failure::Busy);
        } else {
            around.read(&get.place, Reader::Get(id, get.asked()));
        }
    }

    /// Has fallbacks asked for what owners that are gone cannot say.
    fn fill_get_seats(&mut self, around: &mut Around<'_>, id: u64) {
        while let Some(get) = self.gets.get_mut(&id).filter(|get| !get.request.is_answered())
            && let Some(seat) = get.request.vacant()
        {
            match stand_in(around, get.place.partition, &mut get.request, seat) {
                Some(to) => self.ask(around, id, to),
                None => {
                    let verdict = get.request.on_no_fallback();
                    return self.on_get_verdict(around, id, verdict);
                }
            }
        }
    }

    /// A node is silent: others are asked as well.
    pub(super) fn on_get_peer_suspect(&mut self, around: &mut Around<'_>, node: NodeId) {
        let waits = |get: &Get| get.request.awaits(node) && !get.request.is_answered();
        let waiting = self.gets.iter().filter(|(_, get)| waits(get));
        for id in waiting.map(|(id, _)| *id).collect::<Vec<_>>() {
            let Some(get) = self.gets.get_mut(&id) else { continue };
            let seat = get.request.seat_of(node);
            let to = seat.and_then(|seat| stand_in(around, get.place.partition, &mut get.request, seat));
            to.into_iter().for_each(|to| self.ask(around, id, to));
        }
        self.give_up_questions(around, node);
    }

    /// A node does not answer what it was asked of versions: others may do.
    fn give_up_questions(&mut self, around: &mut Around<'_>, node: NodeId) {
        let asked = self.questions.iter().filter(|(_, asked)| asked.question.node == node);
        for number in asked.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.on_question_failure(around, number, Failure::Silent);
        }
    }

    fn check_get(&self, cx: &mut Cx, node: &Node, asked: &AskedGet) -> Result<Checked, GetError> {
        let Some(Properties { r, pr, allow_mult, sloppy, .. }) = node.properties(&asked.key) else {
            return Err(GetError::UnknownType(asked.key.bucket_type().to_owned()));
        };
        asked.r.resolve_positive(node.map.replicas(), r)?;
        let r = Need::new(asked.r, r);
        let pr = asked.pr.resolve(node.map.replicas(), pr)?;
        let given = Some(&asked.against).filter(|against| !against.is_empty());
        let against = given.map(|against| cx.config.secrets.open(&asked.key, against)).transpose()?;
        if self.is_overloaded(cx) {
            cx.stats.busy += 1;
            return Err(GetError::Busy);
        }
        let sloppy = asked.sloppy.unwrap_or(sloppy);
        let session = session_of(cx, asked)?;
        Ok(Checked { r, pr, allow_mult, sloppy, against, session })
    }

    /// This node's own copy has been read.
    pub(crate) fn on_own_read(
        &mut self,
        around: &mut Around<'_>,
        id: u64,
        place: &Place,
        result: Result<View, LoadFailed>,
    ) {
        let beside = beside(result.as_ref().ok().and_then(|view| view.told.as_deref()));
        let reply = own_reply(result, around.shard.counts(place.partition));
        let me = around.cx.me();
        self.on_get_reply(around, id, me, reply, beside);
    }

    pub(crate) fn on_read_reply(
        &mut self,
        around: &mut Around<'_>,
        from: NodeId,
        id: u64,
        reply: &ReadReply,
    ) {
        if let Some(asked) = self.questions.remove(&id) {
            return self.on_question_reply(around, from, asked, reply);
        }
        // Those that come after the end say nothing that is not in the next hello.
        let Some(get) = self.gets.get(&id) else { return self.on_explain_reply(around, from, id, reply) };
        let partition = get.place.partition;
        around.node.lineage.hear_point(from, &reply.header.point);
        if around.node.map.layout().is_holder(partition, from) {
            around.shard.learn(partition, from, reply.header.tenure);
        }
        if hear_epoch(around, from, partition, &reply.header) && reply.header.status == Status::Stale {
            // With the layout that it acts on this begins again.
            return;
        }
        self.on_get_reply(around, id, from, reply_of(reply), beside(reply.told.as_deref()));
    }

    /// Asks what became of versions, or for values.
    fn ask_questions(
        &mut self,
        around: &mut Around<'_>,
        get: u64,
        questions: Vec<Question>,
        is_for_values: bool,
    ) {
        around.cx.stats.versions_asked += questions.len() as u64;
        for question in questions {
            self.ask_question(around, Asked { get, question, is_for_values });
        }
    }

    fn ask_question(&mut self, around: &mut Around<'_>, asked: Asked) {
        let Some(get) = self.gets.get(&asked.get) else { return };
        let (number, to) = (around.cx.next_request(), asked.question.node);
        let dots = asked.question.dots.clone();
        let wanted = Some(Box::new(peer::Asked { dots, session: Context::new() }));
        if to != around.cx.me() {
            send_read(around, number, get, to, (0, wanted));
        } else if around.shard.is_crowded(around.cx) {
            return self.on_no_answer(around, &asked, Failure::Busy);
        } else {
            around.shard.read(around.cx, &get.place, Reader::Question(number, wanted));
        }
        self.questions.insert(number, asked);
    }

    fn on_question_reply(&mut self, around: &mut Around<'_>, from: NodeId, asked: Asked, reply: &ReadReply) {
        let Some(get) = self.gets.get_mut(&asked.get).filter(|_| asked.question.node == from) else { return };
        around.node.lineage.hear_point(from, &reply.header.point);
        let partition = get.place.partition;
        if hear_epoch(around, from, partition, &reply.header) && reply.header.status == Status::Stale {
            return;
        }
        let Some(get) = self.gets.get_mut(&asked.get) else { return };
        let verdict = asked.tell(get, reply_of(reply), &covered_of(reply.told.as_deref()));
        self.on_get_verdict(around, asked.get, verdict);
    }

    /// This node has looked for what became of versions.
    pub(crate) fn on_own_question(
        &mut self,
        around: &mut Around<'_>,
        number: u64,
        result: Result<View, LoadFailed>,
    ) {
        let Some(asked) = self.questions.remove(&number) else { return };
        let Some(get) = self.gets.get_mut(&asked.get) else { return };
        let covered = covered_of(result.as_ref().ok().and_then(|view| view.told.as_deref()));
        let reply = own_reply(result, around.shard.counts(get.place.partition));
        let verdict = asked.tell(get, reply, &covered);
        self.on_get_verdict(around, asked.get, verdict);
    }

    /// What was asked of versions will not be answered, if it was that; says so.
    pub(super) fn on_question_failure(&mut self, around: &mut Around<'_>, id: u64, failure: Failure) -> bool {
        let Some(asked) = self.questions.remove(&id) else { return false };
        self.on_no_answer(around, &asked, failure);
        true
    }

    fn on_no_answer(&mut self, around: &mut Around<'_>, asked: &Asked, failure: Failure) {
        if let Some(get) = self.gets.get_mut(&asked.get) {
            let verdict = asked.tell(get, GetReply::Failed(failure), &[]);
            self.on_get_verdict(around, asked.get, verdict);
        }
    }

    fn on_get_reply(
        &mut self,
        around: &mut Around<'_>,
        id: u64,
        from: NodeId,
        reply: GetReply,
        beside: Beside,
    ) {
        if let Some(get) = self.gets.get_mut(&id) {
            let verdict = get.request.on_reply_with(from, reply, beside);
            self.on_get_verdict(around, id, verdict);
        }
    }

    pub(super) fn on_get_failure(
        &mut self,
        around: &mut Around<'_>,
        id: u64,
        node: NodeId,
        failure: Failure,
    ) {
        self.on_get_reply(around, id, node, GetReply::Failed(failure), Beside::default());
    }

    fn on_get_verdict(&mut self, around: &mut Around<'_>, id: u64, verdict: GetVerdict) {
        let Some(get) = self.gets.get_mut(&id) else { return };
        let cx = &mut *around.cx;
        match verdict {
            GetVerdict::Wait | GetVerdict::Finished => {}
            GetVerdict::WaitForValue => cx.timers.set(cx.now.monotonic + PATIENCE, Timer::GetValue(id)),
            // Whoever takes a seat may have what is missing.
            GetVerdict::Behind if get.request.vacant().is_some() => return self.fill_get_seats(around, id),
            GetVerdict::Behind => return self.on_behind(around, id),
            GetVerdict::Ask(questions) => {
                cx.stats.gets_asked_again += 1;
                return self.ask_questions(around, id, questions, false);
            }
            GetVerdict::AskValues(questions) => {
                cx.timers.set(cx.now.monotonic + PATIENCE, Timer::GetValue(id));
                return self.ask_questions(around, id, questions, true);
            }
            GetVerdict::Answer(object) => {
                cx.timers.cancel(get.deadline, Timer::Get(id));
                get.deadline = get.deadline.min(cx.now.monotonic + LINGER);
                cx.timers.set(get.deadline, Timer::Get(id));
                cx.stats.count_versions(object.siblings().len());
                let found = found(cx, around.node, get, object);
                cx.stats.gets_failed += u64::from(found.is_err());
                cx.reply(get.ticket, Response::Get(found));
            }
            GetVerdict::Fail(shortfall) => {
                cx.stats.gets_failed += 1;
                cx.reply(get.ticket, Response::Get(Err(GetError::Unavailable(shortfall))));
            }
        }
        self.fill_get_seats(around, id);
        let is_over = |get: &Get| get.request.is_answered() && get.request.is_complete();
        if self.gets.get(&id).is_some_and(is_over) {
            self.finish_get(around, id);
        }
    }

    /// Everybody has been heard: send the others what they lack.
    fn finish_get(&mut self, around: &mut Around<'_>, id: u64) {
        let Some(get) = self.gets.remove(&id) else { return };
        self.questions.retain(|_, asked| asked.get != id);
        let Around { cx, node, shard } = around;
        cx.timers.cancel(get.deadline, Timer::Get(id));
        for repair in get.request.repairs() {
            let stored = Bytes::from(repair.object.encode());
            if stored.len() as u64 > limits::STORED {
                // Nobody could keep it, or send it on: whoever reads sees all of it, and can replace it.
                cx.stats.too_large += 1;
                continue;
            }
            cx.stats.read_repairs += 1;
            if repair.node == cx.me() {
                let may =
                    shard.has_room_for(repair.object.has_value()) && !shard.is_full(cx, Class::Background);
                if may {
                    let brought = Brought { object: repair.object, stored };
                    let level = repair_level(node, &get.place.key);
                    shard.merge(cx, &get.place, brought, Writer::Nobody, (level, Class::Background));
                }
                continue;
            }
            let request = cx.next_request();
            let header = request_header(cx, node, get.place.partition, request, Class::Background);
            let key = get.place.key.clone();
            let message = PeerMessage::Repair(Repair { header, key, seat: repair.seat, object: stored });
            cx.send_as(Class::Background, repair.node, request, REPAIR_TTL, message);
        }
    }

    pub(crate) fn on_get_deadline(&mut self, around: &mut Around<'_>, id: u64) {
        if let Some(get) = self.gets.get_mut(&id) {
            let verdict = get.request.on_deadline();
            self.on_get_verdict(around, id, verdict);
        }
    }

    pub(super) fn on_get_peer_down(&mut self, around: &mut Around<'_>, node: NodeId) {
        let waiting = self.gets.iter().filter(|(_, get)| get.request.awaits(node));
        for id in waiting.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.on_get_failure(around, id, node, Failure::Silent);
        }
        self.give_up_questions(around, node);
    }

    pub(super) fn discount_own_reads(&mut self, around: &mut Around<'_>) {
        let me = around.cx.me();
        for id in self.gets.keys().copied().collect::<Vec<_>>() {
            let uncounted = |get: &&mut Get| around.shard.counts(get.place.partition).is_err();
            let Some(get) = self.gets.get_mut(&id).filter(uncounted) else { continue };
            let verdict = get.request.discount(me, Failure::Amnesiac);
            self.on_get_verdict(around, id, verdict);
        }
    }
}

/// The owner that sends its values whatever their size: this node, if it is one whose copy counts, or one that is there.
fn with_values(around: &Around<'_>, get: &Get) -> NodeId {
    let (me, request) = (around.cx.me(), &get.request);
    let is_there = |node: &NodeId| *node != me && around.node.peers().state(*node) == Opinion::Alive;
    let counts = around.shard.counts(get.place.partition).is_ok() && !around.shard.is_crowded(around.cx);
    if request.is_owner(me) && request.awaits(me) && counts {
        return me;
    }
    let mut owners = request.members().filter(|&node| request.is_owner(node));
    owners.find(is_there).unwrap_or(me)
}

/// All that a session's contexts cover.
fn session_of(cx: &Cx, asked: &AskedGet) -> Result<Context, GetError> {
    let mut session = Context::new();
    for context in asked.session.iter().take(CONTEXTS + 1) {
        session.join(&cx.config.secrets.open(&asked.key, context)?);
    }
    if asked.session.len() > CONTEXTS || session.len() > DOTS {
        return Err(GetError::Context(gramme_quorum::ContextError::Malformed));
    }
    Ok(session)
}

/// What this node's own copy says.
fn own_reply(result: Result<View, LoadFailed>, counts: Result<(), Uncounted>) -> GetReply {
    match (result, counts) {
        (Ok(view), Ok(())) => GetReply::Object((*view.object).clone()),
        (Ok(view), Err(why)) => GetReply::Uncounted((*view.object).clone(), why.into()),
        (Err(LoadFailed), _) => GetReply::Failed(Failure::Disk),
    }
}

/// What another's copy says.
fn reply_of(reply: &ReadReply) -> GetReply {
    match (failure(reply.header.status), decoded(&reply.object)) {
        (None, Ok(object)) => GetReply::Object(object),
        (Some(why @ (Failure::Amnesiac | Failure::Unproven)), Ok(object)) => GetReply::Uncounted(object, why),
        (failure, _) => GetReply::Failed(failure.unwrap_or(Failure::Disk)),
    }
}

fn beside(told: Option<&peer::Told>) -> Beside {
    told.map(|told| Beside { seen: told.seen.clone(), withheld: told.withheld.clone() }).unwrap_or_default()
}

fn covered_of(told: Option<&peer::Told>) -> Vec<Dot> {
    told.map(|told| told.covered.clone()).unwrap_or_default()
}

/// What a reply shows.
pub(super) fn decoded(stored: &Bytes) -> Result<Object, gramme_object::DecodeError> {
    if stored.is_empty() { Ok(Object::new()) } else { Object::decode(stored) }
}

fn send_read(around: &mut Around<'_>, id: u64, get: &Get, to: NodeId, (withhold, asked): Wanted) {
    let Around { cx, node, .. } = around;
    let ttl = get.deadline.saturating_sub(cx.now.monotonic);
    let header = request_header(cx, node, get.place.partition, id, Class::Foreground);
    let read = Read { header, key: get.place.key.clone(), withhold, asked };
    cx.send(to, id, ttl, PeerMessage::Read(read));
}

/// What a client is shown of what was found.
fn found(cx: &Cx, node: &Node, get: &Get, object: Object) -> Result<Found, GetError> {
    let mut shown = match get.allow_mult {
        true => object,
        false => object.last_writer(node.clock.millis(cx.now)),
    };
    if shown.next_expiry().is_some() && !planted!(ShowExpired) {
        let (earliest, latest) = node.clock.range(cx.now);
        shown.purge(earliest);
        // To hide what has not expired would let the reader's next write replace it.
        if shown.purge(latest) > 0 {
            return Err(GetError::Clock);
        }
    }
    let context = cx.config.secrets.seal(&get.place.key, shown.context());
    let covers = |against: &Context| shown.versions().dots().all(|dot| against.covers(dot));
    let is_covered = get.against.as_ref().is_some_and(covers);
    Ok(Found { context, object: shown, owners: get.request.owners_heard(), is_covered })
}

/// A get that asks the owners of a partition for R of them, `pr` of them themselves.
fn request_of(node: &Node, partition: PartitionId, r: Need, pr: u8) -> GetRequest {
    GetRequest::new(&node.map.read_sets(partition, r), node.map.read_primaries(partition, pr))
}
