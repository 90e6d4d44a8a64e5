//! Nodes: starting and stopping, what goes into a replica, and what becomes of its effects.

use gramme_admission::Limits;
use gramme_plant::planted;
use gramme_replica::{Bounds, Config, Effect, Input, Now, Replica, Secrets};
use gramme_ring::NodeId;
use gramme_wire::PeerMessage;
use gramme_wire::peer::Status;
use rand::RngExt;

use super::{Cluster, Hold, id_of, keyspace};
use crate::event::Event;
use crate::fault::Fault;
use crate::history::{Broken, Damage};
use crate::network::{Fate, Packet};
use crate::settings::Settings;

/// The clock on the wall when a run begins: some day, in microseconds.
pub(crate) const EPOCH: u64 = 1_700_000_000_000_000;

/// How often a node goes through all that it stores, in microseconds.
const SCRUB_EVERY: u64 = 20_000_000;

impl Cluster {
    fn time(&self, node: usize) -> Now {
        let wall = (EPOCH + self.now).saturating_add_signed(self.nodes[node].clock_offset);
        Now { monotonic: self.now, wall }
    }

    /// Starts a node on what its disk holds, if it is not running.
    pub(crate) fn start(&mut self, node: usize) {
        // Nobody starts a node that was removed, but by mistake.
        let is_removed = self.nodes[node].is_removed && self.left == 0;
        let is_gone = node == self.members() && self.copy.is_none() || is_removed;
        if self.nodes[node].replica.is_some() || is_gone {
            return;
        }
        let config = Config {
            node: self.id(node),
            layout: self.layout.clone(),
            keyspace: keyspace(),
            secrets: Secrets { current: (1, [1; 32]), previous: None },
            addresses: (0..self.members()).map(|node| (id_of(node), vec![address_of(node)])).collect(),
            max_requests: self.most_requests(),
            bounds: self.bounds(),
            background: Limits::USUAL,
            scrub_every: SCRUB_EVERY,
        };
        let mut seed = [0; 32];
        seed.fill_with(|| self.random.starts.random());
        if planted!(ReuseDot) {
            seed = [node as u8; 32];
        }
        let now = self.time(node);
        let mut effects = Vec::new();
        let this = &mut self.nodes[node];
        this.life += 1;
        self.starts += 1;
        this.timer = None;
        this.has_failed = false;
        let recovered = this.disk.recover();
        match Replica::start(config, recovered, seed, now, &mut effects) {
            Ok(replica) => this.replica = Some(replica),
            Err(error) => {
                return self.broken(Broken::Misbehaved(format!("node {node} does not start: {error}")));
            }
        }
        self.run_effects(node, &mut effects);
        let most = if std::mem::take(&mut self.nodes[node].starts_alone) { 5_000_000 } else { 50_000 };
        for other in self.others(node) {
            let after = self.random.nemesis.random_range(100..most);
            self.schedule(after, Event::Connect { between: (node, other) });
        }
    }

    /// What a node takes that its disk has not.
    const fn bounds(&self) -> Bounds {
        let Settings { staged: batches, cached, hints, large, .. } = self.settings;
        Bounds { batches, cached, hints, large, ..Bounds::USUAL }
    }

    /// Adds up what a node has counted, before it ends.
    pub(super) fn note_forgotten(&mut self, node: usize) {
        if let Some(stats) = self.nodes[node].replica.as_ref().map(Replica::stats) {
            self.healed.forgotten += stats.reclaimed;
            self.healed.closed += stats.tenures_closed;
            self.healed.buried += stats.versions_buried;
            self.healed.rows_lost += stats.rows_lost;
            self.healed.purged += stats.values_purged;
            self.healed.late += stats.pulls_late;
            self.healed.dropped += stats.partitions_dropped;
            self.healed.restarted += stats.puts_restarted + stats.gets_restarted;
            self.healed.early += stats.requests_early;
        }
    }

    /// Ends a process; its disk is as it is.
    pub(super) fn stop(&mut self, node: usize) {
        self.note_forgotten(node);
        let this = &mut self.nodes[node];
        this.replica = None;
        this.frozen = None;
        this.fatal = None;
        this.life += 1;
        self.tickets.retain(|_, asked| !asked.is_at(node));
        for other in (0..self.members()).filter(|other| *other != node) {
            self.network.set_connected(node, other, false);
            // The others notice some time later, or when it is back.
            let after = self.random.nemesis.random_range(1_000..3_000_000);
            self.schedule(after, Event::Silence { between: (node, other) });
        }
    }

