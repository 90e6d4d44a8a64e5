//! How a partition is stored: a record, rewritten whole now and then, with small notes in between, one in each
//! batch. Notes only ever add, so reading one twice, or one older than the record, does no harm.
//!
//! ```text
//! record  u8 format = 1 | state | role | actor | born | counter | life | changes | bytes | epoch | fence
//!         | seen-set | entry | floors | amnesia (0 or 1) | cursors | peers still to pull from (ids)
//!         | tenures being closed (actors) | known tenures (id, tenure)
//! note    u8 format = 1 | actor | counter | changes | bytes | dots
//! ```
//!
//! What a later version may write and this one could not honour is refused by name, never read past: a node
//! that ignored a fence would serve what it must not.

use bytes::Bytes;
use gramme_codec::{Codec, DecodeError};
use gramme_quorum::Tenure;
use gramme_ring::NodeId;
use gramme_vclock::{Actor, Dot, SeenSet};

use crate::node::Epoch;

const FORMAT: u8 = 1;

/// Why a partition's record or note cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Its bytes are not one.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// It says something that only a later version can honour.
    #[error("it has {0}, which only a later version of this software can serve")]
    Later(&'static str),
}

/// Whether the partition is changing hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Settled,
    Joining,
    Leaving,
}

/// What this node is to the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Owner,
    Pending,
    Leaving,
    Fallback,
}

gramme_codec::enums! {
    State { Settled = 1, Joining = 2, Leaving = 3 }
    Role { Owner = 1, Pending = 2, Leaving = 3, Fallback = 4 }
}

/// A partition's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) state: State,
    pub(crate) role: Role,
    pub(crate) actor: Actor,
    pub(crate) born: u64,
    pub(crate) counter: u64,
    pub(crate) life: u64,
    pub(crate) changes: u64,
    pub(crate) bytes: u64,
    pub(crate) epoch: Epoch,
    /// The epoch that was adopted last, and is synced with this record.
    pub(crate) fence: Epoch,
    pub(crate) seen: SeenSet,
    pub(crate) entry: Bytes,
    pub(crate) floors: Bytes,
    pub(crate) is_amnesiac: bool,
    pub(crate) cursors: Bytes,
    pub(crate) pull: Vec<NodeId>,
    pub(crate) closing: Vec<Actor>,
    pub(crate) known: Vec<(NodeId, Tenure)>,
}

gramme_codec::structs! {
    Record {
        state: State,
        role: Role,
        actor: Actor,
        born: u64,
        counter: u64,
        life: u64,
        changes: u64,
        bytes: u64,
        epoch: Epoch,
        fence: Epoch,
        seen: SeenSet,
        entry: Bytes,
        floors: Bytes,
        is_amnesiac: bool,
        cursors: Bytes,
        pull: Vec<NodeId>,
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

    pub(crate) fn decode(bytes: Bytes) -> Result<Self, RecordError> {
        let record: Self = decode(bytes)?;
        let later = [
            (record.state != State::Settled, "a change of owners under way"),
            (record.role != Role::Owner, "another role than owner"),
            (record.fence > record.epoch, "a fence beyond its epoch"),
            (!record.entry.is_empty(), "an entry of a change of owners"),
            (!record.floors.is_empty(), "floors"),
            (!record.cursors.is_empty(), "transfer cursors"),
            (!record.pull.is_empty(), "peers to pull from"),
        ];
        match later.into_iter().find(|(is_there, _)| *is_there) {
            Some((_, what)) => Err(RecordError::Later(what)),
            None => Ok(record),
        }
    }
}

impl Note {
    pub(crate) fn encode(&self) -> Bytes {
        encode(self)
    }

    pub(crate) fn decode(bytes: Bytes) -> Result<Self, RecordError> {
        Ok(decode(bytes)?)
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
