//! How a request can fail: what happened, and whether anything may have changed.

use std::fmt;

use gramme_ring::NodeId;

use crate::ThresholdError;

/// Why one replica did not do its part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// It did not answer in time, or the connection broke after the request had left: it may have done it.
    Silent,
    /// No connection to it: it has done nothing.
    Down,
    /// It is overloaded and has done nothing. Busy is not down.
    Busy,
    /// It cannot read or write its disk.
    Disk,
    /// It takes no writes, because its disk is nearly full.
    WriteStopped,
    /// It cannot prove that it holds what it acknowledged, and counts for nothing.
    Amnesiac,
    /// It knows a later epoch of the partition.
    Stale,
    /// It is no owner of the partition.
    NotOwner,
    /// It refused the write: its stamp is too far ahead of the replica's clock, or its writer is over.
    Refused,
    /// It has started and not yet compared what it holds with what the others remember of it.
    Unproven,
    /// What it would have to store or send is larger than can be read at once.
    TooLarge,
    /// It is of a version that does not know the request.
    Unsupported,
    /// Its clock is far from the others'.
    Clock,
    /// It keeps as much for the owner that it would stand in for as it may.
    HintsFull,
    /// It says so in a way that this version does not know.
    Other,
}

gramme_codec::enums! {
    Failure {
        Silent = 0,
        Down = 1,
        Busy = 2,
        Disk = 3,
        WriteStopped = 4,
        Amnesiac = 5,
        Stale = 6,
        NotOwner = 7,
        Refused = 8,
        Unproven = 9,
        TooLarge = 10,
        Unsupported = 11,
        Clock = 12,
        HintsFull = 13,
        Other = 255,
    } | Other
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Silent => "silent",
            Self::Down => "down",
            Self::Busy => "busy",
            Self::Disk => "disk-error",
            Self::WriteStopped => "write-stopped",
            Self::Amnesiac => "amnesiac",
            Self::Stale => "stale",
            Self::NotOwner => "not-owner",
            Self::Refused => "refused",
            Self::Unproven => "unproven",
            Self::TooLarge => "too-large",
            Self::Unsupported => "unsupported",
            Self::Clock => "clock-off",
            Self::HintsFull => "hints-full",
            Self::Other => "failed",
        })
    }
}

impl Failure {
    /// Whether another node may stand in for a replica that failed so. Not for one that is busy: that would be
    /// more work for a cluster that has too much; nor where every other would say the same.
    #[must_use]
    pub const fn vacates(self) -> bool {
        match self {
            Self::Silent
            | Self::Down
            | Self::Disk
            | Self::WriteStopped
            | Self::Amnesiac
            | Self::Unproven
            | Self::Unsupported
            | Self::HintsFull
            | Self::Other => true,
            Self::Busy | Self::Stale | Self::NotOwner | Self::Refused | Self::TooLarge | Self::Clock => false,
        }
    }
}

/// Too few replicas answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shortfall {
    /// How many were needed.
    pub needed: u8,
    /// Which did their part.
    pub answered: Vec<NodeId>,
    /// Which did not, and why.
    pub failed: Vec<(NodeId, Failure)>,
}

gramme_codec::structs! {
    Shortfall { needed: u8, answered: Vec<NodeId>, failed: Vec<(NodeId, Failure)> }
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} needed replicas answered", self.answered.len(), self.needed)?;
        for (node, failure) in &self.failed {
            write!(f, "; {node} {failure}")?;
        }
        Ok(())
    }
}

/// What a failed request says about the node that was asked: whether another could do better, and whether it
/// is safe to ask one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// It has too much to do and did not begin.
    Busy,
    /// It could not do it, and nothing was changed. Another may be able to.
    Unable,
    /// It did not hear from enough others, and something may have been changed.
    Unsure,
    /// Not the node's: every other would say the same.
    Request,
}

