#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod codec;
mod expiry;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod key;
pub mod limits;
mod object;
mod sibling;
mod stamp;

pub use codec::{DecodeError, FORMAT_VERSION};
pub use expiry::Expiry;
pub use key::{Key, KeyError};
pub use object::{Object, clock_bytes};
pub use sibling::{Content, ContentError, Sibling};
pub use stamp::Stamp;
