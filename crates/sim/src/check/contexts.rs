//! A put with a context replaces what its writer had read, for good.
//!
//! So a context covers all that was returned with it: what an acknowledged write replaced, itself or through
//! others, is not shown by any later read that must meet that write, in the same session or another. (That a
//! context covers nothing more is the other checkers' finding: what it covered by mistake would be lost.)

use super::{Promise, Story, Violation, name, violation};

pub(super) fn check(story: &Story<'_>, found: &mut Vec<Violation>) {
    for read in story.history.reads.iter().chain(&story.history.last) {
        for &id in read.values.iter().filter(|id| story.known(**id).is_some()) {
            let by = story
                .burials(id)
                .iter()
                .find(|burial| burial.at < read.sent && story.must_meet(burial.by, burial.copies, read));
            if let Some(burial) = by {
                let what = format!(
                    "{} was shown to a read that began {} µs after {} had replaced it",
                    name(id),
                    read.sent - burial.at,
                    name(burial.by)
                );
                found.push(violation(Promise::Causality, read.key, read.sent, what));
            }
        }
    }
}
