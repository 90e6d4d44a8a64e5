//! What mending costs: two replicas of many keys, some of which only one of them has. Counted are the bytes of all
//! messages of the exchange, encoded as on the network, and the rows that both have read. Then what keeping the hash
//! tree costs beside the merge that it belongs to.
//!
//! `mend KEYS…` for other numbers of keys than ten thousand, a hundred thousand and a million.
#![allow(clippy::print_stdout, reason = "it is a command")]
#![allow(clippy::disallowed_types, reason = "it measures time")]

use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use gramme_admission::Limits;
use gramme_merkle::{Digest, Tree};
use gramme_object::{Content, Key, Object, Sibling, Stamp, clock_bytes};
use gramme_quorum::Seat;
use gramme_replica::{
    Bounds, Change, Config, Effect, Input, LEAF_BITS, Now, Page, Place, Recovered, Replica, Rows, Secrets,
};
use gramme_ring::{Keyspace, Layout, Member, NodeId, PartitionId, PlanRequest, plan};
use gramme_vclock::{Actor, Context, Dot};
use gramme_wire::PeerMessage;
use gramme_wire::peer::{Class, Durability, Point, RequestHeader, Write};

const KEYSPACE: Keyspace = Keyspace::new([5; 32]);
const WALL: u64 = 1_700_000_000_000_000;
/// Q = 1,024, as founded.
const DEPTH: u8 = 10;
/// How long may pass without the replicas being equal, in microseconds.
const PATIENCE: u64 = 600_000_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut sizes: Vec<u64> = std::env::args().skip(1).map(|text| text.parse()).collect::<Result<_, _>>()?;
    if sizes.is_empty() {
        sizes = vec![10_000, 100_000, 1_000_000];
    }
    println!("| keys | differing | bytes exchanged | rows read |\n|---|---|---|---|");
    for keys in sizes {
        let mut pair = Pair::new(keys)?;
        for differing in [0, 1, 10, 100, 1_000] {
            let Mended { bytes, rows } = pair.mend(differing)?;
            println!("| {keys} | {differing} | {bytes} | {rows} |");
        }
    }
    println!("\n{}", upkeep()?);
    Ok(())
}

struct Node {
    replica: Replica,
    rows: BTreeMap<Place, Bytes>,
    timer: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Mended {
    bytes: usize,
    rows: usize,
}

struct Pair {
    nodes: Vec<Node>,
    layout: Layout,
    now: u64,
    counted: Mended,
    inputs: VecDeque<(usize, Input)>,
    next: u64,
}

impl Pair {
    fn new(keys: u64) -> Result<Self, Box<dyn Error>> {
        let members: Vec<_> = (1..=2).map(|id| Member::new(NodeId(id))).collect();
        let request = PlanRequest { members: &members, replicas: 2, depth: DEPTH, previous: None };
        let layout = plan(&request)?.layout;
        let counted = Mended::default();
        let mut pair = Self { nodes: Vec::new(), layout, now: 1, counted, inputs: VecDeque::new(), next: 0 };
        for at in 0..2_u8 {
            let config = Config {
                node: NodeId(u64::from(at) + 1),
                layout: pair.layout.clone(),
                keyspace: KEYSPACE,
                secrets: Secrets { current: (1, [1; 32]), previous: None },
                addresses: BTreeMap::new(),
                max_requests: 100,
                bounds: Bounds { cached: 0, ..Bounds::USUAL },
                background: Limits::USUAL,
                scrub_every: u64::MAX >> 1,
            };
            let mut effects = Vec::new();
            let replica = Replica::start(config, Recovered::default(), [at; 32], pair.time(), &mut effects)?;
            pair.nodes.push(Node { replica, rows: BTreeMap::new(), timer: u64::MAX });
            effects.into_iter().for_each(|effect| pair.perform(usize::from(at), effect));
        }
        for _ in 0..keys {
            let (name, write) = pair.write();
            (0..2).for_each(|at| pair.send(at, &write));
            debug_assert!(!name.is_empty());
        }
        pair.connect();
        pair.settle()?;
        Ok(pair)
    }

