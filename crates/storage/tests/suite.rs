//! One suite for every engine.

mod common;

use std::collections::BTreeMap;
use std::fs;

use common::{Bench, copy, frames_end, name, object, partition, value};
use gramme_merkle::{Digest, Leaf};
use gramme_storage::{
    Batch, Commit, CommitError, Damage, EngineKind, Event, Hooks, Name, OpenError, Options, Range, Room, Row,
    Space, Store,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn each(test: impl Fn(EngineKind)) {
    for engine in EngineKind::ALL {
        test(engine);
    }
}

#[test]
fn what_was_committed_is_read_back_after_reopening() {
    each(|engine| {
        let mut bench = Bench::new(engine);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for round in 0..6 {
            for _ in 0..60 {
                bench.put(
                    &format!("key-{}", rng.random_range(0..80)),
                    rng.random_range(0..2_000),
                    round % 2 == 0,
                );
            }
            bench.remove(&format!("key-{round}"));
            match round % 3 {
                0 => bench.store().checkpoint(),
                1 => bench.reopen(),
                _ => {}
            }
            bench.check();
        }
        bench.close_and_open();
        bench.check();
    });
}

#[test]
fn large_values_are_chunked_replaced_and_removed() {
    each(|engine| {
        let mut bench = Bench::new(engine);
        for size in [65_536, 65_537, 1 << 20, 3, 200_000, 0] {
            bench.put("large", size, true);
            bench.check();
            bench.store().checkpoint();
            bench.check();
            bench.reopen();
            bench.check();
        }
        bench.put("large", 500_000, true);
        bench.store().checkpoint();
        bench.remove("large");
        bench.store().checkpoint();
        bench.check();
    });
}

#[test]
fn records_notes_and_meta_come_back_in_order() {
    each(|engine| {
        let mut bench = Bench::new(engine);
        let total = bench.total(partition(3));
        let record =
            |text: &str| Row::Partition { partition: partition(3), total, record: text.to_owned().into() };
        let note = |text: &str| Row::Note { partition: partition(3), total, note: text.to_owned().into() };
        bench.commit(vec![note("dropped"), record("old"), record("new")], true);
        bench.store().checkpoint();
        bench.commit(vec![note("1"), Row::Meta { name: "props".into(), value: "p1".into() }], true);
        bench.commit(vec![note("2"), Row::Meta { name: "props".into(), value: "p2".into() }], false);
        for _ in 0..2 {
            let opened = bench.reopen_and_look();
            assert_eq!(opened.partitions[&partition(3)].record, "new");
            assert_eq!(opened.partitions[&partition(3)].notes, ["1", "2"]);
            assert_eq!(opened.meta[&b"props"[..]], "p2");
            bench.adopt(opened);
            bench.store().checkpoint();
        }
    });
}

#[test]
fn the_log_shrinks_at_a_checkpoint() {
    let mut bench = Bench::new(EngineKind::Sled);
    for key in 0..40 {
        bench.put(&format!("key-{key}"), 20_000, false);
    }
    let before = bench.store().stats();
    bench.store().checkpoint();
    let after = bench.store().stats();
    assert!(
        before.replay_bytes > 700_000 && after.replay_bytes < before.replay_bytes / 2,
        "{before:?} {after:?}"
    );
    assert_eq!((after.checkpoints - before.checkpoints, after.buffer_bytes), (1, 0));
    bench.reopen();
    bench.check();
}

/// What was removed is given back to the disk, while others read and write.
#[test]
fn the_engine_shrinks_when_most_is_removed() {
    for engine in [EngineKind::Sled, EngineKind::Redb] {
        let mut bench = Bench::new(engine);
        bench.options.spare_bytes = 8 << 20;
        bench.reopen();
        for key in 0..400 {
            bench.put(&format!("key-{key}"), 60_000 + 20_000 * (key % 2), false);
        }
        bench.store().checkpoint();
        (10..400).for_each(|key| bench.remove(&format!("key-{key}")));
        bench.store().note_stored(700_000);
        let mut rounds = 0;
        while bench.store().stats().compactions == 0 {
            bench.put(&format!("new-{}", rounds % 7), 90_000, true);
            bench.store().checkpoint();
            bench.check();
            rounds += 1;
            assert!(rounds < 2_000, "{engine:?}: {:?}", bench.store().stats());
        }
        assert!(bench.store().stats().engine_bytes < 16 << 20, "{engine:?}: {:?}", bench.store().stats());
        bench.check();
        // The old one goes when nobody reads it any more.
        while bench.path().join("engine").exists() {
            std::thread::yield_now();
        }
        bench.put("after", 70_000, true);
        bench.close_and_open();
        bench.check();
        let entries = std::fs::read_dir(bench.path()).expect("the store");
        let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"));
        let engines: Vec<_> = names.filter(|name| name.starts_with("engine")).collect();
        assert_eq!(engines, ["engine-1"], "{engine:?}");
    }
}

/// What lies beside the store and only looks like an engine's stays, and is in nobody's way.
#[test]
fn only_left_over_engines_are_removed() {
    let mut bench = Bench::new(EngineKind::Sled);
    bench.put("key", 10, true);
    let (ours, left) = (["engine.bak", "engine-old"], ["engine-7", "engine-1"]);
    for name in ours.into_iter().chain(left) {
        std::fs::create_dir(bench.path().join(name)).expect("a directory");
    }
    std::fs::write(bench.path().join("engine.txt"), b"notes").expect("a file");
    bench.close_and_open();
    bench.check();
    let exists = |name: &str| bench.path().join(name).exists();
    assert!(ours.into_iter().all(exists) && exists("engine.txt") && !left.into_iter().any(exists));
}

#[test]
fn many_batches_share_a_sync() {
    let bench = Bench::new(EngineKind::Memory);
    let store = bench.store();
    let mut last = 0;
    for _ in 0..500 {
        last = store.submit(Batch::default(), true);
    }
    bench.wait_synced(last);
    let stats = store.stats();
    assert!(stats.batches == 500 && stats.syncs < 250, "{stats:?}");
}

#[test]
fn a_second_opening_is_refused() {
    each(|engine| {
        let bench = Bench::new(engine);
        assert!(matches!(bench.try_open(), Err(OpenError::Locked(_))));
        assert!(matches!(Store::check_unused(&bench.path()), Err(OpenError::Locked(_))));
    });
}

#[test]
fn what_is_missing_is_said() {
    each(|engine| {
        let mut bench = Bench::new(engine);
        bench.put("key", 10, true);
        bench.close();
        let missing = |part: &str| {
            let away = bench.path().join("away");
            fs::rename(bench.path().join(part), &away).expect("a part to move");
            let error = bench.try_open().err();
            let _ = fs::remove_dir_all(bench.path().join(part))
                .or_else(|_| fs::remove_file(bench.path().join(part)));
            fs::rename(&away, bench.path().join(part)).expect("a part to move back");
            error
        };
        assert!(matches!(missing("IDENTITY"), Some(OpenError::Missing(_))));
        assert!(matches!(missing("MANIFEST"), Some(OpenError::Damaged { .. })));
        assert!(missing("log").is_some());
        assert!(bench.try_open().is_ok());
        assert!(matches!(bench.try_create(), Err(OpenError::Exists(_))));
    });
}

#[test]
fn an_emptied_engine_is_noticed() {
    for engine in [EngineKind::Sled, EngineKind::Redb] {
        let mut bench = Bench::new(engine);
        bench.put("key", 10, true);
        bench.close();
        fs::remove_dir_all(bench.path().join("engine")).expect("the engine's files");
        assert!(matches!(bench.try_open(), Err(OpenError::Damaged { .. })));
    }
}

/// An engine that falls back to an earlier state of its own brings back old records.
#[test]
fn an_older_engine_is_noticed() {
    for engine in [EngineKind::Sled, EngineKind::Redb] {
        let mut bench = Bench::new(engine);
        bench.put("key", 10, true);
        bench.close();
        let (now, earlier) = (bench.path().join("engine"), bench.path().with_file_name("earlier"));
        copy(&now, &earlier);
        bench.reopen();
        bench.commit(vec![Row::Meta { name: "name".into(), value: "newer".into() }], true);
        bench.close();
        fs::remove_dir_all(&now).expect("the engine's files");
        copy(&earlier, &now);
        assert!(matches!(bench.try_open(), Err(OpenError::Damaged { .. })));
    }
}

#[test]
fn a_lost_object_is_noticed() {
    each(|engine| {
        let mut bench = Bench::new(engine);
        bench.put("key", 10, true);
        // The leaf says that there are two objects; only one was ever stored.
        let (hash, key) = object("other");
        let leaf = bench.leaf_with(hash, &key);
        bench.commit(vec![leaf], true);
        let opened = bench.reopen_and_look();
        assert!(matches!(opened.damaged.values().next(), Some(Damage::Leaf { found: 0, expected: 1, .. })));
    });
}

#[test]
fn a_torn_tail_is_cut_and_a_damaged_middle_is_refused() {
    each(|engine| {
        let mut bench = Bench::new(engine);
        for key in 0..5 {
            bench.put(&format!("key-{key}"), 100, true);
        }
        bench.abandon();
        let log = bench.newest_segment();
        let whole = fs::read(&log).expect("the log");
        // Half a frame more, alone or before the zeros that lie ahead: torn, and nothing of it was promised.
        let (frames, ahead) = whole.split_at(frames_end(&whole));
        assert!(!ahead.is_empty() && ahead.iter().all(|byte| *byte == 0), "{} bytes ahead", ahead.len());
        let torn = b"GRFM\x40\0\0\0torn";
        for rest in [&torn[..], &[&torn[..], ahead].concat(), &[ahead, torn].concat(), ahead, &[0], &[]] {
            fs::write(&log, [frames, rest].concat()).expect("a torn log");
            bench.reopen();
            bench.check();
            bench.abandon();
        }
        // A flipped bit where later frames say that it was synced.
        let mut flipped = whole.clone();
        flipped[200] ^= 1;
        fs::write(&log, &flipped).expect("a damaged log");
        assert!(matches!(bench.try_open(), Err(OpenError::Damaged { .. })));
        fs::write(&log, &whole).expect("the log");
        bench.reopen();
        bench.check();
    });
}

#[test]
fn a_full_disk_stops_writes_and_loses_nothing() {
    let mut bench = Bench::new(EngineKind::Sled);
    bench.put("before", 10, true);
    let has_reserve = |bench: &Bench| bench.path().join("RESERVE").exists();
    assert!(has_reserve(&bench));
    bench.options.min_free_bytes = u64::MAX;
    bench.reopen();
    assert!(!has_reserve(&bench), "on a full disk the reserve is what is left to work with");
    let (hash, key) = object("during");
    let rows = vec![bench.row(hash, &key, value(hash, 10, 1))];
    assert_eq!(bench.try_commit(rows, true), Err(CommitError::DiskFull));
    assert_eq!(bench.store().stats().disk_full, 1);
    bench.check();
    bench.options.min_free_bytes = 1;
    bench.reopen();
    assert!(has_reserve(&bench));
    bench.put("after", 10, true);
    bench.check();
}

#[test]
fn random_histories_survive_random_reopening() {
    for (seed, engine) in (0..4).flat_map(|seed| EngineKind::ALL.map(|engine| (seed, engine))) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut bench = Bench::new(engine);
        // However little the engine takes, it is copied.
        bench.options.spare_bytes = 0;
        for _ in 0..60 {
            match rng.random_range(0..12) {
                0 => {
                    bench.reopen();
                    bench.store().note_stored(0);
                }
                1 => bench.store().checkpoint(),
                2 => bench.remove(&format!("key-{}", rng.random_range(0..20))),
                3 => bench.put(&format!("key-{}", rng.random_range(0..20)), 150_000, false),
                _ => bench.put(
                    &format!("key-{}", rng.random_range(0..20)),
                    rng.random_range(0..300),
                    rng.random(),
                ),
            }
        }
        bench.check();
        bench.reopen();
        bench.check();
        let expected: BTreeMap<_, _> = bench.expected().clone();
        assert!(!expected.is_empty(), "seed {seed}");
    }
}

