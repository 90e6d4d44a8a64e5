//! The bytes of ids, members, layouts and steps.
//!
//! ```text
//! layout   u32 generation | u64 version | u8 depth | u8 replicas | members | leaving (ids) | removed (ids)
//!          | 2^depth × (u64 epoch | u8 stage: 1 settled, 2 joining, 3 leaving | owners (| new owners, if it moves))
//! owners   u8 count | count × u16 index of a member
//! ```

use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;
use gramme_codec::{Codec, DecodeError};

use crate::layout::Held;
use crate::{Entry, Layout, MAX_DEPTH, Member, Move, NodeId, PartitionId, Roster, Step};

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

gramme_codec::structs! {
    Member { id: NodeId, weight: u32, zone: String }
    Roster { members: Vec<Member>, leaving: Vec<NodeId>, removed: Vec<NodeId> }
    Step { generation: u32, version: u64, replicas: u8, roster: Option<Roster>, moves: Vec<(u32, Move)> }
}

gramme_codec::enums! { Move { Begin(to) = 1, Next = 2, Abort = 3 } }

const SETTLED: u8 = 1;
const JOINING: u8 = 2;
const LEAVING: u8 = 3;

impl Codec for Layout {
    const MIN_SIZE: usize = 34;

    fn encode_to(&self, out: &mut Vec<u8>) {
        self.generation.encode_to(out);
        self.version.encode_to(out);
        self.depth.encode_to(out);
        self.replicas.encode_to(out);
        self.roster.encode_to(out);
        for Held { epoch, entry } in &self.partitions {
            epoch.encode_to(out);
            let stage = match entry {
                Entry::Settled(_) => SETTLED,
                Entry::Joining { .. } => JOINING,
                Entry::Leaving { .. } => LEAVING,
            };
            out.push(stage);
            entry.write_sets().into_iter().for_each(|set| self.encode_owners(set, out));
        }
    }

    fn parse(input: &mut Bytes) -> Result<Self, DecodeError> {
        let (generation, version) = (u32::parse(input)?, u64::parse(input)?);
        let (depth, replicas) = (u8::parse(input)?, u8::parse(input)?);
        let roster = Roster::parse(input)?;
        // Each takes at least eleven bytes.
        if depth > MAX_DEPTH || input.len() >> depth < 11 {
            return Err(DecodeError::Malformed);
        }
        let held = |_| parse_held(&roster.members, version, input);
        let partitions = (0..1_u32 << depth).map(held).collect::<Result<_, _>>()?;
        let layout = Self { generation, version, depth, replicas, roster, partitions };
        layout.checked().map_err(|_| DecodeError::Malformed)
    }
}

impl Layout {
    fn encode_owners(&self, owners: &[NodeId], out: &mut Vec<u8>) {
        // At most 255, as many as `replicas` can say.
        out.push(owners.len() as u8);
        for owner in owners {
            // An owner is a member, and there are at most 65,535.
            let at = self.members().partition_point(|member| member.id < *owner) as u16;
            at.encode_to(out);
        }
    }
}

fn parse_held(members: &[Member], version: u64, input: &mut Bytes) -> Result<Held, DecodeError> {
    let epoch = u64::parse(input)?;
    if epoch == 0 || epoch > version {
        return Err(DecodeError::Malformed);
    }
    let owners = |input: &mut Bytes| {
        let count = u8::parse(input)?;
        let owner = |_| {
            let at = usize::from(u16::parse(input)?);
            members.get(at).map(|member| member.id).ok_or(DecodeError::Malformed)
        };
        (0..count).map(owner).collect::<Result<Vec<_>, _>>()
    };
    let entry = match u8::parse(input)? {
        SETTLED => Entry::Settled(owners(input)?),
        JOINING => Entry::Joining { from: owners(input)?, to: owners(input)? },
        LEAVING => Entry::Leaving { from: owners(input)?, to: owners(input)? },
        _ => return Err(DecodeError::Malformed),
    };
    Ok(Held { epoch, entry })
}
