//! Small faults, put in one at a time: would the tests or the simulator notice?
//!
//! Planted bugs are those that we thought of. cargo-mutants makes the others: an operator turned round, a
//! function that returns nothing, a condition that is always true. Its own way asks only a crate's unit tests;
//! most of what our core promises is judged by the simulator. So its list is taken, and each change is put
//! into a copy of the workspace, and held against the crate's tests and then some hundred seeds.
//!
//! Who survives is a missing check, a missing fault, or code that does nothing.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::Args as ClapArgs;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde_json::Value;

use crate::run::{markdown, output, root, succeeds};

/// What is changed: a name, the package whose tests judge it, and the files.
const ROOMS: [(&str, &str, &str); 14] = [
    ("vclock", "gramme-vclock", "crates/vclock/src/**"),
    ("quorum", "gramme-quorum", "crates/quorum/src/**"),
    ("object", "gramme-object", "crates/object/src/**"),
    ("shard", "gramme-replica", "crates/replica/src/shard/**"),
    ("coordinator", "gramme-replica", "crates/replica/src/coordinator/**"),
    ("healing", "gramme-replica", "crates/replica/src/{antientropy/**,handoff.rs}"),
    ("gossip", "gramme-gossip", "crates/gossip/src/**"),
    ("handoff", "gramme-handoff", "crates/handoff/src/**"),
    ("antientropy", "gramme-antientropy", "crates/antientropy/src/**"),
    ("paxos", "gramme-paxos", "crates/paxos/src/**"),
    ("transfer", "gramme-transfer", "crates/transfer/src/**"),
    ("router", "gramme-router", "crates/router/src/**"),
    ("log", "gramme-storage", "crates/storage/src/log/**"),
    ("open", "gramme-storage", "crates/storage/src/open.rs"),
];
/// Where the copy lies, with a target directory that stays from one run to the next.
const COPY: &str = "target/mutants";
/// A change that makes the tests or the simulator hang is noticed by that.
const PATIENCE: Duration = Duration::from_secs(600);

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Only this part: vclock, quorum, object, shard, coordinator, healing, gossip, handoff, antientropy, paxos, transfer, router, log or open
    #[arg(long = "crate", value_name = "NAME")]
    room: Option<String>,
    /// Only so many changes of each part, drawn at random
    #[arg(long)]
    sample: Option<usize>,
    /// What they are drawn by
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Seeds of the simulator that judge what the tests let pass
    #[arg(long, default_value_t = 300)]
    seeds: u64,
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It does not compile.
    Unbuilt,
    Tests,
    Simulator,
    Survived,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    ensure!(
        succeeds("cargo", &["mutants", "--version"]),
        "cargo-mutants is not installed: cargo install cargo-mutants --locked"
    );
    let known = |name: &String| ROOMS.iter().any(|(room, ..)| room == name);
    if let Some(name) = args.room.as_ref().filter(|name| !known(name)) {
        bail!("no part is called {name}; there are {}", ROOMS.map(|(room, ..)| room).join(", "));
    }
    let copy = Workspace::copy()?;
    let mut table = markdown(["part", "changes", "by tests", "by the simulator", "survived", "share caught"]);
    for (room, package, files) in ROOMS {
        if args.room.as_ref().is_none_or(|name| name == room) {
            let fates = judge_room(&copy, args, (room, package, files))?;
            table.add_row(row(room, &fates));
        }
    }
    println!("{}", table.trim_fmt());
    Ok(())
}

fn judge_room(
    copy: &Workspace,
    args: &Args,
    (room, package, files): (&str, &str, &str),
) -> anyhow::Result<Vec<Fate>> {
    let mut changes = changes(files)?;
    if let Some(sample) = args.sample {
        changes.shuffle(&mut StdRng::seed_from_u64(args.seed));
        changes.truncate(sample);
    }
    // Else whatever fails without a change would pass for a change that was noticed.
    ensure!(
        copy.fate(package, args.seeds)? == Fate::Survived,
        "{package} or the simulator fails without any change: run cargo xtask test and cargo xtask sim first"
    );
    let mut fates = Vec::new();
    for change in &changes {
        let name = change["name"].as_str().context("a change has no name")?;
        let fate =
            copy.judge(package, change["diff"].as_str().context("a change has no diff")?, args.seeds)?;
        println!("{room}: {name}: {fate:?}");
        fates.push(fate);
    }
    Ok(fates)
}

