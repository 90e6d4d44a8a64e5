//! The checkers: pure functions of a history, which know no clock and no dot of the system's own.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{History, ReadRecord, WriteId};

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// An acknowledged write is gone, and nobody who had read it replaced it.
    Lost(WriteId),
    /// A read began after the acknowledgement and showed neither the write nor what replaced it.
    StaleRead(WriteId),
    /// A value is there that an acknowledged write had replaced.
    Revived(WriteId),
    /// A value was shown that nobody wrote to this key.
    Invented(WriteId),
    /// A write of which the client was told that it was not done is there.
    RefusedButStored(WriteId),
    /// One dot named two values.
    DotTwice(String),
    /// Replicas differ after everything was healed and read.
    Unequal(String),
}

/// All broken promises of a run.
#[must_use]
pub fn check(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    lost(history, &mut found);
    stale_reads(history, &mut found);
    revived(history, &mut found);
    invented(history, &mut found);
    let twice = history.dots.iter().filter(|(_, values)| values.len() > 1);
    found.extend(twice.map(|((_, dot), _)| Violation::DotTwice(dot.clone())));
    found.extend(history.unequal.iter().cloned().map(Violation::Unequal));
    found
}

/// Who replaced each write: those that had read it.
fn replacers(history: &History) -> BTreeMap<WriteId, Vec<WriteId>> {
    let mut replacers: BTreeMap<WriteId, Vec<WriteId>> = BTreeMap::new();
    for (id, write) in &history.writes {
        for read in &write.read {
            replacers.entry(*read).or_default().push(*id);
        }
    }
    replacers
}

/// The writes that are there, or were rightly replaced by one that is or was. `shown` is what is there now;
/// a delete that may have happened by `until` counts, since it leaves no value to see.
fn accounted(
    history: &History,
    replacers: &BTreeMap<WriteId, Vec<WriteId>>,
    shown: &BTreeSet<WriteId>,
    id: WriteId,
    until: u64,
    visited: &mut BTreeSet<WriteId>,
) -> bool {
    if shown.contains(&id) {
        return true;
    }
    if !visited.insert(id) {
        return false;
    }
    let is_delete = |id: &WriteId| history.writes[id].is_delete;
    let may_be_done = |id: &WriteId| !history.writes[id].refused && history.writes[id].sent <= until;
    let next = replacers.get(&id).into_iter().flatten().filter(|id| may_be_done(id));
    next.into_iter().any(|id| is_delete(id) || accounted(history, replacers, shown, *id, until, visited))
}

fn lost(history: &History, found: &mut Vec<Violation>) {
    let replacers = replacers(history);
    let nothing = BTreeSet::new();
    for (id, write) in &history.writes {
        if write.acked.is_none() || write.is_delete {
            continue;
        }
        let last = history.last.get(&write.key).unwrap_or(&nothing);
        if !accounted(history, &replacers, last, *id, u64::MAX, &mut BTreeSet::new()) {
            found.push(Violation::Lost(*id));
        }
    }
}

/// At R + W > N every read sees every write that was acknowledged before it began.
fn stale_reads(history: &History, found: &mut Vec<Violation>) {
    let replacers = replacers(history);
    let mut acked: BTreeMap<usize, Vec<(u64, WriteId)>> = BTreeMap::new();
    for (id, write) in history.writes.iter().filter(|(_, write)| !write.is_delete) {
        acked.entry(write.key).or_default().extend(write.acked.map(|acked| (acked, *id)));
    }
    for ReadRecord { key, values, sent, answered } in &history.reads {
        for (at, id) in acked.get(key).into_iter().flatten() {
            if at < sent && !accounted(history, &replacers, values, *id, *answered, &mut BTreeSet::new()) {
                found.push(Violation::StaleRead(*id));
            }
        }
    }
}

fn revived(history: &History, found: &mut Vec<Violation>) {
    let replacers = replacers(history);
    for id in history.last.values().flatten() {
        let by = replacers.get(id).into_iter().flatten();
        if by.into_iter().any(|by| history.writes[by].acked.is_some()) {
            found.push(Violation::Revived(*id));
        }
    }
}

fn invented(history: &History, found: &mut Vec<Violation>) {
    let shown = history.reads.iter().map(|read| (read.key, &read.values));
    let last = history.last.iter().map(|(key, values)| (*key, values));
    for (key, values) in shown.chain(last) {
        for id in values {
            match history.writes.get(id).filter(|write| write.key == key) {
                None => found.push(Violation::Invented(*id)),
                Some(write) if write.refused => found.push(Violation::RefusedButStored(*id)),
                Some(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::WriteRecord;

    fn write(read: &[WriteId], sent: u64, acked: Option<u64>) -> WriteRecord {
        WriteRecord { read: read.iter().copied().collect(), sent, acked, ..WriteRecord::default() }
    }

    fn history(writes: &[(WriteId, WriteRecord)], last: &[WriteId]) -> History {
        let last = [(0, last.iter().copied().collect())].into();
        History { writes: writes.iter().cloned().collect(), last, ..History::default() }
    }

    #[test]
    fn a_write_that_nobody_replaced_must_be_there() {
        let writes = [(1, write(&[], 1, Some(2))), (2, write(&[], 3, Some(4)))];
        assert_eq!(check(&history(&writes, &[1, 2])), []);
        assert_eq!(check(&history(&writes, &[2])), [Violation::Lost(1)]);
    }

    #[test]
    fn only_a_reader_may_replace() {
        let writes = [(1, write(&[], 1, Some(2))), (2, write(&[1], 3, Some(4)))];
        assert_eq!(check(&history(&writes, &[2])), []);
        assert_eq!(check(&history(&writes, &[1, 2])), [Violation::Revived(1)]);
        let unknown = [(1, write(&[], 1, Some(2))), (2, write(&[1], 3, None))];
        assert_eq!(check(&history(&unknown, &[1])), []);
        assert_eq!(check(&history(&unknown, &[])), [Violation::Lost(1)]);
    }

    #[test]
    fn reads_must_be_fresh_and_true() {
        let read = |values: &[WriteId], sent| ReadRecord {
            key: 0,
            values: values.iter().copied().collect(),
            sent,
            answered: sent + 1,
        };
        let mut run = history(&[(1, write(&[], 1, Some(2)))], &[1]);
        run.reads = vec![read(&[], 2), read(&[1], 3)];
        assert_eq!(check(&run), []);
        run.reads = vec![read(&[], 3)];
        assert_eq!(check(&run), [Violation::StaleRead(1)]);
        run.reads = vec![read(&[1, 9], 3)];
        assert_eq!(check(&run), [Violation::Invented(9)]);
    }

    #[test]
    fn a_refused_write_must_not_appear() {
        let refused = WriteRecord { refused: true, ..write(&[], 1, None) };
        assert_eq!(check(&history(&[(1, refused)], &[1])), [Violation::RefusedButStored(1)]);
    }
}
