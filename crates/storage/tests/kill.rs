//! kill -9 of a process that writes: nothing that it has reported as committed may be missing, with the log,
//! the checkpoint and the engine each caught in the middle.
//!
//! The test starts itself again as the writer. The writer prints each acknowledgement after it was durable,
//! and each point of its checkpoints; the test kills it at a chosen point and opens what it left.

mod common;

use std::collections::BTreeMap;
use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use bytes::Bytes;
use common::{Watch, digest, leaf_at, name, object, options, value};
use gramme_merkle::Leaf;
use gramme_ring::PartitionId;
use gramme_storage::{Batch, EngineKind, Row, Store};

const DIRECTORY: &str = "GRAMME_TEST_WRITER_DIRECTORY";
const KEYS: u64 = 50;

fn engine_of(directory: &Path) -> EngineKind {
    let name = directory.file_name().and_then(|name| name.to_str()).expect("the engine's name");
    name.parse().expect("an engine")
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("a reader");
}

/// Not a test of its own: the process that the test below kills.
#[test]
fn writer() {
    let Some(directory) = env::var_os(DIRECTORY) else { return };
    let directory = Path::new(&directory);
    let mut options = options(engine_of(directory));
    options.checkpoint_bytes = 300_000;
    // However little it takes, it is too much.
    options.spare_bytes = 0;
    let watch = Watch::default();
    let hooks = watch.hooks(|event| say(&format!("event {event:?}")));
    let opened = Store::open(directory, options, hooks).expect("the store that was left");
    assert!(opened.damaged.is_empty(), "{:?}", opened.damaged);
    opened.store.note_stored(0);
    let rows = opened.partitions.iter();
    let mut leaves: BTreeMap<_, _> =
        rows.flat_map(|(id, row)| row.leaves.iter().map(|(number, leaf)| ((*id, *number), *leaf))).collect();
    let mut versions: BTreeMap<u64, Bytes> = BTreeMap::new();
    for number in 0..KEYS {
        let (hash, key) = object(&format!("key-{number}"));
        versions.extend(opened.store.get(&name(hash, &key)).expect("readable").map(|value| (number, value)));
    }
    let first = versions.values().map(generation).max().unwrap_or(0) + 1;
    for generation in first.. {
        let number = generation * 7 % KEYS;
        let (hash, key) = object(&format!("key-{number}"));
        // Now and then one that is chunked.
        let size = if generation % 11 == 0 { 150_000 } else { 3_000 };
        let new = value(hash, size, generation);
        let old = versions.insert(number, new.clone());
        let rows = change(&mut leaves, hash, key, old.as_ref(), new);
        let sync = generation % 3 != 0;
        let sequence = opened.store.submit(Batch { rows }, sync);
        watch.wait(sequence, sync).expect("a commit");
        say(&format!("ack {number} {generation}"));
    }
}

fn generation(value: &Bytes) -> u64 {
    u64::from_le_bytes(*value.first_chunk().expect("a generation"))
}

fn change(
    leaves: &mut BTreeMap<(PartitionId, u32), Leaf>,
    hash: u64,
    key: Bytes,
    old: Option<&Bytes>,
    new: Bytes,
) -> Vec<Row> {
    let (partition, number) = leaf_at(hash);
    let leaf = leaves.entry((partition, number)).or_default();
    leaf.replace(old.map(|old| digest(&key, old)), Some(digest(&key, &new)));
    let leaf = *leaf;
    let mut total = Leaf::default();
    let below = leaves.iter().filter(|((of, _), _)| *of == partition);
    below.for_each(|(_, leaf)| total.add(*leaf));
    let digest = digest(&key, &new);
    vec![
        Row::Data { name: name(hash, &key), digest, value: new },
        Row::Leaf { partition, number, leaf },
        Row::Note { partition, total, note: Bytes::new() },
    ]
}

/// Runs the writer until `count` lines have begun with `until`, kills it, and adds what it acknowledged.
fn write_until(directory: &Path, until: &str, count: usize, acked: &mut BTreeMap<u64, u64>) {
    let mut child = Command::new(env::current_exe().expect("this test"))
        .args(["--exact", "writer", "--nocapture", "--test-threads=1"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("the writer");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut seen = 0;
    let mut take = |line: &str| {
        if let Some(ack) = line.strip_prefix("ack ") {
            let (number, generation) = ack.split_once(' ').expect("two numbers");
            acked.insert(number.parse().expect("a key"), generation.parse().expect("a generation"));
        }
    };
    while seen < count {
        let line = lines.next().expect("the writer is alive").expect("text");
        seen += usize::from(line.starts_with(until));
        take(&line);
    }
    child.kill().expect("a living writer");
    // What was in the pipe was acknowledged too.
    lines.map_while(Result::ok).filter(|line| line.matches(' ').count() == 2).for_each(|line| take(&line));
    child.wait().expect("a dead writer");
}

fn check(directory: &Path, acked: &BTreeMap<u64, u64>, at: &str) {
    let opened = Store::open(directory, options(engine_of(directory)), Watch::default().hooks(|_| ()));
    let opened = opened.unwrap_or_else(|error| panic!("after a kill at {at}: {error}"));
    assert!(opened.damaged.is_empty(), "after a kill at {at}: {:?}", opened.damaged);
    for (number, acked) in acked {
        let (hash, key) = object(&format!("key-{number}"));
        let stored = opened
            .store
            .get(&name(hash, &key))
            .expect("readable")
            .unwrap_or_else(|| panic!("{number} at {at}"));
        let stored_generation = generation(&stored);
        assert!(stored_generation >= *acked, "key {number}: {stored_generation} < {acked} after {at}");
        assert_eq!(stored, value(hash, stored.len() - 8, stored_generation), "key {number} after {at}");
    }
}

fn kill_everywhere(engine: &str) {
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let directory = temporary.path().join(engine);
    Store::create(&directory, [1; 16], &options(engine_of(&directory))).expect("a new store");
    let mut acked = BTreeMap::new();
    let points = [
        ("ack", 40),
        ("event CheckpointStarted", 2),
        ("event EngineFilled", 1),
        ("event EngineSynced", 2),
        ("event ManifestWritten", 1),
        ("event CheckpointDone", 3),
        ("event CompactionStarted", 1),
        ("event CompactionCopied", 1),
        ("event CompactionDone", 1),
        ("ack", 333),
        ("event CheckpointStarted", 1),
    ];
    for (until, count) in points {
        // The memory engine has no manifest to write, and no files.
        let until = match engine {
            "memory" => until.replace("ManifestWritten", "EngineSynced").replace("Compaction", "Checkpoint"),
            _ => until.to_owned(),
        };
        let until = until.replace("CheckpointCopied", "EngineFilled");
        write_until(&directory, &until, count, &mut acked);
        check(&directory, &acked, &until);
    }
    assert!(acked.len() as u64 == KEYS, "only {} keys were written", acked.len());
}

#[test]
fn killed_anywhere_sled_has_what_was_acknowledged() {
    kill_everywhere("sled");
}

#[test]
fn killed_anywhere_redb_has_what_was_acknowledged() {
    kill_everywhere("redb");
}

#[test]
fn killed_anywhere_memory_has_what_was_acknowledged() {
    kill_everywhere("memory");
}
