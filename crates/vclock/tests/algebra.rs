//! The algebra of version sets, judged by a model that knows no clocks: whole histories.
//!
//! In the model every write remembers the set of writes that its writer had read, by name, and a replica is
//! the set of writes it has been told of. A write is live where it is known and no known write had read it.

use std::collections::{BTreeMap, BTreeSet};

use gramme_vclock::{Actor, Context, Dot, SeenSet, VersionSet};
use proptest::prelude::*;

const REPLICAS: usize = 3;

type WriteId = u32;

#[derive(Clone, Default)]
struct Oracle {
    /// What the writer of each write had read.
    read: BTreeMap<WriteId, BTreeSet<WriteId>>,
    known: [BTreeSet<WriteId>; REPLICAS],
}

impl Oracle {
    fn live(&self, replica: usize) -> BTreeSet<WriteId> {
        let known = &self.known[replica];
        let replaced = |id: &WriteId| known.iter().any(|other| self.read[other].contains(id));
        known.iter().copied().filter(|id| !replaced(id)).collect()
    }

    /// All that a reader of this replica has read: the live writes and all that they replaced.
    fn reading(&self, replica: usize) -> BTreeSet<WriteId> {
        let known = &self.known[replica];
        known.iter().flat_map(|id| self.read[id].iter().copied().chain([*id])).collect()
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Client reads at a replica.
    Get { client: usize, at: usize },
    /// Client writes through a replica, with the context of its last get or put.
    Put { client: usize, at: usize },
    /// A write without a context.
    Blind { client: usize, at: usize },
    /// The coordinator writes another key: its counter moves on.
    Elsewhere { at: usize },
    /// One replica takes all that another holds.
    Merge { from: usize, to: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let (client, at) = (0..3_usize, 0..REPLICAS);
    prop_oneof![
        2 => (client.clone(), at.clone()).prop_map(|(client, at)| Step::Get { client, at }),
        3 => (client.clone(), at.clone()).prop_map(|(client, at)| Step::Put { client, at }),
        1 => (client, at.clone()).prop_map(|(client, at)| Step::Blind { client, at }),
        1 => at.clone().prop_map(|at| Step::Elsewhere { at }),
        3 => (at.clone(), at).prop_map(|(from, to)| Step::Merge { from, to }),
    ]
}

#[derive(Default)]
struct World {
    oracle: Oracle,
    replicas: [VersionSet<WriteId>; REPLICAS],
    counters: [u64; REPLICAS],
    clients: [(Context, BTreeSet<WriteId>); 3],
    next: WriteId,
}

impl World {
    fn step(&mut self, step: &Step) {
        match *step {
            Step::Get { client, at } => {
                self.clients[client] = (self.replicas[at].context().clone(), self.oracle.reading(at));
            }
            Step::Put { client, at } => self.put(client, at),
            Step::Blind { client, at } => {
                self.clients[client] = Default::default();
                self.put(client, at);
            }
            Step::Elsewhere { at } => self.counters[at] += 1,
            Step::Merge { from, to } => {
                let other = self.replicas[from].clone();
                self.replicas[to].merge(&other);
                let known = self.oracle.known[from].clone();
                self.oracle.known[to].extend(known);
            }
        }
    }

    /// As a coordinator does it: a delta with the new version, its own entry raised where that is allowed.
    fn put(&mut self, client: usize, at: usize) {
        let id = self.next;
        self.next += 1;
        self.counters[at] += 1;
        let dot = Dot::new(Actor(at as u64 + 1), self.counters[at]);
        let (read, ids) = self.clients[client].clone();
        let mut delta = VersionSet::new();
        delta.put(&read, dot, id);
        // The whole state goes along: whoever merges it drops what the raised entry names and it does not hold.
        delta.merge(&self.replicas[at]);
        delta.raise_own_entry(dot);
        self.replicas[at].merge(&delta);
        self.oracle.read.insert(id, ids);
        self.oracle.known[at].insert(id);
        // The client goes on with what it had read and its own write, nothing more.
        self.clients[client].0.insert(dot);
        self.clients[client].1.insert(id);
    }
}

proptest! {
    /// No value is erased that its eraser had not read, none stays that a writer replaced, and no sibling
    /// appears without a concurrent write: after every step the live values are those of the model.
    #[test]
    fn live_versions_are_those_of_the_histories(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::default();
        for step in &steps {
            world.step(step);
            for at in 0..REPLICAS {
                let live: BTreeSet<_> = world.replicas[at].values().copied().collect();
                prop_assert_eq!(live, world.oracle.live(at), "at replica {} after {:?}", at, step);
            }
        }
    }

    /// A context covers every version it was returned with.
    #[test]
    fn a_context_covers_what_was_read(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::default();
        for step in &steps {
            world.step(step);
        }
        for set in &world.replicas {
            prop_assert!(set.dots().all(|dot| set.context().covers(dot)));
        }
    }

    #[test]
    fn merge_is_commutative_associative_and_idempotent(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::default();
        for step in &steps {
            world.step(step);
        }
        let [a, b, c] = world.replicas;
        let merged = |left: &VersionSet<WriteId>, right: &VersionSet<WriteId>| {
            let mut left = left.clone();
            left.merge(right);
            left
        };
        prop_assert_eq!(merged(&a, &b), merged(&b, &a));
        prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)));
        prop_assert_eq!(merged(&a, &a), a.clone());
        prop_assert!(merged(&a, &b).context().includes(a.context()));
    }

    #[test]
    fn contexts_survive_their_encoding(steps in prop::collection::vec(step(), 1..60), cut in 0..64_usize) {
        let mut world = World::default();
        for step in &steps {
            world.step(step);
        }
        for set in &world.replicas {
            let mut bytes = Vec::new();
            set.context().encode(&mut bytes);
            prop_assert_eq!(&Context::decode(&mut bytes.as_slice()).expect("own bytes"), set.context());
            if cut < bytes.len() {
                prop_assert!(Context::decode(&mut &bytes[..cut]).is_err());
            }
        }
    }

    #[test]
    fn decoders_take_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for decoded in Context::decode(&mut bytes.as_slice()).iter() {
            let mut again = Vec::new();
            decoded.encode(&mut again);
            prop_assert_eq!(&again[..], &bytes[..again.len()]);
        }
        for decoded in SeenSet::decode(&mut bytes.as_slice()).iter() {
            let mut again = Vec::new();
            decoded.encode(&mut again);
            prop_assert_eq!(&again[..], &bytes[..again.len()]);
        }
    }

    /// The seen-set is a set of numbers, and nothing else.
    #[test]
    fn a_seen_set_is_the_set_of_what_was_added(ranges in prop::collection::vec((1..80_u64, 0..9_u64), 0..40)) {
        let (mut seen, mut model) = (SeenSet::new(), BTreeSet::new());
        for (first, more) in ranges {
            let fresh = (first..=first + more).filter(|counter| model.insert(*counter)).count() > 0;
            prop_assert_eq!(seen.insert_range(Actor(1), first, first + more), fresh);
            for counter in 1..100 {
                prop_assert_eq!(seen.contains(Dot::new(Actor(1), counter)), model.contains(&counter));
            }
            let mut bytes = Vec::new();
            seen.encode(&mut bytes);
            prop_assert_eq!(&SeenSet::decode(&mut bytes.as_slice()).expect("own bytes"), &seen);
        }
    }
}

