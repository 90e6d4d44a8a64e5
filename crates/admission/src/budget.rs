//! Bytes that may be sent: so many a second, and what was not used of the last second.

/// Kept in millionths, so that what a short time brings is not rounded away.
const MILLIONTHS: u64 = 1_000_000;

/// See the crate's documentation. All is O(1).
#[derive(Debug)]
pub struct Budget {
    per_second: u64,
    /// Below zero after something that was larger than what was left.
    left: i64,
    filled: u64,
}

impl Budget {
    /// So many bytes a second, and a second's worth to begin with.
    #[must_use]
    pub fn new(per_second: u64) -> Self {
        // A rate of nothing would never send anything again.
        let per_second = per_second.clamp(1, 1 << 40);
        Self { per_second, left: (per_second * MILLIONTHS).cast_signed(), filled: 0 }
    }

    /// Fills so fast from `now` on.
    pub fn set_rate(&mut self, now: u64, per_second: u64) {
        self.fill(now);
        self.per_second = per_second.clamp(1, 1 << 40);
        self.left = self.left.min(self.most());
    }

    const fn most(&self) -> i64 {
        (self.per_second * MILLIONTHS).cast_signed()
    }

    /// Lets it fill until now, in microseconds that never go back; never above what a second brings.
    pub fn fill(&mut self, now: u64) {
        // More than a minute pays for anything.
        let elapsed = now.saturating_sub(self.filled).min(60 * MILLIONTHS);
        let more = signed(elapsed.saturating_mul(self.per_second));
        self.left = self.left.saturating_add(more).min(self.most());
        self.filled = now;
    }

    /// Whether something may be sent, however large it is: what it takes too much is missing next time.
    #[must_use]
    pub const fn has_some(&self) -> bool {
        self.left > 0
    }

    /// Takes what is sent, whether it is there or not.
    pub fn take(&mut self, bytes: u64) {
        self.left = self.left.saturating_sub(signed(bytes.saturating_mul(MILLIONTHS)));
    }

    /// When something may be sent again, in microseconds.
    #[must_use]
    pub const fn ready_at(&self) -> u64 {
        let missing = self.left.saturating_neg();
        if missing < 0 { self.filled } else { self.filled + missing.unsigned_abs() / self.per_second + 1 }
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_brings_so_many_bytes_a_second_and_saves_one() {
        let mut budget = Budget::new(1_000);
        budget.take(1_500);
        assert!(!budget.has_some());
        assert_eq!(budget.ready_at(), 500_001);
        budget.fill(499_999);
        assert!(!budget.has_some());
        budget.fill(budget.ready_at());
        assert!(budget.has_some());
        budget.fill(1_000_000_000);
        budget.take(1_000);
        assert!(!budget.has_some(), "a second's worth was saved, not more");
        assert_eq!(budget.ready_at(), 1_000_000_001);
        let mut slower = Budget::new(1_000);
        slower.set_rate(0, 10);
        slower.take(10);
        assert!(!slower.has_some(), "no more is saved than a second brings");
        // Nothing it is told makes it overflow.
        for per_second in [0, 1, u64::MAX] {
            let mut budget = Budget::new(per_second);
            budget.take(u64::MAX);
            assert!(!budget.has_some());
            budget.fill(u64::MAX);
        }
    }
}
