//! Messages between nodes.

mod change;
mod exchange;

use bytes::Bytes;
use gramme_object::{Content, Expiry, Key};
use gramme_quorum::{PutError, Receipt, Seat, Tenure, Threshold};
use gramme_ring::{NodeId, PartitionId};
use gramme_vclock::{Context, Dot};

pub use change::{AskLayout, AskProgress, Ballot, NewLayout, Progress, TakeOver, TakeOverReply};
pub use exchange::{
    Close, CloseReply, Leaves, LeavesReply, PartitionLeaves, Range, RangeReply, Roots, RootsReply, Seen,
};

use crate::message::{messages, numbered};

messages! {
    /// What every request about a partition begins with.
    pub struct RequestHeader {
        /// The layout's generation; higher after a forced layout.
        pub generation: u32,
        /// The partition's epoch as the sender knows it.
        pub epoch: u64,
        /// The partition.
        pub partition: PartitionId,
        /// A digest of the bucket properties that the sender acts on.
        pub properties: u64,
        /// How far the sender has come: remembered for it, see [`Standing`].
        pub point: Point,
        /// Whether somebody waits for it.
        pub class: Class,
        /// Who began the request: a node, or a client's own random id.
        pub origin: u64,
        /// Which start of it.
        pub boot: u64,
        /// Its number there.
        pub request: u64,
    }

    /// What every reply about a partition begins with.
    pub struct ReplyHeader {
        /// How it went.
        pub status: Status,
        /// The layout's generation.
        pub generation: u32,
        /// The partition's epoch as the replica knows it.
        pub epoch: u64,
        /// The replica's tenure on the partition.
        pub tenure: Tenure,
        /// The replica's disk life: a random number, drawn anew when data was lost or rolled back.
        pub life: u64,
        /// A digest of the replica's seen-set; 0 where none is given.
        pub seen: u64,
        /// The other members' tenures, as far as the replica knows them.
        pub known: Vec<(NodeId, Tenure)>,
        /// What the replica knows to be seen by all; empty for now.
        pub floors: Bytes,
        /// How far the replica has come: remembered for it, see [`Standing`].
        pub point: Point,
    }

    /// A point in a directory's history.
    pub struct Point {
        /// The name of the directory's start; 0 while that is not stored.
        pub start: u64,
        /// How far its log is synced.
        pub position: u64,
    }

    /// Asks a replica for all it holds of a key.
    pub struct Read {
        /// The request.
        pub header: RequestHeader,
        /// The key.
        pub key: Key,
        /// Values of more bytes than this may be left out; 0 if none may.
        pub withhold: u32,
        /// What the reader needs to know beyond that; usually nothing.
        pub asked: Option<Box<Asked>>,
    }

    /// What a reader needs to know beyond what a replica holds.
    pub struct Asked {
        /// Dots whose fate it needs to know.
        pub dots: Vec<Dot>,
        /// What the client's session has read and written: it needs to know what of it the replica has.
        pub session: Context,
    }

    /// Answers [`Read`].
    pub struct ReadReply {
        /// How it went.
        pub header: ReplyHeader,
        /// The stored object, empty if there is none.
        pub object: Bytes,
        /// What was asked beyond that.
        pub told: Option<Box<Told>>,
    }

    /// What a replica says beyond what it holds.
    pub struct Told {
        /// Which of the asked dots it has seen and does not hold live.
        pub covered: Vec<Dot>,
        /// What of the session it has merged, or overwritten.
        pub seen: Context,
        /// Versions that it holds and of which it left out the value.
        pub withheld: Vec<Dot>,
    }

    /// A write on its way to a replica: a new version with what it replaces.
    pub struct Write {
        /// The request.
        pub header: RequestHeader,
        /// The key.
        pub key: Key,
        /// Whose place the receiver takes.
        pub seat: Seat,
        /// When to acknowledge.
        pub durability: Durability,
        /// The version's name, apart from what its writer had read.
        pub dot: Dot,
        /// The state to merge, as a stored object: the version with what it replaces, and what is beside it.
        pub object: Bytes,
    }

    /// A whole state that a replica lacks: read repair.
    pub struct Repair {
        /// The request.
        pub header: RequestHeader,
        /// The key.
        pub key: Key,
        /// Whose place the receiver takes.
        pub seat: Seat,
        /// The state to merge, as a stored object.
        pub object: Bytes,
    }

    /// Answers [`Write`] and [`Repair`].
    pub struct WriteReply {
        /// How it went.
        pub header: ReplyHeader,
        /// The seat that the write was for.
        pub seat: Seat,
        /// Versions among those brought that the replica has seen and does not hold: they were replaced.
        pub covered: Vec<Dot>,
        /// What it holds instead, if there are any: a stored object, or nothing where that was forgotten.
        pub object: Bytes,
    }

    /// A put as its coordinator needs it.
    pub struct Put {
        /// The key.
        pub key: Key,
        /// What the writer has read.
        pub read: Context,
        /// The value with its headers; `None` deletes.
        pub content: Option<Content>,
        /// When it expires.
        pub expiry: Expiry,
        /// Write only if this version is not known to be replaced, and nothing that the writer has not read is: the put
        /// brings the same value again.
        pub touched: Option<Dot>,
        /// W.
        pub w: Threshold,
        /// How many owners.
        pub pw: Threshold,
        /// How many synced.
        pub dw: Threshold,
        /// How long the client waits, in milliseconds.
        pub timeout: u32,
        /// Whether to answer with what is stored.
        pub return_body: bool,
        /// Whether fallbacks may stand in for owners; as the bucket says if this does not.
        pub sloppy: Option<bool>,
    }

    /// Hands a put to an owner, which coordinates it.
    pub struct Forward {
        /// Which request this is; a duplicate gets the first one's answer.
        pub header: RequestHeader,
        /// The put.
        pub put: Put,
    }

    /// A put that was acknowledged.
    pub struct PutDone {
        /// What the writer has seen and its own write; with `return_body`, all that is returned.
        pub context: Context,
        /// What was known when it was answered.
        pub receipt: Receipt,
        /// With `return_body`, the stored object.
        pub object: Option<Bytes>,
        /// The new version's dot.
        pub dot: Dot,
    }

    /// Answers [`Forward`].
    pub struct ForwardReply {
        /// What the owner knows of the partition.
        pub header: ReplyHeader,
        /// The put's outcome.
        pub outcome: Result<PutDone, PutError>,
    }

    /// A node speaks of itself, every second and at once when a connection is made.
    pub struct Hello {
        /// The oldest version that the sender understands, and the one that it writes.
        pub versions: (u8, u8),
        /// Which start of the node this is; later than all that it has heard of itself.
        pub boot: u64,
        /// Which process this is: the `boot` that it started with. Of two processes of one node the elder has the smaller.
        pub process: u64,
        /// Its clock: microseconds since 1970.
        pub wall: u64,
        /// The generation and version of its layout.
        pub layout: (u32, u64),
        /// A digest of its bucket properties.
        pub properties: u64,
        /// Keys that it stores.
        pub keys: u64,
        /// Bytes of objects that it stores.
        pub bytes: u64,
        /// What its disk has room for.
        pub room: Room,
        /// The starts of its directory, the present one last; none while that is not stored yet.
        pub lineage: Vec<Start>,
        /// How far it has come.
        pub point: Point,
        /// What it remembers of the receiver.
        pub heard: Option<Standing>,
        /// The receiver's start that the sender last heard of; 0 for none. A hello that names the receiver's
        /// present start answers that start's own.
        pub answers: u64,
        /// How often this start has lost data.
        pub losses: u64,
        /// What it last heard the receiver say of that: only an answer to the last loss says something of the time after.
        pub answers_losses: u64,
        /// Whether all of its partitions count: none is amnesiac or unproven.
        pub counts: bool,
        /// Those that do not, if they are few; none if they are many.
        pub uncounted: Vec<PartitionId>,
        /// For whom it keeps copies.
        pub keeps_for: Vec<NodeId>,
    }

    /// One start of a directory: a random name, and where in the log the next one began. The last start is
    /// open: it ends nowhere yet.
    pub struct Start {
        /// Its name.
        pub id: u64,
        /// The last position that belongs to it; `u64::MAX` while it runs.
        pub end: u64,
    }

    /// How far a node's directory had come, as another remembers it.
    pub struct Standing {
        /// The last point that was told.
        pub point: Point,
        /// The start's number, which is a time: tenures of later starts must be younger.
        pub boot: u64,
        /// The keyed digest by which a remembered standing is told from a damaged one.
        pub seal: u64,
    }

    /// Records of bucket properties.
    pub struct Properties {
        /// The records, as they are stored.
        pub records: Vec<Bytes>,
    }

    /// Answers [`Properties`]: which versions of those records the node has now, durably.
    pub struct PropertiesReply {
        /// What each is for, its version, and its lot.
        pub held: Vec<PropertiesHeld>,
    }

    /// A version of a bucket's or a type's properties.
    pub struct PropertiesHeld {
        /// The bucket or type, encoded.
        pub of: Bytes,
        /// The version.
        pub version: u64,
        /// What its author drew by lot: of two records of one version the greater counts.
        pub lot: u64,
    }

    /// Asks an owner for a page of a partition's keys.
    pub struct Keys {
        /// The request; it names the partition.
        pub header: RequestHeader,
        /// Only keys of this bucket type.
        pub bucket_type: String,
        /// Only keys of this bucket.
        pub bucket: Option<Bytes>,
        /// Only keys placed after this one.
        pub after: Option<Key>,
    }

    /// Answers [`Keys`].
    pub struct KeysReply {
        /// How it went.
        pub header: ReplyHeader,
        /// Keys that have a value.
        pub keys: Vec<Key>,
        /// After which key the next page begins; none after the last.
        pub next: Option<Key>,
    }

    /// Tells a node that another process came with its identity, a copied directory perhaps, and was turned away.
    pub struct Claimed {
        /// Which start the other one was of, if it said so.
        pub boot: Option<u64>,
    }

    /// A copy that was kept for the receiver while it could not be reached.
    pub struct Hint {
        /// The request.
        pub header: RequestHeader,
        /// The key.
        pub key: Key,
        /// The state to merge, as a stored object.
        pub object: Bytes,
    }

    /// Answers [`Hint`]. That it is done means that it will survive a loss of power; whether the replica counts for
    /// anything else is not said.
    pub struct HintReply {
        /// How it went.
        pub header: ReplyHeader,
    }

    /// What members say to each other of the cluster and its members. Never answered as a request is.
    pub struct Gossip {
        /// What is said.
        pub said: gramme_gossip::Message,
    }

    /// Answers a request that the node does not know: it is of an earlier version.
    pub struct Unsupported {
        /// The number of what it does not know.
        pub method: u16,
    }
}

