//! The partition-aware native client of Gramme, over QUIC.
//!
//! # The problem
//!
//! A load balancer in front of a store costs a hop, and doubles the 99.9th percentile (the paper, section
//! 6.4). And a client library that hides siblings behind "the value" loses somebody's write.
//!
//! # The idea
//!
//! The client fetches the ring from any node and asks an owner of the key directly; every answer says whether
//! the ring is still current. A read returns *all* siblings with a [`Context`]; a write that sends the
//! context replaces what was read and nothing else. [`Bucket::update`] is the whole loop: read, merge, write.
//!
//! A read is hedged and retried. A write is sent again only if it is certain that nothing of it had left; if
//! no answer comes the error says that its outcome is unknown ([`Error::is_outcome_unknown`]).
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use gramme_client::{Client, Config};
//! let config = Config::from_cluster_json("cluster.json".as_ref())?;
//! let client = Client::connect(config).await?;
//! let carts = client.bucket("carts");
//! carts.put("alice", "book").send().await?;
//! let read = carts.get("alice").send().await?;
//! for sibling in read.siblings() {
//!     println!("{:?}", sibling.body());
//! }
//! carts.put("alice", "book, pen").context(read.context()).send().await?;
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod bucket;
mod client;
mod cluster_json;
mod connections;
mod error;
mod value;

pub use bucket::{Bucket, Get, Put};
pub use client::{Client, Config};
pub use cluster_json::ConfigError;
pub use error::{ConnectError, Error, UpdateError};
pub use gramme_quorum::{GetError, PutError, Receipt, Threshold};
pub use gramme_ring::NodeId;
pub use gramme_transport::{CredentialError, Credentials};
pub use value::{Context, Read, Sibling, Value, Written};
