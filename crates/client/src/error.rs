//! What can go wrong, and whether anything may have changed.

use gramme_object::KeyError;
use gramme_quorum::{Blame, GetError, PutError};
use gramme_transport::BindError;

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The local socket or the credentials cannot be used.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// No node answered with a ring.
    #[error("no node answered: {0}")]
    Unreachable(String),
}

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Bucket or key have a length that they may not have. Nothing was sent.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// No node could be reached. Nothing was sent.
    #[error("no node could be reached: {0}")]
    Unreachable(String),
    /// A read was sent, and no answer came in time.
    #[error("no answer came in time")]
    TimedOut,
    /// A write was sent, and no answer came in time. It may be stored and seen later.
    #[error("the write was sent and no answer came in time; it may be stored and seen later")]
    OutcomeUnknown,
    /// The cluster could not answer the read.
    #[error(transparent)]
    Get(#[from] GetError),
    /// The cluster did not acknowledge the write.
    #[error(transparent)]
    Put(#[from] PutError),
    /// A node sent an unexpected reply.
    #[error("a node sent an unexpected reply: {0}")]
    Protocol(String),
}

impl Error {
    /// Whether a write that failed like this may be stored all the same, and be seen later.
    #[must_use]
    pub fn is_outcome_unknown(&self) -> bool {
        match self {
            Self::OutcomeUnknown | Self::Protocol(_) => true,
            Self::Put(error) => error.blame() == Blame::Unsure,
            Self::Key(_) | Self::Unreachable(_) | Self::TimedOut | Self::Get(_) => false,
        }
    }
}

/// Why [`crate::Bucket::update`] failed.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError<E: std::error::Error + 'static> {
    /// A stored sibling is not a value of this type. Nothing was written.
    #[error("a sibling cannot be decoded: {0}")]
    Decode(#[source] E),
    /// The read or the write failed.
    #[error(transparent)]
    Request(#[from] Error),
}
