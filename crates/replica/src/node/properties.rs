//! What a bucket promises: its thresholds, its durability, whether it keeps siblings.

use std::str::FromStr;

use gramme_object::limits;
use gramme_quorum::Threshold;

use crate::request::PropertiesError;

/// The type of buckets that keep siblings.
pub const DEFAULT_TYPE: &str = "default";
/// The type of buckets that show the last writer.
pub const LWW_TYPE: &str = "lww";

/// When a write counts as acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BucketDurability {
    /// Each acknowledgement would survive a loss of power where it was made.
    Fsync,
    /// At least one of them would (the paper's section 6.1).
    OneOfN,
    /// Each would survive the end of the process.
    Buffered,
}

gramme_codec::enums! { BucketDurability { Fsync = 1, OneOfN = 2, Buffered = 3 } }

impl BucketDurability {
    /// Its name in configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fsync => "fsync",
            Self::OneOfN => "one-of-n",
            Self::Buffered => "buffered",
        }
    }
}

impl FromStr for BucketDurability {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        [Self::Fsync, Self::OneOfN, Self::Buffered]
            .into_iter()
            .find(|durability| durability.name() == name)
            .ok_or_else(|| format!("durability is fsync, one-of-n or buffered, not '{name}'"))
    }
}

/// A bucket's properties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Properties {
    /// R unless the request says otherwise.
    pub r: Threshold,
    /// W unless the request says otherwise.
    pub w: Threshold,
    /// How many owners must answer a read.
    pub pr: Threshold,
    /// How many owners must acknowledge a write.
    pub pw: Threshold,
    /// Whether concurrent writes are kept as siblings; if not, a read shows the last writer among them.
    pub allow_mult: bool,
    /// When a write counts as acknowledged.
    pub durability: BucketDurability,
    /// Siblings under one key before a put is refused.
    pub max_siblings: u32,
    /// Whether fallbacks stand in for owners that cannot be reached, unless the request says otherwise.
    pub sloppy: bool,
    /// After how many seconds values expire unless the request says otherwise; 0 for never.
    pub ttl: u32,
}

impl Properties {
    pub(super) const fn new(allow_mult: bool) -> Self {
        Self {
            r: Threshold::Quorum,
            w: Threshold::Quorum,
            pr: Threshold::Count(0),
            pw: Threshold::Count(0),
            allow_mult,
            durability: BucketDurability::Fsync,
            max_siblings: limits::SIBLINGS,
            sloppy: true,
            ttl: 0,
        }
    }
}

/// Some properties: those that a bucket or a type sets itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PropertiesPatch {
    /// See [`Properties::r`].
    pub r: Option<Threshold>,
    /// See [`Properties::w`].
    pub w: Option<Threshold>,
    /// See [`Properties::pr`].
    pub pr: Option<Threshold>,
    /// See [`Properties::pw`].
    pub pw: Option<Threshold>,
    /// See [`Properties::allow_mult`].
    pub allow_mult: Option<bool>,
    /// See [`Properties::durability`].
    pub durability: Option<BucketDurability>,
    /// See [`Properties::max_siblings`].
    pub max_siblings: Option<u32>,
    /// See [`Properties::sloppy`].
    pub sloppy: Option<bool>,
    /// See [`Properties::ttl`].
    pub ttl: Option<u32>,
}

gramme_codec::structs! {
    PropertiesPatch {
        r: Option<Threshold>,
        w: Option<Threshold>,
        pr: Option<Threshold>,
        pw: Option<Threshold>,
        allow_mult: Option<bool>,
        durability: Option<BucketDurability>,
        max_siblings: Option<u32>,
        sloppy: Option<bool>,
        ttl: Option<u32>,
    }
}

/// What to do with the properties that a bucket or a type sets itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PropertiesChange {
    /// Set these, and leave the others.
    Set(PropertiesPatch),
    /// Set none: back to the defaults.
    Reset,
}

impl PropertiesPatch {
    /// What is set by `self`, then by `newer`.
    pub(super) fn and(&self, newer: &Self) -> Self {
        Self {
            r: newer.r.or(self.r),
            w: newer.w.or(self.w),
            pr: newer.pr.or(self.pr),
            pw: newer.pw.or(self.pw),
            allow_mult: newer.allow_mult.or(self.allow_mult),
            durability: newer.durability.or(self.durability),
            max_siblings: newer.max_siblings.or(self.max_siblings),
            sloppy: newer.sloppy.or(self.sloppy),
            ttl: newer.ttl.or(self.ttl),
        }
    }

    /// `to` with what is set here.
    pub(super) fn over(&self, to: &Properties) -> Properties {
        Properties {
            r: self.r.unwrap_or(to.r),
            w: self.w.unwrap_or(to.w),
            pr: self.pr.unwrap_or(to.pr),
            pw: self.pw.unwrap_or(to.pw),
            allow_mult: self.allow_mult.unwrap_or(to.allow_mult),
            durability: self.durability.unwrap_or(to.durability),
            max_siblings: self.max_siblings.unwrap_or(to.max_siblings),
            sloppy: self.sloppy.unwrap_or(to.sloppy),
            ttl: self.ttl.unwrap_or(to.ttl),
        }
    }

    /// Whether each value that is set can be met with so many replicas.
    pub(super) fn check(&self, replicas: u8) -> Result<(), PropertiesError> {
        let invalid = |name: &str, why: String| PropertiesError::Invalid(format!("{name}: {why}"));
        for (name, threshold) in [("r", self.r), ("w", self.w)] {
            let checked = threshold.map(|threshold| threshold.resolve_positive(replicas, Threshold::Quorum));
            checked.transpose().map_err(|error| invalid(name, error.to_string()))?;
        }
        for (name, threshold) in [("pr", self.pr), ("pw", self.pw)] {
            let checked = threshold.map(|threshold| threshold.resolve(replicas, Threshold::Count(0)));
            checked.transpose().map_err(|error| invalid(name, error.to_string()))?;
        }
        if self.max_siblings == Some(0) {
            return Err(invalid("max_siblings", "at least one".to_owned()));
        }
        Ok(())
    }
}
