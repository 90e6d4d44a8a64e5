//! Whether this node's clock is near those of its peers.
//!
//! A bucket that shows the last writer believes clocks. A node whose clock runs an hour ahead would win every
//! conflict for an hour; its peers refuse its stamps, but it has stored its own write by then, and a repair
//! carries that around. So the node itself must know better before it begins.
//!
//! Each hello tells its sender's clock. What is kept is the difference to our *monotonic* time, so that a jump
//! of our own clock shows at the very next look and not with the next hello. A hello that was delayed makes
//! its sender look slow, never fast: of the last few the greatest difference counts. One peer with a wrong
//! clock must not accuse the others: the median decides.

use std::collections::BTreeMap;

use gramme_plant::planted;
use gramme_ring::NodeId;

use crate::io::Now;

/// How far off a clock may be, in microseconds: half of what a replica refuses.
const FAR: i64 = 5_000_000;
/// Hellos of each peer that are compared.
const SAMPLES: usize = 3;

/// What is known of the peers' clocks.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    peers: BTreeMap<NodeId, Samples>,
}

#[derive(Debug)]
struct Samples {
    /// The peer's clock less our monotonic time, the last few times it told.
    last: [i64; SAMPLES],
    /// It was gone since: what it tells next counts alone, for its clock may be another by then.
    is_stale: bool,
}

impl Clock {
    pub(crate) fn hear(&mut self, from: NodeId, wall: u64, now: Now) {
        let sample = wall.cast_signed().wrapping_sub(now.monotonic.cast_signed());
        let samples = self.peers.entry(from).or_insert(Samples { last: [sample; SAMPLES], is_stale: false });
        if std::mem::take(&mut samples.is_stale) {
            samples.last = [sample; SAMPLES];
        }
        samples.last.rotate_left(1);
        samples.last[SAMPLES - 1] = sample;
    }

    /// A peer is gone. What it has told still counts: a node that is cut off must not believe itself again.
    pub(crate) fn note_down(&mut self, node: NodeId) {
        if let Some(samples) = self.peers.get_mut(&node) {
            samples.is_stale = true;
        }
    }

    /// Whether any peer has told its clock since this start.
    pub(crate) fn is_compared(&self) -> bool {
        !self.peers.is_empty() || planted!(TrustClock)
    }

    /// By how many microseconds the peers' median is ahead of our clock; 0 while nobody is known.
    fn median(&self, now: Now) -> i64 {
        let ours = now.wall.cast_signed().wrapping_sub(now.monotonic.cast_signed());
        let latest = self.peers.values().filter_map(|samples| samples.last.iter().max());
        let mut ahead: Vec<i64> = latest.map(|theirs| theirs.wrapping_sub(ours)).collect();
        ahead.sort_unstable();
        let middle = |at: usize| ahead.get(at).copied().unwrap_or_default();
        // Of the two in the middle the one that agrees with us.
        let (lower, upper) = (middle(ahead.len().saturating_sub(1) / 2), middle(ahead.len() / 2));
        if lower.unsigned_abs() < upper.unsigned_abs() { lower } else { upper }
    }

    /// By how much our clock is off, in microseconds, if that is far.
    pub(crate) fn is_off(&self, now: Now) -> Option<i64> {
        Some(self.median(now)).filter(|ahead| ahead.abs() > FAR && !planted!(TrustClock))
    }

    /// The time to stamp with, in milliseconds since 1970: ours, unless it is far from everybody else's.
    pub(crate) fn millis(&self, now: Now) -> u64 {
        now.wall.saturating_add_signed(self.is_off(now).unwrap_or_default()) / 1_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000_000;
    const NOW: Now = Now { monotonic: 7_000_000, wall: 100 * HOUR };

    fn heard(walls: &[u64]) -> Clock {
        let mut clock = Clock::default();
        for (node, wall) in (1..).zip(walls) {
            clock.hear(NodeId(node), *wall, NOW);
        }
        clock
    }

    #[test]
    fn the_median_accuses_and_one_peer_does_not() {
        assert_eq!(heard(&[]).is_off(NOW), None);
        assert_eq!(heard(&[NOW.wall + HOUR, NOW.wall]).is_off(NOW), None);
        assert_eq!(heard(&[NOW.wall - HOUR, NOW.wall]).is_off(NOW), None);
        let fast = heard(&[NOW.wall - HOUR, NOW.wall - HOUR + 9]);
        assert!(fast.is_off(NOW).is_some_and(|ahead| ahead < -(HOUR.cast_signed() - 10)));
        assert!(fast.millis(NOW).abs_diff((NOW.wall - HOUR) / 1_000) < 2);
        assert!(heard(&[NOW.wall + HOUR]).is_off(NOW).is_some());
    }

    #[test]
    fn who_is_cut_off_does_not_believe_itself_again() {
        let mut clock = heard(&[NOW.wall - HOUR, NOW.wall - HOUR]);
        [1, 2].into_iter().for_each(|node| clock.note_down(NodeId(node)));
        assert!(clock.is_off(NOW).is_some() && clock.is_compared() && !heard(&[]).is_compared());
        // Back with another clock, they are believed at once.
        [1, 2].into_iter().for_each(|node| clock.hear(NodeId(node), NOW.wall, NOW));
        assert_eq!(clock.is_off(NOW), None);
    }

    #[test]
    fn a_jump_of_our_own_is_seen_before_the_next_hello() {
        let clock = heard(&[NOW.wall, NOW.wall]);
        let later = Now { monotonic: NOW.monotonic + 1_000_000, wall: NOW.wall + 1_000_000 };
        assert_eq!(clock.is_off(later), None);
        assert_eq!(clock.is_off(Now { wall: later.wall + HOUR, ..later }), Some(-HOUR.cast_signed()));
    }

    #[test]
    fn a_delayed_hello_accuses_nobody() {
        let mut clock = heard(&[NOW.wall]);
        clock.hear(NodeId(1), NOW.wall - HOUR, NOW);
        clock.hear(NodeId(1), NOW.wall - HOUR, NOW);
        assert_eq!(clock.is_off(NOW), None);
        clock.hear(NodeId(1), NOW.wall - HOUR, NOW);
        assert!(clock.is_off(NOW).is_some());
    }
}
