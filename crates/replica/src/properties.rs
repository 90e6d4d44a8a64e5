//! What a bucket promises: its thresholds, its durability, whether it keeps siblings.
//!
//! All properties of all buckets are one record with a version. A change makes the next version; of two made
//! at once the one with the greater author wins everywhere, and its rival is told so.
//!
//! ```text
//! u8 format = 1 | u64 version | u64 author | u32 types | (name, properties)* | u32 buckets | (type, bucket, properties)*
//! ```

use std::collections::BTreeMap;
use std::str::FromStr;

use bytes::Bytes;
use gramme_object::limits;
use gramme_quorum::Threshold;
use gramme_ring::NodeId;
use gramme_wire::WireError;
use gramme_wire::codec::Wire;

use crate::request::PropertiesError;

const FORMAT: u8 = 1;

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
}

impl Properties {
    const fn new(allow_mult: bool) -> Self {
        Self {
            r: Threshold::Quorum,
            w: Threshold::Quorum,
            pr: Threshold::Count(0),
            pw: Threshold::Count(0),
            allow_mult,
            durability: BucketDurability::Fsync,
            max_siblings: limits::SIBLINGS,
        }
    }
}

/// A change of some properties.
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
}

impl PropertiesPatch {
    fn apply(&self, to: &Properties, replicas: u8) -> Result<Properties, PropertiesError> {
        let invalid = |name: &str, why: String| PropertiesError::Invalid(format!("{name}: {why}"));
        let next = Properties {
            r: self.r.unwrap_or(to.r),
            w: self.w.unwrap_or(to.w),
            pr: self.pr.unwrap_or(to.pr),
            pw: self.pw.unwrap_or(to.pw),
            allow_mult: self.allow_mult.unwrap_or(to.allow_mult),
            durability: self.durability.unwrap_or(to.durability),
            max_siblings: self.max_siblings.unwrap_or(to.max_siblings),
        };
        for (name, threshold) in [("r", next.r), ("w", next.w)] {
            let checked = threshold.resolve_positive(replicas, Threshold::Quorum);
            checked.map_err(|error| invalid(name, error.to_string()))?;
        }
        for (name, threshold) in [("pr", next.pr), ("pw", next.pw)] {
            let checked = threshold.resolve(replicas, Threshold::Count(0));
            checked.map_err(|error| invalid(name, error.to_string()))?;
        }
        if next.max_siblings == 0 {
            return Err(invalid("max_siblings", "at least one".to_owned()));
        }
        Ok(next)
    }
}

/// The properties of all buckets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PropertyTable {
    version: u64,
    author: NodeId,
    types: BTreeMap<String, Properties>,
    buckets: BTreeMap<(String, Bytes), Properties>,
}

impl PropertyTable {
    /// The table of a new cluster: the types `default` and `lww`, and no bucket with properties of its own.
    #[must_use]
    pub fn founding() -> Self {
        let types = [(DEFAULT_TYPE, true), (LWW_TYPE, false)]
            .map(|(name, mult)| (name.to_owned(), Properties::new(mult)));
        Self { version: 1, author: NodeId(0), types: types.into(), buckets: BTreeMap::new() }
    }

    /// Which table this is: a greater one replaces it.
    #[must_use]
    pub const fn version(&self) -> (u64, NodeId) {
        (self.version, self.author)
    }

    /// The properties of a bucket; nothing if there is no such type.
    #[must_use]
    pub fn get(&self, bucket_type: &str, bucket: &[u8]) -> Option<&Properties> {
        let of_type = self.types.get(bucket_type)?;
        if self.buckets.is_empty() {
            return Some(of_type);
        }
        let name = (bucket_type.to_owned(), Bytes::copy_from_slice(bucket));
        Some(self.buckets.get(&name).unwrap_or(of_type))
    }

    /// The next table, by `author`, with one bucket changed.
    ///
    /// # Errors
    /// [`PropertiesError`] if there is no such type or a value is out of range.
    pub fn with(
        &self,
        author: NodeId,
        bucket_type: &str,
        bucket: &Bytes,
        patch: &PropertiesPatch,
        replicas: u8,
    ) -> Result<Self, PropertiesError> {
        let unknown = || PropertiesError::UnknownType(bucket_type.to_owned());
        let now = self.get(bucket_type, bucket).ok_or_else(unknown)?;
        let changed = patch.apply(now, replicas)?;
        let mut next = self.clone();
        next.version += 1;
        next.author = author;
        next.buckets.insert((bucket_type.to_owned(), bucket.clone()), changed);
        Ok(next)
    }

