//! Deletes that leave nothing, and that nothing undoes.

use bytes::Bytes;
use gramme_object::Object;
use gramme_quorum::Seat;
use gramme_replica::{ClientPut, Input, Response};
use gramme_ring::NodeId;
use gramme_vclock::{Actor, Context, Dot, SeenSet};
use gramme_wire::PeerMessage;
use gramme_wire::peer::{
    Close, CloseReply, Hint, LeavesReply, PartitionLeaves, RangeReply, Read, Repair, RootsReply, Status, Sum,
    Write, WriteReply,
};

use crate::bench::*;
use crate::peers::*;

/// The dot, and all before it.
fn seen(dot: Dot) -> SeenSet {
    upto(dot.actor, dot.counter)
}

impl Bench {
    /// Lets time pass in which both others find everything the same, and say that they have seen this.
    fn compare_for(&mut self, micros: u64, theirs: &[(NodeId, SeenSet)]) {
        self.drive(micros, |_, to, message| {
            let PeerMessage::Roots(roots) = message else { return None };
            let (_, dots) = theirs.iter().find(|(node, _)| *node == to)?;
            Some(same(roots, dots))
        });
    }

    fn has_row(&self) -> bool {
        self.objects.contains_key(&key())
    }

    fn live(&self) -> Vec<Dot> {
        let stored = self.objects.get(&key()).cloned().unwrap_or_default();
        if stored.is_empty() {
            return Vec::new();
        }
        Object::decode(&stored).expect("an object").versions().dots().collect()
    }

    /// Writes through this node, acknowledged by both others; says what was sent and the new context.
    fn put_through(&mut self, put: ClientPut) -> (Write, Bytes) {
        self.replies.clear();
        self.sent.clear();
        self.put(1, put);
        let mut writes = self.writes();
        writes.iter().for_each(|(to, id, _)| self.acknowledge(*to, *id, Status::DoneSynced));
        self.commit_all();
        let Response::Put(Ok(stored)) = self.answer() else { panic!("it is stored") };
        (writes.pop().expect("a write").2, stored.context)
    }
}

/// A key that was written and deleted through this node, with the two writes and the context before the delete.
struct Deleted {
    bench: Bench,
    value: Write,
    tombstone: Write,
    context: Bytes,
}

fn deleted() -> Deleted {
    let mut bench = bench(3);
    bench.connect();
    let (value, context) = bench.put_through(client_put("v"));
    let delete = ClientPut { content: None, context: context.clone(), ..client_put("") };
    let (tombstone, _) = bench.put_through(delete);
    Deleted { bench, value, tombstone, context }
}

#[test]
fn a_tombstone_goes_when_every_owner_has_seen_it_and_not_before() {
    for is_silent in [false, true] {
        let Deleted { mut bench, value, tombstone, .. } = deleted();
        let mut theirs = vec![(B, seen(tombstone.dot)), (C, seen(value.dot))];
        theirs.truncate(if is_silent { 1 } else { 2 });
        bench.compare_for(60 * SECOND, &theirs);
        assert_eq!(bench.live(), [tombstone.dot], "one owner has not seen it, or does not say so");
    }
    let Deleted { mut bench, value, tombstone, .. } = deleted();
    let both = seen(tombstone.dot);
    bench.compare_for(60 * SECOND, &[(B, both.clone()), (C, both)]);
    assert!(!bench.has_row());
    assert_eq!((bench.replica.stats().keys, bench.replica.stats().bytes), (0, 0));
    // A start finds nothing either, and refuses it all the same.
    let mut again = started(3, bench.disk.clone(), BOUNDS);
    again.prove();
    again.step(Input::Message { from: B, id: 7, message: PeerMessage::Write(value) });
    again.commit_all();
    assert!(again.live().is_empty());
}

