//! The replica and its surroundings: its clock, its disk, and what it has sent.

use bytes::Bytes;
use gramme_admission::Limits;
use gramme_object::{Content, Expiry, Key, Object, Sibling, Stamp};
use gramme_quorum::{Seat, Tenure, Threshold};
use gramme_replica::{
    Bounds, Change, ClientPut, ClientRequest, Config, Effect, Input, Now, Page, Place, PropertiesChange,
    PropertiesPatch, Recovered, RecoveredPartition, Replica, Response, Rows, Scope, Secrets, Space, Ticket,
};
use gramme_ring::{Keyspace, Layout, Member, Move, NodeId, PartitionId, PlanRequest, Step, plan};
use gramme_vclock::{Context, Dot};
use gramme_wire::PeerMessage;
use gramme_wire::peer::{
    Asked, Class, Durability, Hello, NewLayout, Point, Repair, ReplyHeader, RequestHeader, Room, Standing,
    Start, Status, Write, WriteReply,
};

pub(crate) const ME: NodeId = NodeId(1);
pub(crate) const B: NodeId = NodeId(2);
pub(crate) const C: NodeId = NodeId(3);
pub(crate) const WALL: u64 = 1_700_000_000_000_000;

/// A replica with a disk that is an object per key, written when the test says so.
pub(crate) struct Bench {
    pub(crate) replica: Replica,
    pub(crate) nodes: u64,
    pub(crate) now: u64,
    /// By how much the wall clock is off, in microseconds.
    pub(crate) skew: i64,
    /// By how much node B's clock is behind, in microseconds.
    pub(crate) lag: u64,
    /// How often rows between two places were read.
    pub(crate) range_scans: u32,
    pub(crate) objects: std::collections::BTreeMap<Key, Bytes>,
    /// What it keeps for others.
    pub(crate) hints: std::collections::BTreeMap<Place, Bytes>,
    /// What else is durable.
    pub(crate) disk: Recovered,
    /// Batches of earlier starts.
    pub(crate) base: u64,
    pub(crate) pending: Vec<Vec<Change>>,
    pub(crate) committed: u64,
    pub(crate) sent: Vec<(NodeId, u64, PeerMessage)>,
    pub(crate) replies: Vec<(Ticket, Response)>,
    pub(crate) syncs: Vec<bool>,
    pub(crate) timer: u64,
    /// Rows whose reading does not end.
    pub(crate) stuck: Vec<Key>,
    /// Their loads.
    pub(crate) waiting: Vec<(u64, Place)>,
}

pub(crate) const BOUNDS: Bounds =
    Bounds { bytes: 1 << 20, batches: 1_000, reads: 1_000, cached: 1 << 20, hints: 10_000, large: 8_192 };

/// As many nodes as `nodes`; with more than three, this one does not own every key.
pub(crate) fn bench(nodes: u64) -> Bench {
    let mut bench = started(nodes, Recovered::default(), BOUNDS);
    bench.prove();
    bench
}

/// One of eight nodes, a key whose three owners are away, and the four others, which are there.
pub(crate) fn without_owners() -> (Bench, Key, Vec<NodeId>) {
    let mut bench = bench(8);
    let key = bench.foreign_key();
    let owners = bench.owners_of(&key);
    let others: Vec<_> = (2..=8).map(NodeId).filter(|node| !owners.contains(node)).collect();
    others.iter().for_each(|node| bench.step(Input::PeerUp(*node)));
    (bench, key, others)
}

/// The same, that goes through all its rows once a day, and keeps none in memory.
pub(crate) fn bench_of_a_day() -> Bench {
    let bounds = Bounds { cached: 0, ..BOUNDS };
    let config = Config { scrub_every: 86_400_000_000, ..config(3, bounds) };
    let mut bench = started_as(config, Recovered::default());
    bench.prove();
    bench
}

/// The same, whose background work goes within these limits.
pub(crate) fn bench_with(background: Limits) -> Bench {
    let config = Config { background, scrub_every: 86_400_000_000, ..config(3, BOUNDS) };
    let mut bench = started_as(config, Recovered::default());
    bench.prove();
    bench
}

fn config(nodes: u64, bounds: Bounds) -> Config {
    let members: Vec<_> = (1..=nodes).map(|id| Member::new(NodeId(id))).collect();
    let layout = plan(&PlanRequest { members: &members, replicas: 3, depth: 3, previous: None });
    Config {
        node: ME,
        layout: layout.expect("a plan").layout,
        keyspace: KEYSPACE,
        secrets: Secrets { current: (1, [1; 32]), previous: None },
        addresses: std::collections::BTreeMap::new(),
        max_requests: 100,
        bounds,
        background: Limits::USUAL,
        scrub_every: 60_000_000,
    }
}

