//! What there is one of per node, however many shards it has: who owns what, the buckets' properties, the peers,
//! and what they remember of each other.

mod buckets;
mod change;
mod clock;
mod deciding;
mod layouts;
mod lineage;
mod map;
mod members;
mod peers;
mod properties;

pub use buckets::Scope;
pub(crate) use buckets::{Buckets, META_PREFIX};
pub(crate) use clock::Clock;
pub(crate) use deciding::Deciding;
pub(crate) use layouts::{Layouts, recovered as recovered_layout, row as layout_row};
pub(crate) use lineage::Lineage;
pub(crate) use map::{Epoch, Map, Need};
pub(crate) use members::Members;
pub(crate) use peers::{META_BOOT, Peers, boot_record};
pub use properties::{
    BucketDurability, DEFAULT_TYPE, LWW_TYPE, Properties, PropertiesChange, PropertiesPatch,
};

use gramme_object::Key;

/// See the module.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) map: Map,
    pub(crate) buckets: Buckets,
    pub(crate) lineage: Lineage,
    pub(crate) clock: Clock,
    pub(crate) members: Members,
    pub(crate) layouts: Layouts,
    deciding: Deciding,
    peers: Peers,
    changes: change::Changes,
}

impl Node {
    pub(crate) fn new(
        map: Map,
        buckets: Buckets,
        lineage: Lineage,
        members: Members,
        deciding: Deciding,
    ) -> Self {
        let clock = Clock::new(map.layout().members().len() == 1);
        let (peers, changes) = (Peers::default(), change::Changes::default());
        let layouts = Layouts::stored(map.layout().rank());
        Self { map, buckets, lineage, clock, members, layouts, deciding, peers, changes }
    }

    pub(crate) const fn peers(&self) -> &Peers {
        &self.peers
    }

    /// The properties that a key's bucket has; nothing if there is no such type.
    pub(crate) fn properties(&self, key: &Key) -> Option<Properties> {
        self.buckets.get(key.bucket_type(), key.bucket())
    }
}