fn row(room: &str, fates: &[Fate]) -> [String; 6] {
    let count = |wanted| fates.iter().filter(|&&fate| fate == wanted).count();
    let (tests, simulator, survived) = (count(Fate::Tests), count(Fate::Simulator), count(Fate::Survived));
    let all = tests + simulator + survived;
    let share =
        (100 * (tests + simulator)).checked_div(all).map_or_else(String::new, |share| format!("{share} %"));
    let [all, tests, simulator, survived] = [all, tests, simulator, survived].map(|count| count.to_string());
    [room.to_owned(), all, tests, simulator, survived, share]
}

/// What cargo-mutants would change.
fn changes(files: &str) -> anyhow::Result<Vec<Value>> {
    // What only the fuzzer calls is no product.
    let list =
        ["mutants", "--workspace", "--list", "--json", "--diff", "--file", files, "--exclude", "**/fuzz.rs"];
    let listed: Value = serde_json::from_str(&output("cargo", &list)?)?;
    let changes = listed.as_array().cloned().unwrap_or_default();
    ensure!(!changes.is_empty(), "cargo-mutants finds nothing to change in {files}");
    Ok(changes)
}

/// A copy of the workspace, to be changed.
struct Workspace {
    tree: PathBuf,
    target: PathBuf,
}

impl Workspace {
    fn copy() -> anyhow::Result<Self> {
        let (tree, target) = (root().join(COPY).join("tree"), root().join(COPY).join("target"));
        if tree.exists() {
            std::fs::remove_dir_all(&tree)?;
        }
        for file in output("git", &["ls-files"])?.lines() {
            let to = tree.join(file);
            std::fs::create_dir_all(to.parent().unwrap_or(&tree))?;
            std::fs::copy(root().join(file), to).with_context(|| format!("cannot copy {file}"))?;
        }
        Ok(Self { tree, target })
    }

    /// Puts a change in, asks the tests and then the simulator, and takes it out again.
    fn judge(&self, package: &str, diff: &str, seeds: u64) -> anyhow::Result<Fate> {
        let patch = self.tree.join("mutant.diff");
        std::fs::write(&patch, diff)?;
        self.patch(&patch, &[])?;
        let fate = self.fate(package, seeds);
        self.patch(&patch, &["--reverse"])?;
        fate
    }

    fn fate(&self, package: &str, seeds: u64) -> anyhow::Result<Fate> {
        if !self.cargo(&["test", "--locked", "--no-run", "--package", package])? {
            return Ok(Fate::Unbuilt);
        }
        if !self.cargo(&["test", "--locked", "--package", package])? {
            return Ok(Fate::Tests);
        }
        let seeds = seeds.to_string();
        let simulate = ["run", "--locked", "--package", "gramme-sim", "--", "--no-shrink", "--seeds", &seeds];
        Ok(if self.cargo(&simulate)? { Fate::Survived } else { Fate::Simulator })
    }

    fn patch(&self, patch: &Path, more: &[&str]) -> anyhow::Result<()> {
        let mut command = Command::new("patch");
        command.args(["--strip=0", "--silent", "--input"]).arg(patch).args(more).current_dir(&self.tree);
        let status = command.status().context("cannot start patch")?;
        ensure!(status.success(), "a change cannot be put in or taken out");
        Ok(())
    }

    /// Whether cargo succeeds, within its time.
    fn cargo(&self, arguments: &[&str]) -> anyhow::Result<bool> {
        let mut command = Command::new("cargo");
        command.args(arguments).current_dir(&self.tree).env("CARGO_TARGET_DIR", &self.target);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.process_group(0).spawn().context("cannot start cargo")?;
        Ok(wait(child)?.is_some_and(|status| status.success()))
    }
}

/// Waits for a process; `None` if it had to be ended.
fn wait(mut child: Child) -> anyhow::Result<Option<ExitStatus>> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    // What cargo has started goes with it.
    rustix::process::kill_process_group(
        rustix::process::Pid::from_child(&child),
        rustix::process::Signal::KILL,
    )?;
    child.wait()?;
    Ok(None)
}
