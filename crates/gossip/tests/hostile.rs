//! Members that are wrong, late or malicious, and acts of administrators at odd places.

#[path = "../examples/measure/cluster.rs"]
#[allow(dead_code, reason = "shared with the example that measures")]
mod cluster;

use bytes::Bytes;
use cluster::{Cluster, SECOND};
use gramme_codec::Codec;
use gramme_gossip::{Config, Effect, Gossip, Input, Message, Opinion, Profile, Record};
use gramme_ring::NodeId;
use rand::SeedableRng;
use rand::rngs::StdRng;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);

fn record(id: u64) -> Record {
    Record::joined(NodeId(id), 0, vec![format!("host-{id}:1")])
}

/// Node A among so many.
fn gossip(nodes: u64) -> Gossip {
    Gossip::new(Config::usual(A, 1), (1..=nodes).map(record).collect(), StdRng::seed_from_u64(1))
}

fn step(gossip: &mut Gossip, now: u64, input: Input) -> Vec<Effect> {
    let mut effects = Vec::new();
    gossip.step(now, input, &mut effects);
    effects
}

fn tell(gossip: &mut Gossip, now: u64, from: NodeId, message: Message) -> Vec<Effect> {
    step(gossip, now, Input::Message { from, message })
}

fn records(records: Vec<Record>) -> Message {
    Message::Records { records, wants: Vec::new() }
}

fn pings(effects: &[Effect]) -> Vec<(NodeId, u64)> {
    let ping = |effect: &Effect| match effect {
        Effect::Send { to, message: Message::Ping { number, .. } } => Some((*to, *number)),
        _ => None,
    };
    effects.iter().filter_map(ping).collect()
}

fn removed(cluster: &Cluster, node: NodeId) -> bool {
    cluster.nodes.values().all(|gossip| gossip.record(node).is_some_and(|record| !record.is_member()))
}

#[test]
fn a_removal_that_only_the_removed_node_knows_spreads() {
    let mut cluster = Cluster::new(10, 1);
    cluster.run_for(5 * SECOND);
    cluster.tell(A, Input::Remove { node: A, at: 5 });
    assert!(cluster.run_until(cluster.now + 120 * SECOND, |cluster| removed(cluster, A)));
}

#[test]
fn a_node_can_be_removed_where_nobody_knows_it_yet() {
    let mut gossip = gossip(3);
    step(&mut gossip, 1, Input::Remove { node: NodeId(50), at: 9 });
    tell(&mut gossip, 2, B, records(vec![record(50)]));
    assert_eq!(gossip.record(NodeId(50)).map(Record::is_member), Some(false));
}

/// Ids can be chosen so that they fall into one bucket, more than a message holds.
#[test]
fn a_bucket_that_is_larger_than_a_message_is_compared_in_parts() {
    let bucket = |id: u64| id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58;
    let ids = (1_000..).filter(|id| bucket(*id) == bucket(1)).take(3_000);
    let many: Vec<Record> = ids.map(|id| Record { removed: Some(1), ..record(id) }).collect();
    let mut cluster = Cluster::new(4, 1);
    for (to, from) in [(A, B), (B, C), (C, A), (NodeId(4), A)] {
        cluster.tell(to, Input::Message { from, message: records(many.clone()) });
    }
    cluster.tell(A, Input::Publish { addresses: vec!["moved:1".to_owned()], details: Bytes::new() });
    assert!(cluster.run_until(cluster.now + 300 * SECOND, Cluster::is_agreed));
}

#[test]
fn a_budget_fills_however_short_the_steps_are() {
    let mut gossip = gossip(3);
    let mut now = 5_000_000;
    for _ in 0..200 {
        tell(&mut gossip, now, B, Message::Root(0));
    }
    for _ in 0..100_000 {
        now += 20;
        tell(&mut gossip, now, NodeId(999), Message::Unknown);
    }
    assert!(!tell(&mut gossip, now, B, Message::Root(0)).is_empty());
}

#[test]
fn a_record_does_not_keep_the_message_that_it_came_in() {
    let mut gossip = gossip(3);
    let details = |node, details| Record {
        profile: Profile { incarnation: 1, details: Bytes::from_static(details), ..Profile::default() },
        ..record(node)
    };
    for wanted in [details(3, b"d"), details(77, b"e")] {
        let frame = Message::Records { records: vec![wanted], wants: vec![NodeId(7); 1_000] }.to_bytes();
        let message = Message::parse_all(frame.clone()).expect("a message");
        tell(&mut gossip, 1, B, message);
        assert!(frame.is_unique());
    }
}

