#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod codec;
mod context;
mod dot;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod seen;
pub mod truncation;
mod version_set;
mod version_vector;

pub use context::Context;
pub use dot::{Actor, Dot};
pub use seen::SeenSet;
pub use version_set::VersionSet;
pub use version_vector::VersionVector;
