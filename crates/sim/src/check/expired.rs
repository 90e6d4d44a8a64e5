//! A value that has expired is not shown any more; that it is not shown too soon is the other checkers' matter, to whom it
//! counts as deleted only from then on.

use super::{Promise, Story, Violation, name, violation};

pub(super) fn check(story: &Story<'_>, found: &mut Vec<Violation>) {
    for read in story.history.reads.iter().chain(&story.history.last) {
        for &id in &read.values {
            // Whoever was not answered does not know when it was written, and so when it began to live.
            let Some(write) = story.known(id) else { continue };
            let (Some(expires), Some(acked)) = (write.expires, write.acked()) else { continue };
            let latest = expires + (acked - write.sent) + story.history.skew;
            if latest < read.sent {
                let after = read.sent - expires;
                let what = format!("{} was shown {after} µs after it expired", name(id));
                found.push(violation(Promise::Expiry, read.key, read.sent, what));
            }
        }
    }
}
