//! The name of one write.

use core::fmt;

/// One start of one node on one partition: a random 64-bit id, drawn anew at every start and never resumed.
///
/// The paper uses the node's name here. A node that comes back with an old disk would then issue counters
/// that it has issued before, and two different writes would carry one name; a random tenure cannot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Actor(pub u64);

impl fmt::Debug for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One write: the `counter`-th of its `actor`, counted from 1 over all keys of the actor's partition.
///
/// ```
/// use gramme_vclock::{Actor, Dot};
/// assert_eq!(Dot::new(Actor(0xab), 17).to_string(), "00000000000000ab:17");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dot {
    /// Who wrote.
    pub actor: Actor,
    /// The write's sequence number, from 1.
    pub counter: u64,
}

impl Dot {
    /// Names write number `counter` of `actor`.
    #[must_use]
    pub const fn new(actor: Actor, counter: u64) -> Self {
        Self { actor, counter }
    }
}

impl fmt::Debug for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.actor, self.counter)
    }
}

impl fmt::Display for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
