//! R, W and their kin, as a request or a bucket states them.

use std::fmt;
use std::str::FromStr;

/// How many replicas must answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Threshold {
    /// What the bucket says.
    #[default]
    Default,
    /// One.
    One,
    /// More than half of N.
    Quorum,
    /// All N.
    All,
    /// This many.
    Count(u8),
}

/// A threshold that cannot be met or read. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ThresholdError {
    /// More replicas than there are.
    #[error("{count} replicas were asked for, and there are {replicas}")]
    TooMany {
        /// How many were asked for.
        count: u8,
        /// N.
        replicas: u8,
    },
    /// No replica at all, where at least one must answer.
    #[error("at least one replica must answer")]
    Zero,
    /// Not a number or name.
    #[error("'{0}' is not a number of replicas, nor one, quorum, all or default")]
    Malformed(String),
}

impl Threshold {
    /// The number that it stands for with `replicas` replicas, where the bucket says `bucket`.
    ///
    /// ```
    /// use gramme_quorum::Threshold;
    /// assert_eq!(Threshold::Default.resolve(3, Threshold::Quorum), Ok(2));
    /// assert!(Threshold::Count(4).resolve(3, Threshold::Quorum).is_err());
    /// ```
    ///
    /// # Errors
    /// [`ThresholdError::TooMany`] over N.
    pub fn resolve(self, replicas: u8, bucket: Self) -> Result<u8, ThresholdError> {
        match self {
            // A bucket's own threshold is never `Default`; a quorum stands for it if it is.
            Self::Default if bucket == Self::Default => Ok(replicas / 2 + 1),
            Self::Default => bucket.resolve(replicas, Self::Quorum),
            Self::One => Ok(1),
            Self::Quorum => Ok(replicas / 2 + 1),
            Self::All => Ok(replicas),
            Self::Count(count) if count > replicas => Err(ThresholdError::TooMany { count, replicas }),
            Self::Count(count) => Ok(count),
        }
    }

    /// The same, for R and W, which may not be zero.
    ///
    /// # Errors
    /// [`ThresholdError::TooMany`] over N, [`ThresholdError::Zero`] for 0.
    pub fn resolve_positive(self, replicas: u8, bucket: Self) -> Result<u8, ThresholdError> {
        match self.resolve(replicas, bucket)? {
            0 => Err(ThresholdError::Zero),
            count => Ok(count),
        }
    }
}

gramme_codec::enums! {
    Threshold { Default = 0, One = 1, Quorum = 2, All = 3, Count(count) = 4 }
    ThresholdError { TooMany { count, replicas } = 0, Zero = 1, Malformed(text) = 2 }
}

impl FromStr for Threshold {
    type Err = ThresholdError;

    fn from_str(text: &str) -> Result<Self, ThresholdError> {
        Ok(match text {
            "default" => Self::Default,
            "one" => Self::One,
            "quorum" => Self::Quorum,
            "all" => Self::All,
            _ => Self::Count(text.parse().map_err(|_| ThresholdError::Malformed(text.to_owned()))?),
        })
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::One => f.write_str("one"),
            Self::Quorum => f.write_str("quorum"),
            Self::All => f.write_str("all"),
            Self::Count(count) => count.fmt(f),
        }
    }
}
