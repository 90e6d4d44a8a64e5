//! Which keys a worker uses, and in what order.
//!
//! Each worker has keys of its own, so that a writer replaces only what it wrote itself.

use rand::seq::SliceRandom as _;

use crate::cli::{BenchArgs, Workload};

/// The keys of one worker out of `args.in_flight`: every `in_flight`th, so at least one, as there are no fewer
/// keys than workers.
pub(super) struct Keys {
    worker: u64,
    workers: u64,
    all: u64,
}

impl Keys {
    pub(super) fn of(worker: u64, args: &BenchArgs) -> Self {
        Self { worker, workers: u64::from(args.in_flight), all: args.keys }
    }

    /// Each of them once, in order.
    pub(super) fn each(&self) -> impl Iterator<Item = u64> + use<> {
        (self.worker..self.all).step_by(self.workers as usize)
    }

    /// What the workload does next, for as long as it is asked; until each key had its turn with `--once`.
    pub(super) fn order(self, args: &BenchArgs) -> Box<dyn Iterator<Item = u64> + Send> {
        let Self { worker, workers, all } = self;
        let own = self.each().count() as u64;
        match (args.workload, args.once) {
            (Workload::Insert, true) => Box::new(self.each()),
            (Workload::Insert, false) => Box::new((worker..).step_by(workers as usize)),
            (_, true) => {
                let mut keys: Vec<u64> = self.each().collect();
                keys.shuffle(&mut rand::rng());
                Box::new(keys.into_iter())
            }
            (Workload::Get, false) => Box::new(std::iter::repeat_with(move || rand::random_range(0..all))),
            (Workload::Put, false) => {
                Box::new(std::iter::repeat_with(move || worker + workers * rand::random_range(0..own)))
            }
        }
    }
}
