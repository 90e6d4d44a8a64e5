//! The voter: what it has promised and taken, and never goes back on.

use bytes::Bytes;

use crate::message::{Ballot, Message};

/// What must not be forgotten. Stored before anything is said that follows from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vote {
    /// Nothing of an earlier ballot is taken.
    pub promised: Ballot,
    /// What was taken last, and under which ballot.
    pub taken: Option<(Ballot, Bytes)>,
    /// The last round that this node has used for a proposal of its own: a ballot that was used for one value must not
    /// be used for another after a crash.
    pub used: u64,
}

gramme_codec::structs! { Vote { promised: Ballot, taken: Option<(Ballot, Bytes)>, used: u64 } }

impl Vote {
    /// Answers a question for a promise; says whether there is something new to store.
    pub(crate) fn on_prepare(&mut self, ballot: Ballot) -> (Message, bool) {
        if ballot < self.promised {
            return (Message::Refused { ballot, promised: self.promised }, false);
        }
        let is_new = ballot > self.promised;
        self.promised = ballot;
        (Message::Promise { ballot, taken: self.taken.clone() }, is_new)
    }

    /// Takes a value, if nothing else was promised.
    pub(crate) fn on_accept(&mut self, ballot: Ballot, value: Bytes) -> (Message, bool) {
        if ballot < self.promised {
            return (Message::Refused { ballot, promised: self.promised }, false);
        }
        let taken = Some((ballot, value));
        let is_new = taken != self.taken || ballot > self.promised;
        (self.promised, self.taken) = (ballot, taken);
        (Message::Accepted(ballot), is_new)
    }
}
