//! In a last-write-wins bucket an acknowledged write is not hidden by one that was long over when it began.
//!
//! The last writer is told by clocks, and clocks differ: by some seconds they may be wrong, and which of two
//! writes wins is then open. What a node with a clock far ahead has written must not win for as long as its
//! clock was ahead.

use super::{Promise, Story, Violation, name, violation};
use crate::history::{Fate, Kind, ReadRecord, WriteRecord};

/// By how much two believed stamps may be the wrong way round, and how long a write takes at most, in
/// microseconds.
const OPEN: u64 = 14_000_000;

pub(super) fn check(story: &Story<'_>, found: &mut Vec<Violation>) {
    let history = story.history;
    // Where data was destroyed the later one may rightly be gone.
    if !history.damage.is_empty() {
        return;
    }
    // What waited in a node that froze for long was written, and stamped, when it woke; in the end all have.
    let is_over = |old: &WriteRecord, later: &WriteRecord| {
        old.acked().is_some()
            || history.lasting_since.is_none_or(|since| old.sent + OPEN < since || since + OPEN < later.sent)
    };
    let reads = history.reads.iter().chain(&history.last);
    for read in reads.filter(|read| history.keys[read.key].kind == Kind::Lww) {
        for &id in &read.values {
            let Some(old) = history.write(id) else { continue };
            let is_later = |write: &WriteRecord| {
                write.key == read.key
                    && write.sent > old.sent + OPEN
                    && is_over(old, write)
                    && must_meet(read, write, history.replicas)
            };
            if let Some((hidden, write)) = (1..).zip(&history.writes).find(|(_, write)| is_later(write)) {
                let after = write.sent - old.sent;
                let what = format!("{} hides {}, which began {after} µs after it", name(id), name(hidden));
                found.push(violation(Promise::Clocks, read.key, read.sent, what));
            }
        }
    }
}

/// Whether a read began after a write was acknowledged, and asked so many that one of them has it.
fn must_meet(read: &ReadRecord, write: &WriteRecord, replicas: u8) -> bool {
    let meets = read.r + write.fate.primaries() > replicas;
    matches!(write.fate, Fate::Acked { at, .. } if at < read.sent && meets)
}
