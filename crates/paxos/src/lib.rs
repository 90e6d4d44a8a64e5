#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod message;
mod paxos;
mod proposer;
mod voter;

pub use message::{Ballot, Message};
pub use paxos::{Config, Effect, Input, Paxos};
pub use voter::Vote;
