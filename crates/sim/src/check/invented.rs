//! No value that nobody wrote to the key, and none whose writer was told for certain that it was not stored.

use super::{Promise, Story, Violation, name, violation};
use crate::history::Fate;

pub(super) fn check(story: &Story<'_>, found: &mut Vec<Violation>) {
    for read in story.history.reads.iter().chain(&story.history.last) {
        for &id in &read.values {
            let what = match story.known(id).filter(|write| write.key == read.key) {
                None => "was shown, and nobody wrote it to this key",
                Some(write) if write.is_delete => "was shown as a value, and is a delete",
                Some(write) if write.sent > read.answered => "was shown before it was sent",
                Some(write) if write.fate == Fate::Refused => {
                    "was shown, and its writer was told that it was not stored"
                }
                Some(_) => continue,
            };
            found.push(violation(Promise::Integrity, read.key, read.sent, format!("{} {what}", name(id))));
        }
    }
}
