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
        })
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
    /// Fewer replicas answered than needed. Try again, or ask for fewer.
    #[error("too few replicas answered in time: {0}")]
    Unavailable(Shortfall),
    /// This node has too much to do. Try again later, or another node.
    #[error("this node is overloaded and did not begin; try again later")]
    Busy,
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
    #[error("{0}")]
    Context(String),
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
}

impl GetError {
    /// Whose fault it is.
    #[must_use]
    pub const fn blame(&self) -> Blame {
        match self {
            Self::Busy => Blame::Busy,
            Self::Unavailable(_) => Blame::Unable,
            Self::Threshold(_) | Self::UnknownType(_) => Blame::Request,
        }
    }
}

impl PutError {
    /// Whose fault it is.
    #[must_use]
    pub const fn blame(&self) -> Blame {
        match self {
            Self::Busy => Blame::Busy,
            Self::NoCoordinator(_) | Self::WriteStopped | Self::Disk => Blame::Unable,
            Self::Unavailable(_) | Self::Unknown(_) => Blame::Unsure,
            Self::Threshold(_)
            | Self::UnknownType(_)
            | Self::Context(_)
            | Self::TooManySiblings { .. }
            | Self::SiblingsTooLarge { .. }
            | Self::ValueTooLarge { .. } => Blame::Request,
        }
    }
}
