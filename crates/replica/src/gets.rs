//! Gets that this node coordinates: ask all owners, answer at R, repair from what comes late.

use gramme_object::{Key, Object};
use gramme_quorum::{Failure, GetError, GetReply, GetRequest, GetVerdict, ReplicaSet, Threshold};
use gramme_ring::{NodeId, PartitionId};
use gramme_wire::PeerMessage;
use gramme_wire::peer::{Read, ReadReply, Repair};

use crate::Replica;
use crate::io::{LoadFailed, Ticket};
use crate::keys::{Operation, Reader, Writer};
use crate::puts::LINGER;
use crate::replicate::failure;
use crate::request::{Found, Response};
use crate::timers::Timer;

/// How long a repair is worth sending, in microseconds.
const REPAIR_TTL: u64 = 5_000_000;

/// A get under way.
#[derive(Debug)]
pub(crate) struct Get {
    ticket: Ticket,
    key: Key,
    partition: PartitionId,
    /// Whether a reader sees siblings, or the last writer among them.
    allow_mult: bool,
    request: GetRequest,
    deadline: u64,
}

impl Replica {
    pub(crate) fn start_get(&mut self, ticket: Ticket, key: Key, r: Threshold, pr: Threshold, timeout: u32) {
        let need = match self.check_get(&key, r, pr) {
            Ok(need) => need,
            Err(error) => return self.reply(ticket, Response::Get(Err(error))),
        };
        self.stats.gets += 1;
        let (_, partition) = self.place(&key);
        let members: Vec<NodeId> = self.config.layout.owners(partition).collect();
        let properties = self.table.get(key.bucket_type(), key.bucket());
        let allow_mult = properties.is_none_or(|properties| properties.allow_mult);
        let id = self.next_request();
        let deadline = self.now.monotonic + u64::from(timeout) * 1_000;
        let request = GetRequest::new(vec![ReplicaSet { members: members.clone(), need }]);
        self.gets.insert(id, Get { ticket, key: key.clone(), partition, allow_mult, request, deadline });
        self.timers.set(deadline, Timer::Get(id));
        for node in members {
            if node == self.config.node {
                self.with_key(&key, Operation::Read(Reader::Get(id)));
            } else {
                let header = self.request_header(partition, id);
                let read = Read { header, key: key.clone(), asked: Vec::new() };
                self.send(node, id, u64::from(timeout) * 1_000, PeerMessage::Read(read));
            }
        }
    }

    fn check_get(&mut self, key: &Key, r: Threshold, pr: Threshold) -> Result<u8, GetError> {
        let Some(properties) = self.table.get(key.bucket_type(), key.bucket()) else {
            return Err(GetError::UnknownType(key.bucket_type().to_owned()));
        };
        let replicas = self.config.layout.replicas();
        // All owners are primaries, so the greater of the two is what must be reached.
        let r = r.resolve_positive(replicas, properties.r)?;
        let pr = pr.resolve(replicas, properties.pr)?;
        if self.is_overloaded() {
            self.stats.busy += 1;
            return Err(GetError::Busy);
        }
        Ok(r.max(pr))
    }

    pub(crate) fn on_own_read(&mut self, id: u64, result: Result<Object, LoadFailed>) {
        let is_amnesiac = self.gets.get(&id).is_some_and(|get| self.is_amnesiac(&get.key));
        let reply = match result {
            Ok(object) if is_amnesiac => GetReply::Amnesiac(object),
            Ok(object) => GetReply::Object(object),
            Err(LoadFailed) => GetReply::Failed(Failure::Disk),
        };
        self.on_get_reply(id, self.config.node, reply);
    }

    pub(crate) fn on_read_reply(&mut self, from: NodeId, id: u64, reply: &ReadReply) {
        let Some(get) = self.gets.get(&id) else { return };
        let partition = get.partition;
        self.learn_from_reply(from, partition, &reply.header, reply.position);
        let object = || match reply.object.is_empty() {
            true => Ok(Object::new()),
            false => Object::decode(&reply.object),
        };
        let reply = match (failure(reply.header.status), object()) {
            (None, Ok(object)) => GetReply::Object(object),
            (Some(Failure::Amnesiac), Ok(object)) => GetReply::Amnesiac(object),
            (failure, _) => GetReply::Failed(failure.unwrap_or(Failure::Disk)),
        };
        self.on_get_reply(id, from, reply);
    }

    fn on_get_reply(&mut self, id: u64, from: NodeId, reply: GetReply) {
        let Some(get) = self.gets.get_mut(&id) else { return };
        let verdict = get.request.on_reply(from, reply);
        self.on_get_verdict(id, verdict);
    }

    fn on_get_verdict(&mut self, id: u64, verdict: GetVerdict) {
        let Some(get) = self.gets.get(&id) else { return };
        let (ticket, is_complete) = (get.ticket, get.request.is_complete());
        match verdict {
            GetVerdict::Wait | GetVerdict::Finished => {}
            GetVerdict::Answer(object) => {
                let linger = self.now.monotonic + LINGER;
                if let Some(get) = self.gets.get_mut(&id) {
                    self.timers.cancel(get.deadline, Timer::Get(id));
                    get.deadline = get.deadline.min(linger);
                    self.timers.set(get.deadline, Timer::Get(id));
                }
                let Some(get) = self.gets.get(&id) else { return };
                self.stats.count_versions(object.siblings().len());
                let shown = if get.allow_mult { object } else { object.last_writer() };
                let context = self.config.secrets.seal(&get.key, shown.context());
                self.reply(ticket, Response::Get(Ok(Found { context, object: shown })));
            }
            GetVerdict::Fail(shortfall) => {
                self.stats.gets_failed += 1;
                self.reply(ticket, Response::Get(Err(GetError::Unavailable(shortfall))));
            }
        }
        if is_complete {
            self.finish_get(id);
        }
    }

    /// Everybody has been heard: send the others what they lack.
    fn finish_get(&mut self, id: u64) {
        let Some(get) = self.gets.remove(&id) else { return };
        self.timers.cancel(get.deadline, Timer::Get(id));
        for repair in get.request.repairs() {
            self.stats.read_repairs += 1;
            if repair.node == self.config.node {
                if !self.writable {
                    continue;
                }
                let (delta, writer, level) = (repair.object, Writer::Nobody, self.repair_level(&get.key));
                self.with_key(&get.key, Operation::Merge { delta, writer, level });
                continue;
            }
            let request = self.next_request();
            let header = self.request_header(get.partition, request);
            let slot = self.config.layout.slot_of(get.partition, repair.node).unwrap_or(0);
            let object = repair.object.encode().into();
            let message = Repair { header, key: get.key.clone(), slot, object };
            self.send(repair.node, request, REPAIR_TTL, PeerMessage::Repair(message));
        }
    }

    pub(crate) fn on_get_deadline(&mut self, id: u64) {
        let Some(get) = self.gets.get_mut(&id) else { return };
        let verdict = get.request.on_deadline();
        self.on_get_verdict(id, verdict);
    }

    pub(crate) fn on_get_undelivered(&mut self, to: NodeId, id: u64, busy: bool) {
        let failure = if busy { Failure::Busy } else { Failure::Down };
        self.on_get_reply(id, to, GetReply::Failed(failure));
    }

    pub(crate) fn on_get_peer_down(&mut self, node: NodeId) {
        let waiting = self.gets.iter().filter(|(_, get)| get.request.awaits(node));
        for id in waiting.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.on_get_reply(id, node, GetReply::Failed(Failure::Silent));
        }
    }
}