/// Why a get has no answer. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GetError {
    /// R or pr is out of range.
    #[error(transparent)]
    Threshold(#[from] ThresholdError),
    /// There is no such bucket type.
    #[error("there is no bucket type '{0}'")]
    UnknownType(String),
    /// The context to compare with is not one that this cluster gave out for this key.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// Fewer replicas answered than needed. Try again, or ask for fewer.
    #[error("too few replicas answered in time: {0}")]
    Unavailable(Shortfall),
    /// No replica that could be reached in time has all that the session has read or written. Try again, or read
    /// without the session.
    #[error(
        "no replica that could be reached in time has all that the session has read or written; try again, or \
         read without the session"
    )]
    Behind,
    /// The node's clock and that of the only other node that it has heard since its start are far apart, and the key has
    /// a value that has expired by one of them. Ask another node.
    #[error(
        "the clocks of the nodes are far apart, and this one cannot tell whether the value has expired; ask another \
         node"
    )]
    Clock,
    /// This node has too much to do. Try again later, or another node.
    #[error("this node is overloaded and did not begin; try again later")]
    Busy,
    /// The node says so in a way that this version does not know.
    #[error("the node refused for a reason that this version does not know")]
    Other,
}

/// Why a put is not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    /// W, pw or dw is out of range. Nothing was changed.
    #[error(transparent)]
    Threshold(#[from] ThresholdError),
    /// There is no such bucket type. Nothing was changed.
    #[error("there is no bucket type '{0}'")]
    UnknownType(String),
    /// The context is not one that this cluster gave out for this key. Nothing was changed.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// This request's number was used before, for another key. Nothing was changed.
    #[error("this request's number was used before, for another key; nothing was changed")]
    RequestReused,
    /// The value with its headers is not well formed. Nothing was changed.
    #[error("the value with its headers is not well formed; nothing was changed")]
    Content,
    /// The key has as many siblings as its bucket allows. Nothing was changed: read the key, merge what it
    /// holds, and write the result with the context of that read.
    #[error(
        "the key has {siblings} siblings and its bucket allows {limit}: read it, merge the values, and write \
         the result with the context of that read"
    )]
    TooManySiblings {
        /// How many there are.
        siblings: u32,
        /// How many there may be.
        limit: u32,
    },
    /// The key's siblings together would be larger than can be read at once. Nothing was changed.
    #[error(
        "the key's siblings would have {bytes} bytes together, and {limit} can be read at once: read it, merge \
         the values, and write the result with the context of that read"
    )]
    SiblingsTooLarge {
        /// How large they would be.
        bytes: u64,
        /// How large they may be.
        limit: u64,
    },
    /// The value is over the node's limit. Nothing was changed.
    #[error("the value is over the limit of {limit} bytes")]
    ValueTooLarge {
        /// The limit.
        limit: u64,
    },
    /// Fewer replicas acknowledged than needed. The write may still be stored somewhere, and be seen later.
    #[error("too few replicas acknowledged in time: {0}; the write may still be stored and seen later")]
    Unavailable(Shortfall),
    /// The write was handed to a replica and no answer came back. It may be stored and seen later.
    #[error("the write was handed to {0}, and no answer came; it may be stored and seen later")]
    Unknown(NodeId),
    /// No replica could be reached to coordinate the write. Nothing was changed.
    #[error("no replica could take the write: {0}; nothing was changed")]
    NoCoordinator(Shortfall),
    /// This node has too much to do. Nothing was changed.
    #[error("this node is overloaded and did not begin; try again later")]
    Busy,
    /// The coordinator's disk is nearly full. Nothing was changed.
    #[error("the node's disk is nearly full and it takes no writes; nothing was changed")]
    WriteStopped,
    /// The coordinator could not read what it holds of the key. Nothing was changed.
    #[error("the node could not read its disk; nothing was changed")]
    Disk,
    /// The coordinator's clock is far from the others', and the write goes by the clock: its bucket shows the last
    /// writer, or its value expires. Nothing was changed.
    #[error(
        "the node's clock is far from the other nodes', and this write goes by the clock: its bucket shows the last \
         writer, or its value expires; nothing was changed"
    )]
    Clock,
    /// What was to be touched has changed since it was read. Nothing was changed: try again.
    #[error("the key has changed since it was read for the touch; nothing was changed: try again")]
    Changed,
    /// The instant at which the value is to expire is not in the future. Nothing was changed.
    #[error("the value would expire at once: its instant is not in the future; nothing was changed")]
    ExpiresAtOnce,
    /// The node says so in a way that this version does not know. The write may be stored and seen later.
    #[error("the node refused for a reason that this version does not know; it may be stored and seen later")]
    Other,
}

