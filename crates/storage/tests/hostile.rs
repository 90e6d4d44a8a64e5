//! Every file that a store writes, cut off and flipped, in copies of a store that was closed and of one whose
//! process was killed. What comes of it is an error, damage that is reported, or all that was acknowledged:
//! never silence, never a panic.
//!
//! One loss cannot be seen from inside: the last bytes of the log of a store that was not closed. Nothing says
//! that they were there, as after any crash. What is gone with them was the newest, and the others remember
//! (`lineage` in `gramme-replica`).

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use common::{Bench, Watch, copy, files_below, frames_end, name};
use gramme_storage::{EngineKind, Options, Store};

type Expected = BTreeMap<Bytes, (u64, Bytes)>;

/// A store with something in every file: chunks, replaced rows, removed ones, a checkpoint and a log after it.
fn filled(engine: EngineKind) -> Bench {
    let mut bench = Bench::new(engine);
    for round in 0..3 {
        for key in 0..20 {
            bench.put(&format!("key-{key}"), 300 + round * 40, true);
        }
        bench.put("large", 150_000, true);
        bench.put(&format!("gone-{round}"), 50, true);
        bench.remove(&format!("gone-{round}"));
        if round < 2 {
            bench.close_and_open();
        }
    }
    // The newest segment holds something too.
    (0..10).for_each(|key| bench.put(&format!("key-{key}"), 600, true));
    bench
}

/// What a start on `directory` comes to.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Refused,
    Damaged,
    Whole,
    /// Healthy by its own word, with all but some of the last writes.
    Shorter,
    /// Healthy by its own word, and wrong.
    Silent(String),
}

fn open(directory: &Path, options: Options, expected: &Expected) -> Outcome {
    let opened =
        catch_unwind(AssertUnwindSafe(|| Store::open(directory, options, Watch::default().hooks(|_| ()))));
    let opened = match opened {
        Err(_) => return Outcome::Silent("it panicked".to_owned()),
        Ok(Err(_)) => return Outcome::Refused,
        Ok(Ok(opened)) if !opened.damaged.is_empty() => return Outcome::Damaged,
        Ok(Ok(opened)) => opened,
    };
    let mut outcome = Outcome::Whole;
    for (key, (hash, value)) in expected {
        match opened.store.get(&name(*hash, key)) {
            Err(_) => return Outcome::Damaged,
            Ok(Some(stored)) if stored == *value => {}
            Ok(stored) => {
                let older = stored.as_ref().is_none_or(|stored| stored.len() < value.len());
                outcome = if older { Outcome::Shorter } else { Outcome::Silent(format!("{key:?} is wrong")) };
            }
        }
    }
    outcome
}

/// The ways in which one file is damaged, as the bytes that are left of it.
fn damages(whole: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut damages = Vec::new();
    // Zeros that lie ahead in the log hold nothing that could be damaged.
    let length = if whole.starts_with(b"GRMLOG") { frames_end(whole) } else { whole.len() };
    for cut in [0, 1, length / 4, length / 2, length.saturating_sub(4_096), length.saturating_sub(1)] {
        if cut < length {
            damages.push((format!("cut to {cut} of {length} bytes"), whole[..cut].to_vec()));
        }
    }
    // Spread over the file, the beginning most, and not on round places.
    for step in 0..12_usize {
        let at = if step < 4 { step * 7 } else { (step - 3) * length / 10 + step };
        if at < length {
            let mut flipped = whole.to_vec();
            flipped[at] ^= 1 << (step % 8);
            damages.push((format!("bit {} of byte {at} flipped", step % 8), flipped));
        }
    }
    damages
}

fn damage_everything(original: &Path, options: Options, expected: &Expected, closed: bool) {
    let parent = tempfile::tempdir().expect("a temporary directory");
    let victim = parent.path().join("victim");
    let log = original.join("log");
    let newest: Option<PathBuf> = files_below(&log).pop();
    // After a clean end the engine has everything, but for the one that lies in memory and has its log alone.
    let has_tail = !closed || options.engine == EngineKind::Memory;
    let mut outcomes: BTreeMap<String, u32> = BTreeMap::new();
    for file in files_below(original) {
        let name = file.strip_prefix(original).expect("below it");
        let whole = fs::read(&file).expect("a file");
        for (how, bytes) in damages(&whole) {
            let _ = fs::remove_dir_all(&victim);
            copy(original, &victim);
            fs::write(victim.join(name), bytes).expect("a damaged file");
            let outcome = open(&victim, options, expected);
            let may_be_shorter = has_tail && Some(&file) == newest.as_ref();
            let is_right = match outcome {
                Outcome::Shorter => may_be_shorter,
                Outcome::Silent(_) => false,
                _ => true,
            };
            assert!(is_right, "{} {how} ({}): {outcome:?}", name.display(), options.engine.name());
            *outcomes.entry(format!("{outcome:?}")).or_default() += 1;
        }
    }
    assert!(outcomes.contains_key("Refused"), "{outcomes:?}");
    // Half of the newest segment is a torn tail.
    assert_eq!(outcomes.contains_key("Shorter"), has_tail, "{outcomes:?}");
}

fn hostile(engine: EngineKind) {
    // A panic of an engine is caught; its message need not be printed a hundred times.
    std::panic::set_hook(Box::new(|_| {}));
    let mut bench = filled(engine);
    let expected = bench.expected().clone();
    let parent = tempfile::tempdir().expect("a temporary directory");
    let killed = parent.path().join("killed");
    copy(&bench.path(), &killed);
    assert_eq!(open(&killed, bench.options, &expected), Outcome::Whole);
    fs::remove_dir_all(&killed).expect("the copy");
    copy(&bench.path(), &killed);
    damage_everything(&killed, bench.options, &expected, false);
    bench.close();
    damage_everything(&bench.path(), bench.options, &expected, true);
}

#[test]
fn damage_to_any_file_of_sled_is_noticed() {
    hostile(EngineKind::Sled);
}

#[test]
fn damage_to_any_file_of_redb_is_noticed() {
    hostile(EngineKind::Redb);
}

#[test]
fn damage_to_any_file_of_memory_is_noticed() {
    hostile(EngineKind::Memory);
}

/// A copy of a directory is a store of its own, with all that was acknowledged when it was made. That there
/// are two of them is noticed by the others, who remember how far the one had come.
#[test]
fn a_copy_opens_beside_its_original() {
    for engine in EngineKind::ALL {
        let mut bench = filled(engine);
        let then = bench.expected().clone();
        let parent = tempfile::tempdir().expect("a temporary directory");
        let copied = parent.path().join("copied");
        copy(&bench.path(), &copied);
        bench.put("key-1", 5, true);
        assert_eq!(open(&copied, bench.options, &then), Outcome::Whole);
        bench.check();
        assert!(bench.try_open().is_err(), "the original is open, and opens once");
    }
}
