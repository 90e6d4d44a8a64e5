//! One peer: when to compare with it next, and how far the present exchange has come.

use std::collections::VecDeque;

use gramme_ring::{NodeId, PartitionId};

/// How far an exchange has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// With whom.
    pub peer: NodeId,
    /// Partitions and leaves that are known to differ and still to be looked at.
    pub partitions: usize,
    /// See [`Self::partitions`].
    pub leaves: usize,
    /// Keys that were mended.
    pub keys: u64,
    /// When it began, in microseconds.
    pub began: u64,
}

/// An exchange that this node has begun.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) began: u64,
    pub(crate) partitions: VecDeque<PartitionId>,
    pub(crate) leaves: VecDeque<(PartitionId, u32)>,
    /// Until when an answer about roots or leaves is waited for.
    pub(crate) asked_until: Option<u64>,
    pub(crate) in_flight: usize,
    pub(crate) keys: u64,
}

impl Exchange {
    pub(crate) fn new(began: u64, asked_until: u64) -> Self {
        let (partitions, leaves) = (VecDeque::new(), VecDeque::new());
        Self { began, partitions, leaves, asked_until: Some(asked_until), in_flight: 0, keys: 0 }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.partitions.is_empty()
            && self.leaves.is_empty()
            && self.asked_until.is_none()
            && self.in_flight == 0
    }
}

#[derive(Debug)]
pub(crate) struct Peer {
    /// When the next exchange begins.
    pub(crate) next: u64,
    /// How long after an exchange that mends nothing the next one comes.
    pub(crate) pause: u64,
    /// Whether this node needs an exchange of its own: one that the peer begins does not do.
    pub(crate) is_needed: bool,
    /// Whether the last exchange was broken off.
    pub(crate) has_failed: bool,
    pub(crate) exchange: Option<Exchange>,
}
