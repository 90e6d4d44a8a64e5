//! Damaged rows are found, dropped, and come back from others.

use bytes::Bytes;
use gramme_object::{Key, Object};
use gramme_quorum::Seat;
use gramme_replica::{Bounds, Input};
use gramme_ring::PartitionId;
use gramme_vclock::{Actor, Context, Dot};
use gramme_wire::PeerMessage;
use gramme_wire::peer::{Leaves, Repair, Roots};

use crate::bench::*;
use crate::peers::*;

#[test]
fn a_damaged_row_is_dropped_and_its_partition_has_lost_data() {
    let mut bench = bench(3);
    let dot = Dot::new(Actor(2), 1);
    bench.write_from(B, dot, Context::new());
    bench.commit_all();
    let mut again = restarted(&bench, &[&key()]);
    again.drive(2 * SECOND, |_, _, _| None);
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
    bench.drive(2 * SECOND, |_, _, _| None);
    assert_eq!(bench.objects.get(&key()), before.as_ref());
    let stats = bench.replica.stats();
    assert_eq!((stats.rows_damaged, stats.rows_lost, stats.amnesiac_partitions), (1, 0, 0));
}

/// It was not counted as a key.
#[test]
fn keys_are_counted_right_when_a_row_without_versions_is_lost() {
    let mut before = bench(3);
    let other = before.beside();
    let (d, e) = (Dot::new(Actor(2), 1), Dot::new(Actor(3), 1));
    put_row(&mut before, &key(), &value(d), 1);
    put_row(&mut before, &other, &value(e).versions_of(|_| false), 2);
    assert_eq!(before.replica.stats().keys, 1);
    let mut bench = restarted(&before, &[&other]);
    bench.drive(3 * SECOND, |_, _, _| None);
    assert_eq!(bench.replica.stats().rows_lost, 1);
    println!("keys {}", bench.replica.stats().keys);
    // What is there is ended: without overflow checks the counter wraps, with them the node panics.
    let mut read = value(d);
    read.versions_mut().retain(|_, _| false);
    put_row(&mut bench, &key(), &read, 3);
    assert_eq!(bench.replica.stats().keys, 0);
}

/// Its bytes were not known when it went: the next pass counts them.
#[test]
fn bytes_are_counted_right_after_a_row_was_lost() {
    let mut before = bench(3);
    put_row(&mut before, &key(), &value(Dot::new(Actor(2), 1)), 1);
    let mut bench = restarted(&before, &[&key()]);
    bench.drive(3 * SECOND, |_, _, _| None);
    let stats = bench.replica.stats();
    assert_eq!((stats.rows_lost, stats.keys), (1, 0));
    bench.drive(65 * SECOND, |_, _, _| None);
    let stats = bench.replica.stats();
    let (live, stored) = (stats.bytes, started(3, bench.disk.clone(), BOUNDS).replica.stats().bytes);
    assert_eq!((live, stored), (0, 0));
}

/// It may be in memory, and counts until it is known to be lost.
#[test]
fn bytes_are_not_counted_anew_without_a_row_that_cannot_be_read() {
    let mut bench = bench(3);
    let partition = bench.partition();
    let hash = |key: &Key| KEYSPACE.hash(key.as_bytes());
    let keys = (0..).map(|n| Key::new("default", "b", format!("z{n}")).expect("valid"));
    let layout = bench.replica.layout().clone();
    // More than are read at once.
    let keys: Vec<Key> = keys.filter(|key| layout.partition_of(hash(key)) == partition).take(300).collect();
    for (key, counter) in keys.iter().zip(1..) {
        put_row(&mut bench, key, &value(Dot::new(Actor(2), counter)), 1);
    }
    let before = bench.replica.stats().bytes;
    let first = keys.into_iter().min_by_key(hash).expect("a key");
    bench.objects.insert(first, UNREADABLE);
    bench.drive(5 * SECOND, |_, _, _| None);
    let stats = bench.replica.stats();
    assert_eq!((stats.rows_damaged, stats.rows_lost, stats.bytes), (1, 0, before));
}

