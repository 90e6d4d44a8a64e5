//! The cluster: nodes, network and clients around one queue of events.
//!
//! A run first breaks things at random while clients work (safety). Then it heals all but one node, leaves
//! that one with a fault for ever, and demands that every client gets its work done within a bound
//! (liveness). In the end all is healed that can be, every key is read from all its replicas, and replicas
//! are compared.

mod by_hand;
mod clones;
mod finish;
mod listing;
mod nemesis;
mod nodes;
mod ring;
mod traffic;

use std::collections::{BTreeMap, VecDeque};

use gramme_replica::{Input, Replica, Response, Ticket};
use gramme_ring::{Keyspace, Layout, Member, NodeId, PlanRequest, plan};
use gramme_router::Router;

pub(crate) use nodes::EPOCH;

use crate::clients::{self, Client, NamedKey};
use crate::disk::Disk;
use crate::event::{Event, Queue};
use crate::fault::{Counts, Fault};
use crate::healed::Healed;
use crate::history::{Broken, History, KeyRecord, Kind};
use crate::network::{Network, Packet};
use crate::random::{Rng, fork};
use crate::settings::Settings;

const PLACEMENT: [u8; 32] = [3; 32];

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What clients saw.
    pub history: History,
    /// How often each fault fired.
    pub counts: Counts,
    /// A hash of every event of the run, as 64 hexadecimal digits.
    pub trace: String,
    /// Operations that were answered with success.
    pub succeeded: u64,
    /// Requests that went to another node because the first could not, or took long.
    pub asked_again: u64,
    /// Batches that a loss of power or a broken disk destroyed.
    pub batches_destroyed: u64,
    /// What the cluster did about its faults.
    pub healed: Healed,
}

struct Node {
    replica: Option<Replica>,
    disk: Disk,
    /// Which process this is; events of an earlier one are dropped.
    life: u64,
    timer: Option<u64>,
    /// What waits for it to wake, while it stands still.
    frozen: Option<VecDeque<Input>>,
    /// When it last came back from standing still.
    woke: u64,
    /// By how much its wall clock is off, in microseconds.
    clock_offset: i64,
    /// It has said that it may lack what it acknowledged.
    was_amnesiac: bool,
    is_amnesiac: bool,
    /// Its next start works for a while before it meets the others.
    starts_alone: bool,
    /// A commit of this process failed: it must end.
    has_failed: bool,
    /// It was removed from the cluster.
    is_removed: bool,
    /// Its process has just been told so.
    is_told: bool,
    /// The layout that it was last seen with.
    rank: (u32, u64),
    /// Its process has been told to end, and why.
    fatal: Option<&'static str>,
}

/// Generators, one for each purpose.
struct Randomness {
    disk: Rng,
    nemesis: Rng,
    clients: Rng,
    starts: Rng,
    listings: Rng,
    ring: Rng,
}

pub(crate) struct Cluster {
    settings: Settings,
    random: Randomness,
    now: u64,
    queue: Queue,
    /// The layout of the founding; where the ring changes, the latest that was looked at.
    layout: Layout,
    /// Every layout that any node has had.
    layouts: BTreeMap<(u32, u64), Layout>,
    keys: Vec<NamedKey>,
    nodes: Vec<Node>,
    copy: Option<clones::Twin>,
    network: Network,
    clients: Vec<Client>,
    /// The requests that nodes have and have not answered.
    tickets: BTreeMap<Ticket, traffic::Asked>,
    next_ticket: u64,
    /// The node that suffers what destroys data, and what lasts.
    victim: usize,
    /// Operations that clients still begin.
    left: u64,
    history: History,
    counts: Counts,
    succeeded: u64,
    asked_again: u64,
    batches_destroyed: u64,
    healed: Healed,
    trace: blake3::Hasher,
    /// Inputs that wait for the present step to end.
    inputs: VecDeque<(usize, Input)>,
    is_stepping: bool,
    /// How often nodes have started: each start writes as actors of its own.
    starts: u64,
    /// Reads that must fail, since a replica that they need counts for nothing: which, and how many of its partitions.
    probes: BTreeMap<Ticket, (usize, u64)>,
    /// Changes of properties, by their ticket.
    changes: BTreeMap<Ticket, usize>,
    /// Listings of keys, by the ticket of the page that is asked for.
    listings: BTreeMap<Ticket, listing::Listing>,
    /// Answers to what no client asked.
    answers: BTreeMap<Ticket, Response>,
    /// Messages that a test holds back.
    held: Vec<Packet>,
    holds: Vec<Hold>,
}

