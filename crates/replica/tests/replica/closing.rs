//! Dead tenures are closed once, by those who may, and nothing is taken over that is not true.

use std::collections::BTreeSet;

use gramme_object::{Key, Object, Sibling, Stamp};
use gramme_quorum::Seat;
use gramme_replica::{Input, Response};
use gramme_ring::PartitionId;
use gramme_vclock::{Actor, Context, Dot, SeenSet};
use gramme_wire::PeerMessage;
use gramme_wire::peer::{
    Close, CloseReply, Leaves, LeavesReply, Repair, Roots, RootsReply, Seen, Status, Sum,
};

use crate::amnesia::forgetful;
use crate::bench::*;
use crate::peers::*;

/// B says what it has seen, then loses a damaged row (another life), then says which leaves it has.
#[test]
fn a_seen_set_of_a_life_that_has_ended_is_not_taken_over() {
    let mut bench = bench(3);
    bench.connect();
    // Something to forget, so that the partition is pulled.
    let t = Dot::new(Actor(2), 1);
    bench.write_from(B, t, Context::new());
    bench.commit_all();
    let (partition, other) = (bench.partition(), bench.beside());
    // B and C hold this one; W = 2 was reached by them.
    let d = Dot::new(Actor(9), 1);
    bench.sent.clear();
    bench.drive(20 * SECOND, |bench, to, message| match message {
        // C is there, and says nothing of what it has seen.
        PeerMessage::Roots(_) if to != B => {
            let (roots, uncounted, seen) = (Vec::new(), Vec::new(), Vec::new());
            Some(PeerMessage::RootsReply(RootsReply {
                is_same: true,
                roots,
                uncounted,
                seen,
                fenced: (1, 1),
            }))
        }
        _ if to != B => None,
        PeerMessage::Roots(Roots { seen_of, .. }) => {
            let mut dots = SeenSet::new();
            dots.insert(t);
            dots.insert(d);
            // With the first life: B has both rows.
            let seen =
                seen_of.iter().map(|&partition| Seen { partition, life: 1, dots: dots.clone() }).collect();
            let roots = vec![(partition, Sum { count: 2, sum: 99 })];
            Some(PeerMessage::RootsReply(RootsReply {
                is_same: false,
                roots,
                uncounted: Vec::new(),
                seen,
                fenced: (1, 1),
            }))
        }
        // The second life: the row of `other` was damaged, and is gone.
        PeerMessage::Leaves(Leaves { partitions }) => {
            assert_eq!(*partitions, [partition]);
            let leaves = vec![gramme_wire::peer::PartitionLeaves {
                partition,
                life: 2,
                leaves: bench.sums(partition),
            }];
            Some(PeerMessage::LeavesReply(LeavesReply { leaves }))
        }
        _ => None,
    });
    println!("pulls {} late {}", bench.replica.stats().pulls, bench.replica.stats().pulls_late);
    // C has it, and brings it.
    let reply = bench.state_from(C, 500, &other, &value(d)).expect("an answer");
    assert!(
        reply.covered.is_empty() && bench.objects.contains_key(&other),
        "C is told to drop an acknowledged value that this node never had: {:?} {:?}",
        reply.header.status,
        reply.covered
    );
}

fn closed(message: &PeerMessage) -> Option<PeerMessage> {
    let PeerMessage::Close(Close { .. }) = message else { return None };
    let (alive, keeps) = (Vec::new(), false);
    Some(PeerMessage::CloseReply(CloseReply { header: header(Status::DoneSynced), alive, keeps }))
}

