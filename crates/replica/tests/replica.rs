//! One replica, its inputs handed over one by one, its commits held back until the test lets them through.

use bytes::Bytes;
use gramme_object::{Content, Key, Object, Sibling, Stamp};
use gramme_quorum::{Failure, GetError, PutError, Seat, Tenure, Threshold};
use gramme_replica::{
    Bounds, Change, ClientPut, ClientRequest, Config, Effect, Input, LWW_TYPE, Now, PropertiesChange,
    PropertiesPatch, Recovered, RecoveredPartition, Replica, Response, Scope, Secrets, Ticket,
};
use gramme_ring::{Keyspace, Member, NodeId, PartitionId, PlanRequest, plan};
use gramme_vclock::{Actor, Context, Dot};
use gramme_wire::PeerMessage;
use gramme_wire::peer::{
    Class, Durability, ForwardReply, Hello, Point, Read, ReplyHeader, RequestHeader, Room, Standing, Start,
    Status, Write, WriteReply,
};

const ME: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);
const WALL: u64 = 1_700_000_000_000_000;

/// A replica with a disk that is an object per key, written when the test says so.
struct Bench {
    replica: Replica,
    nodes: u64,
    now: u64,
    /// By how much the wall clock is off, in microseconds.
    skew: i64,
    objects: std::collections::BTreeMap<Key, Bytes>,
    /// What else is durable.
    disk: Recovered,
    /// Batches of earlier starts.
    base: u64,
    pending: Vec<Vec<Change>>,
    committed: u64,
    sent: Vec<(NodeId, u64, PeerMessage)>,
    replies: Vec<(Ticket, Response)>,
    syncs: Vec<bool>,
    timer: u64,
}

const BOUNDS: Bounds = Bounds { bytes: 1 << 20, batches: 1_000, reads: 1_000, cached: 1 << 20 };

/// As many nodes as `nodes`; with more than three, this one does not own every key.
fn bench(nodes: u64) -> Bench {
    let mut bench = started(nodes, Recovered::default(), BOUNDS);
    bench.prove();
    bench
}

/// A start on what is given, which has heard nobody yet.
fn started(nodes: u64, recovered: Recovered, bounds: Bounds) -> Bench {
    let members: Vec<_> = (1..=nodes).map(|id| Member::new(NodeId(id))).collect();
    let layout = plan(&PlanRequest { members: &members, replicas: 3, depth: 3, previous: None });
    let config = Config {
        node: ME,
        layout: layout.expect("a plan").layout,
        keyspace: KEYSPACE,
        secrets: Secrets { current: (1, [1; 32]), previous: None },
        max_requests: 100,
        bounds,
    };
    let mut effects = Vec::new();
    let now = Now { monotonic: 0, wall: WALL };
    let seed = [9 + recovered.position as u8; 32];
    let replica = Replica::start(config, recovered.clone(), seed, now, &mut effects).expect("a start");
    let mut bench = Bench {
        replica,
        nodes,
        now: 0,
        skew: 0,
        objects: std::collections::BTreeMap::new(),
        base: recovered.position,
        disk: recovered.clone(),
        pending: Vec::new(),
        committed: 0,
        sent: Vec::new(),
        replies: Vec::new(),
        syncs: Vec::new(),
        timer: 0,
    };
    bench.perform(effects);
    bench.commit_all();
    bench.sent.clear();
    bench.syncs.clear();
    bench
}

const KEYSPACE: Keyspace = Keyspace::new([5; 32]);

impl Bench {
    /// Every other node answers this start's hello, and remembers nothing of it.
    fn prove(&mut self) {
        for node in 2..=self.nodes {
            self.greet(NodeId(node), None, WALL + self.now);
        }
        self.commit_all();
        self.sent.clear();
        self.syncs.clear();
    }

    /// A hello that answers this start's.
    fn greet(&mut self, from: NodeId, heard: Option<Standing>, wall: u64) {
        let (properties, answers) = (self.digest(), self.replica.boot());
        let hello = Hello { properties, heard, answers, wall, ..greeting() };
        self.step(Input::Message { from, id: 1, message: PeerMessage::Hello(hello) });
    }

