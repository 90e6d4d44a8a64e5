//! Who answers: this node's own opinion of each other member.
//!
//! One silence proves nothing: a message is lost, one direction is cut, the other is busy, or we are. So a
//! member that does not answer a ping is pinged through others (SWIM), and only some silences in a row make it
//! down. A member that others reach and we do not stays suspect: requests had better go round it, and it is not
//! down. A verdict that falls due while this node itself did not run is void (as in Lifeguard).
//!
//! Asking everybody in turn finds a dead member of a thousand late, and asking everybody always costs too much.
//! So whoever finds a member down spreads the rumour for some rounds, and who hears it asks the member itself.
//! The rumour is never believed: nobody can be talked down, and nothing has to be taken back.

use std::collections::{BTreeMap, BTreeSet};

use gramme_ring::NodeId;
use rand::Rng;
use rand::seq::{IteratorRandom, SliceRandom};

use crate::gossip::{Config, Effect};
use crate::message::{Message, RUMOURS};

/// The most members asked in one period.
const AT_ONCE: usize = 4;
/// The most pings made for others at once.
const RELAYS: usize = 64;
/// For how many periods a rumour is passed on, and for how many more it is not news.
const SPREAD: u64 = 12;
const STALE: u64 = 30;
/// The most rumours kept, and of those the most that wait to be asked about.
const KEPT: usize = 64;
/// How many verdicts in a row may be void.
const VOIDS: u8 = 3;

/// Whether a member answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Opinion {
    /// It answers, or has not been asked yet.
    #[default]
    Alive,
    /// It is silent lately, or only others reach it: ask it last.
    Suspect,
    /// It has been silent for some time, to us and to those who asked for us: do not wait for it.
    Down,
}

#[derive(Clone, Copy, Debug, Default)]
struct Peer {
    opinion: Opinion,
    silences: u32,
    voids: u8,
}

#[derive(Clone, Debug)]
struct Probe {
    target: NodeId,
    /// When it is asked through others, or is silent.
    due: u64,
    /// Who asks it for us, once it has not answered.
    helpers: Option<Vec<NodeId>>,
}

/// A ping made for another.
#[derive(Clone, Copy, Debug)]
struct Relay {
    asker: NodeId,
    number: u64,
    target: NodeId,
    until: u64,
}

#[derive(Clone, Copy, Debug)]
struct Rumour {
    passed_on_until: u64,
    known_until: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Detector {
    members: BTreeSet<NodeId>,
    peers: BTreeMap<NodeId, Peer>,
    /// Who is still to be asked in this turn, shuffled.
    turn: Vec<NodeId>,
    /// Who is to be asked before, by what this node has seen itself, and by what others say.
    questions: BTreeSet<NodeId>,
    hearsay: BTreeSet<NodeId>,
    probes: BTreeMap<u64, Probe>,
    relays: BTreeMap<u64, Relay>,
    rumours: BTreeMap<NodeId, Rumour>,
    numbers: u64,
}

impl Detector {
    /// Its pings are numbered from there: answers to those of earlier starts must not fit.
    pub(crate) fn new(numbers: u64) -> Self {
        Self { numbers, ..Self::default() }
    }

    pub(crate) fn opinion(&self, node: NodeId) -> Opinion {
        self.peers.get(&node).copied().unwrap_or_default().opinion
    }

    /// When something falls due.
    pub(crate) fn next_due(&self) -> Option<u64> {
        self.probes.values().map(|probe| probe.due).min()
    }

    /// It is no member any more.
    pub(crate) fn forget(&mut self, node: NodeId) {
        self.members.remove(&node);
        self.probes.retain(|_, probe| probe.target != node);
        self.peers.remove(&node);
        self.questions.remove(&node);
        self.hearsay.remove(&node);
        self.rumours.remove(&node);
    }

    /// It has started anew: what was said of it before is over.
    pub(crate) fn restarted(&mut self, node: NodeId) {
        self.rumours.remove(&node);
        self.question(node);
    }

    /// Has this member asked soon.
    pub(crate) fn question(&mut self, node: NodeId) {
        self.questions.insert(node);
    }

    /// It has answered something of ours.
    pub(crate) fn heard(&mut self, node: NodeId, out: &mut Vec<Effect>) {
        self.probes.retain(|_, probe| probe.target != node);
        self.questions.remove(&node);
        self.hearsay.remove(&node);
        // It is not news again for a while, or those who have not asked yet would keep it going for ever.
        if let Some(rumour) = self.rumours.get_mut(&node) {
            rumour.passed_on_until = 0;
        }
        self.judge(node, Peer::default(), out);
    }

