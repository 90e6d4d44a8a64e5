//! What counts for nothing: amnesiacs, unproven starts, clocks that are off, versions we cannot speak to.

use crate::bench::*;
use bytes::Bytes;
use gramme_object::{Key, Object, Sibling, Stamp};
use gramme_quorum::{Failure, GetError, Seat, Threshold};
use gramme_replica::{Change, ClientPut, ClientRequest, Input, LWW_TYPE, Recovered, Response, Ticket};
use gramme_ring::NodeId;
use gramme_vclock::{Actor, Context, Dot};
use gramme_wire::PeerMessage;
use gramme_wire::peer::{Durability, Hello, Read, RequestHeader, Standing, Status, Write};

fn shortfall_of_own(bench: &mut Bench, ticket: u64) -> Vec<(NodeId, Failure)> {
    bench.step(Input::PeerDown(B));
    bench.step(Input::PeerDown(C));
    bench.replies.clear();
    bench.get(ticket);
    bench.step(Input::PeerDown(B));
    bench.step(Input::PeerDown(C));
    let Response::Get(Err(GetError::Unavailable(shortfall))) = bench.answer() else { panic!("it counted") };
    shortfall.failed
}

#[test]
fn a_node_that_is_told_of_more_than_it_has_counts_for_nothing() {
    let mut bench = bench(3);
    bench.put(1, client_put("x"));
    bench.commit_all();
    let told = bench.says(B);
    let reached = bench.remembered(&told, 0);
    bench.greet(B, Some(reached.clone()), WALL);
    assert_eq!(bench.replica.stats().amnesiac_partitions, 0);
    // A memory that is damaged accuses nobody.
    bench.greet(B, Some(Standing { boot: u64::MAX, ..reached }), WALL);
    assert_eq!((bench.replica.stats().amnesiac_partitions, bench.replica.stats().standings_refused), (0, 1));
    // It goes on from an older state of itself, and does far more than it lost before anybody greets it.
    let mut old = bench.disk.clone();
    old.position = told.point.position - 1;
    let mut back = started(3, old, BOUNDS);
    for put in 0..20 {
        back.put(put, client_put("new"));
        back.commit_all();
    }
    back.greet(B, Some(bench.remembered(&told, 0)), WALL);
    assert_eq!(back.replica.stats().amnesiac_partitions, 8);
    back.commit_all();
    // Its own copy counts no longer, for reads or for writes.
    let failed = shortfall_of_own(&mut back, 200);
    assert!(failed.contains(&(ME, Failure::Amnesiac)), "{failed:?}");
    back.sent.clear();
    back.write_from(B, Dot::new(Actor(2), 1), Context::new());
    back.commit_all();
    let is_amnesiac = |message: &PeerMessage| matches!(message, PeerMessage::WriteReply(reply) if reply.header.status == Status::Amnesiac);
    assert!(back.sent.iter().any(|(_, _, message)| is_amnesiac(message)), "{:?}", back.sent);
    assert!(back.objects.contains_key(&key()), "it takes what it is sent all the same");
    // And that is so after the next start, which is found out by nobody once more.
    let told = back.says(B);
    let mut next = started(3, back.disk.clone(), BOUNDS);
    next.greet(B, Some(back.remembered(&told, 0)), WALL);
    let is_record = |change: &Change| matches!(change, Change::Partition { .. });
    assert_eq!(next.replica.stats().amnesiac_partitions, 8);
    assert!(!next.pending.iter().flatten().any(is_record), "{:?}", next.pending);
}

/// What counted before the news does not count after it.
#[test]
fn what_an_amnesiac_had_counted_for_is_discounted() {
    let mut bench = bench(3);
    let told = bench.says(B);
    let beyond = bench.remembered(&told, 100);
    let request = ClientRequest::Get {
        key: key(),
        r: Threshold::Quorum,
        pr: Threshold::Default,
        timeout: 1_000,
        sloppy: None,
        against: Bytes::new(),
        session: Vec::new(),
    };
    bench.step(Input::Client { ticket: Ticket(1), request });
    bench.put(2, client_put("x"));
    let (_, id, _) = bench.writes().pop().expect("a write");
    bench.commit_all();
    bench.greet(B, Some(beyond), WALL);
    bench.acknowledge(B, id, Status::DoneSynced);
    assert!(bench.replies.is_empty(), "two were needed: {:?}", bench.replies);
    bench.acknowledge(C, id, Status::DoneSynced);
    let Response::Put(Ok(stored)) = bench.answer() else { panic!("two others") };
    assert_eq!(stored.receipt.acks, 2);
}

