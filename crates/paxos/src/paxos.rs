//! One decision as one node sees it: its vote, its proposal if it has one, and what was decided.

use bytes::Bytes;
use gramme_plant::planted;
use gramme_ring::NodeId;
use rand::{Rng, RngExt};

use crate::message::{Ballot, Message};
use crate::proposer::{Progress, Proposer};
use crate::voter::Vote;

/// The longest that rivals wait is so many times as long as the shortest: 2 to this power.
const MOST_DOUBLINGS: u32 = 5;

/// Whose decision it is.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node.
    pub me: NodeId,
    /// All that vote, the same everywhere. This node may be none of them, and propose all the same.
    pub voters: Vec<NodeId>,
    /// Whether this node votes: never if what it voted may have been lost.
    pub may_vote: bool,
    /// How long an attempt may take before it is made again, in microseconds: some round trips and syncs.
    pub patience: u64,
}

/// Something happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// This is wanted. What is decided may be something else.
    Propose(Bytes),
    /// A node speaks; this one too, to itself.
    Message {
        /// Who, as is proven.
        from: NodeId,
        /// What.
        message: Message,
    },
    /// The time of [`Paxos::next_timer`] has come.
    Timer,
}

/// Something is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Store this in place of the last. What comes after it is to be done only once it would survive a loss of power.
    Store(Vote),
    /// Send a message; one to this node itself comes back as an input.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: Message,
    },
    /// This was decided, whoever wanted it. Comes once.
    Decided(Bytes),
}

/// One decision. See the crate's documentation.
#[derive(Debug)]
pub struct Paxos<R> {
    config: Config,
    vote: Vote,
    proposer: Option<Proposer>,
    decided: Option<Bytes>,
    /// The highest round that was heard of.
    highest: u64,
    timer: Option<u64>,
    rng: R,
}

impl<R: Rng> Paxos<R> {
    /// A decision that is open, with what this node had stored of it; nothing, the first time.
    pub fn new(config: Config, vote: Vote, rng: R, now: u64) -> Self {
        let highest = vote.promised.round.max(vote.used);
        let mut paxos = Self { config, vote, proposer: None, decided: None, highest, timer: None, rng };
        if paxos.vote.taken.is_some() {
            paxos.wait(now, 0);
        }
        paxos
    }

    /// What was decided, if this node has heard of it.
    #[must_use]
    pub const fn decided(&self) -> Option<&Bytes> {
        self.decided.as_ref()
    }

    /// When to be woken, in microseconds.
    #[must_use]
    pub const fn next_timer(&self) -> Option<u64> {
        self.timer
    }

    /// Handles one input, and appends what is to be done.
    pub fn step(&mut self, now: u64, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Propose(wish) => {
                if self.decided.is_none() && self.proposer.is_none() {
                    self.attempt(now, wish, 0, out);
                }
            }
            Input::Message { from, message } => self.on_message(now, from, message, out),
            Input::Timer => self.on_timer(now, out),
        }
    }

    /// Makes an attempt with a ballot that nobody has used.
    fn attempt(&mut self, now: u64, wish: Bytes, attempts: u32, out: &mut Vec<Effect>) {
        self.highest = self.highest.saturating_add(1);
        self.vote.used = self.highest;
        let ballot = Ballot { round: self.highest, node: self.config.me };
        self.proposer = Some(Proposer::new(ballot, wish, attempts));
        out.push(Effect::Store(self.vote.clone()));
        self.ask_all(&Message::Prepare(ballot), out);
        self.wait(now, attempts);
    }

    fn ask_all(&self, message: &Message, out: &mut Vec<Effect>) {
        out.extend(self.config.voters.iter().map(|&to| Effect::Send { to, message: message.clone() }));
    }

    /// Longer each time, and not as long as a rival.
    fn wait(&mut self, now: u64, attempts: u32) {
        let most = self.config.patience.max(1) << attempts.min(MOST_DOUBLINGS);
        self.timer = Some(now + most + self.rng.random_range(0..=most));
    }

    fn on_timer(&mut self, now: u64, out: &mut Vec<Effect>) {
        if self.decided.is_some() || self.timer.is_none_or(|at| at > now) {
            return;
        }
        self.timer = None;
        match (self.proposer.take(), &self.vote.taken) {
            (Some(proposer), _) => self.attempt(now, proposer.wish, proposer.attempts + 1, out),
            // Whoever proposed this may be gone.
            (None, Some((_, value))) => self.attempt(now, value.clone(), 0, out),
            (None, None) => {}
        }
    }

    fn majority(&self) -> usize {
        if planted!(DecideAlone) {
            return 1;
        }
        self.config.voters.len() / 2 + 1
    }

    fn on_message(&mut self, now: u64, from: NodeId, message: Message, out: &mut Vec<Effect>) {
        let is_voter = self.config.voters.contains(&from);
        match message {
            Message::Decided(value) => self.decide(value, out),
            Message::Prepare(_) | Message::Accept { .. } if self.decided.is_some() => {
                let message = Message::Decided(self.decided.clone().unwrap_or_default());
                out.push(Effect::Send { to: from, message });
            }
            Message::Prepare(ballot) => self.answer(from, out, |vote| vote.on_prepare(ballot)),
            Message::Accept { ballot, value } => {
                self.answer(from, out, |vote| vote.on_accept(ballot, value));
                if self.timer.is_none() && self.vote.taken.is_some() {
                    self.wait(now, 0);
                }
            }
            Message::Promise { ballot, taken } if is_voter => {
                let majority = self.majority();
                let progress = self.proposer.as_mut().map(|it| it.on_promise(from, ballot, taken, majority));
                self.go_on(progress, out);
            }
            Message::Accepted(ballot) if is_voter => {
                let majority = self.majority();
                let progress = self.proposer.as_mut().map(|it| it.on_accepted(from, ballot, majority));
                self.go_on(progress, out);
            }
            Message::Refused { ballot, promised } if is_voter => {
                self.highest = self.highest.max(promised.round);
                self.proposer.iter_mut().for_each(|proposer| proposer.on_refused(ballot));
            }
            Message::Promise { .. } | Message::Accepted(_) | Message::Refused { .. } => {}
        }
    }

    /// Answers as a voter, if this node is one.
    fn answer(&mut self, to: NodeId, out: &mut Vec<Effect>, vote: impl FnOnce(&mut Vote) -> (Message, bool)) {
        if !self.config.may_vote || !self.config.voters.contains(&self.config.me) {
            return;
        }
        let (message, is_new) = vote(&mut self.vote);
        self.highest = self.highest.max(self.vote.promised.round);
        if is_new {
            out.push(Effect::Store(self.vote.clone()));
        }
        out.push(Effect::Send { to, message });
    }

    fn go_on(&mut self, progress: Option<Progress>, out: &mut Vec<Effect>) {
        match progress {
            Some(Progress::Ask(message)) => self.ask_all(&message, out),
            Some(Progress::Decided(value)) => {
                let others = self.config.voters.iter().filter(|voter| **voter != self.config.me);
                let message = Message::Decided(value.clone());
                out.extend(others.map(|&to| Effect::Send { to, message: message.clone() }));
                self.decide(value, out);
            }
            Some(Progress::Nothing) | None => {}
        }
    }

    fn decide(&mut self, value: Bytes, out: &mut Vec<Effect>) {
        if self.decided.is_none() {
            self.decided = Some(value.clone());
            (self.proposer, self.timer) = (None, None);
            out.push(Effect::Decided(value));
        }
    }
}
