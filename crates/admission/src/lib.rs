#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod budget;
mod pace;

pub use budget::Budget;
pub use pace::{Limits, Pace};
