//! The handle: submit batches, read rows, checkpoint, close.

use std::fmt;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;

use crate::batch::Batch;
use crate::buffer::{Buffer, Pending};
use crate::checkpoint::{self, Checkpointer};
use crate::committer::{Command, Committer};
use crate::directory::Directory;
use crate::engine::{Engine, EngineKind};
use crate::error::{CommitError, OpenError, ReadError};
use crate::log::LogWriter;
use crate::open::{self, Opened};
use crate::rows;
use crate::stats::{Counters, Stats, read};

/// How the hash space is cut; fixed when a store is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Bits of the hash that name a partition.
    pub depth: u8,
    /// Bits of the hash that name a leaf of the hash tree; at least `depth`.
    pub leaf_bits: u8,
}

/// How a store works; may change from one start to the next, except the engine and shape.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The engine behind the log.
    pub engine: EngineKind,
    /// How the hash space is cut.
    pub shape: Shape,
    /// A checkpoint begins when the object buffer has this many bytes.
    pub checkpoint_bytes: u64,
    /// Commits wait for a checkpoint when the object buffer has this many bytes.
    pub buffer_bytes: u64,
    /// A checkpoint begins at the latest this long after the last, if anything changed.
    pub checkpoint_interval: Duration,
    /// A log segment is closed when it has this many bytes.
    pub segment_bytes: u64,
    /// New writes should stop when fewer bytes than this are free on the disk beside what a checkpoint needs
    /// ([`Store::is_disk_full`]); at an eighth of it batches are refused.
    pub min_free_bytes: u64,
}

impl Options {
    /// The usual sizes.
    #[must_use]
    pub const fn new(engine: EngineKind, shape: Shape) -> Self {
        Self {
            engine,
            shape,
            checkpoint_bytes: 32 << 20,
            buffer_bytes: 128 << 20,
            checkpoint_interval: Duration::from_secs(60),
            segment_bytes: 32 << 20,
            min_free_bytes: 64 << 20,
        }
    }

    /// Below so many free bytes even batches that were begun are refused.
    pub(crate) const fn refuse_below(&self) -> u64 {
        self.min_free_bytes / 8
    }
}

/// What the committer reports, in order. Sequences are those that [`Store::submit`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commit {
    /// All batches up to this one survive the end of the process.
    Written {
        /// The last of them.
        through: u64,
    },
    /// All batches up to this one survive a loss of power.
    Synced {
        /// The last of them.
        through: u64,
    },
    /// These batches were not committed.
    Failed {
        /// The first of them.
        from: u64,
        /// The last of them.
        through: u64,
        /// Why.
        error: CommitError,
    },
}

/// Points in the store's background work, for metrics and for tests that must catch it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A checkpoint begins.
    CheckpointStarted,
    /// The engine was given all rows, and has not synced them.
    EngineFilled,
    /// The engine has synced; the manifest is still the old one.
    EngineSynced,
    /// The new manifest stands; the old log is still there.
    ManifestWritten,
    /// The checkpoint is complete.
    CheckpointDone,
}

/// Where the store reports. Called from its threads: be quick, and do not call the store from inside.
pub struct Hooks {
    /// What became of submitted batches.
    pub on_commit: Box<dyn Fn(Commit) + Send + Sync>,
    /// Where the background work stands.
    pub on_event: Box<dyn Fn(Event) + Send + Sync>,
}

impl Hooks {
    /// Reports commits to `on_commit` and nothing else.
    pub fn on_commit(on_commit: impl Fn(Commit) + Send + Sync + 'static) -> Self {
        Self { on_commit: Box::new(on_commit), on_event: Box::new(|_| ()) }
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hooks")
    }
}

/// An open store. Reads and submissions may come from any thread. Dropping it abandons what was submitted and
/// not yet committed; [`Store::close`] does not.
#[derive(Debug)]
pub struct Store {
    shared: Arc<Shared>,
    submissions: Mutex<Submissions>,
    checkpoints: Sender<checkpoint::Request>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Submissions {
    next: u64,
    commands: Sender<Command>,
}

/// What the store's threads share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) store_id: [u8; 16],
    pub(crate) engine: Arc<dyn Engine>,
    buffer: Mutex<Buffer>,
    pub(crate) hooks: Hooks,
    pub(crate) counters: Counters,
    pub(crate) replay_bytes: std::sync::atomic::AtomicU64,
    /// Set when the disk has failed: nothing is taken any more.
    pub(crate) failed: AtomicBool,
    /// Last: its lock must outlive the engine, which writes when it is dropped.
    pub(crate) directory: Directory,
}

