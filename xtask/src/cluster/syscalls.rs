//! What the kernel saw: every file that holds an acknowledged value was synced, and the log was synced
//! before each acknowledgement left.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use rustix::process::Signal;

use super::Programs;
use super::dev::{Dev, send, wait_for};
use crate::run::succeeds;

const PUTS: usize = 40;
const TRACED: &str =
    "trace=write,pwrite64,pwritev,writev,fsync,fdatasync,sendto,sendmsg,rename,renameat,renameat2";

pub(crate) fn run(programs: &Programs) -> anyhow::Result<()> {
    install_strace()?;
    let parent = tempfile::tempdir()?;
    let directory = parent.path().join("traced");
    let mut dev = Dev::start(&programs.gramme, &directory, &["--nodes", "1"])?;
    let node = dev.node_dir(0);
    let http = dev.http(0);
    let address = dev.node(0)["http"].as_str().context("an address")?.to_owned();
    dev.end(Signal::TERM)?;
    drop(dev);

    let trace = parent.path().join("trace");
    let mut strace = Command::new("strace")
        .args(["-f", "-y", "-s", "64", "-e", TRACED, "-o"])
        .arg(&trace)
        .arg(&programs.gramme)
        .args(["node", "--config"])
        .arg(node.join("gramme.toml"))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start strace")?;
    wait_for("the traced node answers", || http.get("/readyz").is_ok_and(|answer| answer.status == 200))?;
    for number in 0..PUTS {
        let value = format!("traced-value-{number:04}");
        http.put(&format!("/buckets/traced/keys/{number}"), &[], value.as_bytes())?.is(204)?;
    }
    // strace hands the signal on to what it traces.
    let node_pid = child_of(strace.id())?;
    send(node_pid, Signal::TERM)?;
    strace.wait()?;
    let text = std::fs::read_to_string(&trace)?;
    check(&text, &node.join("data"), &address)
}

fn install_strace() -> anyhow::Result<()> {
    if succeeds("strace", &["-V"]) {
        return Ok(());
    }
    let installed = succeeds("apt-get", &["update"]) && succeeds("apt-get", &["install", "--yes", "strace"]);
    ensure!(installed && succeeds("strace", &["-V"]), "this test needs strace; install it and run again");
    Ok(())
}

fn child_of(parent: u32) -> anyhow::Result<u32> {
    let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))?;
    children.split_whitespace().next().and_then(|pid| pid.parse().ok()).context("the traced process")
}

/// One system call that has returned, in the order of returning.
struct Call<'a> {
    name: &'a str,
    /// The file that it is about, if it is about one.
    path: &'a str,
    line: &'a str,
}

/// The calls of a trace. A call that another thread interrupted stands on two lines, and counts at the
/// second.
fn calls(text: &str) -> Vec<Call<'_>> {
    let mut begun: BTreeMap<&str, &str> = BTreeMap::new();
    let mut calls = Vec::new();
    for line in text.lines() {
        let Some((thread, rest)) = line.split_once(char::is_whitespace) else { continue };
        let rest = rest.trim_start();
        let line = if rest.ends_with("<unfinished ...>") {
            begun.insert(thread, rest);
            continue;
        } else if rest.starts_with("<...") {
            begun.remove(thread).unwrap_or(rest)
        } else {
            rest
        };
        let name = line.split('(').next().unwrap_or_default();
        let path =
            line.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or("", |(path, _)| path);
        calls.push(Call { name, path, line });
    }
    calls
}

fn check(text: &str, data: &Path, address: &str) -> anyhow::Result<()> {
    let data = data.canonicalize()?.display().to_string();
    let calls = calls(text);
    let is_write = |call: &&Call<'_>| matches!(call.name, "write" | "pwrite64" | "pwritev" | "writev");
    let is_sync = |call: &&Call<'_>| matches!(call.name, "fsync" | "fdatasync");
    let mut dirty: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut log_writes, mut log_syncs, mut answers, mut files) =
        (0, 0, 0, std::collections::BTreeSet::new());
    for (at, call) in calls.iter().enumerate() {
        if call.path.starts_with(&data) && is_write(&call) {
            dirty.insert(call.path, at);
            files.insert(call.path);
            log_writes += usize::from(call.path.contains("/log/"));
        }
        if call.path.starts_with(&data) && is_sync(&call) {
            dirty.remove(call.path);
            log_syncs += usize::from(call.path.contains("/log/"));
        }
        // An acknowledgement leaves: nothing of the log may be unsynced.
        if call.line.contains("HTTP/1.1 204") {
            answers += 1;
            let unsynced: Vec<_> = dirty.keys().filter(|path| path.contains("/log/")).collect();
            ensure!(
                unsynced.is_empty(),
                "answered at {address} while {unsynced:?} was not synced: {}",
                call.line
            );
        }
    }
    ensure!(
        answers == PUTS && log_writes >= PUTS && log_syncs >= PUTS,
        "{answers} answers, {log_writes} writes and {log_syncs} syncs of the log were seen"
    );
    let engine = files.iter().filter(|path| path.contains("/engine/")).count();
    ensure!(engine > 0, "the last checkpoint wrote nothing to the engine: {files:?}");
    ensure!(dirty.is_empty(), "never synced after its last write: {:?}", dirty.keys().collect::<Vec<_>>());
    println!("{} files were written, and each was synced after its last write", files.len());
    Ok(())
}
