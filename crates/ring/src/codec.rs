//! The bytes of ids, members and layouts.

use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;
use gramme_codec::{Codec, DecodeError};

use crate::{Layout, MAX_DEPTH, Member, NodeId, PartitionId};

impl Codec for NodeId {
    const MIN_SIZE: usize = 8;

    fn encode_to(&self, out: &mut Vec<u8>) {
        self.0.encode_to(out);
    }

    fn parse(input: &mut Bytes) -> Result<Self, DecodeError> {
        u64::parse(input).map(Self)
    }
}

impl Codec for PartitionId {
    const MIN_SIZE: usize = 5;

    fn encode_to(&self, out: &mut Vec<u8>) {
        self.prefix.encode_to(out);
        self.depth.encode_to(out);
    }

    fn parse(input: &mut Bytes) -> Result<Self, DecodeError> {
        let (prefix, depth) = (u32::parse(input)?, u8::parse(input)?);
        let fits = depth <= MAX_DEPTH && prefix >> depth == 0;
        if fits { Ok(Self { prefix, depth }) } else { Err(DecodeError::Malformed) }
    }
}

gramme_codec::structs! { Member { id: NodeId, weight: u32, zone: String } }

impl Codec for Layout {
    const MIN_SIZE: usize = 18;

    fn encode_to(&self, out: &mut Vec<u8>) {
        self.version().encode_to(out);
        self.depth().encode_to(out);
        self.replicas().encode_to(out);
        self.members().to_vec().encode_to(out);
        self.slots().to_vec().encode_to(out);
    }

    fn parse(input: &mut Bytes) -> Result<Self, DecodeError> {
        let (version, depth, replicas) = (u64::parse(input)?, u8::parse(input)?, u8::parse(input)?);
        let (members, slots) = (Vec::parse(input)?, Vec::parse(input)?);
        Self::new(version, depth, replicas, members, slots).map_err(|_| DecodeError::Malformed)
    }
}
