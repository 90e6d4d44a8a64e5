//! Many decisions, each with a network that loses, doubles and reorders, nodes that crash and forget what was not stored,
//! and rivals: whatever happens one value is decided, and once the faults end everybody hears of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use gramme_codec::Codec;
use gramme_paxos::{Ballot, Config, Effect, Input, Message, Paxos, Vote};
use gramme_ring::NodeId;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const PATIENCE: u64 = 1_000;

/// A process with a disk that needs its time. What comes after a store waits for it.
struct Node {
    paxos: Option<Paxos<StdRng>>,
    disk: Vote,
    waiting: VecDeque<Effect>,
    is_storing: bool,
}

enum Event {
    Deliver(NodeId, NodeId, Bytes),
    Stored(NodeId, u64),
    Start(NodeId),
}

struct Cluster {
    nodes: BTreeMap<NodeId, Node>,
    voters: Vec<NodeId>,
    events: BTreeMap<(u64, u64), Event>,
    pushed: u64,
    now: u64,
    lives: BTreeMap<NodeId, u64>,
    is_healed: bool,
    proposed: BTreeSet<Bytes>,
    decided: BTreeSet<Bytes>,
    rng: StdRng,
}

fn config(me: NodeId, voters: &[NodeId]) -> Config {
    Config { me, voters: voters.to_vec(), may_vote: true, patience: PATIENCE }
}

impl Cluster {
    /// The last node has no vote, and proposes all the same.
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let voters: Vec<NodeId> = (1..=rng.random_range(1..=6)).map(NodeId).collect();
        let ids = (1..=voters.len() as u64 + 1).map(NodeId);
        let mut cluster = Self {
            nodes: BTreeMap::new(),
            voters,
            events: BTreeMap::new(),
            pushed: 0,
            now: 0,
            lives: BTreeMap::new(),
            is_healed: false,
            proposed: BTreeSet::new(),
            decided: BTreeSet::new(),
            rng,
        };
        for id in ids {
            let node =
                Node { paxos: None, disk: Vote::default(), waiting: VecDeque::new(), is_storing: false };
            cluster.nodes.insert(id, node);
            cluster.start(id);
        }
        cluster
    }

    fn push(&mut self, after: u64, event: Event) {
        self.pushed += 1;
        self.events.insert((self.now + after, self.pushed), event);
    }

    fn start(&mut self, id: NodeId) {
        *self.lives.entry(id).or_default() += 1;
        let rng = StdRng::seed_from_u64(self.rng.random());
        let node = self.nodes.get_mut(&id).expect("a node");
        if node.paxos.is_none() {
            let vote = Vote::parse_all(node.disk.to_bytes()).expect("what was stored");
            node.paxos = Some(Paxos::new(config(id, &self.voters), vote, rng, self.now));
        }
    }

    fn crash(&mut self, id: NodeId) {
        let node = self.nodes.get_mut(&id).expect("a node");
        if node.paxos.take().is_some() {
            node.waiting.clear();
            node.is_storing = false;
            *self.lives.entry(id).or_default() += 1;
            let after = self.rng.random_range(1..5_000);
            self.push(after, Event::Start(id));
        }
    }

    fn step(&mut self, id: NodeId, input: Input) {
        let now = self.now;
        let node = self.nodes.get_mut(&id).expect("a node");
        let Some(paxos) = &mut node.paxos else { return };
        let mut effects = Vec::new();
        paxos.step(now, input, &mut effects);
        node.waiting.extend(effects);
        self.go_on(id);
    }

    /// Does what need not wait for the disk.
    fn go_on(&mut self, id: NodeId) {
        while let Some(node) = self.nodes.get_mut(&id).filter(|node| !node.is_storing)
            && let Some(effect) = node.waiting.front().cloned()
        {
            match effect {
                Effect::Store(_) => {
                    node.is_storing = true;
                    let (after, life) = (self.rng.random_range(1..200), self.lives[&id]);
                    return self.push(after, Event::Stored(id, life));
                }
                Effect::Send { to, message } => self.send(id, to, &message),
                Effect::Decided(value) => drop(self.decided.insert(value)),
            }
            self.nodes.get_mut(&id).expect("a node").waiting.pop_front();
        }
    }

    fn send(&mut self, from: NodeId, to: NodeId, message: &Message) {
        let body = message.to_bytes();
        if !self.is_healed && from != to && self.rng.random_range(0..5) == 0 {
            return;
        }
        let copies = if self.is_healed { 1 } else { self.rng.random_range(1..3) };
        for _ in 0..copies {
            // Some come when what they were for is over.
            let most = if !self.is_healed && self.rng.random_range(0..8) == 0 { 20_000 } else { 300 };
            let after = self.rng.random_range(1..most);
            self.push(after, Event::Deliver(from, to, body.clone()));
        }
    }

    fn propose(&mut self, id: NodeId) {
        let value = Bytes::from(format!("{id} at {}", self.now));
        self.proposed.insert(value.clone());
        self.step(id, Input::Propose(value));
    }

    fn run_until(&mut self, until: u64) {
        while self.now < until {
            let timers =
                self.nodes.iter().filter_map(|(id, node)| Some((node.paxos.as_ref()?.next_timer()?, *id)));
            let timer = timers.min();
            let event = self.events.first_key_value().map(|(at, _)| at.0);
            match (timer, event) {
                (Some((at, id)), event) if at <= until && event.is_none_or(|event| at < event) => {
                    self.now = self.now.max(at);
                    self.step(id, Input::Timer);
                }
                (_, Some(at)) if at <= until => {
                    let (_, event) = self.events.pop_first().expect("an event");
                    self.now = self.now.max(at);
                    self.handle(event);
                }
                _ => self.now = until,
            }
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Deliver(from, to, body) => {
                let message = Message::parse_all(body).expect("a message");
                self.step(to, Input::Message { from, message });
            }
            Event::Stored(id, life) if self.lives[&id] == life => {
                let node = self.nodes.get_mut(&id).expect("a node");
                if let Some(Effect::Store(vote)) = node.waiting.pop_front() {
                    node.disk = vote;
                }
                node.is_storing = false;
                self.go_on(id);
            }
            Event::Stored(..) => {}
            Event::Start(id) => self.start(id),
        }
    }

    fn some(&mut self) -> NodeId {
        NodeId(self.rng.random_range(1..=self.nodes.len() as u64))
    }
}

