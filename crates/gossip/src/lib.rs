#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod detector;
mod exchange;
mod gossip;
mod message;
mod record;
mod table;

pub use detector::Opinion;
pub use gossip::{Config, Effect, Gossip, Input, Stats};
pub use message::Message;
pub use record::{ADDRESS, ADDRESSES, DETAILS, Profile, Record};
