//! Writes one object durably, opens the store again, and reads it: `cargo run -p gramme-storage --example log`.
#![allow(clippy::print_stdout, reason = "it is a command")]

use std::error::Error;
use std::sync::mpsc;

use bytes::Bytes;
use gramme_merkle::{Digest, Leaf, leaf_of};
use gramme_ring::{KeyHash, PartitionId};
use gramme_storage::{Batch, Commit, EngineKind, Hooks, Name, Options, Row, Space, Store};

/// Partitions are the first four bits of a hash, leaves of their trees the next four.
const DEPTH: u8 = 4;
const LEAF_BITS: u8 = 4;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("store");
    let options = Options::new(EngineKind::Sled, LEAF_BITS);
    Store::create(&path, [7; 16], &options)?;

    let name = Name { space: Space::Data, hash: 0x1234 << 48, key: Bytes::from_static(b"cart") };
    let opened = Store::open(&path, options, Hooks::on_commit(|_| ()))?;
    println!("a new store is at batch {}", opened.position);
    opened.store.close();

    let (sender, commits) = mpsc::channel();
    let opened = Store::open(
        &path,
        options,
        Hooks::on_commit(move |commit| {
            // Nobody listens any more at the end.
            let _ = sender.send(commit);
        }),
    )?;
    let sequence = opened.store.submit(batch(&name, "book, pen"), true);
    // Nothing is acknowledged before it is on the device.
    while !matches!(commits.recv()?, Commit::Synced { through } if through >= sequence) {}
    println!("batch {sequence} survives a loss of power");
    opened.store.close();

    let opened = Store::open(&path, options, Hooks::on_commit(|_| ()))?;
    println!("proven whole: {}, at batch {}", opened.damaged.is_empty(), opened.position);
    println!("{:?}", opened.store.get(&name)?);
    opened.store.close();
    Ok(())
}

/// An object, the leaf that it lies in, and the total of its partition: together they are the proof.
fn batch(name: &Name, value: &'static str) -> Batch {
    let partition = PartitionId::of(KeyHash(name.hash), DEPTH);
    let number = leaf_of(name.hash << DEPTH, LEAF_BITS);
    let digest = Digest::of(&name.key, value.as_bytes());
    let mut leaf = Leaf::default();
    leaf.replace(None, Some(digest));
    Batch {
        rows: vec![
            Row::Data { name: name.clone(), digest, value: Bytes::from_static(value.as_bytes()) },
            Row::Leaf { partition, number, leaf },
            Row::Partition { partition, total: leaf, record: Bytes::from_static(b"ours") },
        ],
    }
}
