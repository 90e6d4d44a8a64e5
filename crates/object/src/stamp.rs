//! Hybrid logical time.

/// When a version was written, as its coordinator saw it: milliseconds since 1970 in the upper 48 bits, and a
/// counter below that orders what one clock could not (Kulkarni and others, 2014).
///
/// Stamps decide nothing about causality. Last-write-wins buckets read the greatest among *concurrent*
/// siblings, and HTTP shows it as `Last-Modified`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(pub u64);

impl Stamp {
    /// How far ahead of our clock another's stamp may be before it is refused, in milliseconds. A clock that
    /// runs away would otherwise win every conflict for ever.
    pub const MAX_AHEAD_MILLIS: u64 = 10_000;

    /// The first stamp of a millisecond.
    #[must_use]
    pub const fn at_millis(millis: u64) -> Self {
        Self(millis << 16)
    }

    /// Its milliseconds since 1970.
    #[must_use]
    pub const fn millis(self) -> u64 {
        self.0 >> 16
    }

    /// A stamp after `self`, at `wall_millis` if that is later: never goes back, whatever the clock does.
    ///
    /// ```
    /// use gramme_object::Stamp;
    /// let first = Stamp::at_millis(1_000);
    /// assert!(first.next(900) > first && first.next(900).millis() == 1_000);
    /// assert_eq!(first.next(2_000), Stamp::at_millis(2_000));
    /// ```
    #[must_use]
    pub const fn next(self, wall_millis: u64) -> Self {
        let wall = Self::at_millis(wall_millis);
        if wall.0 > self.0 { wall } else { Self(self.0.saturating_add(1)) }
    }

    /// Whether it is so far ahead of `wall_millis` that our own stamps should not follow it. Half of what is
    /// refused, so that what we write after it is not refused elsewhere.
    #[must_use]
    pub const fn is_ahead(self, wall_millis: u64) -> bool {
        self.millis() > wall_millis.saturating_add(Self::MAX_AHEAD_MILLIS / 2)
    }

    /// Whether it is too far ahead of `wall_millis` to be believed.
    #[must_use]
    pub const fn is_runaway(self, wall_millis: u64) -> bool {
        self.millis() > wall_millis.saturating_add(Self::MAX_AHEAD_MILLIS)
    }
}
