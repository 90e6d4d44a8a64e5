//! Messages between nodes.

use bytes::Bytes;
use gramme_object::Key;
use gramme_quorum::{PutError, Receipt, Tenure, Threshold};
use gramme_ring::{NodeId, PartitionId};
use gramme_vclock::{Context, Dot};

use crate::codec::{Wire, wire_codes, wire_messages, wire_structs};

wire_structs! {
    /// What every request about a partition begins with.
    pub struct RequestHeader {
        /// The layout's generation; higher after a forced layout.
        pub generation: u32,
        /// The partition's epoch as the sender knows it.
        pub epoch: u64,
        /// The partition.
        pub partition: PartitionId,
        /// The version of the bucket properties that the sender acts on.
        pub properties: u64,
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
        /// The replica's term on the partition.
        pub tenure: Tenure,
        /// The replica's disk life: a random number, drawn anew when data was lost or rolled back.
        pub life: u64,
        /// A digest of the replica's seen-set; 0 where none is given.
        pub seen: u64,
        /// The other members' terms, as far as the replica knows them.
        pub known: Vec<(NodeId, Tenure)>,
        /// What the replica knows to be seen by all; empty for now.
        pub floors: Bytes,
    }

    /// Asks a replica for all it holds of a key.
    pub struct Read {
        /// The request.
        pub header: RequestHeader,
        /// The key.
        pub key: Key,
        /// Dots whose fate the reader needs to know.
        pub asked: Vec<Dot>,
    }

    /// Answers [`Read`].
    pub struct ReadReply {
        /// How it went.
        pub header: ReplyHeader,
        /// The slot that the replica holds.
        pub slot: u8,
        /// How many batches the replica has synced, over all starts.
        pub position: u64,
        /// The stored object, empty if there is none.
        pub object: Bytes,
        /// Which of the asked dots the replica has seen and does not hold live.
        pub covered: Vec<Dot>,
    }

    /// A write on its way to a replica: a new version with what it replaces.
    pub struct Write {
        /// The request.
        pub header: RequestHeader,
        /// The key.
        pub key: Key,
        /// Whose place the receiver takes in the preference list.
        pub slot: u8,
        /// When to acknowledge.
        pub durability: Durability,
        /// The version's name, apart from what its writer had read.
        pub dot: Dot,
        /// Whether `object` is the key's state after the write, its coordinator's entry raised to the dot.
        pub whole: bool,
        /// What the writer had read: this is replaced, and nothing else.
        pub read: Context,
        /// The version itself, as a stored object that holds nothing else; with `whole` all that is beside it state.
        pub object: Bytes,
    }

    /// A whole state that a replica lacks: read repair.
    pub struct Repair {
        /// The request.
        pub header: RequestHeader,
        /// The key.
        pub key: Key,
        /// The slot of the receiver.
        pub slot: u8,
        /// The state to merge, as a stored object.
        pub object: Bytes,
    }

    /// Answers [`Write`] and [`Repair`].
    pub struct WriteReply {
        /// How it went.
        pub header: ReplyHeader,
        /// The slot that the write was for.
        pub slot: u8,
        /// How many batches the replica has synced, over all starts.
        pub position: u64,
    }

    /// A put as its coordinator needs it.
    pub struct Put {
        /// The key.
        pub key: Key,
        /// What the writer has read.
        pub read: Context,
        /// The value with its headers; `None` deletes.
        pub content: Option<Bytes>,
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
        /// Which start of the node this is.
        pub boot: u64,
        /// The version of its layout.
        pub layout: u64,
        /// The version of its bucket properties, and who made them.
        pub properties: (u64, NodeId),
        /// Keys that it stores.
        pub keys: u64,
        /// Bytes of objects that it stores.
        pub bytes: u64,
        /// Whether it takes writes.
        pub writable: bool,
        /// The names of its directory, the present one last; none while they are not stored yet.
        pub lives: Vec<u64>,
        /// How many batches it has synced, over all starts.
        pub position: u64,
        /// What it remembers of the receiver.
        pub heard: Option<Standing>,
    }

    /// How far a node's directory has come.
    pub struct Standing {
        /// The directory's name.
        pub life: u64,
        /// Batches that were synced.
        pub position: u64,
    }

    /// The bucket properties, whole.
    pub struct Properties {
        /// The record, as it is stored.
        pub record: Bytes,
    }

    /// Answers [`Properties`]: which the node has now, durably.
    pub struct PropertiesReply {
        /// Version and author.
        pub version: (u64, NodeId),
    }
}

wire_codes! {
    /// How a request to a replica went.
    pub enum Status {
        /// Done, and it will survive a loss of power.
        DoneSynced = 1,
        /// Done, and it will survive the end of the process.
        DoneBuffered = 2,
        /// Nothing to do: the replica has seen the version and what replaced it.
        Covered = 3,
        /// Refused: the version's writer is over and what it wrote is settled.
        Closed = 4,
        /// Too much to do; nothing was done.
        Busy = 5,
        /// The replica cannot prove that it holds what it acknowledged.
        Amnesiac = 6,
        /// The replica takes no writes: its disk is nearly full.
        WriteStopped = 7,
        /// The sender's epoch is old.
        Stale = 8,
        /// The replica is no owner of the partition.
        NotOwner = 9,
        /// The replica's disk failed.
        DiskError = 10,
        /// The version's stamp is too far ahead of the replica's clock.
        Refused = 11,
    }

    /// When a replica acknowledges a write.
    pub enum Durability {
        /// When it will survive a loss of power.
        Synced = 1,
        /// When it will survive the end of the process.
        Buffered = 2,
    }
}

wire_messages! {
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
    }
}

impl PeerMessage {
    /// Whether it answers a request, so that it may be dropped with it.
    #[must_use]
    pub const fn is_reply(&self) -> bool {
        matches!(
            self,
            Self::ReadReply(_) | Self::WriteReply(_) | Self::ForwardReply(_) | Self::PropertiesReply(_)
        )
    }
}

impl<T: Wire> Wire for Box<T> {
    const MIN_SIZE: usize = T::MIN_SIZE;

    fn encode_to(&self, out: &mut Vec<u8>) {
        self.as_ref().encode_to(out);
    }

    fn parse(input: &mut Bytes) -> Result<Self, crate::WireError> {
        T::parse(input).map(Self::new)
    }
}
