//! Buckets, and the requests on them.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use gramme_object::{Content, Expiry, Key, Object, limits};
use gramme_quorum::{PutError, Threshold};
use gramme_router::Operation;
use gramme_wire::ClientMessage;
use gramme_wire::client;

use crate::client::Client;
use crate::error::{Error, UpdateError};
use crate::session::{MOST, Session};
use crate::value::{Context, Read, Value, Written};

/// A bucket of one cluster. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Bucket {
    client: Client,
    bucket_type: String,
    name: Bytes,
    session: Option<Session>,
}

impl Bucket {
    pub(crate) const fn new(client: Client, bucket_type: String, name: Bytes) -> Self {
        Self { client, bucket_type, name, session: None }
    }

    /// The same bucket, whose reads show at least what this session has read and written, whichever nodes answer.
    /// One that cannot in time fails with [`GetError::Behind`](crate::GetError::Behind).
    #[must_use]
    pub fn in_session(&self, session: &Session) -> Self {
        Self { session: Some(session.clone()), ..self.clone() }
    }

    /// A read of `key`.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Get {
        let timeout = self.client.timeout();
        let (r, pr) = (Threshold::Default, Threshold::Default);
        Get { bucket: self.clone(), key: copy(key), r, pr, timeout, sloppy: None }
    }

    /// A write of `value` under `key`. Without [`Put::context`] it is concurrent with whatever is there.
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Put {
        self.write(key, Some(copy(value)))
    }

    /// A delete of `key`: of what the context covers. Without one it deletes nothing that is there.
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Put {
        self.write(key, None)
    }

    fn write(&self, key: impl AsRef<[u8]>, value: Option<Bytes>) -> Put {
        let headers =
            vec![(Bytes::from_static(b"content-type"), Bytes::from_static(b"application/octet-stream"))];
        Put {
            bucket: self.clone(),
            key: copy(key),
            value,
            expiry: Expiry::AsBucket,
            headers,
            context: Context::default(),
            w: Threshold::Default,
            pw: Threshold::Default,
            dw: Threshold::Default,
            timeout: self.client.timeout(),
            return_body: false,
            sloppy: None,
        }
    }

    /// Reads all siblings of `key`, lets `merge` make one value of them, and writes that with the context of
    /// the read. Somebody else's write in between becomes a sibling, which the next update merges.
    ///
    /// # Errors
    /// [`UpdateError`]; if it is a request's, see [`Error::is_outcome_unknown`].
    pub async fn update<T: Value>(
        &self,
        key: impl AsRef<[u8]>,
        merge: impl FnOnce(Vec<T>) -> T,
    ) -> Result<Written, UpdateError<T::Error>> {
        let read = self.get(&key).send().await?;
        let merged = merge(read.decode().map_err(UpdateError::Decode)?);
        Ok(self.put(&key, merged.encode()).context(read.context()).send().await?)
    }

    fn key(&self, key: &Bytes) -> Result<Key, Error> {
        Ok(Key::new(&self.bucket_type, &self.name, key)?)
    }
}

fn copy(bytes: impl AsRef<[u8]>) -> Bytes {
    Bytes::copy_from_slice(bytes.as_ref())
}

fn millis(timeout: Duration) -> u32 {
    u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX)
}

/// A read that has not been sent.
#[derive(Clone, Debug)]
#[must_use = "nothing is read before `send`"]
pub struct Get {
    bucket: Bucket,
    key: Bytes,
    r: Threshold,
    pr: Threshold,
    timeout: Duration,
    sloppy: Option<bool>,
}

impl Get {
    /// How many replicas must answer.
    pub const fn r(mut self, r: Threshold) -> Self {
        self.r = r;
        self
    }

    /// How many owners must answer.
    pub const fn pr(mut self, pr: Threshold) -> Self {
        self.pr = pr;
        self
    }

    /// How long it may take.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Whether fallbacks may stand in for owners that cannot be reached; without this, as the bucket says.
    pub const fn sloppy(mut self, sloppy: bool) -> Self {
        self.sloppy = Some(sloppy);
        self
    }

    /// Reads.
    ///
    /// # Errors
    /// [`Error`]. A key that nobody has written is no error: it has no siblings.
    pub async fn send(self) -> Result<Read, Error> {
        let key = self.bucket.key(&self.key)?;
        if let Some(session) = &self.bucket.session {
            // Writes that never read leave a context each.
            while session.of(&key).len() > MOST {
                let had = session.of(&key).into_iter().take(MOST).collect();
                self.clone().send_with(key.clone(), had).await?;
            }
        }
        let had = self.bucket.session.as_ref().map(|session| session.of(&key)).unwrap_or_default();
        self.send_with(key, had).await
    }

