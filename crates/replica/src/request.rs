//! What clients ask, and what they are answered.

use bytes::Bytes;
use gramme_gossip::Opinion;
use gramme_object::{Content, Expiry, Key, Object};
use gramme_quorum::{Failure, GetError, PutError, Receipt, Threshold};
use gramme_ring::{Layout, NodeId, PartitionId};
use gramme_vclock::Dot;
use gramme_wire::peer::Room;

use crate::node::{Properties, PropertiesChange, Scope};
use crate::place::Place;
use crate::plan::{PlanCommand, PlanError, PlanView};
use crate::shard::Backlog;
use crate::transfer::TransfersView;

/// A client's request to this node.
#[derive(Clone, Debug)]
pub enum ClientRequest {
    /// Read a key.
    Get {
        /// The key.
        key: Key,
        /// R.
        r: Threshold,
        /// How many owners must answer.
        pr: Threshold,
        /// How long the client waits, in milliseconds.
        timeout: u32,
        /// Whether fallbacks may stand in for owners; as the bucket says if this does not.
        sloppy: Option<bool>,
        /// A context to compare with what is found, see [`Found::is_covered`]; empty for none.
        against: Bytes,
        /// Contexts of this key, as earlier answers gave them: the answer must have all that they cover.
        session: Vec<Bytes>,
    },
    /// Write or delete a key.
    Put(ClientPut),
    /// A page of the keys of a bucket type, in the order of their places. Weak: of each partition one owner
    /// is asked. Costly: every row of the partition is read.
    Keys {
        /// The bucket's type.
        bucket_type: String,
        /// Only this bucket.
        bucket: Option<Bytes>,
        /// The page before, if there was one.
        after: Option<Cursor>,
        /// How long the client waits, in milliseconds.
        timeout: u32,
    },
    /// Read the properties of a bucket or a type.
    Properties(Scope),
    /// Change the properties of a bucket or a type on every node.
    SetProperties {
        /// Whose.
        scope: Scope,
        /// What to change.
        change: PropertiesChange,
        /// How long the client waits, in milliseconds.
        timeout: u32,
    },
    /// What each node that may hold something of a key holds of it.
    Explain {
        /// The key.
        key: Key,
        /// How long to wait for others, in milliseconds.
        timeout: u32,
    },
    /// What this node knows of the cluster.
    Status,
    /// What would be given up if an administrator accepted this node's losses.
    Losses,
    /// An administrator accepts that what this node has lost, and nobody else has, is gone: it counts again.
    AcceptLoss,
    /// A node has joined, and listens there.
    Admit {
        /// Which.
        node: NodeId,
        /// Its addresses.
        addresses: Vec<String>,
    },
    /// Plan a change of who owns what, or have it decided.
    Plan(PlanCommand),
    /// Who belongs to the cluster, and who owns what.
    Ring,
    /// How far partitions are that move. All members are asked, for half a second at most.
    Transfers,
}

impl ClientRequest {
    /// What kind of request it is.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Get { .. } => "Get",
            Self::Put(_) => "Put",
            Self::Keys { .. } => "Keys",
            Self::Properties(_) => "Properties",
            Self::SetProperties { .. } => "SetProperties",
            Self::Explain { .. } => "Explain",
            Self::Status => "Status",
            Self::Losses => "Losses",
            Self::AcceptLoss => "AcceptLoss",
            Self::Admit { .. } => "Admit",
            Self::Plan(_) => "Plan",
            Self::Ring => "Ring",
            Self::Transfers => "Transfers",
        }
    }
}

/// A client's put or delete.
#[derive(Clone, Debug)]
pub struct ClientPut {
    /// The key.
    pub key: Key,
    /// What an earlier answer gave; empty for none.
    pub context: Bytes,
    /// The value; `None` deletes.
    pub content: Option<Content>,
    /// When the value expires.
    pub expiry: Expiry,
    /// The version whose value this brings again, for another expiry: refused where it is known to have been replaced or to
    /// have expired, and where something is that the context does not cover.
    pub touched: Option<Dot>,
    /// W.
    pub w: Threshold,
    /// How many owners must acknowledge.
    pub pw: Threshold,
    /// How many acknowledgements must survive a loss of power.
    pub dw: Threshold,
    /// How long the client waits, in milliseconds.
    pub timeout: u32,
    /// Whether to answer with what is stored.
    pub return_body: bool,
    /// Whether fallbacks may stand in for owners; as the bucket says if this does not.
    pub sloppy: Option<bool>,
    /// The client's own id and the put's number there, if it has them: a duplicate is answered as the first.
    pub identity: Option<(u64, u64)>,
}

