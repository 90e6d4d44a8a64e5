//! One replica, its inputs handed over one by one, its commits held back until the test lets them through.

use bytes::Bytes;
use gramme_object::{Content, Key, Object, Sibling, Stamp};
use gramme_quorum::{Failure, GetError, PutError, Tenure, Threshold};
use gramme_replica::{
    Change, ClientPut, ClientRequest, Config, Effect, Input, Now, Recovered, Replica, Response, Secrets,
    Ticket,
};
use gramme_ring::{Keyspace, Member, NodeId, PartitionId, PlanRequest, plan};
use gramme_vclock::{Actor, Context, Dot};
use gramme_wire::PeerMessage;
use gramme_wire::peer::{
    Durability, ForwardReply, Hello, Read, ReplyHeader, RequestHeader, Standing, Status, Write, WriteReply,
};

const ME: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);
const WALL: u64 = 1_700_000_000_000_000;

/// A replica with a disk that is an object per key, written when the test says so.
struct Bench {
    replica: Replica,
    now: u64,
    objects: std::collections::BTreeMap<Key, Bytes>,
    pending: Vec<Vec<Change>>,
    committed: u64,
    sent: Vec<(NodeId, u64, PeerMessage)>,
    replies: Vec<(Ticket, Response)>,
    syncs: Vec<bool>,
    timer: u64,
}

