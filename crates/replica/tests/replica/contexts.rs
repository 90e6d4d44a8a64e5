//! What a put is answered with, and that it stays short.

use crate::bench::*;
use bytes::Bytes;
use gramme_object::Object;
use gramme_quorum::Threshold;
use gramme_replica::{
    BucketDurability, ClientPut, ClientRequest, Input, PropertiesChange, PropertiesPatch, Response, Ticket,
};
use gramme_ring::NodeId;
use gramme_vclock::{Actor, Dot};
use gramme_wire::peer::{Durability, Status, Write};

/// A replica that hears of the raised entry drops our older version. If what replaced that version here did not
/// go along, and only we had heard of it, the replica would show neither. What is staged goes along as well:
/// should it be lost here, whoever has the raised entry has it too.
#[test]
fn a_raised_entry_goes_with_what_replaced_our_older_versions() {
    for is_durable in [true, false] {
        let mut bench = bench(3);
        bench.put(1, client_put("first"));
        bench.commit_all();
        let (_, _, first) = bench.writes().pop().expect("a write");
        let second = Dot::new(Actor(2), 1);
        bench.write_from(B, second, [first.dot].into_iter().collect());
        if is_durable {
            bench.commit_all();
        }
        bench.put(2, client_put("blind"));
        let (_, _, blind) = bench.writes().pop().expect("a write");
        let sent = Object::decode(&blind.object).expect("an object");
        assert!(sent.context().vector().covers(first.dot));
        assert!(sent.versions().is_live(second), "the entry names what {second} replaced");
    }
}

/// The first answer shows the object and has its context. A copy is told without the object, so its context must
/// not cover what that shows.
#[test]
fn a_copy_of_a_put_with_its_body_covers_nothing_unseen() {
    let mut bench = bench(3);
    let put = |value| ClientPut { w: Threshold::One, ..client_put(value) };
    bench.put(1, put("first"));
    bench.commit_all();
    let (_, _, first) = bench.writes().pop().expect("a write");
    bench.replies.clear();
    let copied = ClientPut { return_body: true, identity: Some((9, 1)), ..put("second") };
    bench.put(2, copied.clone());
    bench.commit_all();
    let (_, _, second) = bench.writes().pop().expect("a write");
    let Response::Put(Ok(stored)) = bench.answer() else { panic!("it is stored") };
    assert_eq!(stored.object.expect("the body").siblings().len(), 2);
    bench.put(3, copied);
    let Response::Put(Ok(stored)) = bench.answer() else { panic!("it is stored") };
    assert_eq!(stored.object, None);
    bench.put(4, ClientPut { context: stored.context, ..put("third") });
    let (_, _, third) = bench.writes().pop().expect("a write");
    let third = Object::decode(&third.object).expect("an object");
    assert!(!third.versions().is_live(second.dot) && third.versions().is_live(first.dot));
}

/// Puts that go on from their own answers and never read, where `acknowledge` says what others do with each.
/// The lengths of the answers' contexts.
fn chain(
    bench: &mut Bench,
    times: u64,
    value: &str,
    mut acknowledge: impl FnMut(&mut Bench, (NodeId, u64, Write)),
) -> Vec<usize> {
    let mut context = Bytes::new();
    let lengths = (0..times).map(|ticket| {
        bench.put(ticket, ClientPut { context: context.clone(), ..client_put(value) });
        bench.writes().into_iter().for_each(|write| acknowledge(bench, write));
        bench.commit_all();
        if bench.replies.is_empty() {
            // It waits for owners that the quorum does not need, and not for ever.
            bench.now += 200_000;
            bench.step(Input::Timer);
        }
        let Response::Put(Ok(stored)) = bench.answer() else { panic!("refused after {ticket} puts") };
        context = stored.context;
        context.len()
    });
    lengths.collect()
}

/// The longest context of such a chain, where all others acknowledge each put at once.
fn overwrite(bench: &mut Bench, times: u64, length: usize) -> usize {
    let synced = |bench: &mut Bench, (to, id, _)| bench.acknowledge(to, id, Status::DoneSynced);
    chain(bench, times, &"v".repeat(length), synced).into_iter().max().expect("puts")
}