    const fn time(&self) -> Now {
        Now { monotonic: self.now, wall: WALL + self.now }
    }

    fn connect(&mut self) {
        for (at, other) in [(0, 2), (1, 1)] {
            self.inputs.push_back((at, Input::PeerUp(NodeId(other))));
        }
        self.run();
    }

    /// The next key's write, as another coordinator sends it.
    fn write(&mut self) -> (String, PeerMessage) {
        self.next += 1;
        let name = self.next.to_string();
        let key =
            Key::new("default", "bucket", name.as_bytes()).unwrap_or_else(|_| unreachable!("a short name"));
        let partition = self.layout.partition_of(KEYSPACE.hash(key.as_bytes()));
        let dot = Dot::new(Actor(9), self.next);
        let header = RequestHeader {
            generation: 1,
            epoch: 1,
            partition,
            properties: 0,
            point: Point { start: 0, position: 0 },
            class: Class::Foreground,
            origin: 9,
            boot: 1,
            request: self.next,
        };
        let object = Object::from_write(&Context::new(), dot, sibling()).encode().into();
        let (seat, durability) = (Seat::default(), Durability::Buffered);
        (name, PeerMessage::Write(Write { header, key, seat, durability, dot, object }))
    }

    fn send(&mut self, at: usize, message: &PeerMessage) {
        let from = NodeId(2 - at as u64);
        self.inputs.push_back((at, Input::Message { from, id: 1, message: message.clone() }));
        self.run();
    }

    /// Gives so many keys to one of the two alone, and counts what it takes until the other has them.
    fn mend(&mut self, differing: u64) -> Result<Mended, Box<dyn Error>> {
        for _ in 0..differing {
            let (_, write) = self.write();
            self.send(0, &write);
        }
        self.counted = Mended::default();
        // They meet again, as after a cut.
        self.connect();
        if differing == 0 {
            self.wait(2_000_000);
        }
        self.settle()?;
        Ok(self.counted)
    }

    fn settle(&mut self) -> Result<(), Box<dyn Error>> {
        let until = self.now + PATIENCE;
        while self.nodes[0].rows.len() != self.nodes[1].rows.len() {
            if self.now > until {
                return Err("the replicas do not become equal".into());
            }
            self.wait(100_000);
        }
        Ok(())
    }

    fn wait(&mut self, micros: u64) {
        let until = self.now + micros;
        while let Some(at) =
            (0..2).filter(|at| self.nodes[*at].timer <= until).min_by_key(|at| self.nodes[*at].timer)
        {
            self.now = self.now.max(self.nodes[at].timer);
            self.nodes[at].timer = u64::MAX;
            self.inputs.push_back((at, Input::Timer));
            self.run();
        }
        self.now = until;
    }

    /// Until nothing is left to do.
    fn run(&mut self) {
        while let Some((at, input)) = self.inputs.pop_front() {
            let (now, mut effects) = (self.time(), Vec::new());
            self.nodes[at].replica.step(now, input, &mut effects);
            effects.into_iter().for_each(|effect| self.perform(at, effect));
        }
    }

    fn perform(&mut self, at: usize, effect: Effect) {
        match effect {
            Effect::Send { id, message, .. } => self.deliver(at, id, &message),
            Effect::Load { load, place } => {
                let result = Ok(self.nodes[at].rows.get(&place).cloned());
                self.inputs.push_back((at, Input::Loaded { load, result }));
            }
            Effect::Scan { scan, rows, limit, .. } => {
                let page = self.page(at, rows, limit);
                self.inputs.push_back((at, Input::Scanned { scan, result: Ok(page) }));
            }
            Effect::Commit { sequence, changes, .. } => {
                for change in changes {
                    if let Change::Object { place, object, .. } = change {
                        self.nodes[at].rows.insert(place, object);
                    }
                }
                let committed = Input::Committed { written: sequence, synced: sequence };
                self.inputs.push_back((at, committed));
            }
            Effect::SetTimer(due) => self.nodes[at].timer = due,
            Effect::Reply { .. } | Effect::Addresses { .. } => {}
            Effect::Fatal(why) => unreachable!("{why}"),
            Effect::Removed => unreachable!("nobody removes it"),
        }
    }

