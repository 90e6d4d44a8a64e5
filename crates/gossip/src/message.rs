//! What members say to each other.

use gramme_codec::Codec;
use gramme_ring::NodeId;

use crate::record::Record;

/// The most rumours that go along with a ping or its answer.
pub(crate) const RUMOURS: usize = 8;

/// One message. Each means something by itself: those that are lost, late or doubled do no harm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The hash of the sender's table. Answered where it differs.
    Root(u64),
    /// The hashes of the sender's buckets.
    Buckets(Vec<u64>),
    /// The sender's records in those buckets of which a bit is set, between two ids, by their hashes.
    Digest {
        /// A bit for each bucket.
        buckets: u64,
        /// The lowest id.
        first: NodeId,
        /// The highest id.
        last: NodeId,
        /// Each record of theirs, by its node, with its hash.
        records: Vec<(NodeId, u64)>,
    },
    /// Records that the receiver lacks, or has otherwise; and nodes whose records are wanted.
    Records {
        /// To be merged.
        records: Vec<Record>,
        /// To be sent.
        wants: Vec<NodeId>,
    },
    /// Answer if you live.
    Ping {
        /// To be named by the answer.
        number: u64,
        /// Whom the sender has found, or heard to be down.
        rumours: Vec<NodeId>,
    },
    /// Alive.
    Ack {
        /// Which ping.
        number: u64,
        /// Whom the sender has found, or heard to be down.
        rumours: Vec<NodeId>,
    },
    /// Ping another for me.
    Probe {
        /// To be named by the answer.
        number: u64,
        /// Whom.
        target: NodeId,
    },
    /// The other has answered.
    Reached {
        /// Which probe.
        number: u64,
    },
    /// Something that a later version says. It is ignored.
    Unknown,
}

gramme_codec::enums! {
    Message {
        Root(root) = 1,
        Buckets(hashes) = 2,
        Digest { buckets, first, last, records } = 3,
        Records { records, wants } = 4,
        Ping { number, rumours } = 5,
        Ack { number, rumours } = 6,
        Probe { number, target } = 7,
        Reached { number } = 8,
        Unknown = 255,
    } | Unknown
}

impl Message {
    /// How many bytes it takes.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Root(_) | Self::Reached { .. } => 9,
            Self::Buckets(hashes) => 5 + 8 * hashes.len(),
            Self::Digest { records, .. } => 29 + 16 * records.len(),
            Self::Records { records, wants } => {
                9 + 8 * wants.len() + records.iter().map(|record| record.to_bytes().len()).sum::<usize>()
            }
            Self::Ping { rumours, .. } | Self::Ack { rumours, .. } => 13 + 8 * rumours.len(),
            Self::Probe { .. } => 17,
            Self::Unknown => 1,
        }
    }
}
