//! Anti-entropy (section 4.7 of the paper): replicas of a partition compare what they hold, and mend what differs.
//!
//! Who is compared with when is `gramme-antientropy`'s. Here trees are compared, and rows read and sent. A leaf is
//! gone through a page of rows at a time: this node sends its keys with the digests of their clocks, the other answers
//! with the objects that this one lacks and names those that it lacks itself. Nothing is remembered by whoever
//! answers. Rows are read once all that was staged is written: it may be acknowledged a moment later.

mod amnesia;
mod answer;
mod closing;
mod moving;
mod pull;
mod task;
mod walk;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use gramme_antientropy::{AntiEntropy, Config, Effect, Input};
use gramme_gossip::Opinion;
use gramme_object::{DecodeError, Object};
use gramme_plant::planted;
use gramme_quorum::Seat;
use gramme_ring::{NodeId, PartitionId};
use gramme_wire::PeerMessage;
use gramme_wire::peer::{
    Class, CloseReply, Leaves, LeavesReply, PartitionLeaves, Repair, Roots, RootsReply, Sum,
};

use crate::config::LEAF_BITS;
use crate::coordinator::Around;
use crate::cx::Cx;
use crate::io::Page;
use crate::pace::Background;
use crate::place::Place;
use crate::request::Exchange;
use crate::serve::request_header;
use crate::shard::{Level, Writer, digest_of};
use crate::timers::Timer;
use amnesia::Proof;
use closing::Closing;
use moving::{Moving, arrives};
use pull::{Pulls, Whole};
use task::Task;

/// Rows that are compared at once.
const ROWS: usize = 128;
/// How often exchanges are hurried while a node must prove that it has everything, in microseconds.
const NUDGE: u64 = 5_000_000;
/// Leaves that are remembered of one exchange.
const LOOKED_AT: usize = 4_096;
/// How often it is looked for what can be forgotten, in microseconds.
const RECLAIM: u64 = 1_000_000;
/// Partitions that are pulled in one exchange.
const PULLED: usize = 1_024;
/// Bytes of objects in one answer, but for one that is larger by itself.
const ANSWER: usize = 1 << 20;
/// How long an answer, and what is sent to mend, is worth sending, in microseconds.
const TTL: u64 = Config::USUAL.patience;

/// What a request asked.
#[derive(Clone, Debug)]
enum Asked {
    /// Of this peer, in its exchange of this number.
    Roots(NodeId, u64),
    Leaves(NodeId, u64),
    Range(u64),
    /// To take this key's state, for this leaf.
    Mend(u64, Box<Place>),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Exchanges {
    machine: AntiEntropy,
    asked: BTreeMap<u64, Asked>,
    /// The number of the last exchange with each peer: what another was asked is for nobody any more.
    numbers: BTreeMap<NodeId, u64>,
    /// When everybody is asked soon again, as long as something must be proven.
    nudge: u64,
    tasks: BTreeMap<u64, Task>,
    /// The leaves that the last exchange with a peer has looked at, with what both held then. One that is as it was has
    /// something in it that cannot be mended, and is no reason to compare again soon.
    looked_at: BTreeMap<NodeId, Looks>,
    pulls: Pulls,
    closing: Closing,
    /// The last partition of which a peer has said what it has seen: the next exchange goes on after it.
    asked_up_to: BTreeMap<NodeId, PartitionId>,
    proof: Proof,
    moving: Moving,
    timer: Option<u64>,
}

/// Differing leaves, with our sum and theirs: those of the last exchange, and of the present one.
#[derive(Debug, Default)]
struct Looks {
    before: BTreeMap<(PartitionId, u32), (Sum, Sum)>,
    now: BTreeMap<(PartitionId, u32), (Sum, Sum)>,
}

impl Looks {
    fn is_as_before(&self, leaf: (PartitionId, u32)) -> bool {
        self.now.get(&leaf).is_some_and(|sums| self.before.get(&leaf) == Some(sums))
    }
}

impl Background for Exchanges {
    fn is_busy(&self) -> bool {
        self.machine.exchanges().next().is_some()
    }

