//! One partition that changes owners, with crashes, lost disks, coordinators that stand still and messages that come in any
//! order; and an oracle that asks after each step: could a reader, of whatever decision, miss an acknowledged write now?
//!
//! Decisions come one after the other: that each has one successor is another machine's business (`gramme-paxos`).

use std::collections::{BTreeMap, BTreeSet};

use gramme_ring::{Entry, Evidence, NodeId, Quorums};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::Wrong;

pub(crate) const QUORUMS: Quorums = Quorums { r: 2, w: 2 };
const REPLICAS: usize = 3;
const NODES: u64 = 6;

/// One write, by its number.
type Write = usize;
/// A decision, by its place in the order.
type Epoch = usize;

#[derive(Clone, Debug, Default)]
struct Disk {
    writes: BTreeSet<Write>,
    epoch: Epoch,
    /// What scans have reached here: whose, of which change and which tenures.
    scans: BTreeSet<(NodeId, Epoch, u32, u32)>,
    /// Who was pulled from since the disk was lost, while it counts for nothing.
    amnesia: Option<BTreeSet<NodeId>>,
    tenure: u32,
}

#[derive(Clone, Debug, Default)]
struct Node {
    synced: Disk,
    now: Disk,
    /// Acknowledgements that wait for the next sync: of which put, under which decision.
    waiting: Vec<(usize, Epoch)>,
    /// Tenures of others, as far as it knows.
    known: BTreeMap<NodeId, u32>,
}

#[derive(Clone, Debug)]
enum Message {
    Write { request: usize, epoch: Epoch, to: NodeId },
    Done { request: usize, epoch: Epoch, from: NodeId, tenure: u32, known: BTreeMap<NodeId, u32> },
    Stale { request: usize, epoch: Epoch },
}

/// A coordinator's put. It may stand still as long as it likes.
#[derive(Clone, Debug)]
struct Put {
    epoch: Epoch,
    acks: Vec<(NodeId, u32, BTreeMap<NodeId, u32>)>,
    is_done: bool,
}

/// A copy from an old owner to a new one.
#[derive(Clone, Debug)]
struct Scan {
    from: NodeId,
    to: NodeId,
    change: Epoch,
    tenures: (u32, u32),
    left: Vec<Write>,
}

pub(crate) struct Model {
    wrong: Option<Wrong>,
    rng: ChaCha8Rng,
    decided: Vec<Entry>,
    /// With which decision the present change began: cursors belong to it.
    change: Epoch,
    nodes: BTreeMap<NodeId, Node>,
    puts: Vec<Put>,
    messages: Vec<Message>,
    scans: Vec<Scan>,
    /// Changes that went through.
    pub(crate) settled: usize,
    lost_disks: usize,
    aborted: bool,
}

impl Model {
    pub(crate) fn new(seed: u64, wrong: Option<Wrong>) -> Self {
        let nodes = (1..=NODES).map(|id| (NodeId(id), Node::default())).collect();
        let first = Entry::Settled((1..=REPLICAS as u64).map(NodeId).collect());
        Self {
            wrong,
            rng: ChaCha8Rng::seed_from_u64(seed),
            decided: vec![first],
            change: 0,
            nodes,
            puts: Vec::new(),
            messages: Vec::new(),
            scans: Vec::new(),
            settled: 0,
            lost_disks: 0,
            aborted: false,
        }
    }

    fn is(&self, wrong: Wrong) -> bool {
        self.wrong == Some(wrong)
    }

    fn last(&self) -> Epoch {
        self.decided.len() - 1
    }

    fn entry(&self) -> &Entry {
        &self.decided[self.last()]
    }

    fn some_node(&mut self) -> NodeId {
        NodeId(self.rng.random_range(1..=NODES))
    }

    /// Does something, and says what a reader would miss.
    pub(crate) fn step(&mut self) -> Option<String> {
        match self.rng.random_range(0..1_000) {
            0..60 => self.begin_put(),
            60..360 => self.deliver(),
            360..540 => {
                let node = self.some_node();
                self.sync(node);
            }
            540..570 => self.crash(),
            570..575 => self.lose_disk(),
            575..630 => self.pull(),
            630..700 => self.learn(),
            700..780 => self.begin_scan(),
            780..940 => self.copy_some(),
            940..985 => self.decide(),
            985..997 => self.drop_old(),
            _ => self.abort(),
        }
        self.missed()
    }

