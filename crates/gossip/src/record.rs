//! What is known of a node, and how two versions of that become one.
//!
//! The obvious record, whose later writer wins, needs clocks that agree, and a late message undoes what came
//! after it. So each field has a merge that does not care for order: the earliest joining, the earliest
//! removal, and of what a node says of itself the later one, counted by itself alone (section 4.8 of the paper;
//! incarnations are SWIM's).

use bytes::Bytes;
use gramme_codec::Codec;
use gramme_ring::NodeId;

/// The most addresses a node has.
pub const ADDRESSES: usize = 8;
/// The most bytes of one address.
pub const ADDRESS: usize = 256;
/// The most bytes of what else it says.
pub const DETAILS: usize = 1_024;

/// No record takes more bytes, nor does any other message that has to fit at once.
pub(crate) const LARGEST: usize = ADDRESSES * (ADDRESS + 4) + DETAILS + 128;

/// A member of the cluster, or one that was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Who.
    pub node: NodeId,
    /// When it became a member, in microseconds since 1970, by the clock of whoever admitted it.
    pub joined: u64,
    /// When it was removed, if it was. A removed node never comes back; it would join under another id.
    pub removed: Option<u64>,
    /// What it says of itself.
    pub profile: Profile,
}

/// What a node says of itself. Only that node makes a later one.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Profile {
    /// Which start of the node said so; later starts have higher ones.
    pub incarnation: u64,
    /// Counts its changes within a start.
    pub revision: u32,
    /// Where it can be reached.
    pub addresses: Vec<String>,
    /// Whatever else whoever runs it wants the others to know, in a form of its own. Passed on as it is, also by
    /// members that do not understand it: what is added later goes here.
    pub details: Bytes,
}

gramme_codec::structs! {
    Record { node: NodeId, joined: u64, removed: Option<u64>, profile: Profile }
    Profile { incarnation: u64, revision: u32, addresses: Vec<String>, details: Bytes }
}

impl Record {
    /// A member that has not spoken yet.
    #[must_use]
    pub fn joined(node: NodeId, at: u64, addresses: Vec<String>) -> Self {
        let profile = Profile { addresses, ..Profile::default() };
        Self { node, joined: at, removed: None, profile }
    }

    /// Whether it is a member now.
    #[must_use]
    pub const fn is_member(&self) -> bool {
        self.removed.is_none()
    }

    /// Whether it is as small as records are.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let Profile { addresses, details, .. } = &self.profile;
        // The highest number would leave none for the node itself.
        self.profile.incarnation < u64::MAX
            && addresses.len() <= ADDRESSES
            && addresses.iter().all(|address| address.len() <= ADDRESS)
            && details.len() <= DETAILS
    }

    /// Takes what another version of this record knows; says whether that changed anything.
    pub(crate) fn merge(&mut self, other: &Self) -> bool {
        let joined = self.joined.min(other.joined);
        let removed = match (self.removed, other.removed) {
            (Some(one), Some(two)) => Some(one.min(two)),
            (one, two) => one.or(two),
        };
        // Two profiles of one count are the work of two processes with one identity: all take the same one.
        let is_later = other.profile > self.profile;
        let is_changed = is_later || (joined, removed) != (self.joined, self.removed);
        (self.joined, self.removed) = (joined, removed);
        if is_later {
            self.profile = other.profile.clone();
            self.detach();
        }
        is_changed
    }

    /// Lets go of the message that it came in.
    pub(crate) fn detach(&mut self) {
        self.profile.details = Bytes::copy_from_slice(&self.profile.details);
    }

    /// Eight bytes that differ where the record does.
    pub(crate) fn hash(&self) -> u64 {
        let hash = blake3::hash(&self.to_bytes());
        hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }
}
