//! Puts that this node coordinates, as an owner of the key, or where none can be reached as a fallback: mint the
//! dot, write here and to the others, answer at W.
//!
//! What is sent is the key's whole state after the put, and the same bytes are stored here: merged once and
//! encoded once. The coordinator's own entry is raised to the put's dot in it, without which contexts would
//! grow by a dot with every write. Whoever merges that drops each older version of ours that is not live in
//! it, so what replaced those must go along. Usually nothing is left but the new version; where siblings
//! stay beside it and are large, the put goes alone and raises nothing, as long as the context is short.

mod admit;
mod again;
mod answer;
mod needs;

use std::sync::Arc;

use bytes::Bytes;
use gramme_object::{Expiry, Key, Object, Sibling};
use gramme_plant::planted;
use gramme_quorum::{
    Ack, Failure, PutError, PutNeeds, PutRequest, PutVerdict, Receipt, Seat, Tenure, Threshold,
};
use gramme_ring::NodeId;
use gramme_vclock::{Context, Dot};
use gramme_wire::PeerMessage;
use gramme_wire::peer::{self, Class, Durability, PutDone, ReplyHeader, Status, Write, WriteReply};

use self::answer::{answer, shortens, tell};
use self::needs::{Levels, check_siblings, check_touched, expires, put_needs, replaced};
use super::duplicates::{Identity, Seen};
use super::stand_in::{fallbacks, stand_in, stand_in_for_silent};
use super::{Around, Coordinator, LINGER, failure, hear_epoch};
use crate::cx::Cx;
use crate::io::{LoadFailed, Ticket};
use crate::node::{Need, Node, Properties};
use crate::place::Place;
use crate::request::{ClientPut, Response};
use crate::serve::request_header;
use crate::shard::{Level, Ready};
use crate::timers::Timer;

/// How long a put is remembered beyond its deadline, in microseconds: a copy may be late.
const REMEMBERED: u64 = 5_000_000;
/// Siblings that stay beside a new version go along with it if they have at most so many bytes.
const WHOLE: u64 = 64 << 10;
/// However large they are, they go along when the context has more dots than this outside its vector.
const OUTSIDE: usize = 64;
/// How long it is kept waiting for owners that the quorum does not need, in microseconds.
const PATIENCE: u64 = 100_000;

/// Who is to be told of a put's outcome.
#[derive(Clone, Debug)]
pub(crate) enum Asker {
    /// A client of this node, with the key that its new context is sealed for.
    Client(Ticket, Key),
    /// A node that handed it on.
    Peer(NodeId, u64),
}

/// A put under way.
#[derive(Debug)]
pub(super) struct Put {
    identity: Identity,
    place: Place,
    /// What its writer had read.
    read: Context,
    content: Option<gramme_object::Content>,
    expiry: Expiry,
    /// The version whose value it brings again.
    touched: Option<Dot>,
    return_body: bool,
    properties: Properties,
    /// Whether fallbacks may stand in.
    sloppy: bool,
    need: Need,
    /// The put as it was asked, but for its value, in case another node must coordinate it.
    asked: Asked,
    counted: PutRequest,
    levels: Levels,
    deadline: u64,
    /// The write as it was sent, once it was.
    write: Option<Kept>,
    /// The verdict, while the answer waits for the object that it shows to be durable.
    receipt: Option<Receipt>,
}

/// What a put asked of its coordinator.
#[derive(Clone, Copy, Debug)]
struct Asked {
    w: Threshold,
    pw: Threshold,
    dw: Threshold,
    sloppy: Option<bool>,
}

/// A write, kept to be sent again: the same dot, at a later epoch or to whoever stands in.
#[derive(Debug)]
struct Kept {
    dot: Dot,
    object: Bytes,
    /// The state that is stored here.
    state: Arc<Object>,
    /// When it was made at the earliest, in milliseconds since 1970.
    millis: u64,
    /// Whether it is as durable here as was asked.
    is_stored: bool,
}

