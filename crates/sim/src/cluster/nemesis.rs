//! The nemesis: strikes at random, and heals what it broke some time later.

use std::collections::VecDeque;

use gramme_replica::{ClientRequest, Input, PropertiesChange, PropertiesPatch, Scope};
use gramme_wire::peer::Room;
use rand::RngExt;
use rand::seq::SliceRandom;

use super::{Cluster, clients};
use crate::event::{Event, Heal};
use crate::fault::Fault;
use crate::history::{ChangeRecord, Damage, Kind};

/// How long a cut goes unnoticed, in microseconds.
const SILENCE: std::ops::Range<u64> = 200_000..3_000_000;

impl Cluster {
    /// Faults strike, and clients work, until the operations are used up.
    pub(super) fn break_things(&mut self) {
        self.left = self.settings.operations;
        for client in 0..self.clients.len() {
            let after = self.random.clients.random_range(0..10_000);
            self.schedule(after, Event::Client(client));
        }
        for fault in self.settings.faults.iter() {
            self.strike_later(fault);
        }
        while self.left > 0 && self.turn() {}
    }

    /// When this fault strikes next, if it strikes from time to time.
    pub(super) fn strike_later(&mut self, fault: Fault) {
        let range = match fault {
            Fault::Crash | Fault::ClockJump | Fault::Disconnect => 50_000..1_500_000,
            Fault::PowerLoss | Fault::OneWayCut | Fault::PartialCut => 100_000..3_000_000,
            Fault::SlowNode | Fault::SlowDisk | Fault::Freeze | Fault::ReadError => 100_000..2_000_000,
            Fault::WriteError | Fault::SyncError | Fault::DiskFull | Fault::DiskStall | Fault::Swizzle => {
                200_000..4_000_000
            }
            Fault::ClusterPowerLoss => 100_000..3_000_000,
            Fault::Away => 200_000..5_000_000,
            Fault::BitFlip | Fault::PropertyChange | Fault::Crowd => 100_000..2_000_000,
            Fault::RingChange => 300_000..6_000_000,
            // Once in a run.
            Fault::DiskLost | Fault::RolledBack | Fault::Cloned => 100_000..1_500_000,
            _ => return,
        };
        let after = self.random.nemesis.random_range(range);
        // What strikes once, or must strike often to do anything, is as frequent in any run.
        let calm = if fault.is_destructive() { 1 } else { self.settings.calm };
        self.schedule(after * calm, Event::Strike(fault));
    }

    pub(super) fn strike(&mut self, fault: Fault) {
        let node = self.random.nemesis.random_range(0..self.members());
        let lasts = self.random.nemesis.random_range(20_000..3_000_000);
        let is_running = self.nodes[node].replica.is_some();
        match fault {
            Fault::Crash if is_running => self.crash(node, fault, 3_000_000),
            Fault::Away if is_running => self.crash(node, fault, 30_000_000),
            Fault::PowerLoss if is_running => self.lose_power(node, Fault::PowerLoss),
            Fault::ClusterPowerLoss => {
                self.counts.note(fault);
                (0..self.members()).for_each(|node| self.lose_power(node, fault));
            }
            Fault::Disconnect if self.members() > 1 => self.disconnect(node),
            Fault::OneWayCut if self.members() > 1 => self.cut_one_way(node, lasts),
            Fault::PartialCut => self.cut_some(lasts),
            Fault::Swizzle => self.swizzle(),
            Fault::SlowNode => {
                self.counts.note(fault);
                let micros = self.random.nemesis.random_range(1_000..100_000);
                self.network.slow(node, micros);
                self.schedule(lasts, Event::Heal(Heal::SlowNode(node)));
            }
            Fault::SlowDisk => {
                self.counts.note(fault);
                self.nodes[node].disk.slowness = self.random.nemesis.random_range(1_000..60_000);
                self.schedule(lasts, Event::Heal(Heal::SlowDisk(node)));
            }
            Fault::DiskStall => {
                self.counts.note(fault);
                self.nodes[node].disk.slowness = lasts;
                self.schedule(lasts, Event::Heal(Heal::SlowDisk(node)));
            }
            Fault::Freeze if is_running && self.nodes[node].frozen.is_none() => self.freeze(node, lasts),
            Fault::ReadError => {
                self.nodes[node].disk.fails_reads = true;
                self.schedule(lasts / 4, Event::Heal(Heal::ReadErrors(node)));
            }
            Fault::WriteError => self.nodes[node].disk.fails_next_write = true,
            Fault::SyncError => self.nodes[node].disk.fails_next_sync = true,
            Fault::DiskFull if is_running => {
                self.counts.note(fault);
                let room = if lasts % 3 == 0 { Room::None } else { Room::Low };
                self.input(node, Input::Room(room));
                self.schedule(lasts, Event::Heal(Heal::DiskFull(node)));
            }
            Fault::ClockJump => self.jump_clock(node, lasts),
            Fault::BitFlip => self.flip_bits(),
            Fault::DiskLost => return self.lose_disk(),
            Fault::RolledBack => {
                self.nodes[self.victim].disk.take_snapshot();
                return self.schedule(lasts, Event::Heal(Heal::RollBack(self.victim)));
            }
            Fault::Cloned => return self.clone_directory(lasts),
            Fault::Crowd if is_running => self.crowd(node),
            Fault::PropertyChange => self.change_properties(node),
            Fault::RingChange if is_running => self.change_ring(node),
            _ => {}
        }
        self.strike_later(fault);
    }

