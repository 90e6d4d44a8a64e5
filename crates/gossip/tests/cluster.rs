//! Whole clusters: what spreads, who is found dead, and who is not.

#[path = "../examples/measure/cluster.rs"]
#[allow(dead_code, reason = "shared with the example that measures")]
mod cluster;

use bytes::Bytes;
use cluster::{Cluster, SECOND, ids};
use gramme_gossip::{Input, Message, Opinion, Record};
use gramme_ring::NodeId;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);

fn addresses(text: &str) -> Vec<String> {
    vec![text.to_owned()]
}

fn publish(text: &str) -> Input {
    Input::Publish { addresses: addresses(text), details: Bytes::from_static(b"details") }
}

#[test]
fn a_change_reaches_everybody() {
    let mut cluster = Cluster::new(50, 1);
    cluster.tell(A, publish("moved:1"));
    assert!(cluster.run_until(30 * SECOND, Cluster::is_agreed));
    for (id, gossip) in &cluster.nodes {
        assert_eq!(
            gossip.record(A).map(|record| &record.profile.addresses),
            Some(&addresses("moved:1")),
            "{id}"
        );
        assert!(*id == A || cluster.disks[id].contains_key(&A), "what was learnt is stored");
    }
}

#[test]
fn nothing_changes_and_hardly_anything_is_sent() {
    let mut cluster = Cluster::new(50, 2);
    cluster.run_for(100 * SECOND);
    let per_second = cluster.bytes() / 50 / 100;
    assert!(per_second < 80, "{per_second} bytes per node and second");
}

#[test]
fn a_joining_node_learns_all_and_is_known_to_all() {
    let mut cluster = Cluster::new(40, 3);
    let newcomer = Record::joined(NodeId(99), 7, addresses("new:1"));
    cluster.tell(A, Input::Admit(newcomer.clone()));
    let known = cluster.nodes[&A].record(A).cloned().expect("its own record");
    cluster.start(NodeId(99), 1, vec![newcomer, known]);
    assert!(
        cluster.run_until(60 * SECOND, |cluster| cluster.is_agreed()
            && cluster.nodes[&B].records().count() == 41)
    );
}

#[test]
fn a_removed_node_stays_removed_and_hears_of_it() {
    let mut cluster = Cluster::new(10, 4);
    // It misses its removal, and comes back with what it knew.
    cluster.stop(B);
    let kept: Vec<Record> = cluster.nodes[&A].records().cloned().collect();
    cluster.tell(A, Input::Remove { node: B, at: 5 });
    assert!(cluster.run_until(30 * SECOND, Cluster::is_agreed));
    cluster.start(B, 100, kept);
    cluster.tell(B, publish("back:1"));
    let is_told = |cluster: &Cluster| {
        cluster.nodes.values().all(|gossip| !gossip.record(B).is_some_and(Record::is_member))
    };
    assert!(cluster.run_until(60 * SECOND, is_told));
    let before = cluster.nodes[&B].stats().messages;
    cluster.run_for(20 * SECOND);
    assert!(cluster.nodes[&B].stats().messages <= before + 1, "a removed node is silent");
}

/// What a start says replaces what an earlier one said, also when its directory was lost in between.
#[test]
fn a_node_outdoes_its_own_past() {
    let mut cluster = Cluster::new(10, 5);
    for address in ["one:1", "two:1", "three:1"] {
        cluster.tell(B, publish(address));
    }
    assert!(cluster.run_until(30 * SECOND, Cluster::is_agreed));
    cluster.stop(B);
    let founding = Record::joined(B, 0, addresses("old:1"));
    let one = cluster.nodes[&A].record(A).cloned().expect("a record");
    cluster.start(B, 0, vec![founding, one]);
    cluster.tell(B, publish("four:1"));
    let is_known = |cluster: &Cluster| {
        let is_new = |record: &Record| record.profile.addresses == addresses("four:1");
        cluster.nodes.values().all(|gossip| gossip.record(B).is_some_and(is_new))
    };
    assert!(cluster.run_until(60 * SECOND, is_known));
}

