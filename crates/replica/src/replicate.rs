//! What other coordinators ask of this node as a replica.

use bytes::Bytes;
use gramme_object::{Key, Object, Stamp};
use gramme_quorum::{Failure, Tenure};
use gramme_ring::{NodeId, PartitionId};
use gramme_vclock::Dot;
use gramme_wire::PeerMessage;
use gramme_wire::peer::{
    Durability, Read, ReadReply, Repair, ReplyHeader, RequestHeader, Status, Write, WriteReply,
};

use crate::Replica;
use crate::commits::Level;
use crate::keys::{Operation, Reader, Ready, Writer};
use crate::properties::BucketDurability;

/// How long a reply is worth sending, in microseconds.
const REPLY_TTL: u64 = 5_000_000;

impl Replica {
    pub(crate) fn on_read(&mut self, from: NodeId, id: u64, read: Read) {
        let Read { header, key, asked } = read;
        if let Err(status) = self.admit(&header, &key) {
            return self.send_read_reply(from, id, &key, status, Bytes::new(), Vec::new());
        }
        self.stats.replica_reads += 1;
        let reader = Reader::Peer { to: from, id, key: key.clone(), asked };
        self.with_key(&key, Operation::Read(reader));
    }

    pub(crate) fn on_write(&mut self, from: NodeId, id: u64, write: Write) {
        let slot = write.slot;
        let key = write.key.clone();
        match self.admit_write(&write) {
            Ok((delta, level)) => {
                self.stats.replica_writes += 1;
                let writer = Writer::Peer { to: from, id, key: key.clone(), slot };
                self.with_key(&key, Operation::Merge { delta, writer, level });
            }
            Err(status) => self.answer_write(from, id, &key, slot, status),
        }
    }

    pub(crate) fn on_repair(&mut self, from: NodeId, id: u64, repair: Repair) {
        let Repair { header, key, slot, object } = repair;
        let admitted = self.admit(&header, &key).and_then(|()| {
            if !self.writable {
                return Err(Status::WriteStopped);
            }
            Object::decode(&object).map_err(|_| Status::Refused)
        });
        match admitted {
            Ok(delta) => {
                let writer = Writer::Peer { to: from, id, key: key.clone(), slot };
                let level = self.repair_level(&key);
                self.with_key(&key, Operation::Merge { delta, writer, level });
            }
            Err(status) => self.answer_write(from, id, &key, slot, status),
        }
    }

    /// Whether this node may act on a request at all.
    fn admit(&self, header: &RequestHeader, key: &Key) -> Result<(), Status> {
        let (_, partition) = self.place(key);
        let Some(owned) = self.partitions.get(&partition.prefix) else { return Err(Status::NotOwner) };
        if header.partition != partition {
            return Err(Status::NotOwner);
        }
        // Compared as numbers: an older coordinator must not act on what this replica has left behind.
        if (header.generation, header.epoch) < (owned.generation, owned.epoch) {
            return Err(Status::Stale);
        }
        Ok(())
    }

    /// The state that a write brings, and how durable it must be to be acknowledged.
    fn admit_write(&mut self, write: &Write) -> Result<(Object, Level), Status> {
        self.admit(&write.header, &write.key)?;
        if !self.writable {
            return Err(Status::WriteStopped);
        }
        let brought = Object::decode(&write.object).map_err(|_| Status::Refused)?;
        let siblings = brought.siblings();
        let own = siblings.iter().find(|(dot, _)| *dot == write.dot);
        let Some((dot, sibling)) = own.filter(|_| write.whole || siblings.len() == 1) else {
            return Err(Status::Refused);
        };
        if sibling.stamp.is_runaway(self.now.wall / 1_000) {
            return Err(Status::Refused);
        }
        self.observe(sibling.stamp);
        let mut delta = Object::from_write(&write.read, *dot, sibling.clone());
        if write.whole {
            delta.merge(&brought);
        }
        let level = match write.durability {
            Durability::Synced => Level::Synced,
            Durability::Buffered => Level::Written,
        };
        Ok((delta, level))
    }

    /// Keeps our stamps ahead of all that we have seen and can believe. A runaway stamp is stored like any
    /// other (it came by repair), but must not carry our own away.
    pub(crate) fn observe(&mut self, stamp: Stamp) {
        if !stamp.is_ahead(self.now.wall / 1_000) {
            self.stamp = self.stamp.max(stamp);
        }
    }