/// A damaged row in a leaf that is written all the time is found again; the rest is gone through meanwhile.
#[test]
fn a_busy_leaf_does_not_stop_the_scrub() {
    let mut before = bench(3);
    let other = before.beside();
    put_row(&mut before, &key(), &value(Dot::new(Actor(2), 1)), 1);
    put_row(&mut before, &other, &value(Dot::new(Actor(3), 1)), 2);
    let partition = before.partition();
    // A key of the damaged one's leaf that is written all the time.
    let mut keys = (0..).map(|n| Key::new("default", "b", format!("y{n}")).expect("valid"));
    let busy = keys
        .find(|busy| {
            before.replica.layout().partition_of(KEYSPACE.hash(busy.as_bytes())) == partition
                && leaf_of(busy, partition) == leaf_of(&key(), partition)
        })
        .expect("a key");
    let mut bench = restarted(&before, &[&key()]);
    let mut counter = 0;
    let until = bench.now + 600 * SECOND;
    while bench.now < until {
        bench.now = bench.timer.clamp(bench.now + 1, bench.now + SECOND);
        // Under load something is always staged when the leaf's rows are asked for.
        counter += 1;
        let write = |bench: &mut Bench, counter| {
            let dot = Dot::new(Actor(5), counter);
            let mut read = Context::new();
            read.raise(dot.actor, counter - 1);
            let sibling = value(dot).siblings()[0].1.clone();
            let object: Bytes = Object::from_write(&read, dot, sibling).encode().into();
            let repair = Repair { header: bench.header(), key: busy.clone(), seat: Seat::default(), object };
            bench.step(Input::Message { from: B, id: 9, message: PeerMessage::Repair(repair) });
        };
        write(&mut bench, counter);
        bench.step(Input::Timer);
        counter += 1;
        write(&mut bench, counter);
        bench.commit_all();
        bench.sent.clear();
    }
    let stats = bench.replica.stats();
    assert!(
        stats.rows_scrubbed > 20 && stats.scrubs > 2,
        "in ten minutes: {} rows lost, {} passes, {} rows read",
        stats.rows_lost,
        stats.scrubs,
        stats.rows_scrubbed
    );
}

#[test]
fn a_row_without_versions_is_not_damaged() {
    let mut bench = bench(3);
    put_row(&mut bench, &key(), &value(Dot::new(Actor(2), 1)).versions_of(|_| false), 1);
    let (first, last) = (KEYSPACE.hash(key().as_bytes()).0, KEYSPACE.hash(key().as_bytes()).0);
    bench.sent.clear();
    let range = gramme_wire::peer::Range { header: bench.header(), first, last, keys: Vec::new() };
    bench.step(Input::Message { from: B, id: 5, message: PeerMessage::Range(range) });
    bench.commit_all();
    let reply = bench.sent.iter().find_map(|(_, _, message)| match message {
        PeerMessage::RangeReply(reply) => Some(reply.clone()),
        _ => None,
    });
    assert!(!reply.expect("an answer").is_damaged);
}

/// In different partitions: each has two of three copies that count.
#[test]
fn one_damaged_row_on_each_of_two_nodes_leaves_the_cluster_ready() {
    let mut bench = bench(3);
    bench.connect();
    for node in [B, C] {
        bench.greet(node, None, WALL + bench.now);
    }
    assert!(bench.replica.is_ready());
    // `counts` is false as soon as one of a node's partitions does not.
    for node in [B, C] {
        let (properties, answers) = (bench.digest(), bench.replica.boot());
        let uncounted = vec![PartitionId { prefix: node.0 as u32, depth: 3 }];
        let hello = gramme_wire::peer::Hello { properties, answers, counts: false, uncounted, ..greeting() };
        bench.step(Input::Message { from: node, id: 1, message: PeerMessage::Hello(hello) });
    }
    assert!(bench.replica.is_ready(), "no node of the cluster is ready");
}

