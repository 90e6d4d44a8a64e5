//! The committer: one thread that appends all waiting batches at once, and syncs once for all that ask.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use crate::batch::Batch;
use crate::checkpoint;
use crate::error::CommitError;
use crate::log::{AppendError, LogWriter, put_frame};
use crate::stats::add;
use crate::store::{Commit, Shared};

/// The longest that a batch which asked for no sync waits for one.
const SYNC_WITHIN: Duration = Duration::from_secs(1);
/// How many bytes of frames are gathered before they are written.
const GATHER_BYTES: usize = 4 << 20;

#[derive(Debug)]
pub(crate) enum Command {
    Submit {
        sequence: u64,
        batch: Batch,
        sync: bool,
    },
    /// Syncs all that came before, and answers.
    Sync(Sender<()>),
    /// Answers with the first segment that holds a batch after this one.
    FirstNeeded {
        sequence: u64,
        reply: Sender<u64>,
    },
    /// Removes the segments before this one, and answers.
    DropBefore {
        segment: u64,
        reply: Sender<()>,
    },
    Stop,
}

pub(crate) struct Committer {
    shared: Arc<Shared>,
    log: LogWriter,
    checkpoints: Sender<checkpoint::Request>,
    written: u64,
    synced: u64,
    frames: Vec<u8>,
}

/// Batches that were taken together.
#[derive(Default)]
struct Group {
    batches: Vec<(u64, Batch)>,
    sync: bool,
}

impl Committer {
    pub(crate) fn new(shared: Arc<Shared>, log: LogWriter, checkpoints: Sender<checkpoint::Request>) -> Self {
        let written = shared.buffer().sequence;
        // All that recovery found is on the device: it was synced when the log was reopened.
        Self { shared, log, checkpoints, written, synced: written, frames: Vec::new() }
    }

    pub(crate) fn run(mut self, commands: &Receiver<Command>) {
        while let Some(command) = self.next(commands) {
            let mut group = Group::default();
            let mut other = self.gather(command, commands, &mut group);
            self.commit(group);
            while let Some(command) = other.take() {
                if self.is_stop(command) {
                    return;
                }
            }
        }
    }

    /// The next command; syncs when none has come for a while.
    fn next(&mut self, commands: &Receiver<Command>) -> Option<Command> {
        if self.synced == self.written {
            return commands.recv().ok();
        }
        match commands.recv_timeout(SYNC_WITHIN) {
            Ok(command) => Some(command),
            Err(RecvTimeoutError::Timeout) => {
                self.sync();
                self.next(commands)
            }
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    /// Takes the submissions that are waiting; returns the command that ended them, if one did.
    fn gather(&mut self, first: Command, commands: &Receiver<Command>, group: &mut Group) -> Option<Command> {
        self.frames.clear();
        let mut command = first;
        loop {
            match command {
                Command::Submit { sequence, batch, sync } => {
                    put_frame(&mut self.frames, sequence, self.synced, |out| batch.encode(out));
                    group.batches.push((sequence, batch));
                    group.sync |= sync;
                }
                other => return Some(other),
            }
            if self.frames.len() >= GATHER_BYTES {
                return None;
            }
            command = commands.try_recv().ok()?;
        }
    }

    /// Does what a command other than a submission asks; says whether it is the last.
    fn is_stop(&mut self, command: Command) -> bool {
        match command {
            Command::Submit { .. } => {}
            Command::Sync(reply) => {
                self.sync();
                let _ = reply.send(());
            }
            Command::FirstNeeded { sequence, reply } => {
                let _ = reply.send(self.log.first_needed(sequence));
            }
            Command::DropBefore { segment, reply } => {
                if let Err(error) = self.log.drop_before(segment) {
                    // It stays until the next checkpoint: lost space, not lost data.
                    tracing::warn!(%error, "an old log segment could not be removed");
                }
                self.shared.replay_bytes.store(self.log.total_bytes(), Ordering::Relaxed);
                let _ = reply.send(());
            }
            Command::Stop => {
                self.sync();
                return true;
            }
        }
        false
    }

    fn commit(&mut self, group: Group) {
        let Some(&(last, _)) = group.batches.last() else { return };
        let first = group.batches[0].0;
        if self.shared.failed.load(Ordering::Acquire) {
            return self.report_failure(first, last, CommitError::Fatal);
        }
        if self.is_disk_full() {
            return self.report_failure(first, last, CommitError::DiskFull);
        }
        match self.log.append(&self.frames, last) {
            Ok(()) => {}
            Err(AppendError::Full) => return self.report_failure(first, last, CommitError::DiskFull),
            Err(AppendError::Final) => return self.fail(first, last),
        }
        self.written = last;
        self.count(group.batches.len());
        self.apply(group.batches);
        (self.shared.hooks.on_commit)(Commit::Written { through: last });
        if group.sync {
            self.sync();
        }
        if self.log.open_bytes() > self.shared.options.segment_bytes && self.log.rotate().is_err() {
            self.fail(last, last);
        }
    }

    fn count(&self, batches: usize) {
        let counters = &self.shared.counters;
        add(&counters.batches, batches as u64);
        add(&counters.log_writes, 1);
        add(&counters.log_bytes, self.frames.len() as u64);
        self.shared.replay_bytes.store(self.log.total_bytes(), Ordering::Relaxed);
    }

    /// Puts the batches into the object buffer, waiting while that is full and being worked off.
    fn apply(&self, batches: Vec<(u64, Batch)>) {
        let options = &self.shared.options;
        let mut buffer = self.shared.buffer();
        while buffer.bytes() > options.buffer_bytes && !self.shared.failed.load(Ordering::Acquire) {
            let _ = self.checkpoints.send(checkpoint::Request::Soon);
            let waited = self.shared.thawed.wait_timeout(buffer, SYNC_WITHIN);
            buffer = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        for (sequence, batch) in batches {
            buffer.apply(sequence, batch);
        }
        if buffer.active_bytes() > options.checkpoint_bytes {
            let _ = self.checkpoints.send(checkpoint::Request::Soon);
        }
    }

    fn sync(&mut self) {
        if self.synced == self.written || self.shared.failed.load(Ordering::Acquire) {
            return;
        }
        // A failed sync is never tried again: the kernel may have dropped the pages and report success.
        if let Err(error) = self.log.sync() {
            tracing::error!(%error, "syncing the commit log failed");
            return self.fail(self.synced + 1, self.written);
        }
        add(&self.shared.counters.syncs, 1);
        self.synced = self.written;
        (self.shared.hooks.on_commit)(Commit::Synced { through: self.synced });
    }

    fn is_disk_full(&self) -> bool {
        let full = self.shared.directory.is_nearly_full(self.shared.options.min_free_bytes);
        let was_full = self.shared.counters.disk_full.swap(u64::from(full), Ordering::Relaxed) == 1;
        match (was_full, full) {
            (false, true) => {
                tracing::error!("the disk is nearly full: writes stop until space is free");
                self.shared.directory.release_reserve();
            }
            (true, false) => {
                tracing::info!("the disk has space again: writes go on");
                self.shared.directory.make_reserve();
            }
            _ => {}
        }
        full
    }

    fn fail(&self, from: u64, through: u64) {
        self.shared.failed.store(true, Ordering::Release);
        self.report_failure(from, through, CommitError::Fatal);
    }

    fn report_failure(&self, from: u64, through: u64, error: CommitError) {
        (self.shared.hooks.on_commit)(Commit::Failed { from, through, error });
    }
}
