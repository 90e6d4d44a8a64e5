//! The bytes of every message between nodes, and between nodes and native clients.
//!
//! # The problem
//!
//! Formats outlive the code that wrote them, and a cluster is upgraded node by node. A format that is
//! whatever a serialisation library makes of today's structs changes when somebody renames a field.
//!
//! # The idea
//!
//! Each message is a struct whose fields are encoded in order, little-endian, by a handful of rules
//! ([`codec`]); a frame names its message by a number that is never used again for another
//! ([`PeerMessage::method`], [`ClientMessage::method`]), and each body begins with the format's version. Golden
//! files hold all of them to the letter. Lengths are checked against what is there before anything is
//! allocated; trailing bytes are an error.
//!
//! Requests and replies already carry what moving partitions and dead tenures will need: generation, epoch,
//! slot, life, known tenures, floors.
//!
//! # What is not here
//!
//! No framing and no connection: that is the transport's, which does not know this format.
#![forbid(unsafe_code)]

pub mod client;
pub mod codec;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod outcome;
pub mod peer;

pub use client::ClientMessage;
pub use codec::WireError;
pub use peer::PeerMessage;

/// The version of all bodies.
pub const VERSION: u8 = 1;
