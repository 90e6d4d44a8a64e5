//! The one part that changes what is stored: partitions and what they have seen, objects with what is staged,
//! batches on their way to the disk.
//!
//! All writes take one path (`merge.rs`), and build on the newest staged state. A read of a key that has a batch
//! under way waits for that batch, so nothing is ever shown that a crash could take back.
//!
//! The shard calls nobody. What it has done for whom it says in [`Done`] values, which `replica.rs` hands to
//! whoever asked. It holds nothing that there is one of per node, so that a second shard is a second value.

mod closed;
mod commits;
mod counting;
mod expiring;
mod forget;
mod hints;
mod holding;
mod merge;
mod overlay;
mod partition;
mod reclaim;
mod record;
mod work;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use gramme_merkle::{Digest, Leaf};
use gramme_object::{Key, Object, clock_bytes};
use gramme_plant::planted;
use gramme_quorum::Tenure;
use gramme_ring::{NodeId, PartitionId};
use gramme_vclock::Dot;
use gramme_wire::peer::{Class, Room, Status, Sum, Told};

pub(crate) use closed::{Closed, recovered as recovered_closed};
pub(crate) use commits::Level;
pub(crate) use expiring::STEP as EXPIRY_STEP;
pub use hints::Backlog;
pub(crate) use hints::recovered as recovered_hints;
pub(crate) use holding::has_lost;
pub(crate) use overlay::Ready;
pub(crate) use partition::{Fresh, Partition, Uncounted, sum_of};
pub(crate) use record::Role;
pub(crate) use work::{Brought, Covered, Done, Lost, RangeScan, Reader, Scanner, View, Writer};

use crate::cx::Cx;
use crate::io::{Change, Effect, LoadFailed, Page, Rows};
use crate::place::{Place, Space};
use commits::Commits;
use expiring::Expiring;
use hints::Hints;
use overlay::Overlay;
use reclaim::Reclaim;
use work::{Operation, Waiter};

/// See the module.
#[derive(Debug)]
pub(crate) struct Shard {
    /// Those that this node owns, and those that it owned and still has.
    partitions: BTreeMap<PartitionId, Partition>,
    /// Whether this directory has ever lost data: what is not there may have been.
    has_lost: bool,
    /// When the last tenure began that was begun with a layout.
    born: u64,
    /// Why some partition counts for nothing, if one does.
    uncounted: Option<Uncounted>,
    hints: Hints,
    reclaim: Reclaim,
    expiring: Expiring,
    closed: Closed,
    /// This start's tenure as a fallback.
    tenure: Tenure,
    overlay: Overlay,
    commits: Commits,
    scans: BTreeMap<u64, Scanner>,
    next_scan: u64,
    room: Room,
    done: VecDeque<Done>,
}

impl Shard {
    pub(crate) fn new(
        partitions: BTreeMap<PartitionId, Partition>,
        others: impl Fn(PartitionId) -> Vec<NodeId>,
        (hints, closed): (BTreeMap<NodeId, Backlog>, Closed),
        tenure: Tenure,
        (has_lost, seed): (bool, u64),
    ) -> Self {
        let owned = partitions.iter().filter(|(_, partition)| partition.is_owned());
        Self {
            reclaim: Reclaim::new(owned.map(|(id, _)| (*id, others(*id)))),
            partitions,
            has_lost,
            born: 0,
            uncounted: None,
            expiring: Expiring::default(),
            hints: Hints::new(hints),
            closed,
            tenure,
            overlay: Overlay::new(seed),
            commits: Commits::default(),
            scans: BTreeMap::new(),
            next_scan: 0,
            room: Room::Enough,
            done: VecDeque::new(),
        }
    }

    // What it holds.

    /// Whether this node takes a partition's writes.
    pub(crate) fn owns(&self, partition: PartitionId) -> bool {
        self.owned(partition).is_some()
    }

    fn owned(&self, partition: PartitionId) -> Option<&Partition> {
        self.partitions.get(&partition).filter(|partition| partition.is_owned())
    }

