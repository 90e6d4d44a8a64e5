//! Changing the properties of a bucket on every node, and hearing of such a change.
//!
//! A change makes the next version of one record. It is stored here, sent to all, and done when every node has
//! it on its disk. It builds on the newest record that there is, stored or still on its way to the disk: what
//! was built on the stored one alone would take back a change that the disk acknowledges a moment later. A
//! node that was away hears of it when it says hello.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use gramme_codec::Codec;
use gramme_ring::NodeId;
use gramme_wire::PeerMessage;
use gramme_wire::peer::{self, Class, PropertiesHeld, PropertiesReply};

use super::Node;
use super::buckets::{Record, Scope};
use super::properties::PropertiesChange;
use crate::cx::Cx;
use crate::io::{Change as Row, Ticket};
use crate::request::{PropertiesError, Response};
use crate::shard::{Level, Shard, Writer};
use crate::timers::Timer;

/// Records in one message.
const RECORDS: usize = 256;
/// How long a record is worth sending, in microseconds.
const TTL: u64 = 5_000_000;
/// Changes that one node makes at once.
const UNDER_WAY: usize = 64;
/// Buckets with properties of their own. Every node keeps all of them in memory. One that is back at its defaults
/// still counts: that it is must stay known.
const OF_THEIR_OWN: usize = 65_536;

/// A change that this node makes.
#[derive(Debug)]
struct Change {
    ticket: Ticket,
    rank: (u64, u64),
    scope: Scope,
    /// Who has not yet said that it is stored there; this node too.
    missing: BTreeSet<NodeId>,
    deadline: u64,
}

/// A record on its way to the disk, and whom to tell when it is there.
#[derive(Debug)]
struct Storing {
    record: Record,
    tell: Vec<(NodeId, u64)>,
}

/// What changes of properties are under way.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    changes: BTreeMap<u64, Change>,
    storing: BTreeMap<Scope, Storing>,
}

impl Node {
    pub(crate) fn start_property_change(
        &mut self,
        cx: &mut Cx,
        shard: &mut Shard,
        ticket: Ticket,
        scope: Scope,
        change: &PropertiesChange,
        timeout: u32,
    ) {
        let changes = &self.changes.changes;
        let is_busy = changes.len() >= UNDER_WAY || changes.values().any(|other| other.scope == scope);
        // A start that may have lost its records would build on nothing, and its change would replace theirs.
        if is_busy || !shard.has_room() || !shard.all_proven() {
            return cx.reply(ticket, Response::SetProperties(Err(PropertiesError::Busy)));
        }
        if scope.bucket.is_some() && self.newest(&scope).is_none() && self.buckets.count() >= OF_THEIR_OWN {
            let error = PropertiesError::TooMany { limit: OF_THEIR_OWN };
            return cx.reply(ticket, Response::SetProperties(Err(error)));
        }
        let (lot, replicas) = (cx.random(), self.map.replicas());
        let record = match self.buckets.changed(&scope, self.newest(&scope), change, lot, replicas) {
            Ok(record) => record,
            Err(error) => return cx.reply(ticket, Response::SetProperties(Err(error))),
        };
        let missing = self.map.members().iter().map(|member| member.id).collect();
        let (deadline, id) = (cx.after(timeout), cx.next_request());
        self.changes.changes.insert(id, Change { ticket, rank: record.rank(), scope, missing, deadline });
        cx.timers.set(deadline, Timer::Properties(id));
        for node in self.map.others(cx.me()).collect::<Vec<_>>() {
            send_records(cx, node, vec![record.encode()]);
        }
        self.store_record(cx, shard, record, None);
    }

    /// The newest record of a bucket, stored or on its way to the disk.
    fn newest(&self, scope: &Scope) -> Option<&Record> {
        let storing = self.changes.storing.get(scope).map(|storing| &storing.record);
        storing.or_else(|| self.buckets.record(scope))
    }

    fn store_record(&mut self, cx: &mut Cx, shard: &mut Shard, record: Record, tell: Option<(NodeId, u64)>) {
        let (scope, rank) = (record.scope.clone(), record.rank());
        let row = Row::Meta { name: scope.meta_name(), value: record.encode() };
        // Whoever waits for one that is overtaken is told of the one that overtakes it.
        let before = self.changes.storing.remove(&scope);
        let tell = before.map(|storing| storing.tell).unwrap_or_default().into_iter().chain(tell).collect();
        self.changes.storing.insert(scope.clone(), Storing { record, tell });
        let writer = Writer::Properties(scope, rank);
        shard.commit_and_tell(cx, vec![row], Level::Synced, writer);
    }

