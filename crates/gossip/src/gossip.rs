//! The machine: what happens goes in, what is to be done comes out.

use bytes::Bytes;
use gramme_ring::NodeId;
use rand::seq::IteratorRandom;
use rand::{RngExt, rngs::StdRng};

use crate::detector::{Detector, Opinion};
use crate::exchange::{self, Budget};
use crate::message::Message;
use crate::record::{Profile, Record};
use crate::table::Table;

/// One round of so many goes to a member that is down: it may be back, or on the other side of a cut that has
/// healed. So every member is a seed, and two halves of a cluster find each other again.
const TRY_DOWN: u32 = 8;

/// How a member behaves. All times are in microseconds.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node.
    pub me: NodeId,
    /// Which start of it this is; higher than all before, as far as it knows.
    pub incarnation: u64,
    /// How often it tells another of its table, and asks another whether it lives.
    pub period: u64,
    /// How long a ping may take; one through others may take twice that.
    pub patience: u64,
    /// How many others are asked to ping a member that is silent.
    pub helpers: usize,
    /// How many silences in a row make a member down.
    pub silences: u32,
    /// The most bytes a second that go into bringing tables together.
    pub bytes_per_second: u32,
}

impl Config {
    /// A round a second, 300 ms for a ping, three helpers, four silences, 32 KiB a second.
    #[must_use]
    pub const fn usual(me: NodeId, incarnation: u64) -> Self {
        Self {
            me,
            incarnation,
            period: 1_000_000,
            patience: 300_000,
            helpers: 3,
            silences: 4,
            bytes_per_second: 32 << 10,
        }
    }
}

/// Something happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// The time of [`Gossip::next_timer`] has come.
    Timer,
    /// Another member speaks.
    Message {
        /// Who, as is proven.
        from: NodeId,
        /// What it says.
        message: Message,
    },
    /// A member has answered a request of ours that is none of these messages.
    Answered(NodeId),
    /// A request to a member has failed, or the connection to it.
    Failed(NodeId),
    /// What this node says of itself from now on. To be said at each start, or others do not learn of it.
    Publish {
        /// Where it can be reached.
        addresses: Vec<String>,
        /// What else they are to know; see [`Profile::details`].
        details: Bytes,
    },
    /// An administrator admits a node: what is known of it.
    Admit(Record),
    /// An administrator removes a node for good.
    Remove {
        /// Which.
        node: NodeId,
        /// When, in microseconds since 1970.
        at: u64,
    },
}

/// Something is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Tell another member, once; it may be lost.
    Send {
        /// Whom.
        to: NodeId,
        /// What.
        message: Message,
    },
    /// Keep this record: it is to be handed to the next start.
    Store(Record),
    /// The opinion of a member has changed.
    Opinion {
        /// Of whom.
        node: NodeId,
        /// To what.
        opinion: Opinion,
    },
}

/// What has been counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Messages sent.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Messages not sent because the budget was used up.
    pub postponed: u64,
    /// Messages of nodes that are no members.
    pub strangers: u64,
    /// Records not taken because they are larger than records may be, or too many.
    pub refused: u64,
}

/// One member's view of all, and its part in spreading it.
#[derive(Debug)]
pub struct Gossip {
    config: Config,
    table: Table,
    detector: Detector,
    budget: Budget,
    rng: StdRng,
    next_round: u64,
    /// The addresses and details of this start, once they are known.
    published: Option<(Vec<String>, Bytes)>,
    stats: Stats,
}

impl Gossip {
    /// A member that starts with what it has kept, or at first with whom it was told of, itself among them.
    #[must_use]
    pub fn new(config: Config, records: Vec<Record>, mut rng: StdRng) -> Self {
        let (mut table, mut stats) = (Table::new(), Stats::default());
        for record in &records {
            stats.refused += u64::from(!table.takes(record));
            table.merge(record);
        }
        let budget = Budget::new(config.bytes_per_second);
        let detector = Detector::new(rng.random::<u32>().into());
        Self { config, table, detector, budget, rng, next_round: 0, published: None, stats }
    }

    /// When [`Input::Timer`] is to come next.
    #[must_use]
    pub fn next_timer(&self) -> u64 {
        self.detector.next_due().map_or(self.next_round, |due| due.min(self.next_round))
    }

