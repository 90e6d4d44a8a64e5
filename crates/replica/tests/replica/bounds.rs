//! Stalled and full disks, and who waits for them.

use crate::bench::*;
use bytes::Bytes;
use gramme_object::Key;
use gramme_quorum::PutError;
use gramme_replica::{Bounds, ClientPut, Input, Recovered, Response};
use gramme_vclock::{Actor, Context, Dot};
use gramme_wire::PeerMessage;
use gramme_wire::peer::{Durability, Read, Room, Status};

#[test]
fn a_read_waits_for_what_is_staged() {
    let mut bench = bench(3);
    bench.put(1, client_put("staged"));
    bench.get(2);
    assert!(bench.replies.is_empty(), "{:?}", bench.replies);
    bench.write_all();
    assert!(bench.replies.is_empty(), "written is not synced: {:?}", bench.replies);
    bench.commit_all();
    let Response::Get(Ok(found)) = bench.answer() else { panic!("no value") };
    assert!(found.object.has_value());
    // The same for another coordinator's read.
    bench.put(3, client_put("more"));
    let header = bench.header();
    let read = Read { header, key: key(), withhold: 0, asked: None };
    bench.sent.clear();
    bench.step(Input::Message { from: B, id: 9, message: PeerMessage::Read(read) });
    assert!(bench.sent.is_empty());
    bench.commit_all();
    assert!(matches!(bench.sent.as_slice(), [(B, 9, PeerMessage::ReadReply(_))]), "{:?}", bench.sent);
}

/// The deadline of a put and the moment of forgetting duplicates may be one.
#[test]
fn whoever_waits_is_told_at_the_deadline() {
    let mut bench = bench(3);
    bench.put(1, client_put("x"));
    bench.now = 5_000_000;
    bench.step(Input::Timer);
    let Response::Put(Err(PutError::Unavailable(shortfall))) = bench.answer() else { panic!("not refused") };
    assert_eq!(shortfall.needed, 2);
}

#[test]
fn writes_stop_where_the_disk_is_full_and_go_through_another_owner() {
    let mut bench = bench(3);
    bench.step(Input::Room(Room::Low));
    bench.value_from(B, Dot::new(Actor(2), 1));
    let stopped = |message: &PeerMessage| matches!(message, PeerMessage::WriteReply(reply) if reply.header.status == Status::WriteStopped);
    assert!(bench.sent.iter().any(|(_, _, message)| stopped(message)));
    bench.sent.clear();
    bench.put(1, client_put("x"));
    assert!(matches!(bench.sent.as_slice(), [(_, _, PeerMessage::Forward(_))]), "{:?}", bench.sent);
    assert!(bench.pending.is_empty());
}

#[test]
fn what_a_stalled_disk_does_not_take_is_refused_at_once() {
    let mut bench = started(3, Recovered::default(), Bounds { batches: 50, ..BOUNDS });
    bench.prove();
    for number in 0..20_000 {
        bench.write_from(B, Dot::new(Actor(2), number + 1), Context::new());
    }
    assert_eq!(bench.pending.len(), 50);
    let is_busy = |message: &PeerMessage| matches!(message, PeerMessage::WriteReply(reply) if reply.header.status == Status::Busy);
    assert_eq!(bench.sent.iter().filter(|(_, _, message)| is_busy(message)).count(), 20_000 - 50);
    bench.put(1, client_put("x"));
    assert!(matches!(bench.sent.last(), Some((_, _, PeerMessage::Forward(_)))), "another owner may take it");
    bench.commit_all();
    bench.sent.clear();
    bench.write_from(B, Dot::new(Actor(2), 30_000), Context::new());
    assert_eq!(bench.pending.len(), 1, "it goes on when the disk does");
}

/// What nobody waits for leaves half of the room to those who wait.
#[test]
fn the_background_has_half_of_the_room() {
    for bounds in [Bounds { batches: 50, ..BOUNDS }, Bounds { bytes: 20_000, ..BOUNDS }] {
        let mut bench = started(3, Recovered::default(), bounds);
        bench.prove();
        for number in 1..1_000 {
            bench.repair_from(B, Dot::new(Actor(2), 2 * number));
        }
        let background = bench.pending.len();
        for number in 1..1_000 {
            bench.write_from(B, Dot::new(Actor(2), 2 * number + 1), Context::new());
        }
        let all = bench.pending.len();
        assert!(background > 4 && background < all && all <= 2 * background + 1, "{background} of {all}");
    }
}

/// When a full disk has stopped values, deletes go on: nobody could make room otherwise.
#[test]
fn deletes_go_on_where_the_disk_takes_no_values() {
    let mut bench = bench(3);
    bench.step(Input::Room(Room::Low));
    bench.put(1, ClientPut { content: None, ..client_put("") });
    assert_eq!(bench.writes().len(), 2);
    bench.write_from(B, Dot::new(Actor(2), 1), Context::new());
    assert_eq!(bench.pending.len(), 2);
    bench.step(Input::Room(Room::None));
    bench.write_from(B, Dot::new(Actor(2), 2), Context::new());
    assert_eq!(bench.pending.len(), 2);
}

