//! The overlay: objects that are being loaded, or are staged and not yet durable. The one place that merges.
//!
//! The problem: a write must merge with what is stored, and what is stored changes in batches that take a
//! moment to become durable. Merging with the disk's state would lose the batch under way; showing the
//! batch's state would show what a crash can take back.
//!
//! The idea: a slot per key with work on it. The first operation loads the object; while it loads, others
//! queue. Then each runs on the slot's object, which is the newest staged state; a write stages a batch and
//! is told when that is durable; a read takes the state as it is and is answered when the last batch in it is
//! durable. When nothing is under way the slot goes.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use gramme_merkle::Digest;
use gramme_object::{Key, Object, clock_bytes};
use gramme_ring::NodeId;
use gramme_vclock::Dot;
use gramme_wire::peer::Status;

use crate::Replica;
use crate::commits::Level;
use crate::io::{Change, Effect, LoadFailed};

#[derive(Debug, Default)]
pub(crate) struct Keys {
    slots: BTreeMap<Key, Slot>,
    loads: BTreeMap<u64, Key>,
    next_load: u64,
}

#[derive(Debug)]
enum Slot {
    Loading(Vec<Operation>),
    Ready(Ready),
}

/// A key's newest state.
#[derive(Clone, Debug)]
pub(crate) struct Ready {
    pub(crate) object: Arc<Object>,
    /// The stored form of `object`; empty if nothing is stored.
    pub(crate) stored: Bytes,
    /// The last batch that changed it, and how durable it must be before the state may be shown.
    staged: Option<(u64, Level)>,
}

/// Something to do with a key's object.
#[derive(Debug)]
pub(crate) enum Operation {
    /// Tell the reader what is there.
    Read(Reader),
    /// Merge another state, and tell the writer when it is durable to the level.
    Merge { delta: Object, writer: Writer, level: Level },
    /// Mint a version for a put that this node coordinates.
    Coordinate(u64),
}

/// Who reads.
#[derive(Clone, Debug)]
pub(crate) enum Reader {
    /// A get that this node coordinates.
    Get(u64),
    /// Another coordinator.
    Peer { to: NodeId, id: u64, key: Key, asked: Vec<Dot> },
}

/// Who writes.
#[derive(Clone, Debug)]
pub(crate) enum Writer {
    /// A put that this node coordinates.
    Put(u64),
    /// Another coordinator.
    Peer { to: NodeId, id: u64, key: Key, slot: u8 },
    /// Read repair by this node: nobody waits.
    Nobody,
}

/// Who waits for a batch to be durable.
#[derive(Debug)]
pub(crate) enum Waiter {
    Read(Reader, Ready),
    Write(Writer, Status),
    /// The slot may go if nothing has been staged since.
    Slot(Key, u64),
    /// The new properties are stored.
    Properties(crate::change_properties::PropertiesStored),
}

impl Replica {
    /// Does something with a key's object, now or once it is loaded.
    pub(crate) fn with_key(&mut self, key: &Key, operation: Operation) {
        match self.keys.slots.get_mut(key) {
            Some(Slot::Ready(_)) => self.run(key, operation),
            Some(Slot::Loading(waiting)) => waiting.push(operation),
            None => {
                self.keys.slots.insert(key.clone(), Slot::Loading(vec![operation]));
                self.keys.next_load += 1;
                let load = self.keys.next_load;
                self.keys.loads.insert(load, key.clone());
                let (hash, _) = self.place(key);
                self.out.push(Effect::Load { load, hash, key: key.clone() });
            }
        }
    }