    /// Something that was asked of it failed, or the connection is gone.
    pub(crate) fn failed(&mut self, node: NodeId, out: &mut Vec<Effect>) {
        self.question(node);
        let peer = self.peers.get(&node).copied().unwrap_or_default();
        if peer.opinion == Opinion::Alive {
            self.judge(node, Peer { opinion: Opinion::Suspect, ..peer }, out);
        }
    }

    /// Once a period: asks the next member in turn, and those about whom there are questions.
    pub(crate) fn ask(
        &mut self,
        (config, now): (&Config, u64),
        members: impl Iterator<Item = NodeId>,
        rng: &mut impl Rng,
        out: &mut Vec<Effect>,
    ) {
        self.rumours.retain(|_, rumour| rumour.known_until > now);
        self.relays.retain(|_, relay| relay.until > now);
        self.members = members.filter(|node| *node != config.me).collect();
        self.questions.retain(|node| self.members.contains(node));
        self.hearsay.retain(|node| self.members.contains(node));
        let suspects = self.peers.iter().filter(|(node, peer)| {
            peer.opinion == Opinion::Suspect && self.members.contains(node) && !self.questions.contains(node)
        });
        // One for the turn, at least one for suspects; what others say comes last.
        let mut asked: Vec<NodeId> = suspects.map(|(node, _)| *node).sample(rng, 1);
        for questions in [&self.questions, &self.hearsay] {
            let room = AT_ONCE - 1 - asked.len();
            asked.extend(questions.iter().copied().filter(|node| !asked.contains(node)).sample(rng, room));
        }
        asked.extend(self.next_in_turn(rng));
        for node in asked {
            self.questions.remove(&node);
            self.hearsay.remove(&node);
            self.ping(config, now, node, out);
        }
    }

    fn next_in_turn(&mut self, rng: &mut impl Rng) -> Option<NodeId> {
        if self.turn.is_empty() {
            self.turn = self.members.iter().copied().collect();
            self.turn.shuffle(rng);
        }
        std::iter::from_fn(|| self.turn.pop()).find(|node| self.members.contains(node))
    }

    fn ping(&mut self, config: &Config, now: u64, target: NodeId, out: &mut Vec<Effect>) {
        if self.probes.values().any(|probe| probe.target == target) {
            return;
        }
        let number = self.number();
        self.probes.insert(number, Probe { target, due: now + config.patience, helpers: None });
        let rumours = self.rumours(now);
        out.push(Effect::Send { to: target, message: Message::Ping { number, rumours } });
    }

    const fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// What has fallen due: silences, after which others are asked, or an opinion changes.
    pub(crate) fn expire(&mut self, config: &Config, now: u64, rng: &mut impl Rng, out: &mut Vec<Effect>) {
        let is_due = |(number, probe): (&u64, &Probe)| (probe.due <= now).then_some(*number);
        for number in self.probes.iter().filter_map(is_due).collect::<Vec<_>>() {
            let Some(Probe { target, due, helpers }) = self.probes.remove(&number) else { continue };
            if now >= due + config.patience / 2 && self.is_void(target) {
                // We did not run in time to hear an answer: ask again.
                self.question(target);
            } else if helpers.is_some() {
                self.silent(config, now, target, out);
            } else {
                self.ask_others(config, (now, number), target, rng, out);
            }
        }
    }

    /// A verdict that comes late is void, but not always: a node that is always late would find nobody down.
    fn is_void(&mut self, node: NodeId) -> bool {
        let peer = self.peers.entry(node).or_default();
        peer.voids = peer.voids.saturating_add(1);
        peer.voids <= VOIDS
    }

    fn ask_others(
        &mut self,
        config: &Config,
        (now, number): (u64, u64),
        target: NodeId,
        rng: &mut impl Rng,
        out: &mut Vec<Effect>,
    ) {
        // A lost message is likelier than a dead member.
        out.push(Effect::Send { to: target, message: Message::Ping { number, rumours: Vec::new() } });
        let is_alive = |node: &NodeId| *node != target && self.opinion(*node) == Opinion::Alive;
        let helpers = self.members.iter().copied().filter(is_alive).sample(rng, config.helpers);
        let ask = |to: &NodeId| Effect::Send { to: *to, message: Message::Probe { number, target } };
        out.extend(helpers.iter().map(ask));
        self.probes.insert(number, Probe { target, due: now + 2 * config.patience, helpers: Some(helpers) });
    }

