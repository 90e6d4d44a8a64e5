//! Figure 3 of the paper: how an object's clock evolves through three nodes.

use gramme_vclock::{Actor, Dot, VersionSet, VersionVector};

const SX: Actor = Actor(1);
const SY: Actor = Actor(2);
const SZ: Actor = Actor(3);

/// A put as a coordinator does it, on the state that its client has read.
fn put(read: &VersionSet<&'static str>, dot: Dot, value: &'static str) -> VersionSet<&'static str> {
    let mut next = read.clone();
    next.put(read.context(), dot, value);
    next.raise_own_entry(dot);
    next
}

fn vector(entries: &[(Actor, u64)]) -> VersionVector {
    entries.iter().copied().collect()
}

#[test]
fn figure_3() {
    let d1 = put(&VersionSet::new(), Dot::new(SX, 1), "D1");
    assert_eq!(d1.context().vector(), &vector(&[(SX, 1)]));
    let d2 = put(&d1, Dot::new(SX, 2), "D2");
    assert_eq!(d2.context().vector(), &vector(&[(SX, 2)]));
    let d3 = put(&d2, Dot::new(SY, 1), "D3");
    assert_eq!(d3.context().vector(), &vector(&[(SX, 2), (SY, 1)]));
    let d4 = put(&d2, Dot::new(SZ, 1), "D4");
    assert_eq!(d4.context().vector(), &vector(&[(SX, 2), (SZ, 1)]));

    // Neither descends from the other: a reader sees both, with a context that summarises them.
    assert!(!d3.context().includes(d4.context()) && !d4.context().includes(d3.context()));
    let mut both = d3.clone();
    both.merge(&d4);
    assert_eq!(both.values().copied().collect::<Vec<_>>(), ["D3", "D4"]);
    assert_eq!(both.context().vector(), &vector(&[(SX, 2), (SY, 1), (SZ, 1)]));

    // The reader reconciles them, and Sx coordinates the write.
    let d5 = put(&both, Dot::new(SX, 3), "D5");
    assert_eq!(d5.context().vector(), &vector(&[(SX, 3), (SY, 1), (SZ, 1)]));
    assert_eq!(d5.values().copied().collect::<Vec<_>>(), ["D5"]);

    // A node that still has D1 or D2 learns that both are gone.
    for old in [d1, d2] {
        let mut node = old;
        node.merge(&d5);
        assert_eq!(node, d5);
    }
}
