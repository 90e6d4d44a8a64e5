//! Messages between native clients and nodes.

use bytes::Bytes;
use gramme_object::{Content, Expiry, Key};
use gramme_quorum::{GetError, PutError, Receipt, Threshold};
use gramme_ring::{Layout, NodeId};

use crate::message::{messages, numbered};

messages! {
    /// Asks for the ring.
    pub struct Ring {
        /// The version that the client has; 0 for none.
        pub version: u64,
    }

    /// Answers [`Ring`].
    pub struct RingReply {
        /// The cluster's name.
        pub cluster: String,
        /// What places keys.
        pub placement_key: [u8; 32],
        /// Each node's addresses.
        pub addresses: Vec<(NodeId, Vec<String>)>,
        /// The layout.
        pub layout: Layout,
    }

    /// Reads a key.
    pub struct Get {
        /// The key.
        pub key: Key,
        /// R.
        pub r: Threshold,
        /// How many owners.
        pub pr: Threshold,
        /// How long the client waits, in milliseconds.
        pub timeout: u32,
        /// Whether fallbacks may stand in for owners; as the bucket says if this does not.
        pub sloppy: Option<bool>,
        /// Contexts of this key that the answer must have all of.
        pub session: Vec<Bytes>,
    }

    /// What a get found.
    pub struct Found {
        /// What the reader has now read; opaque, for a later put of this key.
        pub context: Bytes,
        /// The versions, as a stored object.
        pub object: Bytes,
    }

    /// Answers [`Get`].
    pub struct GetReply {
        /// The version of the node's ring.
        pub ring: u64,
        /// What was found. A key that nobody has written has an object without versions.
        pub outcome: Result<Found, GetError>,
    }

    /// Writes or deletes a key.
    pub struct Put {
        /// The client's own random id.
        pub origin: u64,
        /// The put's number there; a duplicate gets the first one's answer.
        pub request: u64,
        /// The key.
        pub key: Key,
        /// What an earlier answer gave; empty for none.
        pub context: Bytes,
        /// The value with its headers; `None` deletes.
        pub content: Option<Content>,
        /// When it expires.
        pub expiry: Expiry,
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

    /// A put that was acknowledged.
    pub struct Stored {
        /// What the writer has read and its own write; opaque, for a later put of this key.
        pub context: Bytes,
        /// What was known when it was answered.
        pub receipt: Receipt,
        /// With `return_body`, the versions as a stored object.
        pub object: Option<Bytes>,
    }

    /// Answers [`Put`].
    pub struct PutReply {
        /// The version of the node's ring.
        pub ring: u64,
        /// The put's outcome.
        pub outcome: Result<Stored, PutError>,
    }

    /// Answers a message that the node does not know: it is of an earlier version.
    pub struct Unsupported {
        /// The number of what it does not know.
        pub method: u16,
    }
}

numbered! {
    /// Any message between a native client and a node.
    pub enum ClientMessage {
        /// See [`Ring`].
        Ring(Ring) = 1,
        /// See [`RingReply`].
        RingReply(RingReply) = 2,
        /// See [`Get`].
        Get(Get) = 3,
        /// See [`GetReply`].
        GetReply(GetReply) = 4,
        /// See [`Put`].
        Put(Put) = 5,
        /// See [`PutReply`].
        PutReply(PutReply) = 6,
        /// See [`Unsupported`].
        Unsupported(Unsupported) = 7,
    }
}