#[test]
fn a_dead_node_is_found_by_all_and_found_again() {
    for nodes in [2, 3, 30] {
        let mut cluster = Cluster::new(nodes, 6);
        cluster.run_for(5 * SECOND);
        let kept: Vec<Record> = cluster.nodes[&B].records().cloned().collect();
        cluster.stop(B);
        assert!(cluster.run_until(cluster.now + 60 * SECOND, |cluster| cluster.all_find(B, Opinion::Down)));
        assert!(cluster.opinions.iter().all(|(_, _, of, _)| *of == B), "nobody else is suspected");
        cluster.start(B, 1, kept);
        cluster.tell(B, publish("again:1"));
        assert!(cluster.run_until(cluster.now + 60 * SECOND, |cluster| cluster.all_find(B, Opinion::Alive)));
    }
}

#[test]
fn a_fifth_of_all_messages_lost_makes_nobody_down() {
    let mut cluster = Cluster::new(50, 7);
    cluster.loss = 20;
    cluster.run_for(600 * SECOND);
    let downs = cluster.opinions.iter().filter(|(.., opinion)| *opinion == Opinion::Down).count();
    assert_eq!(downs, 0);
    assert!(cluster.opinions.iter().any(|(.., opinion)| *opinion == Opinion::Suspect), "the loss was felt");
}

/// What one side cannot reach and others can is suspect there, and nowhere down.
#[test]
fn a_cut_in_one_direction_makes_nobody_down() {
    let mut cluster = Cluster::new(10, 8);
    cluster.cuts.insert((A, B));
    assert!(cluster.run_until(60 * SECOND, |cluster| cluster.nodes[&A].opinion(B) == Opinion::Suspect));
    cluster.run_for(300 * SECOND);
    assert!(cluster.opinions.iter().all(|(.., opinion)| *opinion != Opinion::Down));
    cluster.cuts.clear();
    assert!(
        cluster
            .run_until(cluster.now + 60 * SECOND, |cluster| cluster.nodes[&A].opinion(B) == Opinion::Alive)
    );
}

#[test]
fn a_node_that_did_not_run_accuses_nobody() {
    let mut cluster = Cluster::new(10, 9);
    for _ in 0..100 {
        cluster.run_for(SECOND);
        cluster.stopped.insert(A, cluster.now + SECOND * 3 / 2);
        cluster.run_for(SECOND * 3 / 2);
    }
    assert!(cluster.opinions.iter().all(|(_, by, ..)| *by != A), "{:?}", cluster.opinions);
}

#[test]
fn two_sides_of_a_cut_find_each_other_again() {
    let mut cluster = Cluster::new(20, 10);
    let is_left = |id: NodeId| id.0 <= 10;
    for (one, two) in ids(20).flat_map(|one| ids(20).map(move |two| (one, two))) {
        if is_left(one) != is_left(two) {
            cluster.cuts.insert((one, two));
        }
    }
    let is_split = |cluster: &Cluster| {
        let sees = |id: &NodeId, other| cluster.nodes[id].opinion(other) == Opinion::Down;
        cluster.nodes.keys().all(|id| ids(20).all(|other| is_left(*id) == is_left(other) || sees(id, other)))
    };
    assert!(cluster.run_until(120 * SECOND, is_split));
    cluster.tell(A, publish("left:1"));
    cluster.tell(NodeId(20), publish("right:1"));
    cluster.run_for(30 * SECOND);
    assert!(!cluster.is_agreed());
    cluster.cuts.clear();
    assert!(cluster.run_until(cluster.now + 120 * SECOND, |cluster| {
        cluster.is_agreed() && ids(20).all(|id| cluster.all_find(id, Opinion::Alive))
    }));
}

#[test]
fn two_that_have_removed_each_other_fall_silent() {
    let mut cluster = Cluster::new(2, 11);
    cluster.run_for(5 * SECOND);
    cluster.tell(A, Input::Remove { node: B, at: 1 });
    cluster.tell(B, Input::Remove { node: A, at: 1 });
    cluster.tell(A, Input::Message { from: B, message: Message::Root(1) });
    let sent = |cluster: &Cluster| cluster.nodes.values().map(|gossip| gossip.stats().messages).sum::<u64>();
    let before = sent(&cluster);
    cluster.run_for(60 * SECOND);
    assert!(sent(&cluster) < before + 5, "{} messages", sent(&cluster) - before);
}