    /// Two nodes notice that nothing comes from the other.
    pub(super) fn silence(&mut self, a: usize, b: usize) {
        let alive = |node: usize| self.nodes[node].replica.is_some() && self.nodes[node].frozen.is_none();
        if alive(a) && alive(b) && self.network.is_open(a, b) {
            return;
        }
        for (from, to) in [(a, b), (b, a)] {
            if self.network.set_connected(from, to, false) {
                self.input(from, Input::PeerDown(self.id(to)));
            }
        }
    }

    /// Two nodes make a connection, or try again later.
    pub(super) fn connect(&mut self, a: usize, b: usize) {
        if self.nodes[a].replica.is_none() || self.nodes[b].replica.is_none() {
            // Whoever starts connects.
            return;
        }
        if !self.network.is_open(a, b) {
            return self.schedule(100_000, Event::Connect { between: (a, b) });
        }
        for (from, to) in [(a, b), (b, a)] {
            // A new connection ends what was left of the old one.
            for process in self.processes(to) {
                if self.network.set_connected(from, process, false) {
                    self.input(from, Input::PeerDown(self.id(to)));
                }
            }
        }
        for (from, to) in [(a, b), (b, a)] {
            self.network.set_connected(from, to, true);
            self.input(from, Input::PeerUp(self.id(to)));
        }
    }

    pub(super) fn arrive(&mut self, packet: Packet) {
        let Packet { from, to, life, id, method, body } = packet;
        // A checksum of each message is enough to tell two runs apart, and a sixth of the cost.
        let mut line = [0; 16];
        line[..8].copy_from_slice(&id.to_le_bytes());
        line[8..12].copy_from_slice(&crc32fast::hash(&body).to_le_bytes());
        line[12..].copy_from_slice(&(from as u32 ^ (to as u32) << 16).to_le_bytes());
        self.trace.update(&line);
        if !self.is_alive(to, life) || self.is_deaf_to(to, from) {
            return;
        }
        match PeerMessage::decode(method, body) {
            Ok(mut message) => {
                if let PeerMessage::Hello(hello) = &mut message
                    && planted!(BelieveOld)
                {
                    hello.heard = None;
                }
                self.input(to, Input::Message { from: self.id(from), id, message });
            }
            Err(error) => self.broken(Broken::Misbehaved(format!("a message does not decode: {error}"))),
        }
    }

    pub(super) fn timer(&mut self, node: usize, life: u64) {
        if self.is_alive(node, life) && self.nodes[node].timer == Some(self.now) {
            self.nodes[node].timer = None;
            self.input(node, Input::Timer);
        }
    }

    /// Hands an input over, and whatever inputs its effects make at once, in order.
    pub(super) fn input(&mut self, node: usize, mut input: Input) {
        if planted!(RetrySync) && matches!(input, Input::CommitFailed) {
            return;
        }
        if let Input::Loaded { result, .. } = &mut input
            && planted!(ReadErrorIsAbsent)
        {
            *result = Ok(result.clone().unwrap_or_default());
        }
        if let Some(waiting) = &mut self.nodes[node].frozen {
            return waiting.push_back(input);
        }
        self.inputs.push_back((node, input));
        if self.is_stepping {
            return;
        }
        self.is_stepping = true;
        let mut effects = Vec::new();
        while let Some((node, input)) = self.inputs.pop_front() {
            let now = self.time(node);
            if let Some(replica) = &mut self.nodes[node].replica {
                replica.step(now, input, &mut effects);
            }
            self.run_effects(node, &mut effects);
            self.check_bounds(node);
        }
        self.is_stepping = false;
        self.end_doomed();
    }

