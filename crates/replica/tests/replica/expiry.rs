//! Values that expire: what readers see, when the bytes go, and that no two replicas differ because of that.

use gramme_object::{Content, Expiry, Key, Object, Sibling, Stamp};
use gramme_quorum::{GetError, PutError};
use gramme_replica::{ClientPut, LWW_TYPE, Response};
use gramme_vclock::{Actor, Context, Dot};
use gramme_wire::PeerMessage;
use gramme_wire::peer::Status;

use crate::bench::*;
use crate::peers::*;

const MILLIS: u64 = WALL / 1_000;

fn put_for(seconds: u64) -> ClientPut {
    ClientPut { expiry: Expiry::After(seconds * 1_000), ..client_put("v") }
}

fn version(stamp: u64, expires: Option<u64>) -> Sibling {
    let content = Some(Content::from_body(b"v"));
    Sibling { stamp: Stamp::at_millis(MILLIS + stamp), write_id: 1, expires, content }
}

/// Lets time pass; all owners find everything the same, and have seen this.
fn pass(bench: &mut Bench, micros: u64, dot: Dot) {
    bench.drive(micros, |_, _, message| match message {
        PeerMessage::Roots(roots) => Some(same(roots, &upto(dot.actor, dot.counter))),
        _ => None,
    });
}

fn written(bench: &mut Bench, put: ClientPut) -> Dot {
    bench.replies.clear();
    bench.sent.clear();
    bench.put(1, put);
    let writes = bench.writes();
    writes.iter().for_each(|(to, id, _)| bench.acknowledge(*to, *id, Status::DoneSynced));
    bench.commit_all();
    assert!(matches!(bench.answer(), Response::Put(Ok(_))));
    writes[0].2.dot
}

fn stored(bench: &Bench) -> Option<Object> {
    bench.objects.get(&key()).map(|stored| Object::decode(stored).expect("an object"))
}

fn read(bench: &mut Bench) -> Result<Object, GetError> {
    bench.replies.clear();
    bench.get(2);
    let Response::Get(found) = bench.answer() else { panic!("a get is answered") };
    found.map(|found| found.object)
}

#[test]
fn a_value_is_gone_for_readers_at_its_instant_and_later_from_the_disk() {
    let mut bench = bench(3);
    bench.connect();
    let dot = written(&mut bench, put_for(40));
    let partition = bench.partition();
    assert!(read(&mut bench).expect("a value").has_value());
    let sums = bench.sums(partition);
    bench.drive(39 * SECOND, |_, _, _| None);
    assert!(read(&mut bench).expect("a value").has_value());
    bench.drive(2 * SECOND, |_, _, _| None);
    // It reads as a delete, with the context that the next write needs.
    let found = read(&mut bench).expect("a tombstone");
    assert!(!found.has_value() && found.versions().is_live(dot) && found.context().covers(dot));
    bench.drive(60 * SECOND, |_, _, _| None);
    let purged = stored(&bench).expect("a row");
    assert!(purged.has_purged() && purged.siblings()[0].1.content.is_none());
    assert_eq!(
        (bench.replica.stats().values_purged, bench.sums(partition)),
        (1, sums),
        "no replica is different"
    );
    pass(&mut bench, 30 * SECOND, dot);
    assert_eq!(stored(&bench), None);
    assert_eq!((bench.replica.stats().keys, bench.replica.stats().bytes), (0, 0));
}

#[test]
fn bytes_go_when_every_owners_clock_is_past_the_instant() {
    let mut bench = bench(3);
    bench.connect();
    let dot = written(&mut bench, put_for(10));
    // B's clock is four minutes behind.
    bench.lag = 240 * SECOND;
    pass(&mut bench, 200 * SECOND, dot);
    assert!(!read(&mut bench).expect("an answer").has_value());
    assert!(stored(&bench).is_some_and(|object| object.has_value()), "B still shows it");
    pass(&mut bench, 150 * SECOND, dot);
    assert_eq!(stored(&bench), None);
}

#[test]
fn a_clock_that_runs_ahead_destroys_nothing() {
    let mut bench = bench(3);
    bench.connect();
    let dot = written(&mut bench, put_for(600));
    bench.skew = 3_600_000_000;
    pass(&mut bench, 120 * SECOND, dot);
    assert!(read(&mut bench).expect("an answer").has_value(), "most clocks are not there yet");
    assert!(stored(&bench).is_some_and(|object| object.has_value()));
}

