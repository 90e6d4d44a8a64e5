//! Checkpoints: the object buffer goes to the engine, once per key, and the log that it came from goes away.
//!
//! The order is what keeps data: sync the log (so the engine is never ahead of it after a crash), fill the
//! engine, sync the engine, replace the manifest, remove segments. A crash between any two of them leaves a
//! log that covers whatever the engine lacks, and replaying what it has already is harmless.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use gramme_ring::PartitionId;

use crate::batch::Name;
use crate::buffer::{Half, PartitionState, Pending};
use crate::commands::{Command, Request};
use crate::compaction::{self, Compaction, Due, Retired};
use crate::engine::{EngineError, EngineOp, disk_bytes};
use crate::error::CommitError;
use crate::files::{put_in_place, write_beside};
use crate::manifest::Manifest;
use crate::report::{Commit, Event};
use crate::rows;
use crate::shared::Shared;
use crate::stats::add;

/// Rows and bytes per write to the engine: few, since sled keeps readers out meanwhile.
const ROWS: usize = 64;
const BYTES: usize = 256 << 10;
/// How much nicer the checkpointer is than the threads that clients wait for.
const NICE: i32 = 10;
/// While there is room in the buffer, it rests this many times as long as it works.
const REST: u32 = 2;

/// How often it is looked whether an engine that was replaced is still read.
const SOON: Duration = Duration::from_millis(100);

/// Why a checkpoint did not complete. The log still has everything.
#[derive(Debug, thiserror::Error)]
enum CheckpointError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("the manifest could not be written: {0}")]
    Manifest(#[from] std::io::Error),
    #[error("the committer has stopped")]
    Stopped,
}

pub(crate) struct Checkpointer {
    shared: Arc<Shared>,
    commands: Sender<Command>,
    /// When the last checkpoint was looked for.
    last: Instant,
    /// When it was last looked whether to compact, and whether there was a checkpoint since.
    looked: Instant,
    has_checkpoint: bool,
    compaction: Option<Compaction>,
    due: Due,
    retired: Option<Retired>,
}

impl Checkpointer {
    pub(crate) fn new(shared: Arc<Shared>, commands: Sender<Command>) -> Self {
        let (last, looked, due) = (Instant::now(), Instant::now(), Due::default());
        Self { shared, commands, last, looked, has_checkpoint: false, compaction: None, due, retired: None }
    }