/// The first pull of a closing round came before this node lost rows, the second after.
#[test]
fn a_loss_begins_the_closing_of_tenures_anew() {
    let (before, dead) = with_gap();
    let x = Dot::new(Actor(77), 2);
    let other = before.beside();
    let mut bench = restarted(&before, &[]);
    bench.connect();
    // B has the two dots, C only the one.
    let mut of_c = SeenSet::new();
    of_c.insert(dead);
    let mut of_b = of_c.clone();
    of_b.insert(x);
    // Until a round begins, all are the same.
    let mut is_asked = false;
    while !is_asked {
        assert!(bench.now < 60 * SECOND);
        bench.drive(SECOND, |_, _, message| match message {
            PeerMessage::Close(_) => {
                is_asked = true;
                None
            }
            PeerMessage::Roots(roots) => Some(same(roots, &of_c)),
            _ => None,
        });
    }
    // A late write of the dead tenure reaches B, and comes here from it, before anybody has closed it.
    bench.state_from(B, 400, &other, &value(x));
    assert!(bench.objects.contains_key(&other));
    let (mut final_seen, mut b_pulled) = (false, 0);
    bench.drive(30 * SECOND, |_, to, message| {
        if let PeerMessage::Close(close) = message {
            final_seen |= close.is_final;
        }
        match message {
            PeerMessage::Close(_) => closed(message),
            PeerMessage::Roots(roots) if to == B => {
                b_pulled += u32::from(final_seen && !roots.seen_of.is_empty());
                Some(same(roots, &of_b))
            }
            _ => None,
        }
    });
    assert!(final_seen && b_pulled > 0, "{final_seen} {b_pulled}");
    assert_eq!(bench.replica.stats().tenures_closed, 0);
    // The row that B also has is damaged here, and found by the next pass.
    bench.objects.insert(other.clone(), UNREADABLE);
    let lost_before = bench.replica.stats().rows_lost;
    // B is cut off from here on; C does not answer until the loss was found.
    while bench.replica.stats().rows_lost == lost_before {
        assert!(bench.now < 250 * SECOND, "the damage is never found");
        bench.drive(SECOND, |_, _, _| None);
    }
    assert_eq!(bench.replica.stats().amnesiac_partitions, 1);
    bench.drive(70 * SECOND, |_, to, message| match message {
        // C has never had it, and so they are the same.
        PeerMessage::Roots(roots) if to == C => Some(same(roots, &of_c)),
        _ => None,
    });
    let closed = bench.replica.stats().tenures_closed;
    // B brings its copy: the value was acknowledged.
    let reply = bench.state_from(B, 500, &other, &value(x)).expect("an answer");
    assert!(
        reply.covered.is_empty() && bench.objects.contains_key(&other),
        "B is told to drop what it alone holds: {:?} {:?}; tenures closed {closed}",
        reply.header.status,
        reply.covered
    );
}

/// What C does not say, or says, keeps the tenure from being closed; B says all that is wanted.
#[test]
fn every_step_of_closing_waits_for_everybody() {
    let silent = |_: &Close| None;
    let keeps = |close: &Close| close.is_final.then_some((Vec::new(), true)).or(Some((Vec::new(), false)));
    let alive = |close: &Close| Some((close.actors.clone(), false));
    let half = |close: &Close| (!close.is_final).then(|| (Vec::new(), false));
    type Answer = dyn Fn(&Close) -> Option<(Vec<Actor>, bool)>;
    let cases: [(&str, &Answer); 4] = [
        ("it does not say whether it writes under it", &silent),
        ("it writes under it", &alive),
        ("it does not say that it has recorded it", &half),
        ("it keeps something for the owners", &keeps),
    ];
    for (case, of_c) in cases {
        let (mut bench, dead) = with_gap();
        let mut theirs = SeenSet::new();
        theirs.insert(dead);
        let mut asked = 0;
        bench.drive(90 * SECOND, |_, to, message| match message {
            PeerMessage::Close(_) if to == B => closed(message),
            PeerMessage::Close(close) => {
                asked += 1;
                let (alive, keeps) = of_c(close)?;
                let header = header(Status::DoneSynced);
                Some(PeerMessage::CloseReply(CloseReply { header, alive, keeps }))
            }
            PeerMessage::Roots(roots) => Some(same(roots, &theirs)),
            _ => None,
        });
        assert!(asked > 0 && bench.replica.stats().tenures_closed == 0, "{case}");
    }
}

