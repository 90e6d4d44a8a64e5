//! An acknowledged write survives, or was replaced by a write whose writer had read it.
//!
//! Judged by what all replicas together show in the end. Where as many copies were destroyed as were
//! acknowledged, the write may be gone. In last-write-wins buckets a concurrent write may win.

use super::{Promise, Story, Violation, name, violation};
use crate::history::{Fate, Kind};

pub(super) fn check(story: &Story<'_>, found: &mut Vec<Violation>) {
    let last = |key: usize| story.history.last.iter().find(|read| read.key == key);
    for (id, write) in (1..).zip(&story.history.writes) {
        let Fate::Acked { copies, .. } = write.fate else { continue };
        // A key that cannot be read in the end is another checker's finding.
        let Some(last) = last(write.key) else { continue };
        if write.is_delete || story.kind(write.key) == Kind::Lww || story.destroyed(id, u64::MAX) >= copies {
            continue;
        }
        if !story.is_accounted(&last.values, id, last.answered) {
            let what = format!("{} was acknowledged by {copies} and is gone", name(id));
            found.push(violation(Promise::Durability, write.key, write.sent, what));
        }
    }
}
