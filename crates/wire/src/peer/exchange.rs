//! Messages by which replicas compare what they hold, and close dead tenures.

use bytes::Bytes;
use gramme_object::Key;
use gramme_ring::PartitionId;
use gramme_vclock::{Actor, SeenSet};

use super::{ReplyHeader, RequestHeader, Sum};
use crate::message::messages;

messages! {
    /// Asks whether all that sender and receiver share is the same.
    pub struct Roots {
        /// A digest of the sums of all partitions that both own.
        pub digest: u128,
        /// Partitions of which the sender wants to know what the receiver has seen.
        pub seen_of: Vec<PartitionId>,
    }

    /// Answers [`Roots`].
    pub struct RootsReply {
        /// Whether all is the same.
        pub is_same: bool,
        /// If it is not, the sums of the partitions that are not empty.
        pub roots: Vec<(PartitionId, Sum)>,
        /// Those of them that count for nothing at the receiver of the question.
        pub uncounted: Vec<PartitionId>,
        /// What the replica had seen, when it compared, of partitions that it was asked about; all of it is synced.
        pub seen: Vec<Seen>,
        /// The generation and version of the layout that it has durably: writes of earlier ones come here no more.
        pub fenced: (u32, u64),
    }

    /// What a replica has seen of a partition.
    pub struct Seen {
        /// The partition.
        pub partition: PartitionId,
        /// The replica's disk life there.
        pub life: u64,
        /// The dots.
        pub dots: SeenSet,
    }

    /// Asks for the leaves of partitions.
    pub struct Leaves {
        /// Which.
        pub partitions: Vec<PartitionId>,
    }

    /// Answers [`Leaves`].
    pub struct LeavesReply {
        /// Of each partition.
        pub leaves: Vec<PartitionLeaves>,
    }

    /// The leaves of a partition.
    pub struct PartitionLeaves {
        /// The partition.
        pub partition: PartitionId,
        /// The replica's disk life there.
        pub life: u64,
        /// Those that are not empty, by number.
        pub leaves: Vec<(u32, Sum)>,
    }

    /// Asks to compare all keys of a partition between two places with those of the sender.
    pub struct Range {
        /// The request.
        pub header: RequestHeader,
        /// The first place.
        pub first: u64,
        /// The last place.
        pub last: u64,
        /// The sender's keys, with the digests of their clocks.
        pub keys: Vec<(Key, u128)>,
    }

    /// Answers [`Range`].
    pub struct RangeReply {
        /// How it went.
        pub header: ReplyHeader,
        /// Objects that the asker lacks, or has otherwise.
        pub objects: Vec<(Key, Bytes)>,
        /// Keys of which the replica lacks something.
        pub wants: Vec<Key>,
        /// Up to which place all was compared.
        pub through: u64,
        /// Whether the replica could not read some of its own rows there, or counts for nothing.
        pub is_damaged: bool,
    }

    /// Asks a member whether it writes under some actors of a partition, or to close them.
    pub struct Close {
        /// The request.
        pub header: RequestHeader,
        /// The actors.
        pub actors: Vec<Actor>,
        /// Whether they are known to be nobody's any more, and to be closed.
        pub is_final: bool,
    }

    /// Answers [`Close`].
    pub struct CloseReply {
        /// How it went: done means that those actors are closed durably, or were only asked about.
        pub header: ReplyHeader,
        /// Those of them under which the replica writes.
        pub alive: Vec<Actor>,
        /// Whether the replica keeps something for an owner of the partition.
        pub keeps: bool,
    }
}