#[test]
fn a_start_finds_what_has_expired_meanwhile() {
    let mut before = bench(3);
    before.connect();
    let dot = written(&mut before, put_for(5));
    let mut bench = restarted(&before, &[]);
    bench.connect();
    pass(&mut bench, 120 * SECOND, dot);
    assert_eq!(stored(&bench), None);
}

#[test]
fn a_copy_that_was_not_purged_does_not_bring_the_value_back() {
    let mut bench = bench(3);
    bench.connect();
    let dot = Dot::new(Actor(2), 1);
    let object = Object::from_write(&Context::new(), dot, version(0, Some(MILLIS + 1_000)));
    bench.state_from(B, 500, &key(), &object);
    bench.drive(60 * SECOND, |_, _, _| None);
    assert!(stored(&bench).is_some_and(|object| object.has_purged()));
    // Nor does one that knows more beside it.
    let mut more = object.clone();
    more.merge(&Object::from_write(&Context::new(), Dot::new(Actor(3), 1), version(1, None)));
    bench.state_from(C, 501, &key(), &object);
    bench.state_from(C, 502, &key(), &more);
    let merged = stored(&bench).expect("a row");
    assert!(merged.has_purged() && merged.versions().len() == 2, "{merged:?}");
}

#[test]
fn one_that_cannot_tell_the_time_does_not_say_what_has_expired() {
    let mut first = bench(3);
    first.connect();
    written(&mut first, put_for(600));
    let mut bench = started(3, first.disk.clone(), BOUNDS);
    bench.objects = first.objects.clone();
    // The only other one that has spoken since the start is an hour ahead.
    bench.greet(B, None, WALL + 3_600_000_000);
    bench.now = 3 * SECOND;
    bench.step(gramme_replica::Input::Timer);
    bench.commit_all();
    assert_eq!(read(&mut bench), Err(GetError::Clock));
    bench.greet(C, None, WALL + bench.now);
    assert!(read(&mut bench).expect("two of three clocks").has_value());
}

#[test]
fn an_instant_that_has_passed_is_refused() {
    let mut bench = bench(3);
    bench.connect();
    for expiry in [Expiry::At(MILLIS), Expiry::At(0), Expiry::After(0)] {
        bench.replies.clear();
        bench.put(1, ClientPut { expiry, ..client_put("v") });
        let Response::Put(Err(PutError::ExpiresAtOnce)) = bench.answer() else { panic!("{expiry:?}") };
    }
    assert!(bench.writes().is_empty() && stored(&bench).is_none());
    // A delete does not expire.
    written(&mut bench, ClientPut { content: None, ..put_for(5) });
    assert!(stored(&bench).is_some_and(|object| object.siblings()[0].1.expires.is_none()));
    // The end of time is not too late.
    written(&mut bench, ClientPut { expiry: Expiry::After(u64::MAX), ..client_put("v") });
}

/// Of two concurrent writes the later one is shown. When that is a delete, or has expired, and is forgotten, the earlier
/// one must not come back.
#[test]
fn what_lost_in_a_last_write_wins_bucket_does_not_come_back() {
    for winner in [Sibling { content: None, ..version(2, None) }, version(2, Some(MILLIS + 5_000))] {
        let mut bench = bench(3);
        bench.connect();
        let key = lww_key(&bench);
        let dots = [Dot::new(Actor(2), 1), Dot::new(Actor(2), 2)];
        let mut object = Object::from_write(&Context::new(), dots[0], version(1, None));
        object.merge(&Object::from_write(&Context::new(), dots[1], winner));
        bench.state_from(B, 500, &key, &object);
        assert!(bench.objects.contains_key(&key));
        pass(&mut bench, 120 * SECOND, dots[1]);
        assert_eq!(bench.objects.get(&key), None);
    }
}

/// A key of a last-write-wins bucket in the partition of the usual one.
fn lww_key(bench: &Bench) -> Key {
    let mut keys = (0..).map(|n| Key::new(LWW_TYPE, "b", format!("x{n}")).expect("valid"));
    let is_there =
        |key: &Key| bench.replica.layout().partition_of(KEYSPACE.hash(key.as_bytes())) == bench.partition();
    keys.find(is_there).expect("a key")
}
