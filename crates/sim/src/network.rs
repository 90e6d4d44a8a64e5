//! A network that loses, delays, repeats and cuts, and the connections that nodes believe in.
//!
//! Two nodes that were connected go on believing it for a while after a cut: what they send then is gone
//! without a word, as with a real link before its idle timeout. Once they know, sending fails at once.

use bytes::Bytes;
use gramme_wire::PeerMessage;
use rand::RngExt;

use crate::fault::{Counts, Fault, FaultSet};
use crate::random::Rng;

/// A message on its way, as bytes.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) from: usize,
    pub(crate) to: usize,
    /// The receiving process: what was on a connection never reaches a later one.
    pub(crate) life: u64,
    pub(crate) id: u64,
    pub(crate) method: u16,
    pub(crate) body: Bytes,
}

impl Packet {
    pub(crate) fn new(from: usize, to: usize, life: u64, id: u64, message: &PeerMessage) -> Self {
        let mut body = Vec::with_capacity(256);
        message.encode(&mut body);
        Self { from, to, life, id, method: message.method(), body: body.into() }
    }
}

/// How bad the network is, in thousandths of messages.
#[derive(Clone, Copy, Debug, Default)]
struct Weather {
    loss: u32,
    duplication: u32,
    delay: u32,
    busy: u32,
    reorders: bool,
}

impl Weather {
    fn of(faults: FaultSet, rng: &mut Rng) -> Self {
        let mut up_to = |fault, most| {
            let rate = rng.random_range(1..=most);
            if faults.has(fault) { rate } else { 0 }
        };
        Self {
            loss: up_to(Fault::Drop, 60),
            duplication: up_to(Fault::Duplicate, 80),
            delay: up_to(Fault::Delay, 60),
            busy: up_to(Fault::Busy, 20),
            reorders: faults.has(Fault::Reorder),
        }
    }
}

/// What becomes of a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It does not leave, and the sender is told.
    Undelivered { busy: bool },
    /// It is lost, and nobody is told.
    Lost,
    /// It arrives at this time, and perhaps once more.
    Arrives(u64, Option<u64>),
}

#[derive(Debug)]
pub(crate) struct Network {
    nodes: usize,
    weather: Weather,
    rng: Rng,
    /// Which directions are cut, and how often: faults overlap.
    cuts: Vec<u32>,
    connected: Vec<bool>,
    /// When the last message of each direction arrives.
    last_arrival: Vec<u64>,
    /// By how much messages to each node are late, in microseconds.
    slowness: Vec<u64>,
}

impl Network {
    pub(crate) fn new(nodes: usize, faults: FaultSet, mut rng: Rng) -> Self {
        Self {
            nodes,
            weather: Weather::of(faults, &mut rng),
            rng,
            cuts: vec![0; nodes * nodes],
            connected: vec![false; nodes * nodes],
            last_arrival: vec![0; nodes * nodes],
            slowness: vec![0; nodes],
        }
    }

    const fn at(&self, from: usize, to: usize) -> usize {
        from * self.nodes + to
    }

    pub(crate) fn is_connected(&self, from: usize, to: usize) -> bool {
        self.connected[self.at(from, to)]
    }

    /// Changes what `from` believes; says whether it believed otherwise.
    pub(crate) fn set_connected(&mut self, from: usize, to: usize, connected: bool) -> bool {
        let at = self.at(from, to);
        std::mem::replace(&mut self.connected[at], connected) != connected
    }

    /// Whether messages pass in both directions.
    pub(crate) fn is_open(&self, a: usize, b: usize) -> bool {
        self.cuts[self.at(a, b)] == 0 && self.cuts[self.at(b, a)] == 0
    }

    pub(crate) fn cut(&mut self, from: usize, to: usize) {
        let at = self.at(from, to);
        self.cuts[at] += 1;
    }

    pub(crate) fn heal(&mut self, from: usize, to: usize) {
        let at = self.at(from, to);
        self.cuts[at] = self.cuts[at].saturating_sub(1);
    }

    /// Ends all cuts between two.
    pub(crate) fn open(&mut self, a: usize, b: usize) {
        let directions = [self.at(a, b), self.at(b, a)];
        directions.into_iter().for_each(|at| self.cuts[at] = 0);
    }

    /// Good weather, and every direction open but those to and from `but`.
    pub(crate) fn heal_all(&mut self, but: Option<usize>) {
        self.weather = Weather::default();
        for from in 0..self.nodes {
            for to in (0..self.nodes).filter(|to| but != Some(from) && but != Some(*to)) {
                let at = self.at(from, to);
                self.cuts[at] = 0;
            }
        }
        for node in (0..self.nodes).filter(|node| but != Some(*node)) {
            self.slowness[node] = 0;
        }
    }

    pub(crate) fn slow(&mut self, node: usize, micros: u64) {
        self.slowness[node] = micros;
    }

    fn chance(&mut self, thousandths: u32) -> bool {
        thousandths > 0 && self.rng.random_range(0..1_000) < thousandths
    }

    /// Decides about one message.
    pub(crate) fn send(&mut self, from: usize, to: usize, now: u64, counts: &mut Counts) -> Fate {
        if !self.is_connected(from, to) {
            return Fate::Undelivered { busy: false };
        }
        if self.chance(self.weather.busy) {
            counts.note(Fault::Busy);
            return Fate::Undelivered { busy: true };
        }
        if self.cuts[self.at(from, to)] > 0 {
            return Fate::Lost;
        }
        if self.chance(self.weather.loss) {
            counts.note(Fault::Drop);
            return Fate::Lost;
        }
        let first = self.arrival(from, to, now, counts);
        let again = self.chance(self.weather.duplication).then(|| {
            counts.note(Fault::Duplicate);
            // A copy may come when what it was for is over.
            let late = if self.chance(100) { self.rng.random_range(0..1_000_000) } else { 0 };
            self.arrival(from, to, now, counts) + late
        });
        Fate::Arrives(first, again)
    }

    fn arrival(&mut self, from: usize, to: usize, now: u64, counts: &mut Counts) -> u64 {
        let mut after = self.rng.random_range(50..500) + self.slowness[to];
        if self.chance(self.weather.delay) {
            counts.note(Fault::Delay);
            after += self.rng.random_range(1_000..400_000);
        }
        let link = self.at(from, to);
        let at = now + after;
        if at >= self.last_arrival[link] {
            self.last_arrival[link] = at;
            at
        } else if self.weather.reorders {
            counts.note(Fault::Reorder);
            at
        } else {
            self.last_arrival[link]
        }
    }
}
