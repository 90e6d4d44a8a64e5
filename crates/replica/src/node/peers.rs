//! What the other nodes say of themselves, and what this node says of itself.
//!
//! Who is alive, suspect or down is this node's own opinion, a matter of routing: nothing moves because of it.

use std::collections::BTreeMap;

use gramme_gossip::Opinion;
use gramme_ring::{NodeId, PartitionId};
use gramme_wire::peer::{Hello, Room};
use gramme_wire::{OLDEST, PeerMessage, VERSION};

use super::Node;
use super::lineage::{PROVE_WITHIN, Verdict};
use crate::cx::Cx;
use crate::io::Change;
use crate::node::DEFAULT_TYPE;
use crate::request::{NodeStatus, Status};
use crate::shard::{Backlog, Level, Lost, Shard, Writer};
use crate::timers::Timer;

/// Partitions that a node names one by one when it says which count for nothing.
const FEW: usize = 256;
/// How often a node speaks of itself, in microseconds.
const HELLO_INTERVAL: u64 = 1_000_000;
/// After so long without a word, what a node said of itself is no longer believed, in microseconds.
const STALE: u64 = 5_000_000;

#[derive(Debug, Default)]
struct Peer {
    /// Whether there is a connection, and we understand each other.
    is_connected: bool,
    opinion: Opinion,
    /// Since when it is in its present state.
    since: u64,
    hello: Option<(Hello, u64)>,
    /// While this node is amnesiac: for whom it keeps no copies, and since when it has said so.
    keeps_nothing_for: BTreeMap<NodeId, u64>,
}

