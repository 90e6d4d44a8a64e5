//! One whole node as one state machine.
//!
//! # The problem
//!
//! Coordination, replication and storage meet in one place, and in every codebase of this kind that place
//! grows until nobody can say what it does under a crash between two of its lines (Riak's
//! `riak_kv_vnode.erl`, quinn's `connection/mod.rs`). And the faults that matter (the whole cluster losing
//! power, a reply of a former life, a disk that fails a sync) are the ones a test on real machines never
//! times right.
//!
//! # The idea
//!
//! [`Replica::step`] takes the time and one [`Input`] and appends [`Effect`]s. It owns no clock, no source of
//! randomness but a seed, no socket, file or thread; the same replica runs in the `gramme` binary and, many
//! at once, in the simulator. It is made of parts that cannot reach into each other; what a part may touch
//! beside itself stands in the signature:
//!
//! | part | is |
//! |---|---|
//! | `replica` | the step: routes an input to its part, and what the shard has done to whoever asked |
//! | `cx` | what every part is handed: configuration, time, randomness, counters, timers, effects |
//! | `place` | where a key belongs, worked out once |
//! | `node` | what there is one of per node: who owns what, bucket properties, peers, and lineage: noticing that the directory is older than what was acknowledged |
//! | `shard` | the only part that changes what is stored: objects with what is staged, partitions, batches |
//! | `coordinator` | requests that this node coordinates or hands on: gets, puts, listings |
//! | `serve` | what other coordinators ask of this node |
//!
//! All writes take one path: coordinator, replica write and repair end in the shard, which merges over what
//! is staged. A read of a key that has a batch under way waits for that batch, so nothing is ever shown that a
//! crash could take back. The shard calls nobody: it says what it has done, and `replica` hands it over.
//!
//! # What is not here
//!
//! No tokio, no quinn, no files. Membership is the founding list; sloppy quorums, hints and anti-entropy are
//! not built yet.
#![forbid(unsafe_code)]

mod config;
mod coordinator;
mod cx;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod io;
mod node;
mod place;
mod replica;
mod request;
mod serve;
mod shard;
mod start;
mod stats;
mod timers;

pub use config::{Bounds, Config, LEAF_BITS};
pub use coordinator::Secrets;
pub use io::{Change, Effect, Input, LoadFailed, Now, Page, Recovered, RecoveredPartition, Ticket};
pub use node::{
    BucketDurability, DEFAULT_TYPE, LWW_TYPE, Properties, PropertiesChange, PropertiesPatch, Scope,
};
pub use place::{Place, Space};
pub use replica::Replica;
pub use request::{
    ClientPut, ClientRequest, Cursor, Found, KeysPage, NodeStatus, PropertiesError, Response, Status, Stored,
};
pub use shard::RecordError;
pub use start::StartError;
pub use stats::Stats;
