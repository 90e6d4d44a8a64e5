//! Where a key lives: the keyspace, its partitions, who owns them, and in which order a key's nodes are asked.
//!
//! # The problem
//!
//! Every node and every client has to name the same N nodes for a key without asking anyone, and a node that
//! comes or goes must move little more than its share. Consistent hashing with random tokens (the paper's
//! strategy 1) does that, but its load is uneven, its ranges are split at random places, and moving one means
//! scanning another's.
//!
//! # The idea
//!
//! The paper's strategy 3 (section 6.2): the hash space is cut into Q equal partitions, fixed and many; each
//! has N owners; a node owns its share of Q×N slots. A partition is a prefix of the hash ([`PartitionId`]),
//! so a later doubling of Q moves nothing. Where the paper draws tokens at random, [`plan`] places slots on
//! purpose: distinct nodes first, then zones, then weights, then least movement. Its result, a [`Layout`], is
//! data that nodes carry and agree on; nobody recomputes it.
//!
//! The paper's three strategies are kept in [`strategies`] to reproduce its figure 8.
//!
//! # What is not here
//!
//! No membership, no health, no network: a preference list names nodes, whatever state they are in.
//! `no_std` with `alloc`.
//!
//! ```
//! use gramme_ring::{plan, Keyspace, Member, NodeId, PlanRequest};
//! let members: Vec<_> = (1..=5).map(|id| Member::new(NodeId(id))).collect();
//! let planned = plan(&PlanRequest { members: &members, replicas: 3, depth: 6, previous: None })?;
//! let hash = Keyspace::new([7; 32]).hash(b"carts/alice");
//! let partition = planned.layout.partition_of(hash);
//! assert_eq!(planned.layout.owners(partition).len(), 3);
//! // Every node is on the preference list; the first three are the owners.
//! assert_eq!(planned.layout.preference_list(partition).len(), 5);
//! # Ok::<(), gramme_ring::PlanError>(())
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod apportion;
mod codec;
mod ids;
mod keyspace;
mod layout;
mod plan;
pub mod strategies;

pub use ids::{NodeId, ParseNodeIdError};
pub use keyspace::{KeyHash, Keyspace, MAX_DEPTH, PartitionId};
pub use layout::{Layout, LayoutError, Member};
pub use plan::{PlanError, PlanRequest, Planned, plan};