    fn set_rate(&mut self, cx: &mut Cx, bytes_per_second: u64) {
        self.machine.set_rate(cx.now.monotonic, bytes_per_second);
        // It may be able to go on sooner than it was.
        cx.timers.hurry(&mut self.timer, self.machine.next_timer(), Timer::AntiEntropy);
    }
}

impl Exchanges {
    pub(crate) fn new() -> Self {
        let machine = AntiEntropy::new(Config::USUAL);
        let (asked, tasks, looked_at) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let (numbers, asked_up_to) = (BTreeMap::new(), BTreeMap::new());
        let (pulls, proof) = (Pulls::default(), Proof::default());
        Self {
            machine,
            asked,
            numbers,
            nudge: 0,
            tasks,
            looked_at,
            pulls,
            closing: Closing::default(),
            asked_up_to,
            proof,
            moving: Moving::default(),
            timer: None,
        }
    }

    /// How far the exchange with a node has come, if one is under way.
    pub(crate) fn exchange(&self, peer: NodeId, now: u64) -> Option<Exchange> {
        let found = self.machine.exchanges().find(|exchange| exchange.peer == peer)?;
        let (partitions, leaves) = (found.partitions as u64, found.leaves as u64);
        Some(Exchange { partitions, leaves, keys: found.keys, age: now.saturating_sub(found.began) })
    }

    pub(crate) fn on_reachable(&mut self, around: &mut Around<'_>, peer: NodeId) {
        self.step(around, Input::Reachable(peer));
    }

    pub(crate) fn on_gone(&mut self, around: &mut Around<'_>, peer: NodeId) {
        self.looked_at.remove(&peer);
        self.numbers.remove(&peer);
        self.pulls.forget(around.shard, peer);
        self.moving.on_gone(peer);
        self.step(around, Input::Gone(peer));
    }

    /// This node has lost data: nothing is proven of it any more.
    pub(crate) fn on_lost(&mut self, around: &mut Around<'_>) {
        self.pulls.lose(around.shard);
        self.closing.lose(around.cx.now.monotonic);
        self.proof.clear();
        self.moving.on_lost();
    }

    /// Another node has spoken, and may have said what was missing for a proof.
    pub(crate) fn on_hello(&mut self, around: &mut Around<'_>) {
        if around.cx.stats.amnesiac_partitions > 0 {
            self.proof.end_amnesia(around);
        } else if reclaimable(around).next().is_none() {
            return;
        }
        let now = around.cx.now.monotonic;
        if now >= self.nudge {
            self.nudge = now + NUDGE;
            around.node.map.others(around.cx.me()).collect::<Vec<_>>().into_iter().for_each(|peer| {
                self.step(around, Input::Needed(peer));
            });
        }
    }

    pub(crate) fn on_dirty(&mut self, around: &mut Around<'_>) {
        for peer in std::mem::take(&mut around.cx.dirty) {
            self.step(around, Input::Dirty(peer));
        }
    }

    pub(crate) fn on_timer(&mut self, around: &mut Around<'_>) {
        self.timer = None;
        self.step(around, Input::Timer);
    }

    /// A request has certainly not been answered.
    pub(crate) fn on_failed(&mut self, around: &mut Around<'_>, id: u64) {
        let peer = match self.asked.remove(&id) {
            Some(Asked::Roots(peer, number) | Asked::Leaves(peer, number)) => {
                Some(peer).filter(|peer| self.is_present(*peer, number))
            }
            Some(Asked::Range(task) | Asked::Mend(task, _)) => self.tasks.get(&task).map(|task| task.peer),
            None => None,
        };
        if let Some(peer) = peer {
            self.step(around, Input::Failed(peer));
        }
    }

    /// Whether it comes from whoever was asked, in the exchange that is under way.
    fn is_answer(&self, from: NodeId, peer: NodeId, number: u64) -> bool {
        from == peer && self.is_present(peer, number)
    }

    fn is_present(&self, peer: NodeId, number: u64) -> bool {
        self.numbers.get(&peer) == Some(&number)
    }

    // What others ask.

