#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod client;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod message;
pub mod peer;

pub use client::ClientMessage;
pub use message::{OLDEST, VERSION, WireError};
pub use peer::PeerMessage;
