//! Work that nobody waits for gives way, and what cannot be done soon is refused at the door.

use gramme_admission::Limits;
use gramme_object::{Content, Expiry, Key, Object, Sibling, Stamp};
use gramme_quorum::PutError;
use gramme_replica::{ClientPut, Input, Response, Ticket};
use gramme_vclock::{Actor, Context, Dot};
use gramme_wire::PeerMessage;
use gramme_wire::peer::{
    ForwardReply, Hint, LeavesReply, PartitionLeaves, RangeReply, RequestHeader, RootsReply, Status, Sum,
};

use crate::bench::*;
use crate::peers::{SECOND, leaf_of, value};

/// So many puts of this node's own, each of which the disk has after this long.
fn puts(bench: &mut Bench, count: u64, micros: u64) {
    for number in 0..count {
        let key = Key::new("default", "b", format!("k{number}")).expect("valid");
        bench.put(number, ClientPut { key, ..client_put("v") });
        bench.now += micros;
        bench.commit_all();
    }
    bench.sent.clear();
    bench.replies.clear();
}

/// A second or more is over.
fn period(bench: &mut Bench) -> u64 {
    bench.now += 2 * SECOND;
    bench.step(Input::Timer);
    bench.commit_all();
    bench.replica.stats().background_rate
}

#[test]
fn background_work_follows_what_the_foreground_bears() {
    let mut bench = bench(3);
    let Limits { most, least, target } = Limits::USUAL;
    assert_eq!(period(&mut bench), most, "nobody waits for anything");
    puts(&mut bench, 50, target / 4);
    assert_eq!(period(&mut bench), most);
    let mut rate = most;
    while rate > least {
        puts(&mut bench, 50, target * 2);
        assert_eq!(period(&mut bench), (rate / 2).max(least));
        rate = (rate / 2).max(least);
    }
    assert!(bench.replica.stats().foreground_p99 > target && bench.replica.stats().background_slowed > 0);
    puts(&mut bench, 50, target * 2);
    assert_eq!(period(&mut bench), least, "never to nothing");
    puts(&mut bench, 50, target / 4);
    assert!(period(&mut bench) > least);
}

/// What would wait for it is another owner's, or comes back; a duplicate of what waits is told nothing.
#[test]
fn a_disk_that_stands_still_closes_the_door() {
    let mut bench = bench(3);
    bench.connect();
    let named = |number| ClientPut { identity: Some((9, number)), ..client_put("v") };
    // The disk takes it, and says nothing.
    bench.put(1, named(1));
    bench.now += SECOND / 2;
    bench.sent.clear();
    bench.put(2, ClientPut { key: bench.beside(), ..named(2) });
    assert_eq!(bench.writes().len(), 2, "for half a second it may");
    bench.now += SECOND / 2;
    bench.put(3, named(1));
    bench.put(4, named(3));
    assert!(bench.replies.is_empty(), "{:?}", bench.replies);
    for _ in 0..2 {
        let (to, id) = bench
            .sent
            .drain(..)
            .find_map(|(to, id, message)| (message.name() == "Forward").then_some((to, id)))
            .expect("another owner is asked");
        let header = header(Status::Refused);
        let reply = ForwardReply { header, outcome: Err(PutError::Busy) };
        bench.step(Input::Message { from: to, id, message: PeerMessage::ForwardReply(Box::new(reply)) });
    }
    assert!(matches!(bench.answer(), Response::Put(Err(PutError::Busy))));
    // A read needs nothing of it.
    bench.sent.clear();
    bench.get(5);
    assert!(bench.replies.is_empty() && bench.sent.iter().any(|(.., message)| message.name() == "Read"));
    bench.commit_all();
    bench.sent.clear();
    bench.put(6, named(4));
    assert_eq!(bench.writes().len(), 2, "the disk is back");
}

fn named(name: &str) -> Key {
    Key::new("default", "b", name).expect("valid")
}

/// The disk retries a sector, for ever.
#[test]
fn one_slow_row_does_not_close_the_door() {
    let mut bench = bench(3);
    bench.connect();
    bench.stuck.push(named("bad"));
    bench.put(1, ClientPut { key: named("bad"), ..client_put("v") });
    for number in 0..600 {
        bench.now += SECOND;
        bench.step(Input::Timer);
        bench.sent.clear();
        bench.put(100 + number, ClientPut { key: named(&format!("good{number}")), ..client_put("v") });
        assert_eq!(bench.writes().len(), 2, "after {number} s");
        bench.commit_all();
    }
}

/// An idle node on a disk that seeks for 25 ms, which is handed copies.
#[test]
fn background_reads_are_no_foreground() {
    let mut bench = bench(3);
    bench.connect();
    assert_eq!(period(&mut bench), Limits::USUAL.most);
    for number in 0..50 {
        let key = named(&format!("r{number}"));
        bench.stuck.push(key.clone());
        let object = value(Dot::new(Actor(2), 1 + number));
        let partition = bench.replica.layout().partition_of(KEYSPACE.hash(key.as_bytes()));
        let header = RequestHeader { partition, ..bench.header() };
        let hint = Hint { header, key, object: object.encode().into() };
        bench.step(Input::Message { from: B, id: 1000 + number, message: PeerMessage::Hint(hint) });
        assert_eq!(bench.waiting.len(), 1);
        bench.now += 25_000;
        bench.end_loads();
        bench.commit_all();
    }
    assert_eq!(period(&mut bench), Limits::USUAL.most, "nobody waits for anything");
}