    /// Another node asks whether what it shares with this one is the same.
    pub(crate) fn on_roots(&mut self, around: &mut Around<'_>, (from, id): (NodeId, u64), roots_of: &Roots) {
        let shared = around.shared_with(from);
        let is_same = digest_of_all(&shared) == roots_of.digest || planted!(AllTheSame);
        let roots = if is_same { Vec::new() } else { shared };
        let seen = around.seen_of(from, &roots_of.seen_of);
        let (uncounted, fenced) = (around.uncounted_with(from), around.node.layouts.fenced());
        let reply = RootsReply { is_same, roots, uncounted, seen, fenced };
        if reply.seen.is_empty() {
            around.answer_roots((from, id), reply);
        } else {
            // What is said to have been seen must stay so.
            let writer = Writer::Roots { to: from, id, reply: Box::new(reply) };
            around.shard.confirm(around.cx, writer, Level::Synced);
        }
        if is_same {
            self.step(around, Input::Same(from));
        }
    }

    // What they answer.

    pub(crate) fn on_roots_reply(
        &mut self,
        around: &mut Around<'_>,
        (from, id): (NodeId, u64),
        reply: &RootsReply,
    ) {
        let Some(Asked::Roots(peer, number)) = self.asked.remove(&id) else { return };
        if !self.is_answer(from, peer, number) {
            return;
        }
        let mut differing = match reply.is_same {
            true => Vec::new(),
            false => differing(&around.shared_with(peer), &reply.roots),
        };
        // Those that were not answered come first the next time.
        let last = reply.seen.last().map(|seen| seen.partition).or_else(|| self.pulls.last_of(peer));
        if let Some(last) = last {
            self.asked_up_to.insert(peer, last);
        }
        self.add_left(around, peer, &mut differing);
        let whole = self.pulls.on_roots(around, peer, reply, &differing);
        self.choose_moving(around, peer, &mut differing);
        self.step(around, Input::Roots { peer, differing });
        self.on_whole(around, &whole);
    }

    pub(crate) fn on_leaves_reply(
        &mut self,
        around: &mut Around<'_>,
        (from, id): (NodeId, u64),
        reply: &LeavesReply,
    ) {
        let Some(Asked::Leaves(peer, number)) = self.asked.remove(&id) else { return };
        if !self.is_answer(from, peer, number) {
            return;
        }
        let (mut all, mut whole) = (Vec::new(), Vec::new());
        for PartitionLeaves { partition, life, leaves: theirs } in &reply.leaves {
            self.pulls.on_life((peer, *partition), *life);
            if !around.shard.owns(*partition) {
                continue;
            }
            let ours = around.shard.leaves(*partition);
            let leaves = differing(&ours, theirs).into_iter().filter(|leaf| *leaf >> LEAF_BITS == 0);
            let before = all.len();
            for leaf in leaves {
                let sum = |sums: &[(u32, Sum)]| {
                    sums.iter().find(|(number, _)| *number == leaf).map(|(_, sum)| *sum).unwrap_or_default()
                };
                let looks = self.looked_at.entry(peer).or_default();
                if looks.now.len() < LOOKED_AT {
                    looks.now.insert((*partition, leaf), (sum(&ours), sum(theirs)));
                }
                all.push((*partition, leaf));
            }
            whole.extend(self.pulls.on_leaves(around, (peer, *partition), all.len() - before));
        }
        self.step(around, Input::Leaves { peer, differing: all });
        self.on_whole(around, &whole);
    }

    pub(crate) fn on_close_reply(
        &mut self,
        around: &mut Around<'_>,
        from: NodeId,
        id: u64,
        reply: &CloseReply,
    ) {
        self.closing.on_reply(around, from, id, reply);
    }

    pub(crate) fn on_reclaim_timer(&mut self, around: &mut Around<'_>) {
        around.cx.timers.set(around.cx.now.monotonic + RECLAIM, Timer::Reclaim);
        self.closing.on_time(around);
        let Around { cx, node, shard } = around;
        let millis = node.clock.millis(cx.now);
        let by_clock =
            |place: &Place| node.properties(&place.key).is_some_and(|properties| !properties.allow_mult);
        shard.reclaim(cx, |place| by_clock(place).then_some(millis));
    }

    /// All that others had of partitions is here.
    fn on_whole(&mut self, around: &mut Around<'_>, whole: &[Whole]) {
        self.proof.on_whole(around, whole);
        self.closing.on_whole(around, whole);
        self.moving.on_whole(around, whole);
    }

