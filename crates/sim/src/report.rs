//! A broken run, told: the operations on the key at fault, in order of time.

use std::fmt::Write as _;

use crate::history::{Fate, History, ReadRecord, WriteId, WriteRecord};

/// Lines that are told before the moment in question, and after it.
const BEFORE: usize = 60;
const AFTER: usize = 10;

/// What happened to a key around the moment `at`, one line for each thing, by when it was sent.
#[must_use]
pub fn story_of(history: &History, key: usize, at: u64) -> String {
    let mut lines: Vec<(u64, String)> = Vec::new();
    for (id, write) in (1..).zip(&history.writes).filter(|(_, write)| write.key == key) {
        lines.push((write.sent, tell_write(id, write)));
    }
    for read in history.reads.iter().chain(&history.last).filter(|read| read.key == key) {
        lines.push((read.sent, tell_read(read)));
    }
    let owners = &history.keys[key].owners;
    for damage in &history.damage {
        if owners.contains(&damage.node) && damage.key.is_none_or(|damaged| damaged == key) {
            let what = if damage.synced { "loses what it had synced" } else { "loses its power" };
            lines.push((damage.at, format!("node {} {what}", damage.node)));
        }
    }
    lines.sort();
    let mut text = format!("key {key}: {:?}, owners {owners:?}\n", history.keys[key].kind);
    let moment = lines.partition_point(|(sent, _)| *sent <= at);
    let first = moment.saturating_sub(BEFORE);
    for (at, line) in lines.into_iter().skip(first).take(BEFORE + AFTER) {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{:>12} {line}", micros(at));
    }
    text
}

fn tell_write(id: WriteId, write: &WriteRecord) -> String {
    let what = if write.is_delete { "deletes" } else { "writes" };
    let fate = match write.fate {
        Fate::Unknown => "unknown".to_owned(),
        Fate::Refused => "refused".to_owned(),
        Fate::Acked { at, copies, fallbacks, synced } => {
            format!(
                "acknowledged at {} by {copies}, {fallbacks} of them fallbacks, {synced} synced",
                micros(at)
            )
        }
    };
    format!("client {} {what} {id}, having read {:?}: {fate}", write.client, write.read)
}

fn tell_read(read: &ReadRecord) -> String {
    let who = if read.client == usize::MAX {
        "the last read".to_owned()
    } else {
        format!("client {}", read.client)
    };
    format!("{who} at r={} shows {:?} at {}", read.r, read.values, micros(read.answered))
}

fn micros(at: u64) -> String {
    format!("{}.{:06}", at / 1_000_000, at % 1_000_000)
}