    pub(crate) fn on_loaded(&mut self, load: u64, result: Result<Option<Bytes>, LoadFailed>) {
        let Some(key) = self.keys.loads.remove(&load) else { return };
        let Some(Slot::Loading(waiting)) = self.keys.slots.remove(&key) else { return };
        #[cfg(gramme_planted)]
        let result = match result {
            Err(_) if gramme_vclock::planted::is(gramme_vclock::planted::Plant::ReadErrorIsAbsent) => {
                Ok(None)
            }
            result => result,
        };
        let stored = result.and_then(|stored| {
            let stored = stored.unwrap_or_default();
            let object = if stored.is_empty() { Ok(Object::new()) } else { Object::decode(&stored) };
            object.map(|object| (object, stored)).map_err(|_| LoadFailed)
        });
        match stored {
            Ok((object, stored)) => {
                let ready = Ready { object: Arc::new(object), stored, staged: None };
                self.keys.slots.insert(key.clone(), Slot::Ready(ready));
                waiting.into_iter().for_each(|operation| self.run(&key, operation));
                self.drop_idle(&key, 0);
            }
            Err(LoadFailed) => {
                self.stats.load_failures += 1;
                waiting.into_iter().for_each(|operation| self.fail(operation));
            }
        }
    }

    fn run(&mut self, key: &Key, operation: Operation) {
        match operation {
            Operation::Read(reader) => self.read(key, reader),
            Operation::Merge { delta, writer, level } => self.merge(key, delta, writer, level),
            Operation::Coordinate(put) => self.coordinate(put),
        }
    }

    /// The disk failed: nobody is told that there is nothing.
    fn fail(&mut self, operation: Operation) {
        match operation {
            Operation::Read(reader) => self.on_read_failed(reader),
            Operation::Merge { writer, .. } => self.on_write_done(writer, Status::DiskError),
            Operation::Coordinate(put) => self.on_coordinate_failed(put),
        }
    }

    fn read(&mut self, key: &Key, reader: Reader) {
        let Some(ready) = self.ready(key) else { return };
        #[cfg(gramme_planted)]
        if gramme_vclock::planted::is(gramme_vclock::planted::Plant::ShowStaged) {
            return self.on_read_done(reader, &ready);
        }
        match ready.staged.filter(|&(sequence, level)| !self.commits.is_durable(sequence, level)) {
            Some((sequence, level)) => self.commits.wait(sequence, level, Waiter::Read(reader, ready)),
            None => self.on_read_done(reader, &ready),
        }
    }

    /// The newest state of a key that is loaded.
    pub(crate) fn ready(&self, key: &Key) -> Option<Ready> {
        match self.keys.slots.get(key) {
            Some(Slot::Ready(ready)) => Some(ready.clone()),
            _ => None,
        }
    }

    /// Merges `delta` into a loaded key, stages the result, and has `writer` told when it is durable.
    pub(crate) fn merge(&mut self, key: &Key, mut delta: Object, writer: Writer, level: Level) {
        let Some(ready) = self.ready(key) else { return };
        let (_, partition) = self.place(key);
        let Some(owned) = self.partitions.get_mut(&partition.prefix) else {
            return self.on_write_done(writer, Status::NotOwner);
        };
        let before = delta.versions().len();
        // A version that was seen here and is not here any more was replaced: it is refused from any source.
        delta.versions_mut().retain(|dot, _| {
            let gone = owned.seen.contains(dot) || ready.object.context().covers(dot);
            !gone || ready.object.versions().is_live(dot)
        });
        let refused = before - delta.versions().len();
        self.stats.versions_refused += refused as u64;
        let news = owned.see(&delta);
        let mut merged = (*ready.object).clone();
        merged.merge(&delta);
        let covered = before > 0 && refused == before;
        if merged == *ready.object && news.is_empty() {
            let status = if covered { Status::Covered } else { done(level) };
            let sequence = match ready.staged {
                Some((sequence, staged)) if staged >= level => sequence,
                _ => self.barrier(level),
            };
            return self.write_when_durable(sequence, level, writer, status);
        }
        let sequence = self.stage(key, &ready, merged, news, level);
        let status = if covered { Status::Covered } else { done(level) };
        self.write_when_durable(sequence, level, writer, status);
    }

