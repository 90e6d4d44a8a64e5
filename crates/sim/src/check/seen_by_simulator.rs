//! What no client sees: the simulator notes it as it happens.

use super::{Promise, Story, Violation};
use crate::history::Broken;

pub(super) fn check(story: &Story<'_>, found: &mut Vec<Violation>) {
    for broken in &story.history.broken {
        let (promise, what) = match broken {
            Broken::Unequal(what) => (Promise::Convergence, what),
            Broken::Unbounded(what) => (Promise::Bounds, what),
            Broken::NoProgress(what) => (Promise::Progress, what),
            Broken::Misbehaved(what) => (Promise::Conduct, what),
        };
        found.push(Violation { promise, at: None, what: what.clone() });
    }
}
