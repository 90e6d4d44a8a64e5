//! The committer: one thread that appends all waiting batches at once, and syncs once for all that ask.
//!
//! The checkpointer asks it things while it works the object buffer off, and it waits for the checkpointer
//! when the buffer is full. So while it waits it still answers: what a checkpoint asks is urgent and never
//! stands behind a batch; only barriers and the end do.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use crate::batch::Batch;
use crate::commands::{Command, Request};
use crate::error::CommitError;
use crate::log::{AppendError, LogWriter, put_frame};
use crate::report::Commit;
use crate::shared::Shared;
use crate::stats::add;

/// The longest that a batch which asked for no sync waits for one.
const SYNC_WITHIN: Duration = Duration::from_secs(1);
/// How many bytes of frames are gathered before they are written.
const GATHER_BYTES: usize = 4 << 20;
/// How often a full buffer is looked at again.
const ROOM_POLL: Duration = Duration::from_millis(50);
/// How long commits wait for a checkpoint that has no space, before the store gives up.
const CRAMPED_WITHIN: Duration = Duration::from_secs(5);
/// The free space is looked at when so many bytes were appended since, or so much time has passed.
const LOOK_BYTES: u64 = 1 << 20;
const LOOK_WITHIN: Duration = Duration::from_millis(100);

pub(crate) struct Committer {
    shared: Arc<Shared>,
    log: LogWriter,
    checkpoints: Sender<Request>,
    /// Commands that came while something urgent was waited for, in order.
    backlog: VecDeque<Command>,
    written: u64,
    synced: u64,
    /// When the oldest batch that is written and not synced was written.
    unsynced_since: Option<Instant>,
    /// After a failure nothing more is taken: later batches were built on the failed one.
    stopped: Option<CommitError>,
    frames: Vec<u8>,
    /// When the free space was looked at last, and how much was appended since.
    looked: Option<Instant>,
    appended: u64,
}

/// Batches that were taken together.
#[derive(Default)]
struct Group {
    batches: Vec<(u64, Batch)>,
    sync: bool,
}

impl Committer {
    pub(crate) fn new(shared: Arc<Shared>, log: LogWriter, checkpoints: Sender<Request>) -> Self {
        let written = shared.buffer().sequence;
        Self {
            shared,
            log,
            checkpoints,
            backlog: VecDeque::new(),
            written,
            // All that recovery found is on the device: it was synced when the log was reopened.
            synced: written,
            unsynced_since: None,
            stopped: None,
            frames: Vec::new(),
            looked: None,
            appended: 0,
        }
    }

    pub(crate) fn run(mut self, commands: &Receiver<Command>) {
        while let Some(command) = self.next(commands) {
            match command {
                Command::Submit { .. } => {
                    self.backlog.push_front(command);
                    self.wait_for_room(commands);
                    let group = self.gather(commands);
                    self.commit(group);
                }
                Command::Barrier(reply) => {
                    self.sync();
                    // Whoever asked may have given up.
                    let _ = reply.send(());
                }
                Command::Stop => return self.sync(),
                urgent => self.answer(urgent),
            }
            if self.unsynced_since.is_some_and(|since| since.elapsed() >= SYNC_WITHIN) {
                self.sync();
            }
        }
    }