    /// Whatever its disk does, a node keeps no more for it than it was told to. Its own records are few.
    fn check_bounds(&mut self, node: usize) {
        const RECORDS: u64 = 200;
        if self.nodes[node].replica.is_none() {
            return;
        }
        let is_amnesiac = self.is_amnesiac(node);
        if self.nodes[node].is_amnesiac && !is_amnesiac {
            self.healed.remembered += 1;
            let is_lost = |damage: &Damage| damage.node == node && damage.synced;
            let lost = |damage: &&mut Damage| is_lost(damage) && damage.mended.is_none();
            self.history.damage.iter_mut().filter(lost).for_each(|damage| damage.mended = Some(self.now));
        }
        if is_amnesiac && !self.nodes[node].is_amnesiac {
            self.probe(node);
        }
        self.nodes[node].is_amnesiac = is_amnesiac;
        self.check_layout(node);
        self.nodes[node].was_amnesiac |= is_amnesiac;
        let staged = self.nodes[node].replica.as_ref().map_or(0, |replica| replica.stats().staged_batches);
        if staged > self.settings.staged as u64 + RECORDS {
            self.broken(Broken::Unbounded(format!("node {node} has {staged} batches staged")));
        }
    }

    pub(super) fn is_amnesiac(&self, node: usize) -> bool {
        self.amnesiac(node) > 0
    }

    pub(super) fn amnesiac(&self, node: usize) -> u64 {
        self.nodes[node].replica.as_ref().map_or(0, |replica| replica.stats().amnesiac_partitions)
    }

    /// Ends the processes that have said that they cannot go on.
    fn end_doomed(&mut self) {
        for node in 0..self.nodes.len() {
            if self.nodes[node].is_removed && self.nodes[node].replica.is_some() && self.nodes[node].is_told {
                self.nodes[node].is_told = false;
                self.stop(node);
            }
            if let Some(why) = self.nodes[node].fatal.take() {
                if !self.nodes[node].has_failed {
                    self.broken(Broken::Misbehaved(format!("node {node} ends for no reason: {why}")));
                }
                self.nodes[node].disk.crash();
                self.stop(node);
                let after = self.random.nemesis.random_range(1_000..1_000_000);
                self.schedule(after, Event::Start(node));
            }
        }
    }

    pub(super) fn wake(&mut self, node: usize) {
        self.nodes[node].woke = self.now;
        let waiting = self.nodes[node].frozen.take().unwrap_or_default();
        for input in waiting {
            self.input(node, input);
        }
    }

    fn run_effects(&mut self, node: usize, effects: &mut Vec<Effect>) {
        let life = self.nodes[node].life;
        for effect in effects.drain(..) {
            match effect {
                Effect::Send { to, id, message, .. } => self.send(node, to, id, message),
                Effect::Reply { ticket, response } => self.reply(ticket, response),
                Effect::Load { load, place } => {
                    let disk = &self.nodes[node].disk;
                    let result = disk.load(&place);
                    if result.is_err() {
                        self.counts.note(Fault::ReadError);
                    }
                    let after = self.random.disk.random_range(5..200) + disk.slowness;
                    let input = Box::new(Input::Loaded { load, result });
                    self.schedule(after, Event::Own { node, life, input });
                }
                Effect::Scan { scan, rows, after, limit } => {
                    let result = self.read_page(node, rows, after.as_ref(), limit);
                    let after = self.random.listings.random_range(5..200) + self.nodes[node].disk.slowness;
                    let input = Box::new(Input::Scanned { scan, result });
                    self.schedule(after, Event::Own { node, life, input });
                }
                Effect::Commit { sequence, changes, sync, .. } => {
                    self.commit(node, life, changes, sync);
                    if planted!(AckBeforeDurable) {
                        let input = Box::new(Input::Committed { written: sequence, synced: sequence });
                        self.schedule(0, Event::Own { node, life, input });
                    }
                }
                Effect::SetTimer(at) => {
                    let at = at.max(self.now);
                    self.nodes[node].timer = Some(at);
                    self.queue.push(at, Event::Timer { node, life });
                }
                Effect::Addresses { .. } => {}
                Effect::Removed => {
                    self.healed.removed += u64::from(!self.nodes[node].is_removed);
                    (self.nodes[node].is_removed, self.nodes[node].is_told) = (true, true);
                }
                Effect::Fatal(why) => self.nodes[node].fatal = Some(why),
            }
        }
    }

    fn commit(&mut self, node: usize, life: u64, changes: Vec<gramme_replica::Change>, sync: bool) {
        let disk = &mut self.nodes[node].disk;
        disk.submit(changes, sync);
        if !disk.is_writing {
            disk.is_writing = true;
            let after = self.random.disk.random_range(10..200) + disk.slowness;
            self.schedule(after, Event::Written { node, life });
        }
    }

