//! A write of unknown outcome may appear or not, but does not come and go.
//!
//! While things break, a quorum read may or may not meet the one replica that holds such a write. Once all is
//! healed and every replica is asked, what one read showed the next one shows.

use super::{Promise, Story, Violation, violation};

pub(super) fn check(story: &Story<'_>, found: &mut Vec<Violation>) {
    for key in 0..story.history.keys.len() {
        let mut reads = story.history.last.iter().filter(|read| read.key == key);
        let Some(first) = reads.next() else { continue };
        if let Some(other) = reads.find(|read| read.values != first.values) {
            let what = format!("the key showed {:?} and then {:?}, with no write between", first.values, other.values);
            found.push(violation(Promise::Stability, key, first.answered, what));
        }
    }
}
