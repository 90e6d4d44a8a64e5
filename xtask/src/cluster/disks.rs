//! Disks that fail: a node whose writes or syncs fail, or whose disk is full, says so and ends, or refuses;
//! what it has acknowledged is there when its disk works again, and the others go on meanwhile.
//!
//! For every engine. The failing disk is a shim in front of the C library, `xtask/shims/disk.c`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, ensure};
use tempfile::TempDir;

use super::dev::wait_for;
use super::processes::Processes;
use super::{Programs, text};
use crate::run::root;

/// Keys written in each phase.
const KEYS: usize = 30;

pub(crate) fn run(programs: &Programs) -> anyhow::Result<()> {
    let shim = Shim::build()?;
    for engine in ["sled", "redb", "memory"] {
        for fault in ["sync", "write", "full"] {
            println!("  {engine}, {fault}");
            a_failing_disk(programs, &shim, engine, fault).with_context(|| format!("{engine}, {fault}"))?;
        }
    }
    Ok(())
}

struct Shim {
    library: PathBuf,
    /// While it exists, what it says goes wrong.
    switch: PathBuf,
    _temporary: TempDir,
}

impl Shim {
    fn build() -> anyhow::Result<Self> {
        let temporary = tempfile::tempdir()?;
        let (library, switch) = (temporary.path().join("disk.so"), temporary.path().join("switch"));
        let source = root().join("xtask/shims/disk.c");
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).arg("-ldl");
        ensure!(cc.status().context("cannot start cc")?.success(), "the shim does not compile");
        Ok(Self { library, switch, _temporary: temporary })
    }

    fn break_disk(&self, fault: &str) -> anyhow::Result<()> {
        Ok(std::fs::write(&self.switch, fault)?)
    }

    fn mend(&self) {
        // It may be mended already.
        let _ = std::fs::remove_file(&self.switch);
    }
}

fn a_failing_disk(programs: &Programs, shim: &Shim, engine: &str, fault: &str) -> anyhow::Result<()> {
    shim.mend();
    let mut cluster = Processes::start_with(&programs.gramme, 3, engine)?;
    let (library, switch) = (text(&shim.library), text(&shim.switch));
    let environment = [("LD_PRELOAD", library.as_str()), ("GRAMME_SHIM", switch.as_str())];
    cluster.kill(1)?;
    [0, 2].into_iter().try_for_each(|at| cluster.wait_until_missed(at))?;
    cluster.restart(1, &environment)?;
    cluster.wait_until_whole()?;
    write(&cluster, 0, "before", "w=3")?;
    shim.break_disk(fault)?;
    // Writes that reach the node break it; the other two are a quorum.
    for number in 0..KEYS {
        let path = format!("/buckets/disks/keys/during-{number}");
        cluster.http(number % 2 * 2).put(&path, &[], b"during")?.is(204)?;
    }
    let code = cluster
        .wait_for_end(1)
        .with_context(|| std::fs::read_to_string(cluster.log(1)).unwrap_or_default())?;
    ensure!(code.is_some_and(|code| code != 0), "the node ended with {code:?}");
    let log = std::fs::read_to_string(cluster.log(1))?;
    // The log is on the full disk as well.
    let is_said = log.contains("a commit failed") || log.contains("checkpoint failed") || fault == "full";
    ensure!(is_said, "no word about it: {log}");
    ensure!(!log.contains("panicked"), "it panicked: {log}");
    // It does not come up on a disk that does not work, or takes no writes; either way it says why.
    cluster.restart(1, &environment)?;
    refuses_or_waits(&mut cluster, fault)?;
    shim.mend();
    cluster.kill(1)?;
    [0, 2].into_iter().try_for_each(|at| cluster.wait_until_missed(at))?;
    cluster.restart(1, &environment)?;
    cluster.wait_until_whole()?;
    for (phase, through) in [("before", 1), ("during", 1), ("before", 0), ("during", 2)] {
        read(&cluster, through, phase)?;
    }
    write(&cluster, 1, "after", "w=3")?;
    read(&cluster, 2, "after")
}

/// A node that starts on a broken disk ends with a message, or is up and acknowledges nothing.
fn refuses_or_waits(cluster: &mut Processes, fault: &str) -> anyhow::Result<()> {
    let http = cluster.http(1);
    let mut is_up = false;
    wait_for("the node is up, or has ended", || {
        is_up = http.get("/ping").is_ok_and(|answer| answer.status == 200);
        is_up || cluster.has_ended(1)
    })?;
    let log = std::fs::read_to_string(cluster.log(1))?;
    ensure!(!log.contains("panicked"), "it panicked: {log}");
    ensure!(is_up || fault == "full" || last_line(&log).len() > 20, "it ended without a word: {log}");
    Ok(())
}

fn last_line(log: &str) -> &str {
    log.lines().last().unwrap_or_default()
}

fn write(cluster: &Processes, at: usize, phase: &str, query: &str) -> anyhow::Result<()> {
    for number in 0..KEYS {
        let path = format!("/buckets/disks/keys/{phase}-{number}?{query}");
        cluster.http(at).put(&path, &[], phase.as_bytes())?.is(204)?;
    }
    Ok(())
}

fn read(cluster: &Processes, at: usize, phase: &str) -> anyhow::Result<()> {
    for number in 0..KEYS {
        let path = format!("/buckets/disks/keys/{phase}-{number}?r=2");
        cluster.http(at).get(&path)?.is(200)?.body_is(phase.as_bytes())?;
    }
    Ok(())
}