/// A put, a hint, a repair, an exchange and a client's context from before are held past the reclaim, and the key is
/// written anew: none of them brings the old value back, and none takes the new one.
#[test]
fn nothing_from_before_undoes_a_delete() {
    let Deleted { mut bench, value, tombstone, context } = deleted();
    let both = seen(tombstone.dot);
    bench.compare_for(30 * SECOND, &[(B, both.clone()), (C, both)]);
    assert!(!bench.has_row());
    let (anew, _) = bench.put_through(client_put("anew"));
    assert_eq!(bench.live(), [anew.dot]);
    let (header, object) = (bench.header(), value.object.clone());
    let hint = Hint { header: header.clone(), key: key(), object: object.clone() };
    let repair = Repair { header, key: key(), seat: Seat::default(), object };
    bench.sent.clear();
    for (id, message) in [
        (10, PeerMessage::Write(value.clone())),
        (11, PeerMessage::Hint(hint)),
        // An exchange brings what its other side lacks as a repair.
        (12, PeerMessage::Repair(repair)),
        (13, PeerMessage::Write(tombstone.clone())),
    ] {
        bench.step(Input::Message { from: B, id, message });
        bench.commit_all();
        assert_eq!(bench.live(), [anew.dot], "after message {id}");
    }
    // Whoever brought it is told that it was replaced.
    let told = bench.sent.iter().find_map(|(_, id, message)| match message {
        PeerMessage::WriteReply(reply) if *id == 12 => Some(reply.clone()),
        _ => None,
    });
    let told = told.expect("an answer");
    assert_eq!((told.header.status, told.covered), (Status::Covered, vec![value.dot]));
    // By what, too: it may be nowhere else yet.
    let instead = Object::decode(&told.object).expect("an object");
    assert_eq!(instead.versions().dots().collect::<Vec<_>>(), [anew.dot]);
    // The client had read the old value: its write stands beside the new one, and ends nothing.
    let (late, _) = bench.put_through(ClientPut { context, ..client_put("late") });
    assert_eq!(bench.live(), [anew.dot, late.dot]);
}

/// What replaced a version may be forgotten where the version is not yet: it ends there too.
#[test]
fn what_another_owner_has_seen_replaced_ends_here() {
    let bench = told_of_a_replacement(&Object::new());
    assert!(bench.live().is_empty(), "{:?}", bench.live());
    assert_eq!((bench.replica.stats().keys, bench.replica.stats().versions_buried), (0, 1));
}

/// What replaced a version may be at one owner alone, and not acknowledged: without it a reader would find neither, and it
/// could be lost with one disk. Forgotten context, as here, says nothing of the version that it replaced.
#[test]
fn a_version_goes_when_what_replaced_it_is_here() {
    let newer = Dot::new(Actor(2), 1);
    let content = Some(gramme_object::Content::from_body(b"newer"));
    let stamp = gramme_object::Stamp::at_millis(WALL / 1_000);
    let sibling = gramme_object::Sibling { stamp, write_id: 9, expires: None, content };
    let bench = told_of_a_replacement(&Object::from_write(&Context::new(), newer, sibling));
    assert_eq!(bench.live(), [newer]);
}

/// A node that has a value of its own, and is told in an exchange that it was replaced, by this.
fn told_of_a_replacement(by: &Object) -> Bench {
    let object = if by.is_empty() { Bytes::new() } else { Bytes::from(by.encode()) };
    let mut bench = bench(3);
    bench.connect();
    let (value, _) = bench.put_through(client_put("v"));
    let status = Status::DoneSynced;
    bench.step(Input::PeerUp(B));
    let partition = bench.partition();
    let (leaf, sum) = (leaf_of(&key(), partition), Sum { count: 9, sum: 1 });
    bench.drive(10 * SECOND, |bench, to, message| {
        Some(match message {
            _ if to != B || !bench.live().contains(&value.dot) => return None,
            PeerMessage::Roots(_) => {
                let (roots, uncounted, seen) = (vec![(partition, sum)], Vec::new(), Vec::new());
                PeerMessage::RootsReply(RootsReply { is_same: false, roots, uncounted, seen, fenced: (1, 1) })
            }
            PeerMessage::Leaves(_) => {
                let leaves = vec![PartitionLeaves { partition, life: 0, leaves: vec![(leaf, sum)] }];
                PeerMessage::LeavesReply(LeavesReply { leaves })
            }
            PeerMessage::Range(range) => {
                let wants = range.keys.iter().map(|(key, _)| key.clone()).collect();
                let (header, objects, through) = (header(status), Vec::new(), range.last);
                let is_damaged = false;
                PeerMessage::RangeReply(RangeReply { header, objects, wants, through, is_damaged })
            }
            PeerMessage::Repair(_) => {
                let (header, seat, covered) = (header(status), Seat::default(), vec![value.dot]);
                PeerMessage::WriteReply(WriteReply { header, seat, covered, object: object.clone() })
            }
            _ => return None,
        })
    });
    bench
}

