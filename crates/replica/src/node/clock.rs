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
#[derive(Debug)]
pub(crate) struct Clock {
    /// There is nobody to compare with.
    is_alone: bool,
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
    pub(crate) const fn new(is_alone: bool) -> Self {
        Self { is_alone, peers: BTreeMap::new() }
    }

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

    /// The time that the clocks of all these nodes, and ours, have reached, in milliseconds since 1970; nothing if one
    /// has not told its clock since this start. A node that is gone is believed to go on as it did.
    pub(crate) fn slowest(&self, nodes: impl Iterator<Item = NodeId>, now: Now) -> Option<u64> {
        let latest = |node| self.peers.get(&node).and_then(|samples| samples.last.iter().max());
        let ours = Some(now.wall.min(self.range(now).0 * 1_000));
        let theirs =
            nodes.map(|node| Some(now.monotonic.checked_add_signed(*latest(node)?).unwrap_or_default()));
        theirs
            .chain([ours])
            .try_fold(u64::MAX, |slowest, wall| Some(slowest.min(wall?)))
            .map(|wall| wall / 1_000)
    }

    /// Whether any peer has told its clock since this start, if there are any.
    pub(crate) fn is_compared(&self) -> bool {
        self.is_alone || !self.peers.is_empty() || planted!(TrustClock)
    }

    /// By how many microseconds the median of the peers' clocks, and of `more`, is ahead of ours, if that is far.
    fn far_median(&self, now: Now, more: Option<i64>) -> Option<i64> {
        let ours = now.wall.cast_signed().wrapping_sub(now.monotonic.cast_signed());
        let latest = self.peers.values().filter_map(|samples| samples.last.iter().max());
        let ahead = latest.map(|theirs| theirs.wrapping_sub(ours));
        // Almost always all are near, and nothing is sorted.
        if !ahead.clone().any(is_far) {
            return None;
        }
        let mut ahead: Vec<i64> = ahead.chain(more).collect();
        ahead.sort_unstable();
        // Of the two in the middle the one that agrees with us.
        let (lower, upper) = (ahead[(ahead.len() - 1) / 2], ahead[ahead.len() / 2]);
        let median = if lower.unsigned_abs() < upper.unsigned_abs() { lower } else { upper };
        is_far(median).then_some(median)
    }

    /// Between which times it is, in milliseconds since 1970: two, if our clock and the only other one that has been heard
    /// are far apart. One that has heard no other knows nothing.
    pub(crate) fn range(&self, now: Now) -> (u64, u64) {
        if !self.is_compared() {
            return (0, u64::MAX);
        }
        let ours = self.millis(now);
        let ahead = self.is_off(now).filter(|_| self.peers.len() == 1).unwrap_or_default();
        let theirs = ours.saturating_add_signed(ahead / 1_000);
        (ours.min(theirs), ours.max(theirs))
    }

    /// By how much our clock is off, in microseconds, if that is far. A single peer is enough to doubt it.
    pub(crate) fn is_off(&self, now: Now) -> Option<i64> {
        self.far_median(now, None)
    }

    /// The time to go by, in milliseconds since 1970: ours, unless it is far from most others'. A single peer is not
    /// enough to go by that one's.
    pub(crate) fn millis(&self, now: Now) -> u64 {
        now.wall.saturating_add_signed(self.far_median(now, Some(0)).unwrap_or_default()) / 1_000
    }
}

fn is_far(ahead: i64) -> bool {
    ahead.unsigned_abs() > FAR.unsigned_abs() && !planted!(TrustClock)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000_000;
    const NOW: Now = Now { monotonic: 7_000_000, wall: 100 * HOUR };

    fn heard(walls: &[u64]) -> Clock {
        let mut clock = Clock::new(false);
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
        let doubted = heard(&[NOW.wall + HOUR]);
        assert!(doubted.is_off(NOW).is_some());
        assert_eq!(doubted.millis(NOW), NOW.wall / 1_000, "one peer is not enough to go by");
        assert_eq!(doubted.range(NOW), (NOW.wall / 1_000, (NOW.wall + HOUR) / 1_000));
        let behind = heard(&[NOW.wall - HOUR]);
        assert_eq!(
            behind.slowest(std::iter::empty(), NOW),
            Some((NOW.wall - HOUR) / 1_000),
            "it may be right"
        );
        assert_eq!(heard(&[]).slowest(std::iter::empty(), NOW), Some(0));
        assert_eq!(Clock::new(true).slowest(std::iter::empty(), NOW), Some(NOW.wall / 1_000));
        assert_eq!(heard(&[NOW.wall + HOUR, NOW.wall]).range(NOW), (NOW.wall / 1_000, NOW.wall / 1_000));
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