    pub(crate) fn run(mut self, requests: &Receiver<Request>) {
        // On Linux this is the thread's own; where it fails the thread is as important as the others.
        let _ = rustix::process::nice(NICE);
        loop {
            let interval = self.shared.options.checkpoint_interval;
            let wait = match (&self.compaction, &self.retired) {
                (Some(_), _) if !self.shared.has_failed() => Duration::ZERO,
                // Its last reader is about to end.
                (_, Some(_)) => SOON,
                _ => interval.saturating_sub(self.last.elapsed()),
            };
            match requests.recv_timeout(wait) {
                Ok(Request::Stop) | Err(RecvTimeoutError::Disconnected) => return self.end(),
                Ok(Request::Soon) if !self.is_wanted() => {}
                Ok(request) => self.serve(request),
                Err(RecvTimeoutError::Timeout) if self.last.elapsed() >= interval => {
                    self.serve(Request::Soon);
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.retired = self.retired.take().and_then(Retired::remove);
            if !self.shared.has_failed() {
                self.compact();
            }
        }
    }

    fn serve(&mut self, request: Request) {
        self.last = Instant::now();
        if !self.shared.has_failed() {
            self.checkpoint_or_fail(&request);
        }
        if let Request::Now(done) = request {
            let _ = done.send(());
        }
    }

    /// Does the next part of a compaction, or begins one.
    fn compact(&mut self) {
        let Some(compaction) = &mut self.compaction else { return self.begin_compaction() };
        let began = Instant::now();
        if let Err(error) = compaction.copy_some(self.shared.engine().as_ref()) {
            return self.abandon(&error);
        }
        let (is_copied, floor) = (compaction.is_copied(), compaction.floor);
        if is_copied {
            self.event(Event::CompactionCopied);
        }
        if self.shared.directory.is_nearly_full(floor.saturating_add(self.pending())) {
            return self.abandon(&"too little space is left on the disk");
        }
        if !is_copied {
            return self.rest(began.elapsed());
        }
        if let Err(error) = self.checkpoint(false) {
            self.fail(&error);
        }
    }

    fn begin_compaction(&mut self) {
        let engine = self.shared.engine();
        let number = self.shared.engine_number();
        let is_soon = self.looked.elapsed() < self.shared.options.checkpoint_interval;
        if is_soon && !std::mem::take(&mut self.has_checkpoint) {
            return;
        }
        self.looked = Instant::now();
        if self.retired.is_some() || !engine.is_persistent() {
            return;
        }
        let directory = &self.shared.directory;
        let Ok(taken) = disk_bytes(&directory.engine(number)) else { return };
        self.shared.counters.engine_bytes.store(taken, Ordering::Relaxed);
        let options = &self.shared.options;
        let stored = self.shared.stored_bytes.load(Ordering::Relaxed);
        if !self.due.is_due(taken, stored, options.spare_bytes) {
            return;
        }
        let pending = self.pending();
        let Some(floor) = compaction::floor(directory, stored, pending, options.min_free_bytes) else {
            return;
        };
        tracing::info!(taken, stored, "the engine takes too much of the disk: it is copied to a new one");
        match Compaction::begin(directory, number + 1, options.engine, floor) {
            Ok(compaction) => self.compaction = Some(compaction),
            Err(error) => return self.abandon(&error),
        }
        self.event(Event::CompactionStarted);
    }

    /// What a checkpoint may need of the disk.
    fn pending(&self) -> u64 {
        2 * self.shared.buffer().bytes()
    }

    /// The new engine comes to nothing; the old one is whole.
    fn abandon(&mut self, error: &dyn std::fmt::Display) {
        tracing::warn!(%error, "a compaction is given up, and tried again later; nothing is lost");
        self.due.note_failed();
        self.retired = self.compaction.take().map(Compaction::abandon);
    }

    /// The manifest names the new engine: it takes the place of the old.
    fn take_over(&mut self, Compaction { number, engine, .. }: Compaction) {
        let (before, old) = self.shared.replace_engine(number, engine);
        let path = self.shared.directory.engine(before);
        // Not here: commits may wait for this checkpoint.
        self.retired = Some(Retired { engine: old, path });
        let taken = disk_bytes(&self.shared.directory.engine(number)).unwrap_or(0);
        self.due.note_done(taken);
        self.shared.counters.engine_bytes.store(taken, Ordering::Relaxed);
        add(&self.shared.counters.compactions, 1);
        tracing::info!(taken, "the engine was copied to a new one");
        self.event(Event::CompactionDone);
    }

    fn end(self) {
        for retired in self.compaction.map(Compaction::abandon).into_iter().chain(self.retired) {
            let _ = retired.remove();
        }
    }

    fn checkpoint_or_fail(&mut self, request: &Request) {
        // Batches that were submitted before this request must be in it.
        if matches!(request, Request::Now(_)) && self.ask(Command::Barrier).is_err() {
            return;
        }
        let (is_dirty, bytes) = {
            let buffer = self.shared.buffer();
            (buffer.is_dirty(), buffer.bytes())
        };
        if !is_dirty {
            return;
        }
        if matches!(request, Request::Soon) && self.shared.directory.is_nearly_full(2 * bytes) {
            // The engine must not run out of space halfway. The log has everything.
            if !self.shared.cramped.swap(true, Ordering::AcqRel) {
                tracing::warn!("no checkpoints any more: too little space is free on the disk");
            }
            return;
        }
        if self.shared.cramped.swap(false, Ordering::AcqRel) {
            tracing::info!("there is space on the disk for checkpoints again");
        }
        if let Err(error) = self.checkpoint(matches!(request, Request::Soon)) {
            self.fail(&error);
        }
    }

    fn fail(&self, error: &CheckpointError) {
        tracing::error!(%error, "a checkpoint failed: the process must end; the log has everything");
        self.shared.set_failed();
        let through = self.shared.buffer().sequence;
        let failed = Commit::Failed { from: through + 1, through, error: CommitError::Fatal };
        (self.shared.hooks.on_commit)(failed);
    }

    /// Whether the buffer is (still) large: of many requests while a checkpoint ran, one is enough.
    fn is_wanted(&self) -> bool {
        let (buffer, options) = (self.shared.buffer(), &self.shared.options);
        buffer.active_bytes() > options.checkpoint_bytes || buffer.bytes() > options.buffer_bytes
    }

    fn checkpoint(&mut self, paced: bool) -> Result<(), CheckpointError> {
        self.event(Event::CheckpointStarted);
        let (frozen, sequence, totals, partitions) = {
            let mut buffer = self.shared.buffer();
            let frozen = buffer.freeze();
            let state = |prefix| Some((prefix, buffer.partitions.get(&prefix)?.clone()));
            let partitions: Vec<_> = frozen.partitions.iter().copied().filter_map(state).collect();
            (frozen, buffer.sequence, buffer.totals(), partitions)
        };
        self.sync_log()?;
        self.fill(&frozen, &partitions, sequence, paced)?;
        self.event(Event::EngineFilled);
        self.shared.engine().sync()?;
        let copied = self.copied_engine();
        self.event(Event::EngineSynced);
        if self.shared.engine().is_persistent() {
            let first_segment = self.ask(|reply| Command::FirstNeeded { sequence, reply })?;
            let store = self.shared.store_id;
            let engine = self.shared.engine_number();
            self.write_manifest(Manifest { store, sequence, first_segment, engine, totals }, copied)?;
            self.ask(|reply| Command::DropBefore { segment: first_segment, reply })?;
        }
        self.shared.buffer().thaw();
        self.has_checkpoint = true;
        add(&self.shared.counters.checkpoints, 1);
        self.event(Event::CheckpointDone);
        Ok(())
    }

    /// Replaces the manifest. Where that has no space, a new engine is given up for it.
    fn write_manifest(
        &mut self,
        mut manifest: Manifest,
        copied: Option<Compaction>,
    ) -> Result<(), CheckpointError> {
        let (path, present) = (self.shared.directory.manifest(), manifest.engine);
        manifest.engine = copied.as_ref().map_or(present, |copied| copied.number);
        let written = write_beside(&path, &manifest.encode());
        let copied = match (written, copied) {
            (Ok(()), copied) => copied,
            (Err(error), None) => return Err(error.into()),
            (Err(error), copied) => {
                self.compaction = copied;
                self.abandon(&error);
                self.retired = self.retired.take().and_then(Retired::remove);
                manifest.engine = present;
                write_beside(&path, &manifest.encode())?;
                None
            }
        };
        put_in_place(&path)?;
        self.event(Event::ManifestWritten);
        copied.into_iter().for_each(|copied| self.take_over(copied));
        Ok(())
    }

    /// The new engine, if it has everything and is synced.
    fn copied_engine(&mut self) -> Option<Compaction> {
        let copied = self.compaction.take_if(|compaction| compaction.is_copied())?;
        match copied.engine.sync() {
            Ok(()) => Some(copied),
            Err(error) => {
                self.compaction = Some(copied);
                self.abandon(&error);
                None
            }
        }
    }

    fn fill(
        &mut self,
        frozen: &Half,
        partitions: &[(PartitionId, PartitionState)],
        sequence: u64,
        paced: bool,
    ) -> Result<(), CheckpointError> {
        let mut ops = Vec::new();
        let mut bytes = 0;
        let mut began = Instant::now();
        for (number, (name, pending)) in frozen.objects.iter().enumerate() {
            bytes += self.object_ops(name, pending, chunk_id(sequence, number), &mut ops)?;
            if ops.len() >= ROWS || bytes >= BYTES {
                self.apply(std::mem::take(&mut ops))?;
                bytes = 0;
                if paced {
                    self.rest(began.elapsed());
                }
                began = Instant::now();
            }
        }
        let mut put = |name: Vec<u8>, value: &[u8]| {
            let sealed = rows::seal(&name, value);
            ops.push(EngineOp::Put(name, sealed));
        };
        for ((partition, number), leaf) in &frozen.leaves {
            put(rows::leaf_key(*partition, *number), &leaf.to_bytes());
        }
        for (name, value) in &frozen.meta {
            put(rows::meta_key(name), value);
        }
        for (partition, state) in partitions {
            put(rows::partition_key(*partition), &rows::encode_partition(state));
        }
        put(rows::checkpoint_key(), &sequence.to_le_bytes());
        let mark = ops.pop();
        while !ops.is_empty() {
            let rest = ops.split_off(ops.len().min(ROWS));
            self.apply(std::mem::replace(&mut ops, rest))?;
        }
        // Last: who finds it finds all of them.
        self.apply(mark.into_iter().collect())
    }

    /// Leaves the processor and the disk to the requests that somebody waits for, while there is room.
    fn rest(&self, worked: Duration) {
        if self.shared.buffer().bytes() < self.shared.options.buffer_bytes / 2 {
            std::thread::sleep(worked * REST);
        }
    }

    fn apply(&mut self, ops: Vec<EngineOp>) -> Result<(), CheckpointError> {
        add(&self.shared.counters.engine_rows, ops.len() as u64);
        if let Some(compaction) = &self.compaction
            && let Err(error) = compaction.engine.apply(ops.clone())
        {
            self.abandon(&error);
        }
        Ok(self.shared.engine().apply(ops)?)
    }

    /// Adds the operations for one object; returns about how many bytes they carry.
    fn object_ops(
        &self,
        name: &Name,
        pending: &Pending,
        id: u64,
        ops: &mut Vec<EngineOp>,
    ) -> Result<usize, EngineError> {
        let key = name.engine_key();
        let had_chunks = self.shared.buffer().chunked.may_contain(name.filter_hash());
        if had_chunks && let Some(head) = self.shared.engine().get(&key)? {
            rows::remove_chunks(&key, &head, ops);
        }
        match pending {
            Pending::Removed => {
                ops.push(EngineOp::Remove(key));
                Ok(0)
            }
            Pending::Data { digest, value } => {
                if rows::is_chunked(value.len()) && !had_chunks {
                    self.shared.buffer().chunked.insert(name.filter_hash());
                }
                rows::put_data(&key, *digest, value, id, ops);
                Ok(value.len())
            }
        }
    }

    fn sync_log(&self) -> Result<(), CheckpointError> {
        self.ask(Command::Sync)
    }

    fn ask<T>(&self, command: impl FnOnce(Sender<T>) -> Command) -> Result<T, CheckpointError> {
        let (reply, answer) = mpsc::channel();
        self.commands.send(command(reply)).map_err(|_| CheckpointError::Stopped)?;
        let answer = answer.recv().map_err(|_| CheckpointError::Stopped)?;
        if self.shared.has_failed() { Err(CheckpointError::Stopped) } else { Ok(answer) }
    }

    fn event(&self, event: Event) {
        (self.shared.hooks.on_event)(event);
    }
}

/// An id for the chunks of one row. A checkpoint that is done again after a crash uses other sequences, or
/// writes the same chunks.
fn chunk_id(sequence: u64, number: usize) -> u64 {
    sequence.rotate_left(24) ^ number as u64
}