    pub(crate) fn on_record_stored(&mut self, cx: &mut Cx, scope: &Scope, rank: (u64, u64)) {
        if self.changes.storing.get(scope).is_none_or(|storing| storing.record.rank() != rank) {
            return;
        }
        let Some(Storing { record, tell }) = self.changes.storing.remove(scope) else { return };
        let held = record.held();
        self.buckets.apply(record);
        for (node, id) in tell {
            send_held(cx, node, id, vec![held.clone()]);
        }
        self.on_record_held(cx, cx.me(), scope, rank);
    }

    /// Another node sends records.
    pub(crate) fn on_properties(
        &mut self,
        cx: &mut Cx,
        shard: &mut Shard,
        (from, id): (NodeId, u64),
        properties: peer::Properties,
    ) {
        // An undecodable record is answered with nothing: whoever sent it is not told that it is held.
        let records = properties.records.into_iter().filter_map(|record| Record::decode(record).ok());
        let held: Vec<_> =
            records.filter_map(|record| self.on_record(cx, shard, (from, id), record)).collect();
        if !held.is_empty() {
            send_held(cx, from, id, held);
        }
    }

    /// Stores a record, unless a greater one is held; says which, if that is durable.
    fn on_record(
        &mut self,
        cx: &mut Cx,
        shard: &mut Shard,
        from: (NodeId, u64),
        record: Record,
    ) -> Option<PropertiesHeld> {
        let scope = record.scope.clone();
        if let Some(storing) = self.changes.storing.get_mut(&scope)
            && storing.record.rank() >= record.rank()
        {
            storing.tell.push(from);
            return None;
        }
        if let Some(held) = self.buckets.record(&scope).filter(|held| held.rank() >= record.rank()) {
            return Some(held.held());
        }
        // What there is no room for comes again with a later hello.
        if shard.has_room() && !shard.is_full(cx, Class::Background) {
            self.store_record(cx, shard, record, Some(from));
        }
        None
    }

    pub(crate) fn on_properties_reply(&mut self, cx: &mut Cx, from: NodeId, reply: PropertiesReply) {
        for PropertiesHeld { of, version, lot } in reply.held {
            if let Ok(scope) = Scope::parse_all(of) {
                self.on_record_held(cx, from, &scope, (version, lot));
            }
        }
    }

    /// A node, perhaps this one, has a record on its disk.
    fn on_record_held(&mut self, cx: &mut Cx, node: NodeId, scope: &Scope, rank: (u64, u64)) {
        let ours = self.changes.changes.iter_mut().find(|(_, change)| change.scope == *scope);
        let Some((&id, change)) = ours else { return };
        if rank > change.rank {
            return self.conclude_change(cx, id, Err(PropertiesError::Conflict));
        }
        if rank == change.rank {
            change.missing.remove(&node);
        }
        if change.missing.is_empty() {
            self.conclude_change(cx, id, Ok(()));
        }
    }

    pub(crate) fn on_property_change_deadline(&mut self, cx: &mut Cx, id: u64) {
        if let Some(change) = self.changes.changes.get(&id) {
            let missing = change.missing.iter().copied().collect();
            self.conclude_change(cx, id, Err(PropertiesError::Unacknowledged { missing }));
        }
    }

    fn conclude_change(&mut self, cx: &mut Cx, id: u64, result: Result<(), PropertiesError>) {
        if let Some(change) = self.changes.changes.remove(&id) {
            cx.timers.cancel(change.deadline, Timer::Properties(id));
            cx.reply(change.ticket, Response::SetProperties(result));
        }
    }

    /// Brings a node up to date that has other records than we.
    pub(crate) fn send_all_records(&self, cx: &mut Cx, node: NodeId) {
        let records: Vec<_> = self.buckets.records().map(Record::encode).collect();
        records.chunks(RECORDS).for_each(|records| send_records(cx, node, records.to_vec()));
    }
}

fn send_records(cx: &mut Cx, node: NodeId, records: Vec<Bytes>) {
    let id = cx.next_request();
    cx.send(node, id, TTL, PeerMessage::Properties(peer::Properties { records }));
}

fn send_held(cx: &mut Cx, node: NodeId, id: u64, held: Vec<PropertiesHeld>) {
    cx.send(node, id, TTL, PeerMessage::PropertiesReply(PropertiesReply { held }));
}
