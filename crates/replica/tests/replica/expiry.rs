//! Values that expire: what readers see, when the bytes go, and that no two replicas differ because of that.

use gramme_object::{Content, Expiry, Key, Object, Sibling, Stamp};
use gramme_quorum::{GetError, PutError};
use gramme_replica::{ClientPut, ClientRequest, Input, LWW_TYPE, Recovered, Response, Ticket};
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

fn has_purged(object: &Object) -> bool {
    object.versions().values().any(Sibling::is_purged)
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
    assert!(has_purged(&purged) && purged.siblings()[0].1.content.is_none());
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
    assert!(stored(&bench).is_some_and(|object| has_purged(&object)));
    // Nor does one that knows more beside it.
    let mut more = object.clone();
    more.merge(&Object::from_write(&Context::new(), Dot::new(Actor(3), 1), version(1, None)));
    bench.state_from(C, 501, &key(), &object);
    bench.state_from(C, 502, &key(), &more);
    let merged = stored(&bench).expect("a row");
    assert!(has_purged(&merged) && merged.versions().len() == 2, "{merged:?}");
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

/// Clocks differ always, if only by what a hello takes.
#[test]
fn a_clock_that_is_a_little_behind_holds_nothing_up() {
    for lag in [50_000, 1_500_000, 4_000_000] {
        let mut bench = bench_of_a_day();
        bench.connect();
        let dot = written(&mut bench, put_for(10));
        bench.lag = lag;
        pass(&mut bench, 120 * SECOND, dot);
        assert_eq!(stored(&bench), None, "{lag} behind");
    }
}

#[test]
fn a_leaf_is_gone_through_once() {
    let mut bench = bench_of_a_day();
    bench.connect();
    written(&mut bench, put_for(20));
    bench.range_scans = 0;
    bench.drive(60 * SECOND, |_, _, _| None);
    assert!(stored(&bench).is_some_and(|object| has_purged(&object)));
    assert_eq!(bench.range_scans, 1);
}

/// The row is read for the purge, and the disk fails that once.
#[test]
fn a_row_that_cannot_be_read_once_is_purged_later() {
    let mut bench = bench_of_a_day();
    bench.connect();
    written(&mut bench, put_for(40));
    bench.stuck.push(key());
    while bench.waiting.is_empty() {
        assert!(bench.now < 200 * SECOND);
        bench.drive(SECOND, |_, _, _| None);
    }
    bench.stuck.clear();
    for (load, _) in std::mem::take(&mut bench.waiting) {
        bench.step(Input::Loaded { load, result: Err(gramme_replica::LoadFailed) });
    }
    assert!(stored(&bench).is_some_and(|object| object.has_value()));
    bench.drive(60 * SECOND, |_, _, _| None);
    assert!(stored(&bench).is_some_and(|object| has_purged(&object)));
}

#[test]
fn an_instant_at_the_end_of_numbers_harms_nobody() {
    let mut bench = bench(3);
    bench.connect();
    let object = Object::from_write(&Context::new(), Dot::new(Actor(2), 1), version(0, Some(u64::MAX)));
    bench.state_from(B, 500, &key(), &object);
    bench.range_scans = 0;
    bench.drive(5 * SECOND, |_, _, _| None);
    assert!(bench.range_scans < 10);
    assert!(stored(&bench).is_some_and(|object| object.has_value()));
}

#[test]
fn one_dot_with_two_instants_ends_as_one() {
    let dot = Dot::new(Actor(2), 1);
    let of = |expires| Object::from_write(&Context::new(), dot, version(0, Some(MILLIS + expires)));
    let ends = [[600_000, 900_000], [900_000, 600_000]].map(|[first, second]| {
        let mut bench = bench(3);
        bench.connect();
        bench.state_from(B, 500, &key(), &of(first));
        bench.state_from(B, 501, &key(), &of(second));
        (stored(&bench), bench.sums(bench.partition()))
    });
    assert_eq!(ends[0], ends[1]);
}

#[test]
fn a_start_that_has_heard_no_clock_hides_nothing() {
    let mut bench = started(3, Recovered::default(), BOUNDS);
    bench.skew = 3_600_000_000;
    [B, C].into_iter().for_each(|node| bench.step(Input::PeerUp(node)));
    bench.commit_all();
    bench.sent.clear();
    bench.replies.clear();
    bench.get(2);
    let expires = Some(MILLIS + 600_000);
    let object = Object::from_write(&Context::new(), Dot::new(Actor(2), 1), version(0, expires));
    let asked: Vec<_> = bench.sent.iter().filter(|(.., message)| message.name() == "Read").cloned().collect();
    for (to, id, _) in asked {
        let (header, object) = (header(Status::DoneSynced), object.encode().into());
        let reply = gramme_wire::peer::ReadReply { header, object, told: None };
        bench.step(Input::Message { from: to, id, message: PeerMessage::ReadReply(reply) });
    }
    assert!(matches!(bench.answer(), Response::Get(Err(GetError::Clock))));
}

#[test]
fn a_listing_hides_nothing_that_may_not_have_expired() {
    let mut bench = bench(3);
    bench.connect();
    written(&mut bench, put_for(600));
    // Of the others it has heard one, which is an hour ahead.
    let mut alone = started(3, bench.disk.clone(), BOUNDS);
    alone.objects = bench.objects.clone();
    alone.greet(B, None, WALL + 3_600_000_000);
    alone.now = 3 * SECOND;
    alone.step(Input::Timer);
    alone.commit_all();
    alone.replies.clear();
    let (bucket_type, bucket) = ("default".to_owned(), Some(bytes::Bytes::from_static(b"b")));
    let request = ClientRequest::Keys { bucket_type, bucket, after: None, timeout: 1_000 };
    alone.step(Input::Client { ticket: Ticket(3), request });
    let Response::Keys(page) = alone.answer() else { panic!("a page") };
    assert!(page.as_ref().is_ok_and(|page| page.keys.contains(&key())), "{page:?}");
}

#[test]
fn a_clock_that_is_as_far_off_as_can_be_harms_nobody() {
    let mut bench = bench(3);
    bench.connect();
    (0..3).for_each(|_| bench.greet(B, None, WALL + (1 << 63)));
    written(&mut bench, put_for(60));
}

/// In between another client's write was acknowledged, or its delete, or the value has expired.
#[test]
fn a_touch_takes_nothing_back() {
    for case in ["nothing", "written", "deleted", "forgotten", "expired"] {
        let mut bench = bench(3);
        bench.connect();
        let key = lww_key(&bench);
        let lived = if case == "expired" { Expiry::After(2_000) } else { Expiry::AsBucket };
        let put = |text: &str| ClientPut { key: key.clone(), ..client_put(text) };
        let first = written(&mut bench, ClientPut { expiry: lived, ..put("first") });
        let content = Object::decode(&bench.objects[&key]).expect("one").siblings()[0].1.content.clone();
        bench.replies.clear();
        bench.step(Input::Client { ticket: Ticket(2), request: get_of(key.clone()) });
        let Response::Get(Ok(found)) = bench.answer() else { panic!("a value") };
        let context = found.context;
        match case {
            "written" => drop(written(&mut bench, ClientPut { context: context.clone(), ..put("second") })),
            "deleted" | "forgotten" => {
                let delete = ClientPut { context: context.clone(), content: None, ..put("") };
                let dot = written(&mut bench, delete);
                if case == "forgotten" {
                    pass(&mut bench, 30 * SECOND, dot);
                    assert_eq!(bench.objects.get(&key), None);
                }
            }
            "expired" => bench.drive(3 * SECOND, |_, _, _| None),
            _ => {}
        }
        let before = bench.objects.get(&key).cloned();
        bench.replies.clear();
        bench.sent.clear();
        let (touched, expiry) = (Some(first), Expiry::After(60_000));
        bench.put(3, ClientPut { content, context, touched, expiry, ..put("") });
        if case == "nothing" {
            assert_eq!(bench.writes().len(), 2);
            continue;
        }
        assert!(matches!(bench.answer(), Response::Put(Err(PutError::Changed))), "{case}");
        assert!(bench.writes().is_empty() && bench.objects.get(&key).cloned() == before, "{case}");
    }
}

/// Two hours ago it was deleted, half an hour ago written by somebody who did not know; then this clock goes back an hour.
#[test]
fn a_clock_that_goes_back_forgets_no_last_writer() {
    let mut bench = bench(3);
    bench.connect();
    let key = lww_key(&bench);
    let (deleted, wrote) = (Dot::new(Actor(2), 1), Dot::new(Actor(2), 2));
    let at = |minutes: u64| Stamp::at_millis(MILLIS - minutes * 60_000);
    let delete = Sibling { stamp: at(120), content: None, ..version(0, None) };
    let write = Sibling { stamp: at(30), ..version(0, None) };
    let mut object = Object::from_write(&Context::new(), deleted, delete);
    object.merge(&Object::from_write(&Context::new(), wrote, write));
    bench.state_from(B, 500, &key, &object);
    // All clocks but C's go back.
    bench.skew = -3_600_000_000;
    bench.lag = 3_600_000_000;
    pass(&mut bench, 30 * SECOND, wrote);
    let object = bench.objects.get(&key).map(|stored| Object::decode(stored).expect("an object"));
    assert!(object.is_some_and(|object| object.versions().is_live(wrote)), "an acknowledged value is lost");
}

/// One owner believes a stamp that another does not yet: neither forgets what the other keeps.
#[test]
fn two_owners_drop_the_same_losers() {
    let dots = [1, 2, 3].map(|counter| Dot::new(Actor(2), counter));
    let kept = [0, -4_900_000].map(|skew| {
        let mut bench = bench(3);
        bench.connect();
        bench.skew = skew;
        let key = lww_key(&bench);
        let mut object = Object::from_write(&Context::new(), dots[0], version(1, None));
        object.merge(&Object::from_write(&Context::new(), dots[1], version(11_000, None)));
        let delete = Sibling { content: None, ..version(0, None) };
        object.merge(&Object::from_write(&Context::new(), dots[2], delete));
        bench.state_from(B, 500, &key, &object);
        pass(&mut bench, 5 * SECOND, dots[2]);
        let object = bench.objects.get(&key).map(|stored| Object::decode(stored).expect("an object"));
        object.map(|object| object.versions().dots().collect::<Vec<_>>()).unwrap_or_default()
    });
    assert_eq!(kept[0], kept[1], "each owner refuses, and ends, what the other keeps");
}
