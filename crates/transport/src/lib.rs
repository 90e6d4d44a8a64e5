//! QUIC between nodes, and between nodes and native clients.
//!
//! # The problem
//!
//! The natural way to speak QUIC, a stream per request, costs three to four times as much processor time as
//! a long-lived one, and quinn's defaults trust everybody: unlimited connection windows, tens of thousands of
//! half-open handshakes.
//!
//! # The idea
//!
//! A [`Link`] is one connection with two long-lived streams, control and data. A sender appends its frame to
//! a buffer; one task swaps the buffer and writes all that has gathered. A reader takes many chunks at once
//! and hands on all frames in them. A value over 64 KiB gets a stream of its own, so that it holds nobody up.
//! Buffers are bounded by bytes and frames; a full one says [`SendError::Busy`] at once.
//!
//! Both sides have certificates of the cluster's own authority. One URI in the certificate names the cluster
//! and the role, `gramme://CLUSTER/node/ID` or `gramme://CLUSTER/client/NAME`; a node's id is the hash of its
//! public key. Nodes and clients speak different protocols (ALPN), and a client's certificate does not open
//! the nodes'.
//!
//! # What is not here
//!
//! No message's meaning: bodies are bytes. No state machine: whoever owns the events decides. This is the
//! only crate that names quinn or rustls.
#![forbid(unsafe_code)]

mod caller;
mod endpoint;
mod frame;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod identity;
mod lane;
mod link;
#[cfg(feature = "memory")]
pub mod memory;
mod pki;
mod settings;

pub use caller::{CallError, Caller, ServerMessage};
pub use endpoint::{BindError, ConnectError, Endpoint};
pub use frame::{Frame, FrameError, Head, Kind, MAX_FRAME};
pub use identity::{CredentialError, Credentials, Role};
pub use link::{Held, Link, LinkEvent, LinkId, SendError};
pub use pki::{Authority, Issued, PkiError, node_id_of};
pub use settings::Protocol;
