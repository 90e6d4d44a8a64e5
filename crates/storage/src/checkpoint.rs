//! Checkpoints: the object buffer goes to the engine, once per key, and the log that it came from goes away.
//!
//! The order is what keeps data: sync the log (so the engine is never ahead of it after a crash), fill the
//! engine, sync the engine, replace the manifest, remove segments. A crash between any two of them leaves a
//! log that covers whatever the engine lacks, and replaying what it has already is harmless.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes};

use crate::batch::put_bytes;
use crate::buffer::{Half, PartitionState, Pending};
use crate::committer::Command;
use crate::engine::{EngineError, EngineOp};
use crate::error::CommitError;
use crate::manifest::Manifest;
use crate::rows;
use crate::stats::add;
use crate::store::{Commit, Event, Shared};

/// Rows and bytes per write to the engine: few, since sled keeps readers out meanwhile.
const ROWS: usize = 64;
const BYTES: usize = 256 << 10;
/// How much nicer the checkpointer is than the threads that clients wait for.
const NICE: i32 = 10;
/// While there is room in the buffer, it rests this many times as long as it works.
const REST: u32 = 2;

#[derive(Debug)]
pub(crate) enum Request {
    /// The buffer has grown large.
    Soon,
    /// Now, and tell when it is done.
    Now(Sender<()>),
    Stop,
}

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
}

impl Checkpointer {
    pub(crate) fn new(shared: Arc<Shared>, commands: Sender<Command>) -> Self {
        Self { shared, commands }
    }

    pub(crate) fn run(self, requests: &Receiver<Request>) {
        // On Linux this is the thread's own; where it fails the thread is as important as the others.
        let _ = rustix::process::nice(NICE);
        loop {
            let request = match requests.recv_timeout(self.shared.options.checkpoint_interval) {
                Ok(Request::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(Request::Soon) if !self.is_wanted() => continue,
                Ok(request) => request,
                Err(RecvTimeoutError::Timeout) => Request::Soon,
            };
            if !self.shared.failed.load(Ordering::Acquire) {
                self.checkpoint_or_fail(&request);
            }
            if let Request::Now(done) = request {
                let _ = done.send(());
            }
        }
    }

    fn checkpoint_or_fail(&self, request: &Request) {
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
            return tracing::warn!("no checkpoint: too little space is free on the disk");
        }
        if let Err(error) = self.checkpoint(matches!(request, Request::Soon)) {
            tracing::error!(%error, "a checkpoint failed: the process must end; the log has everything");
            self.shared.failed.store(true, Ordering::Release);
            let through = self.shared.buffer().sequence;
            let failed = Commit::Failed { from: through + 1, through, error: CommitError::Fatal };
            (self.shared.hooks.on_commit)(failed);
        }
    }

    /// Whether the buffer is (still) large: of many requests while a checkpoint ran, one is enough.
    fn is_wanted(&self) -> bool {
        let (buffer, options) = (self.shared.buffer(), &self.shared.options);
        buffer.active_bytes() > options.checkpoint_bytes || buffer.bytes() > options.buffer_bytes
    }

    fn checkpoint(&self, paced: bool) -> Result<(), CheckpointError> {
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
        self.shared.engine.sync()?;
        self.event(Event::EngineSynced);
        if self.shared.engine.is_persistent() {
            let first_segment = self.ask(|reply| Command::FirstNeeded { sequence, reply })?;
            let store = self.shared.store_id;
            let manifest = Manifest { store, sequence, first_segment, totals };
            manifest.write(&self.shared.directory.manifest())?;
            self.event(Event::ManifestWritten);
            self.ask(|reply| Command::DropBefore { segment: first_segment, reply })?;
        }
        self.shared.buffer().thaw();
        add(&self.shared.counters.checkpoints, 1);
        self.event(Event::CheckpointDone);
        Ok(())
    }