/// What became of a version is said as of the state that is shown: one that came while that waited for its batch is not
/// taken for replaced.
#[test]
fn a_version_that_comes_while_a_read_waits_was_not_replaced() {
    let mut bench = bench(3);
    let (first, second) = (Dot::new(Actor(2), 1), Dot::new(Actor(3), 1));
    bench.write_from(B, first, Context::new());
    let read = Read { header: bench.header(), key: key(), withhold: 0, asked: ask(vec![second]) };
    bench.step(Input::Message { from: C, id: 5, message: PeerMessage::Read(read) });
    bench.write_from(C, second, Context::new());
    bench.commit_all();
    let reply = bench.sent.iter().find_map(|(_, _, message)| match message {
        PeerMessage::ReadReply(reply) => Some(reply.clone()),
        _ => None,
    });
    let reply = reply.expect("an answer");
    let shown = Object::decode(&reply.object).expect("an object");
    let covered = reply.told.as_ref().expect("what was asked").covered.clone();
    assert!(covered.is_empty() || shown.versions().is_live(second), "{reply:?}");
}

/// A context speaks of dots that nobody has: those of a tenure that is over, once everybody has said so.
#[test]
fn a_dead_tenure_with_a_gap_is_closed() {
    let (mut bench, dead) = with_gap();
    let mut theirs = SeenSet::new();
    theirs.insert(dead);
    let (mut asked, mut closed, mut done) = (0, 0, false);
    for _ in 0..200 {
        if done {
            theirs.finish(dead.actor);
        }
        bench.drive(SECOND, |bench, to, message| match message {
            PeerMessage::Roots(roots) => Some(same(roots, &theirs)),
            PeerMessage::Close(Close { actors, is_final, .. }) => {
                assert_eq!(*actors, [dead.actor]);
                assert!(bench.has_row() || closed >= 6, "something of it may be on its way");
                (asked, closed) = (asked + u32::from(!is_final), closed + u32::from(*is_final));
                // One of them still keeps something at first.
                let (alive, keeps) = (Vec::new(), *is_final && to == C && closed < 6);
                Some(PeerMessage::CloseReply(CloseReply { header: header(Status::DoneSynced), alive, keeps }))
            }
            _ => None,
        });
        assert!(bench.has_row() || closed >= 6, "something of it may be on its way");
        done = bench.replica.stats().tenures_closed > 0;
        if !bench.has_row() {
            break;
        }
    }
    assert!(asked >= 2 && closed >= 6 && done && !bench.has_row(), "{asked} {closed} {done}");
}

#[test]
fn a_closed_tenure_writes_no_more() {
    let mut bench = bench(3);
    let ours = {
        let (write, _) = bench.put_through(client_put("v"));
        write.dot.actor
    };
    let close = |bench: &mut Bench, actor, is_final| {
        bench.sent.clear();
        let close = Close { header: bench.header(), actors: vec![actor], is_final };
        bench.step(Input::Message { from: B, id: 8, message: PeerMessage::Close(close) });
        bench.commit_all();
        let reply = bench.sent.iter().find_map(|(_, _, message)| match message {
            PeerMessage::CloseReply(reply) => Some((reply.header.status, reply.alive.clone())),
            _ => None,
        });
        reply.expect("an answer")
    };
    assert_eq!(close(&mut bench, ours, true), (Status::DoneSynced, vec![ours]), "it is alive");
    assert_eq!(close(&mut bench, Actor(77), false), (Status::DoneSynced, Vec::new()));
    let status = |bench: &mut Bench, counter| {
        bench.sent.clear();
        bench.write_from(B, Dot::new(Actor(77), counter), Context::new());
        bench.commit_all();
        let reply = bench.sent.iter().find_map(|(_, _, message)| match message {
            PeerMessage::WriteReply(reply) => Some(reply.header.status),
            _ => None,
        });
        reply.expect("an answer")
    };
    assert_eq!(status(&mut bench, 1), Status::DoneSynced, "it was only asked about");
    assert_eq!(close(&mut bench, Actor(77), true), (Status::DoneSynced, Vec::new()));
    assert_eq!(status(&mut bench, 2), Status::Closed);
    assert_eq!(status(&mut bench, 1), Status::DoneSynced, "this one it had before");
    // And so it is after the next start, for a partition that is another's too.
    let mut again = started(3, bench.disk.clone(), BOUNDS);
    again.prove();
    assert_eq!(status(&mut again, 3), Status::Closed);
}
