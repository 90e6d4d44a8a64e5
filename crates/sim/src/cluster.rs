//! The cluster: an event queue, and what happens at each event.

use std::collections::{BTreeMap, VecDeque};

use gramme_object::Object;
use gramme_quorum::Threshold;
use gramme_replica::{
    ClientRequest, Config, Effect, Input, LoadFailed, Now, Replica, Response, Secrets, Ticket,
};
use gramme_ring::{Keyspace, Layout, Member, NodeId, PlanRequest, plan};
use gramme_router::Router;
use gramme_wire::PeerMessage;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::clients::{self, Client};
use crate::disk::Disk;
use crate::history::History;
use crate::network::{Packet, Weather, arrivals};

/// The clock on the wall when a run begins: some day, in microseconds.
const EPOCH: u64 = 1_700_000_000_000_000;
const PLACEMENT: [u8; 32] = [3; 32];

/// What a run is made of.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Everything random comes from here.
    pub seed: u64,
    /// Nodes.
    pub nodes: usize,
    /// Clients, each with one operation under way.
    pub clients: usize,
    /// Keys that they contend for.
    pub keys: usize,
    /// Operations of all clients together.
    pub operations: u64,
}

impl Settings {
    /// A run of the usual size, shaped by its seed.
    #[must_use]
    pub fn of_seed(seed: u64, operations: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x5e77_1465);
        Self {
            seed,
            nodes: rng.random_range(3..6),
            clients: rng.random_range(2..10),
            keys: rng.random_range(1..12),
            operations,
        }
    }
}

/// How often each fault fired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Messages lost.
    pub lost: u64,
    /// Messages repeated.
    pub duplicated: u64,
    /// Single nodes crashed.
    pub crashes: u64,
    /// Times the whole cluster lost its power.
    pub power_losses: u64,
    /// Batches that a loss of power destroyed.
    pub batches_destroyed: u64,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What clients saw.
    pub history: History,
    /// How often each fault fired.
    pub faults: Faults,
    /// A hash of every event of the run, as 64 hexadecimal digits.
    pub trace: String,
    /// Operations that were answered with success.
    pub succeeded: u64,
}

#[derive(Debug)]
enum Event {
    Arrive(Packet),
    Timer { node: usize, life: u64 },
    Write { node: usize, life: u64, sync: bool },
    Sync { node: usize, life: u64 },
    Client(usize),
    GiveUp { client: usize, ticket: Ticket },
    Crash,
    LosePower,
    Start(usize),
}

struct Node {
    replica: Option<Replica>,
    disk: Disk,
    /// Which process this is; events of an earlier one are dropped.
    life: u64,
    timer: Option<u64>,
}

struct Cluster {
    settings: Settings,
    rng: ChaCha8Rng,
    now: u64,
    queue: BTreeMap<(u64, u64), Event>,
    next_event: u64,
    layout: Layout,
    nodes: Vec<Node>,
    clients: Vec<Client>,
    /// Whose request each ticket is.
    tickets: BTreeMap<Ticket, usize>,
    next_ticket: u64,
    weather: Weather,
    left: u64,
    history: History,
    faults: Faults,
    succeeded: u64,
    trace: blake3::Hasher,
    /// Inputs that wait for the present step to end.
    inputs: VecDeque<(usize, Input)>,
    is_stepping: bool,
    /// Answers to the last reads.
    answers: BTreeMap<Ticket, Response>,
}

/// Runs a cluster until its operations are done, heals it, and reads every key.
#[must_use]
pub fn run(settings: Settings) -> Outcome {
    let mut cluster = Cluster::new(settings);
    cluster.break_things();
    cluster.heal();
    cluster.read_all();
    let trace = cluster.trace.finalize().to_hex().to_string();
    Outcome { history: cluster.history, faults: cluster.faults, trace, succeeded: cluster.succeeded }
}