/// Commits wait for checkpoints when the buffer is full, and checkpoints ask the committer things: neither may
/// wait for the other for ever.
#[test]
fn a_full_buffer_is_drained() {
    each(|engine| {
        let mut bench = Bench::new(engine);
        bench.options.buffer_bytes = 20_000;
        bench.options.checkpoint_bytes = 10_000;
        bench.reopen();
        for round in 0..3 {
            for key in 0..60 {
                bench.put(&format!("key-{key}"), 3_000, (round + key) % 2 == 0);
            }
            bench.check();
            // The memory engine replays more than the buffer may hold.
            bench.reopen();
        }
        bench.store().checkpoint();
        bench.check();
        bench.close_and_open();
    });
}

#[test]
fn after_a_failure_nothing_more_is_taken() {
    let mut bench = Bench::new(EngineKind::Sled);
    bench.options.min_free_bytes = u64::MAX;
    bench.reopen();
    let (hash, key) = object("during");
    for _ in 0..3 {
        let rows = vec![bench.row(hash, &key, value(hash, 10, 1))];
        assert_eq!(bench.try_commit(rows, true), Err(CommitError::DiskFull));
    }
    assert_eq!(bench.store().room(), Room::None);
    bench.options.min_free_bytes = 0;
    bench.reopen();
    bench.put("after", 10, true);
    bench.check();
}

