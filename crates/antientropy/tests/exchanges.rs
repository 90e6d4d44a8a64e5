//! What is compared when, and that everything that differs is looked at.

use std::collections::BTreeSet;

use gramme_antientropy::{AntiEntropy, Config, Effect, Input, Stats, compare};
use gramme_ring::{NodeId, PartitionId};
use proptest::prelude::*;

const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);
const CONFIG: Config =
    Config { at_once: 2, partitions: 3, pause: 10, longest: 100, patience: 50, bytes_per_second: 1_000_000 };

fn partition(prefix: u32) -> PartitionId {
    PartitionId { prefix, depth: 8 }
}

struct Node {
    machine: AntiEntropy,
    now: u64,
    effects: Vec<Effect>,
}

impl Node {
    fn new(config: Config) -> Self {
        Self { machine: AntiEntropy::new(config), now: 0, effects: Vec::new() }
    }

    fn step(&mut self, input: Input) -> Vec<Effect> {
        self.machine.step(self.now, input, &mut self.effects);
        std::mem::take(&mut self.effects)
    }

    /// Lets the time come for which a timer is set.
    fn wait(&mut self) -> Vec<Effect> {
        self.now = self.machine.next_timer().expect("something to wait for");
        self.step(Input::Timer)
    }

    /// Begins an exchange that finds so many leaves of one partition.
    fn find(&mut self, leaves: u32) -> Vec<Effect> {
        self.step(Input::Reachable(B));
        assert_eq!(self.wait(), [Effect::CompareRoots { peer: B }]);
        let asked = self.step(Input::Roots { peer: B, differing: vec![partition(1)] });
        assert_eq!(asked, [Effect::CompareLeaves { peer: B, partitions: vec![partition(1)] }]);
        let differing = (0..leaves).map(|leaf| (partition(1), leaf)).collect();
        self.step(Input::Leaves { peer: B, differing })
    }
}

fn tasks(effects: &[Effect]) -> Vec<(u64, u32)> {
    let task = |effect: &Effect| match effect {
        Effect::Mend { task, leaf, .. } => Some((*task, *leaf)),
        _ => None,
    };
    effects.iter().filter_map(task).collect()
}

#[test]
fn a_clean_exchange_doubles_the_pause_up_to_a_limit() {
    let mut node = Node::new(CONFIG);
    node.step(Input::Reachable(B));
    let mut pauses = Vec::new();
    for _ in 0..6 {
        let before = node.now;
        assert_eq!(node.wait(), [Effect::CompareRoots { peer: B }]);
        pauses.push(node.now - before);
        assert_eq!(node.step(Input::Roots { peer: B, differing: Vec::new() }), []);
    }
    assert_eq!(pauses, [10, 20, 40, 80, 100, 100]);
    // What is known to differ is looked at soon.
    node.step(Input::Dirty(B));
    assert_eq!(node.machine.next_timer(), Some(node.now + 10));
    assert_eq!(node.machine.stats(), &Stats { exchanges: 6, clean: 6, ..Stats::default() });
}

#[test]
fn one_that_mends_is_followed_by_another_soon_and_one_that_only_looks_is_not() {
    for (keys, pause) in [(0, 20), (1, 10)] {
        let mut node = Node::new(CONFIG);
        let found = node.find(1);
        node.step(Input::Mended { task: tasks(&found)[0].0, keys });
        assert_eq!(node.machine.next_timer(), Some(node.now + pause), "{keys} keys");
    }
}

#[test]
fn few_leaves_and_few_partitions_at_once_and_all_of_them_in_the_end() {
    let mut node = Node::new(CONFIG);
    node.step(Input::Reachable(B));
    node.wait();
    let mut effects = node.step(Input::Roots { peer: B, differing: (0..8).map(partition).collect() });
    let mut seen = BTreeSet::new();
    let mut asked = Vec::new();
    while let Some(effect) = effects.pop() {
        match effect {
            Effect::CompareLeaves { partitions, .. } => {
                asked.push(partitions.len());
                let differing = partitions.into_iter().flat_map(|id| (0..3).map(move |leaf| (id, leaf)));
                effects.extend(node.step(Input::Leaves { peer: B, differing: differing.collect() }));
            }
            Effect::Mend { task, partition, leaf, .. } => {
                assert!(tasks(&effects).len() < CONFIG.at_once);
                seen.insert((partition, leaf));
                effects.extend(node.step(Input::Mended { task, keys: 1 }));
            }
            Effect::CompareRoots { .. } => panic!("it has only begun"),
        }
    }
    assert_eq!((seen.len(), asked), (24, vec![3, 3, 2]));
    assert_eq!(node.machine.exchanges().count(), 0);
}

#[test]
fn silence_ends_an_exchange_wherever_it_is() {
    for at in 0..3 {
        let mut node = Node::new(CONFIG);
        node.step(Input::Reachable(B));
        node.wait();
        if at > 0 {
            node.step(Input::Roots { peer: B, differing: vec![partition(1)] });
        }
        let mut task = 0;
        if at > 1 {
            let found = node.step(Input::Leaves { peer: B, differing: vec![(partition(1), 0)] });
            task = tasks(&found)[0].0;
        }
        let began = node.now;
        node.wait();
        assert_eq!(node.now, began + CONFIG.patience, "{at}");
        assert_eq!((node.machine.exchanges().count(), node.machine.stats().failed), (0, 1), "{at}");
        // What comes late is for nobody.
        node.step(Input::Mended { task, keys: 9 });
        node.step(Input::Roots { peer: B, differing: vec![partition(2)] });
        node.step(Input::Leaves { peer: B, differing: vec![(partition(2), 0)] });
        assert_eq!((node.machine.stats().keys, node.machine.next_timer()), (0, Some(node.now + 20)), "{at}");
    }
}