    pub(super) fn heal(&mut self, heal: Heal) {
        match heal {
            Heal::Cut(directions) => {
                for (from, to) in directions {
                    self.network.heal(from, to);
                    self.schedule(10_000, Event::Connect { between: (from, to) });
                }
            }
            Heal::SlowNode(node) => self.network.slow(node, 0),
            Heal::SlowDisk(node) => self.nodes[node].disk.slowness = 0,
            Heal::Wake(node) => self.wake(node),
            Heal::ReadErrors(node) => self.nodes[node].disk.fails_reads = false,
            Heal::DiskFull(node) => self.input(node, Input::Room(Room::Enough)),
            Heal::Clock(node) => self.nodes[node].clock_offset = 0,
            Heal::RollBack(node) => self.roll_back(node),
            Heal::Copy => self.end_copy(),
        }
    }

    fn crash(&mut self, node: usize, fault: Fault, most: u64) {
        self.counts.note(fault);
        self.nodes[node].disk.crash();
        self.stop(node);
        self.start_later(node, most);
    }

    pub(super) fn start_later(&mut self, node: usize, most: u64) {
        let after = self.random.nemesis.random_range(1_000..most);
        self.schedule(after, Event::Start(node));
    }

    fn lose_power(&mut self, node: usize, fault: Fault) {
        if fault == Fault::PowerLoss {
            self.counts.note(fault);
        }
        let lost = self.nodes[node].disk.lose_power(&mut self.random.disk);
        self.batches_destroyed += lost as u64;
        self.stop(node);
        self.history.damage.push(Damage {
            node,
            since: self.now,
            at: self.now,
            key: None,
            synced: false,
            mended: None,
        });
        self.start_later(node, 1_500_000);
    }

    /// One side loses the connection, as by a timer that fired too soon; the other learns it from the next one.
    fn disconnect(&mut self, from: usize) {
        let to = (from + self.random.nemesis.random_range(1..self.members())) % self.members();
        if self.network.set_connected(from, to, false) {
            self.counts.note(Fault::Disconnect);
            self.input(from, Input::PeerDown(super::id_of(to)));
            let after = self.random.nemesis.random_range(1_000..500_000);
            self.schedule(after, Event::Connect { between: (from, to) });
        }
    }

    fn cut_one_way(&mut self, from: usize, lasts: u64) {
        let to = (from + self.random.nemesis.random_range(1..self.members())) % self.members();
        self.counts.note(Fault::OneWayCut);
        self.cut(vec![(from, to)], lasts);
    }

    fn cut_some(&mut self, lasts: u64) {
        self.counts.note(Fault::PartialCut);
        let count = self.members();
        let pairs = (0..count).flat_map(|a| (0..a).map(move |b| (a, b)));
        let mut directions = Vec::new();
        for (a, b) in pairs {
            if self.random.nemesis.random_range(0..3) == 0 {
                directions.extend([(a, b), (b, a)]);
            }
        }
        self.cut(directions, lasts);
    }

    /// Cuts nodes off one after the other, and joins them again in another order.
    fn swizzle(&mut self) {
        self.counts.note(Fault::Swizzle);
        let mut nodes: Vec<usize> = (0..self.members()).collect();
        nodes.shuffle(&mut self.random.nemesis);
        nodes.truncate(self.random.nemesis.random_range(1..=nodes.len()));
        for node in nodes {
            let others = (0..self.members()).filter(|other| *other != node);
            let directions = others.flat_map(|other| [(node, other), (other, node)]).collect();
            let lasts = self.random.nemesis.random_range(100_000..2_000_000);
            self.cut(directions, lasts);
        }
    }

