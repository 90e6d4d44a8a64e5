//! Puts that this node coordinates, as an owner of the key: mint the dot, write here and to the others,
//! answer at W.

use gramme_object::{Content, Key, Object, Sibling, Stamp, limits};
use gramme_quorum::{
    Ack, Failure, PutError, PutNeeds, PutRequest, PutVerdict, Receipt, ReplicaSet, Threshold,
};
use gramme_ring::{NodeId, PartitionId};
use gramme_vclock::{Context, Dot};
use gramme_wire::PeerMessage;
use gramme_wire::peer::{self, Durability, ForwardReply, PutDone, Status, Write, WriteReply};

use crate::Replica;
use crate::commits::Level;
use crate::duplicates::{Identity, Seen};
use crate::io::Ticket;
use crate::keys::{Operation, Ready, Writer};
use crate::properties::{BucketDurability, Properties};
use crate::replicate::failure;
use crate::request::{ClientPut, Response, Stored};
use crate::timers::Timer;

/// How long a put whose quorum is reached still waits for the last replicas, in microseconds.
pub(crate) const LINGER: u64 = 2_000_000;

/// How long a put is remembered beyond its deadline, in microseconds: a copy may be late.
const REMEMBERED: u64 = 5_000_000;

/// A put sends the key's whole state, with the coordinator's own entry raised to the put's dot: without
/// raising, contexts would grow by a dot with every write. Whoever merges that drops each older version of
/// ours that is not live in it, so what replaced those must go along, staged or durable here. A state of more
/// bytes than this is too large to go along: then the put goes alone, and no entry is raised.
const WHOLE: usize = 64 << 10;

/// Who is to be told of a put's outcome.
#[derive(Clone, Debug)]
pub(crate) enum Asker {
    /// A client of this node, with the key that its new context is sealed for.
    Client(Ticket, Key),
    /// A node that handed it on, and the key.
    Peer(NodeId, u64, Key),
}

/// A put under way.
#[derive(Debug)]
pub(crate) struct Put {
    identity: Identity,
    put: peer::Put,
    partition: PartitionId,
    properties: Properties,
    request: PutRequest,
    levels: Levels,
    deadline: u64,
    /// The version that was minted, once it was.
    dot: Option<Dot>,
    /// What is stored here after the put, and whether that is durable.
    stored: Option<Object>,
    is_stored: bool,
    /// The verdict, while the answer waits for the object that it shows to be durable.
    receipt: Option<Receipt>,
}

impl Replica {
    pub(crate) fn start_client_put(&mut self, ticket: Ticket, put: ClientPut) {
        let read = match self.config.secrets.open(&put.key, &put.context) {
            Ok(read) => read,
            Err(error) => {
                let refused = PutError::Context(error.to_string());
                return self.reply(ticket, Response::Put(Err(refused)));
            }
        };
        let request = self.next_request();
        let identity = match put.identity {
            Some((origin, request)) => Identity { origin, boot: 0, request },
            None => Identity { origin: self.config.node.0, boot: self.boot, request },
        };
        let content = put.content.map(|content| content.as_bytes().clone());
        let ClientPut { key, w, pw, dw, timeout, return_body, .. } = put;
        let put = peer::Put { key, read, content, w, pw, dw, timeout, return_body };
        let asker = Asker::Client(ticket, put.key.clone());
        let (_, partition) = self.place(&put.key);
        #[cfg(gramme_planted)]
        let asker = match self.planted_hand_on(partition, identity, &put, asker) {
            Some(asker) => asker,
            None => return,
        };
        if !self.is_first(identity, &put, asker) {
            return;
        }
        let is_owner = self.partitions.contains_key(&partition.prefix);
        if is_owner && self.writable && !self.is_amnesiac(&put.key) {
            self.start_put(identity, put);
        } else {
            self.start_forward(identity, put);
        }
    }

    /// A bug hands a put on without looking whether it has done so before.
    #[cfg(gramme_planted)]
    fn planted_hand_on(
        &mut self,
        partition: PartitionId,
        identity: Identity,
        put: &peer::Put,
        asker: Asker,
    ) -> Option<Asker> {
        use gramme_vclock::planted::{Plant, is};
        if !is(Plant::HandOnCopy) || self.partitions.contains_key(&partition.prefix) {
            return Some(asker);
        }
        let _ = self.is_first(identity, put, asker);
        self.start_forward(identity, put.clone());
        None
    }

