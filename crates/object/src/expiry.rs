//! Values that end by themselves.
//!
//! A timer on each replica would fight anti-entropy: whoever has dropped a value looks outdated to whoever has not, gets it
//! back, and drops it again (riak#981). So the instant is part of the version, the same on every replica, and a value
//! that has expired is a delete to readers from then on, whether anybody has dropped it or not. To drop it changes
//! nothing but space: the version stays, with its dot, as a tombstone, and goes as tombstones do.
//!
//! The instant is fixed once, by the write's coordinator. A lifetime would begin anew with every copy.

use crate::limits::LATEST_EXPIRY;

/// When a write's value is to expire.
///
/// ```
/// use gramme_object::Expiry;
/// assert_eq!(Expiry::After(5_000).instant(0, 1_000_000), Some(1_005_000));
/// assert_eq!(Expiry::AsBucket.instant(60, 1_000_000), Some(1_060_000));
/// assert_eq!(Expiry::AsBucket.instant(0, 1_000_000), None);
/// assert_eq!(Expiry::Never.instant(60, 1_000_000), None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expiry {
    /// As the bucket says.
    #[default]
    AsBucket,
    /// Never, whatever the bucket says.
    Never,
    /// So many milliseconds after the write.
    After(u64),
    /// At this time, in milliseconds since 1970.
    At(u64),
}

gramme_codec::enums! { Expiry { AsBucket = 0, Never = 1, After(millis) = 2, At(millis) = 3 } }

impl Expiry {
    /// When it expires, in milliseconds since 1970, if it does: in a bucket whose values live for `ttl` seconds (0: for
    /// ever), written at `now`. Never later than [`LATEST_EXPIRY`].
    #[must_use]
    pub fn instant(self, ttl: u32, now: u64) -> Option<u64> {
        let instant = match self {
            Self::AsBucket if ttl == 0 => return None,
            Self::Never => return None,
            Self::AsBucket => now.saturating_add(u64::from(ttl) * 1_000),
            Self::After(millis) => now.saturating_add(millis),
            Self::At(instant) => instant,
        };
        Some(instant.min(LATEST_EXPIRY))
    }
}