impl Coordinator {
    pub(crate) fn start_client_put(&mut self, around: &mut Around<'_>, ticket: Ticket, put: ClientPut) {
        let Around { cx, node, .. } = around;
        let read = match cx.config.secrets.open(&put.key, &put.context) {
            Ok(read) => read,
            Err(error) => return cx.reply(ticket, Response::Put(Err(error.into()))),
        };
        let request = cx.next_request();
        let identity = match put.identity {
            Some((origin, request)) => Identity { origin, boot: 0, request },
            None => Identity { origin: cx.me().0, boot: cx.boot, request },
        };
        let ClientPut { key, content, expiry, touched, w, pw, dw, timeout, return_body, sloppy, .. } = put;
        let asker = Asker::Client(ticket, key.clone());
        let place = node.map.place(key.clone());
        let put = peer::Put { key, read, content, expiry, touched, w, pw, dw, timeout, return_body, sloppy };
        if planted!(HandOnCopy) && !around.shard.owns(place.partition) {
            let _ = self.is_first(around.cx, identity, &put, asker);
            return self.start_forward(around, identity, place, put);
        }
        if !self.is_first(around.cx, identity, &put, asker) {
            return;
        }
        match self.may_coordinate(around, &place, &put) {
            Ok(()) => self.start_put(around, identity, place, put),
            Err(_) => self.start_forward(around, identity, place, put),
        }
    }

    /// Whether a put is no duplicate of one that is or was. Who asks for a duplicate is told what the first
    /// one is told. Asked before a put is coordinated, and before it is handed on: two copies of one put must
    /// not reach two owners.
    pub(super) fn is_first(
        &mut self,
        cx: &mut Cx,
        identity: Identity,
        put: &peer::Put,
        asker: Asker,
    ) -> bool {
        let until = cx.after(put.timeout) + REMEMBERED;
        let may_wait = !self.is_overloaded(cx);
        match self.duplicates.see(identity, put, asker, (cx.now.monotonic, until), may_wait) {
            Seen::First => return true,
            Seen::Reused(asker) => tell(cx, asker, Err(PutError::RequestReused)),
            Seen::UnderWay => cx.stats.duplicates += 1,
            // Not that nothing was begun: the first one was.
            Seen::Crowded(asker) => {
                let me = cx.me();
                tell(cx, asker, Err(PutError::Unknown(me)));
            }
            Seen::Done(asker, outcome) => {
                cx.stats.duplicates += 1;
                tell(cx, asker, *outcome);
            }
        }
        false
    }

    /// Coordinates a put.
    pub(super) fn start_put(
        &mut self,
        around: &mut Around<'_>,
        identity: Identity,
        place: Place,
        asked: peer::Put,
    ) {
        let (properties, need, needs) = match self.check_put(around.cx, around.node, &asked) {
            Ok(checked) => checked,
            Err(error) => return self.conclude(around.cx, identity, Err(error)),
        };
        around.cx.stats.puts += 1;
        // A fallback keeps what it coordinates for the owner of the first slot.
        let place = match around.shard.owns(place.partition) {
            true => place,
            false => around.node.map.hint_place(&place, Seat::default()).unwrap_or(place),
        };
        let counts = around.shard.counts(place.partition).is_ok();
        let levels = match shortens(&asked.read, asked.return_body) {
            // About every sixteenth put of a chain; the answer may then be short whatever the bucket asks.
            true => Levels::SYNCED,
            false => Levels::of(properties.durability, needs.synced, counts),
        };
        let counted = PutRequest::new(&around.node.map.write_sets(place.partition, need), needs);
        let (id, deadline) = (around.cx.next_request(), around.cx.after(asked.timeout));
        let sloppy = asked.sloppy.unwrap_or(properties.sloppy);
        let peer::Put { read, content, expiry, touched, return_body, w, pw, dw, .. } = asked;
        let asked = Asked { w, pw, dw, sloppy: asked.sloppy };
        let mut put = Put {
            identity,
            place: place.clone(),
            read,
            content,
            expiry,
            touched,
            return_body,
            properties,
            sloppy,
            need,
            asked,
            counted,
            levels,
            deadline,
            write: None,
            receipt: None,
        };
        put.take_seats(around);
        self.puts.insert(id, put);
        around.cx.timers.set(deadline, Timer::Put(id));
        around.shard.load_for_put(around.cx, &place, id);
    }

    fn check_put(
        &self,
        cx: &mut Cx,
        node: &Node,
        put: &peer::Put,
    ) -> Result<(Properties, Need, PutNeeds), PutError> {
        let Some(properties) = node.properties(&put.key) else {
            return Err(PutError::UnknownType(put.key.bucket_type().to_owned()));
        };
        if self.is_overloaded(cx) {
            cx.stats.busy += 1;
            return Err(PutError::Busy);
        }
        let needs = put_needs(put, &properties, node.map.replicas())?;
        let need = Need::new(put.w, properties.w);
        Ok((properties, need, needs))
    }

