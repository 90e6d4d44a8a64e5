//! The properties of all buckets: one record for each bucket or type that sets some itself.
//!
//! One table of all buckets with one version looks simpler, and loses changes: two changes of *different*
//! buckets, made at once on two nodes, are rivals for its next version. So each bucket has a record of its own,
//! with a version and a number drawn by lot; a greater pair replaces a lower one, wherever it comes from and in
//! whatever order, and changes of different buckets never meet. The lot, and not the author's name: an author
//! whose disk is rolled back makes its last version a second time, and two records must not have one rank.
//!
//! A record holds only what its bucket sets itself. The rest follows the type, and the type its founding.
//!
//! ```text
//! u8 format = 1 | scope: type, optional bucket | u64 version | u64 lot | eight optional properties
//! ```

use std::collections::BTreeMap;

use bytes::Bytes;
use gramme_codec::{Codec, DecodeError};
use gramme_wire::peer::PropertiesHeld;

use super::properties::{DEFAULT_TYPE, LWW_TYPE, Properties, PropertiesChange, PropertiesPatch};
use crate::request::PropertiesError;

const FORMAT: u8 = 1;
/// What the names of the stored records begin with.
pub(crate) const META_PREFIX: &[u8] = b"properties/";

/// Whose properties: a bucket's, or a bucket type's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scope {
    /// The type.
    pub bucket_type: String,
    /// The bucket; `None` for the type itself.
    pub bucket: Option<Bytes>,
}

gramme_codec::structs! { Scope { bucket_type: String, bucket: Option<Bytes> } }

impl Scope {
    /// The name under which its record is stored.
    pub(crate) fn meta_name(&self) -> Bytes {
        let mut name = META_PREFIX.to_vec();
        self.encode_to(&mut name);
        name.into()
    }
}

/// What one bucket or type sets itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) scope: Scope,
    pub(crate) version: u64,
    pub(crate) lot: u64,
    patch: PropertiesPatch,
}

impl Record {
    /// A greater one replaces a lower one.
    pub(crate) const fn rank(&self) -> (u64, u64) {
        (self.version, self.lot)
    }

    pub(crate) fn encode(&self) -> Bytes {
        let mut out = vec![FORMAT];
        self.scope.encode_to(&mut out);
        self.version.encode_to(&mut out);
        self.lot.encode_to(&mut out);
        self.patch.encode_to(&mut out);
        out.into()
    }

    pub(crate) fn decode(mut input: Bytes) -> Result<Self, DecodeError> {
        let format = u8::parse(&mut input)?;
        if format != FORMAT {
            return Err(DecodeError::Version(format));
        }
        let scope = Scope::parse(&mut input)?;
        let (version, lot) = <(u64, u64)>::parse(&mut input)?;
        let patch = PropertiesPatch::parse_all(input)?;
        Ok(Self { scope, version, lot, patch })
    }

    /// What it adds to the digest of all.
    fn digest(&self) -> u64 {
        let mut first = [0; 8];
        first.copy_from_slice(&blake3::hash(&self.encode()).as_bytes()[..8]);
        u64::from_le_bytes(first)
    }

    pub(crate) fn held(&self) -> PropertiesHeld {
        PropertiesHeld { of: self.scope.to_bytes(), version: self.version, lot: self.lot }
    }
}

#[derive(Clone, Debug)]
struct Type {
    founding: Properties,
    record: Option<Record>,
    buckets: BTreeMap<Bytes, Record>,
}

/// The properties in force. Look-ups are O(log buckets) and allocate nothing.
#[derive(Clone, Debug)]
pub(crate) struct Buckets {
    types: BTreeMap<String, Type>,
    digest: u64,
}