impl Cluster {
    fn new(settings: Settings) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(settings.seed);
        let members: Vec<_> = (0..settings.nodes).map(|node| Member::new(id_of(node))).collect();
        let request = PlanRequest { members: &members, replicas: 3, depth: 3, previous: None };
        let layout = match plan(&request) {
            Ok(planned) => planned.layout,
            Err(error) => unreachable!("at least three nodes: {error}"),
        };
        let weather = Weather {
            loss: rng.random_range(0..60),
            duplication: rng.random_range(0..60),
            delay: rng.random_range(0..60),
        };
        let router = Router::new(layout.clone());
        let new_node = |_| Node { replica: None, disk: Disk::default(), life: 0, timer: None };
        let mut cluster = Self {
            settings,
            rng,
            now: 1_000_000,
            queue: BTreeMap::new(),
            next_event: 0,
            layout,
            nodes: (0..settings.nodes).map(new_node).collect(),
            clients: (0..settings.clients).map(|_| Client::new(settings.keys, router.clone())).collect(),
            tickets: BTreeMap::new(),
            next_ticket: 0,
            weather,
            left: settings.operations,
            history: History::default(),
            faults: Faults::default(),
            succeeded: 0,
            trace: blake3::Hasher::new(),
            inputs: VecDeque::new(),
            is_stepping: false,
            answers: BTreeMap::new(),
        };
        (0..settings.nodes).for_each(|node| cluster.start(node));
        cluster
    }

    fn break_things(&mut self) {
        for client in 0..self.settings.clients {
            self.schedule_in(0, 10_000, Event::Client(client));
        }
        self.schedule_in(50_000, 2_000_000, Event::Crash);
        self.schedule_in(100_000, 6_000_000, Event::LosePower);
        while self.left > 0 && self.turn() {}
    }

    /// Good weather, everybody up, and time for what is under way to end.
    fn heal(&mut self) {
        self.weather = Weather::default();
        self.queue.retain(|_, event| !matches!(event, Event::Crash | Event::LosePower | Event::Client(_)));
        for node in 0..self.nodes.len() {
            if self.nodes[node].replica.is_none() {
                self.start(node);
            }
        }
        self.turn_until(self.now + 20_000_000);
    }

    /// Reads every key at R=N, twice: the first read repairs.
    fn read_all(&mut self) {
        for pass in 0..2 {
            for number in 0..self.settings.keys {
                let ticket = self.ticket();
                let key = clients::key(number);
                let all = Threshold::All;
                let request = ClientRequest::Get { key, r: all, pr: Threshold::Default, timeout: 5_000 };
                self.input(number % self.nodes.len(), Input::Client { ticket, request });
                self.turn_until(self.now + 1_000_000);
                if pass == 1 {
                    self.take_last_read(number, ticket);
                }
            }
        }
        self.compare_replicas();
        // Long after the last deadline nothing may be under way.
        self.turn_until(self.now + 20_000_000);
        for (number, node) in self.nodes.iter().enumerate() {
            let left = node.replica.as_ref().map_or(0, Replica::requests_under_way);
            if left > 0 {
                self.history.unequal.push(format!("node {number}: {left} requests never end"));
            }
        }
    }

    fn take_last_read(&mut self, number: usize, ticket: Ticket) {
        match self.answers.remove(&ticket) {
            Some(Response::Get(Ok(found))) => {
                clients::note_dots(number, &found.object, &mut self.history);
                self.history.last.insert(number, clients::values(&found.object));
            }
            other => self.history.unequal.push(format!("key-{number} cannot be read: {other:?}")),
        }
    }

    fn compare_replicas(&mut self) {
        for number in 0..self.settings.keys {
            let key = clients::key(number);
            let partition = self.layout.partition_of(keyspace().hash(key.as_bytes()));
            let owners: Vec<usize> = self.layout.owners(partition).map(node_of).collect();
            let dots = |node: &usize| {
                let stored = self.nodes[*node].disk.get(&key).unwrap_or_default();
                let object = if stored.is_empty() { Ok(Object::new()) } else { Object::decode(&stored) };
                object.map(|object| object.versions().dots().collect::<Vec<_>>())
            };
            let all: Vec<_> = owners.iter().map(dots).collect();
            if all.windows(2).any(|pair| pair[0] != pair[1]) {
                self.history.unequal.push(format!("{key}: {all:?}"));
            }
        }
        for (number, node) in self.nodes.iter().enumerate() {
            let (leaves, objects) = (node.disk.leaves().count, node.disk.objects().len() as u64);
            if leaves != objects {
                self.history.unequal.push(format!("node {number}: leaves count {leaves}, objects {objects}"));
            }
        }
    }

    fn turn_until(&mut self, until: u64) {
        while self.queue.first_key_value().is_some_and(|((at, _), _)| *at <= until) {
            self.turn();
        }
        self.now = self.now.max(until);
    }

    /// Handles the next event; says whether there was one.
    fn turn(&mut self) -> bool {
        let Some(((at, _), event)) = self.queue.pop_first() else { return false };
        self.now = at;
        self.trace.update(&at.to_le_bytes());
        match event {
            Event::Arrive(packet) => self.arrive(packet),
            Event::Timer { node, life } => {
                if self.nodes[node].timer == Some(at) && self.is_alive(node, life) {
                    self.nodes[node].timer = None;
                    self.input(node, Input::Timer);
                }
            }
            Event::Write { node, life, sync } => self.write(node, life, sync),
            Event::Sync { node, life } => {
                if self.is_alive(node, life) {
                    self.nodes[node].disk.sync();
                    self.report_commits(node);
                }
            }
            Event::Client(client) => self.client(client),
            Event::GiveUp { client, ticket } => {
                if self.tickets.remove(&ticket).is_some() {
                    self.answer(client, None);
                }
            }
            Event::Crash => self.crash(),
            Event::LosePower => self.lose_power(),
            Event::Start(node) => {
                if self.nodes[node].replica.is_none() {
                    self.start(node);
                }
            }
        }
        true
    }

    fn schedule_in(&mut self, least: u64, most: u64, event: Event) {
        let after = self.rng.random_range(least..=most);
        self.schedule(self.now + after, event);
    }

    fn schedule(&mut self, at: u64, event: Event) {
        self.next_event += 1;
        self.queue.insert((at, self.next_event), event);
    }

    fn is_alive(&self, node: usize, life: u64) -> bool {
        self.nodes[node].life == life && self.nodes[node].replica.is_some()
    }

    fn time(&self) -> Now {
        Now { monotonic: self.now, wall: EPOCH + self.now }
    }

    fn start(&mut self, node: usize) {
        let config = Config {
            node: id_of(node),
            layout: self.layout.clone(),
            keyspace: keyspace(),
            secrets: Secrets { current: (1, [1; 32]), previous: None },
            max_requests: 1_000,
        };
        let recovered = self.nodes[node].disk.recover();
        let mut seed = [0; 32];
        seed.fill_with(|| self.rng.random());
        let mut effects = Vec::new();
        self.nodes[node].life += 1;
        self.nodes[node].timer = None;
        match Replica::start(config, recovered, seed, self.time(), &mut effects) {
            Ok(replica) => self.nodes[node].replica = Some(replica),
            Err(error) => self.history.unequal.push(format!("node {node} does not start: {error}")),
        }
        self.run_effects(node, effects);
        for other in 0..self.nodes.len() {
            if other != node && self.nodes[other].replica.is_some() {
                self.input(other, Input::PeerUp(id_of(node)));
                self.input(node, Input::PeerUp(id_of(other)));
            }
        }
    }

    fn crash(&mut self) {
        let node = self.rng.random_range(0..self.nodes.len());
        if self.nodes[node].replica.is_some() {
            self.faults.crashes += 1;
            self.nodes[node].disk.crash();
            self.stop(node);
            self.schedule_in(1_000, 3_000_000, Event::Start(node));
        }
        self.schedule_in(50_000, 2_000_000, Event::Crash);
    }

    fn lose_power(&mut self) {
        self.faults.power_losses += 1;
        for node in 0..self.nodes.len() {
            let lost = self.nodes[node].disk.lose_power(&mut self.rng);
            self.faults.batches_destroyed += lost as u64;
            self.stop(node);
            self.schedule_in(1_000, 1_000_000, Event::Start(node));
        }
        self.schedule_in(500_000, 6_000_000, Event::LosePower);
    }

    fn stop(&mut self, node: usize) {
        self.nodes[node].replica = None;
        self.nodes[node].life += 1;
        for other in 0..self.nodes.len() {
            if other != node && self.nodes[other].replica.is_some() {
                self.input(other, Input::PeerDown(id_of(node)));
            }
        }
    }

    fn arrive(&mut self, packet: Packet) {
        let Packet { from, to, id, method, body } = packet;
        self.trace.update(&body);
        if self.nodes[to].replica.is_none() {
            return;
        }
        match PeerMessage::decode(method, body) {
            Ok(message) => self.input(to, Input::Message { from: id_of(from), id, message }),
            Err(error) => self.history.unequal.push(format!("a message that does not decode: {error}")),
        }
    }

    fn write(&mut self, node: usize, life: u64, sync: bool) {
        if !self.is_alive(node, life) {
            return;
        }
        self.nodes[node].disk.write();
        self.report_commits(node);
        // What nobody waits for is synced within a second.
        let (least, most) = if sync { (200, 3_000) } else { (500_000, 1_000_000) };
        self.schedule_in(least, most, Event::Sync { node, life });
    }

    fn report_commits(&mut self, node: usize) {
        let disk = &self.nodes[node].disk;
        let committed = Input::Committed { written: disk.written_through, synced: disk.synced_through };
        self.input(node, committed);
    }

    fn client(&mut self, client: usize) {
        if self.left == 0 {
            return;
        }
        self.left -= 1;
        let place = |key: &gramme_object::Key| keyspace().hash(key.as_bytes());
        let (node, request) = self.clients[client].next(self.now, place, &mut self.history, &mut self.rng);
        let ticket = self.ticket();
        self.tickets.insert(ticket, client);
        let patience = u64::from(clients::TIMEOUT) * 1_500;
        self.schedule(self.now + patience, Event::GiveUp { client, ticket });
        if self.nodes[node_of(node)].replica.is_some() {
            self.input(node_of(node), Input::Client { ticket, request });
        }
    }

    fn answer(&mut self, client: usize, response: Option<Response>) {
        let ok = matches!(response, Some(Response::Get(Ok(_)) | Response::Put(Ok(_))));
        self.succeeded += u64::from(ok);
        self.clients[client].take(self.now, response, &mut self.history);
        self.schedule_in(0, 5_000, Event::Client(client));
    }

    fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }

    /// Hands an input over, and whatever inputs its effects make at once, in order.
    fn input(&mut self, node: usize, input: Input) {
        self.inputs.push_back((node, input));
        if self.is_stepping {
            return;
        }
        self.is_stepping = true;
        while let Some((node, input)) = self.inputs.pop_front() {
            let now = self.time();
            let mut effects = Vec::new();
            if let Some(replica) = &mut self.nodes[node].replica {
                replica.step(now, input, &mut effects);
            }
            self.run_effects(node, effects);
        }
        self.is_stepping = false;
    }

    fn run_effects(&mut self, node: usize, effects: Vec<Effect>) {
        let life = self.nodes[node].life;
        for effect in effects {
            match effect {
                Effect::Send { to, id, message, .. } => self.send(node, to, id, &message),
                Effect::Reply { ticket, response } => match self.tickets.remove(&ticket) {
                    Some(client) => self.answer(client, Some(response)),
                    None => {
                        self.answers.insert(ticket, response);
                    }
                },
                Effect::Load { load, key, .. } => {
                    let result: Result<_, LoadFailed> = Ok(self.nodes[node].disk.get(&key));
                    self.input(node, Input::Loaded { load, result });
                }
                Effect::Commit { changes, sync, .. } => {
                    self.nodes[node].disk.submit(changes);
                    self.schedule_in(10, 200, Event::Write { node, life, sync });
                }
                Effect::SetTimer(at) => {
                    self.nodes[node].timer = Some(at);
                    self.schedule(at.max(self.now), Event::Timer { node, life });
                    self.nodes[node].timer = Some(at.max(self.now));
                }
                Effect::Fatal(why) => self.history.unequal.push(format!("node {node}: {why}")),
            }
        }
    }

    fn send(&mut self, from: usize, to: NodeId, id: u64, message: &PeerMessage) {
        let to_node = node_of(to);
        if self.nodes[to_node].replica.is_none() {
            return self.input(from, Input::Undelivered { to, id, busy: false });
        }
        let packet = Packet::new(from, to_node, id, message);
        let arrivals = arrivals(self.weather, &mut self.rng);
        self.faults.lost += u64::from(arrivals.is_empty());
        self.faults.duplicated += u64::from(arrivals.len() > 1);
        for after in arrivals {
            self.schedule(self.now + after, Event::Arrive(packet.clone()));
        }
    }
}

fn keyspace() -> Keyspace {
    Keyspace::new(PLACEMENT)
}

fn id_of(node: usize) -> NodeId {
    NodeId(node as u64 + 1)
}

fn node_of(id: NodeId) -> usize {
    id.0 as usize - 1
}