#[test]
fn one_value_is_decided_whatever_happens() {
    let (mut early, mut rivals) = (0, 0);
    for seed in 0..3_000 {
        let mut cluster = Cluster::new(seed);
        for _ in 0..cluster.rng.random_range(1..30) {
            let id = cluster.some();
            match cluster.rng.random_range(0..3) {
                0 => cluster.crash(id),
                _ => cluster.propose(id),
            }
            let pause = cluster.rng.random_range(1..2_000);
            cluster.run_until(cluster.now + pause);
        }
        assert!(cluster.decided.len() <= 1, "seed {seed}: {:?}", cluster.decided);
        early += cluster.decided.len();
        rivals += usize::from(cluster.proposed.len() > 1);
        // Faults end. Whoever wants something then hears what was decided, if anything was.
        cluster.is_healed = true;
        cluster.run_until(cluster.now + 30_000);
        let ids: Vec<NodeId> = cluster.nodes.keys().copied().collect();
        ids.into_iter().for_each(|id| cluster.propose(id));
        cluster.run_until(cluster.now + 500_000);
        let all: Vec<_> =
            cluster.nodes.values().filter_map(|node| node.paxos.as_ref()?.decided().cloned()).collect();
        assert_eq!(cluster.decided.len(), 1, "seed {seed}: {:?}", cluster.decided);
        assert!(cluster.proposed.is_superset(&cluster.decided), "seed {seed}: nobody wanted that");
        assert_eq!(all.len(), cluster.nodes.len(), "seed {seed}: some never hear of it");
        assert!(all.iter().all(|value| cluster.decided.contains(value)), "seed {seed}");
    }
    // The faults leave room for decisions, and for more than one wish.
    assert!(early > 1_000 && rivals > 1_000, "{early} {rivals}");
}

