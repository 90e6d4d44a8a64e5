//! When to wake up, and for what.

use std::collections::BTreeSet;

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// Say hello to everybody.
    Hello,
    /// Gossip.
    Gossip,
    /// Compare with other replicas.
    AntiEntropy,
    /// Adapt how fast work goes that nobody waits for.
    Pace,
    /// Look for what can be forgotten.
    Reclaim,
    /// See how partitions that move get on.
    Transfer,
    /// The decision on the next layout.
    Deciding,
    /// A plan that is being decided.
    Plan,
    /// Who was asked how far it is has had its time.
    Asked,
    /// Look for copies that can be handed on.
    HandoffRound,
    /// The handing on of copies.
    Handoff,
    /// The others have had their time to say what they remember.
    Prove,
    Get(u64),
    /// Ask again for what a session needs.
    GetAgain(u64),
    /// Ask for a large value that has not come.
    GetValue(u64),
    Put(u64),
    Forward(u64),
    List(u64),
    Explain(u64),
    Properties(u64),
}

/// Timers by their time. A timer whose purpose is gone is harmless: its handler finds nothing.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    waiting: BTreeSet<(u64, Timer)>,
    armed: Option<u64>,
    /// Those that were due last.
    last: Vec<Timer>,
}

impl Timers {
    pub(crate) fn set(&mut self, at: u64, timer: Timer) {
        self.waiting.insert((at, timer));
    }

    pub(crate) fn cancel(&mut self, at: u64, timer: Timer) {
        self.waiting.remove(&(at, timer));
    }

    /// Moves a timer that is `set`, or is not yet, to an earlier time. One that fires too early is set anew.
    pub(crate) fn hurry(&mut self, set: &mut Option<u64>, due: Option<u64>, timer: Timer) {
        let Some(due) = due.filter(|due| set.is_none_or(|set| *due < set)) else { return };
        if let Some(later) = set.replace(due) {
            self.cancel(later, timer);
        }
        self.set(due, timer);
    }

    /// Takes those that are due.
    pub(crate) fn due(&mut self, now: u64) -> Vec<Timer> {
        let mut due = Vec::new();
        while let Some(&(at, timer)) = self.waiting.first().filter(|(at, _)| *at <= now) {
            self.waiting.remove(&(at, timer));
            due.push(timer);
        }
        self.armed = None;
        self.last.clone_from(&due);
        due
    }

    /// The name of what was due last.
    pub(crate) fn last(&self) -> String {
        let name = |timer: &Timer| format!("{timer:?}").split('(').next().unwrap_or_default().to_owned();
        let mut names: Vec<String> = self.last.iter().map(name).collect();
        names.sort_unstable();
        names.dedup();
        match names.len() {
            1 => names.remove(0),
            // One name for whatever came together: there are too many ways.
            _ => "several".to_owned(),
        }
    }

    /// The time to be woken, if it is another than the one last asked for.
    pub(crate) fn take_change(&mut self) -> Option<u64> {
        let next = self.waiting.first().map(|(at, _)| *at)?;
        // A timer that fires early finds nothing due and is armed again; only an earlier one must be told.
        if self.armed.is_some_and(|armed| armed <= next) {
            return None;
        }
        self.armed = Some(next);
        Some(next)
    }
}