/// Blind puts that go on with the context of their own put: each replaces the one before, whoever else wrote.
#[test]
fn chained_puts_replace_only_themselves() {
    let mut world = World::default();
    world.put(0, 0);
    for _ in 0..20 {
        world.put(1, 0);
    }
    assert_eq!(world.replicas[0].values().copied().collect::<Vec<_>>(), [0, 20]);
}

/// Two blind writers through one node: the second one's raised entry names the first, so the first goes along.
#[test]
fn what_a_raised_entry_names_goes_along() {
    let mut world = World::default();
    world.put(0, 0);
    world.put(1, 0);
    let first = Dot::new(Actor(1), 1);
    assert_eq!(world.replicas[0].len(), 2);
    assert!(world.replicas[0].context().vector().covers(first));
    // Had it stayed behind, whoever holds it would drop it: that is what the rule is for.
    let (mut holder, mut raised) = (VersionSet::new(), VersionSet::new());
    holder.put(&Context::new(), first, 1);
    raised.put(&Context::new(), Dot::new(Actor(1), 2), 2);
    raised.raise_own_entry(Dot::new(Actor(1), 2));
    holder.merge(&raised);
    assert!(!holder.is_live(first));
}

#[test]
fn a_finished_actor_takes_no_more() {
    let mut seen = SeenSet::new();
    seen.insert_range(Actor(7), 1, 3);
    seen.insert(Dot::new(Actor(7), 9));
    assert_eq!(seen.gaps(), 1);
    seen.finish(Actor(7));
    assert!(seen.contains(Dot::new(Actor(7), 1_000)));
    assert!(!seen.insert(Dot::new(Actor(7), 1_001)));
}

/// Counters begin at 1; a range that is none adds nothing, not even its actor.
#[test]
fn a_range_that_is_none_adds_nothing() {
    let mut seen = SeenSet::new();
    assert!(!seen.insert_range(Actor(1), 0, 3) && !seen.insert_range(Actor(1), 5, 4));
    assert!(seen.is_empty());
}

#[test]
fn a_version_set_counts_what_is_live() {
    let mut set = VersionSet::new();
    assert_eq!((set.len(), set.is_empty()), (0, true));
    set.put(&Context::new(), Dot::new(Actor(1), 1), "one");
    set.put(&Context::new(), Dot::new(Actor(2), 1), "two");
    assert_eq!((set.len(), set.is_empty()), (2, false));
    set.retain(|_, _| false);
    assert_eq!((set.len(), set.is_empty(), set.context().len()), (0, true, 2));
}

/// What a context counts is what it costs to keep: entries of its vector, and dots outside it.
#[test]
fn a_context_counts_entries_and_dots() {
    let sizes = |context: &Context| {
        (context.len(), context.is_empty(), context.vector().len(), context.vector().is_empty())
    };
    let mut context = Context::new();
    assert_eq!(sizes(&context), (0, true, 0, true));
    context.insert(Dot::new(Actor(1), 2));
    assert_eq!(sizes(&context), (1, false, 0, true));
    context.raise(Actor(2), 7);
    assert_eq!(sizes(&context), (2, false, 1, false));
}
