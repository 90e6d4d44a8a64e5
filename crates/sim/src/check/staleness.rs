//! How stale reads were: measured and printed, never judged.

use std::fmt;

/// Reads that missed acknowledged writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Staleness {
    reads: u64,
    stale: u64,
    most_versions: usize,
    oldest_micros: u64,
}

impl Staleness {
    /// Notes a read, by how long ago each write was acknowledged that it missed.
    pub(super) fn note(&mut self, missed: &[u64]) {
        self.reads += 1;
        self.stale += u64::from(!missed.is_empty());
        self.most_versions = self.most_versions.max(missed.len());
        self.oldest_micros = self.oldest_micros.max(missed.iter().copied().max().unwrap_or(0));
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        self.reads += other.reads;
        self.stale += other.stale;
        self.most_versions = self.most_versions.max(other.most_versions);
        self.oldest_micros = self.oldest_micros.max(other.oldest_micros);
    }
}

impl fmt::Display for Staleness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reads, stale, most_versions, oldest_micros } = self;
        write!(
            f,
            "{stale} of {reads} reads missed an acknowledged write, at most {most_versions} of them, \
             acknowledged up to {} ms before",
            oldest_micros / 1_000
        )
    }
}