    fn cut(&mut self, directions: Vec<(usize, usize)>, lasts: u64) {
        for &(from, to) in &directions {
            self.network.cut(from, to);
            let after = self.random.nemesis.random_range(SILENCE);
            self.schedule(after, Event::Silence { between: (from, to) });
        }
        self.schedule(lasts, Event::Heal(Heal::Cut(directions)));
    }

    fn freeze(&mut self, node: usize, lasts: u64) {
        self.counts.note(Fault::Freeze);
        self.nodes[node].frozen = Some(VecDeque::new());
        for other in (0..self.members()).filter(|other| *other != node) {
            let (suspect, silence) = (300_000, self.random.nemesis.random_range(SILENCE));
            let life = self.nodes[other].life;
            let input = Box::new(Input::PeerSuspect(super::id_of(node)));
            self.schedule(suspect, Event::Own { node: other, life, input });
            self.schedule(silence, Event::Silence { between: (node, other) });
            self.schedule(lasts + 10_000, Event::Connect { between: (node, other) });
        }
        self.schedule(lasts, Event::Heal(Heal::Wake(node)));
    }

    fn flip_bits(&mut self) {
        let node = self.victim;
        let Some(key) = self.nodes[node].disk.flip_bit(&mut self.random.disk) else { return };
        self.counts.note(Fault::BitFlip);
        let key = self.keys.iter().position(|named| named.key == key);
        self.history.damage.push(Damage {
            node,
            since: self.now,
            at: self.now,
            key,
            synced: true,
            mended: None,
        });
    }

    fn lose_disk(&mut self) {
        self.counts.note(Fault::DiskLost);
        self.nodes[self.victim].disk.lose();
        self.replace_data(self.victim);
    }

    fn roll_back(&mut self, node: usize) {
        self.counts.note(Fault::RolledBack);
        self.nodes[node].disk.roll_back();
        // Half of the time it makes new batches before anybody greets it.
        self.nodes[node].starts_alone = self.random.nemesis.random_range(0..2) == 0;
        self.replace_data(node);
    }

    /// The node's data was replaced while it was not running.
    fn replace_data(&mut self, node: usize) {
        self.stop(node);
        self.history.damage.push(Damage {
            node,
            since: self.now,
            at: self.now,
            key: None,
            synced: true,
            mended: None,
        });
        self.start_later(node, 500_000);
    }

    /// Mostly by a little, now and then by so much that nobody believes it. Of two clocks that are far off the
    /// others could not tell which is right, and who is cut off from one remembers what it said. So one clock of a run is,
    /// and none where there is no majority.
    fn jump_clock(&mut self, node: usize, lasts: u64) {
        self.counts.note(Fault::ClockJump);
        let is_alone = node == self.victim && self.members() > 2;
        let rng = &mut self.random.nemesis;
        self.nodes[node].clock_offset = match rng.random_range(0..8) {
            0 | 1 if is_alone => rng.random_range(-3_600_000_000..3_600_000_000),
            2..5 if is_alone => rng.random_range(11_000_000..90_000_000),
            _ => rng.random_range(-2_000_000..2_000_000),
        };
        self.schedule(lasts, Event::Heal(Heal::Clock(node)));
    }

    /// Changes one or two buckets, through one node or two at once. What was acknowledged must stay.
    fn change_properties(&mut self, node: usize) {
        self.counts.note(Fault::PropertyChange);
        for _ in 0..self.random.nemesis.random_range(1..4) {
            let kind = Kind::ALL[self.random.nemesis.random_range(0..Kind::ALL.len())];
            let other = self.random.nemesis.random_range(0..self.members());
            let node = if self.random.nemesis.random_range(0..2) == 0 { node } else { other };
            if self.nodes[node].replica.is_none() {
                continue;
            }
            // Each value is given once, and so names its change.
            let value = 5 + self.history.changes.len() as u32;
            let change = self.history.changes.len();
            self.history.changes.push(ChangeRecord { kind, value, sent: self.now, ended: None });
            let patch = PropertiesPatch { max_siblings: Some(value), ..PropertiesPatch::default() };
            self.ask_change(node, set_properties(kind, patch), change);
        }
    }
}

pub(super) fn scope_of(kind: Kind) -> Scope {
    let (bucket_type, bucket) = clients::bucket_of(kind);
    let bucket = Some(bytes::Bytes::from_static(bucket.as_bytes()));
    Scope { bucket_type: bucket_type.to_owned(), bucket }
}

pub(super) fn set_properties(kind: Kind, patch: PropertiesPatch) -> ClientRequest {
    let (scope, change) = (scope_of(kind), PropertiesChange::Set(patch));
    ClientRequest::SetProperties { scope, change, timeout: clients::TIMEOUT }
}
