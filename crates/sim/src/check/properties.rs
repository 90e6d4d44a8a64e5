//! An acknowledged change of a bucket's properties stays, until a change of the same bucket replaces it that
//! was not over when it began.
//!
//! Each change sets a value that no other does, so what a bucket has in the end names the change that won.

use super::{Promise, Story, Violation};

pub(super) fn check(story: &Story<'_>, found: &mut Vec<Violation>) {
    for &(kind, value) in &story.history.properties {
        let changes = || story.history.changes.iter().filter(move |change| change.kind == kind);
        let winner = changes().find(|change| Some(change.value) == value);
        for lost in changes().filter(|change| matches!(change.ended, Some((_, true)))) {
            // What was answered before the acknowledged one began cannot have come after it.
            let is_overtaken = winner.is_some_and(|winner| {
                winner == lost || winner.ended.is_none_or(|(ended, _)| ended > lost.sent)
            });
            if !is_overtaken {
                let what = format!(
                    "the change of {kind:?} buckets to {} was acknowledged, and is gone: they have {value:?}",
                    lost.value
                );
                let at = lost.ended.map_or(0, |(ended, _)| ended);
                found.push(Violation {
                    promise: Promise::Properties,
                    at: None,
                    what: format!("{what} ({at})"),
                });
            }
        }
    }
}
