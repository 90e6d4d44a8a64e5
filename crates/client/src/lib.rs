#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod bucket;
mod client;
mod cluster_json;
mod connections;
mod error;
mod session;
mod value;

pub use bucket::{Bucket, Get, Put};
pub use client::{Client, Config};
pub use cluster_json::ConfigError;
pub use error::{ConnectError, Error, UpdateError};
pub use gramme_quorum::{GetError, PutError, Receipt, Threshold};
pub use gramme_ring::NodeId;
pub use gramme_transport::{CredentialError, Credentials};
pub use session::Session;
pub use value::{Context, Read, Sibling, Value, Written};
