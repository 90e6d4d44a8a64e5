//! What every interface shares about requests: their limits, and reads, writes and deletes with conditions.

mod conditions;
mod objects;

pub(crate) use conditions::{Condition, Refused, Tag, object_tag, version_tag};
pub(crate) use objects::{Failed, Reading, delete, keys_page, read, touch, write};

/// How long a request waits unless it says otherwise, in milliseconds.
pub(crate) const TIMEOUT: u32 = 5_000;
/// The longest that a request may wait, in milliseconds.
pub(crate) const MAX_TIMEOUT: u32 = 600_000;

/// A timeout that was asked for, made one that may be.
pub(crate) const fn clamp_timeout(millis: u32) -> u32 {
    if millis > MAX_TIMEOUT { MAX_TIMEOUT } else { millis }
}
