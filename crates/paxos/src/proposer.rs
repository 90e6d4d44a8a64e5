//! The proposer: asks for promises, then for one value, and counts.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use gramme_ring::NodeId;

use crate::message::{Ballot, Message};

/// How far an attempt has come.
#[derive(Debug)]
enum Phase {
    /// Who has promised, and what they had taken.
    Preparing(BTreeMap<NodeId, Option<(Ballot, Bytes)>>),
    /// Who has taken the value.
    Accepting(Bytes, BTreeSet<NodeId>),
    /// Somebody else is ahead.
    Outdone,
}

#[derive(Debug)]
pub(crate) struct Proposer {
    pub(crate) ballot: Ballot,
    /// What is proposed unless something was taken before.
    pub(crate) wish: Bytes,
    /// How often it was tried.
    pub(crate) attempts: u32,
    phase: Phase,
}

/// What comes of an answer.
#[derive(Debug)]
pub(crate) enum Progress {
    Nothing,
    /// To be sent to all voters.
    Ask(Message),
    Decided(Bytes),
}

impl Proposer {
    pub(crate) const fn new(ballot: Ballot, wish: Bytes, attempts: u32) -> Self {
        Self { ballot, wish, attempts, phase: Phase::Preparing(BTreeMap::new()) }
    }

    /// A voter has promised.
    pub(crate) fn on_promise(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        taken: Option<(Ballot, Bytes)>,
        majority: usize,
    ) -> Progress {
        let Phase::Preparing(promises) = &mut self.phase else { return Progress::Nothing };
        if ballot != self.ballot {
            return Progress::Nothing;
        }
        promises.insert(from, taken);
        if promises.len() < majority {
            return Progress::Nothing;
        }
        // It may have been decided already: by a majority, of which at least one is here.
        let taken = promises.values().flatten().max_by_key(|(ballot, _)| *ballot);
        let value = taken.map_or_else(|| self.wish.clone(), |(_, value)| value.clone());
        self.phase = Phase::Accepting(value.clone(), BTreeSet::new());
        Progress::Ask(Message::Accept { ballot, value })
    }

    /// A voter has taken the value.
    pub(crate) fn on_accepted(&mut self, from: NodeId, ballot: Ballot, majority: usize) -> Progress {
        let Phase::Accepting(value, accepted) = &mut self.phase else { return Progress::Nothing };
        if ballot != self.ballot {
            return Progress::Nothing;
        }
        accepted.insert(from);
        if accepted.len() < majority { Progress::Nothing } else { Progress::Decided(value.clone()) }
    }

    /// Somebody is ahead of this attempt, if it is this one that was refused.
    pub(crate) fn on_refused(&mut self, ballot: Ballot) {
        if ballot == self.ballot {
            self.phase = Phase::Outdone;
        }
    }
}
