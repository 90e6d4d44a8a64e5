//! What the fuzzer of `fuzz/targets/replica.rs` calls. Not part of the crate as it is used.
use bytes::Bytes;
use gramme_object::Key;
use gramme_vclock::{Actor, Context};

use crate::Secrets;
use crate::io::{Recovered, RecoveredPartition};
use crate::node::Buckets;
use crate::shard::{Fresh, Partition};

/// Records of partitions and properties, and contexts as clients send them.
pub fn records(input: &[u8]) {
    let bytes = Bytes::copy_from_slice(input);
    let id = gramme_ring::PartitionId { prefix: 0, depth: 0 };
    let fresh = Fresh { actor: Actor(1), life: 1, born: 1 };
    let stored = |record, notes| RecoveredPartition { record, notes, ..RecoveredPartition::default() };
    let _ = Partition::begin(id, &stored(bytes.clone(), Vec::new()), fresh);
    let _ = Partition::begin(id, &stored(Bytes::new(), vec![bytes.clone()]), fresh);
    let _ = Buckets::restore(std::iter::once(bytes.clone()));
    let mut recovered = Recovered::default();
    for name in ["lineage", "heard"] {
        recovered.meta.insert(Bytes::from_static(name.as_bytes()), bytes.clone());
    }
    let layout = gramme_ring::plan(&gramme_ring::PlanRequest {
        members: &[gramme_ring::Member::new(gramme_ring::NodeId(1))],
        replicas: 1,
        depth: 0,
        previous: None,
    });
    if let Ok(planned) = layout {
        let map = crate::node::Map::new(planned.layout, gramme_ring::Keyspace::new([1; 32]));
        let _ = crate::node::Lineage::begin(&map, &recovered, 1);
    }
    let secrets = Secrets { current: (1, [1; 32]), previous: Some((2, [2; 32])) };
    let Ok(key) = Key::new("default", "b", "k") else { return };
    // Nobody forges a seal by chance.
    assert!(secrets.open(&key, input).is_err() || input.is_empty());
    let mut rest = input;
    if let Ok(context) = Context::decode(&mut rest) {
        assert_eq!(secrets.open(&key, &secrets.seal(&key, &context)), Ok(context));
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    /// What the fuzzers have found interesting runs as an ordinary test.
    #[test]
    fn the_corpus_breaks_nothing() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/replica");
        for entry in std::fs::read_dir(corpus).expect("a corpus") {
            super::records(&std::fs::read(entry.expect("an entry").path()).expect("an input"));
        }
    }
}