/// A value that holds a copy of a log is only a value, also when it is torn.
#[test]
fn a_value_cannot_pass_for_a_frame() {
    let mut bench = Bench::new(EngineKind::Sled);
    bench.put("key", 100, true);
    bench.abandon();
    let log = bench.newest_segment();
    let whole = fs::read(&log).expect("the log");
    let other = Bench::with_id(EngineKind::Sled, [9; 16]);
    let foreign = fs::read(other.newest_segment()).expect("another log");
    let frames = &whole[..frames_end(&whole)];
    let torn = [frames, b"GRFM\xff\xff\0\0torn", &foreign, &b"GRFM\x10\0\0\0".repeat(5_000)].concat();
    fs::write(&log, torn).expect("a torn log");
    bench.reopen();
    bench.check();
}

/// Content that looks like frames, in a batch of which one bit is flipped, hides none of the synced batches behind
/// it.
#[test]
fn content_that_looks_like_frames_hides_no_damage() {
    for content in [b"GRFM".repeat(1 << 18), vec![7; 1 << 20]] {
        let mut bench = Bench::new(EngineKind::Memory);
        bench.options.segment_bytes = 1 << 30;
        bench.reopen();
        let (hash, key) = object("first");
        bench.commit(vec![bench.row(hash, &key, content.into())], true);
        bench.put("second", 10, true);
        bench.put("third", 10, true);
        bench.abandon();
        let log = bench.newest_segment();
        let mut bytes = fs::read(&log).expect("the log");
        bytes[600_000] ^= 1;
        fs::write(&log, bytes).expect("a damaged log");
        assert!(matches!(bench.try_open(), Err(OpenError::Damaged { .. })));
    }
}

