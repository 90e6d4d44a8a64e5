//! In a last-write-wins bucket an acknowledged write is not hidden by one that was long over when it began.
//!
//! The last writer is told by clocks, and clocks differ: by some seconds they may be wrong, and which of two
//! writes wins is then open. What a node with a clock far ahead has written must not win for as long as its
//! clock was ahead.

use super::{Promise, Story, Violation, name, violation};
use crate::history::Kind;

/// By how much two believed stamps may be the wrong way round, and how long a write takes at most, in
/// microseconds.
const OPEN: u64 = 14_000_000;

pub(super) fn check(story: &Story<'_>, found: &mut Vec<Violation>) {
    // Where data was destroyed the later one may rightly be gone.
    if !story.history.damage.is_empty() {
        return;
    }
    let is_lww = |key: usize| story.history.keys[key].kind == Kind::Lww;
    for read in story.history.last.iter().filter(|read| is_lww(read.key)) {
        for shown in read.values.iter().filter_map(|id| Some((*id, story.history.write(*id)?))) {
            let (id, old) = shown;
            let is_later = |write: &crate::history::WriteRecord| {
                write.key == read.key && write.acked().is_some() && write.sent > old.sent + OPEN
            };
            if let Some((hidden, write)) = (1..).zip(&story.history.writes).find(|(_, write)| is_later(write))
            {
                let what = format!(
                    "{} hides {}, which began {} µs after it",
                    name(id),
                    name(hidden),
                    write.sent - old.sent
                );
                found.push(violation(Promise::Clocks, read.key, read.sent, what));
            }
        }
    }
}
