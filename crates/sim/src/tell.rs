//! What is printed of broken runs, and of all runs together.

use std::collections::BTreeMap;
use std::time::Duration;

use gramme_sim::check::{Promise, Staleness};
use gramme_sim::{Counts, Fault, FaultSet, Healed, Judged, judge, report, shrink};

/// Violations of one run that are printed.
pub(crate) const MOST: usize = 5;
/// Broken runs after which a batch ends.
const BROKEN: u64 = 20;

/// Tells what a run broke: the promises, the command that replays it, and, if it is to be made shorter, the
/// shorter one with what happened to its key.
pub(crate) fn violations(judged: &Judged, shorten: bool) {
    let Some(first) = judged.violations.first() else { return };
    println!("seed {} broke {} promises", judged.settings.seed, judged.violations.len());
    for violation in judged.violations.iter().take(MOST) {
        println!("  {violation}");
    }
    println!("  replay: {}", judged.settings.command());
    if !shorten {
        return;
    }
    let broken = |settings| judge(settings).violations.first().map(|violation| violation.promise);
    let short = judge(shrink(judged.settings, first.promise, broken));
    println!("  shorter: {}", short.settings.command());
    println!("  {}", short.settings);
    for violation in short.violations.iter().take(MOST) {
        println!("  {violation}");
    }
    let at = short.violations.iter().find_map(|violation| violation.at);
    if let (Some((key, at)), Some(history)) = (at, &short.history) {
        println!("{}", report::story_of(history, key, at));
    }
}

/// All runs together.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    runs: u64,
    operations: u64,
    succeeded: u64,
    asked_again: u64,
    batches_destroyed: u64,
    healed: Healed,
    cpu: Duration,
    counts: Counts,
    enabled: BTreeMap<Fault, (u64, u64)>,
    staleness: Staleness,
    traces: blake3::Hasher,
    broken: u64,
    first: Option<Promise>,
}

impl Tally {
    pub(crate) fn add(&mut self, judged: &Judged) {
        self.runs += 1;
        self.operations += judged.settings.operations;
        self.succeeded += judged.succeeded;
        self.asked_again += judged.asked_again;
        self.batches_destroyed += judged.batches_destroyed;
        self.healed.add(&judged.healed);
        self.cpu += judged.cpu;
        self.counts.add(&judged.counts);
        for fault in judged.settings.faults.iter() {
            let (on, idle) = self.enabled.entry(fault).or_default();
            *on += 1;
            *idle += u64::from(judged.counts.of(fault) == 0);
        }
        self.staleness.add(&judged.staleness);
        self.traces.update(judged.trace.as_bytes());
        self.broken += u64::from(!judged.violations.is_empty());
        self.first = self.first.or(judged.violations.first().map(|violation| violation.promise));
    }

    pub(crate) const fn is_broken(&self) -> bool {
        self.broken > 0
    }

    pub(crate) const fn goes_on(&self) -> bool {
        self.broken < BROKEN
    }

    pub(crate) fn exit_code(&self) -> u8 {
        self.first.map_or(0, Promise::exit_code)
    }

    pub(crate) fn trace(&self) -> String {
        self.traces.finalize().to_hex().to_string()
    }

    pub(crate) fn summary(&self, elapsed: Duration) -> String {
        let idle = self.enabled.iter().filter(|(_, (_, idle))| *idle > 0);
        let idle: Vec<_> = idle.map(|(fault, (on, idle))| format!("{fault} in {idle} of {on}")).collect();
        let never: FaultSet = Fault::ALL.into_iter().filter(|fault| self.counts.of(*fault) == 0).collect();
        let per_second = self.operations as f64 / self.cpu.as_secs_f64().max(f64::MIN_POSITIVE);
        [
            format!("fired: {}; batches destroyed {}", self.counts, self.batches_destroyed),
            format!(
                "on, and never fired: {}",
                if idle.is_empty() { "none".to_owned() } else { idle.join(", ") }
            ),
            format!("never fired in any run: {never}"),
            self.staleness.to_string(),
            self.healed.to_string(),
            format!(
                "{} runs, {} broken; {} of {} operations succeeded, {} requests asked of another node; \
                 {per_second:.0} operations a second of CPU time, {:.0} s",
                self.runs,
                self.broken,
                self.succeeded,
                self.operations,
                self.asked_again,
                elapsed.as_secs_f64()
            ),
        ]
        .join("\n")
    }
}
