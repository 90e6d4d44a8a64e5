//! The machine: what happens goes in, what is to be done comes out.

use std::collections::BTreeMap;

use bytes::Bytes;
use gramme_admission::Budget;
use gramme_ring::NodeId;

use crate::run::{Progress, Reading, Run};

/// How it behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Deliveries to one target that wait for an answer at once.
    pub at_once: usize,
    /// Rows read at once.
    pub page: usize,
    /// Bytes of rows a second, over all targets.
    pub bytes_per_second: u64,
    /// How long a delivery may take, in microseconds.
    pub patience: u64,
}

impl Config {
    /// 32 deliveries at once, pages of 128 rows, 16 MiB a second, 10 seconds for a delivery.
    pub const USUAL: Self = Self { at_once: 32, page: 128, bytes_per_second: 16 << 20, patience: 10_000_000 };
}

/// Something happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input<K> {
    /// Something is kept for these, and they can be reached: those without a run begin one.
    Round(Vec<NodeId>),
    /// A page was read.
    Page {
        /// The run that it was asked for.
        run: u64,
        /// The rows and their objects, in order.
        rows: Vec<(K, Bytes)>,
        /// After which row it goes on, if it does.
        next: Option<K>,
    },
    /// A page could not be read for this run.
    Unread(u64),
    /// The connection to this node is gone, and with it what was under way.
    Gone(NodeId),
    /// A delivery has ended.
    Answered {
        /// Which.
        delivery: u64,
        /// How.
        outcome: Outcome,
    },
    /// The time of [`Handoff::next_timer`] has come.
    Timer,
}

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The target has it, and will have it after a loss of power.
    Kept,
    /// The target will not take this row.
    Refused,
    /// The target cannot be reached, or has too much to do: nothing more is sent to it for now.
    Failed,
}

/// Something is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect<K> {
    /// Read a page of what is kept for this node.
    Scan {
        /// To be named by [`Input::Page`].
        run: u64,
        /// Whom.
        target: NodeId,
        /// Only rows after this one.
        after: Option<K>,
        /// At most so many.
        limit: usize,
    },
    /// Deliver a row to its target.
    Deliver {
        /// By this number.
        delivery: u64,
        /// To whom.
        target: NodeId,
        /// Which row.
        row: K,
        /// Its object.
        object: Bytes,
    },
    /// Delete a row that was delivered, if its object is still this.
    Forget {
        /// Which row.
        row: K,
        /// What was delivered.
        object: Bytes,
    },
}

/// What has been counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Rows that their targets have.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Rows that their targets refused.
    pub refused: u64,
    /// Deliveries that failed.
    pub failed: u64,
}

#[derive(Debug)]
struct Delivery<K> {
    run: u64,
    target: NodeId,
    row: K,
    object: Bytes,
    until: u64,
}

/// All runs of one node.
#[derive(Debug)]
pub struct Handoff<K> {
    config: Config,
    budget: Budget,
    runs: BTreeMap<NodeId, Run<K>>,
    deliveries: BTreeMap<u64, Delivery<K>>,
    /// The last number that was given to a run or a delivery.
    last: u64,
    /// Who is served first when the budget is short: each in turn.
    turn: NodeId,
    stats: Stats,
}