impl Peer {
    const fn state(&self) -> Opinion {
        match (self.is_connected, self.opinion) {
            // Nothing can be asked of it, but it may be back in a moment.
            (false, Opinion::Alive) => Opinion::Suspect,
            (_, opinion) => opinion,
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Peers {
    peers: BTreeMap<NodeId, Peer>,
}

impl Peers {
    /// Whether a node answers, as far as this one can tell.
    pub(crate) fn state(&self, node: NodeId) -> Opinion {
        self.peers.get(&node).map_or(Opinion::Suspect, Peer::state)
    }

    pub(crate) fn connected(&self) -> Vec<NodeId> {
        self.peers.iter().filter(|(_, peer)| peer.is_connected).map(|(node, _)| *node).collect()
    }

    pub(super) fn judge(&mut self, node: NodeId, opinion: Opinion, now: u64) {
        self.change(node, now, |peer| peer.opinion = opinion);
    }

    fn connect(&mut self, node: NodeId, is_connected: bool, now: u64) {
        self.change(node, now, |peer| peer.is_connected = is_connected);
    }

    fn change(&mut self, node: NodeId, now: u64, change: impl FnOnce(&mut Peer)) {
        let peer = self.peers.entry(node).or_default();
        let before = peer.state();
        change(peer);
        if peer.state() != before {
            peer.since = now;
        }
    }

    fn hello(&self, node: NodeId) -> Option<&Hello> {
        self.peers.get(&node)?.hello.as_ref().map(|(hello, _)| hello)
    }

    /// Whether a node answers, and said lately that its partitions count.
    fn counts(&self, node: NodeId, now: u64) -> bool {
        self.said_lately(node, now).is_some_and(|hello| hello.counts)
    }

    /// Which partitions of a node do not count, if it answers and all others do.
    fn uncounted(&self, node: NodeId, now: u64) -> Option<&[PartitionId]> {
        let hello = self.said_lately(node, now)?;
        (hello.counts || !hello.uncounted.is_empty()).then_some(&hello.uncounted)
    }

    /// Whether a node answers, and has not said lately that its copy of a partition counts for nothing.
    pub(crate) fn is_sound(&self, node: NodeId, partition: PartitionId, now: u64) -> bool {
        let Some(hello) = self.said_lately(node, now) else { return self.state(node) == Opinion::Alive };
        hello.counts || !hello.uncounted.is_empty() && !hello.uncounted.contains(&partition)
    }

    fn said_lately(&self, node: NodeId, now: u64) -> Option<&Hello> {
        let peer = self.peers.get(&node).filter(|peer| peer.state() == Opinion::Alive)?;
        let lately = peer.hello.as_ref().filter(|(_, at)| now.saturating_sub(*at) < STALE);
        lately.map(|(hello, _)| hello)
    }
}

impl Node {
    pub(crate) fn on_peer_up(&mut self, cx: &mut Cx, shard: &mut Shard, node: NodeId) {
        self.peers.connect(node, true, cx.now.monotonic);
        // It has answered just now, or there would be no connection.
        self.note_answer(cx, shard, node);
        self.say_hello(cx, shard, node);
    }

    pub(crate) fn on_peer_down(&mut self, cx: &mut Cx, shard: &mut Shard, node: NodeId) {
        self.peers.connect(node, false, cx.now.monotonic);
        self.clock.note_down(node);
        self.note_silence(cx, shard, node);
    }

    pub(crate) fn say_hello_to_all(&mut self, cx: &mut Cx, shard: &mut Shard) {
        self.store_heard(cx, shard, Level::Written);
        self.count_members(cx);
        cx.stats.hints = shard.backlogs().values().map(|backlog| backlog.copies.count).sum();
        cx.stats.hint_bytes = shard.backlogs().values().map(|backlog| backlog.bytes).sum();
        cx.stats.clock_off = self.clock.is_off(cx.now).map_or(0, i64::unsigned_abs);
        self.say_hello_to_connected(cx, shard);
        cx.timers.set(cx.now.monotonic + HELLO_INTERVAL, Timer::Hello);
    }

    fn count_members(&self, cx: &mut Cx) {
        let others: Vec<Opinion> = self.map.others(cx.me()).map(|node| self.peers.state(node)).collect();
        let count = |state| others.iter().filter(|other| **other == state).count() as u64;
        (cx.stats.members_suspect, cx.stats.members_down) = (count(Opinion::Suspect), count(Opinion::Down));
        (cx.stats.gossip_messages, cx.stats.gossip_bytes) = self.members.sent();
    }

    fn say_hello_to_connected(&self, cx: &mut Cx, shard: &Shard) {
        // Those too that have joined and own nothing yet.
        for node in self.peers.connected() {
            self.say_hello(cx, shard, node);
        }
    }

    fn say_hello(&self, cx: &mut Cx, shard: &Shard, node: NodeId) {
        let remembered = self.peers.hello(node).and_then(|hello| hello.heard.as_ref());
        let hello = Hello {
            versions: (OLDEST, VERSION),
            boot: cx.boot,
            process: cx.process,
            wall: cx.now.wall,
            layout: self.map.layout().rank(),
            properties: self.buckets.digest(),
            keys: cx.stats.keys,
            bytes: cx.stats.bytes,
            room: shard.room(),
            lineage: self.lineage.claim(remembered.map(|standing| standing.point.start)),
            point: self.lineage.point(),
            heard: self.lineage.remembered(&self.map, node),
            answers: self.peers.hello(node).map_or(0, |hello| hello.boot),
            losses: cx.stats.losses,
            answers_losses: self.peers.hello(node).map_or(0, |hello| hello.losses),
            counts: shard.all_count(),
            uncounted: shard.uncounted(FEW),
            keeps_for: shard.backlogs().keys().copied().collect(),
        };
        // It never expires: what it says of the receiver must arrive, however late.
        let id = cx.next_request();
        cx.send(node, id, 0, PeerMessage::Hello(hello));
    }

    /// Another node speaks of itself; says whether partitions here turn out to count for nothing.
    pub(crate) fn on_hello(&mut self, cx: &mut Cx, shard: &mut Shard, from: NodeId, hello: Hello) -> bool {
        if hello.versions.0 > VERSION || hello.versions.1 < OLDEST {
            // We do not understand each other. It is not asked anything, and the connection is left alone.
            self.peers.connect(from, false, cx.now.monotonic);
            return false;
        }
        self.clock.hear(from, hello.wall, cx.now);
        if hello.properties != self.buckets.digest() {
            self.send_all_records(cx, from);
        }
        self.on_layout_heard(cx, from, hello.layout);
        let is_answer = hello.answers == cx.boot;
        let is_new = self.peers.hello(from).is_none_or(|known| known.boot != hello.boot);
        if self.lineage.hear(from, &hello) {
            // Without its name its disk could go and nobody would know.
            self.store_heard(cx, shard, Level::Synced);
        }
        let has_lost = hello.heard.as_ref().is_some_and(|heard| self.is_lost(cx, shard, heard));
        let peer = self.peers.peers.entry(from).or_default();
        peer.keeps_nothing_for.retain(|target, _| !hello.keeps_for.contains(target));
        // One that was under way when data was lost says nothing of the time after.
        if cx.stats.amnesiac_partitions > 0 && is_answer && hello.answers_losses == cx.stats.losses {
            let members = self.map.members().iter().map(|member| member.id);
            for target in members.filter(|target| !hello.keeps_for.contains(target)) {
                peer.keeps_nothing_for.entry(target).or_insert(cx.now.monotonic);
            }
        }
        peer.hello = Some((hello, cx.now.monotonic));
        if has_lost {
            self.forget_drained();
        }
        if is_new {
            self.say_hello(cx, shard, from);
        }
        if is_answer {
            if self.lineage.note_told(from) {
                // From here on the others have their time: who was cut off at first has met nobody.
                cx.timers.set(cx.now.monotonic + PROVE_WITHIN, Timer::Prove);
            }
            self.prove(cx, shard);
        }
        has_lost
    }

    /// Rows were lost: what others have said that they keep nothing, they must say again.
    pub(crate) fn forget_drained(&mut self) {
        self.peers.peers.values_mut().for_each(|peer| peer.keeps_nothing_for.clear());
    }

    /// Whether what another node remembers of this one means that data was lost.
    fn is_lost(&mut self, cx: &mut Cx, shard: &mut Shard, heard: &gramme_wire::peer::Standing) -> bool {
        match self.lineage.judge(&self.map, cx.me(), heard) {
            Verdict::Consistent => false,
            Verdict::Forged => {
                cx.stats.standings_refused += 1;
                false
            }
            Verdict::Contradicted => {
                self.lineage.concede(heard, cx.random());
                shard.lose(cx, Lost { record: self.lineage.record(), born_after: heard.boot });
                true
            }
        }
    }

    /// Since when no other member keeps copies for any owner of a partition; nothing if one does, or has not said so
    /// since the last loss.
    pub(crate) fn drained_since(&self, cx: &Cx, partition: PartitionId) -> Option<u64> {
        let members = self.map.members().iter().map(|member| member.id);
        let owners: Vec<NodeId> = members.filter(|id| self.map.may_have_owned(partition, *id)).collect();
        let said = |node: NodeId| {
            let peer = self.peers.peers.get(&node)?;
            let since = |owner: &NodeId| {
                if *owner == node { Some(0) } else { peer.keeps_nothing_for.get(owner).copied() }
            };
            owners.iter().map(since).try_fold(0, |latest, since| Some(latest.max(since?)))
        };
        self.map.others(cx.me()).map(said).try_fold(0, |latest: u64, said| Some(latest.max(said?)))
    }

    /// The owners of amnesiac partitions.
    fn forgetful(&self, shard: &Shard) -> Vec<NodeId> {
        let mut owners: Vec<NodeId> =
            shard.amnesiac().flat_map(|partition| self.map.holders(partition).collect::<Vec<_>>()).collect();
        owners.sort_unstable();
        owners.dedup();
        owners
    }

    /// Those who keep copies for one of these owners, or have not said since the last loss that they do not.
    pub(crate) fn not_drained(&self, cx: &Cx, owners: Vec<NodeId>) -> Vec<NodeId> {
        let has_said = |node: &NodeId| {
            let peer = self.peers.peers.get(node);
            let nothing = |owner: &NodeId| {
                owner == node || peer.is_some_and(|peer| peer.keeps_nothing_for.contains_key(owner))
            };
            owners.iter().all(nothing)
        };
        self.map.others(cx.me()).filter(|node| !has_said(node)).collect()
    }

    /// The owners that cannot be reached of partitions with something to forget.
    fn blocking_reclaim(&self, shard: &Shard) -> Vec<NodeId> {
        let owners = shard.reclaiming().flat_map(|(_, others)| others);
        let away = owners.filter(|node| self.peers.state(*node) != Opinion::Alive);
        away.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
    }

    /// The others have had their time to speak.
    pub(crate) fn on_prove_timer(&mut self, cx: &mut Cx, shard: &mut Shard) {
        self.lineage.end_waiting();
        self.prove(cx, shard);
    }

    /// Lets those partitions count whose other owners have said what they remember.
    pub(crate) fn prove(&self, cx: &mut Cx, shard: &mut Shard) {
        if shard.all_proven() {
            return;
        }
        let me = cx.me();
        let is_proven =
            |partition: PartitionId| self.lineage.is_proven(self.map.layout().holders_but(partition, me));
        shard.prove(cx, is_proven);
        if shard.all_count() {
            // Whoever waits for a quorum need not wait for the next hello.
            self.say_hello_to_connected(cx, shard);
        }
    }

    /// Stores what the others have said of themselves, if it has changed. Nobody waits for it.
    fn store_heard(&mut self, cx: &mut Cx, shard: &mut Shard, level: Level) {
        if let Some(row) = self.lineage.take_news(&self.map) {
            shard.commit_and_tell(cx, vec![row], level, Writer::Nobody);
        }
    }

    /// Whether a quorum of the owners of each partition can be reached and counts: what a request meets.
    pub(crate) fn is_ready(&self, cx: &Cx, shard: &Shard) -> bool {
        let layout = self.map.layout();
        let now = cx.now.monotonic;
        let counting: Vec<(NodeId, &[PartitionId])> = self
            .map
            .others(cx.me())
            .filter_map(|node| Some((node, self.peers.uncounted(node, now)?)))
            .collect();
        layout.partitions().all(|partition| {
            let owners = layout.owners(partition);
            let counts = |node: &NodeId| match *node == cx.me() {
                true => shard.counts(partition).is_ok(),
                false => counting.iter().any(|(id, but)| id == node && !but.contains(&partition)),
            };
            let quorum = owners.len() / 2 + 1;
            owners.filter(counts).count() >= quorum
        })
    }

    /// Bytes of objects that all members have, as they said last.
    pub(crate) fn bytes_of_all(&self, cx: &Cx) -> u64 {
        let said = |node| self.peers.hello(node).map_or(0, |hello| hello.bytes);
        cx.stats.bytes + self.map.others(cx.me()).map(said).sum::<u64>()
    }

    pub(crate) fn status(&self, cx: &Cx, shard: &Shard) -> Status {
        let layout = self.map.layout();
        let nodes = layout.members().iter().map(|member| self.node_status(cx, shard, member.id)).collect();
        // The founding properties always have the default type.
        let default = self.buckets.get(DEFAULT_TYPE, b"");
        Status {
            node: cx.me(),
            replicas: layout.replicas(),
            r: default.map(|properties| properties.r).unwrap_or_default(),
            w: default.map(|properties| properties.w).unwrap_or_default(),
            layout: layout.version(),
            properties: self.buckets.digest(),
            members: self.members.root(),
            partitions: 1 << layout.depth(),
            amnesiac: cx.stats.amnesiac_partitions,
            background: (cx.pace.rate(), cx.pace.limits().most),
            scrubbing: None,
            reclaim_waiting: cx.stats.reclaim_waiting,
            reclaim_blocked_by: self.blocking_reclaim(shard),
            waits_for: self.not_drained(cx, self.forgetful(shard)),
            nodes,
        }
    }

    fn node_status(&self, cx: &Cx, shard: &Shard, id: NodeId) -> NodeStatus {
        let layout = self.map.layout();
        let owned = layout.partitions().filter(|&partition| layout.is_holder(partition, id));
        let partitions = owned.count() as u32;
        let now = cx.now.monotonic;
        if id == cx.me() {
            return NodeStatus {
                id,
                state: Opinion::Alive,
                since: now,
                heard: Some(0),
                keys: cx.stats.keys,
                bytes: cx.stats.bytes,
                room: shard.room(),
                counts: shard.all_count(),
                clock_off: self.clock.is_off(cx.now).map(i64::unsigned_abs),
                partitions,
                hints: Backlog::default(),
                handing_on: None,
                exchange: None,
            };
        }
        let peer = self.peers.peers.get(&id);
        let hello = peer.and_then(|peer| peer.hello.as_ref());
        NodeStatus {
            id,
            state: self.peers.state(id),
            since: now.saturating_sub(peer.map_or(0, |peer| peer.since)),
            heard: hello.map(|(_, at)| now.saturating_sub(*at)),
            keys: hello.map_or(0, |(hello, _)| hello.keys),
            bytes: hello.map_or(0, |(hello, _)| hello.bytes),
            room: hello.map_or(Room::None, |(hello, _)| hello.room),
            counts: self.peers.counts(id, now),
            clock_off: None,
            partitions,
            hints: shard.backlogs().get(&id).copied().unwrap_or_default(),
            handing_on: None,
            exchange: None,
        }
    }
}

/// The record of which start this is.
pub(crate) const META_BOOT: &[u8] = b"boot";

/// The row that stores which start this is.
pub(crate) fn boot_record(boot: u64) -> Change {
    let (name, value) = (bytes::Bytes::from_static(META_BOOT), gramme_codec::Codec::to_bytes(&boot));
    Change::Meta { name, value }
}
