//! Causality for a leaderless store: dots, causal contexts and dotted version vector sets.
//!
//! # The problem
//!
//! Any replica takes a write at any time, so two versions of one key are either *ordered* (one writer had
//! read the other version) or *concurrent* (a person or an application has to merge them). Clocks on the
//! wall cannot tell the two apart. The paper (Dynamo, SOSP 2007, section 4.4) uses vector clocks, one entry
//! per coordinating node; but a plain version vector names a whole *prefix* of a node's writes and no single
//! write, so two clients that write through the same node with the same stale context either lose one value
//! or breed a false sibling for every write ("sibling explosion", which Riak lived with until 2.0).
//!
//! # The idea
//!
//! Name each write by a [`Dot`] (who wrote, and the write's sequence number), keep with each live value its own
//! dot, and keep one [`Context`] for the key: everything that was ever merged into it. That is the dotted
//! version vector set of Preguiça, Baquero and others (2012), here [`VersionSet`].
//!
//! Two rules of this crate differ from the textbook, because a counter here is shared by *all keys* of a
//! partition and an actor is a random *tenure* of a process, never resumed:
//!
//! * a vector entry `(A:17)` on a key means "every dot of A up to 17 **that belongs to this key**", while a
//!   dot outside the vector is exact. The two stay distinguishable, and joining contexts never closes a gap;
//! * what a replica has *seen* is a separate, exact [`SeenSet`], which rises from live and outside dots only
//!   and never from a vector entry.
//!
//! # What is not here
//!
//! No clock, no randomness, no IO, no `std`: `no_std` with `alloc`. The clock truncation of the paper's
//! section 4.4 is [`truncation`], for the paper's sake; a store that used it would make its replicas
//! permanently unequal.
//!
//! ```
//! use gramme_vclock::{Actor, Context, Dot, VersionSet};
//! let (sx, sy) = (Actor(1), Actor(2));
//! let mut cart = VersionSet::new();
//! cart.put(&Context::new(), Dot::new(sx, 1), "book");
//! let read = cart.context().clone();
//! // Two writers go on from the same read, through two nodes: neither had seen the other.
//! let mut other = cart.clone();
//! cart.put(&read, Dot::new(sx, 2), "book, pen");
//! other.put(&read, Dot::new(sy, 1), "book, ink");
//! cart.merge(&other);
//! assert_eq!(cart.values().collect::<Vec<_>>(), [&"book, pen", &"book, ink"]);
//! // A third has read both, and replaces both.
//! let read = cart.context().clone();
//! cart.put(&read, Dot::new(sx, 3), "book, pen, ink");
//! assert_eq!(cart.len(), 1);
//! ```
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