    /// The key of a put is there, or cannot be read.
    pub(crate) fn on_loaded(&mut self, around: &mut Around<'_>, id: u64, result: Result<(), LoadFailed>) {
        // A put that was given up meanwhile is gone.
        let Some(put) = self.puts.get_mut(&id) else { return };
        let coordinated = match result {
            Ok(()) => coordinate(around, id, put),
            Err(LoadFailed) => Err(PutError::Disk),
        };
        match coordinated {
            Ok(()) => self.answer_put(around.cx, id),
            Err(error) => self.abandon_put(around.cx, id, error),
        }
    }

    /// Ends a put of which nothing has been written.
    fn abandon_put(&mut self, cx: &mut Cx, id: u64, error: PutError) {
        if let Some(put) = self.puts.remove(&id) {
            cx.stats.puts_too_many_siblings += u64::from(matches!(
                error,
                PutError::TooManySiblings { .. } | PutError::SiblingsTooLarge { .. }
            ));
            cx.timers.cancel(put.deadline, Timer::Put(id));
            self.conclude(cx, put.identity, Err(error));
        }
    }

    /// This node's own copy is as durable as was asked, or was not written.
    pub(crate) fn on_own_write(&mut self, around: &mut Around<'_>, id: u64, status: Status) {
        let Some(put) = self.puts.get_mut(&id) else { return };
        if let Some(kept) = &mut put.write {
            kept.is_stored = true;
        }
        let (map, me) = (&around.node.map, around.cx.me());
        let (tenure, _, known) = around.shard.tenures(put.place.partition);
        let counts = around.shard.counts(put.place.partition);
        let verdict = match (failure(status), counts) {
            (None, Ok(())) => {
                let synced = put.levels.own == Level::Synced;
                put.counted.on_ack(Ack { node: me, zone: map.zone(me), synced, tenure, known })
            }
            (None, Err(why)) => put.counted.on_failure(me, why.into()),
            (Some(failure), _) => put.counted.on_failure(me, failure),
        };
        self.on_put_verdict(around, id, verdict);
    }

    pub(crate) fn on_write_reply(
        &mut self,
        around: &mut Around<'_>,
        from: NodeId,
        id: u64,
        reply: WriteReply,
    ) {
        let id = if planted!(OldReply) { self.other_put(id, from) } else { id };
        // Those that come after the end say nothing that is not in the next hello.
        let Some(put) = self.puts.get_mut(&id) else { return };
        let partition = put.place.partition;
        around.node.lineage.hear_point(from, &reply.header.point);
        if around.node.map.layout().is_holder(partition, from) {
            around.shard.learn(partition, from, reply.header.tenure);
        }
        let is_behind = hear_epoch(around, from, partition, &reply.header);
        let status = failure(reply.header.status);
        // What was done under a later layout may stand behind what the new owners have copied.
        let is_void = is_behind && matches!(status, None | Some(Failure::Stale));
        if is_void || !put.counted.awaits(from) {
            // With that layout this begins again.
            return;
        }
        let zone = around.node.map.zone(from);
        let verdict = match status {
            None => put.counted.on_ack(ack(from, zone, put.levels.others, reply.header)),
            Some(failure) => {
                around.cx.dirty.insert(from);
                put.counted.on_failure(from, failure)
            }
        };
        self.on_put_verdict(around, id, verdict);
    }

    /// The put that a bug takes a reply to an older one for.
    fn other_put(&self, id: u64, from: NodeId) -> u64 {
        let is_old = !self.puts.contains_key(&id);
        let other = self.puts.iter().find(|(_, put)| is_old && put.counted.awaits(from));
        other.map_or(id, |(other, _)| *other)
    }

    fn on_put_verdict(&mut self, around: &mut Around<'_>, id: u64, verdict: PutVerdict) {
        let Some(put) = self.puts.get_mut(&id) else { return };
        let cx = &mut *around.cx;
        match verdict {
            PutVerdict::Wait | PutVerdict::Finished => {}
            PutVerdict::Done(receipt) => {
                put.receipt = Some(receipt);
                if put.shortens() {
                    reschedule(cx, id, put, PATIENCE);
                }
            }
            PutVerdict::Fail(shortfall) => {
                cx.stats.puts_failed += 1;
                let identity = put.identity;
                self.conclude(cx, identity, Err(PutError::Unavailable(shortfall)));
            }
        }
        self.answer_put(cx, id);
        self.fill_put_seats(around, id);
        if let Some(put) = self.puts.get(&id)
            && put.counted.is_complete()
            && put.receipt.is_none()
        {
            around.cx.timers.cancel(put.deadline, Timer::Put(id));
            self.puts.remove(&id);
        }
    }

