//! The handle: submit batches, read rows, checkpoint, close.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;

use crate::batch::{Batch, Name};
use crate::buffer::Known;
use crate::checkpoint::Checkpointer;
use crate::commands::{Command, Request};
use crate::committer::Committer;
use crate::error::{OpenError, ReadError};
use crate::log::LogWriter;
use crate::open::{self, Opened};
use crate::options::Options;
use crate::report::{Hooks, Room};
use crate::rows;
use crate::scan::{self, Page};
use crate::shared::{Shared, Watch};
use crate::stats::{Stats, read};

/// An open store. Reads and submissions may come from any thread. Dropping it abandons what was submitted and
/// not yet committed; [`Store::close`] does not.
#[derive(Debug)]
pub struct Store {
    shared: Arc<Shared>,
    submissions: Mutex<Submissions>,
    checkpoints: Sender<Request>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Submissions {
    next: u64,
    commands: Sender<Command>,
}

impl Store {
    /// Makes a new, empty store in `path` (which is made too) and closes it again.
    ///
    /// # Errors
    /// [`OpenError::Exists`] if there is one, or what the operating system says.
    pub fn create(path: &Path, id: [u8; 16], options: &Options) -> Result<(), OpenError> {
        open::create(path, id, options)
    }

    /// Whether the store in `path` could be opened as far as other processes go. Opening it may cost more than
    /// the answer is worth: it is a new start, which a node tells the others of.
    ///
    /// # Errors
    /// [`OpenError::Locked`] or [`OpenError::Missing`], or what the operating system says.
    pub fn check_unused(path: &Path) -> Result<(), OpenError> {
        open::check_unused(path)
    }

    /// Opens the store in `path`, replays its log and proves what it holds. O(rows stored); large values are not
    /// read.
    ///
    /// # Errors
    /// [`OpenError`], among them that the store is in use, was never created, or is damaged as a whole.
    /// Damage to single partitions is no error here: see [`Opened::damaged`].
    pub fn open(path: &Path, options: Options, hooks: Hooks) -> Result<Opened, OpenError> {
        open::open(path, options, hooks)
    }

    pub(crate) fn start(shared: Shared, log: LogWriter) -> Result<Self, OpenError> {
        let path = shared.directory.path().to_owned();
        let next = shared.buffer().sequence + 1;
        let shared = Arc::new(shared);
        shared.replay_bytes.store(log.total_bytes(), Ordering::Relaxed);
        let (commands, command_queue) = mpsc::channel();
        let (checkpoints, checkpoint_queue) = mpsc::channel();
        let committer = Committer::new(Arc::clone(&shared), log, checkpoints.clone());
        let checkpointer = Checkpointer::new(Arc::clone(&shared), commands.clone());
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(name.to_owned()).spawn(run).map_err(OpenError::io(&path))
        };
        let (commit_watch, checkpoint_watch) = (Watch(Arc::clone(&shared)), Watch(Arc::clone(&shared)));
        let commit = move || {
            let _watch = commit_watch;
            committer.run(&command_queue);
        };
        let checkpoint = move || {
            let _watch = checkpoint_watch;
            checkpointer.run(&checkpoint_queue);
        };
        let threads = vec![spawn("commit", Box::new(commit))?, spawn("checkpoint", Box::new(checkpoint))?];
        let submissions = Mutex::new(Submissions { next, commands });
        Ok(Self { shared, submissions, checkpoints, threads })
    }

    /// Hands a batch over and returns its sequence. Batches are committed in this order; what becomes of them
    /// is told to [`Hooks::on_commit`]. With `sync`, the log is synced for it at once; without, within a
    /// second.
    pub fn submit(&self, batch: Batch, sync: bool) -> u64 {
        let mut submissions = self.submissions.lock().unwrap_or_else(PoisonError::into_inner);
        let sequence = submissions.next;
        submissions.next += 1;
        // The committer ends only after a failure that it has reported.
        let _ = submissions.commands.send(Command::Submit { sequence, batch, sync });
        sequence
    }

