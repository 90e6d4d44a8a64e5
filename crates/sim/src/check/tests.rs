//! Each checker with a history that it accepts, and the nearest one that it does not.

use super::*;
use crate::history::{Broken, Damage, Fate, KeyRecord, Kind, ReadRecord, WriteRecord};

const ACKED: u8 = 2;

fn write(read: &[WriteId], sent: u64, acked: Option<u64>) -> WriteRecord {
    let fate =
        acked.map_or(Fate::Unknown, |at| Fate::Acked { at, copies: ACKED, fallbacks: 0, synced: ACKED });
    WriteRecord { read: read.to_vec(), sent, fate, ..WriteRecord::default() }
}

fn delete(read: &[WriteId], sent: u64) -> WriteRecord {
    WriteRecord { is_delete: true, ..write(read, sent, None) }
}

fn read(values: &[WriteId], sent: u64) -> ReadRecord {
    ReadRecord { r: 2, values: values.to_vec(), sent, answered: sent + 1, ..ReadRecord::default() }
}

/// One key on nodes 0 to 2; the last reads begin at 1,000.
fn history(writes: &[WriteRecord], reads: &[ReadRecord], last: &[WriteId]) -> History {
    let last = ReadRecord { r: 3, ..read(last, 1_000) };
    History {
        replicas: 3,
        keys: vec![KeyRecord { kind: Kind::Fsync, owners: vec![0, 1, 2] }],
        writes: writes.to_vec(),
        reads: reads.to_vec(),
        last: vec![last],
        ..History::default()
    }
}

fn broken(history: &History) -> Vec<Promise> {
    let mut promises: Vec<_> = check(history).0.into_iter().map(|violation| violation.promise).collect();
    promises.dedup();
    promises
}

#[test]
fn an_acknowledged_write_is_there_or_was_replaced_by_a_reader() {
    let two = [write(&[], 1, Some(2)), write(&[], 3, Some(4))];
    assert_eq!(broken(&history(&two, &[], &[1, 2])), []);
    assert_eq!(broken(&history(&two, &[], &[2])), [Promise::Durability]);
    let replaced = [write(&[], 1, Some(2)), write(&[1], 3, None)];
    assert_eq!(broken(&history(&replaced, &[], &[1])), []);
    assert_eq!(broken(&history(&replaced, &[], &[2])), []);
    assert_eq!(broken(&history(&replaced, &[], &[])), [Promise::Durability]);
    let deleted = [write(&[], 1, Some(2)), delete(&[1], 3)];
    assert_eq!(broken(&history(&deleted, &[], &[])), []);
}

#[test]
fn a_loss_is_excused_by_what_was_destroyed_and_by_nothing_less() {
    let mut run = history(&[write(&[], 1, Some(2))], &[], &[]);
    let destroyed = |node, at, synced| Damage { node, since: at, at, key: None, synced, mended: None };
    run.damage = vec![destroyed(0, 5, true)];
    assert_eq!(broken(&run), [Promise::Durability], "one of two copies");
    run.damage = vec![destroyed(0, 5, false), destroyed(1, 5, false), destroyed(2, 5, false)];
    assert_eq!(broken(&run), [Promise::Durability], "it was synced, whoever lost its power");
    run.damage = vec![destroyed(0, 5, true), destroyed(1, 0, true)];
    assert_eq!(broken(&run), [Promise::Durability], "the second before it was written");
    run.damage = vec![destroyed(0, 5, true), destroyed(1, 5, true)];
    assert_eq!(broken(&run), []);
    run.keys[0].kind = Kind::Buffered;
    run.writes[0].fate = Fate::Acked { at: 2, copies: 2, fallbacks: 0, synced: 0 };
    run.damage = vec![destroyed(0, 5, false), destroyed(1, 5, false)];
    assert_eq!(broken(&run), [], "neither copy was synced");
}