impl Buckets {
    /// Those of a new cluster: the types `default` and `lww`, and nothing that anybody has set.
    pub(crate) fn founding() -> Self {
        let types = [(DEFAULT_TYPE, true), (LWW_TYPE, false)].map(|(name, allow_mult)| {
            let founding = Properties::new(allow_mult);
            (name.to_owned(), Type { founding, record: None, buckets: BTreeMap::new() })
        });
        Self { types: types.into(), digest: 0 }
    }

    /// Takes what was stored.
    pub(crate) fn restore(records: impl Iterator<Item = Bytes>) -> Result<Self, DecodeError> {
        let mut buckets = Self::founding();
        for record in records {
            buckets.insert(Record::decode(record)?);
        }
        Ok(buckets)
    }

    /// The properties of a bucket; nothing if there is no such type.
    pub(crate) fn get(&self, bucket_type: &str, bucket: &[u8]) -> Option<Properties> {
        let of_type = self.types.get(bucket_type)?;
        let properties = of_type.properties();
        Some(of_type.buckets.get(bucket).map_or(properties, |record| record.patch.over(&properties)))
    }

    pub(crate) fn of_scope(&self, scope: &Scope) -> Option<Properties> {
        match &scope.bucket {
            Some(bucket) => self.get(&scope.bucket_type, bucket),
            None => self.types.get(&scope.bucket_type).map(Type::properties),
        }
    }

    /// The record in force; nothing if nobody has set anything there.
    pub(crate) fn record(&self, scope: &Scope) -> Option<&Record> {
        let of_type = self.types.get(&scope.bucket_type)?;
        match &scope.bucket {
            Some(bucket) => of_type.buckets.get(bucket),
            None => of_type.record.as_ref(),
        }
    }

    /// All records, to send to a node that lacks some.
    pub(crate) fn records(&self) -> impl Iterator<Item = &Record> {
        self.types.values().flat_map(|of_type| of_type.record.iter().chain(of_type.buckets.values()))
    }

    /// How many buckets have a record of their own.
    pub(crate) fn count(&self) -> usize {
        self.types.values().map(|of_type| of_type.buckets.len()).sum()
    }

    /// A number that two nodes share if they hold the same records.
    pub(crate) const fn digest(&self) -> u64 {
        self.digest
    }

    /// Puts a record in force, unless a greater one is.
    pub(crate) fn apply(&mut self, record: Record) {
        if self.record(&record.scope).is_none_or(|held| held.rank() < record.rank()) {
            self.insert(record);
        }
    }

    fn insert(&mut self, record: Record) {
        // A type that only a later version knows: nobody asks for it here.
        let Some(of_type) = self.types.get_mut(&record.scope.bucket_type) else { return };
        self.digest ^= record.digest();
        let before = match record.scope.bucket.clone() {
            Some(bucket) => of_type.buckets.insert(bucket, record),
            None => of_type.record.replace(record),
        };
        self.digest ^= before.map_or(0, |before| before.digest());
    }

    /// The record that `change` makes of the newest one there is; `lot` is drawn anew for each.
    pub(crate) fn changed(
        &self,
        scope: &Scope,
        newest: Option<&Record>,
        change: &PropertiesChange,
        lot: u64,
        replicas: u8,
    ) -> Result<Record, PropertiesError> {
        if !self.types.contains_key(&scope.bucket_type) {
            return Err(PropertiesError::UnknownType(scope.bucket_type.clone()));
        }
        let set = newest.map(|record| record.patch).unwrap_or_default();
        let patch = match change {
            PropertiesChange::Set(patch) => {
                patch.check(replicas)?;
                set.and(patch)
            }
            PropertiesChange::Reset => PropertiesPatch::default(),
        };
        let version = newest.map_or(1, |record| record.version + 1);
        Ok(Record { scope: scope.clone(), version, lot, patch })
    }
}

impl Type {
    fn properties(&self) -> Properties {
        self.record.as_ref().map_or(self.founding, |record| record.patch.over(&self.founding))
    }
}

#[cfg(test)]
mod tests {
    use gramme_quorum::Threshold;

    use super::*;

