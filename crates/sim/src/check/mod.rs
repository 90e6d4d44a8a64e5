//! The checkers: pure functions of a history, which know no clock of the system's own.
//!
//! One file each. `Story` is what they share: who replaced whom, and what was destroyed when. A loss is
//! excused only by arithmetic over what was acknowledged and what was destroyed, never by a list.

mod clocks;
mod contexts;
mod dots;
mod expired;
mod flicker;
mod fresh;
mod invented;
mod lost;
mod properties;
mod seen_by_simulator;
mod sessions;
mod siblings;
mod staleness;
mod story;

use std::fmt;

use crate::history::{History, WriteId};

pub use staleness::Staleness;
use story::Story;

/// What kind of promise was broken. Each has an exit code of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// An acknowledged write is gone, and nobody who had read it replaced it.
    Durability,
    /// A read began after the acknowledgement and showed neither the write nor what replaced it.
    Freshness,
    /// A value is there that a write had replaced.
    Causality,
    /// A value was shown that nobody wrote, or that its writer was told was not written.
    Integrity,
    /// False siblings: one had replaced the other.
    Siblings,
    /// One dot named two writes, or one write had two dots.
    Naming,
    /// What is there changed though nobody wrote.
    Stability,
    /// Replicas differ after everything was healed and read.
    Convergence,
    /// Something grows without a bound, or never ends.
    Bounds,
    /// Nothing is done though nothing stands in the way.
    Progress,
    /// A node did what it never may.
    Conduct,
    /// The code panicked.
    Panic,
    /// An acknowledged change of properties is gone.
    Properties,
    /// In a last-write-wins bucket a write hides one that began long after it was over.
    Clocks,
    /// A read shows less than its session had read or written.
    Sessions,
    /// A value is shown that has expired.
    Expiry,
}

impl Promise {
    /// The exit code of a run that breaks it.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        10 + self as u8
    }

    /// The checker's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Durability => "lost",
            Self::Freshness => "fresh",
            Self::Causality => "contexts",
            Self::Integrity => "invented",
            Self::Siblings => "siblings",
            Self::Naming => "dots",
            Self::Stability => "flicker",
            Self::Convergence => "equal",
            Self::Bounds => "bounds",
            Self::Progress => "progress",
            Self::Conduct => "conduct",
            Self::Panic => "panic",
            Self::Properties => "properties",
            Self::Clocks => "clocks",
            Self::Sessions => "sessions",
            Self::Expiry => "expired",
        }
    }
}

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub promise: Promise,
    /// On which key, if on one, and when.
    pub at: Option<(usize, u64)>,
    /// What happened.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.promise.name(), self.what)
    }
}

/// All broken promises of a run, and how stale its reads were.
#[must_use]
pub fn check(history: &History) -> (Vec<Violation>, Staleness) {
    let story = Story::new(history);
    let mut found = Vec::new();
    lost::check(&story, &mut found);
    let staleness = fresh::check(&story, &mut found);
    contexts::check(&story, &mut found);
    invented::check(&story, &mut found);
    siblings::check(&story, &mut found);
    dots::check(&story, &mut found);
    flicker::check(&story, &mut found);
    properties::check(&story, &mut found);
    clocks::check(&story, &mut found);
    sessions::check(&story, &mut found);
    expired::check(&story, &mut found);
    seen_by_simulator::check(&story, &mut found);
    (found, staleness)
}

fn violation(promise: Promise, key: usize, at: u64, what: String) -> Violation {
    Violation { promise, at: Some((key, at)), what: format!("{what} (key {key})") }
}

fn name(id: WriteId) -> String {
    format!("write {id}")
}

#[cfg(test)]
mod tests;
