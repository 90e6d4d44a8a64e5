//! One pass through what is kept for one target.

use std::collections::VecDeque;

use bytes::Bytes;
use gramme_ring::NodeId;

/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// For whom.
    pub target: NodeId,
    /// Rows that the target has, and their bytes.
    pub rows: u64,
    /// See [`Self::rows`].
    pub bytes: u64,
    /// When it began, in microseconds.
    pub began: u64,
}

#[derive(Debug)]
pub(crate) struct Run<K> {
    pub(crate) number: u64,
    pub(crate) progress: Progress,
    /// Read, and not yet sent.
    pub(crate) waiting: VecDeque<(K, Bytes)>,
    pub(crate) in_flight: usize,
    pub(crate) reading: Reading<K>,
}

/// Where the reading of rows stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading<K> {
    /// A page is being read.
    UnderWay,
    /// The next page begins after this row.
    After(K),
    /// There is no more.
    Done,
}

impl<K> Run<K> {
    pub(crate) const fn new(number: u64, target: NodeId, began: u64) -> Self {
        let progress = Progress { target, rows: 0, bytes: 0, began };
        Self { number, progress, waiting: VecDeque::new(), in_flight: 0, reading: Reading::UnderWay }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.waiting.is_empty() && self.in_flight == 0 && matches!(self.reading, Reading::Done)
    }
}