    /// Whether a put is no duplicate of one that is or was. Who asks for a duplicate is told what the first
    /// one is told. Asked before a put is coordinated, and before it is handed on: two copies of one put must
    /// not reach two owners.
    pub(crate) fn is_first(&mut self, identity: Identity, put: &peer::Put, asker: Asker) -> bool {
        let until = self.now.monotonic + u64::from(put.timeout) * 1_000 + REMEMBERED;
        let may_wait = !self.is_overloaded();
        match self.duplicates.see(identity, put, asker, until, may_wait) {
            Seen::First => return true,
            Seen::Reused(asker) => {
                let message = "request-reused: this request's number was used for another key";
                self.tell(asker, Err(PutError::Context(message.to_owned())));
            }
            Seen::UnderWay => self.stats.duplicates += 1,
            // Not that nothing was begun: the first one was.
            Seen::Crowded(asker) => self.tell(asker, Err(PutError::Unknown(self.config.node))),
            Seen::Done(asker, outcome) => {
                self.stats.duplicates += 1;
                self.tell(asker, *outcome);
            }
        }
        false
    }

    /// Coordinates a put.
    pub(crate) fn start_put(&mut self, identity: Identity, put: peer::Put) {
        let deadline = self.now.monotonic + u64::from(put.timeout) * 1_000;
        let properties = match self.check_put(&put) {
            Ok(properties) => properties,
            Err(error) => return self.conclude(identity, Err(error)),
        };
        self.stats.puts += 1;
        let (_, partition) = self.place(&put.key);
        let (request, levels) = match self.put_request(&put, &properties, partition) {
            Ok(request) => request,
            Err(error) => return self.conclude(identity, Err(error)),
        };
        let id = self.next_request();
        let key = put.key.clone();
        let put = Put {
            identity,
            put,
            partition,
            properties,
            request,
            levels,
            deadline,
            dot: None,
            stored: None,
            is_stored: false,
            receipt: None,
        };
        self.puts.insert(id, put);
        self.timers.set(deadline, Timer::Put(id));
        self.with_key(&key, Operation::Coordinate(id));
    }

    fn check_put(&mut self, put: &peer::Put) -> Result<Properties, PutError> {
        let key = &put.key;
        let Some(properties) = self.table.get(key.bucket_type(), key.bucket()) else {
            return Err(PutError::UnknownType(key.bucket_type().to_owned()));
        };
        if !self.writable {
            return Err(PutError::WriteStopped);
        }
        let properties = *properties;
        if self.is_overloaded() {
            self.stats.busy += 1;
            return Err(PutError::Busy);
        }
        Ok(properties)
    }

    fn put_request(
        &self,
        put: &peer::Put,
        properties: &Properties,
        partition: PartitionId,
    ) -> Result<(PutRequest, Levels), PutError> {
        let (need, needs) = put_needs(put, properties, self.config.layout.replicas())?;
        let members = self.config.layout.owners(partition).collect();
        let levels = Levels::of(properties.durability, needs.synced);
        Ok((PutRequest::new(vec![ReplicaSet { members, need }], needs), levels))
    }

    /// The key is loaded: mint the version, stage it here, and send it to the other owners.
    pub(crate) fn coordinate(&mut self, id: u64) {
        let Some(put) = self.puts.get(&id) else { return };
        let key = put.put.key.clone();
        let Some(ready) = self.ready(&key) else { return };
        if let Err(error) = check_siblings(put, &ready) {
            self.stats.puts_too_many_siblings += 1;
            return self.abandon_put(id, error);
        }
        let content = match put.put.content.clone().map(Content::from_bytes).transpose() {
            Ok(content) => content,
            Err(error) => return self.abandon_put(id, PutError::Context(error.to_string())),
        };
        self.observe(ready.object.newest_stamp());
        self.stamp = self.next_stamp();
        let sibling = Sibling { stamp: self.stamp, write_id: self.random(), content };
        let Some(put) = self.puts.get_mut(&id) else { return };
        let Some(owned) = self.partitions.get_mut(&put.partition.prefix) else { return };
        let dot = owned.mint();
        put.dot = Some(dot);
        let read = replaced(put, &ready.object);
        let mut delta = Object::from_write(&read, dot, sibling);
        let whole = ready.stored.len() <= WHOLE;
        #[cfg(gramme_planted)]
        let is_planted = gramme_vclock::planted::is(gramme_vclock::planted::Plant::RaiseAlone);
        #[cfg(gramme_planted)]
        if whole && is_planted {
            delta.versions_mut().raise_own_entry(dot);
            let level = put.levels.own;
            self.send_writes(id, dot, whole, &read, &delta);
            self.merge(&key, delta, Writer::Put(id), level);
            return;
        }
        let brought = if whole {
            delta.merge(&ready.object);
            delta.versions_mut().raise_own_entry(dot);
            delta.clone()
        } else {
            delta.only(dot)
        };
        let level = put.levels.own;
        self.send_writes(id, dot, whole, &read, &brought);
        self.merge(&key, delta, Writer::Put(id), level);
        let merged = self.ready(&key).map(|ready| (*ready.object).clone());
        if let Some(put) = self.puts.get_mut(&id) {
            put.stored = merged;
            self.answer_put(id);
        }
    }