/// Which messages are held back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hold {
    pub(crate) name: &'static str,
    pub(crate) from: usize,
    pub(crate) to: usize,
}

/// By how much two clocks may differ that nodes believe, at most; and the smallest step of one, in microseconds.
const SKEW: u64 = 12_000_000;
const STEP: u64 = 1_000;

/// Runs a cluster from its founding to the comparison of its replicas.
#[must_use]
pub fn run(settings: Settings) -> Outcome {
    let mut cluster = Cluster::new(settings);
    cluster.found();
    cluster.break_things();
    cluster.demand_progress();
    cluster.heal_all();
    cluster.read_all();
    cluster.outcome()
}

impl Cluster {
    pub(crate) fn new(settings: Settings) -> Self {
        let Settings { seed, nodes, replicas, depth, .. } = settings;
        // Where the ring changes some have joined and own nothing yet.
        let founders = match settings.faults.has(Fault::RingChange) {
            // Whose disk was lost does not vote any more: the others must be a majority.
            true => rand::RngExt::random_range(
                &mut fork(seed, "founders"),
                usize::from(replicas).max(3.min(nodes))..=nodes,
            ),
            false => nodes,
        };
        let members: Vec<_> = (0..founders).map(|node| Member::new(id_of(node))).collect();
        let request = PlanRequest { members: &members, replicas, depth, previous: None };
        let layout = match plan(&request) {
            Ok(planned) => planned.layout,
            Err(error) => unreachable!("at least N nodes: {error}"),
        };
        let mut random = Randomness {
            disk: fork(seed, "disk"),
            nemesis: fork(seed, "nemesis"),
            clients: fork(seed, "clients"),
            starts: fork(seed, "starts"),
            listings: fork(seed, "listings"),
            ring: fork(seed, "ring"),
        };
        let (keys, records) = name_keys(settings.keys, &layout, &mut random.clients);
        let router = Router::new(layout.clone());
        let skew = if settings.faults.has(Fault::ClockJump) { SKEW } else { STEP };
        let client = |number| Client::new(number, settings.keys, replicas, router.clone());
        let victim = rand::RngExt::random_range(&mut random.nemesis, 0..nodes);
        Self {
            settings,
            random,
            now: 1_000_000,
            queue: Queue::default(),
            layout,
            layouts: BTreeMap::new(),
            keys,
            // One place more, for a copy of one of them.
            nodes: (0..=nodes).map(|_| Node::new()).collect(),
            copy: None,
            network: Network::new(nodes + 1, settings.faults, fork(seed, "network")),
            clients: (0..settings.clients).map(client).collect(),
            tickets: BTreeMap::new(),
            next_ticket: 0,
            victim,
            left: 0,
            history: History { replicas, skew, keys: records, ..History::default() },
            counts: Counts::default(),
            succeeded: 0,
            asked_again: 0,
            batches_destroyed: 0,
            healed: Healed::default(),
            trace: blake3::Hasher::new(),
            inputs: VecDeque::new(),
            is_stepping: false,
            starts: 0,
            probes: BTreeMap::new(),
            changes: BTreeMap::new(),
            listings: BTreeMap::new(),
            answers: BTreeMap::new(),
            held: Vec::new(),
            holds: Vec::new(),
        }
    }

