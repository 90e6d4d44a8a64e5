//! Other owners come into force while requests, listings and exchanges are under way.

use gramme_object::Object;
use gramme_quorum::Threshold;
use gramme_replica::{ClientPut, Input, Response, Space};
use gramme_ring::{Move, NodeId};
use gramme_vclock::{Actor, Dot};
use gramme_wire::PeerMessage;
use gramme_wire::peer::{ReplyHeader, RequestHeader, Status, WriteReply};

use crate::bench::*;

/// A fallback coordinates two puts of one key, none of which has read the other; between them the partition's first slot has
/// another owner. Its second state must not cover its first version, which is in no state that it goes with.
#[test]
fn a_fallback_does_not_cover_its_own_version_when_the_first_slot_changes() {
    let (mut bench, key, others) = without_owners();
    let put = ClientPut { key: key.clone(), w: Threshold::One, ..client_put("x") };
    bench.sent.clear();
    bench.put(1, put.clone());
    let first = bench.writes().pop().expect("a write").2.dot;
    bench.commit_all();
    assert!(matches!(bench.answer(), Response::Put(Ok(_))), "acknowledged");
    let partition = bench.partition_of(&key);
    let joining = bench.turned(partition);
    bench.tell_layout(others[0], joining);
    bench.commit_all();
    let leaving = bench.after(vec![(partition.prefix, Move::Next)]);
    bench.tell_layout(others[0], leaving);
    bench.commit_all();
    bench.sent.clear();
    bench.put(2, put);
    let write = bench.writes().pop().expect("a write").2;
    let object = Object::decode(&write.object).expect("an object");
    let is_lost = object.context().covers(first) && !object.versions().is_live(first);
    assert!(!is_lost, "{:?} of {} hints covers the acknowledged {first:?}", write.dot, bench.hints.len());
}

/// A put that a fallback coordinates; while its key is read the fallback becomes an owner.
#[test]
fn a_fallback_that_becomes_an_owner_keeps_its_put_as_an_owner() {
    let (mut bench, key, others) = without_owners();
    let owners = bench.owners_of(&key);
    bench.stuck = vec![key.clone()];
    bench.sent.clear();
    bench.put(1, ClientPut { key: key.clone(), ..client_put("x") });
    assert_eq!(bench.waiting.len(), 1);
    let partition = bench.partition_of(&key);
    let joining = bench.moved(partition, vec![ME, owners[1], owners[2]]);
    bench.tell_layout(others[0], joining);
    bench.commit_all();
    bench.stuck.clear();
    bench.sent.clear();
    bench.end_loads();
    bench.commit_all();
    for (to, id, _) in bench.writes() {
        // One old owner and one who stands in for another.
        if to == owners[1] || others.contains(&to) {
            let header = ReplyHeader { epoch: 2, ..header(Status::DoneSynced) };
            let reply = WriteReply {
                header,
                seat: gramme_quorum::Seat::default(),
                covered: Vec::new(),
                object: bytes::Bytes::new(),
            };
            bench.step(Input::Message { from: to, id, message: PeerMessage::WriteReply(reply) });
        }
    }
    bench.commit_all();
    let response = bench.answer();
    let Response::Put(Ok(stored)) = response else { panic!("{response:?}") };
    let kept: Vec<Space> = bench.hints.keys().map(|place| place.space).collect();
    assert!(
        bench.objects.contains_key(&key),
        "acknowledged with {:?}, this owner among them, and it has it in {kept:?} alone",
        stored.receipt
    );
}

/// The same, and this node is a former owner that gets the partition back, with a version of its own in it.
#[test]
fn a_former_owner_does_not_cover_its_own_version_with_a_put_begun_as_a_fallback() {
    let mut bench = bench(8);
    bench.connect();
    let owners = bench.owners_of(&key());
    let others: Vec<_> = (2..=8).map(NodeId).filter(|node| !owners.contains(node)).collect();
    bench.put(1, ClientPut { w: Threshold::One, ..client_put("x") });
    let first = bench.writes().pop().expect("a write").2.dot;
    bench.commit_all();
    assert!(matches!(bench.answer(), Response::Put(Ok(_))), "acknowledged");
    // It hands the partition over to another.
    let partition = bench.partition();
    let to: Vec<_> = owners.iter().map(|&owner| if owner == ME { others[0] } else { owner }).collect();
    for step in [Move::Begin(to.clone()), Move::Next, Move::Next] {
        let next = bench.after(vec![(partition.prefix, step)]);
        bench.tell_layout(others[1], next);
        bench.commit_all();
    }
    // The owners are gone, and it stands in.
    to.iter().for_each(|owner| bench.step(Input::PeerDown(*owner)));
    bench.stuck = vec![key()];
    bench.sent.clear();
    bench.put(2, ClientPut { w: Threshold::One, ..client_put("y") });
    assert_eq!(bench.waiting.len(), 1);
    // It is to have it back.
    let back = bench.moved(partition, owners.clone());
    bench.stuck.clear();
    bench.sent.clear();
    bench.tell_layout(others[1], back);
    bench.end_loads();
    bench.commit_all();
    bench.end_loads();
    let write = bench.writes().pop().expect("a write").2;
    let object = Object::decode(&write.object).expect("an object");
    let is_lost = object.context().covers(first) && !object.versions().is_live(first);
    assert!(!is_lost, "{:?} covers the acknowledged {first:?}", write.dot);
}

