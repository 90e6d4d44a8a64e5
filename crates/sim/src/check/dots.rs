//! One dot names one write, and one write has one dot: a second dot is a put that was applied twice.

use super::{Promise, Story, Violation, name, violation};

pub(super) fn check(story: &Story<'_>, found: &mut Vec<Violation>) {
    for ((partition, dot), writes) in &story.history.dots {
        if writes.len() > 1 {
            let what = format!("dot {dot} of partition {partition} names the write-ids {writes:x?}");
            found.push(Violation { promise: Promise::Naming, at: None, what });
        }
    }
    for (id, dots) in &story.history.names {
        if let Some(write) = story.known(*id).filter(|_| dots.len() > 1) {
            let what = format!("{} was stored more than once, as {dots:?}", name(*id));
            found.push(violation(Promise::Naming, write.key, write.sent, what));
        }
    }
}
