//! One budget for all that nobody waits for (section 6.5 of the paper).
//!
//! Handoff, anti-entropy, the scrub and the purge each begin when they have something to do, and that is for all of them the
//! moment in which a node is back. Each with a pace of its own would add up. So there is one, which follows what the
//! node's own writes and reads take, and those that have something to do share it evenly: none starves another.

use gramme_admission::Pace;

use crate::coordinator::Around;
use crate::cx::Cx;
use crate::timers::Timer;

/// How often it is adapted, in microseconds.
const PERIOD: u64 = 1_000_000;
/// How many kinds of background work there are.
const KINDS: u64 = 4;

/// Work that nobody waits for.
pub(crate) trait Background {
    /// Whether it has something to do.
    fn is_busy(&self) -> bool;

    /// Goes so fast from now on.
    fn set_rate(&mut self, cx: &mut Cx, bytes_per_second: u64);
}

/// Adapts the rate to what the last period was like, and shares it out.
pub(crate) fn adapt(around: &mut Around<'_>, all: &mut [&mut dyn Background]) {
    let cx = &mut *around.cx;
    let now = cx.now.monotonic;
    cx.timers.set(now + PERIOD, Timer::Pace);
    let rate = cx.pace.adapt(cx.owed_since.map_or(0, |since| now.saturating_sub(since)));
    cx.stats.background_rate = rate;
    cx.stats.foreground_p99 = cx.pace.p99();
    cx.stats.background_slowed += u64::from(is_slowed(&cx.pace));
    let busy = all.iter().filter(|work| work.is_busy()).count() as u64;
    for work in all {
        // What begins within the period has what it would have if all did.
        let sharing = if work.is_busy() { busy } else { KINDS };
        work.set_rate(cx, rate / sharing);
    }
}

/// Whether background work goes slower than it may at most.
pub(crate) const fn is_slowed(pace: &Pace) -> bool {
    pace.rate() < pace.limits().most
}