/// What was admitted before the fence and is merged after it is acknowledged under the later epoch: a copy may have been
/// made meanwhile.
#[test]
fn a_write_that_is_merged_after_the_fence_is_acknowledged_under_the_later_epoch() {
    let mut bench = bench(4);
    bench.connect();
    let owners = bench.owners_of(&key());
    assert!(owners.contains(&ME));
    let new = (2..=4).map(NodeId).find(|node| !owners.contains(node)).expect("another");
    bench.stuck = vec![key()];
    let from = owners.iter().copied().find(|owner| *owner != ME).expect("another");
    bench.value_from(from, Dot::new(Actor(9), 1));
    assert_eq!(bench.waiting.len(), 1);
    let to: Vec<_> = owners.iter().map(|&owner| if owner == from { new } else { owner }).collect();
    let joining = bench.moved(bench.partition(), to);
    bench.tell_layout(new, joining);
    // Fenced: from here on a new owner copies what is here, which is nothing.
    bench.commit_all();
    assert!(!bench.objects.contains_key(&key()));
    bench.stuck.clear();
    bench.sent.clear();
    bench.end_loads();
    bench.commit_all();
    let epoch = bench.sent.iter().find_map(|(.., message)| match message {
        PeerMessage::WriteReply(reply) => Some(reply.header.epoch),
        _ => None,
    });
    assert_eq!(epoch, Some(2));
}

/// Its coordinator, which does not know of the later epoch, must not count it.
#[test]
fn an_acknowledgement_of_a_later_epoch_does_not_count_for_an_earlier_one() {
    let mut bench = bench(3);
    bench.put(1, client_put("x"));
    bench.commit_all();
    let first = bench.writes();
    let header = ReplyHeader { epoch: 2, ..header(Status::DoneSynced) };
    let reply = WriteReply {
        header,
        seat: gramme_quorum::Seat::default(),
        covered: Vec::new(),
        object: bytes::Bytes::new(),
    };
    bench.step(Input::Message { from: B, id: first[0].1, message: PeerMessage::WriteReply(reply) });
    assert!(bench.replies.is_empty(), "{:?}", bench.replies);
}

/// Two of three owners have taken over what a former owner has, and it drops it. The third does not ask for it for ever.
#[test]
fn what_a_former_owner_has_dropped_is_not_wanted_for_ever() {
    let mut bench = bench(4);
    bench.connect();
    let layout = bench.replica.layout().clone();
    let partition = layout
        .partitions()
        .find(|id| layout.is_holder(*id, ME) && !layout.is_holder(*id, NodeId(4)))
        .expect("one");
    let former = NodeId(4);
    let header = RequestHeader { partition, ..bench.header() };
    let message = PeerMessage::TakeOver(gramme_wire::peer::TakeOver { header });
    bench.step(Input::Message { from: former, id: 9, message });
    let (mut asked, mut failed) = (Vec::new(), 0);
    // It shows nothing of it any more.
    bench.drive(600_000_000, |bench, to, message| match message {
        PeerMessage::Roots(roots) if to == former => {
            if roots.seen_of.contains(&partition) {
                asked.push(bench.now);
            }
            Some(PeerMessage::RootsReply(gramme_wire::peer::RootsReply {
                is_same: true,
                roots: Vec::new(),
                uncounted: Vec::new(),
                seen: Vec::new(),
                fenced: (1, 1),
            }))
        }
        PeerMessage::TakeOver(_) => {
            failed += 1;
            None
        }
        _ => None,
    });
    assert!(
        asked.last().is_none_or(|at| *at < 60_000_000),
        "asked {} times, last at {:?}",
        asked.len(),
        asked.last()
    );
}

