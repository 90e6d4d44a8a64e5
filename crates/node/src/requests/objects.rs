//! Reads, writes, deletes and listings over a [`Handle`].

use bytes::Bytes;
use gramme_object::Key;
use gramme_quorum::{GetError, PutError, Threshold};
use gramme_replica::{ClientPut, ClientRequest, Cursor, Found, KeysPage, Response, Stored};

use super::conditions::{Condition, Refused};
use crate::driver::Handle;

/// Why a request was not answered as it wished.
#[derive(Debug)]
pub(crate) enum Failed {
    Get(GetError),
    Put(PutError),
    /// Nothing was changed.
    Condition(Refused),
    /// There is no value, and nothing was changed.
    Absent,
    /// There are so many, and nothing was changed.
    Siblings(usize),
    /// The node is going down; a write may be stored.
    GoingDown {
        is_write: bool,
    },
}

impl From<Refused> for Failed {
    fn from(refused: Refused) -> Self {
        Self::Condition(refused)
    }
}

/// How a request reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) r: Threshold,
    pub(crate) pr: Threshold,
    /// Milliseconds.
    pub(crate) timeout: u32,
    /// Whether fallbacks may stand in for owners; as the bucket says if this does not.
    pub(crate) sloppy: Option<bool>,
}

/// Reads a key; says too whether the context `against`, if one is given, covers what is there. The answer has all that
/// the `session`'s contexts cover.
pub(crate) async fn read(
    handle: &Handle,
    key: Key,
    reading: Reading,
    against: Bytes,
    session: Vec<Bytes>,
) -> Result<Found, Failed> {
    let Reading { r, pr, timeout, sloppy } = reading;
    match handle.ask(ClientRequest::Get { key, r, pr, timeout, sloppy, against, session }).await {
        Some(Response::Get(result)) => result.map_err(Failed::Get),
        _ => Err(Failed::GoingDown { is_write: false }),
    }
}

/// Writes if the condition holds. Without a context of its own, a write with a condition replaces what that was
/// checked against.
pub(crate) async fn write(
    handle: &Handle,
    mut put: ClientPut,
    condition: &Condition,
    reading: Reading,
) -> Result<Stored, Failed> {
    if condition.is_of_write() {
        let found = check(handle, &put.key, condition, reading).await?;
        if put.context.is_empty() {
            put.context = found.context;
        }
    }
    send(handle, put).await
}

/// Deletes what the context covers, or without one what a read at R has found.
pub(crate) async fn delete(
    handle: &Handle,
    mut put: ClientPut,
    condition: &Condition,
    reading: Reading,
) -> Result<Stored, Failed> {
    put.content = None;
    if put.context.is_empty() || condition.is_of_write() {
        let found = check(handle, &put.key, condition, reading).await?;
        if put.context.is_empty() {
            put.context = found.context;
        }
    }
    send(handle, put).await
}

/// How often a touch is tried if somebody else writes in between.
const TOUCHES: usize = 3;

/// Writes the value anew that a read at R has found, with another expiry. What the coordinator knows to have been written
/// or deleted in between is not taken back; what it does not know of becomes a sibling.
pub(crate) async fn touch(
    handle: &Handle,
    put: ClientPut,
    condition: &Condition,
    reading: Reading,
) -> Result<Stored, Failed> {
    for _ in 1..TOUCHES {
        match touch_once(handle, put.clone(), condition, reading).await {
            Err(Failed::Put(PutError::Changed)) => {}
            done => return done,
        }
    }
    touch_once(handle, put, condition, reading).await
}

async fn touch_once(
    handle: &Handle,
    mut put: ClientPut,
    condition: &Condition,
    reading: Reading,
) -> Result<Stored, Failed> {
    let found = check(handle, &put.key, condition, reading).await?;
    let mut values = found.object.siblings().iter().filter(|(_, sibling)| !sibling.is_tombstone());
    let Some((dot, sibling)) = values.next() else { return Err(Failed::Absent) };
    (put.content, put.touched) = (sibling.content.clone(), Some(*dot));
    match values.count() {
        0 => put.context = found.context,
        others => return Err(Failed::Siblings(1 + others)),
    }
    send(handle, put).await
}

async fn check(handle: &Handle, key: &Key, condition: &Condition, reading: Reading) -> Result<Found, Failed> {
    let against = condition.covered_by.clone().unwrap_or_default();
    let found = read(handle, key.clone(), reading, against, Vec::new()).await?;
    condition.check_write(&found)?;
    Ok(found)
}

async fn send(handle: &Handle, put: ClientPut) -> Result<Stored, Failed> {
    match handle.ask(ClientRequest::Put(put)).await {
        Some(Response::Put(result)) => result.map_err(Failed::Put),
        _ => Err(Failed::GoingDown { is_write: true }),
    }
}

/// The next page of a listing.
pub(crate) async fn keys_page(
    handle: &Handle,
    bucket_type: String,
    bucket: Option<Bytes>,
    after: Option<Cursor>,
    timeout: u32,
) -> Result<KeysPage, Failed> {
    match handle.ask(ClientRequest::Keys { bucket_type, bucket, after, timeout }).await {
        Some(Response::Keys(result)) => result.map_err(Failed::Get),
        _ => Err(Failed::GoingDown { is_write: false }),
    }
}