    fn send_writes(&mut self, id: u64, dot: Dot, whole: bool, read: &Context, brought: &Object) {
        let Some(put) = self.puts.get(&id) else { return };
        let (key, partition, deadline) = (put.put.key.clone(), put.partition, put.deadline);
        let durability = match put.levels.others {
            Level::Synced => Durability::Synced,
            Level::Written => Durability::Buffered,
        };
        let mut members = put.request.members();
        members.retain(|&node| node != self.config.node);
        let object = bytes::Bytes::from(brought.encode());
        let ttl = deadline.saturating_sub(self.now.monotonic);
        for node in members {
            let header = self.request_header(partition, id);
            // Every member holds a slot of the partition.
            let slot = self.config.layout.slot_of(partition, node).unwrap_or(0);
            let (key, read, object) = (key.clone(), read.clone(), object.clone());
            let write = Write { header, key, slot, durability, dot, whole, read, object };
            self.send(node, id, ttl, PeerMessage::Write(write));
        }
    }

    pub(crate) fn on_coordinate_failed(&mut self, id: u64) {
        self.abandon_put(id, PutError::Disk);
    }

    /// Ends a put of which nothing has been written.
    fn abandon_put(&mut self, id: u64, error: PutError) {
        if let Some(put) = self.puts.remove(&id) {
            self.timers.cancel(put.deadline, Timer::Put(id));
            self.conclude(put.identity, Err(error));
        }
    }

    pub(crate) fn on_own_write(&mut self, id: u64, status: Status) {
        let node = self.config.node;
        let Some(put) = self.puts.get_mut(&id) else { return };
        put.is_stored = true;
        let partition = put.partition;
        let level = put.levels.own;
        let Some(owned) = self.partitions.get(&partition.prefix) else { return };
        let (tenure, known) = (owned.tenure(), owned.known());
        let is_amnesiac = owned.is_amnesiac;
        #[cfg(gramme_planted)]
        let is_amnesiac =
            is_amnesiac && !gramme_vclock::planted::is(gramme_vclock::planted::Plant::CountAmnesiac);
        let status = if is_amnesiac { Status::Amnesiac } else { status };
        let verdict = match failure(status) {
            None => {
                let slot = self.config.layout.slot_of(partition, node).unwrap_or(0);
                let (zone, synced) = (self.config.zone(node), level == Level::Synced);
                let ack = Ack { node, slot, primary: true, zone, synced, tenure, known };
                self.puts.get_mut(&id).map(|put| put.request.on_ack(ack))
            }
            Some(failure) => self.puts.get_mut(&id).map(|put| put.request.on_failure(node, failure)),
        };
        self.on_put_verdict(id, verdict.unwrap_or(PutVerdict::Wait));
    }

    pub(crate) fn on_write_reply(&mut self, from: NodeId, id: u64, reply: WriteReply) {
        #[cfg(gramme_planted)]
        let id = self.planted_put(id, from);
        let Some(put) = self.puts.get(&id) else { return };
        let partition = put.partition;
        self.learn_from_reply(from, partition, &reply.header, reply.position);
        let zone = self.config.zone(from);
        let Some(put) = self.puts.get_mut(&id) else { return };
        let is_awaited = put.request.awaits(from);
        #[cfg(gramme_planted)]
        let is_awaited = is_awaited || gramme_vclock::planted::is(gramme_vclock::planted::Plant::CountTwice);
        if !is_awaited {
            return;
        }
        let verdict = match failure(reply.header.status) {
            None => put.request.on_ack(Ack {
                node: from,
                slot: reply.slot,
                primary: true,
                zone,
                // A version that was seen and replaced is acknowledged as durably as the write asked.
                synced: match reply.header.status {
                    Status::Covered => put.levels.others == Level::Synced,
                    status => status == Status::DoneSynced,
                },
                tenure: reply.header.tenure,
                known: reply.header.known,
            }),
            Some(failure) => put.request.on_failure(from, failure),
        };
        self.on_put_verdict(id, verdict);
    }