/// Where a damaged header hides how long its frame is, the next intact one is found all the same.
#[test]
fn a_damaged_header_hides_no_damage() {
    let mut bench = Bench::new(EngineKind::Memory);
    for key in 0..4 {
        bench.put(&format!("key-{key}"), 50, true);
    }
    bench.abandon();
    let log = bench.newest_segment();
    let whole = fs::read(&log).expect("the log");
    let second = whole.windows(4).enumerate().filter(|(_, four)| four == b"GRFM").nth(1).expect("a frame").0;
    for at in second..second + 32 {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(&log, bytes).expect("a damaged log");
        assert!(matches!(bench.try_open(), Err(OpenError::Damaged { .. })), "byte {at}");
    }
}

#[test]
fn a_panic_in_a_thread_of_the_store_is_reported() {
    let bench = Bench::new(EngineKind::Memory);
    let path = bench.path().with_file_name("other");
    Store::create(&path, [3; 16], &bench.options).expect("a new store");
    let (told, tells) = std::sync::mpsc::channel();
    let hooks = Hooks {
        on_commit: Box::new(move |commit| {
            let _ = told.send(commit);
        }),
        on_event: Box::new(|event| assert_ne!(event, Event::EngineFilled, "on purpose")),
    };
    let opened = Store::open(&path, bench.options, hooks).expect("it opens");
    let (hash, key) = object("key");
    opened.store.submit(Batch { rows: vec![bench.row(hash, &key, value(hash, 10, 1))] }, true);
    opened.store.checkpoint();
    let is_told = |commit: Commit| matches!(commit, Commit::Failed { error: CommitError::Panicked, .. });
    assert!(tells.iter().take(2).any(is_told));
    opened.store.submit(Batch::default(), true);
    assert!(tells.iter().any(|commit| matches!(commit, Commit::Failed { error: CommitError::Fatal, .. })));
}

/// Pages show what is committed, in order, wherever it is, whatever happens between them.
#[test]
fn pages_go_through_buffer_and_engine_in_order() {
    each(|engine| {
        let mut bench = Bench::new(engine);
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        for round in 0..6 {
            for _ in 0..40 {
                let size = if rng.random_range(0..10) == 0 { 9_000 } else { 30 };
                bench.put(&format!("key-{}", rng.random_range(0..90)), size, false);
            }
            bench.remove(&format!("key-{round}"));
            if round % 2 == 0 {
                bench.store().checkpoint();
            }
            let mut expected: Vec<_> = bench
                .expected()
                .iter()
                .map(|(key, (hash, value))| (name(*hash, key), value.clone()))
                .collect();
            expected.sort();
            for (first, last) in [(0, u64::MAX), (1 << 62, 3 << 62), (u64::MAX, u64::MAX)] {
                for limit in [1, 7, 1_000] {
                    let inside = |(name, _): &&(Name, _)| (first..=last).contains(&name.hash);
                    let wanted: Vec<_> = expected.iter().filter(inside).cloned().collect();
                    assert_eq!(pages(bench.store(), first, last, limit), wanted, "pages of {limit}");
                }
            }
        }
    });
}

