//! Who coordinates a put, when it is answered, and duplicates.

use crate::bench::*;
use bytes::Bytes;
use gramme_object::{Content, Expiry, Key, Object, Sibling, Stamp};
use gramme_quorum::{PutError, Seat, Threshold};
use gramme_replica::{ClientPut, Input, Response, Ticket};
use gramme_vclock::{Actor, Context, Dot};
use gramme_wire::PeerMessage;
use gramme_wire::peer::{
    Durability, Forward, ForwardReply, Put, Read, ReplyHeader, RequestHeader, Status, Write, WriteReply,
};

#[test]
fn a_copy_of_a_put_is_not_handed_on_again() {
    let mut bench = bench(4);
    bench.connect();
    let identity = Some((9, 1));
    let key = bench.foreign_key();
    let put = ClientPut { key, identity, ..client_put("x") };
    let handed_on = |bench: &Bench| {
        let forwards = bench.sent.iter().filter(|(_, _, message)| matches!(message, PeerMessage::Forward(_)));
        forwards.map(|(to, id, _)| (*to, *id)).collect::<Vec<_>>()
    };
    bench.put(1, put.clone());
    bench.step(Input::PeerSuspect(handed_on(&bench)[0].0));
    bench.put(2, put);
    let [(owner, id)] = handed_on(&bench)[..] else { panic!("two owners: {:?}", bench.sent) };
    let outcome = Err(PutError::Busy);
    let reply = ForwardReply { header: header(Status::Refused), outcome };
    bench.sent.clear();
    bench.step(Input::Message { from: owner, id, message: PeerMessage::ForwardReply(Box::new(reply)) });
    assert_eq!(handed_on(&bench).len(), 1, "the next owner gets it, once");
}

/// Whoever counts an acknowledgement has to know of which tenure it is.
#[test]
fn an_acknowledgement_says_of_which_tenure_it_is() {
    let mut bench = bench(3);
    bench.put(1, client_put("x"));
    let dot = bench.writes()[0].2.dot;
    bench.write_from(B, Dot::new(Actor(2), 1), Context::new());
    bench.commit_all();
    let replies = bench.sent.iter().filter_map(|(_, _, message)| match message {
        PeerMessage::WriteReply(reply) => Some(reply.header.clone()),
        _ => None,
    });
    let replies: Vec<_> = replies.collect();
    assert_eq!(replies.len(), 1);
    assert_eq!(replies[0].tenure.actor, Some(dot.actor));
    assert_ne!(replies[0].life, 0);
}

#[test]
fn a_put_is_answered_at_w_and_not_before_it_is_durable_here() {
    let mut bench = bench(3);
    bench.put(1, client_put("x"));
    let writes = bench.writes();
    assert_eq!(writes.iter().map(|(to, ..)| *to).collect::<Vec<_>>().len(), 2);
    bench.acknowledge(writes[0].0, writes[0].1, Status::DoneSynced);
    bench.acknowledge(writes[0].0, writes[0].1, Status::DoneSynced);
    assert!(bench.replies.is_empty(), "one replica counts once");
    bench.commit_all();
    let Response::Put(Ok(stored)) = bench.answer() else { panic!("not stored") };
    assert_eq!((stored.receipt.acks, stored.receipt.synced), (2, 2));
    // A late acknowledgement ends the request, and answers nobody.
    bench.acknowledge(writes[1].0, writes[1].1, Status::DoneSynced);
    assert_eq!((bench.replies.len(), bench.replica.requests_under_way()), (0, 0));
}

/// Two others are a quorum: the own disk is waited for only by who wants to see what is stored.
#[test]
fn a_put_waits_for_the_own_disk_only_to_show_what_is_stored() {
    for return_body in [false, true] {
        let mut bench = bench(3);
        bench.put(1, ClientPut { return_body, ..client_put("x") });
        for (to, id, _) in bench.writes() {
            bench.acknowledge(to, id, Status::DoneSynced);
        }
        assert_eq!(bench.replies.is_empty(), return_body);
        bench.commit_all();
        let Response::Put(Ok(stored)) = bench.answer() else { panic!("not stored") };
        assert_eq!(stored.object.map(|object| object.siblings().len()), return_body.then_some(1));
    }
}