/// What was acknowledged before a directory was copied is in both, and a node that lost nothing by it is whole again soon.
#[test]
fn a_copied_directory_excuses_what_was_written_meanwhile() {
    const LATE: u64 = 200_000_000;
    let fate = |at| Fate::Acked { at, copies: 1, fallbacks: 0, synced: 1 };
    let written = |sent, at| WriteRecord { fate: fate(at), ..write(&[], sent, Some(at)) };
    let copied = Damage { node: 0, since: 50, at: 60, key: None, synced: true, mended: None };
    let mut run = history(&[written(1, 2)], &[], &[]);
    run.damage = vec![copied];
    assert_eq!(broken(&run), [Promise::Durability], "both had it");
    run.writes = vec![written(1, 55)];
    assert_eq!(broken(&run), [], "it may have come to the one that went");
    run.writes = vec![written(61, 62)];
    assert_eq!(broken(&run), [Promise::Durability], "there was one again");
    run.writes = vec![WriteRecord {
        fate: Fate::Acked { at: 52, copies: 2, fallbacks: 0, synced: 2 },
        ..written(51, 52)
    }];
    run.last = vec![ReadRecord { r: 3, ..read(&[1], LATE) }];
    run.reads = vec![ReadRecord { r: 2, ..read(&[], 58) }];
    assert_eq!(broken(&run), [], "the other process may be asked");
    run.reads = vec![ReadRecord { r: 2, ..read(&[], LATE) }];
    assert_eq!(broken(&run), [Promise::Freshness], "long after");
}

#[test]
fn a_read_that_must_meet_a_write_shows_it() {
    let one = [write(&[], 1, Some(2))];
    assert_eq!(broken(&history(&one, &[read(&[], 2), read(&[1], 3)], &[1])), []);
    assert_eq!(broken(&history(&one, &[read(&[], 3)], &[1])), [Promise::Freshness]);
    let alone = ReadRecord { r: 1, ..read(&[], 3) };
    assert_eq!(broken(&history(&one, &[alone], &[1])), [], "one of three need not have it");
}

#[test]
fn what_was_replaced_does_not_come_back() {
    let two = [write(&[], 1, Some(2)), write(&[1], 3, Some(4)), write(&[], 5, None)];
    assert_eq!(broken(&history(&two, &[read(&[1], 4)], &[2])), [], "it began before the acknowledgement");
    assert_eq!(broken(&history(&two, &[read(&[1], 5)], &[2])), [Promise::Freshness, Promise::Causality]);
    assert_eq!(broken(&history(&two, &[], &[1, 2])), [Promise::Causality, Promise::Siblings]);
    let through = [write(&[], 1, Some(2)), write(&[1], 3, None), write(&[2], 5, Some(6))];
    assert_eq!(broken(&history(&through, &[], &[1, 3])), [Promise::Causality, Promise::Siblings]);
}

#[test]
fn nothing_is_invented() {
    let one = [write(&[], 1, Some(2))];
    assert_eq!(broken(&history(&one, &[], &[1, 9])), [Promise::Integrity]);
    let refused = [WriteRecord { fate: Fate::Refused, ..write(&[], 1, None) }];
    assert_eq!(broken(&history(&refused, &[], &[1])), [Promise::Integrity]);
    assert_eq!(broken(&history(&[delete(&[], 1)], &[], &[1])), [Promise::Integrity]);
}

#[test]
fn siblings_are_concurrent() {
    let two = [write(&[], 1, None), write(&[1], 3, None)];
    assert_eq!(broken(&history(&two, &[read(&[1, 2], 4)], &[2])), [Promise::Siblings]);
    let mut run = history(&[write(&[], 1, None), write(&[], 3, None)], &[read(&[1, 2], 4)], &[1, 2]);
    assert_eq!(broken(&run), []);
    run.keys[0].kind = Kind::Lww;
    assert_eq!(broken(&run), [Promise::Siblings]);
}

#[test]
fn a_dot_names_one_write_and_a_write_has_one_dot() {
    let mut run = history(&[write(&[], 1, Some(2))], &[], &[1]);
    run.names = [(1, ["a:1".to_owned()].into())].into();
    run.dots = [((0, "a:1".to_owned()), [77].into())].into();
    assert_eq!(broken(&run), []);
    run.dots = [((0, "a:1".to_owned()), [77, 78].into())].into();
    assert_eq!(broken(&run), [Promise::Naming]);
    run.dots.clear();
    run.names = [(1, ["a:1".to_owned(), "b:1".to_owned()].into())].into();
    assert_eq!(broken(&run), [Promise::Naming]);
}

#[test]
fn what_was_shown_stays() {
    let one = [write(&[], 1, None)];
    assert_eq!(broken(&history(&one, &[read(&[], 2), read(&[1], 4), read(&[], 6)], &[1])), []);
    let mut run = history(&one, &[read(&[1], 4)], &[]);
    assert_eq!(broken(&run), [Promise::Stability]);
    run.damage = vec![Damage { node: 1, since: 5, at: 5, key: None, synced: true, mended: None }];
    assert_eq!(broken(&run), [], "the only copy may have been there");
    let mut twice = history(&one, &[], &[1]);
    twice.last.push(ReadRecord { r: 3, ..read(&[], 2_000) });
    assert_eq!(broken(&twice), [Promise::Stability]);
}