    /// How durable a repaired state must be before it may be shown: as its bucket asks of a write.
    pub(crate) fn repair_level(&self, key: &Key) -> Level {
        let properties = self.table.get(key.bucket_type(), key.bucket());
        match properties.map(|properties| properties.durability) {
            Some(BucketDurability::Buffered | BucketDurability::OneOfN) => Level::Written,
            Some(BucketDurability::Fsync) | None => Level::Synced,
        }
    }

    pub(crate) fn answer_read(
        &mut self,
        to: NodeId,
        id: u64,
        key: &Key,
        asked: &[Dot],
        ready: Option<&Ready>,
    ) {
        let status = match ready {
            Some(_) if self.is_amnesiac(key) => Status::Amnesiac,
            Some(_) => Status::DoneSynced,
            None => Status::DiskError,
        };
        let (_, partition) = self.place(key);
        let seen = self.partitions.get(&partition.prefix).map(|owned| &owned.seen);
        let is_covered = |dot: &&Dot| match (ready, seen) {
            (Some(ready), Some(seen)) => {
                let object = ready.object.versions();
                !object.is_live(**dot) && (seen.contains(**dot) || object.context().covers(**dot))
            }
            _ => false,
        };
        let covered = asked.iter().filter(is_covered).copied().collect();
        let object = ready.map(|ready| ready.stored.clone()).unwrap_or_default();
        self.send_read_reply(to, id, key, status, object, covered);
    }

    fn send_read_reply(
        &mut self,
        to: NodeId,
        id: u64,
        key: &Key,
        status: Status,
        object: Bytes,
        covered: Vec<Dot>,
    ) {
        let (header, slot) = (self.reply_header(key, status), self.own_slot(key));
        let position = self.lives.position();
        let message = ReadReply { header, slot, position, object, covered };
        self.send(to, id, REPLY_TTL, PeerMessage::ReadReply(message));
    }

    /// The slot that this node holds in a key's partition; 255 if none.
    fn own_slot(&self, key: &Key) -> u8 {
        let (_, partition) = self.place(key);
        self.config.layout.slot_of(partition, self.config.node).unwrap_or(u8::MAX)
    }

    pub(crate) fn answer_write(&mut self, to: NodeId, id: u64, key: &Key, slot: u8, status: Status) {
        // What counts for nothing says so, however well it went.
        let is_done = failure(status).is_none();
        let status = if is_done && self.is_amnesiac(key) { Status::Amnesiac } else { status };
        let position = self.lives.position();
        let message = WriteReply { header: self.reply_header(key, status), slot, position };
        self.send(to, id, REPLY_TTL, PeerMessage::WriteReply(message));
    }

    pub(crate) fn reply_header(&self, key: &Key, status: Status) -> ReplyHeader {
        let (_, partition) = self.place(key);
        let owned = self.partitions.get(&partition.prefix);
        ReplyHeader {
            status,
            generation: owned.map_or(0, |owned| owned.generation),
            epoch: owned.map_or(0, |owned| owned.epoch),
            tenure: owned.map_or_else(Tenure::default, super::partition::Partition::tenure),
            life: owned.map_or(0, |owned| owned.life),
            seen: 0,
            known: owned.map_or_else(Vec::new, super::partition::Partition::known),
            floors: Bytes::new(),
        }
    }

    /// The header of a request that this node sends.
    pub(crate) fn request_header(&self, partition: PartitionId, request: u64) -> RequestHeader {
        let owned = self.partitions.get(&partition.prefix);
        RequestHeader {
            generation: owned.map_or(1, |owned| owned.generation),
            epoch: owned.map_or(1, |owned| owned.epoch),
            partition,
            properties: self.table.version().0,
            origin: self.config.node.0,
            boot: self.boot,
            request,
        }
    }

    /// Remembers what a reply says of its sender.
    pub(crate) fn learn_from_reply(
        &mut self,
        from: NodeId,
        partition: PartitionId,
        header: &ReplyHeader,
        position: u64,
    ) {
        self.lives.hear_position(from, position);
        if let Some(owned) = self.partitions.get_mut(&partition.prefix) {
            owned.learn(from, header.tenure);
        }
    }
}

/// What a status means to the request that it answers, if it means failure.
pub(crate) const fn failure(status: Status) -> Option<Failure> {
    Some(match status {
        Status::DoneSynced | Status::DoneBuffered | Status::Covered => return None,
        Status::Closed | Status::Refused => Failure::Refused,
        Status::Busy => Failure::Busy,
        Status::Amnesiac => Failure::Amnesiac,
        Status::WriteStopped => Failure::WriteStopped,
        Status::Stale => Failure::Stale,
        Status::NotOwner => Failure::NotOwner,
        Status::DiskError => Failure::Disk,
    })
}