#[test]
fn a_duplicate_is_answered_as_the_first() {
    let mut bench = bench(3);
    let named = || ClientPut { identity: Some((7, 8)), ..client_put("x") };
    bench.put(1, named());
    bench.put(2, named());
    let writes = bench.writes();
    assert_eq!(writes.len(), 2, "one write to each of two others");
    bench.commit_all();
    bench.acknowledge(writes[0].0, writes[0].1, Status::DoneSynced);
    assert_eq!(bench.replies.len(), 2);
    bench.put(3, named());
    assert_eq!((bench.replies.len(), bench.writes().len()), (3, 0));
    let other = Key::new("default", "b", "other").expect("valid parts");
    bench.put(4, ClientPut { key: other, ..named() });
    assert!(matches!(bench.replies.last(), Some((Ticket(4), Response::Put(Err(PutError::RequestReused))))));
}

#[test]
fn synced_acknowledgements_are_asked_for_where_they_are_wanted() {
    let mut bench = bench(3);
    bench.put(1, ClientPut { dw: Threshold::All, ..client_put("x") });
    assert!(bench.writes().iter().all(|(_, _, write)| write.durability == Durability::Synced));
    assert_eq!(bench.syncs, [true]);
}

#[test]
fn a_put_is_handed_on_until_an_owner_takes_it_and_never_to_two() {
    let mut bench = bench(8);
    bench.connect();
    let foreign = bench.foreign_key();
    let owners = bench.owners_of(&foreign);
    bench.put(1, ClientPut { key: foreign, ..client_put("x") });
    let forwarded = |bench: &mut Bench| {
        let sent = std::mem::take(&mut bench.sent);
        let forwards = sent.into_iter().filter(|(_, _, message)| matches!(message, PeerMessage::Forward(_)));
        forwards.map(|(to, id, _)| (to, id)).collect::<Vec<_>>()
    };
    let first = forwarded(&mut bench);
    assert_eq!(first.len(), 1);
    // Not a byte left: the next. It says that it has not begun: the next. Then the connection breaks.
    bench.step(Input::Undelivered { to: first[0].0, id: first[0].1, busy: false });
    let second = forwarded(&mut bench);
    let busy = ForwardReply { header: header(Status::Busy), outcome: Err(PutError::Busy) };
    let message = PeerMessage::ForwardReply(Box::new(busy));
    bench.step(Input::Message { from: second[0].0, id: second[0].1, message });
    let third = forwarded(&mut bench);
    let mut asked = [first[0].0, second[0].0, third[0].0];
    asked.sort_unstable();
    let mut all = owners.clone();
    all.sort_unstable();
    assert_eq!(asked[..], all[..]);
    bench.step(Input::PeerDown(third[0].0));
    assert_eq!(forwarded(&mut bench), []);
    let Response::Put(Err(PutError::Unknown(node))) = bench.answer() else { panic!("not unknown") };
    assert_eq!(node, third[0].0);
}

/// A replica that knows a later epoch refuses; with the layout of that the same dot goes out again, and is counted anew.
#[test]
fn a_put_goes_on_with_the_same_dot_at_a_later_epoch() {
    let mut bench = bench(3);
    bench.put(1, client_put("x"));
    bench.commit_all();
    let first = bench.writes();
    let later = |status| ReplyHeader { epoch: 2, ..header(status) };
    let reply = |header| {
        PeerMessage::WriteReply(WriteReply {
            header,
            seat: Seat::default(),
            covered: Vec::new(),
            object: Bytes::new(),
        })
    };
    bench.step(Input::Message { from: B, id: first[0].1, message: reply(later(Status::Stale)) });
    assert!(bench.writes().is_empty(), "the number alone does not say who owns what");
    let partition = bench.partition();
    let turned = bench.turned(partition);
    bench.tell_layout(B, turned);
    let again = bench.writes();
    assert_eq!(again.len(), 2);
    assert!(again.iter().all(|(_, _, write)| write.dot == first[0].2.dot && write.header.epoch == 2));
    // What was acknowledged at the old epoch does not count at the new one.
    bench.step(Input::Message { from: C, id: first[0].1, message: reply(later(Status::DoneSynced)) });
    bench.commit_all();
    assert!(bench.replies.is_empty(), "{:?}", bench.replies);
    bench.step(Input::Message { from: C, id: again[0].1, message: reply(later(Status::DoneSynced)) });
    assert!(matches!(bench.answer(), Response::Put(Ok(stored)) if stored.receipt.acks == 2));
    // The later epoch is durable: the next start knows it.
    let mut next = started(3, bench.disk.clone(), BOUNDS);
    let read =
        Read { header: RequestHeader { epoch: 1, ..next.header() }, key: key(), withhold: 0, asked: None };
    next.step(Input::Message { from: C, id: 1, message: PeerMessage::Read(read) });
    let stale = |message: &PeerMessage| matches!(message, PeerMessage::ReadReply(reply) if reply.header.status == Status::Stale);
    assert!(next.sent.iter().any(|(_, _, message)| stale(message)), "{:?}", next.sent);
}

