//! The machine: when to compare with whom, and what to look at next.

use std::collections::BTreeMap;

use gramme_admission::Budget;
use gramme_ring::{NodeId, PartitionId};

use crate::peer::{Exchange, Peer, Progress};

/// How it behaves. Times are in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Leaves of one exchange that are looked at at once.
    pub at_once: usize,
    /// Partitions whose leaves are compared at once.
    pub partitions: usize,
    /// How long after an exchange that has mended something the next one comes.
    pub pause: u64,
    /// How long it is at most.
    pub longest: u64,
    /// How long an answer may take.
    pub patience: u64,
    /// Bytes a second that mending may take, over all exchanges.
    pub bytes_per_second: u64,
}

impl Config {
    /// 4 leaves and 16 partitions at once, from 1 to 60 seconds between exchanges, 10 seconds for an answer, 16 MiB
    /// a second.
    pub const USUAL: Self = Self {
        at_once: 4,
        partitions: 16,
        pause: 1_000_000,
        longest: 60_000_000,
        patience: 10_000_000,
        bytes_per_second: 16 << 20,
    };
}

/// Something happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The time of [`AntiEntropy::next_timer`] has come.
    Timer,
    /// A peer can be reached; it may have missed something.
    Reachable(NodeId),
    /// A peer cannot be reached.
    Gone(NodeId),
    /// A peer is known to lack something.
    Dirty(NodeId),
    /// This node needs an exchange of its own with a peer, whoever else finds everything the same.
    Needed(NodeId),
    /// A peer has compared with this node and found everything the same.
    Same(NodeId),
    /// The roots were compared: these partitions differ.
    Roots {
        /// With whom.
        peer: NodeId,
        /// The partitions.
        differing: Vec<PartitionId>,
    },
    /// The leaves of some partitions were compared: these differ.
    Leaves {
        /// With whom.
        peer: NodeId,
        /// The leaves, by partition and number.
        differing: Vec<(PartitionId, u32)>,
    },
    /// A part of a leaf was compared: the peer is there, and is given time for the next.
    Compared {
        /// The number of the [`Effect::Mend`].
        task: u64,
        /// Bytes that it took.
        bytes: u64,
    },
    /// A leaf was looked at, and what differed was sent and taken.
    Mended {
        /// The number of the [`Effect::Mend`].
        task: u64,
        /// How many keys.
        keys: u64,
    },
    /// The peer does not answer, or has too much to do: the exchange ends.
    Failed(NodeId),
}

/// Something is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Compare all shared partitions.
    CompareRoots {
        /// With whom.
        peer: NodeId,
    },
    /// Compare the leaves of these partitions.
    CompareLeaves {
        /// With whom.
        peer: NodeId,
        /// Which.
        partitions: Vec<PartitionId>,
    },
    /// Compare the keys of a leaf, and mend what differs, both ways.
    Mend {
        /// To be named by [`Input::Mended`].
        task: u64,
        /// With whom.
        peer: NodeId,
        /// The leaf's partition.
        partition: PartitionId,
        /// The leaf's number.
        leaf: u32,
    },
}

/// What has been counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Exchanges that went through.
    pub exchanges: u64,
    /// Of these, those in which nothing was mended.
    pub clean: u64,
    /// Exchanges that were broken off.
    pub failed: u64,
    /// Leaves that were looked at.
    pub leaves: u64,
    /// Keys that were mended.
    pub keys: u64,
    /// Bytes that mending took.
    pub bytes: u64,
}

/// The exchanges of one node.
#[derive(Debug)]
pub struct AntiEntropy {
    config: Config,
    budget: Budget,
    peers: BTreeMap<NodeId, Peer>,
    /// Leaves that are looked at: with whom, and until when.
    tasks: BTreeMap<u64, (NodeId, u64)>,
    last: u64,
    stats: Stats,
}