/// As many nodes as `nodes`; with more than three, this one does not own every key.
fn bench(nodes: u64) -> Bench {
    let members: Vec<_> = (1..=nodes).map(|id| Member::new(NodeId(id))).collect();
    let layout = plan(&PlanRequest { members: &members, replicas: 3, depth: 3, previous: None });
    let config = Config {
        node: ME,
        layout: layout.expect("a plan").layout,
        keyspace: Keyspace::new([5; 32]),
        secrets: Secrets { current: (1, [1; 32]), previous: None },
        max_requests: 100,
    };
    let mut effects = Vec::new();
    let now = Now { monotonic: 0, wall: WALL };
    let replica = Replica::start(config, Recovered::default(), [9; 32], now, &mut effects).expect("a start");
    let mut bench = Bench {
        replica,
        now: 0,
        objects: std::collections::BTreeMap::new(),
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

impl Bench {
    fn step(&mut self, input: Input) {
        let mut effects = Vec::new();
        let now = Now { monotonic: self.now, wall: WALL + self.now };
        self.replica.step(now, input, &mut effects);
        self.perform(effects);
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send { to, id, message, .. } => self.sent.push((to, id, message)),
                Effect::Reply { ticket, response } => self.replies.push((ticket, response)),
                Effect::Load { load, key, .. } => {
                    let result = Ok(self.objects.get(&key).cloned());
                    self.step(Input::Loaded { load, result });
                }
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
            if let Change::Object { key, object, .. } = change {
                self.objects.insert(key, object);
            }
        }
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
        let request =
            ClientRequest::Get { key: key(), r: Threshold::One, pr: Threshold::Default, timeout: 1_000 };
        self.step(Input::Client { ticket: Ticket(ticket), request });
    }

    /// Another coordinator's write arrives.
    fn write_from(&mut self, from: NodeId, dot: Dot, read: Context) {
        let sibling = Sibling { stamp: Stamp::at_millis(WALL / 1_000), write_id: 1, content: None };
        let object = Object::from_write(&Context::new(), dot, sibling).encode().into();
        let partition = self.partition();
        let header = RequestHeader {
            generation: 1,
            epoch: 1,
            partition,
            properties: 1,
            origin: 2,
            boot: 1,
            request: 1,
        };
        let durability = Durability::Synced;
        let write = Write { header, key: key(), slot: 0, durability, dot, whole: false, read, object };
        self.step(Input::Message { from, id: 77, message: PeerMessage::Write(write) });
    }

    fn partition(&self) -> PartitionId {
        self.replica.layout().partition_of(Keyspace::new([5; 32]).hash(key().as_bytes()))
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
        let slot = self.replica.layout().slot_of(self.partition(), from).expect("an owner");
        let reply = WriteReply { header: header(status), slot, position: 0 };
        self.step(Input::Message { from, id, message: PeerMessage::WriteReply(reply) });
    }

    fn owners_of(&self, key: &Key) -> Vec<NodeId> {
        let layout = self.replica.layout();
        layout.owners(layout.partition_of(Keyspace::new([5; 32]).hash(key.as_bytes()))).collect()
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
        assert!(blind.whole && sent.context().vector().covers(first.dot));
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

#[test]
fn a_node_that_is_told_of_more_than_it_has_counts_for_nothing() {
    let mut bench = bench(3);
    bench.put(1, client_put("x"));
    bench.commit_all();
    // What it has reached is no news.
    let standing = |bench: &Bench, more| {
        let told = bench.sent.iter().rev().find_map(|(_, _, message)| match message {
            PeerMessage::Hello(hello) => Some((hello.lives.clone(), hello.position)),
            _ => None,
        });
        let (lives, position) = told.expect("a greeting");
        Standing { life: lives[0], position: position + more }
    };
    bench.step(Input::PeerUp(B));
    let reached = standing(&bench, 0);
    assert_eq!(reached.position, 1);
    let tell = |bench: &mut Bench, heard| {
        let message = PeerMessage::Hello(greeting((9, NodeId(9)), Some(heard)));
        bench.step(Input::Message { from: B, id: 1, message });
    };
    tell(&mut bench, reached);
    assert_eq!(bench.replica.stats().amnesiac_partitions, 0);
    let beyond = standing(&bench, 1);
    tell(&mut bench, beyond);
    assert_eq!(bench.replica.stats().amnesiac_partitions, 8);
    bench.commit_all();
    // Its own copy counts no longer, for reads or for writes.
    bench.step(Input::PeerDown(B));
    bench.step(Input::PeerDown(C));
    bench.replies.clear();
    bench.get(2);
    bench.step(Input::PeerDown(B));
    bench.step(Input::PeerDown(C));
    let Response::Get(Err(GetError::Unavailable(shortfall))) = bench.answer() else { panic!("it counted") };
    assert!(shortfall.failed.contains(&(ME, Failure::Amnesiac)), "{shortfall:?}");
    bench.sent.clear();
    bench.write_from(B, Dot::new(Actor(2), 1), Context::new());
    bench.commit_all();
    let is_amnesiac = |message: &PeerMessage| matches!(message, PeerMessage::WriteReply(reply) if reply.header.status == Status::Amnesiac);
    assert!(bench.sent.iter().any(|(_, _, message)| is_amnesiac(message)), "{:?}", bench.sent);
    assert!(bench.objects.contains_key(&key()), "it takes what it is sent all the same");
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
    let header = RequestHeader {
        generation: 1,
        epoch: 1,
        partition: bench.partition(),
        properties: 1,
        origin: 2,
        boot: 1,
        request: 1,
    };
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
    assert!(matches!(bench.replies.last(), Some((Ticket(4), Response::Put(Err(PutError::Context(_)))))));
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
    assert!(third.read.covers(second.dot) && !third.read.covers(first.dot));
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
    let partition = bench.partition();
    let header =
        RequestHeader { generation: 1, epoch: 1, partition, properties: 1, origin: 2, boot: 1, request: 1 };
    let (durability, read) = (Durability::Synced, Context::new());
    let write =
        Write { header, key: key(), slot: 0, durability, dot, whole: false, read, object: object.clone() };
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
    bench.step(Input::Writable(false));
    bench.write_from(B, Dot::new(Actor(2), 1), Context::new());
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
    let partition = bench.partition();
    let header =
        RequestHeader { generation: 0, epoch: 9, partition, properties: 1, origin: 2, boot: 1, request: 1 };
    let read = Read { header, key: key(), asked: Vec::new() };
    bench.step(Input::Message { from: C, id: 1, message: PeerMessage::Read(read) });
    let [(C, 1, PeerMessage::ReadReply(reply))] = bench.sent.as_slice() else { panic!("{:?}", bench.sent) };
    assert_eq!((reply.header.status, reply.header.generation), (Status::Stale, 1));
}

#[test]
fn a_node_that_was_away_hears_of_the_properties() {
    let mut bench = bench(3);
    let hello = greeting((0, NodeId(0)), None);
    bench.step(Input::Message { from: B, id: 1, message: PeerMessage::Hello(hello) });
    assert!(matches!(bench.sent.as_slice(), [(B, _, PeerMessage::Properties(_))]), "{:?}", bench.sent);
}

fn greeting(properties: (u64, NodeId), heard: Option<Standing>) -> Hello {
    let (lives, position) = (vec![77], 5);
    Hello { boot: 1, layout: 1, properties, keys: 0, bytes: 0, writable: true, lives, position, heard }
}