#[test]
fn what_needs_only_others_is_handed_on() {
    let mut bench = bench(5);
    bench.connect();
    let own =
        (0..).map(|n| named(&format!("o{n}"))).find(|key| bench.owners_of(key).contains(&ME)).expect("one");
    bench.put(1, ClientPut { key: own, ..client_put("v") });
    bench.now += SECOND;
    bench.sent.clear();
    bench.replies.clear();
    let key = bench.foreign_key();
    bench.put(2, ClientPut { key, ..client_put("v") });
    assert!(
        bench.replies.is_empty() && bench.sent.iter().any(|(.., m)| m.name() == "Forward"),
        "{:?}",
        bench.replies
    );
}

/// A leaf of many rows, one of which has expired.
#[test]
fn the_purge_keeps_to_its_budget_within_a_leaf() {
    let mut bench = bench_with(Limits { least: 1_000, most: 1_000, target: 20_000 });
    bench.connect();
    let leaf = leaf_of(&key(), bench.partition());
    let partition = bench.partition();
    let is_there = |key: &Key| {
        let hash = KEYSPACE.hash(key.as_bytes());
        bench.replica.layout().partition_of(hash) == partition && leaf_of(key, partition) == leaf
    };
    let keys: Vec<_> = (0..).map(|n| named(&format!("l{n}"))).filter(is_there).take(1_000).collect();
    for (number, key) in (0..).zip(&keys) {
        let object = value(Dot::new(Actor(2), 1 + number));
        bench.objects.insert(key.clone(), object.encode().into());
    }
    bench.put(1, ClientPut { expiry: Expiry::After(5_000), ..client_put("v") });
    bench.commit_all();
    let (mut most, mut total) = (0, 0);
    for _ in 0..120 {
        let before = bench.range_scans;
        bench.drive(SECOND, |_, _, _| None);
        most = most.max(bench.range_scans - before);
        total += bench.range_scans - before;
    }
    assert!(most <= 1, "{most} pages of 128 rows in one second, {total} in all, at 1,000 bytes a second");
}

fn big(counter: u64) -> Object {
    let content = Some(Content::from_body(&[7; 40_000]));
    let stamp = Stamp::at_millis(WALL / 1_000);
    let sibling = Sibling { stamp, write_id: 1, expires: None, content };
    let dot = Dot::new(Actor(2), counter);
    Object::from_write(&Context::new(), dot, sibling)
}

/// Reads of keys that are not there, each of which the disk has after this long.
fn slow_gets(bench: &mut Bench, rounds: u64) {
    for _ in 0..rounds {
        for number in 0..50 {
            for twice in 0..2 {
                let key = named(&format!("g{number}-{twice}-{}", bench.now));
                bench.stuck.push(key.clone());
                let request = get_of(key);
                let ticket = Ticket(500 + 2 * number + twice);
                bench.step(Input::Client { ticket, request });
            }
            bench.now += 40_000;
            bench.end_loads();
            bench.commit_all();
            bench.step(Input::Timer);
            bench.commit_all();
        }
    }
}

/// A debt made at a low rate is paid at the rate of now.
#[test]
fn an_exchange_goes_on_when_the_rate_is_raised() {
    const LEAST: u64 = 100;
    let mut bench = bench_with(Limits { least: LEAST, most: 1_000_000, target: 20_000 });
    slow_gets(&mut bench, 20);
    assert_eq!(bench.replica.stats().background_rate, LEAST);
    let partition = bench.partition();
    let sum = Sum { count: 1, sum: 7 };
    bench.sent.clear();
    bench.step(Input::PeerUp(B));
    let mut asked = 0;
    let answer = |asked: &mut u64, bench: &Bench, to, message: &PeerMessage| {
        if to != B {
            return None;
        }
        Some(match message {
            PeerMessage::Roots(_) => PeerMessage::RootsReply(RootsReply {
                is_same: false,
                roots: vec![(partition, sum)],
                uncounted: Vec::new(),
                seen: Vec::new(),
                fenced: (1, 1),
            }),
            PeerMessage::Leaves(_) => PeerMessage::LeavesReply(LeavesReply {
                leaves: vec![PartitionLeaves {
                    partition,
                    life: 0,
                    leaves: (0..8).map(|n| (n, sum)).collect(),
                }],
            }),
            PeerMessage::Range(range) => {
                *asked += 1;
                let key = (0..)
                    .map(|n| named(&format!("z{asked}-{n}")))
                    .find(|key| {
                        bench.replica.layout().partition_of(KEYSPACE.hash(key.as_bytes())) == partition
                    })
                    .expect("one");
                PeerMessage::RangeReply(RangeReply {
                    header: header(Status::DoneSynced),
                    objects: vec![(key, big(*asked).encode().into())],
                    wants: Vec::new(),
                    through: range.last,
                    is_damaged: false,
                })
            }
            _ => return None,
        })
    };
    let mut seconds = 0;
    while asked < 4 && seconds < 100 {
        bench.drive(SECOND, |bench, to, message| answer(&mut asked, bench, to, message));
        seconds += 1;
    }
    assert!(asked >= 4, "{asked}");
    slow_gets(&mut bench, 10);
    bench.sent.clear();
    let begun = asked;
    let mut fast = 0;
    for _ in 0..1_000 {
        bench.drive(SECOND, |bench, to, message| answer(&mut asked, bench, to, message));
        if asked > begun {
            break;
        }
        fast += u64::from(bench.replica.stats().background_rate == 1_000_000);
    }
    assert!(fast <= 2, "at full rate it still waited for {fast} s; {begun} ranges before, {asked} after");
}