/// All of it counts as seen, what never came too.
#[test]
fn a_write_of_a_finished_tenure_is_not_acknowledged() {
    let (mut bench, dead) = with_gap();
    let mut theirs = SeenSet::new();
    theirs.insert(dead);
    bench.drive(90 * SECOND, |_, _, message| match message {
        PeerMessage::Close(_) => closed(message),
        PeerMessage::Roots(roots) => Some(same(roots, &theirs)),
        _ => None,
    });
    assert!(bench.replica.stats().tenures_closed > 0);
    println!("tenures closed: {}", bench.replica.stats().tenures_closed);
    bench.sent.clear();
    bench.write_from(B, Dot::new(dead.actor, 9), Context::new());
    bench.commit_all();
    let status = bench.sent.iter().find_map(|(_, _, message)| match message {
        PeerMessage::WriteReply(reply) => Some(reply.header.status),
        _ => None,
    });
    assert_eq!(status, Some(Status::Closed), "it is nowhere");
}

/// However long the others take to finish it.
#[test]
fn a_tenure_is_closed_once() {
    let (mut bench, dead) = with_gap();
    let mut theirs = SeenSet::new();
    theirs.insert(dead);
    let mut asked = 0;
    bench.drive(300 * SECOND, |_, _, message| match message {
        PeerMessage::Close(_) => {
            asked += 1;
            closed(message)
        }
        PeerMessage::Roots(roots) => Some(same(roots, &theirs)),
        _ => None,
    });
    assert_eq!(bench.replica.stats().tenures_closed, 1, "{asked} questions");
}

/// It was contradicted in its run, and counts again.
#[test]
fn a_machine_that_was_put_back_names_no_dot_twice() {
    let mut bench = bench(3);
    bench.connect();
    bench.replies.clear();
    bench.sent.clear();
    bench.put(1, client_put("v"));
    let writes = bench.writes();
    writes.iter().for_each(|(to, id, _)| bench.acknowledge(*to, *id, Status::DoneSynced));
    bench.commit_all();
    let dot = writes[0].2.dot;
    bench.lose();
    // The others have seen 50 of its dots: 49 of them it has forgotten.
    let theirs = upto(dot.actor, 50);
    bench.drive(30 * SECOND, |_, _, message| match message {
        PeerMessage::Roots(roots) => Some(same(roots, &theirs)),
        _ => None,
    });
    assert_eq!(bench.replica.stats().amnesiac_partitions, 0, "amnesia has ended");
    bench.replies.clear();
    bench.sent.clear();
    bench.put(2, client_put("another"));
    let writes = bench.writes();
    let again = writes[0].2.dot;
    // What real owners say: they have seen it, and do not hold it.
    writes.iter().for_each(|(to, id, _)| bench.acknowledge(*to, *id, Status::Covered));
    bench.commit_all();
    let is_ok = matches!(bench.answer(), Response::Put(Ok(_)));
    assert!(
        !theirs.contains(again),
        "{again:?} is a dot that the others know for another; acknowledged: {is_ok}"
    );
}

/// Seen-sets that fit into no answer together are asked for one after the other.
#[test]
fn every_partition_is_pulled_in_turn() {
    let mut bench = forgetful();
    let mut said = std::collections::BTreeSet::new();
    let mut rounds = 0;
    bench.drive(120 * SECOND, |_, to, message| match message {
        PeerMessage::Roots(roots) => {
            rounds += 1;
            // As `seen_of` does: as many as fit, from the front. None of them can be proven yet.
            let few: Vec<_> = roots.seen_of.iter().copied().take(4).collect();
            if to == B {
                said.extend(few.iter().copied());
            }
            let seen =
                few.iter().map(|&partition| Seen { partition, life: 0, dots: SeenSet::new() }).collect();
            Some(PeerMessage::RootsReply(RootsReply {
                is_same: true,
                roots: Vec::new(),
                uncounted: few,
                seen,
                fenced: (1, 1),
            }))
        }
        _ => None,
    });
    assert!(rounds > 10, "{rounds}");
    assert_eq!(said.len(), 8, "some are never asked for first");
}

