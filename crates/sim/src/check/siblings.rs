//! Siblings are concurrent: no more of them than concurrent writers.
//!
//! Of two values that are shown together, neither's writer had read the other, itself or through others. That
//! holds for every read at any r: whoever holds the newer one knows what it replaced. In last-write-wins
//! buckets there is one value at most.

use super::{Promise, Story, Violation, name, violation};
use crate::history::Kind;

pub(super) fn check(story: &Story<'_>, found: &mut Vec<Violation>) {
    for read in story.history.reads.iter().chain(&story.history.last) {
        if story.kind(read.key) == Kind::Lww && read.values.len() > 1 {
            let what = format!("{} values in a last-write-wins bucket", read.values.len());
            found.push(violation(Promise::Siblings, read.key, read.sent, what));
        }
        if read.by_fallbacks {
            // One keeps an old copy for one owner and a new one for another, and knows not that the one replaced the other
            // where owners have forgotten that.
            continue;
        }
        if story.is_of_two_processes(read) {
            continue;
        }
        let known: Vec<_> = read.values.iter().copied().filter(|id| story.known(*id).is_some()).collect();
        for &older in &known {
            for &newer in known.iter().filter(|newer| **newer > older) {
                if story.is_ancestor(older, newer) {
                    let what =
                        format!("{} was shown beside {}, whose writer had read it", name(older), name(newer));
                    found.push(violation(Promise::Siblings, read.key, read.sent, what));
                }
            }
        }
    }
}