#[test]
fn a_start_counts_for_nothing_before_it_has_heard_the_others() {
    let mut bench = started(3, Recovered::default(), BOUNDS);
    let failed = shortfall_of_own(&mut bench, 1);
    assert!(failed.contains(&(ME, Failure::Unproven)), "{failed:?}");
    // One of two is enough after a while, since the other may be down.
    bench.greet(B, None, WALL);
    assert_eq!(bench.replica.stats().unproven_partitions, 8);
    bench.now = 2_000_000;
    bench.step(Input::Timer);
    assert_eq!(bench.replica.stats().unproven_partitions, 0);
    // None is not.
    let mut alone = started(3, Recovered::default(), BOUNDS);
    alone.now = 3_000_000;
    alone.step(Input::Timer);
    assert_eq!(alone.replica.stats().unproven_partitions, 8);
    // A hello that answers an earlier start says nothing of this one.
    let hello = Hello { answers: 1, ..greeting() };
    alone.step(Input::Message { from: B, id: 1, message: PeerMessage::Hello(hello) });
    assert_eq!(alone.replica.stats().unproven_partitions, 8);
}

#[test]
fn a_runaway_stamp_is_refused_and_carries_nobody_away() {
    let mut bench = bench(3);
    let sibling = |stamp| Sibling { stamp, write_id: 1, expires: None, content: None };
    let dot = Dot::new(Actor(2), 1);
    let runaway = Stamp::at_millis(WALL / 1_000 + 3_600_000);
    let object: Bytes = Object::from_write(&Context::new(), dot, sibling(runaway)).encode().into();
    let (header, seat) = (bench.header(), Seat::default());
    let write =
        Write { header, key: key(), seat, durability: Durability::Synced, dot, object: object.clone() };
    bench.step(Input::Message { from: B, id: 1, message: PeerMessage::Write(write) });
    let refused = |message: &PeerMessage| matches!(message, PeerMessage::WriteReply(reply) if reply.header.status == Status::Refused);
    assert!(bench.sent.iter().any(|(_, _, message)| refused(message)));
    // It may be stored all the same, by an older version of us: our own stamps stay with our clock.
    bench.objects.insert(key(), object);
    bench.put(1, client_put("x"));
    let (_, _, write) = bench.writes().pop().expect("a write");
    let sent = Object::decode(&write.object).expect("an object");
    assert!(!sent.only(write.dot).newest_stamp().is_ahead(WALL / 1_000));
}

#[test]
fn an_older_epoch_is_stale() {
    let mut bench = bench(3);
    let header = RequestHeader { generation: 0, epoch: 9, ..bench.header() };
    let read = Read { header, key: key(), withhold: 0, asked: None };
    bench.step(Input::Message { from: C, id: 1, message: PeerMessage::Read(read) });
    let [(C, _, PeerMessage::NewLayout(_)), (C, 1, PeerMessage::ReadReply(reply))] = bench.sent.as_slice()
    else {
        panic!("{:?}", bench.sent)
    };
    assert_eq!((reply.header.status, reply.header.generation), (Status::Stale, 1));
}

#[test]
fn a_node_with_a_fast_clock_coordinates_no_last_write_wins_puts() {
    let mut bench = bench(3);
    let lww = Key::new(LWW_TYPE, "b", "k").expect("valid parts");
    let put = || ClientPut { key: lww.clone(), ..client_put("x") };
    bench.put(1, put());
    assert_eq!(bench.writes().len(), 2, "while it is right it does");
    bench.skew = 3_600_000_000;
    bench.put(2, put());
    let sent = std::mem::take(&mut bench.sent);
    assert!(matches!(sent.as_slice(), [(_, _, PeerMessage::Forward(_))]), "{sent:?}");
    // Where siblings are kept its writes are taken, with a stamp that the others believe.
    bench.put(3, client_put("x"));
    let (_, _, write) = bench.writes().pop().expect("a write");
    let stamp = Object::decode(&write.object).expect("an object").newest_stamp();
    assert!(!stamp.is_ahead(WALL / 1_000), "{stamp:?}");
    bench.step(Input::Client { ticket: Ticket(4), request: ClientRequest::Status });
    let Some((_, Response::Status(status))) = bench.replies.pop() else { panic!("no status") };
    let me = status.nodes.iter().find(|node| node.id == ME).expect("itself");
    assert!(me.clock_off.is_some_and(|off| off.abs_diff(3_600_000_000) < 10), "{me:?}");
}

#[test]
fn a_version_that_we_cannot_speak_to_is_asked_nothing_and_not_cut_off() {
    let mut bench = bench(4);
    let hello = Hello { versions: (3, 4), ..greeting() };
    let foreign = bench.foreign_key();
    let owner = bench.owners_of(&foreign)[0];
    for node in bench.owners_of(&foreign) {
        bench.step(Input::PeerUp(node));
    }
    bench.step(Input::Message { from: owner, id: 1, message: PeerMessage::Hello(hello) });
    bench.sent.clear();
    bench.put(1, ClientPut { key: foreign, ..client_put("x") });
    let forwarded = bench.sent.iter().find(|(_, _, message)| message.name() == "Forward");
    assert!(forwarded.is_some_and(|(to, ..)| *to != owner), "{forwarded:?}");
    // A request that an older version does not know is a plain failure.
    bench.get(2);
    let (id, to) = bench
        .sent
        .iter()
        .find(|(_, _, message)| message.name() == "Read")
        .map(|(to, id, _)| (*id, *to))
        .expect("a read");
    let unsupported = gramme_wire::peer::Unsupported { method: 2 };
    bench.step(Input::Message { from: to, id, message: PeerMessage::Unsupported(unsupported) });
}
