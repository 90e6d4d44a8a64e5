#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod apportion;
mod change;
mod codec;
mod ids;
mod keyspace;
mod layout;
mod plan;
mod step;
pub mod strategies;

pub use change::{Entry, Evidence, Quorums};
pub use ids::{NodeId, ParseNodeIdError};
pub use keyspace::{KeyHash, Keyspace, MAX_DEPTH, PartitionId};
pub use layout::{Layout, LayoutError, Member, Roster};
pub use plan::{PlanError, PlanRequest, Planned, plan};
pub use step::{Move, Step, StepError};