/// A start on what is given, which has heard nobody yet.
pub(crate) fn started(nodes: u64, recovered: Recovered, bounds: Bounds) -> Bench {
    started_as(config(nodes, bounds), recovered)
}

fn started_as(config: Config, recovered: Recovered) -> Bench {
    let nodes = config.layout.members().len() as u64;
    let mut effects = Vec::new();
    let now = Now { monotonic: 0, wall: WALL };
    let seed = [9 + recovered.position as u8; 32];
    let replica = Replica::start(config, recovered.clone(), seed, now, &mut effects).expect("a start");
    let mut bench = Bench {
        replica,
        nodes,
        now: 0,
        skew: 0,
        lag: 0,
        range_scans: 0,
        objects: std::collections::BTreeMap::new(),
        hints: std::collections::BTreeMap::new(),
        base: recovered.position,
        disk: recovered.clone(),
        pending: Vec::new(),
        committed: 0,
        sent: Vec::new(),
        replies: Vec::new(),
        syncs: Vec::new(),
        timer: 0,
        stuck: Vec::new(),
        waiting: Vec::new(),
    };
    bench.perform(effects);
    bench.commit_all();
    bench.sent.clear();
    bench.syncs.clear();
    bench
}

pub(crate) const KEYSPACE: Keyspace = Keyspace::new([5; 32]);

impl Bench {
    /// Every other node answers this start's hello, and remembers nothing of it.
    pub(crate) fn prove(&mut self) {
        for node in 2..=self.nodes {
            self.greet(NodeId(node), None, WALL + self.now);
        }
        self.commit_all();
        self.sent.clear();
        self.syncs.clear();
    }

    /// A hello that answers this start's.
    pub(crate) fn greet(&mut self, from: NodeId, heard: Option<Standing>, wall: u64) {
        let (properties, answers) = (self.digest(), self.replica.boot());
        let answers_losses = self.replica.stats().losses;
        let hello = Hello { properties, heard, answers, answers_losses, wall, ..greeting() };
        self.step(Input::Message { from, id: 1, message: PeerMessage::Hello(hello) });
    }

