#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod adoption;
mod antientropy;
mod config;
mod coordinator;
mod cx;
mod expiry;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod handoff;
mod io;
mod node;
mod pace;
mod place;
mod plan;
mod replica;
mod request;
mod scrub;
mod serve;
mod shard;
mod start;
mod stats;
mod timers;
mod transfer;

pub use config::{Bounds, Config, LEAF_BITS};
pub use coordinator::Secrets;
pub use io::{Change, Effect, Input, LoadFailed, Now, Page, Recovered, RecoveredPartition, Rows, Ticket};
pub use node::{
    BucketDurability, DEFAULT_TYPE, LWW_TYPE, Properties, PropertiesChange, PropertiesPatch, Scope,
};
pub use place::{Place, Space};
pub use plan::{PlanChange, PlanCommand, PlanError, PlanNode, PlanView};
pub use replica::Replica;
pub use request::{
    Blocked, ClientPut, ClientRequest, Cursor, Exchange, Explained, Found, Held, Holder, KeysPage, Loss,
    NodeStatus, PropertiesError, Response, Scrubbing, Status, Stored,
};
pub use shard::Backlog;
pub use start::StartError;
pub use stats::Stats;
pub use transfer::{TransferNode, TransfersView};
