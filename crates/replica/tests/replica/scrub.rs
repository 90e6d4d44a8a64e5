//! Damaged rows are found, dropped, and come back from others.

use gramme_object::Key;
use gramme_replica::{Bounds, Input};
use gramme_vclock::{Actor, Context, Dot};

use crate::bench::*;

const SECOND: u64 = 1_000_000;

/// A start on the rows of another bench, one of which is damaged on the disk.
fn damaged(bench: &Bench, key: &Key) -> Bench {
    let mut again = started(3, bench.disk.clone(), Bounds { cached: 0, ..BOUNDS });
    again.objects = bench.objects.clone();
    again.objects.insert(key.clone(), UNREADABLE);
    again.prove();
    again
}

impl Bench {
    fn let_pass(&mut self, micros: u64) {
        let until = self.now + micros;
        while self.now < until {
            self.now = self.timer.clamp(self.now + 1, self.now + SECOND);
            self.step(Input::Timer);
            self.commit_all();
        }
    }
}

#[test]
fn a_damaged_row_is_dropped_and_its_partition_has_lost_data() {
    let mut bench = bench(3);
    let dot = Dot::new(Actor(2), 1);
    bench.write_from(B, dot, Context::new());
    bench.commit_all();
    let mut again = damaged(&bench, &key());
    again.let_pass(2 * SECOND);
    let stats = again.replica.stats();
    assert_eq!((stats.rows_damaged, stats.rows_lost, stats.keys), (1, 1, 0));
    assert_eq!(stats.amnesiac_partitions, 1, "the others are whole");
    assert!(!again.objects.contains_key(&key()));
    // What it had seen it takes again.
    again.write_from(B, dot, Context::new());
    again.commit_all();
    assert_eq!(again.objects.get(&key()), bench.objects.get(&key()));
    assert_eq!(again.replica.stats().keys, 1);
    // A start finds a tree that fits.
    assert_eq!(again.disk.partitions[&again.partition()].total.count, 1);
}

/// What is whole in memory is written anew, and nothing is lost.
#[test]
fn a_damaged_row_that_is_in_memory_is_written_anew() {
    let mut bench = bench(3);
    bench.write_from(B, Dot::new(Actor(2), 1), Context::new());
    bench.commit_all();
    let before = bench.objects.insert(key(), UNREADABLE);
    bench.let_pass(2 * SECOND);
    assert_eq!(bench.objects.get(&key()), before.as_ref());
    let stats = bench.replica.stats();
    assert_eq!((stats.rows_damaged, stats.rows_lost, stats.amnesiac_partitions), (1, 0, 0));
}
