//! Threads that read what is not in memory: a disk must not hold up the thread that answers pings.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use gramme_object::Key;
use gramme_replica::{Input, LoadFailed, Page, Place, Rows, Space};
use gramme_ring::{KeyHash, PartitionId};
use gramme_storage::{Name, Range, Store};
use tokio::sync::Notify;

use super::disk::{name, space_of};

/// Enough that one slow read does not hold up the next.
const THREADS: usize = 4;

/// Something to read.
#[derive(Debug)]
pub(super) enum Job {
    Load { load: u64, place: Place },
    Scan { scan: u64, rows: Rows, after: Option<Place>, limit: usize },
}

/// What was read, until the driver takes it.
#[derive(Debug, Default)]
struct Results {
    inputs: Mutex<Vec<Input>>,
    ready: Notify,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Readers {
    store: Arc<Store>,
    /// None where everything is read on the spot.
    jobs: Option<Sender<Job>>,
    results: Arc<Results>,
    threads: Vec<JoinHandle<()>>,
    stopping: Arc<AtomicBool>,
}

impl Readers {
    /// With `inline` everything is read on the spot: on paused time no thread may work on the side.
    pub(super) fn start(store: Arc<Store>, inline: bool) -> std::io::Result<Self> {
        let (results, stopping) = (Arc::new(Results::default()), Arc::new(AtomicBool::new(false)));
        let mut readers = Self { store, jobs: None, results, threads: Vec::new(), stopping };
        if inline {
            return Ok(readers);
        }
        let (jobs, queue) = mpsc::channel();
        let queue = Arc::new(Mutex::new(queue));
        for number in 0..THREADS {
            let (store, queue) = (Arc::clone(&readers.store), Arc::clone(&queue));
            let (results, stopping) = (Arc::clone(&readers.results), Arc::clone(&readers.stopping));
            let work = move || {
                while let Some(job) = next(&queue).filter(|_| !stopping.load(Ordering::Relaxed)) {
                    results.push(guarded(&store, job));
                }
            };
            readers.threads.push(std::thread::Builder::new().name(format!("reader-{number}")).spawn(work)?);
        }
        readers.jobs = Some(jobs);
        Ok(readers)
    }

    pub(super) fn read(&self, job: Job) {
        match &self.jobs {
            // The threads end only when this is stopped.
            Some(jobs) => drop(jobs.send(job)),
            None => self.results.push(read(&self.store, job)),
        }
    }

    /// Resolves when something was read.
    pub(super) async fn ready(&self) {
        self.results.ready.notified().await;
    }

    /// Takes what was read.
    pub(super) fn take(&self) -> Vec<Input> {
        std::mem::take(&mut self.results.inputs.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends the threads, whatever they had still to read, and lets the store go.
    pub(super) fn stop(mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.jobs = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a reader thread panicked");
            }
        }
    }
}

impl Results {
    fn push(&self, input: Input) {
        self.inputs.lock().unwrap_or_else(PoisonError::into_inner).push(input);
        self.ready.notify_one();
    }
}

fn next(queue: &Mutex<Receiver<Job>>) -> Option<Job> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

/// What a panic leaves is a row that cannot be read: whoever waits for it must be told.
fn guarded(store: &Store, job: Job) -> Input {
    let failed = match &job {
        Job::Load { load, .. } => Input::Loaded { load: *load, result: Err(LoadFailed) },
        Job::Scan { scan, .. } => Input::Scanned { scan: *scan, result: Err(LoadFailed) },
    };
    // The store is behind locks that survive a panic, and nothing else is shared.
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| read(store, job))).unwrap_or_else(|_| {
        tracing::error!("reading a row panicked");
        failed
    })
}

fn read(store: &Store, job: Job) -> Input {
    match job {
        Job::Load { load, place } => {
            let result = store.get(&name(&place)).map_err(|error| {
                tracing::error!(%error, key = ?place.key, "a row could not be read");
                LoadFailed
            });
            Input::Loaded { load, result }
        }
        Job::Scan { scan, rows, after, limit } => {
            let result = page(store, rows, after.as_ref(), limit).map_err(|error| {
                tracing::error!(%error, ?rows, "rows could not be read");
                LoadFailed
            });
            Input::Scanned { scan, result }
        }
    }
}

fn page(store: &Store, rows: Rows, after: Option<&Place>, limit: usize) -> Result<Page, String> {
    let (space, partition, first, last) = match rows {
        Rows::Partition(partition) => {
            let depth = u32::from(partition.depth);
            let first = u64::from(partition.prefix).checked_shl(64 - depth).unwrap_or(0);
            (Space::Data, partition, first, first | u64::MAX.checked_shr(depth).unwrap_or(0))
        }
        Rows::Range { partition, first, last } => (Space::Data, partition, first, last),
        Rows::Hints(target) => (Space::Hints(target), PartitionId { prefix: 0, depth: 0 }, 0, u64::MAX),
    };
    let range = Range { space: space_of(space), first, last, after: after.map(name) };
    let page = store.scan(&range, limit).map_err(|error| error.to_string())?;
    let place = |name: Name| {
        let key = Key::from_bytes(name.key).map_err(|error| error.to_string())?;
        Ok::<_, String>(Place { space, partition, hash: KeyHash(name.hash), key })
    };
    let rows = page.rows.into_iter().map(|(name, object)| Ok((place(name)?, object)));
    let unreadable = page.unreadable.into_iter().map(|(name, why)| {
        tracing::error!(%why, key = ?name.key, "a row could not be read");
        place(name)
    });
    Ok(Page {
        rows: rows.collect::<Result<_, String>>()?,
        next: page.next.map(place).transpose()?,
        unreadable: unreadable.collect::<Result<_, String>>()?,
    })
}