/// Why a context is refused. A write with it would not have changed anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContextError {
    /// Not a context at all.
    #[error("this is not a context that a read or write gave out")]
    Malformed,
    /// Sealed under a secret that is no longer known.
    #[error("the context was sealed under a secret that is no longer known; read again")]
    Expired,
    /// The seal does not fit the context and key.
    #[error("the context was not given out for this key")]
    Forged,
}

gramme_codec::enums! {
    ContextError { Malformed = 0, Expired = 1, Forged = 2 } | Malformed
    GetError {
        Threshold(error) = 0,
        UnknownType(name) = 1,
        Unavailable(shortfall) = 2,
        Busy = 3,
        Context(error) = 4,
        Behind = 5,
        Clock = 6,
        Other = 255,
    } | Other
    PutError {
        Threshold(error) = 0,
        UnknownType(name) = 1,
        Context(error) = 2,
        TooManySiblings { siblings, limit } = 3,
        Unavailable(shortfall) = 4,
        Unknown(node) = 5,
        NoCoordinator(shortfall) = 6,
        Busy = 7,
        WriteStopped = 8,
        Disk = 9,
        SiblingsTooLarge { bytes, limit } = 10,
        ValueTooLarge { limit } = 11,
        RequestReused = 12,
        Content = 13,
        Clock = 14,
        ExpiresAtOnce = 15,
        Changed = 16,
        Other = 255,
    } | Other
}

impl ContextError {
    /// A stable name, the same in every interface.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Malformed => "context-malformed",
            Self::Expired => "context-expired",
            Self::Forged => "context-forged",
        }
    }
}

impl GetError {
    /// Whose fault it is.
    #[must_use]
    pub const fn blame(&self) -> Blame {
        match self {
            Self::Busy => Blame::Busy,
            Self::Unavailable(_) | Self::Behind | Self::Clock | Self::Other => Blame::Unable,
            Self::Threshold(_) | Self::UnknownType(_) | Self::Context(_) => Blame::Request,
        }
    }

    /// A stable name, the same in every interface.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Threshold(_) => "bad-quorum",
            Self::UnknownType(_) => "unknown-bucket-type",
            Self::Context(error) => error.code(),
            Self::Unavailable(_) => "unavailable",
            Self::Behind => "session-behind",
            Self::Clock => "clock-off",
            Self::Busy => "busy",
            Self::Other => "failed",
        }
    }
}

impl PutError {
    /// Whose fault it is.
    #[must_use]
    pub const fn blame(&self) -> Blame {
        match self {
            Self::Busy => Blame::Busy,
            Self::NoCoordinator(_) | Self::WriteStopped | Self::Disk | Self::Clock => Blame::Unable,
            Self::Unavailable(_) | Self::Unknown(_) | Self::Other => Blame::Unsure,
            Self::Threshold(_)
            | Self::UnknownType(_)
            | Self::Context(_)
            | Self::RequestReused
            | Self::Content
            | Self::ExpiresAtOnce
            | Self::Changed
            | Self::TooManySiblings { .. }
            | Self::SiblingsTooLarge { .. }
            | Self::ValueTooLarge { .. } => Blame::Request,
        }
    }

    /// A stable name, the same in every interface.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Threshold(_) => "bad-quorum",
            Self::UnknownType(_) => "unknown-bucket-type",
            Self::Context(error) => error.code(),
            Self::RequestReused => "request-reused",
            Self::Content => "bad-content",
            Self::TooManySiblings { .. } | Self::SiblingsTooLarge { .. } => "too-many-siblings",
            Self::ValueTooLarge { .. } => "value-too-large",
            Self::Unavailable(_) => "unavailable",
            Self::Unknown(_) => "outcome-unknown",
            Self::NoCoordinator(_) => "no-coordinator",
            Self::Busy => "busy",
            Self::WriteStopped => "disk-full",
            Self::Disk => "disk-error",
            Self::Clock => "clock-off",
            Self::ExpiresAtOnce => "expires-at-once",
            Self::Changed => "changed",
            Self::Other => "failed",
        }
    }
}
