//! How fast background work may go: as fast as the foreground bears.
//!
//! A fixed rate is wrong twice: on a slow disk it harms, on an idle node it wastes hours. So the rate follows what the
//! foreground notices, as the paper has it (section 6.5): while one in a hundred of its operations takes longer than
//! it should, the rate is halved each period; while there is room it grows, by a fixed step; while nobody waits for
//! anything it doubles. It never falls to nothing: what is never repaired harms everybody in the end.

use hdrhistogram::Histogram;

/// With fewer operations in a period hardly anybody waits. Those that there are may be few because they take long.
const FEW: u64 = 32;
/// What a latency is counted as at most, in microseconds.
const LONGEST: u64 = 60_000_000;
/// In how many steps the rate grows from nothing to its most.
const STEPS: u64 = 8;

/// Between which bounds a rate is kept, and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes a second that are always allowed.
    pub least: u64,
    /// Bytes a second that are never exceeded.
    pub most: u64,
    /// What 99 of 100 foreground operations should take at most, in microseconds.
    pub target: u64,
}

impl Limits {
    /// From 1 to 64 MiB a second, and 20 milliseconds.
    pub const USUAL: Self = Self { least: 1 << 20, most: 64 << 20, target: 20_000 };
}

/// See the module. All is O(1), but for [`Pace::adapt`], which looks through some hundred counters.
///
/// ```
/// use gramme_admission::{Limits, Pace};
/// let mut pace = Pace::new(Limits { least: 10, most: 800, target: 1_000 });
/// assert_eq!(pace.rate(), 800);
/// (0..100).for_each(|_| pace.note(5_000));
/// assert_eq!(pace.adapt(0), 400);
/// (0..100).for_each(|_| pace.note(100));
/// assert_eq!(pace.adapt(0), 500);
/// assert_eq!(pace.adapt(0), 800, "nobody waits for anything");
/// ```
#[derive(Debug)]
pub struct Pace {
    limits: Limits,
    rate: u64,
    latencies: Histogram<u32>,
    p99: u64,
}

impl Pace {
    /// At full speed.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let Limits { least, most, target } = limits;
        let limits = Limits { least: least.clamp(1, most.max(1)), most: most.max(1), target };
        // Two digits, up to a minute: valid bounds.
        let latencies = Histogram::new_with_max(LONGEST, 2).unwrap_or_else(|_| unreachable!("valid bounds"));
        Self { limits, rate: limits.most, latencies, p99: 0 }
    }

    /// A foreground operation took so many microseconds.
    pub fn note(&mut self, micros: u64) {
        self.latencies.saturating_record(micros);
    }

    /// A period is over, of a second perhaps. What is still under way has taken up to `waiting` microseconds by now: a disk
    /// that stands still ends nothing. Returns the new rate.
    pub fn adapt(&mut self, waiting: u64) -> u64 {
        let is_idle = self.latencies.len() < FEW;
        let p99 = if self.latencies.is_empty() { 0 } else { self.latencies.value_at_quantile(0.99) };
        self.p99 = p99.max(waiting);
        self.latencies.reset();
        let Limits { least, most, target } = self.limits;
        self.rate = match self.p99 {
            p99 if p99 > target => self.rate / 2,
            // Not so near to what is too much that the next step would be.
            p99 if p99 > target / 4 * 3 => self.rate,
            _ if is_idle => self.rate.saturating_mul(2),
            _ => self.rate.saturating_add(most.div_ceil(STEPS)),
        }
        .clamp(least, most);
        self.rate
    }

    /// Bytes a second.
    #[must_use]
    pub const fn rate(&self) -> u64 {
        self.rate
    }

    /// What 99 of 100 operations of the last period took at most, in microseconds; 0 if there were none.
    #[must_use]
    pub const fn p99(&self) -> u64 {
        self.p99
    }

    /// The bounds.
    #[must_use]
    pub const fn limits(&self) -> Limits {
        self.limits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { least: 100, most: 800, target: 1_000 };

    fn period(pace: &mut Pace, micros: u64) -> u64 {
        (0..200).for_each(|_| pace.note(micros));
        pace.adapt(0)
    }

    #[test]
    fn it_falls_fast_and_rises_in_steps() {
        let mut pace = Pace::new(LIMITS);
        let fallen: Vec<_> = (0..5).map(|_| period(&mut pace, 1_200)).collect();
        assert_eq!(fallen, [400, 200, 100, 100, 100]);
        assert_eq!(period(&mut pace, 900), 100, "near what is too much");
        let risen: Vec<_> = (0..8).map(|_| period(&mut pace, 500)).collect();
        assert_eq!(risen, [200, 300, 400, 500, 600, 700, 800, 800]);
    }

    #[test]
    fn one_in_a_hundred_decides() {
        let mut pace = Pace::new(LIMITS);
        (0..995).for_each(|_| pace.note(100));
        (0..5).for_each(|_| pace.note(50_000));
        assert_eq!(pace.adapt(0), 800);
        (0..970).for_each(|_| pace.note(100));
        (0..30).for_each(|_| pace.note(50_000));
        assert_eq!(pace.adapt(0), 400);
        assert!(pace.p99().abs_diff(50_000) < 5_000, "{}", pace.p99());
    }

    #[test]
    fn few_that_all_wait_too_long_are_no_sign_of_room() {
        let mut pace = Pace::new(LIMITS);
        while period(&mut pace, 5_000) > LIMITS.least {}
        for _ in 0..10 {
            (0..31).for_each(|_| pace.note(40_000));
            pace.adapt(0);
        }
        assert_eq!((pace.rate(), pace.p99() > LIMITS.target), (LIMITS.least, true));
        (0..200).for_each(|_| pace.note(LIMITS.target - 10));
        assert_eq!(pace.adapt(0), LIMITS.least, "what is just right is not rounded to too much");
        assert!(pace.p99() <= LIMITS.target);
    }

    #[test]
    fn a_disk_that_stands_still_is_not_idle() {
        let mut pace = Pace::new(LIMITS);
        assert_eq!(pace.adapt(5_000_000), 400);
        assert_eq!(pace.adapt(0), 800);
    }

    #[test]
    fn nothing_it_is_told_makes_it_overflow_or_stop() {
        for limits in [
            Limits { least: 0, most: 0, target: 0 },
            Limits { least: u64::MAX, most: u64::MAX, target: u64::MAX },
            Limits { least: 9, most: 3, target: 1 },
        ] {
            let mut pace = Pace::new(limits);
            for micros in [0, u64::MAX, 1] {
                assert!(period(&mut pace, micros) > 0 && pace.adapt(u64::MAX) > 0);
            }
        }
    }
}