    /// The stored object of a key as of the last committed batch, if that is known without asking the engine:
    /// it is in the object buffer, or there is certainly none. Never waits for a disk.
    #[must_use]
    pub fn get_buffered(&self, name: &Name) -> Option<Option<Bytes>> {
        match self.shared.buffer().get(name) {
            Known::Value(value) => Some(Some(value)),
            Known::Absent => Some(None),
            Known::AskEngine => None,
        }
    }

    /// The stored object of a key, as of the last committed batch. May wait for the disk.
    ///
    /// # Errors
    /// [`ReadError`], which says nothing about whether there is one.
    pub fn get(&self, name: &Name) -> Result<Option<Bytes>, ReadError> {
        if let Some(known) = self.get_buffered(name) {
            return Ok(known);
        }
        let (engine, key) = (self.shared.engine(), name.engine_key());
        let engine = engine.as_ref();
        let Some(head) = engine.get(&key)? else {
            // A checkpoint may have removed it for good, or a false alarm of the filter has led here.
            return Ok(self.get_buffered(name).flatten());
        };
        match rows::get_data(engine, &key, &head) {
            Ok((_, value)) => Ok(Some(value)),
            // A checkpoint may have replaced the object between its head and its chunks; then the new one
            // stands whole, for a checkpoint writes in one go.
            Err(_) if engine.get(&key)?.as_ref() != Some(&head) => self.get(name),
            Err(error) => Err(error),
        }
    }

    /// Rows in the order of their names, from the first one after `after` on and before `end`, as of the last
    /// committed batch: at most `limit` of them. May wait for the disk.
    ///
    /// # Errors
    /// [`ReadError`], and no part of the page.
    pub fn scan(&self, range: &scan::Range, limit: usize) -> Result<Page, ReadError> {
        scan::page(&self.shared, range, limit)
    }

    /// Writes the buffer to the engine now, and returns when that is done (or the store has failed).
    pub fn checkpoint(&self) {
        let (done, wait) = mpsc::channel();
        if self.checkpoints.send(Request::Now(done)).is_ok() {
            let _ = wait.recv();
        }
    }

    /// Commits what was submitted, checkpoints, and closes.
    pub fn close(mut self) {
        self.checkpoint();
        self.stop();
    }

    fn stop(&mut self) {
        // The checkpointer first: it asks the committer things.
        let _ = self.checkpoints.send(Request::Stop);
        if let Some(checkpointer) = self.threads.pop() {
            let _ = checkpointer.join();
        }
        let _ = self.submissions.lock().unwrap_or_else(PoisonError::into_inner).commands.send(Command::Stop);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }

    /// What the disk has room for, so that what is in the buffer can still be checkpointed.
    #[must_use]
    pub fn room(&self) -> Room {
        let needed = 2 * self.shared.buffer().bytes();
        let minimum = self.shared.options.min_free_bytes;
        let is_short_of = |bytes: u64| self.shared.directory.is_nearly_full(bytes.saturating_add(needed));
        if is_short_of(minimum / 2) {
            Room::None
        } else if is_short_of(minimum) {
            Room::Low
        } else {
            Room::Enough
        }
    }

    /// Says how many bytes of objects there are, as their owner counts them: from that the store knows when its engine
    /// takes far more disk than that, and makes it anew. Never, unless it is said.
    pub fn note_stored(&self, bytes: u64) {
        self.shared.stored_bytes.store(bytes, Ordering::Relaxed);
    }

    /// What it has counted.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let counters = &self.shared.counters;
        Stats {
            batches: read(&counters.batches),
            log_writes: read(&counters.log_writes),
            log_bytes: read(&counters.log_bytes),
            syncs: read(&counters.syncs),
            checkpoints: read(&counters.checkpoints),
            engine_rows: read(&counters.engine_rows),
            buffer_bytes: self.shared.buffer().bytes(),
            replay_bytes: read(&self.shared.replay_bytes),
            disk_full: read(&counters.disk_full),
            engine_bytes: read(&counters.engine_bytes),
            compactions: read(&counters.compactions),
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.stop();
    }
}