/// A put that another node hands on is coordinated here, once, and every copy of it is answered with the outcome.
#[test]
fn a_put_that_is_handed_to_an_owner_is_coordinated_there() {
    let mut bench = bench(3);
    let put = Put {
        key: key(),
        read: Context::new(),
        content: Some(Content::from_body(b"x")),
        expiry: Expiry::AsBucket,
        touched: None,
        w: Threshold::Default,
        pw: Threshold::Default,
        dw: Threshold::Default,
        timeout: 1_000,
        return_body: false,
        sloppy: None,
    };
    let forward = Forward { header: bench.header(), put };
    let hand_on = |bench: &mut Bench, id| {
        let message = PeerMessage::Forward(Box::new(forward.clone()));
        bench.step(Input::Message { from: B, id, message });
    };
    let told = |bench: &Bench, id: u64| {
        let reply = bench.sent.iter().find_map(|(to, reply, message)| match message {
            PeerMessage::ForwardReply(told) if (*to, *reply) == (B, id) => Some(told.outcome.clone()),
            _ => None,
        });
        reply.map(|outcome| outcome.expect("it is done"))
    };
    hand_on(&mut bench, 5);
    hand_on(&mut bench, 6);
    let writes = bench.writes();
    assert_eq!(writes.len(), 2, "one write to each other owner");
    bench.commit_all();
    bench.acknowledge(writes[0].0, writes[0].1, Status::DoneSynced);
    let done = told(&bench, 5).expect("an answer");
    assert_eq!((done.dot, done.receipt.acks), (writes[0].2.dot, 2));
    assert!(done.context.covers(done.dot));
    hand_on(&mut bench, 7);
    assert_eq!((told(&bench, 6), told(&bench, 7)), (Some(done.clone()), Some(done)));
    assert!(bench.writes().is_empty());
}

/// Of two last-write-wins puts the later one has the greater stamp, though the clock was set back between them.
#[test]
fn stamps_do_not_go_back_with_the_clock() {
    let mut bench = bench(3);
    let stamp = |bench: &mut Bench, ticket| {
        let key = Key::new("lww", "b", "k").expect("valid parts");
        bench.put(ticket, ClientPut { key, ..client_put("x") });
        let (_, _, write) = bench.writes().pop().expect("a write");
        bench.commit_all();
        Object::decode(&write.object).expect("an object").newest_stamp()
    };
    let first = stamp(&mut bench, 1);
    bench.skew = -2_000_000;
    let second = stamp(&mut bench, 2);
    assert!(second > first && second.millis() == first.millis());
    // Another node's clock is ahead: what is written after its version is later than that.
    let key = Key::new("lww", "b", "k").expect("valid parts");
    let ahead = Stamp::at_millis(WALL / 1_000 + 1_500);
    let sibling = Sibling { stamp: ahead, write_id: 1, expires: None, content: None };
    let dot = Dot::new(Actor(5), 1);
    let object = Object::from_write(&Context::new(), dot, sibling).encode().into();
    let partition = bench.replica.layout().partition_of(KEYSPACE.hash(key.as_bytes()));
    let (header, seat) = (RequestHeader { partition, ..bench.header() }, Seat::default());
    let write = Write { header, key, seat, durability: Durability::Synced, dot, object };
    bench.step(Input::Message { from: B, id: 9, message: PeerMessage::Write(write) });
    bench.commit_all();
    assert!(stamp(&mut bench, 3) > ahead);
}
