//! One value per replicated request: whom it asks, when it is done, what it leaves to repair.
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
//! [`GetRequest`] and [`PutRequest`] know neither clock nor network. They count *seats*, a slot of a replica set
//! once, whoever answers for it ([`Seat`]): over one set, or over two while a partition moves, each with its
//! own threshold; and attributes of an acknowledgement: owner or fallback, zone, synced or not. A fallback can
//! take a vacant seat, a replica that turns out to count for nothing is discounted, and a put goes on at a new
//! epoch from zero.
//!
//! # What is not here
//!
//! No messages, no timers, no storage; nobody here merges into a replica.
#![forbid(unsafe_code)]

mod error;
mod get;
mod put;
mod roll;
mod threshold;

pub use error::{Blame, ContextError, Failure, GetError, PutError, Shortfall};
pub use get::{GetReply, GetRequest, GetVerdict, Repair};
pub use put::{Ack, PutNeeds, PutRequest, PutVerdict, Receipt, Tenure};
pub use roll::{MAX_SLOTS, ReplicaSet, Seat, Sets};
pub use threshold::{Threshold, ThresholdError};