    fn digest(&mut self) -> u64 {
        let (mut effects, now) = (Vec::new(), Now { monotonic: self.now, wall: WALL + self.now });
        let request = ClientRequest::Status;
        self.replica.step(now, Input::Client { ticket: Ticket(99), request }, &mut effects);
        let status = effects.into_iter().find_map(|effect| match effect {
            Effect::Reply { response: Response::Status(status), .. } => Some(status.properties),
            _ => None,
        });
        status.expect("a status")
    }

    /// The newest thing that this node says of itself to `node`.
    fn says(&mut self, node: NodeId) -> Hello {
        self.step(Input::PeerUp(node));
        let sent = std::mem::take(&mut self.sent);
        let hello = sent.into_iter().rev().find_map(|(to, _, message)| match message {
            PeerMessage::Hello(hello) if to == node => Some(hello),
            _ => None,
        });
        hello.expect("a hello")
    }

    /// What another node remembers that was told this.
    fn remembered(&self, of: &Hello, more: u64) -> Standing {
        let (start, position, boot) = (of.point.start, of.point.position + more, of.boot);
        let mut bytes = b"standing".to_vec();
        [ME.0, start, position, boot].iter().for_each(|number| bytes.extend(number.to_le_bytes()));
        Standing { point: Point { start, position }, boot, seal: KEYSPACE.hash(&bytes).0 }
    }

    fn step(&mut self, input: Input) {
        let mut effects = Vec::new();
        let now = Now { monotonic: self.now, wall: (WALL + self.now).saturating_add_signed(self.skew) };
        self.replica.step(now, input, &mut effects);
        self.perform(effects);
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send { to, id, message, .. } => self.sent.push((to, id, message)),
                Effect::Reply { ticket, response } => self.replies.push((ticket, response)),
                Effect::Load { load, place } => {
                    let result = Ok(self.objects.get(&place.key).cloned());
                    self.step(Input::Loaded { load, result });
                }
                Effect::Scan { .. } => panic!("no test scans"),
                Effect::Commit { changes, sync, .. } => {
                    self.pending.push(changes);
                    self.syncs.push(sync);
                }
                Effect::SetTimer(at) => self.timer = at,
                Effect::Fatal(why) => panic!("{why}"),
            }
        }
    }

    /// Lets everything that was handed to the disk become durable.
    fn commit_all(&mut self) {
        for change in std::mem::take(&mut self.pending).into_iter().inspect(|_| self.committed += 1).flatten()
        {
            match change {
                Change::Object { place, object, .. } => drop(self.objects.insert(place.key, object)),
                Change::Meta { name, value } => drop(self.disk.meta.insert(name, value)),
                Change::Partition { partition, total, record } => {
                    let row = RecoveredPartition { total, record, ..RecoveredPartition::default() };
                    self.disk.partitions.insert(partition, row);
                }
                Change::Note { partition, total, note } => {
                    let row = self.disk.partitions.entry(partition).or_default();
                    row.total = total;
                    row.notes.push(note);
                }
                Change::Leaf { .. } | Change::Removed { .. } => {}
            }
        }
        self.disk.position = self.base + self.committed;
        self.step(Input::Committed { written: self.committed, synced: self.committed });
    }

    /// Only written, not synced.
    fn write_all(&mut self) {
        let written = self.committed + self.pending.len() as u64;
        self.step(Input::Committed { written, synced: self.committed });
    }

    fn put(&mut self, ticket: u64, put: ClientPut) {
        self.step(Input::Client { ticket: Ticket(ticket), request: ClientRequest::Put(put) });
    }

    fn get(&mut self, ticket: u64) {
        let request = ClientRequest::Get {
            key: key(),
            r: Threshold::One,
            pr: Threshold::Default,
            timeout: 1_000,
            against: Bytes::new(),
        };
        self.step(Input::Client { ticket: Ticket(ticket), request });
    }

    /// Another coordinator's write arrives.
    fn write_from(&mut self, from: NodeId, dot: Dot, read: Context) {
        let sibling = Sibling { stamp: Stamp::at_millis(WALL / 1_000), write_id: 1, content: None };
        let object = Object::from_write(&read, dot, sibling).encode().into();
        let (header, seat) = (self.header(), Seat::default());
        let write = Write { header, key: key(), seat, durability: Durability::Synced, dot, object };
        self.step(Input::Message { from, id: 77, message: PeerMessage::Write(write) });
    }

    /// The header of another coordinator's request.
    fn header(&self) -> RequestHeader {
        RequestHeader {
            generation: 1,
            epoch: 1,
            partition: self.partition(),
            properties: 1,
            point: Point { start: 0, position: 0 },
            class: Class::Foreground,
            origin: 2,
            boot: 1,
            request: 1,
        }
    }

    fn partition(&self) -> PartitionId {
        self.replica.layout().partition_of(KEYSPACE.hash(key().as_bytes()))
    }

    /// The writes that were sent since the last time, with whom and under which number.
    fn writes(&mut self) -> Vec<(NodeId, u64, Write)> {
        let sent = std::mem::take(&mut self.sent);
        let writes = sent.into_iter().filter_map(|(to, id, message)| match message {
            PeerMessage::Write(write) => Some((to, id, write)),
            _ => None,
        });
        writes.collect()
    }

    fn acknowledge(&mut self, from: NodeId, id: u64, status: Status) {
        let reply = WriteReply { header: header(status), seat: Seat::default() };
        self.step(Input::Message { from, id, message: PeerMessage::WriteReply(reply) });
    }

    fn owners_of(&self, key: &Key) -> Vec<NodeId> {
        let layout = self.replica.layout();
        layout.owners(layout.partition_of(KEYSPACE.hash(key.as_bytes()))).collect()
    }

    /// A key that this node does not own.
    fn foreign_key(&self) -> Key {
        let mut keys =
            (0..).map(|number| Key::new("default", "b", format!("{number}")).expect("valid parts"));
        keys.find(|key| !self.owners_of(key).contains(&ME)).expect("a key of others")
    }

    /// The only answer that was given since the last time.
    fn answer(&mut self) -> Response {
        assert_eq!(self.replies.len(), 1, "{:?}", self.replies);
        self.replies.pop().expect("an answer").1
    }
}

