//! What is stored under a key: its siblings with their metadata, and the bytes they are kept and sent as.
//!
//! # The problem
//!
//! A store that is always writable keeps several values under one key until somebody merges them, and a
//! deleted key is not nothing: it is a version that says so, until every replica has seen it. Systems that
//! kept "the value" and bolted siblings and tombstones on later (timers for tombstones, timestamps for
//! siblings) lose data in the seams.
//!
//! # The idea
//!
//! An [`Object`] is a dotted version vector set whose values are [`Sibling`]s; a delete is a sibling with a
//! tombstone flag. Replicas always merge. Last-write-wins is a way to *read* ([`Object::last_writer`]), never
//! a way to merge. An object with a context and no sibling is legal.
//!
//! The stored form carries a version and a checksum and is the same on disk and on the wire.
//!
//! # What is not here
//!
//! No clock and no randomness (a [`Stamp`] and a write-id are given), no IO, no network format.
#![forbid(unsafe_code)]

mod codec;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod key;
pub mod limits;
mod object;
mod sibling;
mod stamp;

pub use codec::{DecodeError, FORMAT_VERSION};
pub use key::{Key, KeyError};
pub use object::{Object, clock_bytes};
pub use sibling::{Content, ContentError, Sibling};
pub use stamp::Stamp;
