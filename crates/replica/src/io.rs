//! What goes into a replica and what comes out: plain data, so that a run can be recorded and replayed.

use std::collections::BTreeMap;

use bytes::Bytes;
use gramme_merkle::{Digest, Leaf};
use gramme_ring::{NodeId, PartitionId};
use gramme_wire::PeerMessage;
use gramme_wire::peer::{Class, Room};

use crate::place::Place;
use crate::request::{ClientRequest, Response};

/// The time, handed in with every input. Microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Never goes back. Deadlines are counted on it.
    pub monotonic: u64,
    /// Since 1970; may jump either way. Only stamps and births of tenures come from it.
    pub wall: u64,
}

/// Names a client's request until it is answered; chosen by the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Something happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// A client asks.
    Client {
        /// To be answered by this name, exactly once.
        ticket: Ticket,
        /// What it asks.
        request: ClientRequest,
    },
    /// Another node speaks.
    Message {
        /// Who, as its certificate says.
        from: NodeId,
        /// The number of the request that this is, or answers.
        id: u64,
        /// What it says.
        message: PeerMessage,
    },
    /// A message that was to be sent did not leave, not a byte of it.
    Undelivered {
        /// To whom.
        to: NodeId,
        /// Its number.
        id: u64,
        /// Whether there is a connection, with too much waiting on it.
        busy: bool,
    },
    /// There is a connection to this node.
    PeerUp(NodeId),
    /// This node has been silent for a while, on a connection that still stands: ask others first.
    PeerSuspect(NodeId),
    /// The connection to this node is gone; what it had been asked may or may not have been done.
    PeerDown(NodeId),
    /// A row has been read.
    Loaded {
        /// The number of the load.
        load: u64,
        /// The stored object, if there is one. A failure is never an absent object.
        result: Result<Option<Bytes>, LoadFailed>,
    },
    /// A page of rows has been read.
    Scanned {
        /// The number of the scan.
        scan: u64,
        /// What was found. A failure is never an empty page.
        result: Result<Page, LoadFailed>,
    },
    /// Batches have become durable, each up to and with this one.
    Committed {
        /// They survive the end of the process.
        written: u64,
        /// They survive a loss of power.
        synced: u64,
    },
    /// A batch was not committed, or its fate is unknown.
    CommitFailed,
    /// What the disk has room for.
    Room(Room),
    /// The time asked for by [`Effect::SetTimer`] has come.
    Timer,
}

/// A row could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadFailed;

/// Which rows to go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// The data of a partition.
    Partition(PartitionId),
    /// The data of a partition between two places, both included.
    Range {
        /// The partition.
        partition: PartitionId,
        /// The first place.
        first: u64,
        /// The last place.
        last: u64,
    },
    /// All that is kept for this node. Their partitions are left open: places are of the whole ring.
    Hints(NodeId),
}

/// Rows in the order of their places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Their places and stored objects.
    pub rows: Vec<(Place, Bytes)>,
    /// After which row it goes on, if it does: the last one that was looked at, whether it is still there or not.
    pub next: Option<Place>,
    /// Rows of it that cannot be read. They are left out.
    pub unreadable: Vec<Place>,
}

/// Something is to be done.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Send a message. If there is no connection, say so with [`Input::Undelivered`].
    Send {
        /// To whom.
        to: NodeId,
        /// The number of the request that it is, or answers.
        id: u64,
        /// How long it is worth anything, in microseconds; 0 for ever.
        ttl: u64,
        /// Whether somebody waits for it: what nobody waits for goes over a connection of its own.
        class: Class,
        /// What to say.
        message: PeerMessage,
    },
    /// Answer a client.
    Reply {
        /// Its name.
        ticket: Ticket,
        /// The answer.
        response: Response,
    },
    /// Read a row, as of the last committed batch.
    Load {
        /// The number to answer with.
        load: u64,
        /// Which.
        place: Place,
    },
    /// Read rows in the order of their places, as of the last committed batch.
    Scan {
        /// The number to answer with.
        scan: u64,
        /// Which.
        rows: Rows,
        /// Only rows after this one.
        after: Option<Place>,
        /// At most so many rows.
        limit: usize,
    },
    /// Commit changes together. Numbers count up from 1 without a gap.
    Commit {
        /// The batch's number.
        sequence: u64,
        /// The changes.
        changes: Vec<Change>,
        /// Whether somebody waits for it to survive a loss of power.
        sync: bool,
        /// Whether somebody waits for it at all.
        class: Class,
    },
    /// Another node listens there, or this one says that it does.
    Addresses {
        /// Which node.
        node: NodeId,
        /// Its addresses, for a connection to be made to one of them.
        addresses: Vec<String>,
    },
    /// Call with [`Input::Timer`] at this monotonic time. Replaces the time asked for before.
    SetTimer(u64),
    /// This node was removed from the cluster, and is refused from now on: the process ends.
    Removed,
    /// The replica cannot go on: the process must end. What was not yet answered has an unknown outcome.
    Fatal(&'static str),
}

/// One change of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The new object of a key.
    Object {
        /// Which key.
        place: Place,
        /// What it adds to its leaf.
        digest: Digest,
        /// The stored form.
        object: Bytes,
    },
    /// A key's object is gone.
    Removed {
        /// Which key.
        place: Place,
    },
    /// The new content of a leaf of a partition's hash tree.
    Leaf {
        /// The partition.
        partition: PartitionId,
        /// The leaf's number in it.
        number: u32,
        /// Its content.
        leaf: Leaf,
    },
    /// A partition's whole record.
    Partition {
        /// The partition.
        partition: PartitionId,
        /// All its keys.
        total: Leaf,
        /// The record.
        record: Bytes,
    },
    /// An addition to a partition's record.
    Note {
        /// The partition.
        partition: PartitionId,
        /// All its keys.
        total: Leaf,
        /// The addition.
        note: Bytes,
    },
    /// A record of the node's own.
    Meta {
        /// Its name.
        name: Bytes,
        /// Its bytes.
        value: Bytes,
    },
}

/// What a replica had committed before it started.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// How many batches its log has ever had: the number of the last one that was found.
    pub position: u64,
    /// Each partition's record.
    pub partitions: BTreeMap<PartitionId, RecoveredPartition>,
    /// The node's own records.
    pub meta: BTreeMap<Bytes, Bytes>,
    /// What was found of hinted copies for each node, as a leaf sums it up.
    pub hints: BTreeMap<NodeId, Leaf>,
}

/// One partition's record, with its additions.
#[derive(Clone, Debug, Default)]
pub struct RecoveredPartition {
    /// All its keys.
    pub total: Leaf,
    /// The last whole record.
    pub record: Bytes,
    /// The additions since; some may be older than the record.
    pub notes: Vec<Bytes>,
    /// The leaves of its hash tree that are not empty, by number.
    pub leaves: BTreeMap<u32, Leaf>,
}