    fn outcome(mut self) -> Outcome {
        (0..self.members()).for_each(|node| self.note_forgotten(node));
        self.healed.layouts = self.layouts.len().saturating_sub(1) as u64;
        Outcome {
            history: self.history,
            counts: self.counts,
            trace: self.trace.finalize().to_hex().to_string(),
            succeeded: self.succeeded,
            asked_again: self.asked_again,
            batches_destroyed: self.batches_destroyed,
            healed: self.healed,
        }
    }

    pub(crate) fn turn_until(&mut self, until: u64) {
        while self.queue.next_time().is_some_and(|at| at <= until) {
            self.turn();
        }
        self.now = self.now.max(until);
    }

    /// Handles the next event; says whether there was one.
    pub(crate) fn turn(&mut self) -> bool {
        let Some((at, event)) = self.queue.pop() else { return false };
        self.now = at;
        self.trace.update(&at.to_le_bytes());
        match event {
            Event::Arrive(packet) => self.arrive(packet),
            Event::Own { node, life, input } => {
                if self.is_alive(node, life) {
                    self.input(node, *input);
                }
            }
            Event::Timer { node, life } => self.timer(node, life),
            Event::Written { node, life } => self.written(node, life),
            Event::Synced { node, life, sync } => self.synced(node, life, sync),
            Event::Client(client) => self.client(client),
            Event::Request { client, node, life, ticket, request } => {
                if life.is_none_or(|life| self.is_alive(node, life)) {
                    self.request(client, node, ticket, *request);
                }
            }
            Event::Answer { client, ticket, response } => self.answer(client, ticket, &response),
            Event::Hedge { client, operation } => self.go_on(client, operation),
            Event::Patience { client, operation } => self.patience(client, operation),
            Event::Strike(fault) => self.strike(fault),
            Event::Heal(heal) => self.heal(heal),
            Event::Start(node) => self.start(node),
            Event::Silence { between: (a, b) } => self.silence(a, b),
            Event::Connect { between: (a, b) } => self.connect(a, b),
        }
        true
    }

    fn schedule(&mut self, after: u64, event: Event) {
        self.queue.push(self.now + after, event);
    }

    fn is_alive(&self, node: usize, life: u64) -> bool {
        self.nodes[node].life == life && self.nodes[node].replica.is_some()
    }

    fn broken(&mut self, broken: Broken) {
        // One is enough to fail the run, and a thousand of them help nobody.
        if self.history.broken.len() < 20 {
            self.history.broken.push(broken);
        }
    }

    /// How many requests of clients a node takes at once.
    const fn most_requests(&self) -> usize {
        if self.settings.faults.has(Fault::Crowd) { 6 } else { 1_000 }
    }

    fn has(&self, fault: Fault) -> bool {
        self.settings.faults.has(fault)
    }
}

impl Node {
    fn new() -> Self {
        Self {
            replica: None,
            disk: Disk::default(),
            life: 0,
            timer: None,
            frozen: None,
            woke: 0,
            clock_offset: 0,
            was_amnesiac: false,
            is_amnesiac: false,
            starts_alone: false,
            has_failed: false,
            rank: (0, 0),
            is_removed: false,
            is_told: false,
            fatal: None,
        }
    }
}

/// Keys of all kinds, most of them such that nothing may be lost.
fn name_keys(count: usize, layout: &Layout, rng: &mut Rng) -> (Vec<NamedKey>, Vec<KeyRecord>) {
    let name = |number| {
        let kind = match rand::RngExt::random_range(rng, 0..10) {
            0 => Kind::Buffered,
            1 => Kind::OneOfN,
            2 => Kind::Lww,
            _ => Kind::Fsync,
        };
        let key = clients::key(number, kind);
        let hash = keyspace().hash(key.as_bytes());
        let owners = layout.owners(layout.partition_of(hash)).map(node_of).collect();
        (NamedKey { key, hash }, KeyRecord { kind, owners })
    };
    (0..count).map(name).unzip()
}

const fn keyspace() -> Keyspace {
    Keyspace::new(PLACEMENT)
}

const fn id_of(node: usize) -> NodeId {
    NodeId(node as u64 + 1)
}

const fn node_of(id: NodeId) -> usize {
    id.0 as usize - 1
}
