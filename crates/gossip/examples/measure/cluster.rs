//! Members in one thread, on a network that loses, delays and cuts.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use gramme_gossip::{Config, Effect, Gossip, Input, Message, Opinion, Record};
use gramme_ring::NodeId;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

pub(crate) const SECOND: u64 = 1_000_000;

enum Event {
    Timer(NodeId),
    Deliver { from: NodeId, to: NodeId, message: Message },
}

/// A cluster, and what has happened in it.
pub(crate) struct Cluster {
    pub(crate) nodes: BTreeMap<NodeId, Gossip>,
    /// What each node has stored.
    pub(crate) disks: BTreeMap<NodeId, BTreeMap<NodeId, Record>>,
    /// Changes of opinion: when, whose, of whom, to what.
    pub(crate) opinions: Vec<(u64, NodeId, NodeId, Opinion)>,
    /// The share of messages lost, in percent.
    pub(crate) loss: u32,
    /// Directions in which nothing passes.
    pub(crate) cuts: BTreeSet<(NodeId, NodeId)>,
    /// Nodes that do not run before then; what comes for them waits.
    pub(crate) stopped: BTreeMap<NodeId, u64>,
    pub(crate) now: u64,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, Event>,
    timers: BTreeMap<NodeId, u64>,
    rng: StdRng,
}

/// The ids of so many nodes.
pub(crate) fn ids(nodes: u64) -> impl Iterator<Item = NodeId> {
    (1..=nodes).map(NodeId)
}

fn founding(nodes: u64) -> Vec<Record> {
    ids(nodes)
        .map(|id| Record::joined(id, 0, vec![format!("10.0.{}.{}:7000", id.0 / 256, id.0 % 256)]))
        .collect()
}

impl Cluster {
    /// So many members that know each other.
    pub(crate) fn new(nodes: u64, seed: u64) -> Self {
        let mut cluster = Self {
            nodes: BTreeMap::new(),
            disks: BTreeMap::new(),
            opinions: Vec::new(),
            loss: 0,
            cuts: BTreeSet::new(),
            stopped: BTreeMap::new(),
            now: 0,
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            timers: BTreeMap::new(),
            rng: StdRng::seed_from_u64(seed),
        };
        let records = founding(nodes);
        ids(nodes).for_each(|id| cluster.start(id, 0, records.clone()));
        cluster
    }

    /// Starts a node, somewhen within a second.
    pub(crate) fn start(&mut self, id: NodeId, incarnation: u64, records: Vec<Record>) {
        let gossip = Gossip::new(Config::usual(id, incarnation), records, StdRng::from_rng(&mut self.rng));
        self.nodes.insert(id, gossip);
        let at = self.now + self.rng.random_range(0..SECOND);
        self.schedule(at, Event::Timer(id));
        self.timers.insert(id, at);
    }

    /// Ends a node; what it has stored stays.
    pub(crate) fn stop(&mut self, id: NodeId) {
        self.nodes.remove(&id);
        self.timers.remove(&id);
    }

    fn schedule(&mut self, at: u64, event: Event) {
        let number = self.events.last_key_value().map_or(0, |(number, _)| number + 1);
        self.events.insert(number, event);
        self.queue.push(Reverse((at, number)));
    }

    /// Something happens to a node.
    pub(crate) fn tell(&mut self, id: NodeId, input: Input) {
        let Some(gossip) = self.nodes.get_mut(&id) else { return };
        let mut effects = Vec::new();
        gossip.step(self.now, input, &mut effects);
        let next = gossip.next_timer().max(self.now + 1);
        for effect in effects {
            match effect {
                Effect::Send { to, message } => self.send(id, to, message),
                Effect::Store(record) => {
                    self.disks.entry(id).or_default().insert(record.node, record);
                }
                Effect::Opinion { node, opinion } => self.opinions.push((self.now, id, node, opinion)),
            }
        }
        if self.timers.get(&id) != Some(&next) {
            self.timers.insert(id, next);
            self.schedule(next, Event::Timer(id));
        }
    }

    fn send(&mut self, from: NodeId, to: NodeId, message: Message) {
        if self.rng.random_range(0..100) >= self.loss && !self.cuts.contains(&(from, to)) {
            let at = self.now + self.rng.random_range(200..20_000);
            self.schedule(at, Event::Deliver { from, to, message });
        }
    }

    /// Lets time pass until then, or until `is_done`, which is asked every tenth of a second; says whether it was.
    pub(crate) fn run_until(&mut self, until: u64, is_done: impl Fn(&Self) -> bool) -> bool {
        let mut next_look = self.now;
        while self.now < until {
            if self.now >= next_look {
                if is_done(self) {
                    return true;
                }
                next_look = self.now + SECOND / 10;
            }
            self.next_event(until.min(next_look));
        }
        is_done(self)
    }

    /// Lets so much time pass.
    pub(crate) fn run_for(&mut self, time: u64) {
        self.run_until(self.now + time, |_| false);
    }

    fn next_event(&mut self, until: u64) {
        let Some(&Reverse((at, number))) = self.queue.peek().filter(|Reverse((at, _))| *at < until) else {
            self.now = until;
            return;
        };
        self.queue.pop();
        self.now = self.now.max(at);
        let Some(event) = self.events.remove(&number) else { return };
        let to = match &event {
            Event::Timer(id) => *id,
            Event::Deliver { to, .. } => *to,
        };
        if let Some(&until) = self.stopped.get(&to).filter(|until| **until > self.now) {
            return self.schedule(until, event);
        }
        match event {
            // A timer that has been moved since is none.
            Event::Timer(id) if self.timers.get(&id).is_some_and(|timer| *timer <= self.now) => {
                self.timers.remove(&id);
                self.tell(id, Input::Timer);
            }
            Event::Timer(_) => {}
            Event::Deliver { from, to, message } => self.tell(to, Input::Message { from, message }),
        }
    }

    /// Whether all know the same.
    pub(crate) fn is_agreed(&self) -> bool {
        let mut roots = self.nodes.values().map(Gossip::root);
        let first = roots.next();
        roots.all(|root| Some(root) == first)
    }

    /// Whether all others find this node to be so.
    pub(crate) fn all_find(&self, node: NodeId, opinion: Opinion) -> bool {
        self.nodes.iter().filter(|(id, _)| **id != node).all(|(_, gossip)| gossip.opinion(node) == opinion)
    }

    /// All bytes that were sent.
    pub(crate) fn bytes(&self) -> u64 {
        self.nodes.values().map(|gossip| gossip.stats().bytes).sum()
    }
}
