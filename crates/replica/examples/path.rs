//! What a put and a get cost: three replicas and their wire format, one request at a time, without sockets,
//! disks or threads. Every message is encoded and decoded, every commit is durable at once.
//!
//! `path` counts the allocations of one of each; `path put 1000` only runs puts, for a profiler to count
//! instructions.
#![allow(clippy::print_stdout, reason = "it is a command")]

use std::collections::{BTreeMap, VecDeque};
use std::error::Error;

use bytes::Bytes;
use gramme_admission::Limits;
use gramme_object::{Content, Expiry, Key};
use gramme_quorum::Threshold;
use gramme_replica::{
    Bounds, Change, ClientPut, ClientRequest, Config, Effect, Input, Now, Recovered, Replica, Response,
    Secrets, Ticket,
};
use gramme_ring::{Keyspace, Member, NodeId, PlanRequest, plan};
use gramme_wire::PeerMessage;

/// The operations that an average is taken of.
const TIMES: u64 = 1_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut cluster = Cluster::start()?;
    // What grows once, such as tables and buffers, is no cost of a request.
    (0..TIMES).for_each(|_| cluster.put());
    (0..TIMES).for_each(|_| cluster.get());
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => {
            println!("put {}", allocations(|| cluster.put()));
            println!("get {}", allocations(|| cluster.get()));
        }
        ["put", times] => (0..times.parse::<u64>()?).for_each(|_| cluster.put()),
        ["get", times] => (0..times.parse::<u64>()?).for_each(|_| cluster.get()),
        _ => return Err("usage: path [put|get TIMES]".into()),
    }
    Ok(())
}

/// Allocations of one operation, on average.
fn allocations(mut operation: impl FnMut()) -> u64 {
    allocation_counter::measure(|| (0..TIMES).for_each(|_| operation())).count_total / TIMES
}

struct Cluster {
    nodes: Vec<Node>,
    now: u64,
    next: u64,
    key: Key,
    value: Content,
    context: Bytes,
    inputs: VecDeque<(usize, Input)>,
    answer: Option<Response>,
}

struct Node {
    replica: Replica,
    objects: BTreeMap<Key, Bytes>,
    effects: Vec<Effect>,
}

impl Cluster {
    fn start() -> Result<Self, Box<dyn Error>> {
        let members: Vec<_> = (1..=3).map(|id| Member::new(NodeId(id))).collect();
        let layout = plan(&PlanRequest { members: &members, replicas: 3, depth: 3, previous: None })?.layout;
        let mut cluster = Self {
            nodes: Vec::new(),
            now: 0,
            next: 0,
            key: Key::new("default", "bucket", "key")?,
            value: Content::from_body(&[b'v'; 100]),
            context: Bytes::new(),
            inputs: VecDeque::new(),
            answer: None,
        };
        for at in 0..3 {
            let config = Config {
                node: NodeId(at + 1),
                layout: layout.clone(),
                keyspace: Keyspace::new([5; 32]),
                secrets: Secrets { current: (1, [1; 32]), previous: None },
                addresses: std::collections::BTreeMap::new(),
                max_requests: 100,
                bounds: Bounds {
                    bytes: 1 << 20,
                    batches: 1_000,
                    reads: 1_000,
                    cached: 1 << 20,
                    hints: 1 << 20,
                    large: 8_192,
                },
                background: Limits::USUAL,
                scrub_every: u64::MAX >> 1,
            };
            let (seed, mut effects) = ([at as u8; 32], Vec::new());
            let replica = Replica::start(config, Recovered::default(), seed, cluster.time(), &mut effects)?;
            cluster.nodes.push(Node { replica, objects: BTreeMap::new(), effects });
        }
        for at in 0..3 {
            cluster.perform(at);
            let others = (0..3).filter(|&other| other != at);
            cluster.inputs.extend(others.map(|other| (at, Input::PeerUp(NodeId(other as u64 + 1)))));
        }
        cluster.run();
        Ok(cluster)
    }

    fn put(&mut self) {
        let put = ClientPut {
            key: self.key.clone(),
            context: self.context.clone(),
            content: Some(self.value.clone()),
            expiry: Expiry::AsBucket,
            touched: None,
            w: Threshold::Default,
            pw: Threshold::Default,
            dw: Threshold::Default,
            timeout: 1_000,
            identity: None,
            return_body: false,
            sloppy: None,
        };
        let answer = self.ask(ClientRequest::Put(put));
        let Some(Response::Put(Ok(stored))) = answer else { panic!("a put failed: {answer:?}") };
        self.context = stored.context;
    }

    fn get(&mut self) {
        let answer = self.ask(ClientRequest::Get {
            key: self.key.clone(),
            r: Threshold::Default,
            pr: Threshold::Default,
            timeout: 1_000,
            sloppy: None,
            against: Bytes::new(),
            session: Vec::new(),
        });
        assert!(matches!(answer, Some(Response::Get(Ok(_)))), "a get failed: {answer:?}");
    }

    fn ask(&mut self, request: ClientRequest) -> Option<Response> {
        self.next += 1;
        self.inputs.push_back((0, Input::Client { ticket: Ticket(self.next), request }));
        self.run();
        self.answer.take()
    }

    /// Until nothing is left to do.
    fn run(&mut self) {
        while let Some((at, input)) = self.inputs.pop_front() {
            self.now += 10;
            let (now, node) = (self.time(), &mut self.nodes[at]);
            node.replica.step(now, input, &mut node.effects);
            self.perform(at);
        }
    }

    fn perform(&mut self, at: usize) {
        let mut effects = std::mem::take(&mut self.nodes[at].effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Send { to, id, message, .. } => self.send(at, to, id, &message),
                Effect::Reply { response, .. } => self.answer = Some(response),
                Effect::Load { load, place } => {
                    let result = Ok(self.nodes[at].objects.get(&place.key).cloned());
                    self.inputs.push_back((at, Input::Loaded { load, result }));
                }
                Effect::Commit { sequence, changes, .. } => {
                    for change in changes {
                        if let Change::Object { place, object, .. } = change {
                            self.nodes[at].objects.insert(place.key, object);
                        }
                    }
                    self.inputs.push_back((at, Input::Committed { written: sequence, synced: sequence }));
                }
                Effect::Scan { .. } | Effect::SetTimer(_) | Effect::Addresses { .. } => {}
                Effect::Fatal(why) => panic!("{why}"),
                Effect::Removed => panic!("nobody removes it"),
            }
        }
        self.nodes[at].effects = effects;
    }

    /// Through the wire format. One allocation is the frame's, as it is on a connection.
    fn send(&mut self, from: usize, to: NodeId, id: u64, message: &PeerMessage) {
        let mut body = Vec::with_capacity(256);
        message.encode(&mut body);
        let message = PeerMessage::decode(message.method(), body.into()).expect("what was encoded");
        let from = NodeId(from as u64 + 1);
        self.inputs.push_back((to.0 as usize - 1, Input::Message { from, id, message }));
    }

    fn time(&self) -> Now {
        Now { monotonic: self.now, wall: 1_700_000_000_000_000 + self.now }
    }
}
