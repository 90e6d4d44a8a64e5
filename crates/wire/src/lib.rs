//! The bytes of every message between nodes, and between nodes and native clients.
//!
//! # The problem
//!
//! Formats outlive the code that wrote them, and a cluster is upgraded node by node. A format that is
//! whatever a serialisation library makes of today's structs changes when somebody renames a field.
//!
//! # The idea
//!
//! Each message is a struct whose fields are encoded in order by the rules of `gramme-codec`; a frame names
//! its message by a number that is never used again for another ([`PeerMessage::method`],
//! [`ClientMessage::method`]), and each body begins with its sender's version. A later version adds messages
//! and trailing fields; an earlier one skips the fields and answers `Unsupported` to the messages. Golden
//! files hold all of them to the letter.
//!
//! Requests and replies already carry what moving partitions and dead tenures will need: generation, epoch,
//! seat, life, known tenures, floors.
//!
//! # What is not here
//!
//! No framing and no connection: that is the transport's, which does not know this format.
#![forbid(unsafe_code)]

pub mod client;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod message;
pub mod peer;

pub use client::ClientMessage;
pub use message::{OLDEST, VERSION, WireError};
pub use peer::PeerMessage;
