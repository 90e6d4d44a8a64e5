//! Messages by which nodes agree on who owns what, and partitions change hands.

use gramme_ring::{Layout, PartitionId};

use super::{ReplyHeader, RequestHeader};
use crate::message::messages;

messages! {
    /// Asks for the layout, if the receiver's is later than this one.
    pub struct AskLayout {
        /// The generation and version of the sender's.
        pub known: (u32, u64),
    }

    /// The layout that the sender has. Never answered.
    pub struct NewLayout {
        /// The whole of it.
        pub layout: Layout,
    }

    /// What voters and those who propose say to each other about the next layout.
    pub struct Ballot {
        /// The generation and version of the layout that is to be decided.
        pub of: (u32, u64),
        /// What is said.
        pub said: gramme_paxos::Message,
    }

    /// Asks how far a node is with the partitions that change hands.
    pub struct AskProgress {
        /// The generation and version of the sender's layout.
        pub layout: (u32, u64),
    }

    /// Answers [`AskProgress`].
    pub struct Progress {
        /// The generation and version of the layout that the node has durably: of earlier ones it takes no requests.
        pub layout: (u32, u64),
        /// Partitions that it is to own and of which it durably has everything.
        pub complete: Vec<PartitionId>,
        /// Partitions whose copies count for nothing there.
        pub uncounted: Vec<PartitionId>,
        /// Whether it still has something of partitions that are not its own, or copies for others.
        pub keeps: bool,
    }

    /// Asks an owner to take over all that the sender has, and has seen, of a partition: one that is not the sender's own any
    /// more, or of which the owner has missed something.
    pub struct TakeOver {
        /// The request.
        pub header: RequestHeader,
    }

    /// Answers [`TakeOver`], once all of that is there durably.
    pub struct TakeOverReply {
        /// How it went.
        pub header: ReplyHeader,
    }
}
