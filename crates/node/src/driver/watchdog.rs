//! What holds the loop up.
//!
//! Everything of a shard happens on one thread, one thing after another. Something that takes long there is waited for by
//! all, pings among them: a node that does something slow looks dead to the others, and a quorum may be lost for it
//! (garage#1396). So whatever takes longer than a few milliseconds is counted by its name, and what takes much longer is
//! told at once. Background work is cut into parts; this shows where the parts are too large.
//!
//! What takes long without using a processor has waited: for one, on a machine that has too few, or for a disk or a lock.
//! What the thread itself has used tells the two apart.

use std::time::Duration;

use gramme_replica::{Input, Replica};

use super::Shared;

/// From how long on it counts.
const STALL: Duration = Duration::from_millis(5);
/// From how long on it is told in the log.
const TOLD: Duration = Duration::from_millis(50);

/// What the thread has used of a processor so far.
pub(super) fn used() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(used.tv_sec as u64, used.tv_nsec as u32)
}

/// What the loop is about to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Doing {
    kind: &'static str,
    message: &'static str,
}

impl Doing {
    pub(super) const fn of(input: &Input) -> Self {
        let (kind, message) = match input {
            Input::Client { request, .. } => ("client", request.name()),
            Input::Message { message, .. } => ("message", message.name()),
            Input::Undelivered { .. } => ("undelivered", ""),
            Input::PeerUp(_) | Input::PeerSuspect(_) | Input::PeerDown(_) => ("peer", ""),
            Input::Loaded { .. } => ("loaded", ""),
            Input::Scanned { .. } => ("scanned", ""),
            Input::Committed { .. } | Input::CommitFailed => ("committed", ""),
            Input::Room(_) => ("room", ""),
            Input::Timer => ("timer", ""),
        };
        Self { kind, message }
    }

    /// It is done, and took so long; `before` is what the thread had [`used`] when it began, or earlier. Says whether that
    /// was long.
    pub(super) fn done(self, took: Duration, before: Duration, replica: &Replica, shared: &Shared) -> bool {
        if took < STALL {
            return false;
        }
        let name = match self.kind {
            "timer" => format!("timer {}", replica.last_timers()),
            kind if self.message.is_empty() => kind.to_owned(),
            kind => format!("{kind} {}", self.message),
        };
        let has_waited = used().saturating_sub(before) < STALL;
        let what = if has_waited { format!("waiting in {name}") } else { name };
        if took >= TOLD {
            tracing::warn!(what, millis = took.as_millis() as u64, "the loop was held up");
        }
        shared.metrics.note_stall(what);
        true
    }
}
