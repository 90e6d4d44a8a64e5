//! The name of a node.

use core::fmt;
use core::str::FromStr;

/// A node's id: the first 64 bits of the hash of its public key, shown as 16 hexadecimal digits.
///
/// ```
/// use gramme_ring::NodeId;
/// assert_eq!("00000000000000ff".parse(), Ok(NodeId(255)));
/// assert_eq!(NodeId(255).to_string(), "00000000000000ff");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The text is not 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a node id is 16 hexadecimal digits")]
pub struct ParseNodeIdError;

impl FromStr for NodeId {
    type Err = ParseNodeIdError;

    fn from_str(text: &str) -> Result<Self, ParseNodeIdError> {
        if text.len() != 16 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(ParseNodeIdError);
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| ParseNodeIdError)
    }
}