#[test]
fn nothing_is_closed_in_partitions_that_do_not_exist() {
    let mut bench = bench(5);
    let before = bench.disk.meta.len();
    let mut statuses = Vec::new();
    for (n, depth) in [(0_u32, 255_u8), (u32::MAX, 3), (9, 3), (0, 0), (7, 64), (1, 31)].into_iter() {
        let partition = PartitionId { prefix: n, depth };
        let header = gramme_wire::peer::RequestHeader { partition, ..bench.header() };
        let seen_of = vec![partition; 3];
        let close = Close { header: header.clone(), actors: vec![Actor(1)], is_final: true };
        for message in [
            PeerMessage::Close(close),
            PeerMessage::Roots(Roots { digest: 1, seen_of }),
            PeerMessage::Leaves(Leaves { partitions: vec![partition] }),
            PeerMessage::Range(gramme_wire::peer::Range {
                header,
                first: 0,
                last: u64::MAX,
                keys: Vec::new(),
            }),
        ] {
            bench.sent.clear();
            bench.step(Input::Message { from: B, id: 5, message });
            bench.commit_all();
            statuses.extend(bench.sent.iter().filter_map(|(_, _, message)| match message {
                PeerMessage::CloseReply(reply) => Some(reply.header.status),
                _ => None,
            }));
        }
    }
    let rows = bench.disk.meta.keys().filter(|name| name.starts_with(b"closed/")).count();
    assert_eq!(rows, 0, "rows are kept for ever of partitions that do not exist: {statuses:?} {before}");
}

/// It is a fallback's, or a tenure that this node has not heard of.
#[test]
fn a_live_actor_does_not_keep_dead_ones_from_being_closed() {
    let mut bench = bench(3);
    bench.connect();
    let (dead, live) = (Dot::new(Actor(77), 5), Dot::new(Actor(78), 5));
    for dot in [dead, live] {
        let mut read = Context::new();
        read.raise(dot.actor, dot.counter);
        bench.write_from(B, dot, read);
    }
    bench.commit_all();
    let mut theirs = SeenSet::new();
    theirs.insert(dead);
    theirs.insert(live);
    let mut rounds = 0;
    bench.drive(600 * SECOND, |_, to, message| match message {
        PeerMessage::Close(close) => {
            rounds += u32::from(to == C);
            let alive =
                close.actors.iter().copied().filter(|actor| to == C && *actor == live.actor).collect();
            let header = header(Status::DoneSynced);
            Some(PeerMessage::CloseReply(CloseReply { header, alive, keeps: false }))
        }
        PeerMessage::Roots(roots) => Some(same(roots, &theirs)),
        _ => None,
    });
    assert!(bench.replica.stats().tenures_closed > 0, "{rounds} rounds in ten minutes");
}

/// An owner that missed a write of somebody who still writes, and has nothing to forget itself, would never ask for it.
#[test]
fn others_are_asked_to_take_over_what_a_live_actor_wrote() {
    let (mut bench, live) = with_gap();
    let partition = bench.partition();
    let mut theirs = SeenSet::new();
    theirs.insert(live);
    let mut asked = BTreeSet::new();
    bench.drive(600 * SECOND, |_, to, message| match message {
        PeerMessage::Close(close) => {
            let (header, alive) = (header(Status::DoneSynced), close.actors.clone());
            Some(PeerMessage::CloseReply(CloseReply { header, alive, keeps: false }))
        }
        PeerMessage::TakeOver(take) => {
            assert_eq!(take.header.partition, partition);
            asked.insert(to);
            None
        }
        PeerMessage::Roots(roots) => Some(same(roots, &theirs)),
        _ => None,
    });
    assert_eq!(asked, [B, C].into());
    assert_eq!(bench.replica.stats().tenures_closed, 0);
}