/// Keys added up: how many, and the sum of the digests of their clocks, modulo 2^128.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// How many.
    pub count: u64,
    /// The sum.
    pub sum: u128,
}

gramme_codec::structs! { Sum { count: u64, sum: u128 } }

/// How a request to a replica went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Done, and it will survive a loss of power.
    DoneSynced,
    /// Done, and it will survive the end of the process.
    DoneBuffered,
    /// Nothing to do: the replica has seen the version and what replaced it.
    Covered,
    /// Refused: the version's writer is over and what it wrote is settled.
    Closed,
    /// Too much to do; nothing was done.
    Busy,
    /// The replica cannot prove that it holds what it acknowledged.
    Amnesiac,
    /// The replica takes no writes: its disk is nearly full.
    WriteStopped,
    /// The sender's epoch is old.
    Stale,
    /// The replica is no owner of the partition.
    NotOwner,
    /// The replica's disk failed.
    DiskError,
    /// The version's stamp is too far ahead of the replica's clock.
    Refused,
    /// The replica has not yet compared what it holds with what the others remember of it.
    Unproven,
    /// The key's versions together are more than a replica keeps, or than can be sent.
    TooLarge,
    /// The fallback keeps as much for the owner as it may.
    HintsFull,
    /// A failure that this version does not know.
    Failed,
}