    /// The put that a bug takes a reply to an older one for.
    #[cfg(gramme_planted)]
    fn planted_put(&self, id: u64, from: NodeId) -> u64 {
        use gramme_vclock::planted::{Plant, is};
        let is_old = is(Plant::OldReply) && !self.puts.contains_key(&id);
        let other = self.puts.iter().find(|(_, put)| is_old && put.request.awaits(from));
        other.map_or(id, |(other, _)| *other)
    }

    fn on_put_verdict(&mut self, id: u64, verdict: PutVerdict) {
        match verdict {
            PutVerdict::Wait | PutVerdict::Finished => {}
            PutVerdict::Done(receipt) => {
                let linger = self.now.monotonic + LINGER;
                if let Some(put) = self.puts.get_mut(&id) {
                    put.receipt = Some(receipt);
                    self.timers.cancel(put.deadline, Timer::Put(id));
                    put.deadline = put.deadline.min(linger);
                    self.timers.set(put.deadline, Timer::Put(id));
                }
            }
            PutVerdict::Fail(shortfall) => {
                self.stats.puts_failed += 1;
                let error = PutError::Unavailable(shortfall);
                #[cfg(gramme_planted)]
                let error = match gramme_vclock::planted::is(gramme_vclock::planted::Plant::DenyChange) {
                    true => PutError::Disk,
                    false => error,
                };
                if let Some(put) = self.puts.get(&id) {
                    self.conclude(put.identity, Err(error));
                }
            }
        }
        self.answer_put(id);
        if self.puts.get(&id).is_some_and(|put| put.request.is_complete() && put.receipt.is_none())
            && let Some(put) = self.puts.remove(&id)
        {
            self.timers.cancel(put.deadline, Timer::Put(id));
        }
    }

    /// Answers a put whose quorum is reached, once what the answer shows is durable.
    fn answer_put(&mut self, id: u64) {
        let Some(put) = self.puts.get_mut(&id) else { return };
        let (Some(receipt), Some(dot)) = (put.receipt, put.dot) else { return };
        if put.put.return_body && !(put.is_stored && put.stored.is_some()) {
            return;
        }
        put.receipt = None;
        #[cfg(gramme_planted)]
        let full = put.stored.as_ref().map(|object| object.context().clone());
        let shown = put.stored.take().filter(|_| put.put.return_body);
        let shown = shown.map(|object| if put.properties.allow_mult { object } else { object.last_writer() });
        let context = match &shown {
            Some(object) => object.context().clone(),
            #[cfg(gramme_planted)]
            None if gramme_vclock::planted::is(gramme_vclock::planted::Plant::FullContext) => {
                full.unwrap_or_default()
            }
            None => {
                // What the writer had read and its own write, no more.
                let mut context = put.put.read.clone();
                context.insert(dot);
                context
            }
        };
        let object = shown.map(|object| object.encode().into());
        let identity = put.identity;
        self.conclude(identity, Ok(PutDone { context, receipt, object, dot }));
    }

    /// A stamp after all that were seen, unless our clock says that those are not to be believed.
    fn next_stamp(&self) -> Stamp {
        let millis = self.now.wall / 1_000;
        let next = self.stamp.next(millis);
        if next.is_ahead(millis) { Stamp::at_millis(millis) } else { next }
    }

    pub(crate) fn on_put_deadline(&mut self, id: u64) {
        let Some(put) = self.puts.get_mut(&id) else { return };
        if put.dot.is_none() {
            // The key never came off the disk, so nothing was written.
            return self.abandon_put(id, PutError::Disk);
        }
        let was_waiting = put.receipt.take().is_some();
        let identity = put.identity;
        let verdict = put.request.on_deadline();
        self.on_put_verdict(id, verdict);
        if was_waiting {
            // The quorum was there, but what the answer was to show did not become durable in time.
            self.conclude(identity, Err(PutError::Unknown(self.config.node)));
        }
    }