#[test]
fn a_partition_with_many_deletes_leaves_the_others_their_turn() {
    let mut bench = bench(3);
    bench.connect();
    let lowest = PartitionId { prefix: 0, depth: 3 };
    let highest = PartitionId { prefix: 7, depth: 3 };
    let layout = bench.replica.layout().clone();
    let of = |partition| {
        let keys = (0..).map(|n| Key::new("default", "b", format!("w{n}")).expect("valid"));
        let layout = &layout;
        keys.filter(move |key| layout.partition_of(KEYSPACE.hash(key.as_bytes())) == partition)
    };
    let delete = |bench: &mut Bench, key: Key, partition, counter| {
        let header = gramme_wire::peer::RequestHeader { partition, ..bench.header() };
        let sibling =
            Sibling { stamp: Stamp::at_millis(WALL / 1_000), write_id: 1, expires: None, content: None };
        let object =
            Object::from_write(&Context::new(), Dot::new(Actor(2), counter), sibling).encode().into();
        let repair = Repair { header, key, seat: Seat::default(), object };
        bench.step(Input::Message { from: B, id: 5, message: PeerMessage::Repair(repair) });
        bench.commit_all();
    };
    let theirs = upto(Actor(2), 1_000_000);
    let one = of(highest).next().expect("a key");
    let mut keys = of(lowest);
    for second in 0..180_u64 {
        if second == 60 {
            delete(&mut bench, one.clone(), highest, 1);
        }
        for n in 0..300 {
            let key = keys.next().expect("a key");
            delete(&mut bench, key, lowest, 2 + second * 300 + n);
        }
        // Only now and then is something sent of those; it is no matter here.
        bench.sent.retain(|(_, _, message)| matches!(message, PeerMessage::Roots(_)));
        bench.drive(SECOND, |_, _, message| match message {
            PeerMessage::Roots(roots) => Some(same(roots, &theirs)),
            _ => None,
        });
    }
    let (reclaimed, waiting) = (bench.replica.stats().reclaimed, bench.replica.stats().reclaim_waiting);
    assert!(!bench.objects.contains_key(&one), "after two minutes; {reclaimed} reclaimed, {waiting} wait");
}

/// Another's seen-set is taken over when all that it had is here; not if something of it came late from elsewhere, which
/// may be live here and was replaced there.
#[test]
fn what_comes_late_from_elsewhere_keeps_a_seen_set_from_being_taken_over() {
    for is_late in [false, true] {
        let mut bench = bench(3);
        bench.connect();
        let (tombstone, late, other) = (Dot::new(Actor(2), 1), Dot::new(Actor(9), 1), Dot::new(Actor(9), 2));
        bench.write_from(B, tombstone, Context::new());
        bench.commit_all();
        let mut seen = SeenSet::new();
        [tombstone, late, other].into_iter().for_each(|dot| assert!(seen.insert(dot)));
        let mut asked = Vec::new();
        while asked.is_empty() {
            bench.now = bench.timer.clamp(bench.now + 1, bench.now + SECOND);
            bench.step(Input::Timer);
            asked = std::mem::take(&mut bench.sent);
            asked.retain(|(to, _, message)| *to == B && matches!(message, PeerMessage::Roots(_)));
        }
        let (_, id, _) = asked[0];
        if is_late {
            bench.write_from(C, late, Context::new());
            bench.commit_all();
        }
        let partition = bench.partition();
        let seen = vec![Seen { partition, life: 1, dots: seen }];
        let (roots, uncounted) = (Vec::new(), Vec::new());
        let reply = RootsReply { is_same: true, roots, uncounted, seen, fenced: (1, 1) };
        bench.step(Input::Message { from: B, id, message: PeerMessage::RootsReply(reply) });
        bench.commit_all();
        bench.write_from(C, other, Context::new());
        bench.commit_all();
        let stored = bench.objects.get(&key()).expect("a row");
        let is_taken = Object::decode(stored).expect("an object").versions().is_live(other);
        assert_eq!(is_taken, is_late, "what it has seen it refuses");
    }
}