    fn fill(
        &self,
        frozen: &Half,
        partitions: &[(u32, PartitionState)],
        sequence: u64,
        paced: bool,
    ) -> Result<(), CheckpointError> {
        let mut ops = Vec::new();
        let mut bytes = 0;
        let mut began = Instant::now();
        for (number, (name, pending)) in frozen.rows.iter().enumerate() {
            bytes += self.row_ops(name, pending, chunk_id(sequence, number), &mut ops)?;
            if ops.len() >= ROWS || bytes >= BYTES {
                self.apply(std::mem::take(&mut ops))?;
                bytes = 0;
                if paced {
                    self.rest(began.elapsed());
                }
                began = Instant::now();
            }
        }
        for (prefix, state) in partitions {
            let name = rows::numbered_key(rows::partition_prefix(), *prefix);
            let sealed = rows::seal(&name, &encode_partition(state));
            ops.push(EngineOp::Put(name, sealed));
        }
        let mark = rows::checkpoint_key();
        let sealed = rows::seal(&mark, &sequence.to_le_bytes());
        ops.push(EngineOp::Put(mark, sealed));
        self.apply(ops)
    }

    /// Leaves the processor and the disk to the requests that somebody waits for, while there is room.
    fn rest(&self, worked: Duration) {
        if self.shared.buffer().bytes() < self.shared.options.buffer_bytes / 2 {
            std::thread::sleep(worked * REST);
        }
    }

    fn apply(&self, ops: Vec<EngineOp>) -> Result<(), CheckpointError> {
        add(&self.shared.counters.engine_rows, ops.len() as u64);
        Ok(self.shared.engine.apply(ops)?)
    }

    /// Adds the operations for one row; returns about how many bytes they carry.
    fn row_ops(
        &self,
        name: &[u8],
        pending: &Pending,
        id: u64,
        ops: &mut Vec<EngineOp>,
    ) -> Result<usize, EngineError> {
        match pending {
            Pending::Plain(value) => ops.push(EngineOp::Put(name.to_vec(), rows::seal(name, value))),
            Pending::Removed => {
                self.remove_old_chunks(name, ops)?;
                ops.push(EngineOp::Remove(name.to_vec()));
            }
            Pending::Data { digest, value } => {
                self.remove_old_chunks(name, ops)?;
                rows::put_data(name, *digest, value, id, ops);
                return Ok(value.len());
            }
        }
        Ok(0)
    }

    fn remove_old_chunks(&self, name: &[u8], ops: &mut Vec<EngineOp>) -> Result<(), EngineError> {
        if let Some(head) = self.shared.engine.get(name)? {
            rows::remove_chunks(name, &head, ops);
        }
        Ok(())
    }

    fn sync_log(&self) -> Result<(), CheckpointError> {
        self.ask(Command::Sync)
    }

    fn ask<T>(&self, command: impl FnOnce(Sender<T>) -> Command) -> Result<T, CheckpointError> {
        let (reply, answer) = mpsc::channel();
        self.commands.send(command(reply)).map_err(|_| CheckpointError::Stopped)?;
        let answer = answer.recv().map_err(|_| CheckpointError::Stopped)?;
        if self.shared.failed.load(Ordering::Acquire) { Err(CheckpointError::Stopped) } else { Ok(answer) }
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

fn encode_partition(state: &PartitionState) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(&state.total.to_bytes());
    put_bytes(&mut out, &state.record);
    out.put_u32_le(state.notes.len() as u32);
    for note in &state.notes {
        put_bytes(&mut out, note);
    }
    out
}

pub(crate) fn decode_partition(mut bytes: Bytes) -> Option<PartitionState> {
    use bytes::Buf;

    use crate::batch::{get_bytes, get_leaf};
    let total = get_leaf(&mut bytes).ok()?;
    let record = get_bytes(&mut bytes).ok()?;
    let count = bytes.try_get_u32_le().ok()? as usize;
    if count > bytes.len() {
        return None;
    }
    let notes = (0..count).map(|_| get_bytes(&mut bytes).ok()).collect::<Option<_>>()?;
    Some(PartitionState { total, record, notes })
}