impl Shared {
    pub(crate) fn buffer(&self) -> MutexGuard<'_, Buffer> {
        // A panic elsewhere cannot leave the maps torn: each operation on them is one call.
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Makes a new, empty store in `path` (which is made too) and closes it again.
    ///
    /// # Errors
    /// [`OpenError::Exists`] if there is one, or what the operating system says.
    pub fn create(path: &Path, id: [u8; 16], options: &Options) -> Result<(), OpenError> {
        open::create(path, id, options)
    }

    /// Opens the store in `path`, replays its log and checks all that it holds. O(everything stored).
    ///
    /// # Errors
    /// [`OpenError`], among them that the store is in use, was never created, or is damaged as a whole.
    /// Damage to single partitions is no error here: see [`Opened::damaged`].
    pub fn open(path: &Path, options: Options, hooks: Hooks) -> Result<Opened, OpenError> {
        open::open(path, options, hooks)
    }

    pub(crate) fn start(
        directory: Directory,
        options: Options,
        store_id: [u8; 16],
        engine: Arc<dyn Engine>,
        buffer: Buffer,
        log: LogWriter,
        hooks: Hooks,
    ) -> Result<Self, OpenError> {
        let path = directory.path().to_owned();
        let next = buffer.sequence + 1;
        let shared = Arc::new(Shared {
            directory,
            options,
            store_id,
            engine,
            buffer: Mutex::new(buffer),
            hooks,
            counters: Counters::default(),
            replay_bytes: log.total_bytes().into(),
            failed: AtomicBool::new(false),
        });
        let (commands, command_queue) = mpsc::channel();
        let (checkpoints, checkpoint_queue) = mpsc::channel();
        let committer = Committer::new(Arc::clone(&shared), log, checkpoints.clone());
        let checkpointer = Checkpointer::new(Arc::clone(&shared), commands.clone());
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(name.to_owned()).spawn(run).map_err(OpenError::io(&path))
        };
        let threads = vec![
            spawn("commit", Box::new(move || committer.run(&command_queue)))?,
            spawn("checkpoint", Box::new(move || checkpointer.run(&checkpoint_queue)))?,
        ];
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

    /// The stored object of a key, as of the last committed batch.
    ///
    /// # Errors
    /// [`ReadError`], which says nothing about whether there is one.
    pub fn get(&self, hash: u64, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        let name = rows::data_key(hash, key);
        match self.shared.buffer().get(&name) {
            Some(Pending::Data { value, .. }) => return Ok(Some(value)),
            Some(Pending::Removed) => return Ok(None),
            Some(Pending::Plain(_)) | None => {}
        }
        let engine = self.shared.engine.as_ref();
        let Some(head) = engine.get(&name)? else { return Ok(None) };
        match rows::get_data(engine, &name, &head) {
            Ok((_, value)) => Ok(Some(value)),
            // A checkpoint may have replaced the object between its head and its chunks; then the new one
            // stands whole, for a checkpoint writes in one go.
            Err(_) if engine.get(&name)?.as_ref() != Some(&head) => self.get(hash, key),
            Err(error) => Err(error),
        }
    }

    /// Writes the buffer to the engine now, and returns when that is done (or the store has failed).
    pub fn checkpoint(&self) {
        let (done, wait) = mpsc::channel();
        if self.checkpoints.send(checkpoint::Request::Now(done)).is_ok() {
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
        let _ = self.checkpoints.send(checkpoint::Request::Stop);
        if let Some(checkpointer) = self.threads.pop() {
            let _ = checkpointer.join();
        }
        let _ = self.submissions.lock().unwrap_or_else(PoisonError::into_inner).commands.send(Command::Stop);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }

    /// Whether new writes should stop, so that what is in the buffer can still be checkpointed.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        let needed = 2 * self.shared.buffer().bytes();
        self.shared.directory.is_nearly_full(self.shared.options.min_free_bytes.saturating_add(needed))
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
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.stop();
    }
}