/// A context depends on who wrote concurrently, not on how often or how much.
#[test]
fn a_context_stays_short_however_often_and_however_large_a_value_is_overwritten() {
    for (times, length) in [(12_000, 10), (300, 66_000)] {
        let mut bench = bench(3);
        let longest = overwrite(&mut bench, times, length);
        assert!(longest < 1_024, "{longest} bytes after {times} puts of {length} bytes");
        bench.get(99);
        let Response::Get(Ok(found)) = bench.answer() else { panic!("not found") };
        assert!(found.context.len() < 200 && found.object.siblings().len() == 1);
    }
}

/// A sibling beside it is large and stays: the entry is not raised at once, and the context is bounded still.
#[test]
fn a_context_stays_short_beside_a_large_sibling() {
    let mut bench = bench(3);
    overwrite(&mut bench, 1, 66_000);
    let longest = overwrite(&mut bench, 500, 66_000);
    assert!(longest < 2_048, "{longest} bytes");
    bench.get(99);
    let Response::Get(Ok(found)) = bench.answer() else { panic!("not found") };
    assert_eq!(found.object.siblings().len(), 2);
    assert!(found.context.len() < 2_048, "{} bytes", found.context.len());
}

/// Siblings go along with a put where they are small, so that its entry can be raised; large ones stay behind.
#[test]
fn small_siblings_go_along_and_large_ones_do_not() {
    for (length, goes_along) in [(10, true), (66_000, false)] {
        let mut bench = bench(3);
        overwrite(&mut bench, 1, length);
        bench.put(50, client_put("beside"));
        let (_, _, write) = bench.writes().pop().expect("a write");
        let sent = Object::decode(&write.object).expect("an object");
        assert_eq!(sent.siblings().len() == 2, goes_along, "{length} bytes");
        assert_eq!(sent.context().outside().is_empty(), goes_along, "{length} bytes");
    }
}

/// Where nobody syncs, a loss of power may bring back what was replaced, and it must still be named. So the put
/// whose answer is to be short is synced, whatever its bucket asks.
#[test]
fn what_a_loss_of_power_may_bring_back_is_named() {
    for syncs in [true, false] {
        let mut bench = bench(3);
        let patch =
            PropertiesPatch { durability: Some(BucketDurability::Buffered), ..PropertiesPatch::default() };
        let (scope, change) = (Bench::scope("b"), PropertiesChange::Set(patch));
        let request = ClientRequest::SetProperties { scope, change, timeout: 1_000 };
        bench.step(Input::Client { ticket: Ticket(77), request });
        bench.commit_all();
        // Nobody confirms it here.
        bench.now += 1_000_000;
        bench.step(Input::Timer);
        bench.replies.clear();
        overwrite(&mut bench, 1, 10);
        let mut synced = 0;
        let lengths = chain(&mut bench, 60, "x", |bench, (to, id, write)| {
            let is_synced = syncs && write.durability == Durability::Synced;
            synced += u32::from(is_synced);
            bench.acknowledge(to, id, if is_synced { Status::DoneSynced } else { Status::DoneBuffered });
        });
        let longest = lengths.iter().max().copied().expect("lengths");
        if syncs {
            assert!(longest < 1_024 && (2..20).contains(&synced), "{longest} bytes, {synced} synced writes");
        } else {
            assert!(lengths.is_sorted() && longest >= lengths[0] + 59 * 16, "{lengths:?}");
        }
    }
}

/// Whose version is the only one is answered with the context of all that it replaced, whoever has merged it.
#[test]
fn a_context_stays_short_while_an_owner_is_away() {
    let mut bench = bench(3);
    let lengths = chain(&mut bench, 60, "x", |bench, (to, id, _)| {
        if to == B {
            bench.acknowledge(to, id, Status::DoneSynced);
        }
    });
    let longest = lengths.iter().max().copied().expect("lengths");
    assert!(longest < 400, "{longest} bytes");
}

/// What one owner may still hold is named: without it the writer's next put would stand beside it there.
#[test]
fn a_context_names_what_an_owner_may_still_hold() {
    let mut bench = bench(3);
    overwrite(&mut bench, 1, 10);
    let lengths = chain(&mut bench, 30, "x", |bench, (to, id, _)| {
        if to == B {
            bench.acknowledge(to, id, Status::DoneSynced);
        }
    });
    assert!(lengths.is_sorted() && lengths[29] >= lengths[0] + 29 * 16, "{lengths:?}");
}
