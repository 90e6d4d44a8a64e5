//! Many seeds at once, one thread a core, each run in one thread; told in the order of the seeds.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::check::{self, Promise, Staleness, Violation};
use crate::cluster::{Outcome, run};
use crate::fault::Counts;
use crate::healed::Healed;
use crate::history::History;
use crate::settings::Settings;

/// A seed's run, judged.
#[derive(Clone, Debug)]
pub struct Judged {
    /// What it was made of.
    pub settings: Settings,
    /// What was broken.
    pub violations: Vec<Violation>,
    /// What clients saw; only of a broken run, and not of one that panicked.
    pub history: Option<History>,
    /// How often each fault fired.
    pub counts: Counts,
    /// How stale reads were.
    pub staleness: Staleness,
    /// The run's trace.
    pub trace: String,
    /// Operations that succeeded.
    pub succeeded: u64,
    /// Requests that went to another node because the first could not, or took long.
    pub asked_again: u64,
    /// Batches that were destroyed.
    pub batches_destroyed: u64,
    /// What the cluster did about its faults.
    pub healed: Healed,
    /// CPU time that it took.
    pub cpu: Duration,
}

/// Runs one seed and judges it. A panic is a broken promise like any other.
#[must_use]
pub fn judge(settings: Settings) -> Judged {
    let began = cpu_time();
    let ran = catch_unwind(AssertUnwindSafe(|| {
        let outcome = run(settings);
        let (violations, staleness) = check::check(&outcome.history);
        (outcome, violations, staleness)
    }));
    let cpu = cpu_time().saturating_sub(began);
    match ran {
        Ok((outcome, violations, staleness)) => {
            let Outcome { history, counts, trace, succeeded, asked_again, batches_destroyed, healed } =
                outcome;
            let history = (!violations.is_empty()).then_some(history);
            Judged {
                settings,
                violations,
                history,
                counts,
                staleness,
                trace,
                succeeded,
                asked_again,
                batches_destroyed,
                healed,
                cpu,
            }
        }
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            let what = text.unwrap_or_else(|| "without a message".to_owned());
            Judged {
                settings,
                violations: vec![Violation { promise: Promise::Panic, at: None, what }],
                history: None,
                counts: Counts::default(),
                staleness: Staleness::default(),
                trace: String::new(),
                succeeded: 0,
                asked_again: 0,
                batches_destroyed: 0,
                healed: Healed::default(),
                cpu,
            }
        }
    }
}

/// Judges all of `settings`, in parallel, and hands each to `told` in order, until that says to stop.
pub fn judge_all(settings: &[Settings], mut told: impl FnMut(Judged) -> bool + Send) {
    let next = AtomicU64::new(0);
    let waiting: Mutex<(u64, BTreeMap<u64, Judged>)> = Mutex::new((0, BTreeMap::new()));
    let told: Mutex<&mut (dyn FnMut(Judged) -> bool + Send)> = Mutex::new(&mut told);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads.min(settings.len()) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(settings_of) = settings.get(at as usize) else { return };
                    let judged = judge(*settings_of);
                    let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
                    waiting.1.insert(at, judged);
                    while let (turn, Some(judged)) = {
                        let turn = waiting.0;
                        (turn, waiting.1.remove(&turn))
                    } {
                        waiting.0 = turn + 1;
                        let goes_on = told.lock().unwrap_or_else(PoisonError::into_inner)(judged);
                        if !goes_on {
                            next.store(settings.len() as u64, Ordering::Relaxed);
                            waiting.0 = u64::MAX;
                        }
                    }
                }
            });
        }
    });
}

/// How much CPU time this thread has had.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}