impl AntiEntropy {
    /// One that knows of no peer.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let budget = Budget::new(config.bytes_per_second);
        let (peers, tasks) = (BTreeMap::new(), BTreeMap::new());
        Self { config, budget, peers, tasks, last: 0, stats: Stats::default() }
    }

    /// What it has counted.
    #[must_use]
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Mends so many bytes a second from `now` on.
    pub fn set_rate(&mut self, now: u64, bytes_per_second: u64) {
        self.budget.set_rate(now, bytes_per_second);
    }

    /// How far each exchange under way has come.
    pub fn exchanges(&self) -> impl Iterator<Item = Progress> {
        self.peers.iter().filter_map(|(peer, of)| {
            let Exchange { began, partitions, leaves, keys, .. } = of.exchange.as_ref()?;
            let (partitions, leaves) = (partitions.len(), leaves.len());
            Some(Progress { peer: *peer, partitions, leaves, keys: *keys, began: *began })
        })
    }

    /// Whether a leaf is still waited for.
    #[must_use]
    pub fn awaits(&self, task: u64) -> bool {
        self.tasks.contains_key(&task)
    }

    /// When [`Input::Timer`] is to come, if it must.
    #[must_use]
    pub fn next_timer(&self) -> Option<u64> {
        let silent = self.tasks.values().map(|(_, until)| *until);
        let peers = self.peers.values().map(|peer| match &peer.exchange {
            None => Some(peer.next),
            Some(exchange) if exchange.asked_until.is_some() => exchange.asked_until,
            Some(exchange) if !exchange.leaves.is_empty() && !self.budget.has_some() => {
                Some(self.budget.ready_at())
            }
            Some(_) => None,
        });
        peers.flatten().chain(silent).min()
    }

    /// Handles one input at `now` (microseconds that never go back).
    pub fn step(&mut self, now: u64, input: Input, out: &mut Vec<Effect>) {
        self.budget.fill(now);
        match input {
            Input::Timer => self.on_timer(now, out),
            Input::Reachable(peer) => self.soon(now, peer),
            Input::Gone(peer) => self.forget(peer),
            Input::Dirty(peer) => {
                // One that could not be compared with lately has enough to do.
                if self.peers.get(&peer).is_some_and(|peer| !peer.has_failed) {
                    self.soon(now, peer);
                }
            }
            Input::Needed(peer) => {
                if let Some(peer) = self.peers.get_mut(&peer) {
                    peer.is_needed = true;
                    peer.next =
                        if peer.has_failed { peer.next } else { peer.next.min(now + self.config.pause) };
                }
            }
            Input::Same(peer) => self.on_same(now, peer),
            Input::Roots { peer, differing } => {
                if let Some(exchange) = self.answered(peer) {
                    exchange.partitions.extend(differing);
                }
            }
            Input::Leaves { peer, differing } => {
                if let Some(exchange) = self.answered(peer) {
                    exchange.leaves.extend(differing);
                }
            }
            Input::Compared { task, bytes } => self.on_compared(now, task, bytes),
            Input::Mended { task, keys } => self.on_mended(task, keys),
            Input::Failed(peer) => self.fail(now, peer),
        }
        self.pump(now, out);
    }

    /// The next exchange with a peer comes as soon as any does.
    fn soon(&mut self, now: u64, peer: NodeId) {
        let pause = self.config.pause;
        let next = now + pause;
        let peer = self.peers.entry(peer).or_insert(Peer {
            next,
            pause,
            is_needed: false,
            has_failed: false,
            exchange: None,
        });
        (peer.next, peer.pause) = (peer.next.min(next), pause);
    }

    fn forget(&mut self, peer: NodeId) {
        self.peers.remove(&peer);
        self.tasks.retain(|_, (with, _)| *with != peer);
    }

    /// It need not be compared again for as long as after an exchange of our own.
    fn on_same(&mut self, now: u64, peer: NodeId) {
        if let Some(peer) =
            self.peers.get_mut(&peer).filter(|peer| peer.exchange.is_none() && !peer.is_needed)
        {
            peer.pause = (peer.pause * 2).min(self.config.longest);
            peer.next = now + peer.pause;
        }
    }

    fn answered(&mut self, peer: NodeId) -> Option<&mut Exchange> {
        let exchange = self.peers.get_mut(&peer)?.exchange.as_mut()?;
        exchange.asked_until.take().map(|_| exchange)
    }

    fn on_compared(&mut self, now: u64, task: u64, bytes: u64) {
        self.budget.take(bytes);
        self.stats.bytes += bytes;
        if let Some((_, until)) = self.tasks.get_mut(&task) {
            *until = now + self.config.patience;
        }
    }

    fn on_mended(&mut self, task: u64, keys: u64) {
        let Some((peer, _)) = self.tasks.remove(&task) else { return };
        self.stats.leaves += 1;
        self.stats.keys += keys;
        let exchange = self.peers.get_mut(&peer).and_then(|peer| peer.exchange.as_mut());
        if let Some(exchange) = exchange {
            exchange.in_flight = exchange.in_flight.saturating_sub(1);
            exchange.keys += keys;
        }
    }

    /// Ends an exchange before it is through. The next comes after the usual pause.
    fn fail(&mut self, now: u64, peer: NodeId) {
        self.tasks.retain(|_, (with, _)| *with != peer);
        if let Some(peer) = self.peers.get_mut(&peer)
            && peer.exchange.take().is_some()
        {
            self.stats.failed += 1;
            peer.has_failed = true;
            peer.pause = (peer.pause * 2).min(self.config.longest);
            peer.next = now + peer.pause;
        }
    }

    fn on_timer(&mut self, now: u64, out: &mut Vec<Effect>) {
        let is_silent = |exchange: &Exchange| exchange.asked_until.is_some_and(|until| until <= now);
        let asked = self.peers.iter().filter(|(_, peer)| peer.exchange.as_ref().is_some_and(is_silent));
        let working = self.tasks.values().filter(|(_, until)| *until <= now);
        let silent: Vec<NodeId> =
            asked.map(|(peer, _)| *peer).chain(working.map(|(peer, _)| *peer)).collect();
        silent.into_iter().for_each(|peer| self.fail(now, peer));
        for (&id, peer) in &mut self.peers {
            if peer.exchange.is_none() && peer.next <= now {
                peer.is_needed = false;
                peer.exchange = Some(Exchange::new(now, now + self.config.patience));
                out.push(Effect::CompareRoots { peer: id });
            }
        }
    }

    /// Looks at what may be looked at next, and ends the exchanges that are through.
    fn pump(&mut self, now: u64, out: &mut Vec<Effect>) {
        let Self { config, budget, peers, tasks, last, stats } = self;
        for (&id, peer) in peers {
            let Some(exchange) = &mut peer.exchange else { continue };
            while exchange.in_flight < config.at_once
                && budget.has_some()
                && let Some((partition, leaf)) = exchange.leaves.pop_front()
            {
                *last += 1;
                exchange.in_flight += 1;
                tasks.insert(*last, (id, now + config.patience));
                out.push(Effect::Mend { task: *last, peer: id, partition, leaf });
            }
            let is_idle = exchange.leaves.is_empty() && exchange.asked_until.is_none();
            if is_idle && !exchange.partitions.is_empty() {
                let few = exchange.partitions.len().min(config.partitions);
                let partitions = exchange.partitions.drain(..few).collect();
                exchange.asked_until = Some(now + config.patience);
                out.push(Effect::CompareLeaves { peer: id, partitions });
            }
            if exchange.is_over() {
                stats.exchanges += 1;
                stats.clean += u64::from(exchange.keys == 0);
                peer.pause = match exchange.keys {
                    0 => (peer.pause * 2).min(config.longest),
                    _ => config.pause,
                };
                peer.next = now + peer.pause;
                (peer.exchange, peer.has_failed) = (None, false);
            }
        }
    }
}
