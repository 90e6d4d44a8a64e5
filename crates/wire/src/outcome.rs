//! The bytes of outcomes: results, errors, receipts.

use bytes::Bytes;
use gramme_quorum::{Failure, GetError, PutError, Receipt, Shortfall, ThresholdError};

use crate::codec::{Wire, WireError};

impl<T: Wire, E: Wire> Wire for Result<T, E> {
    const MIN_SIZE: usize = 1;

    fn encode_to(&self, out: &mut Vec<u8>) {
        self.is_ok().encode_to(out);
        match self {
            Ok(value) => value.encode_to(out),
            Err(error) => error.encode_to(out),
        }
    }

    fn parse(input: &mut Bytes) -> Result<Self, WireError> {
        Ok(if bool::parse(input)? { Ok(T::parse(input)?) } else { Err(E::parse(input)?) })
    }
}

impl Wire for Receipt {
    const MIN_SIZE: usize = 5;

    fn encode_to(&self, out: &mut Vec<u8>) {
        out.extend([self.acks, self.primaries, self.fallbacks, self.zones, self.synced]);
    }

    fn parse(input: &mut Bytes) -> Result<Self, WireError> {
        Ok(Self {
            acks: u8::parse(input)?,
            primaries: u8::parse(input)?,
            fallbacks: u8::parse(input)?,
            zones: u8::parse(input)?,
            synced: u8::parse(input)?,
        })
    }
}

const FAILURES: [Failure; 9] = [
    Failure::Silent,
    Failure::Down,
    Failure::Busy,
    Failure::Disk,
    Failure::WriteStopped,
    Failure::Amnesiac,
    Failure::Stale,
    Failure::NotOwner,
    Failure::Refused,
];

impl Wire for Failure {
    const MIN_SIZE: usize = 1;

    fn encode_to(&self, out: &mut Vec<u8>) {
        // Every variant stands in the table; its place is its byte.
        let code = FAILURES.iter().position(|failure| failure == self).unwrap_or(0);
        out.push(code as u8);
    }

    fn parse(input: &mut Bytes) -> Result<Self, WireError> {
        FAILURES.get(usize::from(u8::parse(input)?)).copied().ok_or(WireError::Malformed)
    }
}

impl Wire for Shortfall {
    const MIN_SIZE: usize = 9;

    fn encode_to(&self, out: &mut Vec<u8>) {
        self.needed.encode_to(out);
        self.answered.encode_to(out);
        self.failed.encode_to(out);
    }

    fn parse(input: &mut Bytes) -> Result<Self, WireError> {
        Ok(Self { needed: u8::parse(input)?, answered: Vec::parse(input)?, failed: Vec::parse(input)? })
    }
}

impl Wire for ThresholdError {
    const MIN_SIZE: usize = 1;

    fn encode_to(&self, out: &mut Vec<u8>) {
        match self {
            Self::TooMany { count, replicas } => out.extend([0, *count, *replicas]),
            Self::Zero => out.push(1),
            Self::Malformed(text) => {
                out.push(2);
                text.encode_to(out);
            }
        }
    }

    fn parse(input: &mut Bytes) -> Result<Self, WireError> {
        Ok(match u8::parse(input)? {
            0 => Self::TooMany { count: u8::parse(input)?, replicas: u8::parse(input)? },
            1 => Self::Zero,
            2 => Self::Malformed(String::parse(input)?),
            _ => return Err(WireError::Malformed),
        })
    }
}

impl Wire for GetError {
    const MIN_SIZE: usize = 1;

    fn encode_to(&self, out: &mut Vec<u8>) {
        match self {
            Self::Threshold(error) => {
                out.push(0);
                error.encode_to(out);
            }
            Self::UnknownType(name) => {
                out.push(1);
                name.encode_to(out);
            }
            Self::Unavailable(shortfall) => {
                out.push(2);
                shortfall.encode_to(out);
            }
            Self::Busy => out.push(3),
        }
    }

    fn parse(input: &mut Bytes) -> Result<Self, WireError> {
        Ok(match u8::parse(input)? {
            0 => Self::Threshold(ThresholdError::parse(input)?),
            1 => Self::UnknownType(String::parse(input)?),
            2 => Self::Unavailable(Shortfall::parse(input)?),
            3 => Self::Busy,
            _ => return Err(WireError::Malformed),
        })
    }
}

impl Wire for PutError {
    const MIN_SIZE: usize = 1;

    fn encode_to(&self, out: &mut Vec<u8>) {
        match self {
            Self::Threshold(error) => {
                out.push(0);
                error.encode_to(out);
            }
            Self::UnknownType(name) => {
                out.push(1);
                name.encode_to(out);
            }
            Self::Context(message) => {
                out.push(2);
                message.encode_to(out);
            }
            Self::TooManySiblings { siblings, limit } => {
                out.push(3);
                siblings.encode_to(out);
                limit.encode_to(out);
            }
            Self::Unavailable(shortfall) => {
                out.push(4);
                shortfall.encode_to(out);
            }
            Self::Unknown(node) => {
                out.push(5);
                node.encode_to(out);
            }
            Self::NoCoordinator(shortfall) => {
                out.push(6);
                shortfall.encode_to(out);
            }
            Self::Busy => out.push(7),
            Self::WriteStopped => out.push(8),
            Self::Disk => out.push(9),
            Self::SiblingsTooLarge { bytes, limit } => {
                out.push(10);
                bytes.encode_to(out);
                limit.encode_to(out);
            }
            Self::ValueTooLarge { limit } => {
                out.push(11);
                limit.encode_to(out);
            }
        }
    }

    fn parse(input: &mut Bytes) -> Result<Self, WireError> {
        Ok(match u8::parse(input)? {
            0 => Self::Threshold(ThresholdError::parse(input)?),
            1 => Self::UnknownType(String::parse(input)?),
            2 => Self::Context(String::parse(input)?),
            3 => Self::TooManySiblings { siblings: u32::parse(input)?, limit: u32::parse(input)? },
            4 => Self::Unavailable(Shortfall::parse(input)?),
            5 => Self::Unknown(gramme_ring::NodeId::parse(input)?),
            6 => Self::NoCoordinator(Shortfall::parse(input)?),
            7 => Self::Busy,
            8 => Self::WriteStopped,
            9 => Self::Disk,
            10 => Self::SiblingsTooLarge { bytes: u64::parse(input)?, limit: u64::parse(input)? },
            11 => Self::ValueTooLarge { limit: u64::parse(input)? },
            _ => return Err(WireError::Malformed),
        })
    }
}