    fn scope(bucket: &'static str) -> Scope {
        let bucket = (!bucket.is_empty()).then(|| Bytes::from_static(bucket.as_bytes()));
        Scope { bucket_type: DEFAULT_TYPE.to_owned(), bucket }
    }

    fn set(r: Option<Threshold>, w: Option<Threshold>) -> PropertiesChange {
        PropertiesChange::Set(PropertiesPatch { r, w, ..Default::default() })
    }

    fn change(buckets: &mut Buckets, of: &Scope, change: &PropertiesChange) {
        let record = buckets.changed(of, buckets.record(of), change, 7, 3).expect("a valid change");
        buckets.apply(record);
    }

    /// The bytes on every disk.
    #[test]
    fn golden() {
        let buckets = Buckets::founding();
        let change = set(None, Some(Threshold::Count(1)));
        let record = buckets.changed(&scope("b"), None, &change, 7, 3).expect("a valid change");
        let hex: String = record.encode().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, include_str!("../../tests/golden/properties-1.hex").trim());
        assert_eq!(Record::decode(record.encode()), Ok(record));
    }

    #[test]
    fn a_change_is_for_one_bucket_and_what_it_does_not_set_follows_the_type() {
        let mut buckets = Buckets::founding();
        change(&mut buckets, &scope("b"), &set(None, Some(Threshold::One)));
        change(&mut buckets, &scope("b"), &set(Some(Threshold::One), None));
        change(&mut buckets, &scope(""), &set(Some(Threshold::All), Some(Threshold::All)));
        let shown = |buckets: &Buckets, bucket: &str| {
            buckets.get(DEFAULT_TYPE, bucket.as_bytes()).map(|properties| (properties.r, properties.w))
        };
        assert_eq!(shown(&buckets, "b"), Some((Threshold::One, Threshold::One)));
        assert_eq!(shown(&buckets, "c"), Some((Threshold::All, Threshold::All)));
        change(&mut buckets, &scope("b"), &PropertiesChange::Reset);
        assert_eq!(shown(&buckets, "b"), Some((Threshold::All, Threshold::All)));
        assert_eq!(buckets.get("none", b"b"), None);
        let stored: Vec<_> = buckets.records().map(Record::encode).collect();
        let restored = Buckets::restore(stored.into_iter()).expect("its own records");
        assert_eq!((restored.digest(), shown(&restored, "b")), (buckets.digest(), shown(&buckets, "b")));
    }

    #[test]
    fn the_greater_version_wins_in_any_order() {
        let record = |lot| {
            let buckets = Buckets::founding();
            let w = Some(Threshold::Count(lot as u8));
            buckets.changed(&scope("b"), None, &set(None, w), lot, 3).expect("a valid change")
        };
        let (mut one, mut other) = (Buckets::founding(), Buckets::founding());
        [1, 2].into_iter().for_each(|lot| one.apply(record(lot)));
        [2, 1].into_iter().for_each(|lot| other.apply(record(lot)));
        assert_eq!(one.digest(), other.digest());
        assert_eq!(one.get(DEFAULT_TYPE, b"b").map(|properties| properties.w), Some(Threshold::Count(2)));
    }

    #[test]
    fn values_out_of_range_are_named() {
        let buckets = Buckets::founding();
        let refused = |change: PropertiesChange| {
            buckets.changed(&scope("b"), None, &change, 1, 3).expect_err("refused")
        };
        let error = refused(set(Some(Threshold::Count(4)), None));
        assert_eq!(error, PropertiesError::Invalid("r: 4 replicas were asked for, and there are 3".into()));
        assert!(matches!(refused(set(None, Some(Threshold::Count(0)))), PropertiesError::Invalid(_)));
        let none = PropertiesPatch { max_siblings: Some(0), ..Default::default() };
        assert!(matches!(refused(PropertiesChange::Set(none)), PropertiesError::Invalid(_)));
    }
}
