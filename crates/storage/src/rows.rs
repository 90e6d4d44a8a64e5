//! How rows are named and sealed in an engine.
//!
//! Keys: one byte for the space, then
//! data `hash u64 BE ‖ key`, leaf `number u32 BE`, partition `prefix u32 BE`, meta `name`,
//! chunk `hash u64 BE ‖ id u64 BE ‖ number u32 BE`; one row says which checkpoint wrote last.
//! So data, leaves and partitions are contiguous ranges of the hash, and doubling the number of partitions
//! moves nothing.
//!
//! Every value is sealed: a CRC-32 over key and value precedes it. A data row's value is
//! `digest u128 ‖ 0 ‖ object`, or, for an object over 64 KiB, `digest ‖ 1 ‖ length u32 ‖ id u64` with the
//! object in chunks (sled keeps larger values in files that it never syncs).

use bytes::{Buf, BufMut, Bytes};
use gramme_merkle::Digest;

use crate::engine::{Engine, EngineOp};
use crate::error::ReadError;

/// The largest piece of an object in one row.
pub(crate) const CHUNK: usize = 64 << 10;

const DATA: u8 = 1;
const LEAF: u8 = 2;
const PARTITION: u8 = 3;
const META: u8 = 4;
const CHUNKS: u8 = 5;
const CHECKPOINT: u8 = 6;

const INLINE: u8 = 0;
const CHUNKED: u8 = 1;

pub(crate) fn data_prefix() -> [u8; 1] {
    [DATA]
}

pub(crate) fn leaf_prefix() -> [u8; 1] {
    [LEAF]
}

pub(crate) fn partition_prefix() -> [u8; 1] {
    [PARTITION]
}

pub(crate) fn meta_prefix() -> [u8; 1] {
    [META]
}

pub(crate) fn data_key(hash: u64, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(9 + key.len());
    out.put_u8(DATA);
    out.put_u64(hash);
    out.extend_from_slice(key);
    out
}

/// The hash and key of a data row's name.
pub(crate) fn split_data_key(name: &[u8]) -> Option<(u64, &[u8])> {
    let (hash, key) = name.get(1..)?.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*hash), key))
}

pub(crate) fn numbered_key(space: [u8; 1], number: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(5);
    out.extend_from_slice(&space);
    out.put_u32(number);
    out
}

pub(crate) fn split_number(name: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(name.get(1..)?.try_into().ok()?))
}

/// The row that says which checkpoint wrote last: its sequence, u64 LE.
pub(crate) fn checkpoint_key() -> Vec<u8> {
    vec![CHECKPOINT]
}

pub(crate) fn meta_key(name: &[u8]) -> Vec<u8> {
    [&[META], name].concat()
}

fn chunk_key(hash: u64, id: u64, number: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(21);
    out.put_u8(CHUNKS);
    out.put_u64(hash);
    out.put_u64(id);
    out.put_u32(number);
    out
}

pub(crate) fn seal(key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + value.len());
    out.put_u32_le(checksum(key, value));
    out.extend_from_slice(value);
    out
}

pub(crate) fn unseal(key: &[u8], sealed: &Bytes) -> Result<Bytes, ReadError> {
    let (expected, value) =
        sealed.split_first_chunk::<4>().ok_or(ReadError::Damaged("it is shorter than its checksum"))?;
    if checksum(key, value) != u32::from_le_bytes(*expected) {
        return Err(ReadError::Damaged("its checksum does not fit"));
    }
    Ok(sealed.slice(4..))
}

fn checksum(key: &[u8], value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(value);
    hasher.finalize()
}

/// The operations that store an object, in chunks if it is large. `id` must be new for this row.
pub(crate) fn put_data(name: &[u8], digest: Digest, value: &[u8], id: u64, ops: &mut Vec<EngineOp>) {
    let mut head = Vec::with_capacity(17 + value.len().min(CHUNK));
    head.put_u128_le(digest.0);
    if value.len() <= CHUNK {
        head.put_u8(INLINE);
        head.extend_from_slice(value);
    } else {
        let hash = split_data_key(name).map_or(0, |(hash, _)| hash);
        head.put_u8(CHUNKED);
        head.put_u32_le(value.len() as u32);
        head.put_u64_le(id);
        for (number, chunk) in value.chunks(CHUNK).enumerate() {
            let key = chunk_key(hash, id, number as u32);
            let sealed = seal(&key, chunk);
            ops.push(EngineOp::Put(key, sealed));
        }
    }
    let sealed = seal(name, &head);
    ops.push(EngineOp::Put(name.to_vec(), sealed));
}

/// The operations that remove the chunks of a stored head, if it has any.
pub(crate) fn remove_chunks(name: &[u8], sealed_head: &Bytes, ops: &mut Vec<EngineOp>) {
    // A head that cannot be read leaves its chunks behind: lost space, not lost data.
    let Ok(head) = unseal(name, sealed_head) else { return };
    let Ok(Head { place: Place::Chunked { length, id }, .. }) = split_head(head) else { return };
    let Some((hash, _)) = split_data_key(name) else { return };
    let keys = (0..length.div_ceil(CHUNK)).map(|number| chunk_key(hash, id, number as u32));
    ops.extend(keys.map(EngineOp::Remove));
}

/// Reads an object and its digest from a stored head, fetching chunks as needed.
pub(crate) fn get_data(
    engine: &dyn Engine,
    name: &[u8],
    sealed_head: &Bytes,
) -> Result<(Digest, Bytes), ReadError> {
    let Head { digest, place } = split_head(unseal(name, sealed_head)?)?;
    match place {
        Place::Inline(value) => Ok((digest, value)),
        Place::Chunked { length, id } => {
            let (hash, _) = split_data_key(name).ok_or(ReadError::Damaged("its name is too short"))?;
            Ok((digest, collect_chunks(engine, hash, id, length)?))
        }
    }
}

fn collect_chunks(engine: &dyn Engine, hash: u64, id: u64, length: usize) -> Result<Bytes, ReadError> {
    let mut value = Vec::new();
    for number in 0..length.div_ceil(CHUNK) {
        let key = chunk_key(hash, id, number as u32);
        let sealed = engine.get(&key)?.ok_or(ReadError::Damaged("a chunk of it is missing"))?;
        value.extend_from_slice(&unseal(&key, &sealed)?);
    }
    if value.len() == length { Ok(value.into()) } else { Err(ReadError::Damaged("its chunks do not add up")) }
}

struct Head {
    digest: Digest,
    place: Place,
}

enum Place {
    Inline(Bytes),
    Chunked { length: usize, id: u64 },
}

fn split_head(mut head: Bytes) -> Result<Head, ReadError> {
    let damaged = |_| ReadError::Damaged("its head is too short");
    let digest = Digest(head.try_get_u128_le().map_err(damaged)?);
    let place = match head.try_get_u8().map_err(damaged)? {
        INLINE => Place::Inline(head),
        CHUNKED => Place::Chunked {
            length: head.try_get_u32_le().map_err(damaged)? as usize,
            id: head.try_get_u64_le().map_err(damaged)?,
        },
        _ => return Err(ReadError::Damaged("its head is of an unknown kind")),
    };
    Ok(Head { digest, place })
}