    fn step(&mut self, around: &mut Around<'_>, input: Input) {
        if let Input::Failed(peer) = input {
            self.pulls.end(around.shard, peer);
        }
        let mut effects = Vec::new();
        self.machine.step(around.cx.now.monotonic, input, &mut effects);
        self.tasks.retain(|number, _| self.machine.awaits(*number));
        // What was not answered in time is for nobody.
        self.asked.retain(|_, asked| match asked {
            Asked::Roots(peer, number) | Asked::Leaves(peer, number) => {
                self.numbers.get(peer) == Some(number)
            }
            Asked::Range(task) | Asked::Mend(task, _) => self.machine.awaits(*task),
        });
        for effect in effects {
            self.perform(around, effect);
        }
        let stats = self.machine.stats();
        around.cx.stats.exchanges = stats.exchanges;
        around.cx.stats.exchanges_failed = stats.failed;
        around.cx.stats.leaves_compared = stats.leaves;
        around.cx.stats.keys_mended = stats.keys;
        around.cx.stats.exchange_bytes = stats.bytes;
        around.cx.timers.hurry(&mut self.timer, self.machine.next_timer(), Timer::AntiEntropy);
    }

    fn perform(&mut self, around: &mut Around<'_>, effect: Effect) {
        match effect {
            Effect::CompareRoots { peer } => {
                let seen_of = self.wanted(around, peer);
                self.pulls.begin(around, peer, &seen_of);
                let looks = self.looked_at.entry(peer).or_default();
                looks.before = std::mem::take(&mut looks.now);
                let digest = digest_of_all(&around.shared_with(peer));
                let number = around.cx.next_request();
                self.numbers.insert(peer, number);
                self.ask(
                    around,
                    Asked::Roots(peer, number),
                    peer,
                    PeerMessage::Roots(Roots { digest, seen_of }),
                );
            }
            Effect::CompareLeaves { peer, partitions } => {
                let number = self.numbers.get(&peer).copied().unwrap_or_default();
                let leaves = PeerMessage::Leaves(Leaves { partitions });
                self.ask(around, Asked::Leaves(peer, number), peer, leaves);
            }
            Effect::Mend { task, peer, partition, leaf } => {
                let (next, last) = leaf_range(partition, leaf);
                let is_as_before =
                    self.looked_at.get(&peer).is_some_and(|looks| looks.is_as_before((partition, leaf)));
                let new = Task {
                    peer,
                    partition,
                    next,
                    last,
                    rows: Vec::new(),
                    keys: 0,
                    bytes: 0,
                    through: 0,
                    merging: 0,
                    is_whole: true,
                    is_as_before,
                };
                self.tasks.insert(task, new);
                self.go_on(around, task);
            }
        }
    }

    /// The partitions to be pulled from a peer in the next exchange, so many at most: those after the ones of the last.
    fn wanted(&self, around: &Around<'_>, peer: NodeId) -> Vec<PartitionId> {
        let layout = around.node.map.layout();
        let to_forget = around.shard.reclaiming().map(|(id, _)| id);
        let all = around.shard.amnesiac().chain(to_forget).chain(around.shard.closing());
        // One that has little yet has nothing to teach.
        let shared = all.filter(|id| layout.is_holder(*id, peer) && !arrives(layout, *id, peer));
        let all: BTreeSet<PartitionId> = shared.chain(self.moving.wanted(around, peer)).collect();
        let shared: Vec<_> = all.into_iter().collect();
        let from = self.asked_up_to.get(&peer).map_or(0, |last| shared.partition_point(|id| id <= last));
        let wanted: Vec<_> =
            shared.iter().cycle().skip(from).take(shared.len().min(PULLED)).copied().collect();
        wanted
    }