    fn begin_put(&mut self) {
        let last = self.last();
        // Mostly of the present; some have stood still since an earlier decision.
        let epoch = if self.rng.random_range(0..4) == 0 { self.rng.random_range(0..=last) } else { last };
        let request = self.puts.len();
        self.puts.push(Put { epoch, acks: Vec::new(), is_done: false });
        self.send(request);
    }

    fn send(&mut self, request: usize) {
        let epoch = self.puts[request].epoch;
        let members: BTreeSet<NodeId> = self.decided[epoch].write_sets().concat().into_iter().collect();
        self.messages.extend(members.into_iter().map(|to| Message::Write { request, epoch, to }));
    }

    fn deliver(&mut self) {
        if self.messages.is_empty() {
            return;
        }
        let at = self.rng.random_range(0..self.messages.len());
        match self.messages.swap_remove(at) {
            Message::Write { request, epoch, to } => self.on_write(request, epoch, to),
            Message::Done { request, epoch, from, tenure, known } => {
                self.on_done(request, epoch, (from, tenure, known));
            }
            Message::Stale { request, epoch } => {
                let put = &mut self.puts[request];
                if epoch > put.epoch && !put.is_done {
                    put.epoch = epoch;
                    if self.wrong != Some(Wrong::CarryAcknowledgements) {
                        put.acks.clear();
                    }
                    self.send(request);
                }
            }
        }
    }

    fn on_write(&mut self, request: usize, epoch: Epoch, to: NodeId) {
        let (is_cassandra, early) = (self.is(Wrong::TakeOldRequests), self.is(Wrong::AcknowledgeUnsynced));
        let entry = self.decided[epoch].clone();
        let node = self.nodes.get_mut(&to).expect("a node");
        if node.now.epoch > epoch && !is_cassandra {
            let stale = Message::Stale { request, epoch: node.now.epoch };
            return self.messages.push(stale);
        }
        if !entry.is_member(to) {
            return;
        }
        node.now.epoch = node.now.epoch.max(epoch);
        node.now.writes.insert(request);
        if node.now.amnesia.is_some() && self.wrong != Some(Wrong::CountAmnesiac) {
            return;
        }
        node.waiting.push((request, epoch));
        if early {
            self.acknowledge(to);
        }
    }

    /// What a node knows of tenures is what it knows now, not when the write came: whoever lost its disk may have pulled from
    /// it meanwhile, and not got what was not synced.
    fn acknowledge(&mut self, from: NodeId) {
        let node = self.nodes.get_mut(&from).expect("a node");
        for (request, epoch) in std::mem::take(&mut node.waiting) {
            let (tenure, known) = (node.now.tenure, node.known.clone());
            self.messages.push(Message::Done { request, epoch, from, tenure, known });
        }
    }

    fn on_done(&mut self, request: usize, epoch: Epoch, ack: (NodeId, u32, BTreeMap<NodeId, u32>)) {
        let forgets_tenures = self.is(Wrong::CountDeadTenures);
        let put = &mut self.puts[request];
        if epoch != put.epoch && self.wrong != Some(Wrong::CarryAcknowledgements) {
            return;
        }
        put.acks.push(ack);
        // One whose tenure another counted one knows to be over does not count.
        let is_over = |(node, tenure, _): &(NodeId, u32, BTreeMap<NodeId, u32>)| {
            put.acks.iter().any(|(.., known)| known.get(node).is_some_and(|newer| newer > tenure))
        };
        let counted: BTreeSet<NodeId> =
            put.acks.iter().filter(|ack| forgets_tenures || !is_over(ack)).map(|(node, ..)| *node).collect();
        let reached = |set: &[NodeId]| set.iter().filter(|node| counted.contains(node)).count() >= QUORUMS.w;
        put.is_done |= self.decided[put.epoch].write_sets().into_iter().all(reached);
    }

    fn sync(&mut self, id: NodeId) {
        let node = self.nodes.get_mut(&id).expect("a node");
        node.synced = node.now.clone();
        self.acknowledge(id);
    }

    fn crash(&mut self) {
        let node = self.some_node();
        let node = self.nodes.get_mut(&node).expect("a node");
        node.waiting.clear();
        node.now = node.synced.clone();
    }

