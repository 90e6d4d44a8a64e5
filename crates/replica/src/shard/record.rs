//! How a partition is stored: a record, rewritten whole now and then, with small notes in between, one in each
//! batch. Notes only ever add, so reading one twice, or one older than the record, does no harm.
//!
//! ```text
//! record  u8 format = 2 | role | actor | born | counter | life | changes | bytes | seen-set | amnesia (0 or 1)
//!         | tenures being closed (actors) | known tenures (id, tenure)
//! note    u8 format = 2 | actor | counter | changes | bytes | dots
//! ```
//!
//! Whose the partition is, and at which epoch, is in the layout's own row (`node/layouts.rs`).

use bytes::Bytes;
use gramme_codec::{Codec, DecodeError};
use gramme_quorum::Tenure;
use gramme_ring::NodeId;
use gramme_vclock::{Actor, Dot, SeenSet};

const FORMAT: u8 = 2;

/// What this node is to a partition that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It takes its writes: an owner, an old one or a new one.
    Owner,
    /// It owns it no more, and keeps what it has until the owners have all of that.
    Former,
    /// The owners have all of it: it goes, row by row, and is shown to nobody.
    Dropping,
}

gramme_codec::enums! { Role { Owner = 1, Former = 2, Dropping = 3 } }

/// A partition's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) role: Role,
    pub(crate) actor: Actor,
    pub(crate) born: u64,
    pub(crate) counter: u64,
    pub(crate) life: u64,
    pub(crate) changes: u64,
    pub(crate) bytes: u64,
    pub(crate) seen: SeenSet,
    pub(crate) is_amnesiac: bool,
    pub(crate) closing: Vec<Actor>,
    pub(crate) known: Vec<(NodeId, Tenure)>,
}

gramme_codec::structs! {
    Record {
        role: Role,
        actor: Actor,
        born: u64,
        counter: u64,
        life: u64,
        changes: u64,
        bytes: u64,
        seen: SeenSet,
        is_amnesiac: bool,
        closing: Vec<Actor>,
        known: Vec<(NodeId, Tenure)>,
    }
}

/// What a batch adds to a partition's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) actor: Actor,
    pub(crate) counter: u64,
    pub(crate) changes: u64,
    pub(crate) bytes: u64,
    pub(crate) dots: Vec<Dot>,
}

gramme_codec::structs! { Note { actor: Actor, counter: u64, changes: u64, bytes: u64, dots: Vec<Dot> } }

impl Record {
    pub(crate) fn encode(&self) -> Bytes {
        encode(self)
    }

    pub(crate) fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        decode(bytes)
    }
}

impl Note {
    pub(crate) fn encode(&self) -> Bytes {
        encode(self)
    }

    pub(crate) fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        decode(bytes)
    }
}

fn encode(value: &impl Codec) -> Bytes {
    let mut out = Vec::with_capacity(64);
    out.push(FORMAT);
    value.encode_to(&mut out);
    out.into()
}

fn decode<T: Codec>(mut bytes: Bytes) -> Result<T, DecodeError> {
    match u8::parse(&mut bytes)? {
        FORMAT => T::parse_all(bytes),
        format => Err(DecodeError::Version(format)),
    }
}