    /// Through the wire format. Only what belongs to the exchange is counted.
    fn deliver(&mut self, from: usize, id: u64, message: &PeerMessage) {
        let mut body = Vec::new();
        message.encode(&mut body);
        let is_counted = matches!(
            message,
            PeerMessage::Roots(_)
                | PeerMessage::RootsReply(_)
                | PeerMessage::Leaves(_)
                | PeerMessage::LeavesReply(_)
                | PeerMessage::Range(_)
                | PeerMessage::RangeReply(_)
                | PeerMessage::Repair(_)
        );
        self.counted.bytes += if is_counted { body.len() } else { 0 };
        let message = PeerMessage::decode(message.method(), body.into());
        let message = message.unwrap_or_else(|error| unreachable!("what was encoded: {error}"));
        self.inputs.push_back((1 - from, Input::Message { from: NodeId(from as u64 + 1), id, message }));
    }

    fn page(&mut self, at: usize, rows: Rows, limit: usize) -> Page {
        let Rows::Range { partition, first, last } = rows else { return Page::default() };
        let from = first_of(partition, first);
        let found: Vec<_> = self.nodes[at]
            .rows
            .range(from..)
            .take_while(|(place, _)| place.hash.0 <= last)
            .take(limit + 1)
            .map(|(place, object)| (place.clone(), object.clone()))
            .collect();
        let has_more = found.len() > limit;
        let rows: Vec<_> = found.into_iter().take(limit).collect();
        self.counted.rows += rows.len();
        let next = rows.last().filter(|_| has_more).map(|(place, _)| place.clone());
        Page { rows, next, unreadable: Vec::new() }
    }
}

/// Before every row of this place.
fn first_of(partition: PartitionId, first: u64) -> Place {
    let key = Key::new("a", "\0", "\0").unwrap_or_else(|_| unreachable!("a short name"));
    Place { space: gramme_replica::Space::Data, partition, hash: gramme_ring::KeyHash(first), key }
}

fn sibling() -> Sibling {
    let content = Some(Content::from_body(&[7; 100]));
    Sibling { stamp: Stamp::at_millis(WALL / 1_000), write_id: 1, expires: None, content }
}

/// The time that one replica spends on a write, and what of it is the tree's.
fn upkeep() -> Result<String, Box<dyn Error>> {
    const TIMES: u32 = 100_000;
    let mut pair = Pair::new(1)?;
    let writes: Vec<_> = (0..TIMES).map(|_| pair.write().1).collect();
    let began = Instant::now();
    writes.iter().for_each(|write| pair.send(0, write));
    let write = began.elapsed() / TIMES;
    let mut tree = Tree::new(LEAF_BITS);
    let objects: Vec<_> = (0..u64::from(TIMES))
        .map(|number| {
            (
                number.to_le_bytes(),
                Object::from_write(&Context::new(), Dot::new(Actor(9), number + 1), sibling()),
            )
        })
        .collect();
    let began = Instant::now();
    for (key, object) in &objects {
        let digest = Digest::of(key, &clock_bytes(object));
        let number = tree.replace(u64::from_le_bytes(*key) << 40, None, Some(digest));
        black_box(tree.leaf(number));
    }
    let tree = began.elapsed() / TIMES;
    let share = tree.as_nanos() as f64 * 100.0 / write.as_nanos() as f64;
    Ok(format!(
        "One replica's part of a put, without network and disk: {write:?}; keeping the hash tree: {tree:?}, {share:.1} \
         percent of it."
    ))
}