    fn silent(&mut self, config: &Config, now: u64, node: NodeId, out: &mut Vec<Effect>) {
        let peer = self.peers.get(&node).copied().unwrap_or_default();
        let silences = peer.silences.saturating_add(1);
        let opinion = if silences < config.silences { Opinion::Suspect } else { Opinion::Down };
        if opinion == Opinion::Down && peer.opinion != Opinion::Down {
            self.hear_rumour(config, now, node);
        }
        self.judge(node, Peer { opinion, silences, ..peer }, out);
    }

    fn judge(&mut self, node: NodeId, peer: Peer, out: &mut Vec<Effect>) {
        let before = self.peers.insert(node, peer).unwrap_or_default();
        if before.opinion != peer.opinion {
            out.push(Effect::Opinion { node, opinion: peer.opinion });
        }
    }

    pub(crate) fn on_ping(&mut self, now: u64, from: NodeId, number: u64, out: &mut Vec<Effect>) {
        let rumours = self.rumours(now);
        out.push(Effect::Send { to: from, message: Message::Ack { number, rumours } });
    }

    /// Answers to what was not asked, or long ago, prove nothing; they are a reason to ask.
    pub(crate) fn on_ack(&mut self, from: NodeId, number: u64, out: &mut Vec<Effect>) {
        if let Some(relay) = self.relays.get(&number).copied().filter(|relay| relay.target == from) {
            self.relays.remove(&number);
            out.push(Effect::Send { to: relay.asker, message: Message::Reached { number: relay.number } });
            self.heard(from, out);
        } else if self.probes.get(&number).is_some_and(|probe| probe.target == from) {
            self.heard(from, out);
        }
    }

    /// Another asks for our help.
    pub(crate) fn on_probe(
        &mut self,
        config: &Config,
        now: u64,
        (from, number, target): (NodeId, u64, NodeId),
        out: &mut Vec<Effect>,
    ) {
        if self.relays.len() >= RELAYS {
            return;
        }
        let ours = self.number();
        self.relays.insert(ours, Relay { asker: from, number, target, until: now + 4 * config.patience });
        out.push(Effect::Send { to: target, message: Message::Ping { number: ours, rumours: Vec::new() } });
    }

    /// One that we have asked has reached whom we did not: it lives, and we had better not ask it first.
    pub(crate) fn on_reached(&mut self, from: NodeId, number: u64, out: &mut Vec<Effect>) {
        let is_asked = |probe: &&Probe| probe.helpers.as_ref().is_some_and(|helpers| helpers.contains(&from));
        let Some(target) = self.probes.get(&number).filter(is_asked).map(|probe| probe.target) else {
            return;
        };
        self.probes.remove(&number);
        self.judge(target, Peer { opinion: Opinion::Suspect, ..Peer::default() }, out);
    }

    /// Rumours are worth a question each, once in a while.
    pub(crate) fn on_rumours(&mut self, config: &Config, now: u64, rumours: &[NodeId]) {
        let is_news =
            |detector: &Self, node| detector.members.contains(&node) && !detector.rumours.contains_key(&node);
        for &node in rumours.iter().take(RUMOURS) {
            if !is_news(self, node) || self.rumours.len() >= KEPT {
                continue;
            }
            self.hear_rumour(config, now, node);
            if self.opinion(node) != Opinion::Down {
                self.hearsay.insert(node);
            }
        }
    }

    fn hear_rumour(&mut self, config: &Config, now: u64, node: NodeId) {
        let passed_on_until = now + SPREAD * config.period;
        let rumour = Rumour { passed_on_until, known_until: passed_on_until + STALE * config.period };
        self.rumours.insert(node, rumour);
    }

    /// Those that are passed on, the latest first.
    fn rumours(&self, now: u64) -> Vec<NodeId> {
        let mut rumours: Vec<_> =
            self.rumours.iter().filter(|(_, rumour)| rumour.passed_on_until > now).collect();
        rumours.sort_by_key(|(_, rumour)| std::cmp::Reverse(rumour.passed_on_until));
        rumours.into_iter().take(RUMOURS).map(|(node, _)| *node).collect()
    }
}
