//! What proposers and voters say to each other.

use bytes::Bytes;
use gramme_ring::NodeId;

/// The number of an attempt. No two proposers have the same one, and no proposer has one twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ballot {
    /// Grows with each attempt.
    pub round: u64,
    /// Whose attempt it is.
    pub node: NodeId,
}

impl Default for Ballot {
    /// Before all others.
    fn default() -> Self {
        Self { round: 0, node: NodeId(0) }
    }
}

gramme_codec::structs! { Ballot { round: u64, node: NodeId } }

/// One message. Late, lost and doubled ones do no harm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Promise to take nothing of an earlier ballot.
    Prepare(Ballot),
    /// Promised; and what the voter has taken so far, under which ballot.
    Promise {
        /// The ballot that was asked for.
        ballot: Ballot,
        /// What it has taken.
        taken: Option<(Ballot, Bytes)>,
    },
    /// Take this value.
    Accept {
        /// Under this ballot.
        ballot: Ballot,
        /// The value.
        value: Bytes,
    },
    /// Taken.
    Accepted(Ballot),
    /// A later ballot was promised to somebody else.
    Refused {
        /// The ballot that came too late.
        ballot: Ballot,
        /// The one that was promised.
        promised: Ballot,
    },
    /// This was decided.
    Decided(Bytes),
}

gramme_codec::enums! {
    Message {
        Prepare(ballot) = 1,
        Promise { ballot, taken } = 2,
        Accept { ballot, value } = 3,
        Accepted(ballot) = 4,
        Refused { ballot, promised } = 5,
        Decided(value) = 6,
    }
}
