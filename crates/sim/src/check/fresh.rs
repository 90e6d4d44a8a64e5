//! Where the readers and the writer's acknowledgements must overlap (r + w > N), a read shows every write that
//! was acknowledged before it began, or what replaced it.
//!
//! The promise is for `fsync` buckets; the arithmetic holds for the others as well, less what a loss of power
//! may have taken. Reads that need not overlap are measured, not judged.

use super::{Promise, Staleness, Story, Violation, name, violation};
use crate::history::{Fate, Kind, ReadRecord, WriteId};

pub(super) fn check(story: &Story<'_>, found: &mut Vec<Violation>) -> Staleness {
    let mut staleness = Staleness::default();
    for key in 0..story.history.keys.len() {
        if story.kind(key) != Kind::Lww {
            check_key(story, key, found, &mut staleness);
        }
    }
    staleness
}

/// Goes through a key's acknowledgements and reads in order of time, with those acknowledged writes at hand
/// that no other of them has replaced.
fn check_key(story: &Story<'_>, key: usize, found: &mut Vec<Violation>, staleness: &mut Staleness) {
    let writes = (1..).zip(&story.history.writes).filter(|(_, write)| write.key == key);
    let mut acked: Vec<(u64, WriteId, u8)> = writes
        .filter_map(|(id, write)| match write.fate {
            fate @ Fate::Acked { at, .. } => Some((at, id, fate.primaries())),
            _ => None,
        })
        .collect();
    acked.sort_unstable();
    let mut reads: Vec<&ReadRecord> = story.history.reads.iter().filter(|read| read.key == key).collect();
    reads.sort_by_key(|read| read.sent);
    let mut acked = acked.into_iter().peekable();
    let mut newest: Vec<(u64, WriteId, u8)> = Vec::new();
    for read in reads {
        while let Some(write) = acked.next_if(|(at, ..)| *at < read.sent) {
            let (_, id, copies) = write;
            let replaced = &story.write(id).read;
            newest.retain(|(_, older, weight)| *weight > copies || !replaced.contains(older));
            if !story.write(id).is_delete {
                newest.push(write);
            }
        }
        judge(story, read, &newest, found, staleness);
    }
}

fn judge(
    story: &Story<'_>,
    read: &ReadRecord,
    newest: &[(u64, WriteId, u8)],
    found: &mut Vec<Violation>,
    staleness: &mut Staleness,
) {
    let mut missed = Vec::new();
    for &(at, id, copies) in newest {
        if story.is_accounted(&read.values, id, read.answered) {
            continue;
        }
        missed.push(read.sent - at);
        if story.must_meet(id, copies, read) {
            let what = format!(
                "a read at r={} that began {} µs after {} was acknowledged by {copies} showed {:?}",
                read.r,
                read.sent - at,
                name(id),
                read.values
            );
            found.push(violation(Promise::Freshness, read.key, read.sent, what));
        }
    }
    staleness.note(&missed);
}
