//! What the other nodes say of themselves, and what this node says of itself.
//!
//! Up and down are this node's own view of its connections, a matter of routing: nothing moves because of it.

use std::collections::BTreeMap;

use gramme_ring::NodeId;
use gramme_wire::PeerMessage;
use gramme_wire::peer::Hello;

use crate::Replica;
use crate::commits::Level;
use crate::properties::DEFAULT_TYPE;
use crate::request::{NodeStatus, Status};
use crate::timers::Timer;

/// How often a node speaks of itself, in microseconds.
const HELLO_INTERVAL: u64 = 1_000_000;

#[derive(Debug, Default)]
struct Peer {
    up: bool,
    since: u64,
    hello: Option<(Hello, u64)>,
}

#[derive(Debug, Default)]
pub(crate) struct Peers {
    peers: BTreeMap<NodeId, Peer>,
}

impl Peers {
    pub(crate) fn is_up(&self, node: NodeId) -> bool {
        self.peers.get(&node).is_some_and(|peer| peer.up)
    }

    pub(crate) fn down(&mut self, node: NodeId, now: u64) {
        self.set(node, false, now);
    }

    fn set(&mut self, node: NodeId, up: bool, now: u64) {
        let peer = self.peers.entry(node).or_default();
        if peer.up != up {
            (peer.up, peer.since) = (up, now);
        }
    }
}

impl Replica {
    pub(crate) fn on_peer_up(&mut self, node: NodeId) {
        self.peers.set(node, true, self.now.monotonic);
        self.say_hello(node);
    }

    pub(crate) fn say_hello_to_all(&mut self) {
        self.duplicates.forget(self.now.monotonic);
        self.store_heard(Level::Written);
        for node in self.config.others() {
            if self.peers.is_up(node) {
                self.say_hello(node);
            }
        }
        self.timers.set(self.now.monotonic + HELLO_INTERVAL, Timer::Hello);
    }

    fn say_hello(&mut self, node: NodeId) {
        let (lives, position, heard) = self.standings(node);
        let hello = Hello {
            boot: self.boot,
            layout: self.config.layout.version(),
            properties: self.table.version(),
            keys: self.stats.keys,
            bytes: self.stats.bytes,
            writable: self.writable,
            lives,
            position,
            heard,
        };
        let id = self.next_request();
        self.send(node, id, HELLO_INTERVAL, PeerMessage::Hello(hello));
    }

    pub(crate) fn on_hello(&mut self, from: NodeId, hello: &Hello) {
        if hello.properties < self.table.version() {
            let table = self.table.clone();
            self.send_table(from, &table);
        }
        self.on_standings(from, &hello.lives, hello.position, hello.heard.as_ref());
        let peer = self.peers.peers.entry(from).or_default();
        peer.hello = Some((hello.clone(), self.now.monotonic));
    }

    pub(crate) fn status(&self) -> Status {
        let layout = &self.config.layout;
        let nodes = layout.members().iter().map(|member| self.node_status(member.id)).collect();
        // The founding table always has the default type.
        let default = self.table.get(DEFAULT_TYPE, b"");
        Status {
            node: self.config.node,
            replicas: layout.replicas(),
            r: default.map(|properties| properties.r).unwrap_or_default(),
            w: default.map(|properties| properties.w).unwrap_or_default(),
            layout: layout.version(),
            properties: self.table.version().0,
            partitions: 1 << layout.depth(),
            nodes,
        }
    }

    fn node_status(&self, id: NodeId) -> NodeStatus {
        let layout = &self.config.layout;
        let partitions = layout.partitions().filter(|&partition| layout.slot_of(partition, id).is_some());
        let partitions = partitions.count() as u32;
        let now = self.now.monotonic;
        if id == self.config.node {
            let (keys, bytes, writable) = (self.stats.keys, self.stats.bytes, self.writable);
            return NodeStatus {
                id,
                up: true,
                since: now,
                heard: Some(0),
                keys,
                bytes,
                writable,
                partitions,
            };
        }
        let peer = self.peers.peers.get(&id);
        let hello = peer.and_then(|peer| peer.hello.as_ref());
        NodeStatus {
            id,
            up: peer.is_some_and(|peer| peer.up),
            since: now.saturating_sub(peer.map_or(0, |peer| peer.since)),
            heard: hello.map(|(_, at)| now.saturating_sub(*at)),
            keys: hello.map_or(0, |(hello, _)| hello.keys),
            bytes: hello.map_or(0, |(hello, _)| hello.bytes),
            writable: hello.is_some_and(|(hello, _)| hello.writable),
            partitions,
        }
    }
}