    /// Answers a put whose quorum is reached, once what the answer shows is durable.
    fn answer_put(&mut self, cx: &mut Cx, id: u64) {
        let Some(put) = self.puts.get_mut(&id) else { return };
        let Some(receipt) = put.receipt else { return };
        if put.write.is_none() || put.waits() {
            return;
        }
        let answer = answer(put, receipt);
        let identity = put.identity;
        put.receipt = None;
        reschedule(cx, id, put, LINGER);
        if let Some(done) = answer {
            self.conclude(cx, identity, Ok(done));
        }
    }

    pub(crate) fn on_put_deadline(&mut self, around: &mut Around<'_>, id: u64) {
        let Some(put) = self.puts.get_mut(&id) else { return };
        if put.write.is_none() {
            // The key never came off the disk, so nothing was written.
            return self.abandon_put(around.cx, id, PutError::Disk);
        }
        // The quorum is there, and what the answer was to show did not become durable in time.
        let (late, identity) = (put.receipt.take(), put.identity);
        if let Some(receipt) = late {
            let outcome = match put.return_body {
                true => Err(PutError::Unknown(around.cx.me())),
                false => answer(put, receipt).ok_or(PutError::Unknown(around.cx.me())),
            };
            self.conclude(around.cx, identity, outcome);
        }
        if let Some(put) = self.puts.get_mut(&id) {
            let verdict = put.counted.on_deadline();
            self.on_put_verdict(around, id, verdict);
        }
    }

    /// Has fallbacks write what owners that are gone cannot. Also once the client is answered: as many as there are
    /// slots are to have it.
    fn fill_put_seats(&mut self, around: &mut Around<'_>, id: u64) {
        while let Some(put) = self.puts.get_mut(&id).filter(|put| put.write.is_some())
            && let Some(seat) = put.counted.vacant()
        {
            match stand_in(around, put.place.partition, &mut put.counted, seat) {
                Some(to) => send_write(around.cx, around.node, id, put, to),
                None => {
                    let verdict = put.counted.on_no_fallback();
                    return self.on_put_verdict(around, id, verdict);
                }
            }
        }
    }

    /// A node is silent: another writes as well.
    pub(super) fn on_put_peer_suspect(&mut self, around: &mut Around<'_>, node: NodeId) {
        let waiting = self.puts.iter().filter(|(_, put)| put.write.is_some() && put.counted.awaits(node));
        for id in waiting.map(|(id, _)| *id).collect::<Vec<_>>() {
            let Some(put) = self.puts.get_mut(&id) else { continue };
            let seat = put.counted.seat_of(node);
            let to = seat.and_then(|seat| stand_in(around, put.place.partition, &mut put.counted, seat));
            to.into_iter().for_each(|to| send_write(around.cx, around.node, id, put, to));
        }
    }

    pub(super) fn on_put_peer_down(&mut self, around: &mut Around<'_>, node: NodeId) {
        let waiting = self.puts.iter().filter(|(_, put)| put.write.is_some() && put.counted.awaits(node));
        for id in waiting.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.on_put_failure(around, id, node, Failure::Silent);
        }
    }

    pub(super) fn on_put_failure(
        &mut self,
        around: &mut Around<'_>,
        id: u64,
        node: NodeId,
        failure: Failure,
    ) {
        if let Some(put) = self.puts.get_mut(&id) {
            around.cx.dirty.insert(node);
            let verdict = put.counted.on_failure(node, failure);
            self.on_put_verdict(around, id, verdict);
        }
    }

    pub(super) fn discount_own_acks(&mut self, around: &mut Around<'_>) {
        let me = around.cx.me();
        for id in self.puts.keys().copied().collect::<Vec<_>>() {
            let uncounted = |put: &&mut Put| around.shard.counts(put.place.partition).is_err();
            let Some(put) = self.puts.get_mut(&id).filter(uncounted) else { continue };
            let verdict = put.counted.discount(me, Failure::Amnesiac);
            self.on_put_verdict(around, id, verdict);
        }
    }

    /// Tells everybody who asked for this put what became of it, and remembers it for duplicates.
    pub(super) fn conclude(&mut self, cx: &mut Cx, identity: Identity, outcome: Result<PutDone, PutError>) {
        for asker in self.duplicates.conclude(identity, &outcome) {
            tell(cx, asker, outcome.clone());
        }
    }
}

impl Put {
    /// Has fallbacks, this node perhaps, take the seats of owners that do not answer lately.
    fn take_seats(&mut self, around: &mut Around<'_>) {
        if !self.sloppy {
            return;
        }
        let (partition, me) = (self.place.partition, around.cx.me());
        self.counted.allow_fallbacks(fallbacks(around.node, partition));
        let taken = (!around.shard.owns(partition)).then(Seat::default);
        if let Some(seat) = taken {
            self.counted.substitute(seat, me);
        }
        stand_in_for_silent(around, partition, &mut self.counted, taken);
    }
}

