//! Changing a bucket's properties on every node, and hearing of such a change.
//!
//! A change is the next version of the whole table. It is stored here, sent to all, and done when every node
//! has it on its disk. A node that was away hears of it when it says hello.

use std::collections::BTreeSet;

use bytes::Bytes;
use gramme_ring::NodeId;
use gramme_wire::PeerMessage;
use gramme_wire::peer::{self, PropertiesReply};

use crate::Replica;
use crate::commits::Level;
use crate::io::{Change, Ticket};
use crate::keys::Waiter;
use crate::properties::{PropertiesPatch, PropertyTable};
use crate::request::{PropertiesError, Response};
use crate::timers::Timer;

/// The name under which the table is stored.
pub(crate) const META_NAME: &str = "properties";
const TTL: u64 = 5_000_000;

/// A change that this node makes.
#[derive(Debug)]
pub(crate) struct PropertyChange {
    ticket: Ticket,
    version: (u64, NodeId),
    /// Who has not yet said that it is stored there; this node too.
    missing: BTreeSet<NodeId>,
    deadline: u64,
}

/// A table that was stored, and whom to tell.
#[derive(Debug)]
pub(crate) struct PropertiesStored {
    table: PropertyTable,
    tell: Option<(NodeId, u64)>,
}

impl Replica {
    pub(crate) fn read_properties(&mut self, ticket: Ticket, bucket_type: String, bucket: &Bytes) {
        let found = self.table.get(&bucket_type, bucket).copied();
        let result = found.ok_or(PropertiesError::UnknownType(bucket_type));
        self.reply(ticket, Response::Properties(result));
    }

    pub(crate) fn start_property_change(
        &mut self,
        ticket: Ticket,
        bucket_type: &str,
        bucket: &Bytes,
        patch: &PropertiesPatch,
        timeout: u32,
    ) {
        if self.change.is_some() || !self.writable {
            return self.reply(ticket, Response::SetProperties(Err(PropertiesError::Busy)));
        }
        let replicas = self.config.layout.replicas();
        let table = match self.table.with(self.config.node, bucket_type, bucket, patch, replicas) {
            Ok(table) => table,
            Err(error) => return self.reply(ticket, Response::SetProperties(Err(error))),
        };
        let missing = self.config.layout.members().iter().map(|member| member.id).collect();
        let deadline = self.now.monotonic + u64::from(timeout) * 1_000;
        self.change = Some(PropertyChange { ticket, version: table.version(), missing, deadline });
        self.timers.set(deadline, Timer::Properties);
        for node in self.config.others() {
            self.send_table(node, &table);
        }
        self.store_table(table, None);
    }

    /// Brings a node up to date with our table.
    pub(crate) fn send_table(&mut self, node: NodeId, table: &PropertyTable) {
        let id = self.next_request();
        let properties = peer::Properties { record: table.encode() };
        self.send(node, id, TTL, PeerMessage::Properties(properties));
    }

    fn store_table(&mut self, table: PropertyTable, tell: Option<(NodeId, u64)>) {
        self.newest_table = table.version();
        let change = Change::Meta { name: META_NAME, value: table.encode() };
        let sequence = self.commit(vec![change], Level::Synced);
        let waiter = Waiter::Properties(PropertiesStored { table, tell });
        self.commits.wait(sequence, Level::Synced, waiter);
    }

    pub(crate) fn on_properties_stored(&mut self, stored: PropertiesStored) {
        if stored.table.version() > self.table.version() {
            self.table = stored.table;
        }
        if let Some((node, id)) = stored.tell {
            self.acknowledge_table(node, id);
        }
        self.on_table_acknowledged(self.config.node, self.table.version());
    }

    pub(crate) fn on_properties(&mut self, from: NodeId, id: u64, properties: peer::Properties) {
        // A peer that sends what is no table is told which we have, and its change is not acknowledged.
        match PropertyTable::decode(properties.record) {
            // Compared with what is on its way to the disk too: that must never be followed by a lower one.
            Ok(table) if table.version() > self.newest_table && self.writable => {
                self.store_table(table, Some((from, id)));
            }
            _ => self.acknowledge_table(from, id),
        }
    }

    fn acknowledge_table(&mut self, node: NodeId, id: u64) {
        let reply = PropertiesReply { version: self.table.version() };
        self.send(node, id, TTL, PeerMessage::PropertiesReply(reply));
    }

    pub(crate) fn on_properties_reply(&mut self, from: NodeId, _id: u64, reply: &PropertiesReply) {
        self.on_table_acknowledged(from, reply.version);
    }

    fn on_table_acknowledged(&mut self, node: NodeId, version: (u64, NodeId)) {
        let Some(change) = &mut self.change else { return };
        if version > change.version {
            return self.conclude_property_change(Err(PropertiesError::Conflict));
        }
        if version == change.version {
            change.missing.remove(&node);
        }
        if change.missing.is_empty() {
            self.conclude_property_change(Ok(()));
        }
    }

    pub(crate) fn on_property_change_deadline(&mut self) {
        let Some(change) = &self.change else { return };
        if change.deadline <= self.now.monotonic {
            let missing = change.missing.iter().copied().collect();
            self.conclude_property_change(Err(PropertiesError::Unacknowledged { missing }));
        }
    }

    fn conclude_property_change(&mut self, result: Result<(), PropertiesError>) {
        if let Some(change) = self.change.take() {
            self.timers.cancel(change.deadline, Timer::Properties);
            self.reply(change.ticket, Response::SetProperties(result));
        }
    }
}
