//! One whole node as one state machine.
//!
//! # The problem
//!
//! Coordination, replication and storage meet in one place, and in every codebase of this kind that place
//! grows until nobody can say what it does under a crash between two of its lines (Riak's
//! `riak_kv_vnode.erl`, quinn's `connection/mod.rs`). And the faults that matter (the whole cluster losing
//! power, a reply of a former life, a disk that fails a sync) are the ones a test on real machines never
//! times right.
//!
//! # The idea
//!
//! [`Replica::step`] takes the time and one [`Input`] and appends [`Effect`]s. It owns no clock, no source of
//! randomness but a seed, no socket, file or thread; the same replica runs in the `gramme` binary and, many
//! at once, in the simulator. This file routes an input to the part that owns it:
//!
//! | part | owns |
//! |---|---|
//! | `gets`, `puts`, `forwards` | requests that this node coordinates or hands on |
//! | `replicate` | what other coordinators ask of this node |
//! | `keys` | the one place that merges: an overlay of objects that are loaded or not yet durable |
//! | `commits` | batches on their way to the disk, and who waits for them |
//! | `partition` | terms, counters, seen-sets |
//! | `properties`, `change_properties` | what buckets promise |
//! | `places` | where keys belong |
//! | `peers` | what the other nodes say of themselves |
//! | `amnesia` | noticing that the directory is older than what was acknowledged |
//!
//! All writes take one path: coordinator, replica write and repair end in `keys`, which merges over what is
//! staged. A read of a key that has a batch under way waits for that batch, so nothing is ever shown that a
//! crash could take back.
//!
//! # What is not here
//!
//! No tokio, no quinn, no files. Membership is the founding list; sloppy quorums, hints and anti-entropy are
//! not built yet.
#![forbid(unsafe_code)]

mod amnesia;
mod change_properties;
mod commits;
mod config;
mod duplicates;
mod forwards;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod gets;
mod io;
mod keys;
mod partition;
mod peers;
mod places;
mod properties;
mod puts;
mod replicate;
mod request;
mod start;
mod stats;
mod timers;
mod token;

use std::collections::BTreeMap;

use gramme_merkle::Tree;
use gramme_object::Stamp;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

pub use config::{Config, leaf_bits};
pub use io::{Change, Effect, Input, LoadFailed, Now, Recovered, RecoveredPartition, Ticket};
pub use properties::{BucketDurability, DEFAULT_TYPE, LWW_TYPE, Properties, PropertiesPatch, PropertyTable};
pub use request::{ClientPut, ClientRequest, Found, NodeStatus, PropertiesError, Response, Status, Stored};
pub use start::StartError;
pub use stats::Stats;
pub use token::{Secrets, TokenError};

use crate::timers::Timer;

/// One node. See the crate's documentation.
#[derive(Debug)]
pub struct Replica {
    config: Config,
    places: places::Places,
    now: Now,
    /// The effects of the present step.
    out: Vec<Effect>,
    rng: ChaCha8Rng,
    boot: u64,
    next_request: u64,
    /// Client requests that are not answered yet.
    open_tickets: usize,
    /// The last stamp given out or seen.
    stamp: Stamp,
    writable: bool,
    partitions: BTreeMap<u32, partition::Partition>,
    tree: Tree,
    keys: keys::Keys,
    commits: commits::Commits,
    gets: BTreeMap<u64, gets::Get>,
    puts: BTreeMap<u64, puts::Put>,
    forwards: BTreeMap<u64, forwards::Forward>,
    duplicates: duplicates::Duplicates,
    table: PropertyTable,
    /// The version of the table that is stored, or on its way to the disk.
    newest_table: (u64, gramme_ring::NodeId),
    change: Option<change_properties::PropertyChange>,
    peers: peers::Peers,
    lives: amnesia::Lives,
    timers: timers::Timers,
    stats: Stats,
}

impl Replica {
    /// Handles one input at `now` and appends what is to be done to `out`.
    pub fn step(&mut self, now: Now, input: Input, out: &mut Vec<Effect>) {
        self.now = now;
        std::mem::swap(&mut self.out, out);
        self.route(input);
        self.arm_timer();
        std::mem::swap(&mut self.out, out);
    }