fn pages(store: &Store, first: u64, last: u64, limit: usize) -> Vec<(Name, bytes::Bytes)> {
    let mut range = Range { space: Space::Data, first, last, after: None };
    let mut rows = Vec::new();
    loop {
        let page = store.scan(&range, limit).expect("a readable store");
        assert!(page.rows.len() <= limit);
        rows.extend(page.rows);
        if page.next.is_none() {
            return rows;
        }
        range.after = page.next;
    }
}

/// Hinted objects are rows like any other, apart from the data of the same key, and count in no tree.
#[test]
fn hints_are_kept_apart() {
    each(|engine| {
        let mut bench = Bench::new(engine);
        bench.put("key", 20, true);
        let (hash, key) = object("key");
        let hint = |target| Name { space: Space::Hint(target), hash, key: key.clone() };
        for (target, size) in [(1, 10), (2, 9_000)] {
            let stored = value(hash, size, target);
            let digest = common::digest(&key, &stored);
            bench.commit(vec![Row::Data { name: hint(target), digest, value: stored }], true);
        }
        bench.close_and_open();
        bench.check();
        assert_eq!(bench.store().get(&hint(2)).expect("readable"), Some(value(hash, 9_000, 2)));
        assert_eq!(bench.store().get(&hint(3)).expect("readable"), None);
        let range = Range { space: Space::Hint(1), first: 0, last: u64::MAX, after: None };
        assert_eq!(bench.store().scan(&range, 9).expect("readable").rows, [(hint(1), value(hash, 10, 1))]);
        let digest = |size, target| common::digest(&key, &value(hash, size, target));
        let sum = |digest: Digest| Leaf { count: 1, sum: digest.0 };
        let opened = bench.reopen_and_look();
        assert_eq!(opened.hints, [(1, sum(digest(10, 1))), (2, sum(digest(9_000, 2)))].into());
        bench.adopt(opened);
        bench.commit(vec![Row::Removed { name: hint(2) }], true);
        let changed = Row::Data { name: hint(1), digest: digest(30, 1), value: value(hash, 30, 1) };
        bench.commit(vec![changed], true);
        // What the log says holds, whatever the engine has.
        let opened = bench.reopen_and_look();
        assert_eq!(opened.hints, [(1, sum(digest(30, 1)))].into());
        bench.adopt(opened);
        assert_eq!(bench.store().get(&hint(2)).expect("readable"), None);
        bench.close();
        assert_eq!(bench.reopen_and_look().hints, [(1, sum(digest(30, 1)))].into());
    });
}

/// A key that was never written is known to be absent without a look into the engine, also after a restart.
#[test]
fn an_absent_key_is_known_without_the_engine() {
    let mut bench = Bench::new(EngineKind::Sled);
    for key in 0..500 {
        bench.put(&format!("key-{key}"), 20, false);
    }
    bench.close_and_open();
    let known = |text: &str| {
        let (hash, key) = object(text);
        bench.store().get_buffered(&name(hash, &key))
    };
    let absent = (0..1_000).filter(|key| known(&format!("other-{key}")) == Some(None)).count();
    assert!(absent > 950, "{absent} of 1,000");
    assert!((0..500).all(|key| known(&format!("key-{key}")).is_none()), "these must be looked for");
}

/// What a directory was made with is what it is: other settings would find other leaves, or nothing.
#[test]
fn another_engine_or_other_leaves_are_refused() {
    let mut bench = Bench::new(EngineKind::Sled);
    bench.put("key", 100, true);
    bench.close();
    let made_with = bench.options;
    for (engine, leaf_bits) in
        [(EngineKind::Redb, made_with.leaf_bits), (EngineKind::Sled, made_with.leaf_bits + 1)]
    {
        bench.options = Options { engine, leaf_bits, ..made_with };
        assert!(matches!(bench.try_open(), Err(OpenError::Mismatch { .. })), "{engine:?} {leaf_bits}");
    }
    bench.options = made_with;
    bench.reopen();
    bench.check();
}