/// A minority proposes for ever, and decides nothing.
#[test]
fn a_minority_decides_nothing() {
    let mut cluster = Cluster::new(1);
    cluster.voters = (1..=4).map(NodeId).collect();
    cluster.is_healed = true;
    cluster.nodes.retain(|id, _| id.0 <= 2);
    cluster.nodes.values_mut().for_each(|node| node.paxos = None);
    cluster.start(NodeId(1));
    cluster.start(NodeId(2));
    cluster.propose(NodeId(1));
    let mut messages = 0;
    while messages < 50 {
        let (_, event) = cluster.events.pop_first().expect("it goes on trying");
        if let Event::Deliver(_, NodeId(3 | 4), _) = event {
            messages += 1;
        } else {
            cluster.handle(event);
        }
        let timer =
            cluster.nodes[&NodeId(1)].paxos.as_ref().and_then(Paxos::next_timer).expect("it tries again");
        if cluster.events.is_empty() {
            cluster.now = timer;
            cluster.step(NodeId(1), Input::Timer);
        }
    }
    assert!(cluster.decided.is_empty());
}

/// Whoever lost what it voted does not vote, and hears what was decided.
#[test]
fn who_may_not_vote_is_silent() {
    let voters = [NodeId(1), NodeId(2), NodeId(3)];
    let config = Config { may_vote: false, ..config(NodeId(1), &voters) };
    let mut paxos = Paxos::new(config, Vote::default(), StdRng::seed_from_u64(1), 0);
    let mut effects = Vec::new();
    let ballot = Ballot { round: 1, node: NodeId(2) };
    for message in [Message::Prepare(ballot), Message::Accept { ballot, value: Bytes::new() }] {
        paxos.step(0, Input::Message { from: NodeId(2), message }, &mut effects);
    }
    assert_eq!((effects.len(), paxos.next_timer()), (0, None));
    let value = Bytes::from_static(b"it");
    let message = Message::Decided(value.clone());
    paxos.step(0, Input::Message { from: NodeId(2), message }, &mut effects);
    assert_eq!(effects, [Effect::Decided(value)]);
}

/// What strangers say counts for nothing.
#[test]
fn only_voters_count() {
    let voters = [NodeId(1), NodeId(2), NodeId(3)];
    let mut paxos = Paxos::new(config(NodeId(1), &voters), Vote::default(), StdRng::seed_from_u64(1), 0);
    let mut effects = Vec::new();
    paxos.step(0, Input::Propose(Bytes::from_static(b"it")), &mut effects);
    let Some(Effect::Send { message: Message::Prepare(ballot), .. }) = effects.pop() else {
        panic!("it asks")
    };
    for stranger in 4..9 {
        let promise = Message::Promise { ballot, taken: None };
        paxos.step(1, Input::Message { from: NodeId(stranger), message: promise }, &mut effects);
    }
    assert!(
        !effects.iter().any(|effect| matches!(effect, Effect::Send { message: Message::Accept { .. }, .. }))
    );
}

/// One node of three, by hand.
struct Hand {
    paxos: Paxos<StdRng>,
    stored: Vote,
    effects: Vec<Effect>,
}

const VOTERS: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

impl Hand {
    fn new(vote: Vote) -> Self {
        let rng = StdRng::seed_from_u64(7);
        Self {
            paxos: Paxos::new(config(NodeId(1), &VOTERS), vote.clone(), rng, 0),
            stored: vote,
            effects: Vec::new(),
        }
    }

    fn step(&mut self, now: u64, input: Input) {
        self.effects.clear();
        self.paxos.step(now, input, &mut self.effects);
        for effect in &self.effects {
            if let Effect::Store(vote) = effect {
                self.stored = vote.clone();
            }
        }
    }

    fn propose(&mut self, value: &'static [u8]) -> Ballot {
        self.step(0, Input::Propose(Bytes::from_static(value)));
        self.asked().expect("it asks for promises")
    }

    fn hear(&mut self, from: u64, message: Message) {
        self.step(1, Input::Message { from: NodeId(from), message });
    }