    pub(crate) fn digest(&mut self) -> u64 {
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
    pub(crate) fn says(&mut self, node: NodeId) -> Hello {
        self.step(Input::PeerUp(node));
        let sent = std::mem::take(&mut self.sent);
        let hello = sent.into_iter().rev().find_map(|(to, _, message)| match message {
            PeerMessage::Hello(hello) if to == node => Some(hello),
            _ => None,
        });
        hello.expect("a hello")
    }

    /// What another node remembers that was told this.
    pub(crate) fn remembered(&self, of: &Hello, more: u64) -> Standing {
        let (start, position, boot) = (of.point.start, of.point.position + more, of.boot);
        let mut bytes = b"standing".to_vec();
        [ME.0, start, position, boot].iter().for_each(|number| bytes.extend(number.to_le_bytes()));
        Standing { point: Point { start, position }, boot, seal: KEYSPACE.hash(&bytes).0 }
    }

    pub(crate) fn step(&mut self, input: Input) {
        let mut effects = Vec::new();
        let now = Now { monotonic: self.now, wall: (WALL + self.now).saturating_add_signed(self.skew) };
        self.replica.step(now, input, &mut effects);
        self.perform(effects);
    }

    pub(crate) fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                // It has tests of its own.
                Effect::Send { message: PeerMessage::Gossip(_), .. } | Effect::Addresses { .. } => {}
                Effect::Send { to, id, message, .. } => self.sent.push((to, id, message)),
                Effect::Reply { ticket, response } => self.replies.push((ticket, response)),
                Effect::Load { load, place } if self.stuck.contains(&place.key) => {
                    self.waiting.push((load, place));
                }
                Effect::Load { load, place } => {
                    let result = Ok(self.stored(&place).cloned());
                    self.step(Input::Loaded { load, result });
                }
                Effect::Scan { scan, rows, after, limit } => {
                    self.range_scans += u32::from(matches!(rows, Rows::Range { .. }));
                    let page = self.page(rows, after.as_ref(), limit);
                    self.step(Input::Scanned { scan, result: Ok(page) });
                }
                Effect::Commit { changes, sync, .. } => {
                    self.pending.push(changes);
                    self.syncs.push(sync);
                }
                Effect::SetTimer(at) => self.timer = at,
                Effect::Fatal(why) => panic!("{why}"),
                Effect::Removed => panic!("nobody removes it"),
            }
        }
    }

    /// The disk has read the rows that it was stuck with.
    pub(crate) fn end_loads(&mut self) {
        for (load, place) in std::mem::take(&mut self.waiting) {
            let result = Ok(self.stored(&place).cloned());
            self.step(Input::Loaded { load, result });
        }
    }

    /// A row, as the disk has it.
    fn stored(&self, place: &Place) -> Option<&Bytes> {
        match place.space {
            Space::Data => self.objects.get(&place.key),
            Space::Hints(_) => self.hints.get(place),
        }
    }

    /// Rows in their order, as the disk has them.
    fn page(&self, rows: Rows, after: Option<&Place>, limit: usize) -> Page {
        let (partition, hashes) = match rows {
            Rows::Partition(partition) => (partition, 0..=u64::MAX),
            Rows::Range { partition, first, last } => (partition, first..=last),
            Rows::Hints(target) => return self.hint_page(target, after),
        };
        let rows = self.objects.iter().map(|(key, stored)| {
            let hash = KEYSPACE.hash(key.as_bytes());
            let partition = self.replica.layout().partition_of(hash);
            (Place { space: Space::Data, partition, hash, key: key.clone() }, stored.clone())
        });
        let is_there = |place: &Place| {
            let is_after = after.is_none_or(|after| place > after);
            place.partition == partition && hashes.contains(&place.hash.0) && is_after
        };
        let mut rows: Vec<_> = rows.filter(|(place, _)| is_there(place)).collect();
        rows.sort_by(|(one, _), (other, _)| one.cmp(other));
        let unreadable = take_unreadable(&mut rows);
        let has_more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| has_more).map(|(place, _)| place.clone());
        Page { rows, next, unreadable }
    }

    /// All that is kept for a node, at once.
    fn hint_page(&self, target: NodeId, after: Option<&Place>) -> Page {
        let rows = self.hints.iter().filter(|(place, _)| place.space == Space::Hints(target));
        let rows = rows.filter(|(place, _)| after.is_none_or(|after| *place > after));
        let mut rows = rows.map(|(place, stored)| (place.clone(), stored.clone())).collect();
        let unreadable = take_unreadable(&mut rows);
        Page { rows, next: None, unreadable }
    }

    /// A partition that this node owns.
    pub(crate) fn owned(&self) -> PartitionId {
        let layout = self.replica.layout();
        let all = (0..1 << layout.depth()).map(|prefix| PartitionId { prefix, depth: layout.depth() });
        all.into_iter().find(|&id| layout.owners(id).any(|owner| owner == ME)).expect("one of ours")
    }

    /// Lets everything that was handed to the disk become durable.
    pub(crate) fn commit_all(&mut self) {
        for change in std::mem::take(&mut self.pending).into_iter().inspect(|_| self.committed += 1).flatten()
        {
            match change {
                Change::Object { place, object, .. } if place.space == Space::Data => {
                    self.objects.insert(place.key, object);
                }
                Change::Object { place, object, .. } => drop(self.hints.insert(place, object)),
                Change::Removed { place } if place.space == Space::Data => {
                    self.objects.remove(&place.key);
                }
                Change::Removed { place } => drop(self.hints.remove(&place)),
                Change::Meta { name, value } => drop(self.disk.meta.insert(name, value)),
                Change::Partition { partition, total, record } => {
                    let row = self.disk.partitions.entry(partition).or_default();
                    let leaves = std::mem::take(&mut row.leaves);
                    *row = RecoveredPartition { total, record, leaves, ..RecoveredPartition::default() };
                }
                Change::Note { partition, total, note } => {
                    let row = self.disk.partitions.entry(partition).or_default();
                    row.total = total;
                    row.notes.push(note);
                }
                Change::Leaf { partition, number, leaf } => {
                    self.disk.partitions.entry(partition).or_default().leaves.insert(number, leaf);
                }
            }
        }
        self.disk.position = self.base + self.committed;
        self.step(Input::Committed { written: self.committed, synced: self.committed });
    }

    /// Under which number it has sent its last message of this name.
    pub(crate) fn last_id(&self, name: &str) -> u64 {
        let of_name = self.sent.iter().rev().find(|(.., message)| message.name() == name);
        of_name.map(|(_, id, _)| *id).expect("a message of this name")
    }

    /// Connects it to all others.
    pub(crate) fn connect(&mut self) {
        (2..=self.nodes).for_each(|node| self.step(Input::PeerUp(NodeId(node))));
        self.sent.clear();
    }

    /// Only written, not synced.
    pub(crate) fn write_all(&mut self) {
        let written = self.committed + self.pending.len() as u64;
        self.step(Input::Committed { written, synced: self.committed });
    }

    pub(crate) fn put(&mut self, ticket: u64, put: ClientPut) {
        self.step(Input::Client { ticket: Ticket(ticket), request: ClientRequest::Put(put) });
    }

    pub(crate) fn get(&mut self, ticket: u64) {
        let request = get_of(key());
        self.step(Input::Client { ticket: Ticket(ticket), request });
    }

    /// Another coordinator's write arrives.
    pub(crate) fn write_from(&mut self, from: NodeId, dot: Dot, read: Context) {
        self.write_at(Durability::Synced, from, dot, read);
    }

    pub(crate) fn write_at(&mut self, durability: Durability, from: NodeId, dot: Dot, read: Context) {
        let (header, seat, object) = (self.header(), Seat::default(), tombstone(dot, &read));
        let write = Write { header, key: key(), seat, durability, dot, object };
        self.step(Input::Message { from, id: 77, message: PeerMessage::Write(write) });
    }

    /// A read repair arrives, which nobody waits for.
    pub(crate) fn repair_from(&mut self, from: NodeId, dot: Dot) {
        let header = RequestHeader { class: Class::Background, ..self.header() };
        let (seat, object) = (Seat::default(), tombstone(dot, &Context::new()));
        let repair = Repair { header, key: key(), seat, object };
        self.step(Input::Message { from, id: 78, message: PeerMessage::Repair(repair) });
    }

    pub(crate) fn partition_of(&self, key: &Key) -> PartitionId {
        self.replica.layout().partition_of(KEYSPACE.hash(key.as_bytes()))
    }

    /// The layout that follows ours when a partition begins to move to these owners.
    pub(crate) fn moved(&self, partition: PartitionId, to: Vec<NodeId>) -> Layout {
        self.after(vec![(partition.prefix, Move::Begin(to))])
    }

    /// The same when it moves to its own owners in another order.
    pub(crate) fn turned(&self, partition: PartitionId) -> Layout {
        let mut to: Vec<NodeId> = self.replica.layout().owners(partition).collect();
        to.rotate_left(1);
        self.moved(partition, to)
    }

    pub(crate) fn after(&self, moves: Vec<(u32, Move)>) -> Layout {
        let layout = self.replica.layout();
        layout.after(&Step { moves, ..layout.step() }).expect("it follows")
    }

    pub(crate) fn tell_layout(&mut self, from: NodeId, layout: Layout) {
        let message = PeerMessage::NewLayout(Box::new(NewLayout { layout }));
        self.step(Input::Message { from, id: 0, message });
    }

    /// The header of another coordinator's request.
    pub(crate) fn header(&self) -> RequestHeader {
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

    pub(crate) fn partition(&self) -> PartitionId {
        self.partition_of(&key())
    }

    /// The writes that were sent since the last time, with whom and under which number.
    pub(crate) fn writes(&mut self) -> Vec<(NodeId, u64, Write)> {
        let sent = std::mem::take(&mut self.sent);
        let writes = sent.into_iter().filter_map(|(to, id, message)| match message {
            PeerMessage::Write(write) => Some((to, id, write)),
            _ => None,
        });
        writes.collect()
    }

    pub(crate) fn acknowledge(&mut self, from: NodeId, id: u64, status: Status) {
        let reply = WriteReply {
            header: header(status),
            seat: Seat::default(),
            covered: Vec::new(),
            object: Bytes::new(),
        };
        self.step(Input::Message { from, id, message: PeerMessage::WriteReply(reply) });
    }

    pub(crate) fn owners_of(&self, key: &Key) -> Vec<NodeId> {
        let layout = self.replica.layout();
        layout.owners(layout.partition_of(KEYSPACE.hash(key.as_bytes()))).collect()
    }

    /// A key that this node does not own.
    pub(crate) fn foreign_key(&self) -> Key {
        let mut keys =
            (0..).map(|number| Key::new("default", "b", format!("{number}")).expect("valid parts"));
        keys.find(|key| !self.owners_of(key).contains(&ME)).expect("a key of others")
    }

    /// The only answer that was given since the last time.
    pub(crate) fn answer(&mut self) -> Response {
        assert_eq!(self.replies.len(), 1, "{:?}", self.replies);
        self.replies.pop().expect("an answer").1
    }
}

