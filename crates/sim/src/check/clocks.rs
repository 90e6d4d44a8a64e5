//! In a last-write-wins bucket an acknowledged write is not hidden by one that was long over when it began.
//!
//! The last writer is told by clocks, and clocks differ: by some seconds they may be wrong, and which of two
//! writes wins is then open. What a node with a clock far ahead has written must not win for as long as its
//! clock was ahead.

use super::{Promise, Story, Violation, name, violation};
use crate::history::{Kind, WriteRecord};

/// By how much two believed stamps may be the wrong way round, and how long a write takes at most, in
/// microseconds.
const OPEN: u64 = 14_000_000;

pub(super) fn check(story: &Story<'_>, found: &mut Vec<Violation>) {
    let history = story.history;
    // Where data was destroyed the later one may rightly be gone.
    if !history.damage.is_empty() {
        return;
    }
    // What waited in a node that froze for long was written, and stamped, when it woke.
    let is_over = |write: &WriteRecord| {
        write.acked().is_some() || history.lasting_since.is_none_or(|since| write.sent + OPEN < since)
    };
    for read in history.last.iter().filter(|read| history.keys[read.key].kind == Kind::Lww) {
        for &id in &read.values {
            let Some(old) = history.write(id).filter(|write| is_over(write)) else { continue };
            let is_later = |write: &WriteRecord| {
                write.key == read.key && write.acked().is_some() && write.sent > old.sent + OPEN
            };
            if let Some((hidden, write)) = (1..).zip(&history.writes).find(|(_, write)| is_later(write)) {
                let after = write.sent - old.sent;
                let what = format!("{} hides {}, which began {after} µs after it", name(id), name(hidden));
                found.push(violation(Promise::Clocks, read.key, read.sent, what));
            }
        }
    }
}