#[test]
fn a_leaf_that_makes_progress_is_not_given_up() {
    let mut node = Node::new(CONFIG);
    let found = node.find(1);
    let task = tasks(&found)[0].0;
    for _ in 0..10 {
        node.now += CONFIG.patience - 1;
        node.step(Input::Timer);
        node.step(Input::Compared { task, bytes: 1 });
    }
    assert!(node.machine.awaits(task));
    assert_eq!((node.machine.stats().failed, node.machine.stats().bytes), (0, 10));
}

#[test]
fn one_that_has_too_much_to_do_is_not_asked_again_at_once() {
    let mut node = Node::new(CONFIG);
    node.step(Input::Reachable(B));
    node.wait();
    node.step(Input::Failed(B));
    let next = node.machine.next_timer();
    assert_eq!(next, Some(node.now + 20));
    node.step(Input::Dirty(B));
    assert_eq!(node.machine.next_timer(), next);
}

#[test]
fn a_peer_that_is_gone_is_forgotten() {
    let mut node = Node::new(CONFIG);
    let found = node.find(5);
    node.step(Input::Gone(B));
    assert_eq!(node.machine.next_timer(), None);
    assert_eq!(node.step(Input::Mended { task: tasks(&found)[0].0, keys: 1 }), []);
    node.step(Input::Dirty(B));
    assert_eq!(node.machine.next_timer(), None);
}

#[test]
fn whoever_was_compared_with_need_not_compare() {
    let mut node = Node::new(CONFIG);
    node.step(Input::Reachable(B));
    node.now = 5;
    node.step(Input::Same(B));
    assert_eq!(node.machine.next_timer(), Some(25));
}

/// What the other finds is no proof here.
#[test]
fn whoever_needs_an_exchange_of_its_own_gets_one() {
    let mut node = Node::new(CONFIG);
    node.step(Input::Reachable(B));
    node.wait();
    node.step(Input::Roots { peer: B, differing: Vec::new() });
    node.step(Input::Needed(B));
    let next = node.machine.next_timer();
    assert_eq!(next, Some(node.now + CONFIG.pause));
    for _ in 0..5 {
        node.now += 1;
        node.step(Input::Same(B));
        assert_eq!(node.machine.next_timer(), next);
    }
    assert_eq!(node.wait(), [Effect::CompareRoots { peer: B }]);
}

#[test]
fn mending_stays_within_its_bytes() {
    let mut node = Node::new(Config { at_once: 1, patience: 1 << 40, bytes_per_second: 100, ..CONFIG });
    let mut effects = node.find(10);
    let mut sent = 0;
    while node.machine.exchanges().count() > 0 {
        if let Some((task, _)) = tasks(&std::mem::take(&mut effects)).pop() {
            sent += 50;
            node.step(Input::Compared { task, bytes: 50 });
            effects = node.step(Input::Mended { task, keys: 1 });
            assert!(sent <= 150 + 100 * node.now / 1_000_000, "{sent} bytes after {} µs", node.now);
        } else {
            effects = node.wait();
        }
    }
    assert_eq!(sent, 500);
}

proptest! {
    /// Whatever comes, in whatever order: few tasks under way, timers that come, and no panic.
    #[test]
    fn nothing_is_taken_for_what_it_is_not(events in prop::collection::vec((0..10_u8, 0..40_u64), 0..200)) {
        let mut node = Node::new(CONFIG);
        let mut under_way = BTreeSet::new();
        for (event, number) in events {
            let peer = if number % 2 == 0 { B } else { C };
            let input = match event {
                0 => Input::Reachable(peer),
                1 => Input::Gone(peer),
                2 => Input::Dirty(peer),
                3 => Input::Same(peer),
                4 => Input::Roots { peer, differing: (0..number as u32).map(partition).collect() },
                5 => Input::Leaves { peer, differing: (0..number as u32).map(|leaf| (partition(1), leaf)).collect() },
                6 => Input::Mended { task: number, keys: number },
                8 => Input::Compared { task: number, bytes: number },
                7 => Input::Failed(peer),
                _ => { node.now += number; Input::Timer }
            };
            under_way.extend(tasks(&node.step(input)).into_iter().map(|(task, _)| task));
            under_way.retain(|task| node.machine.awaits(*task));
            prop_assert!(under_way.len() <= 2 * CONFIG.at_once);
        }
    }

    #[test]
    fn after_an_exchange_both_have_everything(
        ours in prop::collection::btree_map(0..30_u8, 0..3_u128, 0..20),
        theirs in prop::collection::btree_map(0..30_u8, 0..3_u128, 0..20),
    ) {
        let found = compare(ours.clone(), theirs.clone());
        for key in 0..30 {
            let differs = ours.get(&key) != theirs.get(&key);
            prop_assert_eq!(found.ours.contains(&key), differs && ours.contains_key(&key));
            prop_assert_eq!(found.theirs.contains(&key), differs && theirs.contains_key(&key));
        }
    }
}
