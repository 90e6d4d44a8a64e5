#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod budget;

pub use budget::Budget;