    fn write_when_durable(&mut self, sequence: u64, level: Level, writer: Writer, status: Status) {
        #[cfg(gramme_planted)]
        if gramme_vclock::planted::is(gramme_vclock::planted::Plant::AckBeforeDurable) {
            return self.on_write_done(writer, status);
        }
        if self.commits.is_durable(sequence, level) {
            self.on_write_done(writer, status);
        } else {
            self.commits.wait(sequence, level, Waiter::Write(writer, status));
        }
    }

    /// Commits a key's new object with its leaf and its partition's note, as one batch.
    fn stage(&mut self, key: &Key, old: &Ready, object: Object, news: Vec<Dot>, level: Level) -> u64 {
        let (hash, partition) = self.place(key);
        let stored = Bytes::from(object.encode());
        let digest = |object: &Object| Digest::of(key.as_bytes(), &clock_bytes(object));
        let new_digest = digest(&object);
        let old_digest = (!old.stored.is_empty()).then(|| digest(&old.object));
        let number = self.tree.replace(hash.0, old_digest, Some(new_digest));
        let leaf = self.tree.leaf(number);
        let mut changes = vec![
            Change::Object { hash, key: key.clone(), digest: new_digest, object: stored.clone() },
            Change::Leaf { number, leaf },
        ];
        let prefix = partition.prefix;
        if let Some(owned) = self.partitions.get_mut(&prefix) {
            owned.total.replace(old_digest, Some(new_digest));
            owned.bytes = owned.bytes + stored.len() as u64 - old.stored.len() as u64;
            let total = owned.total;
            changes.push(match owned.next_entry(news) {
                (true, record) => Change::Partition { prefix, total, record },
                (false, note) => Change::Note { prefix, total, note },
            });
        }
        self.stats.keys += u64::from(old_digest.is_none());
        self.stats.bytes = self.stats.bytes + stored.len() as u64 - old.stored.len() as u64;
        // What is shown must be as durable as the most careful of the batches in it.
        let show = old.staged.map_or(level, |(_, staged)| staged.max(level));
        let sequence = self.commit(changes, show);
        self.lives.staged(sequence);
        let ready = Ready { object: Arc::new(object), stored, staged: Some((sequence, show)) };
        self.keys.slots.insert(key.clone(), Slot::Ready(ready));
        self.commits.wait(sequence, show, Waiter::Slot(key.clone(), sequence));
        sequence
    }

    pub(crate) fn on_durable(&mut self, waiter: Waiter) {
        match waiter {
            Waiter::Read(reader, ready) => self.on_read_done(reader, &ready),
            Waiter::Write(writer, status) => self.on_write_done(writer, status),
            Waiter::Slot(key, sequence) => self.drop_idle(&key, sequence),
            Waiter::Properties(stored) => self.on_properties_stored(stored),
        }
    }

    /// Forgets a key with nothing staged after `sequence`.
    fn drop_idle(&mut self, key: &Key, sequence: u64) {
        if let Some(Slot::Ready(ready)) = self.keys.slots.get(key)
            && ready.staged.is_none_or(|(staged, _)| staged <= sequence)
        {
            self.keys.slots.remove(key);
        }
    }

    fn on_read_done(&mut self, reader: Reader, ready: &Ready) {
        match reader {
            Reader::Get(get) => self.on_own_read(get, Ok((*ready.object).clone())),
            Reader::Peer { to, id, key, asked } => self.answer_read(to, id, &key, &asked, Some(ready)),
        }
    }

    fn on_read_failed(&mut self, reader: Reader) {
        match reader {
            Reader::Get(get) => self.on_own_read(get, Err(LoadFailed)),
            Reader::Peer { to, id, key, asked } => self.answer_read(to, id, &key, &asked, None),
        }
    }

    fn on_write_done(&mut self, writer: Writer, status: Status) {
        match writer {
            Writer::Put(put) => self.on_own_write(put, status),
            Writer::Peer { to, id, key, slot } => self.answer_write(to, id, &key, slot, status),
            Writer::Nobody => {}
        }
    }
}

const fn done(level: Level) -> Status {
    match level {
        Level::Written => Status::DoneBuffered,
        Level::Synced => Status::DoneSynced,
    }
}
