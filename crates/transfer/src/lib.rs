#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod arrivals;
mod departures;
mod stages;

pub use arrivals::Arrivals;
pub use departures::Departures;
pub use stages::{Report, Stages};

/// The generation and version of a layout; of two the greater is later.
pub type Rank = (u32, u64);