    fn ask(&mut self, around: &mut Around<'_>, asked: Asked, peer: NodeId, message: PeerMessage) {
        let id = around.cx.next_request();
        self.asked.insert(id, asked);
        around.cx.send_as(Class::Background, peer, id, TTL, message);
    }
}

/// The partitions that have tenures to close, or something to forget and owners that can all be reached.
fn reclaimable(around: &Around<'_>) -> impl Iterator<Item = PartitionId> {
    let peers = around.node.peers();
    let is_there = move |node| peers.state(node) == Opinion::Alive;
    let to_forget = around.shard.reclaiming().filter(move |(_, others)| others.iter().copied().all(is_there));
    to_forget.map(|(id, _)| id).chain(around.shard.closing())
}

fn send_repair(around: &mut Around<'_>, to: NodeId, place: &Place, object: Bytes) -> u64 {
    let Around { cx, node, .. } = around;
    let id = cx.next_request();
    let header = request_header(cx, node, place.partition, id, Class::Background);
    let repair = Repair { header, key: place.key.clone(), seat: Seat::default(), object };
    cx.send_as(Class::Background, to, id, TTL, PeerMessage::Repair(repair));
    id
}

/// The digest of a row's clock; none if it has no version.
fn digest(place: &Place, stored: &Bytes) -> Result<Option<u128>, DecodeError> {
    let object = Object::decode(stored)?;
    Ok((!object.versions().is_empty()).then(|| digest_of(&place.key, &object).0))
}

/// Up to which place a page has all rows there are.
fn through(page: &Page, last: u64) -> u64 {
    // The last row that was looked at, whether it is there or not.
    page.next.as_ref().map_or(last, |place| place.hash.0)
}

/// The first and the last place of a leaf.
pub(crate) fn leaf_range(partition: PartitionId, leaf: u32) -> (u64, u64) {
    let depth = u32::from(partition.depth);
    let above = u64::from(partition.prefix).checked_shl(64 - depth).unwrap_or(0);
    let width = 64 - depth - u32::from(LEAF_BITS);
    let first = above | u64::from(leaf) << width;
    (first, first | ((1 << width) - 1))
}

/// The first and the last place of a partition.
pub(crate) fn range_of(partition: PartitionId) -> (u64, u64) {
    (leaf_range(partition, 0).0, leaf_range(partition, (1 << LEAF_BITS) - 1).1)
}

/// One digest of many sums.
fn digest_of_all(sums: &[(PartitionId, Sum)]) -> u128 {
    let mut hasher = blake3::Hasher::new();
    for (partition, Sum { count, sum }) in sums {
        hasher.update(&partition.prefix.to_le_bytes());
        hasher.update(&[partition.depth]);
        hasher.update(&count.to_le_bytes());
        hasher.update(&sum.to_le_bytes());
    }
    hasher.finalize().as_bytes().first_chunk().map_or(0, |bytes| u128::from_le_bytes(*bytes))
}

/// The names under which two lists have different sums; what one has not is empty there.
fn differing<N: Copy + Ord>(ours: &[(N, Sum)], theirs: &[(N, Sum)]) -> Vec<N> {
    let of = |sums: &[(N, Sum)]| sums.iter().copied().collect::<BTreeMap<N, Sum>>();
    let (ours, theirs) = (of(ours), of(theirs));
    let names: BTreeSet<N> = ours.keys().chain(theirs.keys()).copied().collect();
    names.into_iter().filter(|name| ours.get(name) != theirs.get(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leaves_of_all_partitions_are_the_ring() {
        for depth in [0, 1, 4, 10] {
            let mut next = 0;
            for prefix in 0..1_u32 << depth {
                for leaf in 0..1 << LEAF_BITS {
                    let (first, last) = leaf_range(PartitionId { prefix, depth }, leaf);
                    assert_eq!(first, next, "{depth} {prefix} {leaf}");
                    assert_eq!(gramme_merkle::leaf_of(first << depth, LEAF_BITS), leaf);
                    next = last.wrapping_add(1);
                }
            }
            assert_eq!(next, 0, "{depth}");
        }
    }

    #[test]
    fn what_is_missing_differs_from_what_is_there() {
        let sum = |count| Sum { count, sum: 7 };
        let ours = [(1, sum(1)), (2, sum(1)), (3, sum(1))];
        assert_eq!(differing(&ours, &[(1, sum(1)), (2, sum(2)), (4, sum(1))]), [2, 3, 4]);
        assert_eq!(differing(&ours, &ours), [0; 0]);
    }
}
