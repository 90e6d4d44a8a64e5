//! One value per replicated request: whom it asks, when it is done, what it leaves to mend.
//!
//! # The problem
//!
//! The paper (sections 4.5 and 5) runs a state machine per request: a get asks N replicas and answers at R, a
//! put answers at W, and both go on listening, for what arrives late says which replica must be repaired.
//! Codebases in this field spread that over callbacks and shared maps, and then count one acknowledgement
//! twice, or answer "not found" because a disk failed.
//!
//! # The idea
//!
//! Riak's `riak_kv_get_core`: a pure value that is told of each reply and answers with a verdict.
//! [`GetRequest`] and [`PutRequest`] know neither clock nor network. They count over a *list* of replica sets,
//! each with its own threshold (one today, two while a partition moves), and over attributes of an
//! acknowledgement: node and slot, primary or fallback, zone, synced or not.
//!
//! # What is not here
//!
//! No messages, no timers, no storage; nobody here merges into a replica.
#![forbid(unsafe_code)]

mod error;
mod get;
mod put;
mod threshold;

pub use error::{Blame, Failure, GetError, PutError, Shortfall};
pub use get::{GetReply, GetRequest, GetVerdict, Repair};
pub use put::{Ack, PutNeeds, PutRequest, PutVerdict, Receipt, Tenure};
pub use threshold::{Threshold, ThresholdError};

use gramme_ring::NodeId;

/// Replicas that are counted together, and how many of them are enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaSet {
    /// The owners, slot by slot.
    pub members: Vec<NodeId>,
    /// How many must answer.
    pub need: u8,
}