    pub(crate) fn on_put_undelivered(&mut self, to: NodeId, id: u64, busy: bool) {
        self.on_put_failure(id, to, if busy { Failure::Busy } else { Failure::Down });
    }

    pub(crate) fn on_put_peer_down(&mut self, node: NodeId) {
        let waiting = self.puts.iter().filter(|(_, put)| put.dot.is_some() && put.request.awaits(node));
        for id in waiting.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.on_put_failure(id, node, Failure::Silent);
        }
    }

    fn on_put_failure(&mut self, id: u64, node: NodeId, failure: Failure) {
        if let Some(put) = self.puts.get_mut(&id) {
            let verdict = put.request.on_failure(node, failure);
            self.on_put_verdict(id, verdict);
        }
    }

    /// Tells everybody who asked for this put what became of it, and remembers it for duplicates.
    pub(crate) fn conclude(&mut self, identity: Identity, outcome: Result<PutDone, PutError>) {
        for asker in self.duplicates.conclude(identity, &outcome) {
            self.tell(asker, outcome.clone());
        }
    }

    pub(crate) fn tell(&mut self, asker: Asker, outcome: Result<PutDone, PutError>) {
        match asker {
            Asker::Client(ticket, key) => {
                let response = self.put_response(&key, outcome);
                self.reply(ticket, response);
            }
            Asker::Peer(node, id, key) => {
                let status = if outcome.is_ok() { Status::DoneBuffered } else { Status::Refused };
                let header = self.reply_header(&key, status);
                let message = PeerMessage::ForwardReply(Box::new(ForwardReply { header, outcome }));
                self.send(node, id, 5_000_000, message);
            }
        }
    }

    pub(crate) fn put_response(&self, key: &Key, outcome: Result<PutDone, PutError>) -> Response {
        Response::Put(outcome.and_then(|done| {
            let context = self.config.secrets.seal(key, &done.context);
            let object = done.object.map(|object| Object::decode(&object)).transpose();
            let object = object.map_err(|_| PutError::Disk)?;
            Ok(Stored { context, receipt: done.receipt, object })
        }))
    }
}

fn put_needs(put: &peer::Put, properties: &Properties, replicas: u8) -> Result<(u8, PutNeeds), PutError> {
    let need = put.w.resolve_positive(replicas, properties.w)?;
    let primaries = put.pw.resolve(replicas, properties.pw)?;
    let synced = put.dw.resolve(replicas, Threshold::Count(0))?;
    let least = u8::from(properties.durability == BucketDurability::OneOfN);
    Ok((need, PutNeeds { primaries, synced: synced.max(least) }))
}

fn check_siblings(put: &Put, ready: &Ready) -> Result<(), PutError> {
    let object = &ready.object;
    let bytes = (ready.stored.len() + put.put.content.as_ref().map_or(0, bytes::Bytes::len)) as u64;
    let replaces_all = object.versions().dots().all(|dot| put.put.read.covers(dot));
    if put.properties.allow_mult && !replaces_all && bytes > limits::OBJECT {
        return Err(PutError::SiblingsTooLarge { bytes, limit: limits::OBJECT });
    }
    let siblings = object.versions().len_after_put(&put.put.read) as u32;
    let limit = put.properties.max_siblings;
    if put.properties.allow_mult && siblings > limit {
        return Err(PutError::TooManySiblings { siblings, limit });
    }
    Ok(())
}

/// What a put replaces: what its writer has read; in a last-write-wins bucket also every sibling that is
/// here, since the new stamp is greater than all of theirs.
fn replaced(put: &Put, object: &Object) -> Context {
    let mut read = put.put.read.clone();
    if !put.properties.allow_mult {
        object.versions().dots().for_each(|dot| read.insert(dot));
    }
    read
}

/// How durable the copies of a put must be before they are acknowledged.
#[derive(Clone, Copy, Debug)]
struct Levels {
    own: Level,
    others: Level,
}

impl Levels {
    /// What the bucket asks, and more where the request wants so many synced acknowledgements. The first of
    /// them is the coordinator's own.
    const fn of(durability: BucketDurability, synced: u8) -> Self {
        let (own, others) = match durability {
            BucketDurability::Fsync => (true, true),
            BucketDurability::OneOfN => (true, synced > 1),
            BucketDurability::Buffered => (synced > 0, synced > 1),
        };
        Self { own: level(own), others: level(others) }
    }
}

const fn level(synced: bool) -> Level {
    if synced { Level::Synced } else { Level::Written }
}