#[test]
fn only_who_was_asked_can_say_that_another_is_reached() {
    let mut gossip = gossip(10);
    let (target, number) = pings(&step(&mut gossip, 1_000_000, Input::Timer))[0];
    for liar in (2..=10).map(NodeId) {
        tell(&mut gossip, 1_000_100, liar, Message::Reached { number });
    }
    assert_eq!(gossip.opinion(target), Opinion::Alive);
    // Now others are asked.
    let due = gossip.next_timer();
    let asked = step(&mut gossip, due, Input::Timer);
    let helper = asked.iter().find_map(|effect| match effect {
        Effect::Send { to, message: Message::Probe { .. } } => Some(*to),
        _ => None,
    });
    tell(&mut gossip, due + 1, helper.expect("a helper"), Message::Reached { number });
    assert_eq!(gossip.opinion(target), Opinion::Suspect);
}

#[test]
fn an_answer_to_what_was_not_asked_revives_nobody() {
    let mut cluster = Cluster::new(3, 6);
    cluster.run_for(5 * SECOND);
    cluster.stop(B);
    assert!(cluster.run_until(cluster.now + 60 * SECOND, |cluster| cluster.all_find(B, Opinion::Down)));
    for number in 0..100 {
        cluster.tell(A, Input::Message { from: B, message: Message::Ack { number, rumours: Vec::new() } });
    }
    assert_eq!(cluster.nodes[&A].opinion(B), Opinion::Down);
}

#[test]
fn a_node_has_no_opinion_of_itself() {
    let mut gossip = gossip(3);
    step(&mut gossip, 1, Input::Failed(A));
    assert_eq!(gossip.opinion(A), Opinion::Alive);
}

#[test]
fn what_a_full_table_does_not_take_is_counted() {
    let all = (1..=16_384).map(record).collect();
    let mut gossip = Gossip::new(Config::usual(A, 1), all, StdRng::seed_from_u64(1));
    step(&mut gossip, 1, Input::Admit(record(20_000)));
    assert_eq!((gossip.record(NodeId(20_000)), gossip.stats().refused), (None, 1));
}

#[test]
fn a_node_that_does_not_know_itself_is_told() {
    let mut gossip = Gossip::new(Config::usual(A, 1), vec![record(2)], StdRng::seed_from_u64(1));
    assert_eq!(tell(&mut gossip, 1, B, Message::Root(1)), []);
    tell(&mut gossip, 2, B, records(vec![record(1)]));
    assert!(gossip.record(A).is_some_and(Record::is_member));
}

/// A record that does not fit now leaves room to those that do, and whatever is valid fits some time.
#[test]
fn a_small_budget_still_carries_the_largest_record() {
    let large = Profile {
        incarnation: 1,
        revision: 0,
        addresses: vec!["a".repeat(256); 8],
        details: vec![0; 1_024].into(),
    };
    let config = Config { bytes_per_second: 1, ..Config::usual(A, 1) };
    let all = vec![record(1), record(2), Record { profile: large, ..record(3) }];
    let mut gossip = Gossip::new(config, all, StdRng::seed_from_u64(1));
    let wish = Message::Records { records: Vec::new(), wants: vec![C] };
    assert_eq!(tell(&mut gossip, 1_000_000, B, wish).len(), 1);
}

#[test]
fn timers_move_on_however_short_the_period() {
    let config = Config { period: 1, ..Config::usual(A, 1) };
    let mut gossip = Gossip::new(config, vec![record(1)], StdRng::seed_from_u64(1));
    step(&mut gossip, 100, Input::Timer);
    assert!(gossip.next_timer() > 100);
}

#[test]
fn a_node_whose_timers_are_always_late_finds_the_dead_all_the_same() {
    let mut gossip = gossip(3);
    let mut now = 0;
    for _ in 0..1_000 {
        now = gossip.next_timer().max(now) + 160_000;
        step(&mut gossip, now, Input::Timer);
    }
    assert_eq!((gossip.opinion(B), gossip.opinion(C)), (Opinion::Down, Opinion::Down));
}

/// Many false rumours must not keep a member from finding the one that is dead.
#[test]
fn rumours_do_not_push_out_what_a_member_sees_itself() {
    let mut cluster = Cluster::new(60, 5);
    cluster.run_for(5 * SECOND);
    cluster.stop(B);
    let others: Vec<NodeId> = cluster.nodes.keys().copied().filter(|id| *id != C).collect();
    for _ in 0..12 {
        for &to in &others {
            for first in (4..60).step_by(8) {
                let rumours = (first..first + 8).map(NodeId).collect();
                cluster.tell(to, Input::Message { from: C, message: Message::Ping { number: 1, rumours } });
            }
        }
        cluster.run_for(5 * SECOND);
    }
    let found = others.iter().filter(|id| cluster.nodes[id].opinion(B) == Opinion::Down).count();
    assert!(found > others.len() * 9 / 10, "{found} of {}", others.len());
}