    fn route(&mut self, input: Input) {
        match input {
            Input::Client { ticket, request } => self.on_client(ticket, request),
            Input::Message { from, id, message } => self.on_message(from, id, message),
            Input::Undelivered { to, id, busy } => self.on_undelivered(to, id, busy),
            Input::PeerUp(node) => self.on_peer_up(node),
            Input::PeerSuspect(node) => self.peers.down(node, self.now.monotonic),
            Input::PeerDown(node) => self.on_peer_down(node),
            Input::Loaded { load, result } => self.on_loaded(load, result),
            Input::Committed { written, synced } => self.on_committed(written, synced),
            #[cfg(gramme_planted)]
            Input::CommitFailed if gramme_vclock::planted::is(gramme_vclock::planted::Plant::RetrySync) => {}
            Input::CommitFailed => self.out.push(Effect::Fatal("a commit failed")),
            Input::Writable(writable) => self.writable = writable,
            Input::Timer => self.on_timer(),
        }
    }

    fn on_client(&mut self, ticket: Ticket, request: ClientRequest) {
        self.open_tickets += 1;
        match request {
            ClientRequest::Get { key, r, pr, timeout } => self.start_get(ticket, key, r, pr, timeout),
            ClientRequest::Put(put) => self.start_client_put(ticket, put),
            ClientRequest::Properties { bucket_type, bucket } => {
                self.read_properties(ticket, bucket_type, &bucket);
            }
            ClientRequest::SetProperties { bucket_type, bucket, patch, timeout } => {
                self.start_property_change(ticket, &bucket_type, &bucket, &patch, timeout);
            }
            ClientRequest::Status => {
                let response = Response::Status(self.status());
                self.reply(ticket, response);
            }
        }
    }

    fn on_message(&mut self, from: gramme_ring::NodeId, id: u64, message: gramme_wire::PeerMessage) {
        use gramme_wire::PeerMessage as Message;
        match message {
            Message::Hello(hello) => self.on_hello(from, &hello),
            Message::Read(read) => self.on_read(from, id, read),
            Message::ReadReply(reply) => self.on_read_reply(from, id, &reply),
            Message::Write(write) => self.on_write(from, id, write),
            Message::WriteReply(reply) => self.on_write_reply(from, id, reply),
            Message::Repair(repair) => self.on_repair(from, id, repair),
            Message::Forward(forward) => self.on_forward(from, id, *forward),
            Message::ForwardReply(reply) => self.on_forward_reply(from, id, *reply),
            Message::Properties(properties) => self.on_properties(from, id, properties),
            Message::PropertiesReply(reply) => self.on_properties_reply(from, id, &reply),
        }
    }

    fn on_undelivered(&mut self, to: gramme_ring::NodeId, id: u64, busy: bool) {
        self.on_get_undelivered(to, id, busy);
        self.on_put_undelivered(to, id, busy);
        self.on_forward_undelivered(to, id, busy);
    }

    fn on_peer_down(&mut self, node: gramme_ring::NodeId) {
        self.peers.down(node, self.now.monotonic);
        self.on_get_peer_down(node);
        self.on_put_peer_down(node);
        self.on_forward_peer_down(node);
    }

    fn on_timer(&mut self) {
        for timer in self.timers.due(self.now.monotonic) {
            match timer {
                Timer::Hello => self.say_hello_to_all(),
                Timer::Get(id) => self.on_get_deadline(id),
                Timer::Put(id) => self.on_put_deadline(id),
                Timer::Forward(id) => self.on_forward_deadline(id),
                Timer::Properties => self.on_property_change_deadline(),
            }
        }
    }

    fn arm_timer(&mut self) {
        if let Some(at) = self.timers.take_change() {
            self.out.push(Effect::SetTimer(at));
        }
    }

    /// What it has counted.
    #[must_use]
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The layout in force.
    #[must_use]
    pub const fn layout(&self) -> &gramme_ring::Layout {
        &self.config.layout
    }

    /// How many requests of clients are under way, those among them that are answered and still listen for
    /// late replies too.
    #[must_use]
    pub fn requests_under_way(&self) -> usize {
        self.gets.len() + self.puts.len() + self.forwards.len()
    }

    /// Only what is not answered counts fully: one slow replica keeps many answered requests, which must not
    /// make a healthy quorum refuse work.
    fn is_overloaded(&self) -> bool {
        let most = self.config.max_requests;
        self.open_tickets > most || self.requests_under_way() >= 4 * most
    }

    /// A number that no other request of this node has, in this start or an earlier one.
    fn next_request(&mut self) -> u64 {
        self.next_request = self.next_request.wrapping_add(1);
        self.next_request
    }

    fn random(&mut self) -> u64 {
        self.rng.random()
    }

    fn send(&mut self, to: gramme_ring::NodeId, id: u64, ttl: u64, message: gramme_wire::PeerMessage) {
        self.out.push(Effect::Send { to, id, ttl, message });
    }

    fn reply(&mut self, ticket: Ticket, response: Response) {
        // Each ticket is answered once.
        self.open_tickets = self.open_tickets.saturating_sub(1);
        self.out.push(Effect::Reply { ticket, response });
    }
}