    /// All records, those of removed nodes too: the history of the cluster's membership.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.table.records()
    }

    /// What is known of a node.
    #[must_use]
    pub fn record(&self, node: NodeId) -> Option<&Record> {
        self.table.get(node)
    }

    /// Whether a node answers, as far as this one can tell.
    #[must_use]
    pub fn opinion(&self, node: NodeId) -> Opinion {
        self.detector.opinion(node)
    }

    /// The same for all who know the same.
    #[must_use]
    pub fn root(&self) -> u64 {
        self.table.root()
    }

    /// What it has counted.
    #[must_use]
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Takes what has happened at `now` (which never goes back), and says what to do.
    pub fn step(&mut self, now: u64, input: Input, out: &mut Vec<Effect>) {
        let first = out.len();
        match input {
            Input::Timer => self.on_timer(now, out),
            Input::Message { from, message } => self.on_message(now, from, message, out),
            Input::Answered(node) if self.is_other(node) => self.detector.heard(node, out),
            Input::Failed(node) if self.is_other(node) => self.detector.failed(node, out),
            Input::Answered(_) | Input::Failed(_) => {}
            Input::Publish { addresses, details } => {
                self.publish((addresses, details), out);
            }
            Input::Admit(record) => self.merge(&record, out),
            Input::Remove { node, at } => self.remove(node, at, out),
        }
        for effect in &out[first..] {
            if let Effect::Send { message, .. } = effect {
                self.stats.messages += 1;
                self.stats.bytes += message.size() as u64;
            }
        }
    }

    fn is_member(&self, node: NodeId) -> bool {
        self.table.get(node).is_some_and(Record::is_member)
    }

    fn is_other(&self, node: NodeId) -> bool {
        node != self.config.me && self.is_member(node)
    }

    fn on_timer(&mut self, now: u64, out: &mut Vec<Effect>) {
        if self.is_member(self.config.me) {
            self.detector.expire(&self.config, now, &mut self.rng, out);
        }
        if now < self.next_round {
            return;
        }
        // Not all at the same time.
        self.next_round = now + (self.config.period * self.rng.random_range(9..=11) / 10).max(1);
        self.budget.fill(now);
        if self.is_member(self.config.me) {
            self.detector.ask((&self.config, now), self.table.members(), &mut self.rng, out);
            self.start_round(out);
        }
    }

    /// Tells one other what the table hashes to.
    fn start_round(&mut self, out: &mut Vec<Effect>) {
        let wants_down = self.rng.random_ratio(1, TRY_DOWN);
        let others = self.table.members().filter(|node| *node != self.config.me);
        let (down, up): (Vec<_>, Vec<_>) =
            others.partition(|node| self.detector.opinion(*node) == Opinion::Down);
        let from = if up.is_empty() || wants_down && !down.is_empty() { down } else { up };
        if let Some(to) = from.into_iter().choose(&mut self.rng) {
            let root = self.table.root();
            self.send(to, Some(Message::Root(root)), out);
        }
    }

    /// Sends a message that counts against the budget, or drops it.
    fn send(&mut self, to: NodeId, message: Option<Message>, out: &mut Vec<Effect>) {
        let Some(message) = message else { return };
        if self.budget.take(&message) {
            out.push(Effect::Send { to, message });
        } else {
            self.stats.postponed += 1;
        }
    }

    fn on_message(&mut self, now: u64, from: NodeId, message: Message, out: &mut Vec<Effect>) {
        self.budget.fill(now);
        let Some(record) = self.table.get(from).filter(|_| from != self.config.me) else {
            self.stats.strangers += 1;
            return;
        };
        if !record.is_member() {
            // It has missed its removal. Records are not answered: two that have removed each other would not stop.
            if matches!(message, Message::Records { .. }) {
                return;
            }
            let records = vec![record.clone()];
            return self.send(from, Some(Message::Records { records, wants: Vec::new() }), out);
        }
        if !self.may_take_part(from, &message, out) {
            return;
        }
        if self.detector.opinion(from) != Opinion::Alive {
            self.detector.question(from);
        }
        self.dispatch(now, from, message, out);
    }

    /// Whether this node is a member itself. One that was removed, and is still spoken to, says so: it may be the
    /// only one that knows. One that does not know itself yet waits for its record.
    fn may_take_part(&mut self, from: NodeId, message: &Message, out: &mut Vec<Effect>) -> bool {
        let is_records = matches!(message, Message::Records { .. });
        match self.table.get(self.config.me) {
            Some(mine) if mine.is_member() => true,
            Some(mine) if !is_records => {
                let records = vec![mine.clone()];
                self.send(from, Some(Message::Records { records, wants: Vec::new() }), out);
                false
            }
            Some(_) => false,
            None => is_records,
        }
    }

    fn dispatch(&mut self, now: u64, from: NodeId, message: Message, out: &mut Vec<Effect>) {
        match message {
            Message::Root(root) => self.send(from, exchange::on_root(&self.table, root), out),
            Message::Buckets(_) | Message::Digest { .. } if !self.budget.has_room() => {
                self.stats.postponed += 1;
            }
            Message::Buckets(hashes) => {
                let answer = exchange::on_buckets(&self.table, &self.budget, &hashes, &mut self.rng);
                self.send(from, answer, out);
            }
            Message::Digest { buckets, first, last, records } => {
                let asked = (buckets, (first, last));
                let answer = exchange::on_digest(&self.table, &self.budget, asked, &records, &mut self.rng);
                self.send(from, answer, out);
            }
            Message::Records { records, wants } => {
                records.iter().for_each(|record| self.merge(record, out));
                let answer = exchange::on_wants(&self.table, &self.budget, &wants, &mut self.rng);
                self.send(from, answer, out);
            }
            Message::Ping { number, rumours } => {
                self.detector.on_rumours(&self.config, now, &rumours);
                self.detector.on_ping(now, from, number, out);
            }
            Message::Ack { number, rumours } => {
                self.detector.on_rumours(&self.config, now, &rumours);
                self.detector.on_ack(from, number, out);
            }
            Message::Probe { number, target } if self.is_member(target) && target != self.config.me => {
                self.detector.on_probe(&self.config, now, (from, number, target), out);
            }
            Message::Probe { .. } | Message::Unknown => {}
            Message::Reached { number } => self.detector.on_reached(from, number, out),
        }
    }

    /// Takes what is known elsewhere.
    fn merge(&mut self, record: &Record, out: &mut Vec<Effect>) {
        if !self.table.takes(record) {
            self.stats.refused += 1;
            return;
        }
        let before = self.table.get(record.node).map(|record| record.profile.clone());
        if !self.table.merge(record) {
            return;
        }
        let Some(merged) = self.table.get(record.node).cloned() else { return };
        if merged.node == self.config.me && !merged.is_member() {
            // Nobody listens any more.
            self.detector = Detector::default();
        } else if !merged.is_member() {
            self.detector.forget(merged.node);
        } else if before.as_ref().is_some_and(|before| before.incarnation < merged.profile.incarnation) {
            self.detector.restarted(merged.node);
        }
        let contradicts = merged.node == self.config.me && before.as_ref() != Some(&merged.profile);
        let theirs = merged.profile.incarnation;
        out.push(Effect::Store(merged));
        if contradicts {
            self.outdo(theirs, out);
        }
    }

    /// Somebody knows something later of this node than it has said in this start: what an earlier start said
    /// before its disk was lost, or what a copy says.
    fn outdo(&mut self, theirs: u64, out: &mut Vec<Effect>) {
        self.config.incarnation = self.config.incarnation.max(theirs.saturating_add(1));
        let mine = self.table.get(self.config.me).map(|record| record.profile.clone()).unwrap_or_default();
        self.publish(self.published.clone().unwrap_or((mine.addresses, mine.details)), out);
    }

    /// Says something later than all that is known of this node. What is too large changes nothing.
    fn publish(&mut self, said: (Vec<String>, Bytes), out: &mut Vec<Effect>) {
        let Some(mine) = self.table.get(self.config.me) else { return };
        let before = &mine.profile;
        let is_new_start = self.config.incarnation > before.incarnation;
        let (incarnation, revision) = match before.revision.checked_add(1) {
            _ if is_new_start => (self.config.incarnation, 0),
            Some(revision) => (before.incarnation, revision),
            None => (before.incarnation.saturating_add(1), 0),
        };
        let (addresses, details) = said.clone();
        let profile = Profile { incarnation, revision, addresses, details };
        let record = Record { profile, ..mine.clone() };
        if !self.table.takes(&record) {
            self.stats.refused += 1;
            return;
        }
        self.published = Some(said);
        self.table.merge(&record);
        out.push(Effect::Store(record));
    }

    fn remove(&mut self, node: NodeId, at: u64, out: &mut Vec<Effect>) {
        // Also of whom nothing is known here yet: what comes of it later is merged with this.
        let record = self.table.get(node).cloned().unwrap_or_else(|| Record::joined(node, at, Vec::new()));
        self.merge(&Record { removed: Some(at), ..record }, out);
    }
}
