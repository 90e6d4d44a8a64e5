//! A write of unknown outcome may appear or not, but does not come and go.
//!
//! Nothing is shown that a crash could take back: in an `fsync` bucket, what one read showed is there in the
//! end, or was replaced by someone who had read it, unless a disk that may have been the only one to hold it
//! was destroyed. (Between the two a quorum may or may not meet the replica that holds it.) And once all is
//! healed and every replica is asked, what one read showed the next one shows.

use std::collections::BTreeSet;

use super::{Promise, Story, Violation, name, violation};
use crate::history::{Kind, ReadRecord};

pub(super) fn check(story: &Story<'_>, found: &mut Vec<Violation>) {
    for key in 0..story.history.keys.len() {
        let mut reads = story.history.last.iter().filter(|read| read.key == key);
        let Some(first) = reads.next() else { continue };
        if let Some(other) = reads.find(|read| read.values != first.values) {
            let what = format!(
                "the key showed {:?} and then {:?}, with no write between",
                first.values, other.values
            );
            found.push(violation(Promise::Stability, key, first.answered, what));
        }
        if story.kind(key) == Kind::Fsync {
            check_shown(story, first, found);
        }
    }
}

fn check_shown(story: &Story<'_>, last: &ReadRecord, found: &mut Vec<Violation>) {
    let mut seen = BTreeSet::new();
    for read in story.history.reads.iter().filter(|read| read.key == last.key) {
        for &id in read.values.iter().filter(|id| story.known(**id).is_some()) {
            let is_new = seen.insert(id);
            if is_new && !story.is_accounted(&last.values, id, last.answered) && !story.lost_a_disk(id) {
                let what = format!("{} was shown, and is gone", name(id));
                found.push(violation(Promise::Stability, last.key, read.answered, what));
            }
        }
    }
}
