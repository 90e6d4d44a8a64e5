#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod compare;
mod machine;
mod peer;

pub use compare::{Differences, compare};
pub use machine::{AntiEntropy, Config, Effect, Input, Stats};
pub use peer::Progress;
