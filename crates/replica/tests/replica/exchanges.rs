//! Comparing with other replicas: what is looked at, what is left alone, and what a peer may ask.

use bytes::Bytes;
use gramme_object::{Content, Key, Object, Sibling, Stamp};
use gramme_quorum::Seat;
use gramme_replica::{Bounds, Input, Recovered};
use gramme_ring::NodeId;
use gramme_vclock::{Actor, Context, Dot};
use gramme_wire::PeerMessage;
use gramme_wire::peer::{
    Durability, LeavesReply, PartitionLeaves, Range, RangeReply, Roots, RootsReply, Status, Sum, Write,
    WriteReply,
};

use crate::bench::*;
use crate::peers::*;

const MINUTE: u64 = 60_000_000;
/// A sum that no leaf here has.
const OTHER: Sum = Sum { count: 9, sum: 1 };

fn large(actor: u64, bytes: usize) -> (Dot, Bytes) {
    let dot = Dot::new(Actor(actor), 1);
    let content = Some(Content::from_body(&vec![7; bytes]));
    let sibling = Sibling { stamp: Stamp::at_millis(WALL / 1_000), write_id: actor, expires: None, content };
    (dot, Object::from_write(&Context::new(), dot, sibling).encode().into())
}

/// A peer whose leaves always differ.
#[derive(Default)]
struct Peer {
    /// What it has.
    objects: Vec<(Key, Bytes)>,
    /// Whether it says that it lacks what it is told of.
    wants: bool,
    /// The keys whose leaves differ.
    keys: Vec<Key>,
}

#[derive(Debug, Default)]
struct Seen {
    ranges: usize,
    /// The keys that were sent to mend.
    repaired: Vec<Key>,
}

impl Bench {
    fn write_here(&mut self, key: &Key, (dot, object): (Dot, Bytes)) {
        let (header, seat, durability) = (self.header(), Seat::default(), Durability::Synced);
        let write = Write { header, key: key.clone(), seat, durability, dot, object };
        self.step(Input::Message { from: B, id: 7, message: PeerMessage::Write(write) });
        self.commit_all();
    }

    /// What a peer says to a message.
    fn answer_of(&self, peer: &Peer, message: &PeerMessage) -> Option<PeerMessage> {
        let partition = self.partition();
        Some(match message {
            PeerMessage::Roots(_) => PeerMessage::RootsReply(RootsReply {
                is_same: false,
                roots: vec![(partition, OTHER)],
                uncounted: Vec::new(),
                seen: Vec::new(),
                fenced: (1, 1),
            }),
            PeerMessage::Leaves(_) => {
                let mut leaves: Vec<_> =
                    peer.keys.iter().map(|key| (leaf_of(key, partition), OTHER)).collect();
                leaves.sort_unstable_by_key(|(leaf, _)| *leaf);
                PeerMessage::LeavesReply(LeavesReply {
                    leaves: vec![PartitionLeaves { partition, life: 0, leaves }],
                })
            }
            PeerMessage::Range(range) => {
                let keys = range.keys.iter().map(|(key, _)| key.clone());
                PeerMessage::RangeReply(RangeReply {
                    header: header(Status::DoneSynced),
                    objects: peer.objects.clone(),
                    wants: if peer.wants { keys.collect() } else { Vec::new() },
                    through: range.last,
                    is_damaged: false,
                })
            }
            PeerMessage::Repair(_) => PeerMessage::WriteReply(WriteReply {
                header: header(Status::WriteStopped),
                seat: Seat::default(),
                covered: Vec::new(),
                object: Bytes::new(),
            }),
            _ => return None,
        })
    }

    /// Lets time pass in which the peer answers at once.
    fn exchange_for(&mut self, peer: &Peer, micros: u64) -> Seen {
        let (end, mut seen) = (self.now + micros, Seen::default());
        self.step(Input::PeerUp(B));
        while self.now < end {
            for (to, id, message) in std::mem::take(&mut self.sent) {
                seen.ranges += usize::from(message.name() == "Range");
                if let PeerMessage::Repair(repair) = &message {
                    seen.repaired.push(repair.key.clone());
                }
                if let Some(message) = self.answer_of(peer, &message).filter(|_| to == B) {
                    self.step(Input::Message { from: B, id, message });
                }
            }
            self.commit_all();
            if self.sent.is_empty() {
                self.now = self.now.max(self.timer);
                self.step(Input::Timer);
            }
        }
        seen
    }
}

/// What cannot be mended is looked at again, and more and more seldom.
#[test]
fn a_replica_that_refuses_is_left_alone_more_and_more() {
    let mut bench = bench(3);
    bench.write_here(&key(), large(9, 1));
    let peer = Peer { wants: true, keys: vec![key()], ..Peer::default() };
    let seen = bench.exchange_for(&peer, 2 * MINUTE);
    assert!((2..12).contains(&seen.repaired.len()), "{seen:?}");
}

