//! Interleavings that have a name.

use gramme_sim::Scenario;

/// A put's message that was held back over its coordinator's end arrives all the same, and changes nothing
/// for whoever reads and writes meanwhile.
#[test]
fn a_late_write_of_an_ended_process_is_a_sibling_and_no_more() {
    let mut cluster = Scenario::new(3);
    cluster.hold("Write", 0, 1);
    cluster.hold("Write", 0, 2);
    let lost = cluster.put(0, "key", b"", 1);
    cluster.wait(10_000);
    cluster.crash(0);
    assert_eq!(cluster.stored(lost), None);
    let second = cluster.put(1, "key", b"", 2);
    let context = cluster.stored(second).expect("two nodes are up");
    assert_eq!(cluster.release(), 2);
    cluster.wait(10_000);
    // Whoever wrote second had not read the first: both are there, and one that has read both replaces both.
    let read = cluster.get(2, "key", 2);
    let (values, both) = cluster.found(read).expect("two nodes are up");
    assert_eq!(values, [1, 2]);
    let stale = cluster.put(1, "key", &context, 3);
    cluster.stored(stale).expect("two nodes are up");
    let merged = cluster.put(2, "key", &both, 4);
    cluster.stored(merged).expect("two nodes are up");
    cluster.start(0);
    let read = cluster.get(0, "key", 3);
    assert_eq!(cluster.found(read).expect("all are up").0, [3, 4]);
}

/// The reply to a put of an earlier process must not count for one of the present process.
#[test]
fn a_reply_to_an_earlier_process_counts_for_nothing() {
    let mut cluster = Scenario::new(3);
    cluster.hold("WriteReply", 1, 0);
    cluster.hold("WriteReply", 2, 0);
    let first = cluster.put(0, "key", b"", 1);
    cluster.wait(50_000);
    cluster.crash(0);
    cluster.start(0);
    assert_eq!(cluster.stored(first), None);
    cluster.hold("Write", 0, 1);
    cluster.hold("Write", 0, 2);
    let second = cluster.put(0, "other", b"", 2);
    cluster.wait(50_000);
    // Only the replies go out: the writes stay where they are, so nobody else has the second value.
    cluster.crash(1);
    cluster.crash(2);
    cluster.release();
    assert_eq!(cluster.stored(second), None);
}

/// All power goes at once after an acknowledgement, and the value is there.
#[test]
fn an_acknowledged_value_survives_the_power_of_all() {
    let mut cluster = Scenario::new(3);
    for value in 1..=20 {
        let put = cluster.put(value as usize % 3, "key", b"", value);
        cluster.stored(put).expect("all are up");
        (0..3).for_each(|node| cluster.cut_power(node));
        (0..3).for_each(|node| cluster.start(node));
    }
    let read = cluster.get(0, "key", 2);
    assert_eq!(cluster.found(read).expect("all are up").0, (1..=20).collect::<Vec<_>>());
}

/// A node with an empty disk in place of its own counts for nothing, and says so.
#[test]
fn a_lost_disk_is_noticed() {
    let mut cluster = Scenario::new(3);
    let put = cluster.put(0, "key", b"", 1);
    cluster.stored(put).expect("all are up");
    cluster.wait(3_000_000);
    cluster.lose_disk(1);
    cluster.start(1);
    assert!(cluster.stats(1).expect("it runs").amnesiac_partitions > 0);
    cluster.crash(2);
    // One of the two that are left cannot prove anything: a quorum is not there, rather than wrong.
    let read = cluster.get(0, "key", 2);
    assert_eq!(cluster.found(read), None);
    let read = cluster.get(0, "key", 1);
    assert_eq!(cluster.found(read).expect("one is well").0, [1]);
}