#[test]
fn what_the_simulator_saw_is_told() {
    let mut run = history(&[], &[], &[]);
    run.broken = vec![Broken::Unequal(String::new()), Broken::Unbounded(String::new())];
    assert_eq!(broken(&run), [Promise::Convergence, Promise::Bounds]);
    run.broken = vec![Broken::NoProgress(String::new()), Broken::Misbehaved(String::new())];
    assert_eq!(broken(&run), [Promise::Progress, Promise::Conduct]);
}

#[test]
fn staleness_is_measured() {
    let two = [write(&[], 1, Some(2)), write(&[], 1, Some(3))];
    let alone = ReadRecord { r: 1, ..read(&[], 5_000) };
    let (violations, staleness) = check(&history(&two, &[alone, read(&[1, 2], 6_000)], &[1, 2]));
    assert_eq!(violations, []);
    let told = "1 of 2 reads missed an acknowledged write, at most 2 of them, acknowledged up to 4 ms before";
    assert_eq!(staleness.to_string(), told);
}

#[test]
fn an_acknowledged_change_of_properties_stays() {
    let change = |value, sent, ended| crate::history::ChangeRecord { kind: Kind::Fsync, value, sent, ended };
    let with = |changes: &[crate::history::ChangeRecord], value| History {
        changes: changes.to_vec(),
        properties: vec![(Kind::Fsync, Some(value))],
        ..history(&[], &[], &[])
    };
    let acked = change(7, 10, Some((20, true)));
    assert_eq!(broken(&with(std::slice::from_ref(&acked), 7)), []);
    assert_eq!(broken(&with(std::slice::from_ref(&acked), 100)), [Promise::Properties]);
    // One that was not over when it began may have come after it; one that was may not.
    assert_eq!(broken(&with(&[change(6, 5, Some((15, false))), acked.clone()], 6)), []);
    assert_eq!(broken(&with(&[change(6, 5, None), acked.clone()], 6)), []);
    assert_eq!(broken(&with(&[change(6, 5, Some((9, false))), acked], 6)), [Promise::Properties]);
}

#[test]
fn a_write_of_long_ago_does_not_hide_a_later_one_in_a_last_write_wins_bucket() {
    let lww = |writes: &[WriteRecord], last: &[WriteId]| {
        let mut history = history(writes, &[], last);
        history.keys[0].kind = Kind::Lww;
        (history.last[0].sent, history.last[0].answered) = (90_000_000, 90_000_001);
        history
    };
    let long_ago = write(&[], 1, None);
    let soon_after = write(&[], 10_000_000, Some(10_000_010));
    let much_later = write(&[], 20_000_000, Some(20_000_010));
    assert_eq!(broken(&lww(&[long_ago.clone(), soon_after], &[1])), []);
    assert_eq!(broken(&lww(&[long_ago.clone(), much_later.clone()], &[2])), []);
    let mut hidden = lww(&[long_ago, much_later], &[1]);
    assert_eq!(broken(&hidden), [Promise::Clocks]);
    hidden.lasting_since = Some(10_000_000);
    assert_eq!(broken(&hidden), [], "it may have waited in a node that froze for long");
    hidden.lasting_since = Some(5_000_000);
    assert_eq!(broken(&hidden), [Promise::Clocks], "all had woken long before");
}

#[test]
fn what_has_expired_is_not_shown_and_not_missed() {
    let expiring = |expires| WriteRecord { expires: Some(expires), ..write(&[], 10, Some(20)) };
    let run = |expires, reads: &[ReadRecord], last: &[WriteId]| History {
        skew: 5,
        ..history(&[expiring(expires)], reads, last)
    };
    assert_eq!(broken(&run(100, &[read(&[1], 90), read(&[1], 115), read(&[], 95)], &[])), []);
    assert_eq!(
        broken(&run(100, &[read(&[1], 116)], &[])),
        [Promise::Expiry],
        "it lived from 20 on at the latest"
    );
    assert_eq!(broken(&run(100, &[read(&[], 93)], &[])), [Promise::Freshness], "too soon");
    assert_eq!(broken(&run(2_000, &[], &[])), [Promise::Durability]);
    // What replaced it and expired leaves nothing to see either.
    let mut replaced = run(100, &[], &[]);
    replaced.writes.insert(0, write(&[], 1, Some(2)));
    replaced.writes[1].read = vec![1];
    assert_eq!(broken(&replaced), []);
}