    pub(super) fn written(&mut self, node: usize, life: u64) {
        if !self.is_alive(node, life) {
            return;
        }
        let disk = &mut self.nodes[node].disk;
        disk.is_writing = false;
        match disk.write() {
            Ok(()) => self.report_commits(node),
            Err(_) => {
                self.counts.note(Fault::WriteError);
                self.nodes[node].has_failed = true;
                self.input(node, Input::CommitFailed);
            }
        }
        self.sync_next(node, life);
    }

    /// Begins a sync if there is something to sync and none is under way.
    fn sync_next(&mut self, node: usize, life: u64) {
        if !self.is_alive(node, life) {
            return;
        }
        let disk = &mut self.nodes[node].disk;
        if disk.is_busy_syncing() || !disk.needs_sync() {
            return;
        }
        // What nobody waits for is synced within a second, or with what somebody waits for.
        let is_urgent = disk.begin_sync();
        let range = if is_urgent { 200..3_000 } else { 300_000..1_000_000 };
        let after = self.random.disk.random_range(range) + disk.slowness * 4;
        let sync = self.nodes[node].disk.sync;
        self.schedule(after, Event::Synced { node, life, sync });
    }

    pub(super) fn synced(&mut self, node: usize, life: u64, sync: u64) {
        if !self.is_alive(node, life) || self.nodes[node].disk.sync != sync {
            return;
        }
        match self.nodes[node].disk.end_sync() {
            Ok(()) => self.report_commits(node),
            Err(_) => {
                self.counts.note(Fault::SyncError);
                self.nodes[node].has_failed = true;
                self.input(node, Input::CommitFailed);
            }
        }
        self.sync_next(node, life);
    }

    fn report_commits(&mut self, node: usize) {
        let (written, synced) = self.nodes[node].disk.progress();
        self.input(node, Input::Committed { written, synced });
    }

    fn send(&mut self, from: usize, to: NodeId, id: u64, message: PeerMessage) {
        let to_node = self.process_of(from, to);
        self.note_healing(&message);
        match self.network.send(from, to_node, self.now, &mut self.counts) {
            Fate::Undelivered { busy } => self.tell_undelivered(from, to_node, id, busy),
            Fate::Lost => {
                if planted!(SendAgain) && matches!(message, PeerMessage::ForwardReply(_)) {
                    self.tell_undelivered(to_node, from, id, false);
                }
            }
            Fate::Arrives(first, again) => {
                let packet = Packet::new(from, to_node, self.nodes[to_node].life, id, &message);
                if self.holds.contains(&Hold { name: message.name(), from, to: to_node }) {
                    return self.held.push(packet);
                }
                if let Some(again) = again {
                    let copy = if planted!(ApplyTwice) {
                        Packet::new(from, to_node, self.nodes[to_node].life, id, &renamed(message))
                    } else {
                        packet.clone()
                    };
                    self.queue.push(again, Event::Arrive(copy));
                }
                self.queue.push(first, Event::Arrive(packet));
            }
        }
    }

    fn note_healing(&mut self, message: &PeerMessage) {
        match message {
            PeerMessage::HintReply(reply) => {
                let is_done = matches!(reply.header.status, Status::DoneSynced | Status::Covered);
                self.healed.handed_on += u64::from(is_done);
            }
            PeerMessage::RangeReply(reply) => {
                self.healed.exchanges += 1;
                self.healed.brought += reply.objects.len() as u64;
            }
            _ => {}
        }
    }

    fn tell_undelivered(&mut self, from: usize, to: usize, id: u64, busy: bool) {
        let input = Box::new(Input::Undelivered { to: self.id(to), id, busy });
        self.schedule(5, Event::Own { node: from, life: self.nodes[from].life, input });
    }
}

/// Where a node listens.
pub(super) fn address_of(node: usize) -> String {
    format!("10.0.0.{node}:1")
}

/// A copy that nobody recognises as one.
fn renamed(mut message: PeerMessage) -> PeerMessage {
    if let PeerMessage::Forward(forward) = &mut message {
        forward.header.request ^= 1 << 40;
    }
    message
}