    fn owned_mut(&mut self, partition: PartitionId) -> Option<&mut Partition> {
        self.partitions.get_mut(&partition).filter(|partition| partition.is_owned())
    }

    /// This node's tenure on a partition, its disk's life there, and the other members' tenures.
    pub(crate) fn tenures(&self, partition: PartitionId) -> (Tenure, u64, Vec<(NodeId, Tenure)>) {
        match self.partitions.get(&partition) {
            Some(had) if had.is_owned() => (had.tenure(), had.life(), had.known()),
            // It writes as a fallback; what it still has is of this disk all the same.
            Some(had) => (self.tenure, had.life(), Vec::new()),
            None => (self.tenure, 0, Vec::new()),
        }
    }

    /// All keys of each partition that is this node's own, added up.
    pub(crate) fn totals(&self) -> impl Iterator<Item = (PartitionId, Leaf)> {
        let owned = self.partitions.iter().filter(|(_, partition)| partition.is_owned());
        owned.map(|(id, owned)| (*id, owned.total()))
    }

    /// The leaves that are not empty of a partition that this node can show.
    pub(crate) fn leaves(&self, partition: PartitionId) -> Vec<(u32, Sum)> {
        self.shown(partition).map(Partition::leaves).unwrap_or_default()
    }

    /// One leaf of a partition.
    pub(crate) fn leaf(&self, partition: PartitionId, number: u32) -> Option<Leaf> {
        self.shown(partition).map(|shown| shown.leaf(number))
    }

    /// What is kept for others.
    pub(crate) const fn backlogs(&self) -> &BTreeMap<NodeId, Backlog> {
        self.hints.backlogs()
    }

    /// Whether an owned partition has merged or overwritten a version.
    pub(crate) fn has_seen(&self, partition: PartitionId, dot: Dot) -> bool {
        self.owned(partition).is_some_and(|owned| owned.has_seen(dot))
    }

    pub(crate) const fn room(&self) -> Room {
        self.room
    }

    /// Whether the disk has room for values.
    pub(crate) fn has_room(&self) -> bool {
        self.room == Room::Enough
    }

    /// Whether the disk has room for a write, with or without a value.
    pub(crate) fn has_room_for(&self, has_value: bool) -> bool {
        self.room == Room::Enough || self.room == Room::Low && !has_value
    }

    /// Whether so much waits for the disk, either way, that no more may be written.
    pub(crate) fn is_full(&self, cx: &Cx, class: Class) -> bool {
        self.commits.is_full(&cx.config.bounds, class, self.overlay.queued_bytes())
    }

    /// Whether so many wait for a row to be read, or wait for a batch, that no more may be.
    pub(crate) fn is_crowded(&self, cx: &Cx) -> bool {
        self.overlay.queued() + self.commits.waiting() + self.scans.len() >= cx.config.bounds.reads
    }

    /// Since when the disk has owed somebody a batch. Batches are in order; of rows one may be slow alone.
    pub(crate) fn oldest(&self) -> Option<u64> {
        self.commits.oldest()
    }

    /// The batches of this start are synced up to this one.
    pub(crate) const fn synced(&self) -> u64 {
        self.commits.synced()
    }

    /// The newest state of a key that was loaded in this step.
    pub(crate) fn ready(&self, place: &Place) -> Option<&Ready> {
        self.overlay.ready(place)
    }

    // What happens to it.

    pub(crate) const fn set_room(&mut self, room: Room) {
        self.room = room;
    }

    pub(crate) fn on_loaded(&mut self, cx: &mut Cx, load: u64, result: Result<Option<Bytes>, LoadFailed>) {
        let Some((place, began, first, others)) = self.overlay.end_load(load) else { return };
        if std::iter::once(&first).chain(&others).any(Operation::is_waited_for) {
            cx.pace.note(cx.now.monotonic - began);
        }
        let operations = std::iter::once(first).chain(others);
        match result.and_then(|stored| decoded(stored.unwrap_or_default())) {
            Ok(ready) => {
                self.overlay.set(&place, ready);
                operations.for_each(|operation| self.run(cx, &place, operation));
            }
            Err(LoadFailed) => {
                cx.stats.load_failures += 1;
                operations.for_each(|operation| self.fail(cx, &place, operation));
            }
        }
    }