/// The answer to a [`ClientRequest`].
#[derive(Clone, Debug)]
pub enum Response {
    /// To a get.
    Get(Result<Found, GetError>),
    /// To a put or delete.
    Put(Result<Stored, PutError>),
    /// To a question for keys.
    Keys(Result<KeysPage, GetError>),
    /// To a question for properties.
    Properties(Result<Properties, PropertiesError>),
    /// To a change of properties.
    SetProperties(Result<(), PropertiesError>),
    /// To a question for the status.
    Status(Status),
    /// To a question for what nodes hold.
    Explained(Result<Explained, GetError>),
    /// To a question for losses, and to their acceptance: the partitions that may lack something.
    Losses(Vec<Loss>),
    /// To the word that a node has joined.
    Admitted,
    /// To a command about a plan: what it comes to.
    Plan(Result<PlanView, PlanError>),
    /// To a question for the ring.
    Ring(Box<Layout>),
    /// To a question for transfers.
    Transfers(TransfersView),
}

/// A partition of this node that may lack what it acknowledged, and what is not known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Which.
    pub partition: PartitionId,
    /// Keys that this node has of it.
    pub keys: u64,
    /// Its other owners with which all has not been compared since.
    pub not_compared: Vec<NodeId>,
    /// Nodes that keep copies for its owners, or may.
    pub may_keep: Vec<NodeId>,
}

/// What a get found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What the reader has now read, sealed.
    pub context: Bytes,
    /// The versions; none if nobody has written the key.
    pub object: Object,
    /// How many owners are among those that it was heard from and that count. Fallbacks alone may show what owners know
    /// to be replaced.
    pub owners: u8,
    /// Whether the context that was given to compare covers every live version.
    pub is_covered: bool,
}

/// Where a listing of keys stands: everything up to here has been listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub(crate) partition: PartitionId,
    /// The last row that was looked at; `None` where the partition begins.
    pub(crate) after: Option<Place>,
}

/// Some keys, and where to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeysPage {
    /// Keys that have a value, each once.
    pub keys: Vec<Key>,
    /// For the next page; `None` after the last.
    pub next: Option<Cursor>,
}

/// A put that was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// What the writer has read and its own write, sealed.
    pub context: Bytes,
    /// What was known when it was answered.
    pub receipt: Receipt,
    /// With `return_body`, what is stored.
    pub object: Option<Object>,
}

/// What the nodes hold of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// The key's partition.
    pub partition: PartitionId,
    /// Its epoch.
    pub epoch: u64,
    /// Why the key has not forgotten what was replaced, if it has something to forget: the owners that have not seen it
    /// all, as far as the asked node knows, which must be one of them.
    pub blocked: Option<Vec<Blocked>>,
    /// Owners by slot, then those that may stand in, in the order of the preference list.
    pub holders: Vec<Holder>,
}

/// An owner that keeps a key from forgetting what was replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// Which.
    pub node: NodeId,
    /// Whether it has said what it has seen, and that was not all; otherwise it has said nothing since the asked node's
    /// start.
    pub lacks: bool,
}

/// What one node holds of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Which.
    pub node: NodeId,
    /// The slot that it owns; nothing for one that may stand in.
    pub slot: Option<u8>,
    /// What this node thinks of it.
    pub state: Opinion,
    /// What it holds: of an owner its copy, of a fallback what it keeps for owners.
    pub held: Held,
}

/// What a node has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// This; an empty object if it knows of nothing.
    Copy {
        /// The versions.
        object: Object,
        /// Why the copy counts for nothing, if it does.
        uncounted: Option<Failure>,
    },
    /// Nothing useful, and why.
    Unknown(Failure),
}