    /// At most one owner's disk at a time: with two an acknowledged write may rightly be gone.
    fn lose_disk(&mut self) {
        let is_whole = self.nodes.values().all(|node| node.now.amnesia.is_none());
        if !is_whole || self.lost_disks >= 2 || self.rng.random_range(0..3) > 0 {
            return;
        }
        self.lost_disks += 1;
        let node = self.some_node();
        let node = self.nodes.get_mut(&node).expect("a node");
        let tenure = node.now.tenure + 1;
        node.now = Disk { amnesia: Some(BTreeSet::new()), tenure, ..Disk::default() };
        node.synced = node.now.clone();
        node.waiting.clear();
        // What was on its way from it stays on its way.
    }

    /// One that lost its disk takes over what another has, and the decision that it knows.
    fn pull(&mut self) {
        let (node, from) = (self.some_node(), self.some_node());
        let last = self.last();
        let source = self.nodes[&from].clone();
        let reads = self.decided[source.synced.epoch].read_set().to_vec();
        let is_source =
            reads.contains(&from) && source.synced.amnesia.is_none() && source.synced.epoch == last;
        let tenure = source.now.tenure;
        let this = self.nodes.get_mut(&node).expect("a node");
        let Some(pulled) = this.now.amnesia.as_mut().filter(|_| node != from && is_source) else { return };
        pulled.insert(from);
        let others = reads.iter().filter(|owner| **owner != node).count();
        let is_over = pulled.len() >= Entry::sources(REPLICAS, QUORUMS).min(others);
        this.now.writes.extend(source.synced.writes.iter().copied());
        this.now.epoch = this.now.epoch.max(source.synced.epoch);
        this.known.insert(from, tenure);
        if is_over {
            this.now.amnesia = None;
        }
        let tenure = this.now.tenure;
        this.synced = this.now.clone();
        self.nodes.get_mut(&from).expect("a node").known.insert(node, tenure);
    }

    /// A node hears of the last decision, and another of its tenure.
    fn learn(&mut self) {
        let (node, other) = (self.some_node(), self.some_node());
        let (last, tenure) = (self.last(), self.nodes[&other].now.tenure);
        let fences_unsynced = self.is(Wrong::FenceUnsynced);
        let this = self.nodes.get_mut(&node).expect("a node");
        this.now.epoch = last;
        this.known.insert(other, tenure);
        if fences_unsynced && self.rng.random_range(0..2) == 0 {
            return;
        }
        if self.rng.random_range(0..2) == 0 {
            self.sync(node);
        }
    }

    /// Whether a node refuses for good what is older than this decision.
    fn is_fenced(&self, node: NodeId, at: Epoch) -> bool {
        let node = &self.nodes[&node];
        let disk = if self.is(Wrong::FenceUnsynced) { &node.now } else { &node.synced };
        disk.epoch >= at && (disk.amnesia.is_none() || self.is(Wrong::CountAmnesiac))
    }

    fn begin_scan(&mut self) {
        let Entry::Joining { from, to } = self.entry().clone() else { return };
        let (from, to) = (from[self.rng.random_range(0..from.len())], to[self.rng.random_range(0..to.len())]);
        if from == to || !self.is_fenced(from, self.last()) && !self.is(Wrong::ScanUnfenced) {
            return;
        }
        let (source, target) = (&self.nodes[&from].now, &self.nodes[&to].now);
        if source.amnesia.is_some() || target.amnesia.is_some() {
            return;
        }
        let (left, tenures) = (source.writes.iter().copied().collect(), (source.tenure, target.tenure));
        self.scans.push(Scan { from, to, change: self.change, tenures, left });
    }

    /// Some of a copy arrives, durably; at its end the new owner has all that the old one had.
    fn copy_some(&mut self) {
        if self.scans.is_empty() {
            return;
        }
        let at = self.rng.random_range(0..self.scans.len());
        let (change, keeps_cursor) = (self.change, self.is(Wrong::KeepCursor));
        let is_unsynced = self.is(Wrong::PushUnsynced);
        let scan = &mut self.scans[at];
        let target = self.nodes.get_mut(&scan.to).expect("a node");
        if !keeps_cursor && (scan.change != change || target.now.tenure != scan.tenures.1) {
            self.scans.swap_remove(at);
            return;
        }
        let rest = scan.left.len().saturating_sub(4);
        for write in scan.left.drain(rest..) {
            target.now.writes.insert(write);
            if !is_unsynced {
                target.synced.writes.insert(write);
            }
        }
        if rest == 0 {
            let change = if keeps_cursor { change } else { scan.change };
            let reached = (scan.from, change, scan.tenures.0, scan.tenures.1);
            target.now.scans.insert(reached);
            target.synced.scans.insert(reached);
            self.scans.swap_remove(at);
        }
    }

