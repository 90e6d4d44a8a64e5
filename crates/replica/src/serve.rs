//! What other coordinators ask of this node as a replica.

use bytes::Bytes;
use gramme_object::{Key, Object};
use gramme_ring::{NodeId, PartitionId};
use gramme_wire::PeerMessage;
use gramme_wire::peer::{
    Class, Durability, Hint, HintReply, Keys, KeysReply, Point, Read, ReadReply, Repair, ReplyHeader,
    RequestHeader, Status, Write, WriteReply,
};

use crate::coordinator::{Around, PAGE_ROWS, failure, wanted};
use crate::cx::Cx;
use crate::io::{LoadFailed, Page};
use crate::node::{BucketDurability, Epoch, Node};
use crate::place::{Place, Space};
use crate::shard::{Brought, Covered, Level, Reader, Scanner, Shard, Uncounted, View, Writer};

/// How long a reply is worth sending, in microseconds.
const REPLY_TTL: u64 = 5_000_000;

impl Around<'_> {
    pub(crate) fn on_read(&mut self, from: NodeId, id: u64, read: Read) {
        let Read { header, key, withhold, asked } = read;
        let place = self.node.map.place(key);
        let admitted =
            self.admit(from, &header, &place).and_then(|()| match self.shard.is_crowded(self.cx) {
                true => Err(Status::Busy),
                false => Ok(()),
            });
        match admitted {
            Ok(()) => {
                self.cx.stats.replica_reads += 1;
                self.read(&place, Reader::Peer { to: from, id, withhold, asked });
            }
            Err(status) => self.send_read_reply(from, id, &place, (status, None)),
        }
    }

    /// Reads what this node has of a key, as an owner or as a fallback.
    pub(crate) fn read(&mut self, place: &Place, reader: Reader) {
        let Self { cx, shard, .. } = self;
        match shard.owns(place.partition) {
            true => shard.read(cx, place, reader),
            false => shard.read_hints(cx, place, reader),
        }
    }

    pub(crate) fn on_write(&mut self, from: NodeId, id: u64, write: Write) {
        let place = self.node.map.place(write.key.clone());
        let writer =
            Writer::Peer { to: from, id, partition: place.partition, seat: write.seat, dot: Some(write.dot) };
        match self.admit_write(from, &place, &write) {
            Ok((place, object, level)) => {
                self.cx.stats.replica_writes += u64::from(place.space == Space::Data);
                let brought = Brought { object, stored: write.object };
                self.shard.merge(self.cx, &place, brought, writer, (level, Class::Foreground));
            }
            Err(status) => self.answer_write(writer, status, Covered::default()),
        }
    }

    /// Another node brings what it has kept for this one. Others count on it, so what is told is that it is synced.
    pub(crate) fn on_hint(&mut self, from: NodeId, id: u64, hint: Hint) {
        let Hint { header, key, object: stored } = hint;
        let place = self.node.map.place(key);
        let writer = Writer::Hint { to: from, id, partition: place.partition };
        match self.admit_state(from, &header, &place, &stored) {
            Ok(object) => {
                self.cx.stats.hints_received += 1;
                let brought = Brought { object, stored };
                self.shard.merge(self.cx, &place, brought, writer, (Level::Synced, Class::Background));
            }
            Err(status) => self.answer_write(writer, status, Covered::default()),
        }
    }

    /// The state that a repair or a hint brings, if this node may take it.
    fn admit_state(
        &mut self,
        from: NodeId,
        header: &RequestHeader,
        place: &Place,
        stored: &Bytes,
    ) -> Result<Object, Status> {
        self.admit(from, header, place)?;
        if !self.shard.owns(place.partition) {
            return Err(Status::NotOwner);
        }
        let object = Object::decode(stored).map_err(|_| Status::Refused)?;
        self.admit_bytes(object.has_value(), Class::Background)?;
        Ok(object)
    }

    pub(crate) fn on_repair(&mut self, from: NodeId, id: u64, repair: Repair) {
        let Repair { header, key, seat, object: stored } = repair;
        let place = self.node.map.place(key);
        let writer = Writer::Peer { to: from, id, partition: place.partition, seat, dot: None };
        match self.admit_state(from, &header, &place, &stored) {
            Ok(object) => {
                let level = repair_level(self.node, &place.key);
                let brought = Brought { object, stored };
                self.shard.merge(self.cx, &place, brought, writer, (level, Class::Background));
            }
            Err(status) => self.answer_write(writer, status, Covered::default()),
        }
    }

    pub(crate) fn on_keys(&mut self, from: NodeId, id: u64, keys: Keys) {
        let Keys { header, bucket_type, bucket, after } = keys;
        let partition = header.partition;
        let after = after.map(|key| self.node.map.place(key));
        let is_known = self.shard.owns(partition) && after.iter().all(|after| after.partition == partition);
        if !is_known {
            return self.send_keys(from, id, partition, (Status::NotOwner, Vec::new(), None));
        }
        if self.shard.is_crowded(self.cx) {
            return self.send_keys(from, id, partition, (Status::Busy, Vec::new(), None));
        }
        let scanner = Scanner::Peer { to: from, id, partition, bucket_type, bucket };
        self.shard.scan(self.cx, partition, after, PAGE_ROWS, scanner);
    }

    /// Whether this node may act on a request at all. A later epoch than ours is adopted.
    fn admit(&mut self, from: NodeId, header: &RequestHeader, place: &Place) -> Result<(), Status> {
        if header.partition != place.partition {
            return Err(Status::NotOwner);
        }
        self.admit_partition(from, header)
    }

    /// The same for a request that is about no single key.
    pub(crate) fn admit_partition(&mut self, from: NodeId, header: &RequestHeader) -> Result<(), Status> {
        self.node.lineage.hear_point(from, &header.point);
        let partition = header.partition;
        // Compared as numbers: an older coordinator must not act on what this replica has left behind. A fallback obeys too.
        let (ours, theirs) = (self.node.map.epoch(partition), epoch_of(header));
        if theirs < ours {
            self.node.send_layout(self.cx, from);
            return Err(Status::Stale);
        }
        if theirs > ours {
            // What somebody waits for does not come to here before the layout does.
            self.node.ask_layout(self.cx, from);
            return Err(Status::Busy);
        }
        if self.node.map.layout().is_holder(partition, self.cx.me()) && !self.shard.owns(partition) {
            // What it had of it before is still being dropped.
            return Err(Status::Busy);
        }
        Ok(())
    }

    /// Whether the disk can take more.
    fn admit_bytes(&mut self, has_value: bool, class: Class) -> Result<(), Status> {
        if !self.shard.has_room_for(has_value) {
            return Err(Status::WriteStopped);
        }
        if self.shard.is_full(self.cx, class) || self.shard.is_crowded(self.cx) {
            self.cx.stats.replica_busy += 1;
            return Err(Status::Busy);
        }
        Ok(())
    }

    /// Where a write goes, the state that it brings, and how durable it must be to be acknowledged.
    fn admit_write(
        &mut self,
        from: NodeId,
        place: &Place,
        write: &Write,
    ) -> Result<(Place, Object, Level), Status> {
        self.admit(from, &write.header, place)?;
        let place = match self.shard.owns(place.partition) {
            true => place.clone(),
            false => self.node.map.hint_place(place, write.seat).ok_or(Status::NotOwner)?,
        };
        self.admit_hint(&place, write.object.len() as u64)?;
        let brought = Object::decode(&write.object).map_err(|_| Status::Refused)?;
        let mut siblings = brought.siblings().iter();
        let Some((_, sibling)) = siblings.find(|(dot, _)| *dot == write.dot) else {
            return Err(Status::Refused);
        };
        self.admit_bytes(!sibling.is_tombstone(), Class::Foreground)?;
        let millis = self.node.clock.millis(self.cx.now);
        if sibling.stamp.is_runaway(millis) {
            return Err(Status::Refused);
        }
        self.cx.observe(sibling.stamp, millis);
        let level = match write.durability {
            Durability::Synced => Level::Synced,
            Durability::Buffered => Level::Written,
        };
        Ok((place, brought, level))
    }

    /// Whether so many more bytes may be kept for another node, if it is for another.
    pub(crate) fn admit_hint(&mut self, place: &Place, bytes: u64) -> Result<(), Status> {
        let Space::Hints(target) = place.space else { return Ok(()) };
        let kept = self.shard.backlogs().get(&target).map_or(0, |backlog| backlog.bytes);
        if kept + bytes > self.cx.config.bounds.hints {
            self.cx.stats.hints_refused += 1;
            return Err(Status::HintsFull);
        }
        Ok(())
    }

    /// Answers another coordinator's read.
    pub(crate) fn answer_read(
        &mut self,
        (to, id, withhold): (NodeId, u64, u32),
        place: &Place,
        result: Result<View, LoadFailed>,
    ) {
        let Ok(mut view) = result else {
            return self.send_read_reply(to, id, place, (Status::DiskError, None));
        };
        if withhold > 0 {
            self.cx.stats.values_withheld += view.withhold(withhold as usize);
        }
        let status = counted(self.shard, place.partition, Status::DoneSynced);
        self.send_read_reply(to, id, place, (status, Some(view)));
    }

    fn send_read_reply(
        &mut self,
        to: NodeId,
        id: u64,
        place: &Place,
        (status, view): (Status, Option<View>),
    ) {
        let header = reply_header(self.node, self.shard, place.partition, status);
        let (object, told) = view.map_or_else(Default::default, |view| (view.stored, view.told));
        let message = PeerMessage::ReadReply(ReadReply { header, object, told });
        self.cx.send(to, id, REPLY_TTL, message);
    }

    /// Answers another coordinator's write or repair.
    pub(crate) fn answer_write(&mut self, writer: Writer, status: Status, covered: Covered) {
        let (to, id, partition, seat, is_repair) = match writer {
            Writer::Peer { to, id, partition, seat, dot } => (to, id, partition, seat, dot.is_none()),
            Writer::Hint { to, id, partition } => {
                let header = reply_header(self.node, self.shard, partition, status);
                return self.cx.send(to, id, REPLY_TTL, PeerMessage::HintReply(HintReply { header }));
            }
            Writer::Roots { to, id, reply } => return self.answer_roots((to, id), *reply),
            Writer::Close { to, id, partition } => {
                return self.answer_close((to, id), partition, (status, Vec::new()));
            }
            Writer::Put(_)
            | Writer::Exchange(..)
            | Writer::Properties(..)
            | Writer::Layout(_)
            | Writer::Vote
            | Writer::Progress { .. }
            | Writer::TakeOver { .. }
            | Writer::Own(_)
            | Writer::Nobody => return,
        };
        // What counts for nothing says so, however well it went.
        let status = if failure(status).is_none() { counted(self.shard, partition, status) } else { status };
        let header = reply_header(self.node, self.shard, partition, status);
        let Covered { dots: covered, object } = covered;
        // A put's coordinator ends nothing by it.
        let object = if is_repair { object } else { Bytes::new() };
        let reply = WriteReply { header, seat, covered, object };
        self.cx.send(to, id, REPLY_TTL, PeerMessage::WriteReply(reply));
    }

    /// Answers another coordinator's question for keys.
    pub(crate) fn answer_keys(
        &mut self,
        (to, id, partition): (NodeId, u64, PartitionId),
        (bucket_type, bucket): (&str, Option<&Bytes>),
        result: Result<Page, LoadFailed>,
    ) {
        let answer = match result {
            // It may be dropped already.
            Ok(_) if !self.shard.owns(partition) => (Status::NotOwner, Vec::new(), None),
            Ok(page) => {
                let keys = wanted(self.node, self.cx.now, &page, bucket_type, bucket);
                let next = page.next.map(|place| place.key);
                (counted(self.shard, partition, Status::DoneSynced), keys, next)
            }
            Err(LoadFailed) => (Status::DiskError, Vec::new(), None),
        };
        self.send_keys(to, id, partition, answer);
    }

    fn send_keys(
        &mut self,
        to: NodeId,
        id: u64,
        partition: PartitionId,
        (status, keys, next): (Status, Vec<Key>, Option<Key>),
    ) {
        let header = reply_header(self.node, self.shard, partition, status);
        self.cx.send(to, id, REPLY_TTL, PeerMessage::KeysReply(KeysReply { header, keys, next }));
    }
}