    pub(crate) fn on_scanned(&mut self, scan: u64, result: Result<Page, LoadFailed>) {
        if let Some(scanner) = self.scans.remove(&scan) {
            self.done.push_back(Done::Scanned { scanner, result });
        }
    }

    pub(crate) fn on_committed(&mut self, cx: &mut Cx, written: u64, synced: u64) {
        self.commits.on_committed(cx, written, synced);
        while let Some(waiter) = self.commits.next_ready() {
            match waiter {
                Waiter::Read(reader, place, view) => {
                    self.done.push_back(Done::Read { reader, place, result: Ok(view) });
                }
                Waiter::ReadHint(read, ready) => self.add_hint(read, Ok(ready)),
                Waiter::Write(writer, status, covered) => self.tell_covered(writer, status, covered),
                Waiter::Slot(place, sequence) => self.overlay.rest(&place, sequence),
                Waiter::Scan(scan, rows, limit) => {
                    cx.out.push(Effect::Scan { scan, rows, after: None, limit });
                }
            }
        }
    }

    /// The next thing that was done.
    pub(crate) fn next_done(&mut self) -> Option<Done> {
        self.done.pop_front()
    }

    /// The step is over: keys that nobody uses may go.
    pub(crate) fn end_step(&mut self, cx: &Cx) {
        self.overlay.trim(cx.config.bounds.cached);
    }

    // What it is asked to do.

    pub(crate) fn read(&mut self, cx: &mut Cx, place: &Place, reader: Reader) {
        self.with(cx, place, Operation::Read(reader));
    }

    /// Reads what is kept of a key for its owners, none of which this node is. It may be kept for one that owns it no more.
    pub(crate) fn read_hints(&mut self, cx: &mut Cx, place: &Place, reader: Reader) {
        let spaces: Vec<Space> = self.hints.backlogs().keys().copied().map(Space::Hints).collect();
        let Some(read) = self.hints.begin_read(place, &reader, spaces.len()) else {
            let result = Ok(View::of(Ready::of(Object::new())));
            return self.done.push_back(Done::Read { reader, place: place.clone(), result });
        };
        for space in spaces {
            self.with(cx, &Place { space, ..place.clone() }, Operation::ReadHint(read));
        }
    }

    fn add_hint(&mut self, read: u64, result: Result<Ready, LoadFailed>) {
        if let Some((reader, place, result)) = self.hints.add(read, result) {
            self.done.push_back(Done::Read { reader, place, result: result.map(View::of) });
        }
    }

    /// Loads the key of a put that this node coordinates.
    pub(crate) fn load_for_put(&mut self, cx: &mut Cx, place: &Place, put: u64) {
        self.with(cx, place, Operation::Coordinate(put));
    }

    /// Reads a page of a partition's rows.
    pub(crate) fn scan(
        &mut self,
        cx: &mut Cx,
        partition: PartitionId,
        after: Option<Place>,
        limit: usize,
        scanner: Scanner,
    ) {
        self.next_scan += 1;
        let scan = self.next_scan;
        self.scans.insert(scan, scanner);
        cx.out.push(Effect::Scan { scan, rows: Rows::Partition(partition), after, limit });
    }

    /// Reads the first rows of a partition between two places, those among them that are staged now. A write that is
    /// not there yet may be acknowledged a moment later.
    pub(crate) fn scan_range(
        &mut self,
        cx: &mut Cx,
        (partition, first, last): (PartitionId, u64, u64),
        limit: usize,
        scanner: Scanner,
    ) {
        self.next_scan += 1;
        let scan = self.next_scan;
        self.scans.insert(scan, scanner);
        let rows = Rows::Range { partition, first, last };
        let staged = self.commits.barrier(cx, Level::Written);
        match self.commits.is_durable(staged, Level::Written) {
            true => cx.out.push(Effect::Scan { scan, rows, after: None, limit }),
            false => self.commits.wait(staged, Level::Written, Waiter::Scan(scan, rows, limit)),
        }
    }