    fn evidence(&self) -> Evidence {
        let (last, ids) = (self.last(), self.nodes.keys().copied());
        let fenced: BTreeSet<NodeId> = ids.clone().filter(|id| self.is_fenced(*id, last)).collect();
        let from = match self.entry() {
            Entry::Joining { from, .. } => from.clone(),
            Entry::Settled(_) | Entry::Leaving { .. } => Vec::new(),
        };
        let needed = if self.is(Wrong::OneSource) { 1 } else { Entry::sources(REPLICAS, QUORUMS) };
        let is_complete = |id: &NodeId| {
            let disk = &self.nodes[id].synced;
            let has = |source: &NodeId| {
                let tenures = (self.nodes[source].now.tenure, disk.tenure);
                source == id && fenced.contains(id)
                    || disk.scans.contains(&(*source, self.change, tenures.0, tenures.1))
            };
            disk.amnesia.is_none() && from.iter().filter(|source| has(source)).count() >= needed
        };
        Evidence { complete: ids.filter(is_complete).collect(), fenced }
    }

    fn decide(&mut self) {
        let to: Vec<NodeId> = {
            let mut all: Vec<NodeId> = self.nodes.keys().copied().collect();
            (0..REPLICAS).map(|_| all.swap_remove(self.rng.random_range(0..all.len()))).collect()
        };
        let next = match self.entry() {
            Entry::Settled(from) if self.is(Wrong::CountAtOnce) && *from != to => Some(Entry::Settled(to)),
            Entry::Settled(_) => self.entry().begin(to),
            entry => entry.next(|_| QUORUMS, &self.evidence()),
        };
        let Some(next) = next else { return };
        match next {
            Entry::Joining { .. } => self.change = self.decided.len(),
            Entry::Settled(_) => self.settled += 1,
            Entry::Leaving { .. } => {}
        }
        self.aborted = false;
        self.decided.push(next);
    }

    fn abort(&mut self) {
        // Now and then, and not for ever to and fro.
        if self.aborted || self.rng.random_range(0..3) > 0 {
            return;
        }
        if let Some(back) = self.entry().abort() {
            self.aborted = true;
            self.decided.push(back);
        }
    }

    /// An old owner drops what it has, when all of it has reached the owners after its own last fence.
    fn drop_old(&mut self) {
        let node = self.some_node();
        let owners = match self.entry() {
            Entry::Settled(owners) => owners.clone(),
            Entry::Leaving { to, .. } if self.is(Wrong::DropAtLeaving) => to.clone(),
            Entry::Joining { .. } | Entry::Leaving { .. } => return,
        };
        if owners.contains(&node) || !self.is_fenced(node, self.last()) {
            return;
        }
        // The second scan, one way, all at once: nothing comes to a fenced node meanwhile.
        let writes = self.nodes[&node].now.writes.clone();
        for owner in owners {
            let owner = self.nodes.get_mut(&owner).expect("a node");
            owner.now.writes.extend(writes.iter().copied());
            owner.synced.writes.extend(writes.iter().copied());
        }
        self.forget(node);
    }

    fn forget(&mut self, node: NodeId) {
        let node = self.nodes.get_mut(&node).expect("a node");
        node.now.writes.clear();
        node.synced.writes.clear();
        node.now.scans.clear();
        node.synced.scans.clear();
    }

    /// A decision under which R replicas would answer a reader without an acknowledged write.
    fn missed(&self) -> Option<String> {
        let (is_unfenced, counts_amnesiac) = (self.is(Wrong::ServeOldReaders), self.is(Wrong::CountAmnesiac));
        for (epoch, entry) in self.decided.iter().enumerate() {
            let serves = |node: &&NodeId| {
                let now = &self.nodes[node].now;
                (now.epoch <= epoch || is_unfenced) && (now.amnesia.is_none() || counts_amnesiac)
            };
            let serving: Vec<&NodeId> = entry.read_set().iter().filter(serves).collect();
            for (write, _) in self.puts.iter().enumerate().filter(|(_, put)| put.is_done) {
                let without = serving.iter().filter(|node| !self.nodes[node].now.writes.contains(&write));
                if without.count() >= QUORUMS.r {
                    return Some(format!("a reader of decision {epoch}, {entry:?}, may miss write {write}"));
                }
            }
        }
        None
    }
}