/// A pull goes on while its partition is taken back, dropped, and begun anew: what it brought at first is gone.
#[test]
fn a_pull_does_not_outlive_the_rows_that_it_brought() {
    use crate::peers::*;
    use gramme_wire::peer::*;
    let mut bench = bench(4);
    bench.connect();
    let (partition, late_key) = (bench.partition(), bench.beside());
    let rest: Vec<NodeId> = [2, 3, 4].map(NodeId).to_vec();
    let (first, second) = (Dot::new(Actor(50), 1), Dot::new(Actor(50), 2));
    let leaves_of = |key: &gramme_object::Key| leaf_of(key, partition);
    let other = Sum { count: 9, sum: 1 };
    let mut held: Option<(NodeId, u64, u64)> = None;
    let mut taken = 0;
    let answer = |held: &mut Option<(NodeId, u64, u64)>,
                  taken: &mut usize,
                  bench: &Bench,
                  to,
                  id,
                  message: &PeerMessage| {
        Some(match message {
            PeerMessage::TakeOver(_) => {
                *taken += 1;
                PeerMessage::TakeOverReply(TakeOverReply { header: header(Status::DoneSynced) })
            }
            PeerMessage::Roots(roots) => PeerMessage::RootsReply(RootsReply {
                is_same: false,
                roots: vec![(partition, other)],
                uncounted: Vec::new(),
                seen: roots
                    .seen_of
                    .iter()
                    .map(|&partition| Seen { partition, life: 0, dots: upto(Actor(50), 2) })
                    .collect(),
                fenced: bench.replica.layout().rank(),
            }),
            PeerMessage::Leaves(_) => {
                let mut leaves = vec![(leaves_of(&key()), other), (leaves_of(&late_key), other)];
                leaves.sort_unstable_by_key(|(leaf, _)| *leaf);
                PeerMessage::LeavesReply(LeavesReply {
                    leaves: vec![PartitionLeaves { partition, life: 0, leaves }],
                })
            }
            PeerMessage::Range(range) => {
                let at = KEYSPACE.hash(key().as_bytes()).0;
                if !(range.first..=range.last).contains(&at) {
                    *held = Some((to, id, range.last));
                    return None;
                }
                PeerMessage::RangeReply(RangeReply {
                    header: header(Status::DoneSynced),
                    objects: vec![(key(), value(first).encode().into())],
                    wants: Vec::new(),
                    through: range.last,
                    is_damaged: false,
                })
            }
            _ => return None,
        })
    };
    let mut run = |bench: &mut Bench, micros: u64| {
        let until = bench.now + micros;
        while bench.now < until {
            while !bench.sent.is_empty() {
                for (to, id, message) in std::mem::take(&mut bench.sent) {
                    if let Some(message) = answer(&mut held, &mut taken, bench, to, id, &message) {
                        bench.step(Input::Message { from: to, id, message });
                    }
                }
                bench.commit_all();
            }
            bench.now = bench.timer.clamp(bench.now + 1, bench.now + 100_000);
            bench.step(Input::Timer);
            bench.commit_all();
        }
        held
    };
    let go = |bench: &mut Bench, step: Move| {
        let next = bench.after(vec![(partition.prefix, step)]);
        bench.tell_layout(B, next);
        bench.commit_all();
    };
    if bench.replica.layout().is_holder(partition, ME) {
        for step in [Move::Begin(rest.clone()), Move::Next, Move::Next] {
            go(&mut bench, step);
        }
        run(&mut bench, 1_000_000);
    }
    // It is to own it, and takes the first leaf.
    go(&mut bench, Move::Begin(vec![ME, NodeId(2), NodeId(3)]));
    (2..=4).for_each(|node| bench.greet(NodeId(node), None, WALL + bench.now));
    let stuck = run(&mut bench, 3_000_000);
    let stuck = stuck.expect("the second leaf is on its way");
    assert!(bench.objects.contains_key(&key()), "the first leaf is here");
    // That is taken back, and dropped, and begun again.
    go(&mut bench, Move::Abort);
    run(&mut bench, 1_000_000);
    assert!(!bench.objects.contains_key(&key()), "it is dropped");
    go(&mut bench, Move::Begin(vec![ME, NodeId(2), NodeId(3)]));
    let (from, id, through) = stuck;
    let reply = PeerMessage::RangeReply(RangeReply {
        header: header(Status::DoneSynced),
        objects: vec![(late_key.clone(), value(second).encode().into())],
        wants: Vec::new(),
        through,
        is_damaged: false,
    });
    bench.step(Input::Message { from, id, message: reply });
    bench.commit_all();
    // What was in the first leaf comes again.
    bench.sent.clear();
    let request = RequestHeader { epoch: bench.replica.layout().epoch(partition), ..bench.header() };
    let repair = Repair {
        header: request,
        key: key(),
        seat: gramme_quorum::Seat::default(),
        object: value(first).encode().into(),
    };
    bench.step(Input::Message { from: B, id: 99, message: PeerMessage::Repair(repair) });
    bench.commit_all();
    let status = bench.sent.iter().find_map(|(_, id, message)| match message {
        PeerMessage::WriteReply(reply) if *id == 99 => Some(reply.header.status),
        _ => None,
    });
    let stored = bench.objects.get(&key()).cloned().unwrap_or_default();
    let live = Object::decode(&stored).map(|object| object.versions().len());
    assert_eq!(status, Some(Status::DoneSynced), "it is refused as replaced; live versions here: {live:?}");
}
