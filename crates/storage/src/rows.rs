//! How rows are named and sealed in an engine.
//!
//! Keys: one byte for the space, then data `hash u64 BE ‖ key`, hint `target u64 BE ‖ hash u64 BE ‖ key`,
//! leaf `prefix u32 BE ‖ depth ‖ number u32 BE`, partition `prefix u32 BE ‖ depth`, meta `name`,
//! chunk `hash u64 BE ‖ id u64 BE ‖ number u32 BE`; one row says which checkpoint wrote last.
//! So data are contiguous ranges of the hash, and doubling the number of partitions moves no object.
//!
//! Every value is sealed: a CRC-32 over key and value precedes it. An object's value is
//! `digest u128 ‖ 0 ‖ object`, or, for an object over 4 KiB, `digest ‖ 1 ‖ length u32 ‖ id u64` with the object
//! in chunks of at most 16 KiB: a start reads the heads only, and sled keeps larger values in files that it
//! never syncs.

use bytes::{Buf, BufMut, Bytes};
use gramme_merkle::{Digest, Leaf};
use gramme_ring::PartitionId;

use crate::batch::{Name, Space, get_bytes, get_leaf, put_bytes};
use crate::buffer::PartitionState;
use crate::engine::{Engine, EngineOp};
use crate::error::ReadError;

/// The largest piece of an object in one row. A page of an engine holds a few dozen rows, and must stay far
/// below what sled writes to a file of its own: those it does not sync.
pub(crate) const CHUNK: usize = 16 << 10;

const DATA: u8 = 1;
const LEAF: u8 = 2;
const PARTITION: u8 = 3;
const META: u8 = 4;
const CHUNKS: u8 = 5;
const CHECKPOINT: u8 = 6;
const HINT: u8 = 7;

/// The largest object that stands in its own row.
const INLINE_BYTES: usize = 4 << 10;

const INLINE: u8 = 0;
const CHUNKED: u8 = 1;

pub(crate) fn leaf_prefix() -> [u8; 1] {
    [LEAF]
}

pub(crate) fn partition_prefix() -> [u8; 1] {
    [PARTITION]
}

pub(crate) fn meta_prefix() -> [u8; 1] {
    [META]
}

/// What the names of a space's objects begin with.
pub(crate) fn space_prefix(space: Space) -> Vec<u8> {
    match space {
        Space::Data => vec![DATA],
        Space::Hint(target) => [&[HINT], &target.to_be_bytes()[..]].concat(),
    }
}

/// The first name of the place `hash` in a space.
pub(crate) fn place_key(space: Space, hash: u64) -> Vec<u8> {
    let mut out = space_prefix(space);
    out.put_u64(hash);
    out
}

impl Name {
    pub(crate) fn engine_key(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(17 + self.key.len());
        out.extend_from_slice(&space_prefix(self.space));
        out.put_u64(self.hash);
        out.extend_from_slice(&self.key);
        out
    }

    /// The name of an object's row in a space.
    pub(crate) fn of_engine_key(space: Space, key: &[u8]) -> Option<Self> {
        let (hash, rest) = key.get(space_prefix(space).len()..)?.split_first_chunk::<8>()?;
        Some(Self { space, hash: u64::from_be_bytes(*hash), key: Bytes::copy_from_slice(rest) })
    }
}

/// What the names of all hinted objects begin with, whoever they are for.
pub(crate) fn hint_prefix() -> [u8; 1] {
    [HINT]
}

/// The name of a hinted object's row.
pub(crate) fn hint_name(key: &[u8]) -> Option<Name> {
    let target = key.get(1..)?.first_chunk().map(|target| u64::from_be_bytes(*target))?;
    Name::of_engine_key(Space::Hint(target), key)
}

/// The place of an object's row: what chunks are found by.
fn hash_of(key: &[u8]) -> Option<u64> {
    let skip = if key.first() == Some(&HINT) { 9 } else { 1 };
    key.get(skip..)?.first_chunk().map(|hash| u64::from_be_bytes(*hash))
}

/// The place that the first eight bytes of a data row's name give.
pub(crate) fn data_hash(key: &[u8]) -> Option<u64> {
    hash_of(key).filter(|_| key.first() == Some(&DATA))
}

pub(crate) fn partition_key(partition: PartitionId) -> Vec<u8> {
    let mut out = vec![PARTITION];
    out.put_u32(partition.prefix);
    out.put_u8(partition.depth);
    out
}

pub(crate) fn leaf_key(partition: PartitionId, number: u32) -> Vec<u8> {
    let mut out = vec![LEAF];
    out.put_u32(partition.prefix);
    out.put_u8(partition.depth);
    out.put_u32(number);
    out
}

/// The partition that a partition's or leaf's row is of, and the leaf's number.
pub(crate) fn split_partition_key(mut key: &[u8]) -> Option<(PartitionId, Option<u32>)> {
    key = key.get(1..)?;
    let partition = PartitionId { prefix: key.try_get_u32().ok()?, depth: key.try_get_u8().ok()? };
    let is_one = partition.depth <= gramme_ring::MAX_DEPTH && partition.prefix >> partition.depth == 0;
    let number = if key.is_empty() { None } else { Some(key.try_get_u32().ok()?) };
    (is_one && key.is_empty()).then_some((partition, number))
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
    let mut head = Vec::with_capacity(17 + value.len().min(INLINE_BYTES));
    head.put_u128_le(digest.0);
    if value.len() <= INLINE_BYTES {
        head.put_u8(INLINE);
        head.extend_from_slice(value);
    } else {
        let hash = hash_of(name).unwrap_or(0);
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
    let Some(hash) = hash_of(name) else { return };
    let keys = (0..length.div_ceil(CHUNK)).map(|number| chunk_key(hash, id, number as u32));
    ops.extend(keys.map(EngineOp::Remove));
}

/// Whether an object of so many bytes is stored in chunks.
pub(crate) const fn is_chunked(bytes: usize) -> bool {
    bytes > INLINE_BYTES
}

/// What a stored head says, without the object: its digest, and whether it is in chunks.
pub(crate) fn read_head(name: &[u8], sealed_head: &Bytes) -> Result<(Digest, bool), ReadError> {
    let Head { digest, place } = split_head(unseal(name, sealed_head)?)?;
    Ok((digest, matches!(place, Place::Chunked { .. })))
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
            let hash = hash_of(name).ok_or(ReadError::Damaged("its name is too short"))?;
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

/// A partition's row: its total, its record and the notes since.
pub(crate) fn encode_partition(state: &PartitionState) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(&state.total.to_bytes());
    put_bytes(&mut out, &state.record);
    out.put_u32_le(state.notes.len() as u32);
    for note in &state.notes {
        put_bytes(&mut out, note);
    }
    out
}

pub(crate) fn decode_partition(mut bytes: Bytes) -> Option<PartitionState> {
    let total = get_leaf(&mut bytes).ok()?;
    let record = get_bytes(&mut bytes).ok()?;
    let count = bytes.try_get_u32_le().ok()? as usize;
    if count > bytes.len() {
        return None;
    }
    let notes = (0..count).map(|_| get_bytes(&mut bytes).ok()).collect::<Option<_>>()?;
    Some(PartitionState { total, record, notes })
}

/// A leaf's row.
pub(crate) fn decode_leaf(bytes: &Bytes) -> Option<Leaf> {
    Leaf::from_bytes(bytes)
}