    /// The ballot for which it asks promises.
    fn asked(&self) -> Option<Ballot> {
        self.effects.iter().find_map(|effect| match effect {
            Effect::Send { message: Message::Prepare(ballot), .. } => Some(*ballot),
            _ => None,
        })
    }

    /// The value that it asks voters to take.
    fn wanted(&self) -> Option<Bytes> {
        self.effects.iter().find_map(|effect| match effect {
            Effect::Send { message: Message::Accept { value, .. }, .. } => Some(value.clone()),
            _ => None,
        })
    }

    fn time_out(&mut self) -> Option<Ballot> {
        let at = self.paxos.next_timer()?;
        self.step(at, Input::Timer);
        self.asked()
    }
}

#[test]
fn the_value_of_the_highest_ballot_is_asked_for() {
    let mut hand = Hand::new(Vote::default());
    let ballot = hand.propose(b"mine");
    let taken = |round, value| Some((Ballot { round, node: NodeId(3) }, Bytes::from_static(value)));
    hand.hear(2, Message::Promise { ballot, taken: taken(0, b"older") });
    assert_eq!(hand.wanted(), None);
    hand.hear(3, Message::Promise { ballot, taken: taken(1, b"newer") });
    assert_eq!(hand.wanted(), Some(Bytes::from_static(b"newer")));
}

/// A ballot stands for one value, across crashes too.
#[test]
fn no_ballot_is_used_twice() {
    let mut hand = Hand::new(Vote::default());
    let first = hand.propose(b"one");
    let second = hand.time_out().expect("it tries again");
    let third = Hand::new(hand.stored).propose(b"another");
    assert!(first < second && second < third, "{first:?} {second:?} {third:?}");
}

#[test]
fn what_somebody_else_proposed_is_brought_to_an_end() {
    let mut hand = Hand::new(Vote::default());
    let (ballot, value) = (Ballot { round: 5, node: NodeId(3) }, Bytes::from_static(b"theirs"));
    hand.hear(3, Message::Accept { ballot, value: value.clone() });
    // Also after a restart.
    for mut hand in [Hand::new(hand.stored.clone()), hand] {
        let ballot = hand.time_out().expect("it proposes by itself");
        [2, 3].into_iter().for_each(|from| hand.hear(from, Message::Promise { ballot, taken: None }));
        assert_eq!(hand.wanted(), Some(value.clone()));
    }
}

#[test]
fn answers_to_an_earlier_attempt_do_not_count() {
    let mut hand = Hand::new(Vote::default());
    let old = hand.propose(b"mine");
    let new = hand.time_out().expect("it tries again");
    for from in [2, 3] {
        hand.hear(from, Message::Promise { ballot: old, taken: None });
        assert_eq!(hand.wanted(), None);
    }
    [2, 3].into_iter().for_each(|from| hand.hear(from, Message::Promise { ballot: new, taken: None }));
    assert!(hand.wanted().is_some());
    for from in [1, 2, 3] {
        hand.hear(from, Message::Accepted(old));
    }
    assert_eq!(hand.paxos.decided(), None);
    [1, 3].into_iter().for_each(|from| hand.hear(from, Message::Accepted(new)));
    assert!(hand.paxos.decided().is_some());
}

#[test]
fn golden() {
    let (ballot, value) = (Ballot { round: 3, node: NodeId(2) }, Bytes::from_static(b"v"));
    let taken = Some((ballot, value.clone()));
    let messages = [
        Message::Prepare(ballot),
        Message::Promise { ballot, taken: taken.clone() },
        Message::Accept { ballot, value: value.clone() },
        Message::Accepted(ballot),
        Message::Refused { ballot, promised: Ballot { round: 4, node: NodeId(1) } },
        Message::Decided(value),
    ];
    let hex = |bytes: Bytes| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mut lines: Vec<String> = messages.iter().map(|message| hex(message.to_bytes())).collect();
    lines.push(hex(Vote { promised: ballot, taken, used: 9 }.to_bytes()));
    let lines = lines.join("\n") + "\n";
    assert!(lines == include_str!("golden/messages-1.txt"), "the format has changed; it is now\n{lines}");
    for message in messages {
        assert_eq!(Message::parse_all(message.to_bytes()), Ok(message));
    }
}