/// A row that a store finds damaged.
pub(crate) const UNREADABLE: Bytes = Bytes::from_static(b"unreadable");

/// Leaves out rows that cannot be read; says which.
fn take_unreadable(rows: &mut Vec<(Place, Bytes)>) -> Vec<Place> {
    rows.extract_if(.., |(_, stored)| *stored == UNREADABLE).map(|(place, _)| place).collect()
}

fn tombstone(dot: Dot, read: &Context) -> Bytes {
    let sibling =
        Sibling { stamp: Stamp::at_millis(WALL / 1_000), write_id: 1, expires: None, content: None };
    Object::from_write(read, dot, sibling).encode().into()
}

pub(crate) fn header(status: Status) -> ReplyHeader {
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

/// What a reader asks that wants to know what became of versions.
pub(crate) fn ask(dots: Vec<Dot>) -> Option<Box<Asked>> {
    Some(Box::new(Asked { dots, session: Context::new() }))
}

pub(crate) fn key() -> Key {
    Key::new("default", "b", "k").expect("valid parts")
}

/// A read that one answer is enough for.
pub(crate) fn get_of(key: Key) -> ClientRequest {
    ClientRequest::Get {
        key,
        r: Threshold::One,
        pr: Threshold::Default,
        timeout: 1_000,
        sloppy: None,
        against: Bytes::new(),
        session: Vec::new(),
    }
}

pub(crate) fn client_put(value: &str) -> ClientPut {
    ClientPut {
        key: key(),
        context: Bytes::new(),
        content: Some(Content::from_body(value.as_bytes())),
        expiry: Expiry::AsBucket,
        touched: None,
        w: Threshold::Default,
        pw: Threshold::Default,
        dw: Threshold::Default,
        timeout: 1_000,
        return_body: false,
        sloppy: None,
        identity: None,
    }
}

pub(crate) fn greeting() -> Hello {
    Hello {
        versions: (2, 2),
        boot: 7,
        process: 7,
        wall: WALL,
        layout: (1, 1),
        properties: 0,
        keys: 0,
        bytes: 0,
        room: Room::Enough,
        lineage: vec![Start { id: 77, end: u64::MAX }],
        point: Point { start: 77, position: 5 },
        heard: None,
        answers: 0,
        losses: 0,
        answers_losses: 0,
        counts: true,
        uncounted: Vec::new(),
        keeps_for: Vec::new(),
    }
}

impl Bench {
    /// Another coordinator's write of a value arrives.
    pub(crate) fn value_from(&mut self, from: NodeId, dot: Dot) {
        let stamp = Stamp::at_millis(WALL / 1_000);
        let sibling = Sibling { stamp, write_id: 1, expires: None, content: Some(Content::from_body(b"v")) };
        let object = Object::from_write(&Context::new(), dot, sibling).encode().into();
        let (header, seat) = (self.header(), Seat::default());
        let write = Write { header, key: key(), seat, durability: Durability::Synced, dot, object };
        self.step(Input::Message { from, id: 77, message: PeerMessage::Write(write) });
    }

    pub(crate) fn scope(bucket: &str) -> Scope {
        Scope { bucket_type: "default".to_owned(), bucket: Some(Bytes::copy_from_slice(bucket.as_bytes())) }
    }

    /// A client changes a bucket's property.
    pub(crate) fn change(&mut self, ticket: u64, bucket: &str, max_siblings: u32) {
        let patch = PropertiesPatch { max_siblings: Some(max_siblings), ..PropertiesPatch::default() };
        let (scope, change) = (Self::scope(bucket), PropertiesChange::Set(patch));
        let request = ClientRequest::SetProperties { scope, change, timeout: 1_000 };
        self.step(Input::Client { ticket: Ticket(ticket), request });
    }

    pub(crate) fn max_siblings(&mut self, bucket: &str) -> u32 {
        self.replies.clear();
        self.step(Input::Client {
            ticket: Ticket(90),
            request: ClientRequest::Properties(Self::scope(bucket)),
        });
        let Response::Properties(Ok(properties)) = self.answer() else { panic!("no properties") };
        properties.max_siblings
    }

    /// The records that were sent to `node`, and forgotten.
    pub(crate) fn records_to(&mut self, node: NodeId) -> Vec<(u64, PeerMessage)> {
        let sent = std::mem::take(&mut self.sent);
        let records =
            sent.into_iter().filter(|(to, _, message)| *to == node && message.name() == "Properties");
        records.map(|(_, id, message)| (id, message)).collect()
    }
}