fn header(status: Status) -> ReplyHeader {
    ReplyHeader {
        status,
        generation: 1,
        epoch: 1,
        tenure: Tenure::default(),
        life: 0,
        seen: 0,
        known: Vec::new(),
        floors: Bytes::new(),
        point: Point { start: 0, position: 0 },
    }
}

fn key() -> Key {
    Key::new("default", "b", "k").expect("valid parts")
}

fn client_put(value: &str) -> ClientPut {
    ClientPut {
        key: key(),
        context: Bytes::new(),
        content: Some(Content::from_body(value.as_bytes())),
        w: Threshold::Default,
        pw: Threshold::Default,
        dw: Threshold::Default,
        timeout: 1_000,
        return_body: false,
        identity: None,
    }
}

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

#[test]
fn a_copy_of_a_put_is_not_handed_on_again() {
    let mut bench = bench(4);
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
        against: Bytes::new(),
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
    let read = Read { header, key: key(), asked: Vec::new() };
    bench.sent.clear();
    bench.step(Input::Message { from: B, id: 9, message: PeerMessage::Read(read) });
    assert!(bench.sent.is_empty());
    bench.commit_all();
    assert!(matches!(bench.sent.as_slice(), [(B, 9, PeerMessage::ReadReply(_))]), "{:?}", bench.sent);
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

#[test]
fn synced_acknowledgements_are_asked_for_where_they_are_wanted() {
    let mut bench = bench(3);
    bench.put(1, ClientPut { dw: Threshold::All, ..client_put("x") });
    assert!(bench.writes().iter().all(|(_, _, write)| write.durability == Durability::Synced));
    assert_eq!(bench.syncs, [true]);
}

#[test]
fn a_runaway_stamp_is_refused_and_carries_nobody_away() {
    let mut bench = bench(3);
    let sibling = |stamp| Sibling { stamp, write_id: 1, content: None };
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
fn a_put_is_handed_on_until_an_owner_takes_it_and_never_to_two() {
    let mut bench = bench(8);
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
fn an_older_epoch_is_stale() {
    let mut bench = bench(3);
    let header = RequestHeader { generation: 0, epoch: 9, ..bench.header() };
    let read = Read { header, key: key(), asked: Vec::new() };
    bench.step(Input::Message { from: C, id: 1, message: PeerMessage::Read(read) });
    let [(C, 1, PeerMessage::ReadReply(reply))] = bench.sent.as_slice() else { panic!("{:?}", bench.sent) };
    assert_eq!((reply.header.status, reply.header.generation), (Status::Stale, 1));
}

#[test]
fn a_node_that_has_other_properties_is_sent_ours() {
    let mut bench = bench(3);
    bench.change(1, "b", 7);
    bench.commit_all();
    bench.sent.clear();
    let hello = Hello { properties: 99, ..greeting() };
    bench.step(Input::Message { from: B, id: 1, message: PeerMessage::Hello(hello) });
    let sent = bench.sent.iter().find(|(_, _, message)| matches!(message, PeerMessage::Properties(_)));
    assert!(
        matches!(sent, Some((B, _, PeerMessage::Properties(properties))) if properties.records.len() == 1)
    );
}

fn greeting() -> Hello {
    Hello {
        versions: (1, 1),
        boot: 7,
        wall: WALL,
        layout: 1,
        properties: 0,
        keys: 0,
        bytes: 0,
        room: Room::Enough,
        lineage: vec![Start { id: 77, end: u64::MAX }],
        point: Point { start: 77, position: 5 },
        heard: None,
        answers: 0,
        counts: true,
    }
}

impl Bench {
    /// Another coordinator's write of a value arrives.
    fn value_from(&mut self, from: NodeId, dot: Dot) {
        let stamp = Stamp::at_millis(WALL / 1_000);
        let sibling = Sibling { stamp, write_id: 1, content: Some(Content::from_body(b"v")) };
        let object = Object::from_write(&Context::new(), dot, sibling).encode().into();
        let (header, seat) = (self.header(), Seat::default());
        let write = Write { header, key: key(), seat, durability: Durability::Synced, dot, object };
        self.step(Input::Message { from, id: 77, message: PeerMessage::Write(write) });
    }

    fn scope(bucket: &str) -> Scope {
        Scope { bucket_type: "default".to_owned(), bucket: Some(Bytes::copy_from_slice(bucket.as_bytes())) }
    }

    /// A client changes a bucket's property.
    fn change(&mut self, ticket: u64, bucket: &str, max_siblings: u32) {
        let patch = PropertiesPatch { max_siblings: Some(max_siblings), ..PropertiesPatch::default() };
        let (scope, change) = (Self::scope(bucket), PropertiesChange::Set(patch));
        let request = ClientRequest::SetProperties { scope, change, timeout: 1_000 };
        self.step(Input::Client { ticket: Ticket(ticket), request });
    }

    fn max_siblings(&mut self, bucket: &str) -> u32 {
        self.replies.clear();
        self.step(Input::Client {
            ticket: Ticket(90),
            request: ClientRequest::Properties(Self::scope(bucket)),
        });
        let Response::Properties(Ok(properties)) = self.answer() else { panic!("no properties") };
        properties.max_siblings
    }

    /// The records that were sent to `node`, and forgotten.
    fn records_to(&mut self, node: NodeId) -> Vec<(u64, PeerMessage)> {
        let sent = std::mem::take(&mut self.sent);
        let records =
            sent.into_iter().filter(|(to, _, message)| *to == node && message.name() == "Properties");
        records.map(|(_, id, message)| (id, message)).collect()
    }
}

/// The other node acknowledges a change the moment its disk has it. One that this node makes meanwhile, of the
/// same bucket or of another, must not take it back.
#[test]
fn a_change_of_properties_that_is_being_stored_is_not_lost_to_another() {
    for (theirs, ours) in [("b", "c"), ("b", "b")] {
        let mut other = bench(3);
        other.change(1, theirs, 7);
        let (id, message) = other.records_to(B).pop().expect("a record");
        let mut bench = bench(3);
        bench.step(Input::Message { from: C, id, message });
        bench.change(1, ours, 8);
        bench.sent.retain(|(_, _, message)| message.name() == "PropertiesReply");
        bench.commit_all();
        let told = bench.sent.iter().any(|(to, _, message)| *to == C && message.name() == "PropertiesReply");
        assert!(told, "it is acknowledged, or overtaken by what was built on it");
        assert_eq!(bench.max_siblings(ours), 8);
        if theirs != ours {
            assert_eq!(bench.max_siblings(theirs), 7, "another bucket's change");
        }
    }
}

/// Chains the contexts of its own answers, and never reads.
fn overwrite(bench: &mut Bench, times: usize, length: usize) -> usize {
    let mut context = Bytes::new();
    let mut longest = 0;
    let value = "v".repeat(length);
    for ticket in 0..times {
        bench.put(ticket as u64, ClientPut { context: context.clone(), ..client_put(&value) });
        for (to, id, _) in bench.writes() {
            bench.acknowledge(to, id, Status::DoneSynced);
        }
        bench.commit_all();
        let Response::Put(Ok(stored)) = bench.answer() else { panic!("refused after {ticket} puts") };
        context = stored.context;
        longest = longest.max(context.len());
    }
    longest
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

/// What one owner may still hold is named: without it the writer's next put would stand beside it there.
#[test]
fn a_context_names_what_an_owner_may_still_hold() {
    let mut bench = bench(3);
    overwrite(&mut bench, 1, 10);
    let (mut context, mut lengths) = (Bytes::new(), Vec::new());
    for ticket in 0..30 {
        bench.put(ticket, ClientPut { context: context.clone(), ..client_put("x") });
        for (to, id, _) in bench.writes().into_iter().filter(|(to, ..)| *to == B) {
            bench.acknowledge(to, id, Status::DoneSynced);
        }
        bench.commit_all();
        bench.now += 200_000;
        bench.step(Input::Timer);
        let Response::Put(Ok(stored)) = bench.answer() else { panic!("refused after {ticket} puts") };
        context = stored.context;
        lengths.push(context.len());
    }
    assert!(lengths.is_sorted() && lengths[29] >= lengths[0] + 29 * 16, "{lengths:?}");
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

/// A replica that knows a later epoch refuses; the same dot goes out again at that epoch, and is counted anew.
#[test]
fn a_put_goes_on_with_the_same_dot_at_a_later_epoch() {
    let mut bench = bench(3);
    bench.put(1, client_put("x"));
    bench.commit_all();
    let first = bench.writes();
    let later = |status| ReplyHeader { epoch: 2, ..header(status) };
    let reply = |header| PeerMessage::WriteReply(WriteReply { header, seat: Seat::default() });
    bench.step(Input::Message { from: B, id: first[0].1, message: reply(later(Status::Stale)) });
    let again = bench.writes();
    assert_eq!(again.len(), 2);
    assert!(again.iter().all(|(_, _, write)| write.dot == first[0].2.dot && write.header.epoch == 2));
    // What was acknowledged at the old epoch does not count at the new one.
    bench.step(Input::Message { from: C, id: first[0].1, message: reply(header(Status::DoneSynced)) });
    bench.commit_all();
    assert!(bench.replies.is_empty(), "{:?}", bench.replies);
    bench.step(Input::Message { from: C, id: first[0].1, message: reply(later(Status::DoneSynced)) });
    assert!(matches!(bench.answer(), Response::Put(Ok(stored)) if stored.receipt.acks == 2));
    // The later epoch is durable: the next start knows it.
    let mut next = started(3, bench.disk.clone(), BOUNDS);
    let read = Read { header: next.header(), key: key(), asked: Vec::new() };
    next.step(Input::Message { from: C, id: 1, message: PeerMessage::Read(read) });
    let stale = |message: &PeerMessage| matches!(message, PeerMessage::ReadReply(reply) if reply.header.status == Status::Stale);
    assert!(next.sent.iter().any(|(_, _, message)| stale(message)), "{:?}", next.sent);
}

#[test]
fn a_version_that_we_cannot_speak_to_is_asked_nothing_and_not_cut_off() {
    let mut bench = bench(4);
    let hello = Hello { versions: (2, 3), ..greeting() };
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