    /// Reads a page of what is kept for another node.
    pub(crate) fn scan_hints(
        &mut self,
        cx: &mut Cx,
        (run, target): (u64, NodeId),
        after: Option<Place>,
        limit: usize,
    ) {
        self.next_scan += 1;
        let scan = self.next_scan;
        self.scans.insert(scan, Scanner::Handoff(run, target));
        cx.out.push(Effect::Scan { scan, rows: Rows::Hints(target), after, limit });
    }

    /// Names a new write of a partition, this node's own or not.
    pub(crate) fn mint(&mut self, cx: &mut Cx, partition: PartitionId) -> Dot {
        match self.owned_mut(partition) {
            Some(owned) => owned.mint(),
            None => self.hints.mint(cx, partition),
        }
    }

    /// Tells the writer when all that was staged until now is durable.
    pub(crate) fn confirm(&mut self, cx: &mut Cx, writer: Writer, level: Level) {
        let sequence = self.commits.barrier(cx, level);
        self.tell_when_durable((sequence, level), writer, done(level), Covered::default());
    }

    /// Commits rows that are no objects, and tells the writer.
    pub(crate) fn commit_and_tell(&mut self, cx: &mut Cx, rows: Vec<Change>, level: Level, writer: Writer) {
        let sequence = self.commits.commit(cx, rows, level, Class::Foreground);
        self.tell_when_durable((sequence, level), writer, done(level), Covered::default());
    }

    /// Remembers what a reply says of its sender's tenure.
    pub(crate) fn learn(&mut self, partition: PartitionId, node: NodeId, tenure: Tenure) {
        if let Some(owned) = self.owned_mut(partition) {
            owned.learn(node, tenure);
        }
    }

    /// Does something with a key's object, now or once it is loaded.
    fn with(&mut self, cx: &mut Cx, place: &Place, operation: Operation) {
        match self.overlay.begin(cx.now.monotonic, place, operation) {
            Ok(operation) => self.run(cx, place, operation),
            Err(Some(load)) => cx.out.push(Effect::Load { load, place: place.clone() }),
            Err(None) => {}
        }
    }

    fn run(&mut self, cx: &mut Cx, place: &Place, operation: Operation) {
        match operation {
            Operation::Read(reader) => self.show(cx, place, Shown::To(reader)),
            Operation::ReadHint(read) => self.show(cx, place, Shown::With(read)),
            Operation::Merge { brought, writer, level, class } => {
                self.merge_ready(cx, place, *brought, writer, (level, class));
            }
            Operation::Coordinate(put) => self.done.push_back(Done::Loaded { put, result: Ok(()) }),
            Operation::Forget(stored) => self.forget(cx, place, &stored),
            Operation::Rewrite => self.rewrite(cx, place),
            Operation::Bury(dots, writer) => self.bury_ready(cx, place, &dots, writer),
            Operation::Reclaim(by_clock) => self.reclaim_ready(cx, place, by_clock),
            Operation::Purge(millis) => self.purge_ready(cx, place, millis),
            Operation::Drop => self.drop_ready(cx, place),
        }
    }

    /// The disk failed: nobody is told that there is nothing.
    fn fail(&mut self, cx: &mut Cx, place: &Place, operation: Operation) {
        match operation {
            Operation::Read(reader) => {
                let place = place.clone();
                self.done.push_back(Done::Read { reader, place, result: Err(LoadFailed) });
            }
            Operation::ReadHint(read) => self.add_hint(read, Err(LoadFailed)),
            Operation::Merge { writer, .. } | Operation::Bury(_, writer) => {
                self.tell(writer, Status::DiskError);
            }
            Operation::Coordinate(put) => self.done.push_back(Done::Loaded { put, result: Err(LoadFailed) }),
            Operation::Rewrite => self.drop_hint(cx, place),
            Operation::Purge(millis) => {
                self.expire_later((place.partition, place.leaf()), millis, millis + EXPIRY_STEP);
            }
            // It is handed on, or looked at, again some time.
            Operation::Forget(_) | Operation::Reclaim(_) => {}
            // It goes all the same: nobody needs it.
            Operation::Drop => self.drop_unread(cx, place),
        }
    }