/// When a replica acknowledges a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When it will survive a loss of power.
    Synced,
    /// When it will survive the end of the process.
    Buffered,
}

/// Whether somebody waits for a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Class {
    /// A client does.
    #[default]
    Foreground,
    /// Nobody does: repair, handoff, transfer.
    Background,
}

/// What a node's disk has room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Room {
    /// Everything.
    #[default]
    Enough,
    /// Only what makes room: deletes, and repairs that bring no value.
    Low,
    /// Nothing.
    None,
}

gramme_codec::enums! {
    Status {
        DoneSynced = 1,
        DoneBuffered = 2,
        Covered = 3,
        Closed = 4,
        Busy = 5,
        Amnesiac = 6,
        WriteStopped = 7,
        Stale = 8,
        NotOwner = 9,
        DiskError = 10,
        Refused = 11,
        Unproven = 12,
        TooLarge = 13,
        HintsFull = 14,
        Failed = 255,
    } | Failed
    Durability { Synced = 1, Buffered = 2 }
    Class { Foreground = 1, Background = 2 } | Background
    Room { Enough = 1, Low = 2, None = 3 } | Low
}

numbered! {
    /// Any message between nodes.
    pub enum PeerMessage {
        /// See [`Hello`].
        Hello(Hello) = 1,
        /// See [`Read`].
        Read(Read) = 2,
        /// See [`ReadReply`].
        ReadReply(ReadReply) = 3,
        /// See [`Write`].
        Write(Write) = 4,
        /// See [`WriteReply`].
        WriteReply(WriteReply) = 5,
        /// See [`Repair`].
        Repair(Repair) = 6,
        /// See [`Forward`].
        Forward(Box<Forward>) = 7,
        /// See [`ForwardReply`].
        ForwardReply(Box<ForwardReply>) = 8,
        /// See [`Properties`].
        Properties(Properties) = 9,
        /// See [`PropertiesReply`].
        PropertiesReply(PropertiesReply) = 10,
        /// See [`Unsupported`].
        Unsupported(Unsupported) = 11,
        /// See [`Keys`].
        Keys(Keys) = 12,
        /// See [`KeysReply`].
        KeysReply(KeysReply) = 13,
        /// See [`Claimed`].
        Claimed(Claimed) = 14,
        /// See [`Gossip`].
        Gossip(Gossip) = 15,
        /// See [`Hint`].
        Hint(Hint) = 16,
        /// See [`HintReply`].
        HintReply(HintReply) = 17,
        /// See [`Roots`].
        Roots(Roots) = 18,
        /// See [`RootsReply`].
        RootsReply(RootsReply) = 19,
        /// See [`Leaves`].
        Leaves(Leaves) = 20,
        /// See [`LeavesReply`].
        LeavesReply(LeavesReply) = 21,
        /// See [`Range`].
        Range(Range) = 22,
        /// See [`RangeReply`].
        RangeReply(RangeReply) = 23,
        /// See [`Close`].
        Close(Close) = 24,
        /// See [`CloseReply`].
        CloseReply(CloseReply) = 25,
        /// See [`AskLayout`].
        AskLayout(AskLayout) = 26,
        /// See [`NewLayout`].
        NewLayout(Box<NewLayout>) = 27,
        /// See [`Ballot`].
        Ballot(Ballot) = 28,
        /// See [`AskProgress`].
        AskProgress(AskProgress) = 29,
        /// See [`Progress`].
        Progress(Progress) = 30,
        /// See [`TakeOver`].
        TakeOver(TakeOver) = 31,
        /// See [`TakeOverReply`].
        TakeOverReply(TakeOverReply) = 32,
    }
}

impl PeerMessage {
    /// Whether it answers a request, so that it may be dropped with it.
    #[must_use]
    pub const fn is_reply(&self) -> bool {
        matches!(
            self,
            Self::ReadReply(_)
                | Self::WriteReply(_)
                | Self::ForwardReply(_)
                | Self::PropertiesReply(_)
                | Self::Unsupported(_)
                | Self::KeysReply(_)
                | Self::HintReply(_)
                | Self::RootsReply(_)
                | Self::LeavesReply(_)
                | Self::RangeReply(_)
                | Self::CloseReply(_)
                | Self::Progress(_)
                | Self::TakeOverReply(_)
        )
    }
}