    /// Reads at least what these contexts cover, and keeps what is found in their place.
    async fn send_with(self, key: Key, had: Vec<Bytes>) -> Result<Read, Error> {
        let Self { r, pr, timeout, sloppy, .. } = self;
        let session = self.bucket.session.as_ref();
        let timeout = millis(timeout);
        let get = client::Get { key: key.clone(), r, pr, timeout, sloppy, session: had.clone() };
        let message = ClientMessage::Get(get);
        let client = &self.bucket.client;
        match client.request(Operation::Read, &key, &message, self.timeout).await? {
            ClientMessage::GetReply(reply) => {
                let found = reply.outcome?;
                if let Some(session) = session {
                    session.note_read(key, &had, found.context.clone());
                }
                Ok(Read::new(found.context, &decode(&found.object)?))
            }
            other => Err(Error::Protocol(format!("a {} instead of the answer to a get", other.name()))),
        }
    }
}

/// A write that has not been sent.
#[derive(Clone, Debug)]
#[must_use = "nothing is written before `send`"]
pub struct Put {
    bucket: Bucket,
    key: Bytes,
    value: Option<Bytes>,
    expiry: Expiry,
    headers: Vec<(Bytes, Bytes)>,
    context: Context,
    w: Threshold,
    pw: Threshold,
    dw: Threshold,
    timeout: Duration,
    return_body: bool,
    sloppy: Option<bool>,
}

impl Put {
    /// Replaces what the context covers, and nothing else.
    pub fn context(mut self, context: &Context) -> Self {
        self.context = context.clone();
        self
    }

    /// The value's content type; `application/octet-stream` unless set.
    pub fn content_type(self, content_type: &str) -> Self {
        self.header("content-type", content_type)
    }

    /// A header to keep with the value, in the place of an earlier one of that name.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name = copy(name.to_ascii_lowercase());
        self.headers.retain(|(other, _)| *other != name);
        self.headers.push((name, copy(value)));
        self
    }

    /// Lets the value expire so long after the write, whatever the bucket says: from then on it reads as deleted.
    pub fn expires_after(mut self, lifetime: Duration) -> Self {
        self.expiry = Expiry::After(u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// Lets the value expire at this time, whatever the bucket says.
    pub fn expires_at(mut self, instant: SystemTime) -> Self {
        let since = instant.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.expiry = Expiry::At(u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// Lets the value never expire, whatever the bucket says.
    pub const fn never_expires(mut self) -> Self {
        self.expiry = Expiry::Never;
        self
    }

    /// How many replicas must acknowledge.
    pub const fn w(mut self, w: Threshold) -> Self {
        self.w = w;
        self
    }

    /// How many owners must acknowledge.
    pub const fn pw(mut self, pw: Threshold) -> Self {
        self.pw = pw;
        self
    }

    /// How many acknowledgements must survive a loss of power.
    pub const fn dw(mut self, dw: Threshold) -> Self {
        self.dw = dw;
        self
    }

    /// How long it may take.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Answers with what is stored, see [`Written::read`].
    pub const fn return_body(mut self) -> Self {
        self.return_body = true;
        self
    }

    /// Whether fallbacks may stand in for owners that cannot be reached; without this, as the bucket says.
    pub const fn sloppy(mut self, sloppy: bool) -> Self {
        self.sloppy = Some(sloppy);
        self
    }

    /// Writes.
    ///
    /// # Errors
    /// [`Error`]; see [`Error::is_outcome_unknown`].
    pub async fn send(self) -> Result<Written, Error> {
        let key = self.bucket.key(&self.key)?;
        let session = self.bucket.session.as_ref();
        let message = ClientMessage::Put(self.message(&key)?);
        let client = &self.bucket.client;
        match client.request(Operation::Write, &key, &message, self.timeout).await? {
            ClientMessage::PutReply(reply) => {
                let stored = reply.outcome?;
                if let Some(session) = session {
                    session.note_write(key, stored.context.clone());
                }
                let object = stored.object.as_ref().map(decode).transpose()?;
                let read = object.map(|object| Read::new(stored.context.clone(), &object));
                Ok(Written { context: Context(stored.context), receipt: stored.receipt, read })
            }
            other => Err(Error::Protocol(format!("a {} instead of the answer to a put", other.name()))),
        }
    }

    fn message(&self, key: &Key) -> Result<client::Put, Error> {
        let (origin, request) = self.bucket.client.name_put();
        let headers: Vec<(&[u8], &[u8])> =
            self.headers.iter().map(|(name, value)| (&name[..], &value[..])).collect();
        let content = self.value.as_ref().map(|value| Content::new(&headers, value)).transpose();
        let content = content.map_err(|error| Error::Protocol(error.to_string()))?;
        // What no node may be configured to take is not sent.
        if self.value.as_ref().is_some_and(|value| value.len() > limits::MAX_VALUE) {
            return Err(PutError::ValueTooLarge { limit: limits::MAX_VALUE as u64 }.into());
        }
        Ok(client::Put {
            origin,
            request,
            key: key.clone(),
            context: self.context.0.clone(),
            content,
            expiry: self.expiry,
            w: self.w,
            pw: self.pw,
            dw: self.dw,
            timeout: millis(self.timeout),
            return_body: self.return_body,
            sloppy: self.sloppy,
        })
    }
}

fn decode(object: &Bytes) -> Result<Object, Error> {
    if object.is_empty() {
        return Ok(Object::new());
    }
    Object::decode(object).map_err(|error| Error::Protocol(error.to_string()))
}