/// The epoch that a request is of.
pub(crate) const fn epoch_of(header: &RequestHeader) -> Epoch {
    Epoch { generation: header.generation, number: header.epoch }
}

/// What a replica says of something that it did, if its copy counts for something.
fn counted(shard: &Shard, partition: PartitionId, done: Status) -> Status {
    match shard.counts(partition) {
        Ok(()) => done,
        Err(Uncounted::Amnesiac) => Status::Amnesiac,
        Err(Uncounted::Unproven) => Status::Unproven,
    }
}

/// How durable a repaired state must be before it may be shown: as its bucket asks of a write.
pub(crate) fn repair_level(node: &Node, key: &Key) -> Level {
    match node.properties(key).map(|properties| properties.durability) {
        Some(BucketDurability::Buffered | BucketDurability::OneOfN) => Level::Written,
        Some(BucketDurability::Fsync) | None => Level::Synced,
    }
}

/// The header of a request that this node sends.
pub(crate) fn request_header(
    cx: &Cx,
    node: &Node,
    partition: PartitionId,
    request: u64,
    class: Class,
) -> RequestHeader {
    let epoch = node.map.epoch(partition);
    RequestHeader {
        generation: epoch.generation,
        epoch: epoch.number,
        partition,
        properties: node.buckets.digest(),
        point: node.lineage.point(),
        class,
        origin: cx.me().0,
        boot: cx.boot,
        request,
    }
}

pub(crate) fn reply_header(
    node: &Node,
    shard: &Shard,
    partition: PartitionId,
    status: Status,
) -> ReplyHeader {
    let (tenure, life, known) = shard.tenures(partition);
    let epoch = node.map.epoch(partition);
    ReplyHeader {
        status,
        generation: epoch.generation,
        epoch: epoch.number,
        tenure,
        life,
        known,
        point: node.lineage.point(),
        ..bare_header(status)
    }
}

/// The header of a reply that says nothing of the partition.
pub(crate) fn bare_header(status: Status) -> ReplyHeader {
    ReplyHeader {
        status,
        generation: 0,
        epoch: 0,
        tenure: gramme_quorum::Tenure::default(),
        life: 0,
        seen: 0,
        known: Vec::new(),
        floors: Bytes::new(),
        point: Point { start: 0, position: 0 },
    }
}