    /// The stored form.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = vec![FORMAT];
        self.version.encode_to(&mut out);
        self.author.encode_to(&mut out);
        let types: Vec<_> = self.types.iter().map(|(name, properties)| (name.clone(), *properties)).collect();
        types.encode_to(&mut out);
        let buckets: Vec<_> =
            self.buckets.iter().map(|(name, properties)| (name.clone(), *properties)).collect();
        buckets.encode_to(&mut out);
        out.into()
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// [`WireError`] if the bytes are none.
    pub fn decode(mut input: Bytes) -> Result<Self, WireError> {
        let format = u8::parse(&mut input)?;
        if format != FORMAT {
            return Err(WireError::Version(format));
        }
        let (version, author) = <(u64, NodeId)>::parse(&mut input)?;
        let types = Vec::<(String, Properties)>::parse(&mut input)?.into_iter().collect();
        let buckets = Vec::<((String, Bytes), Properties)>::parse(&mut input)?.into_iter().collect();
        if input.is_empty() {
            Ok(Self { version, author, types, buckets })
        } else {
            Err(WireError::Malformed)
        }
    }
}

impl Wire for Properties {
    const MIN_SIZE: usize = 10;

    fn encode_to(&self, out: &mut Vec<u8>) {
        for threshold in [self.r, self.w, self.pr, self.pw] {
            threshold.encode_to(out);
        }
        self.allow_mult.encode_to(out);
        out.push(match self.durability {
            BucketDurability::Fsync => 1,
            BucketDurability::OneOfN => 2,
            BucketDurability::Buffered => 3,
        });
        self.max_siblings.encode_to(out);
    }

    fn parse(input: &mut Bytes) -> Result<Self, WireError> {
        Ok(Self {
            r: Threshold::parse(input)?,
            w: Threshold::parse(input)?,
            pr: Threshold::parse(input)?,
            pw: Threshold::parse(input)?,
            allow_mult: bool::parse(input)?,
            durability: match u8::parse(input)? {
                1 => BucketDurability::Fsync,
                2 => BucketDurability::OneOfN,
                3 => BucketDurability::Buffered,
                _ => return Err(WireError::Malformed),
            },
            max_siblings: u32::parse(input)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed() -> PropertyTable {
        let patch =
            PropertiesPatch { w: Some(Threshold::Count(1)), allow_mult: Some(false), ..Default::default() };
        let table = PropertyTable::founding();
        table.with(NodeId(7), DEFAULT_TYPE, &"b".into(), &patch, 3).expect("a valid change")
    }

    /// The bytes on every disk.
    #[test]
    fn golden() {
        let hex: String = changed().encode().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, include_str!("../tests/golden/properties-1.hex").trim());
        assert_eq!(PropertyTable::decode(changed().encode()), Ok(changed()));
    }

    #[test]
    fn a_change_is_for_one_bucket() {
        let table = changed();
        assert_eq!(table.get(DEFAULT_TYPE, b"b").map(|properties| properties.w), Some(Threshold::Count(1)));
        assert_eq!(table.get(DEFAULT_TYPE, b"c").map(|properties| properties.w), Some(Threshold::Quorum));
        assert_eq!(table.get("none", b"b"), None);
        assert!(table.version() > PropertyTable::founding().version());
    }

    #[test]
    fn values_out_of_range_are_named() {
        let refused = |patch: PropertiesPatch| {
            PropertyTable::founding()
                .with(NodeId(1), DEFAULT_TYPE, &"b".into(), &patch, 3)
                .expect_err("refused")
        };
        let error = refused(PropertiesPatch { r: Some(Threshold::Count(4)), ..Default::default() });
        assert_eq!(error, PropertiesError::Invalid("r: 4 replicas were asked for, and there are 3".into()));
        let zero = refused(PropertiesPatch { w: Some(Threshold::Count(0)), ..Default::default() });
        assert!(matches!(zero, PropertiesError::Invalid(_)));
        refused(PropertiesPatch { max_siblings: Some(0), ..Default::default() });
    }
}