/// Ends a put at most so long from now.
fn reschedule(cx: &mut Cx, id: u64, put: &mut Put, within: u64) {
    cx.timers.cancel(put.deadline, Timer::Put(id));
    put.deadline = put.deadline.min(cx.now.monotonic + within);
    cx.timers.set(put.deadline, Timer::Put(id));
}

/// The key is loaded: mint the version, stage it here, and send it to the other owners.
fn coordinate(around: &mut Around<'_>, id: u64, put: &mut Put) -> Result<(), PutError> {
    let Around { cx, node, shard } = around;
    let Some(Ready { object, stored, .. }) = shard.ready(&put.place).cloned() else {
        debug_assert!(false, "a put is coordinated whose key is not loaded");
        return Err(PutError::Disk);
    };
    check_siblings(put, &object, stored.len())?;
    let millis = node.clock.millis(cx.now);
    let expires = expires(put, millis)?;
    check_touched(put, &object, shard, millis)?;
    let shown_at = if put.return_body { node.clock.range(cx.now).0 } else { millis };
    let dot = shard.mint(cx, put.place.partition);
    cx.observe(object.newest_stamp(), millis);
    let (stamp, write_id) = (cx.next_stamp(millis), cx.random());
    let sibling = Sibling { stamp, write_id, expires, content: put.content.take() };
    let read = replaced(put, &object);
    let (state, sent) = written(&object, &read, dot, sibling);
    let state = Arc::new(state);
    let stored = Bytes::from(state.encode());
    let sent = sent.map_or_else(|| stored.clone(), |sent| sent.encode().into());
    put.write =
        Some(Kept { dot, object: sent, state: Arc::clone(&state), millis: shown_at, is_stored: false });
    send_writes(cx, node, id, put);
    shard.stage_put(cx, &put.place, (state, stored), id, put.levels.own);
    Ok(())
}

/// The state after a write, and what is sent of it if that is not all of it.
fn written(before: &Object, read: &Context, dot: Dot, sibling: Sibling) -> (Object, Option<Object>) {
    let mut state = before.clone();
    state.versions_mut().put(read, dot, sibling.clone());
    let beside: u64 = state.siblings().iter().filter(|(other, _)| *other != dot).map(size).sum();
    let is_whole = if planted!(DecideByStoredSize) {
        before.siblings().iter().map(size).sum::<u64>() <= WHOLE
    } else {
        beside <= WHOLE || state.context().outside().len() > OUTSIDE
    };
    if !is_whole {
        return (state, Some(Object::from_write(read, dot, sibling)));
    }
    let alone = planted!(RaiseAlone).then(|| {
        let mut alone = Object::from_write(read, dot, sibling);
        alone.versions_mut().raise_own_entry(dot);
        alone
    });
    state.versions_mut().raise_own_entry(dot);
    (state, alone)
}

fn size((_, sibling): &(Dot, Sibling)) -> u64 {
    sibling.content.as_ref().map_or(0, |content| content.as_bytes().len() as u64)
}

/// Sends a put's write to every other member.
fn send_writes(cx: &mut Cx, node: &Node, id: u64, put: &Put) {
    let me = cx.me();
    for to in put.counted.members().filter(|&to| to != me) {
        send_write(cx, node, id, put, to);
    }
}

fn send_write(cx: &mut Cx, node: &Node, id: u64, put: &Put, to: NodeId) {
    let Some(kept) = &put.write else { return };
    let durability = match put.levels.others {
        Level::Synced => Durability::Synced,
        Level::Written => Durability::Buffered,
    };
    let ttl = put.deadline.saturating_sub(cx.now.monotonic);
    let header = request_header(cx, node, put.place.partition, id, Class::Foreground);
    let seat = put.counted.seat_of(to).unwrap_or_default();
    let (key, object) = (put.place.key.clone(), kept.object.clone());
    let write = Write { header, key, seat, durability, dot: kept.dot, object };
    cx.send(to, id, ttl, PeerMessage::Write(write));
}

fn ack(from: NodeId, zone: u16, asked: Level, header: ReplyHeader) -> Ack {
    // A version that was seen and replaced is acknowledged as durably as the write asked.
    let synced = match header.status {
        Status::Covered => asked == Level::Synced,
        status => status == Status::DoneSynced,
    };
    let tenure: Tenure = header.tenure;
    Ack { node: from, zone, synced, tenure, known: header.known }
}