/// They are of another disk life.
#[test]
fn an_owner_that_lost_a_row_says_so_with_its_leaves() {
    let mut before = bench(3);
    let (other, d) = (before.beside(), Dot::new(Actor(9), 1));
    put_row(&mut before, &key(), &value(Dot::new(Actor(2), 1)), 1);
    put_row(&mut before, &other, &value(d), 2);
    let mut bench = restarted(&before, &[]);
    let partition = bench.partition();
    bench.drive(2 * SECOND, |_, _, _| None);
    let ask = |bench: &mut Bench, message| {
        bench.sent.clear();
        bench.step(Input::Message { from: B, id: 5, message });
        bench.commit_all();
        bench.sent.iter().find(|(to, id, _)| (*to, *id) == (B, 5)).map(|(.., message)| message.clone())
    };
    let roots = ask(&mut bench, PeerMessage::Roots(Roots { digest: 1, seen_of: vec![partition] }));
    let Some(PeerMessage::RootsReply(roots)) = roots else { panic!("{roots:?}") };
    assert!(roots.seen[0].dots.contains(d) && roots.uncounted.is_empty());
    bench.objects.insert(other.clone(), UNREADABLE);
    while bench.replica.stats().rows_lost == 0 {
        bench.drive(SECOND, |_, _, _| None);
    }
    let leaves = ask(&mut bench, PeerMessage::Leaves(Leaves { partitions: vec![partition] }));
    let Some(PeerMessage::LeavesReply(leaves)) = leaves else { panic!("{leaves:?}") };
    assert!(leaves.leaves[0].life != roots.seen[0].life, "{leaves:?} after {roots:?}");
}

/// As long as it is there no tenure of its target's partitions is closed, and no amnesia of theirs ends.
#[test]
fn a_damaged_hinted_copy_goes() {
    let mut bench = with_a_damaged_hint(Bounds { cached: 0, ..BOUNDS });
    bench.drive(1_200 * SECOND, |_, _, _| None);
    let stats = bench.replica.stats();
    assert_eq!(bench.hints.len(), 0, "after 20 minutes: {} hints, {} passes", stats.hints, stats.scrubs);
    assert_eq!((stats.hints_lost, stats.hints), (1, 0));
}

#[test]
fn a_damaged_hinted_copy_that_is_in_memory_is_written_anew() {
    let mut bench = with_a_damaged_hint(BOUNDS);
    bench.drive(60 * SECOND, |_, _, _| None);
    assert!(bench.hints.len() == 1 && bench.hints.values().all(|stored| *stored != UNREADABLE));
    let stats = bench.replica.stats();
    assert_eq!((stats.hints_lost, stats.hints), (0, 1));
}

/// A node that keeps a copy for another, which is damaged on the disk.
fn with_a_damaged_hint(bounds: Bounds) -> Bench {
    let mut bench = started(5, gramme_replica::Recovered::default(), bounds);
    bench.prove();
    let foreign = bench.foreign_key();
    let owners = bench.owners_of(&foreign);
    let partition = bench.replica.layout().partition_of(KEYSPACE.hash(foreign.as_bytes()));
    let header = gramme_wire::peer::RequestHeader { partition, ..bench.header() };
    let dot = Dot::new(Actor(9), 1);
    let object: Bytes = value(dot).encode().into();
    let (seat, durability) = (Seat { set: 0, slot: 1 }, gramme_wire::peer::Durability::Synced);
    let write = gramme_wire::peer::Write { header, key: foreign.clone(), seat, durability, dot, object };
    bench.step(Input::Message { from: owners[0], id: 7, message: PeerMessage::Write(write) });
    bench.commit_all();
    assert_eq!(bench.hints.len(), 1);
    bench.hints.values_mut().for_each(|stored| *stored = UNREADABLE);
    bench.connect();
    bench
}