#[test]
fn what_is_too_large_together_is_not_brought_for_ever() {
    let mut bench = started(3, Recovered::default(), Bounds { bytes: 1 << 30, ..BOUNDS });
    bench.prove();
    bench.write_here(&key(), large(9, 30 << 20));
    let objects = vec![(key(), large(10, 30 << 20).1)];
    let seen = bench.exchange_for(&Peer { objects, wants: true, keys: vec![key()] }, 2 * MINUTE);
    assert!((2..12).contains(&seen.ranges), "{seen:?}");
}

#[test]
fn a_row_that_cannot_be_read_stops_no_other() {
    let mut bench = bench(3);
    let bad = key();
    let good = bench.beside();
    bench.write_here(&bad, large(9, 1));
    bench.write_here(&good, large(10, 1));
    let mut again = restarted(&bench, &[&bad]);
    let peer = Peer { wants: true, keys: vec![bad, good.clone()], ..Peer::default() };
    let seen = again.exchange_for(&peer, MINUTE);
    assert!(seen.repaired.contains(&good) && again.replica.stats().exchanges_failed == 0, "{seen:?}");
}

#[test]
fn a_damaged_row_is_not_brought_for_ever() {
    let mut bench = bench(3);
    bench.write_here(&key(), large(9, 1));
    let mut again = restarted(&bench, &[&key()]);
    let peer = Peer { objects: vec![(key(), large(10, 1).1)], keys: vec![key()], wants: false };
    let seen = again.exchange_for(&peer, 2 * MINUTE);
    assert!((2..12).contains(&seen.ranges), "{seen:?}");
}

#[test]
fn an_empty_replica_is_not_the_same_as_an_equal_one() {
    let mut empty = bench(3);
    empty.step(Input::Message {
        from: B,
        id: 5,
        message: PeerMessage::Roots(Roots { digest: 1, seen_of: Vec::new() }),
    });
    let Some((.., PeerMessage::RootsReply(reply))) = empty.sent.pop() else { panic!("a reply") };
    let mut full = bench(3);
    full.write_here(&key(), large(9, 1));
    full.step(Input::PeerUp(C));
    full.sent.clear();
    full.now = 2_000_000;
    full.step(Input::Timer);
    let id = full.last_id("Roots");
    full.step(Input::Message { from: C, id, message: PeerMessage::RootsReply(reply) });
    full.last_id("Leaves");
}

#[test]
fn a_busy_replica_is_compared_with_soon() {
    let mut bench = bench(3);
    bench.connect();
    // All is equal for long, and pauses are long.
    while bench.now < 5 * MINUTE {
        for (from, id, message) in std::mem::take(&mut bench.sent) {
            if message.name() == "Roots" {
                let reply = RootsReply {
                    is_same: true,
                    roots: Vec::new(),
                    uncounted: Vec::new(),
                    seen: Vec::new(),
                    fenced: (1, 1),
                };
                bench.step(Input::Message { from, id, message: PeerMessage::RootsReply(reply) });
            }
        }
        bench.now = bench.now.max(bench.timer);
        bench.step(Input::Timer);
    }
    bench.sent.clear();
    bench.put(1, client_put("x"));
    let writes = bench.writes();
    bench.commit_all();
    for (to, id, _) in writes {
        bench.acknowledge(to, id, if to == B { Status::Busy } else { Status::DoneSynced });
    }
    let until = bench.now + 2_000_000;
    while bench.timer <= until {
        bench.now = bench.now.max(bench.timer);
        bench.step(Input::Timer);
    }
    let asked: Vec<NodeId> =
        bench.sent.iter().filter(|(.., message)| message.name() == "Roots").map(|(to, ..)| *to).collect();
    assert!(asked.contains(&B), "{asked:?}");
}

/// Whatever a peer asks, it gets nothing that it should not have, and nobody is held up.
#[test]
fn ranges_that_are_none_are_refused() {
    let mut bench = bench(3);
    bench.write_here(&key(), large(9, 1));
    let at = KEYSPACE.hash(key().as_bytes()).0;
    for (first, last) in [(at, at - 1), (0, u64::MAX), (u64::MAX, 0)] {
        bench.sent.clear();
        let range = Range { header: bench.header(), first, last, keys: Vec::new() };
        bench.step(Input::Message { from: B, id: 5, message: PeerMessage::Range(range) });
        let Some((.., PeerMessage::RangeReply(reply))) = bench.sent.pop() else { panic!("a reply") };
        assert_eq!((reply.header.status, reply.objects.len()), (Status::Refused, 0), "{first} {last}");
    }
    let range = Range { header: bench.header(), first: at, last: at, keys: Vec::new() };
    bench.step(Input::Message { from: B, id: 5, message: PeerMessage::Range(range) });
    let Some((.., PeerMessage::RangeReply(reply))) = bench.sent.pop() else { panic!("a reply") };
    assert_eq!(reply.objects.len(), 1);
}