/// Why a bucket's properties were not read or changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PropertiesError {
    /// There is no such bucket type. Nothing was changed.
    #[error("there is no bucket type '{0}'")]
    UnknownType(String),
    /// A property has a value that it cannot have. Nothing was changed.
    #[error("{0}")]
    Invalid(String),
    /// Not every node has acknowledged. Those that have will tell the others; the change takes effect there
    /// as they hear of it.
    #[error(
        "not every node acknowledged the change in time; missing: {}; it takes effect there when they are back",
        list(missing)
    )]
    Unacknowledged {
        /// The nodes that did not.
        missing: Vec<NodeId>,
    },
    /// Another change was made at the same time and won. This one has no effect; make it again.
    #[error("another change of properties was made at the same time and won; make this one again")]
    Conflict,
    /// Another change of the same bucket, or too many others, are being made through this node. Nothing was changed.
    #[error("other changes of properties are under way on this node; try again")]
    Busy,
    /// As many buckets have properties of their own as there may be. Nothing was changed.
    #[error(
        "{limit} buckets have properties of their own already; give buckets a type with the properties wanted"
    )]
    TooMany {
        /// How many there may be.
        limit: usize,
    },
}

fn list(nodes: &[NodeId]) -> String {
    nodes.iter().map(NodeId::to_string).collect::<Vec<_>>().join(", ")
}

/// What a node knows of its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The node itself.
    pub node: NodeId,
    /// N.
    pub replicas: u8,
    /// R of the default bucket type.
    pub r: Threshold,
    /// W of the default bucket type.
    pub w: Threshold,
    /// The layout's version.
    pub layout: u64,
    /// A digest of the bucket properties: nodes with the same have the same.
    pub properties: u64,
    /// A digest of what is known of the members: nodes with the same know the same.
    pub members: u64,
    /// How many partitions there are.
    pub partitions: u32,
    /// How many of this node's own may lack what they acknowledged.
    pub amnesiac: u64,
    /// Bytes a second that background work may take, and what it may take at most.
    pub background: (u64, u64),
    /// How far going through all rows has come, if that is under way.
    pub scrubbing: Option<Scrubbing>,
    /// Keys that have something to forget, once every owner has seen it.
    pub reclaim_waiting: u64,
    /// The owners of such keys that cannot be reached, and so say nothing of what they have seen.
    pub reclaim_blocked_by: Vec<NodeId>,
    /// Who must still say that it keeps nothing for this node before these can count again.
    pub waits_for: Vec<NodeId>,
    /// Every member.
    pub nodes: Vec<NodeStatus>,
}

/// What a node knows of one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// Which.
    pub id: NodeId,
    /// Whether it answers, as this node sees it; always, to itself.
    pub state: Opinion,
    /// How long it has been so, in microseconds.
    pub since: u64,
    /// How old the figures below are, in microseconds; `None` if it has never said any.
    pub heard: Option<u64>,
    /// Keys that it stores.
    pub keys: u64,
    /// Bytes of objects that it stores.
    pub bytes: u64,
    /// What its disk has room for.
    pub room: Room,
    /// Whether all its partitions count: none is amnesiac, or unproven since its start.
    pub counts: bool,
    /// By how many microseconds its clock is off, if that is far.
    pub clock_off: Option<u64>,
    /// Partitions that it owns.
    pub partitions: u32,
    /// What the node that was asked keeps for it, to be handed on.
    pub hints: Backlog,
    /// How far that has come, if it is under way: copies handed on, and since how many microseconds.
    pub handing_on: Option<(u64, u64)>,
    /// The exchange that is under way with it, if one is.
    pub exchange: Option<Exchange>,
}

/// How far this node has gone through all that it stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scrubbing {
    /// Partitions that are done.
    pub done: u64,
    /// All that are gone through.
    pub total: u64,
    /// Since how many microseconds it goes.
    pub age: u64,
}

/// How far the comparison with another replica has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Partitions and leaves that differ and are still to be looked at.
    pub partitions: u64,
    /// See [`Self::partitions`].
    pub leaves: u64,
    /// Keys that were mended.
    pub keys: u64,
    /// Since how many microseconds it goes.
    pub age: u64,
}
