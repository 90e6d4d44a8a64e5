//! What reads and writes return.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use gramme_object::Object;
use gramme_object::limits::LATEST_EXPIRY;
use gramme_quorum::Receipt;

/// What its holder has read of one key: opaque, and bound to that key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context(pub(crate) Bytes);

impl Context {
    /// The bytes, to keep or hand on.
    #[must_use]
    pub const fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// Takes the bytes that [`Context::as_bytes`] gave.
    #[must_use]
    pub const fn from_bytes(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

/// All that a key holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    pub(crate) context: Context,
    pub(crate) siblings: Vec<Sibling>,
}

/// One of the concurrent versions of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sibling {
    body: Option<Bytes>,
    headers: Vec<(Bytes, Bytes)>,
    written: SystemTime,
    expires: Option<SystemTime>,
}

impl Sibling {
    /// The value; nothing if this version is a delete.
    #[must_use]
    pub const fn body(&self) -> Option<&Bytes> {
        self.body.as_ref()
    }

    /// Whether this version says that the key was deleted.
    #[must_use]
    pub const fn is_tombstone(&self) -> bool {
        self.body.is_none()
    }

    /// The headers that were stored with the value, by name and value.
    pub fn headers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.headers.iter().map(|(name, value)| (&name[..], &value[..]))
    }

    /// When it was written, by its coordinator's clock. Good for showing, not for ordering.
    #[must_use]
    pub const fn written(&self) -> SystemTime {
        self.written
    }

    /// From when on it reads as deleted, if that is set.
    #[must_use]
    pub const fn expires(&self) -> Option<SystemTime> {
        self.expires
    }
}

fn at_millis(millis: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
}

impl Read {
    pub(crate) fn new(context: Bytes, object: &Object) -> Self {
        let sibling = |sibling: &gramme_object::Sibling| Sibling {
            body: sibling.content.as_ref().map(gramme_object::Content::body),
            headers: sibling
                .content
                .iter()
                .flat_map(gramme_object::Content::headers)
                .map(|(name, value)| (Bytes::copy_from_slice(name), Bytes::copy_from_slice(value)))
                .collect(),
            written: at_millis(sibling.stamp.millis()),
            expires: sibling.expires.map(|expires| at_millis(expires.min(LATEST_EXPIRY))),
        };
        Self { context: Context(context), siblings: object.versions().values().map(sibling).collect() }
    }

    /// What a write must send to replace all that was read.
    #[must_use]
    pub const fn context(&self) -> &Context {
        &self.context
    }

    /// All versions, deletes among them.
    #[must_use]
    pub fn siblings(&self) -> &[Sibling] {
        &self.siblings
    }

    /// All values; none if the key was never written or is deleted.
    pub fn values(&self) -> impl Iterator<Item = &Bytes> {
        self.siblings.iter().filter_map(Sibling::body)
    }

    /// All values, decoded.
    ///
    /// # Errors
    /// What the type says of a value of another type.
    pub fn decode<T: Value>(&self) -> Result<Vec<T>, T::Error> {
        self.values().map(|body| T::decode(body)).collect()
    }
}

/// A write that was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    pub(crate) context: Context,
    pub(crate) receipt: Receipt,
    pub(crate) read: Option<Read>,
}

impl Written {
    /// What the writer had read, and its own write: the context to go on with without another read.
    #[must_use]
    pub const fn context(&self) -> &Context {
        &self.context
    }

    /// Who acknowledged.
    #[must_use]
    pub const fn receipt(&self) -> &Receipt {
        &self.receipt
    }

    /// What is stored now, if it was asked for.
    #[must_use]
    pub const fn read(&self) -> Option<&Read> {
        self.read.as_ref()
    }
}

/// A type that can be stored.
pub trait Value: Sized {
    /// Why bytes are no value of this type.
    type Error: std::error::Error + 'static;

    /// The value's bytes.
    fn encode(&self) -> Vec<u8>;

    /// Reads a value.
    ///
    /// # Errors
    /// If the bytes are not a valid encoding.
    fn decode(bytes: &[u8]) -> Result<Self, Self::Error>;
}

impl Value for String {
    type Error = std::string::FromUtf8Error;

    fn encode(&self) -> Vec<u8> {
        self.clone().into_bytes()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Self::Error> {
        Self::from_utf8(bytes.to_vec())
    }
}
