//! A read in a session shows all that the session had read and written, or what replaced it. A version that was lost
//! with a disk or the power counts as replaced where its dot was.

use super::{Promise, Story, Violation, name, violation};
use crate::history::Kind;

pub(super) fn check(story: &Story<'_>, found: &mut Vec<Violation>) {
    for read in &story.history.reads {
        if story.kind(read.key) == Kind::Lww {
            continue;
        }
        for &id in &read.session {
            let is_shown = story.is_accounted(&read.values, id, read.answered);
            if !story.write(id).is_delete && !is_shown && !story.may_be_gone(id, read.answered) {
                let what = format!("a read whose session knows {} showed {:?}", name(id), read.values);
                found.push(violation(Promise::Sessions, read.key, read.sent, what));
            }
        }
    }
}