#[test]
fn an_acknowledgement_waits_for_its_own_batch_and_no_other() {
    let mut bench = bench(3);
    bench.sent.clear();
    for counter in 1..=3 {
        bench.write_from(B, Dot::new(Actor(2), counter), Context::new());
    }
    for counter in 1..=3 {
        let written = bench.committed + counter;
        bench.step(Input::Committed { written, synced: written });
        assert_eq!(bench.sent.len() as u64, counter);
    }
}

/// The same version may come again and ask for more than the first time: nothing is left to store, and what is
/// stored is not durable enough yet.
#[test]
fn what_is_stored_already_is_acknowledged_when_it_is_as_durable_as_is_asked() {
    let mut bench = bench(3);
    let acknowledged = |bench: &mut Bench| {
        let sent = std::mem::take(&mut bench.sent);
        let replies = sent.into_iter().filter_map(|(to, _, message)| match message {
            PeerMessage::WriteReply(reply) => Some((to, reply.header.status)),
            _ => None,
        });
        replies.collect::<Vec<_>>()
    };
    let dot = Dot::new(Actor(2), 1);
    bench.sent.clear();
    bench.write_at(Durability::Buffered, B, dot, Context::new());
    bench.write_at(Durability::Synced, C, dot, Context::new());
    assert_eq!(acknowledged(&mut bench), []);
    assert_eq!(bench.syncs, [false, true]);
    bench.write_all();
    assert_eq!(acknowledged(&mut bench), [(B, Status::DoneBuffered)]);
    bench.commit_all();
    assert_eq!(acknowledged(&mut bench), [(C, Status::DoneSynced)]);
    // All is durable: nothing more goes to the disk.
    bench.write_from(C, dot, Context::new());
    assert_eq!(acknowledged(&mut bench), [(C, Status::DoneSynced)]);
    assert!(bench.pending.is_empty());
}

/// A few large values fill it as many small ones do.
#[test]
fn what_is_staged_is_bounded_in_bytes() {
    let mut bench = started(3, Recovered::default(), Bounds { bytes: 1 << 20, ..BOUNDS });
    bench.prove();
    let value = "v".repeat(100_000);
    for ticket in 0..50 {
        bench.put(ticket, ClientPut { identity: Some((9, ticket)), ..client_put(&value) });
    }
    let staged = bench.pending.len();
    assert!((5..20).contains(&staged), "{staged} batches of 100,000 bytes and more");
}

/// A key that is written again and again takes its place in memory once, and does not drive out the others.
#[test]
fn what_is_overwritten_often_leaves_room_for_others() {
    let mut bench = started(3, Recovered::default(), Bounds { cached: 1 << 20, ..BOUNDS });
    bench.prove();
    bench.put(1, client_put("x"));
    bench.commit_all();
    bench.sent.clear();
    let other = Key::new("default", "b", "other").expect("valid parts");
    let (value, mut context) = ("v".repeat(100_000), Bytes::new());
    for ticket in 2..40 {
        bench.replies.clear();
        bench.put(ticket, ClientPut { key: other.clone(), context, ..client_put(&value) });
        for (to, id, _) in bench.writes() {
            bench.acknowledge(to, id, Status::DoneSynced);
        }
        bench.commit_all();
        let Response::Put(Ok(stored)) = bench.answer() else { panic!("not stored") };
        context = stored.context;
    }
    // Only what is in memory can answer.
    bench.objects.clear();
    bench.replies.clear();
    bench.get(200);
    let Response::Get(Ok(found)) = bench.answer() else { panic!("not read") };
    assert!(found.object.has_value());
}

/// What status and metrics tell, and what a start counts again from the partitions' totals.
#[test]
fn keys_and_their_bytes_are_counted() {
    let mut bench = bench(3);
    for number in 0..30 {
        let key = Key::new("default", "b", format!("k{}", number % 10)).expect("valid parts");
        bench.put(number, ClientPut { key, ..client_put(&"v".repeat(number as usize)) });
        bench.commit_all();
    }
    let bytes: usize = bench.objects.values().map(Bytes::len).sum();
    assert_eq!((bench.replica.stats().keys, bench.replica.stats().bytes), (10, bytes as u64));
}

/// Which of the dots that a reader asks about were here and are not live, though nothing of the key is left.
#[test]
fn a_read_tells_what_was_seen_and_is_gone() {
    let mut bench = started(3, Recovered::default(), Bounds { cached: 0, ..BOUNDS });
    bench.prove();
    let (gone, live, unseen) = (Dot::new(Actor(2), 1), Dot::new(Actor(2), 2), Dot::new(Actor(2), 3));
    let covered = |bench: &mut Bench| {
        bench.sent.clear();
        let read =
            Read { header: bench.header(), key: key(), withhold: 0, asked: ask(vec![gone, live, unseen]) };
        bench.step(Input::Message { from: B, id: 9, message: PeerMessage::Read(read) });
        match bench.sent.pop() {
            Some((B, 9, PeerMessage::ReadReply(reply))) => reply.told.expect("what was asked").covered,
            other => panic!("{other:?}"),
        }
    };
    bench.write_from(B, gone, Context::new());
    bench.commit_all();
    assert_eq!(covered(&mut bench), []);
    let mut read = Context::new();
    read.insert(gone);
    bench.write_from(B, live, read);
    bench.commit_all();
    assert_eq!(covered(&mut bench), [gone]);
    bench.objects.clear();
    assert_eq!(covered(&mut bench), [gone, live]);
}