    fn show(&mut self, cx: &mut Cx, place: &Place, shown: Shown) {
        let Some(ready) = self.overlay.ready(place).cloned() else {
            debug_assert!(false, "a key is shown that is not loaded");
            return self.fail(
                cx,
                place,
                match shown {
                    Shown::To(reader) => Operation::Read(reader),
                    Shown::With(read) => Operation::ReadHint(read),
                },
            );
        };
        let staged = ready.staged.filter(|&(sequence, level)| !self.commits.is_durable(sequence, level));
        match (staged.filter(|_| !planted!(ShowStaged)), shown) {
            (Some((sequence, level)), Shown::To(reader)) => {
                let view = self.view(place, ready, &reader);
                self.commits.wait(sequence, level, Waiter::Read(reader, place.clone(), view));
            }
            (Some((sequence, level)), Shown::With(read)) => {
                self.commits.wait(sequence, level, Waiter::ReadHint(read, ready));
            }
            (None, Shown::To(reader)) => {
                let view = self.view(place, ready, &reader);
                self.done.push_back(Done::Read { reader, place: place.clone(), result: Ok(view) });
            }
            (None, Shown::With(read)) => self.add_hint(read, Ok(ready)),
        }
    }

    /// A key as it is now, with what the reader wants to know of versions that are not in it.
    fn view(&self, place: &Place, ready: Ready, reader: &Reader) -> View {
        let told = reader.asked().map(|asked| {
            let versions = ready.object.versions();
            let is_seen = |dot| self.has_seen(place.partition, dot) || versions.context().covers(dot);
            let is_covered = |dot: &Dot| is_seen(*dot) && !versions.is_live(*dot);
            let covered = asked.dots.iter().copied().filter(is_covered).collect();
            let owned = self.owned(place.partition);
            let seen = owned.map(|owned| owned.seen().part_of(&asked.session)).unwrap_or_default();
            Box::new(Told { covered, seen, withheld: Vec::new() })
        });
        View { told, ..View::of(ready) }
    }

    fn tell_when_durable(
        &mut self,
        (sequence, level): (u64, Level),
        writer: Writer,
        status: Status,
        covered: Covered,
    ) {
        if self.commits.is_durable(sequence, level) {
            self.tell_covered(writer, status, covered);
        } else if !matches!(writer, Writer::Nobody) {
            self.commits.wait(sequence, level, Waiter::Write(writer, status, covered));
        }
    }

    fn tell(&mut self, writer: Writer, status: Status) {
        self.tell_covered(writer, status, Covered::default());
    }

    fn tell_covered(&mut self, writer: Writer, status: Status, covered: Covered) {
        if !matches!(writer, Writer::Nobody) {
            self.done.push_back(Done::Written { writer, status, covered });
        }
    }
}

/// To whom a key's state is shown.
enum Shown {
    To(Reader),
    /// With other hinted copies.
    With(u64),
}

fn decoded(stored: Bytes) -> Result<Ready, LoadFailed> {
    let object = match stored.is_empty() {
        true => Object::new(),
        false => Object::decode(&stored).map_err(|_| LoadFailed)?,
    };
    Ok(Ready { object: Arc::new(object), stored, digest: None, staged: None })
}

/// What a key adds to its leaf; nothing if it has no version.
pub(crate) fn digest_of(key: &Key, object: &Object) -> Digest {
    if object.versions().is_empty() {
        // What it replaced matters to nobody who has never had that.
        return Digest::NOTHING;
    }
    Digest::of(key.as_bytes(), &clock_bytes(object))
}

const fn done(level: Level) -> Status {
    match level {
        Level::Written => Status::DoneBuffered,
        Level::Synced => Status::DoneSynced,
    }
}