impl<K: Clone> Handoff<K> {
    /// One without runs.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let budget = Budget::new(config.bytes_per_second);
        let (runs, deliveries) = (BTreeMap::new(), BTreeMap::new());
        Self { config, budget, runs, deliveries, last: 0, turn: NodeId(0), stats: Stats::default() }
    }

    /// Delivers so many bytes a second from `now` on.
    pub fn set_rate(&mut self, now: u64, bytes_per_second: u64) {
        self.budget.set_rate(now, bytes_per_second);
    }

    /// How far each run has come.
    pub fn runs(&self) -> impl Iterator<Item = Progress> {
        self.runs.values().map(|run| run.progress)
    }

    /// What it has counted.
    #[must_use]
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }

    /// When [`Input::Timer`] is to come, if it must.
    #[must_use]
    pub fn next_timer(&self) -> Option<u64> {
        // Deliveries have increasing deadlines.
        let silent = self.deliveries.first_key_value().map(|(_, delivery)| delivery.until);
        let is_waiting = self.runs.values().any(|run| !run.waiting.is_empty());
        let paid = (is_waiting && !self.budget.has_some()).then(|| self.budget.ready_at());
        silent.into_iter().chain(paid).min()
    }

    /// Whether the end of a delivery is still waited for.
    #[must_use]
    pub fn awaits(&self, delivery: u64) -> bool {
        self.deliveries.contains_key(&delivery)
    }

    /// Handles one input at `now` (microseconds that never go back).
    pub fn step(&mut self, now: u64, input: Input<K>, out: &mut Vec<Effect<K>>) {
        self.budget.fill(now);
        match input {
            Input::Round(targets) => targets.into_iter().for_each(|target| self.begin(now, target, out)),
            Input::Page { run, rows, next } => self.on_page(run, rows, next),
            Input::Unread(run) => self.runs.retain(|_, of| of.number != run),
            Input::Gone(target) => {
                self.runs.remove(&target);
                self.deliveries.retain(|_, delivery| delivery.target != target);
            }
            Input::Answered { delivery, outcome } => self.on_answer(delivery, outcome, out),
            Input::Timer => self.expire(now),
        }
        self.pump(now, out);
    }

    fn begin(&mut self, now: u64, target: NodeId, out: &mut Vec<Effect<K>>) {
        if let std::collections::btree_map::Entry::Vacant(entry) = self.runs.entry(target) {
            self.last += 1;
            entry.insert(Run::new(self.last, target, now));
            out.push(Effect::Scan { run: self.last, target, after: None, limit: self.config.page });
        }
    }

    fn on_page(&mut self, run: u64, rows: Vec<(K, Bytes)>, next: Option<K>) {
        // One that was asked for by a run that has ended is for nobody.
        let Some(run) = self.runs.values_mut().find(|of| of.number == run) else { return };
        run.waiting.extend(rows);
        run.reading = next.map_or(Reading::Done, Reading::After);
    }

    /// The run of a number, if it has not ended.
    fn run(&mut self, target: NodeId, number: u64) -> Option<&mut Run<K>> {
        self.runs.get_mut(&target).filter(|run| run.number == number)
    }

    fn on_answer(&mut self, delivery: u64, outcome: Outcome, out: &mut Vec<Effect<K>>) {
        let Some(delivery) = self.deliveries.remove(&delivery) else { return };
        let Delivery { run: number, target, row, object, .. } = delivery;
        if let Some(run) = self.run(target, number) {
            run.in_flight = run.in_flight.saturating_sub(1);
        }
        match outcome {
            Outcome::Kept => {
                let bytes = object.len() as u64;
                self.stats.rows += 1;
                self.stats.bytes += bytes;
                if let Some(run) = self.run(target, number) {
                    run.progress.rows += 1;
                    run.progress.bytes += bytes;
                }
                out.push(Effect::Forget { row, object });
            }
            Outcome::Refused => self.stats.refused += 1,
            Outcome::Failed => self.fail(target, number),
        }
    }

    /// Ends a run; what it has under way is heard of all the same.
    fn fail(&mut self, target: NodeId, number: u64) {
        self.stats.failed += 1;
        if self.run(target, number).is_some() {
            self.runs.remove(&target);
        }
    }

    /// Who has not answered in time is left alone for now. A late answer finds nothing.
    fn expire(&mut self, now: u64) {
        while let Some((&delivery, first)) = self.deliveries.first_key_value()
            && first.until <= now
        {
            let (target, run) = (first.target, first.run);
            self.deliveries.remove(&delivery);
            self.fail(target, run);
        }
    }

    /// Sends what may be sent, and has read what is wanted next.
    fn pump(&mut self, now: u64, out: &mut Vec<Effect<K>>) {
        let Self { config, budget, runs, deliveries, last, turn, .. } = self;
        let later = runs.range(*turn..).chain(runs.range(..*turn));
        let order: Vec<NodeId> = later.map(|(target, _)| *target).collect();
        for target in order {
            let Some(run) = runs.get_mut(&target) else { continue };
            while run.in_flight < config.at_once
                && budget.has_some()
                && let Some((row, object)) = run.waiting.pop_front()
            {
                budget.take(object.len() as u64);
                *turn = NodeId(target.0.wrapping_add(1));
                *last += 1;
                run.in_flight += 1;
                let until = now + config.patience;
                let delivery =
                    Delivery { run: run.number, target, row: row.clone(), object: object.clone(), until };
                deliveries.insert(*last, delivery);
                out.push(Effect::Deliver { delivery: *last, target, row, object });
            }
            if run.waiting.is_empty() && matches!(run.reading, Reading::After(_)) {
                let reading = std::mem::replace(&mut run.reading, Reading::UnderWay);
                let Reading::After(row) = reading else { continue };
                out.push(Effect::Scan { run: run.number, target, after: Some(row), limit: config.page });
            }
        }
        runs.retain(|_, run| !run.is_over());
    }
}