    /// The next command; syncs when none has come in time.
    fn next(&mut self, commands: &Receiver<Command>) -> Option<Command> {
        loop {
            if let Some(command) = self.backlog.pop_front() {
                return Some(command);
            }
            let Some(since) = self.unsynced_since else { return commands.recv().ok() };
            match commands.recv_timeout(SYNC_WITHIN.saturating_sub(since.elapsed())) {
                Ok(command) => return Some(command),
                Err(RecvTimeoutError::Timeout) => self.sync(),
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    /// Waits while the object buffer is full and being drained. Somebody at a barrier does not drain it, so
    /// nobody waits then. Nor for ever for a checkpoint that has no space: then the store stops, and says why.
    fn wait_for_room(&mut self, commands: &Receiver<Command>) {
        let waits = |command: &Command| matches!(command, Command::Barrier(_) | Command::Stop);
        let began = Instant::now();
        while self.is_buffer_full() && !self.shared.has_failed() && !self.backlog.iter().any(waits) {
            if self.shared.cramped.load(Ordering::Acquire) && began.elapsed() > CRAMPED_WITHIN {
                self.stopped.get_or_insert(CommitError::DiskFull);
                return;
            }
            let _ = self.checkpoints.send(Request::Soon);
            if self.unsynced_since.is_some_and(|since| since.elapsed() >= SYNC_WITHIN) {
                self.sync();
            }
            if let Ok(command) = commands.recv_timeout(ROOM_POLL) {
                self.answer_or_keep(command);
            }
        }
    }

    /// While checkpoints have no space, a little more is taken: deletes, and what a start must write.
    fn is_buffer_full(&self) -> bool {
        let most = self.shared.options.buffer_bytes;
        let more = if self.shared.cramped.load(Ordering::Acquire) { most / 4 } else { 0 };
        self.shared.buffer().bytes() > most + more
    }

    /// Takes the submissions that are waiting, up to the first barrier.
    fn gather(&mut self, commands: &Receiver<Command>) -> Group {
        self.frames.clear();
        let mut group = Group::default();
        while self.frames.len() < GATHER_BYTES {
            let Some(command) = self.backlog.pop_front().or_else(|| commands.try_recv().ok()) else { break };
            match command {
                Command::Submit { sequence, batch, sync } => {
                    let store = &self.shared.store_id;
                    put_frame(&mut self.frames, store, sequence, self.synced, |out| batch.encode(out));
                    group.batches.push((sequence, batch));
                    group.sync |= sync;
                }
                Command::Barrier(_) | Command::Stop => {
                    self.backlog.push_front(command);
                    break;
                }
                urgent => self.answer(urgent),
            }
        }
        group
    }

    fn answer_or_keep(&mut self, command: Command) {
        match command {
            Command::Submit { .. } | Command::Barrier(_) | Command::Stop => self.backlog.push_back(command),
            urgent => self.answer(urgent),
        }
    }

    /// Does what a checkpoint asks. Whoever asked may have given up.
    fn answer(&mut self, command: Command) {
        match command {
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
            Command::Submit { .. } | Command::Barrier(_) | Command::Stop => {}
        }
    }

    fn commit(&mut self, group: Group) {
        let Some(&(last, _)) = group.batches.last() else { return };
        let first = group.batches[0].0;
        if self.shared.has_failed() {
            self.stopped = Some(CommitError::Fatal);
        }
        if let Some(error) = self.stopped {
            return self.report_failure(first, last, error);
        }
        if self.is_disk_full() {
            return self.stop(first, last, CommitError::DiskFull);
        }
        match self.log.append(&self.frames, last) {
            Ok(()) => {}
            Err(AppendError::Full) => return self.stop(first, last, CommitError::DiskFull),
            Err(AppendError::Final) => return self.fail(first, last),
        }
        self.written = last;
        self.unsynced_since.get_or_insert_with(Instant::now);
        self.count(group.batches.len());
        self.apply(group.batches);
        // One report a group: what is synced is written.
        if group.sync {
            self.sync();
        } else {
            (self.shared.hooks.on_commit)(Commit::Written { through: last });
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

    fn apply(&self, batches: Vec<(u64, Batch)>) {
        let mut buffer = self.shared.buffer();
        for (sequence, batch) in batches {
            buffer.apply(sequence, batch);
        }
        if buffer.active_bytes() > self.shared.options.checkpoint_bytes {
            let _ = self.checkpoints.send(Request::Soon);
        }
    }

    fn sync(&mut self) {
        self.unsynced_since = None;
        if self.synced == self.written || self.shared.has_failed() {
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

    fn is_disk_full(&mut self) -> bool {
        self.appended += self.frames.len() as u64;
        if self.appended < LOOK_BYTES && self.looked.is_some_and(|looked| looked.elapsed() < LOOK_WITHIN) {
            return false;
        }
        (self.looked, self.appended) = (Some(Instant::now()), 0);
        let full = self.shared.directory.is_nearly_full(self.shared.options.refuse_below());
        self.shared.counters.disk_full.store(u64::from(full), Ordering::Relaxed);
        if full {
            tracing::error!("the disk is full: the store takes no more");
            self.shared.directory.release_reserve();
        }
        full
    }

    fn stop(&mut self, from: u64, through: u64, error: CommitError) {
        self.stopped = Some(error);
        self.report_failure(from, through, error);
    }

    fn fail(&mut self, from: u64, through: u64) {
        self.shared.set_failed();
        self.stop(from, through, CommitError::Fatal);
    }

    fn report_failure(&self, from: u64, through: u64, error: CommitError) {
        (self.shared.hooks.on_commit)(Commit::Failed { from, through, error });
    }
}
