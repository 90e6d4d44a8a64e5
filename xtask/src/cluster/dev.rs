//! A `gramme dev` cluster, and what can be done to its processes.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::http::Http;

/// How long anything may take before it counts as not happening.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Lines of a node's log that a failure shows.
const LOG_END: usize = 12;
const POLL: Duration = Duration::from_millis(20);

/// A running cluster. Stops everything when it is dropped.
pub(crate) struct Dev {
    child: Child,
    directory: PathBuf,
    _temporary: Option<TempDir>,
    cluster: Value,
    /// Nodes that were started again here, not by `gramme dev`.
    restarted: Vec<Option<Child>>,
    /// Keeps the commands of this cluster apart from the user's own.
    pub(crate) state: TempDir,
}

impl Dev {
    /// Founds a cluster in a temporary directory.
    pub(crate) fn found(gramme: &Path, nodes: usize) -> anyhow::Result<Self> {
        let temporary = tempfile::tempdir()?;
        let directory = temporary.path().join("cluster");
        let mut dev = Self::start(gramme, &directory, &["--nodes", &nodes.to_string()])?;
        dev._temporary = Some(temporary);
        Ok(dev)
    }

    /// Starts `gramme dev --dir DIRECTORY` and waits until it says that it is ready.
    pub(crate) fn start(gramme: &Path, directory: &Path, args: &[&str]) -> anyhow::Result<Self> {
        let state = tempfile::tempdir()?;
        let mut child = Command::new(gramme)
            .arg("dev")
            .args(["--dir".as_ref(), directory.as_os_str()])
            .args(args)
            .env("XDG_STATE_HOME", state.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start gramme dev")?;
        let out = child.stdout.take().context("a pipe")?;
        let mut lines = BufReader::new(out).lines();
        loop {
            match lines.next() {
                Some(Ok(line)) if line == "ready" => break,
                Some(Ok(_)) => {}
                _ => bail!("gramme dev ended before it was ready: {:?}", child.wait()?),
            }
        }
        // Whatever it prints from now on must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let mut dev = Self {
            child,
            directory: directory.to_owned(),
            _temporary: None,
            cluster: Value::Null,
            restarted: Vec::new(),
            state,
        };
        // `ready` comes before the description, which is written atomically.
        let began = Instant::now();
        while dev.cluster.is_null() {
            ensure!(began.elapsed() < PATIENCE, "cluster.json was not written");
            let described = std::fs::read(dev.cluster_json()).ok();
            let described = described.and_then(|text| serde_json::from_slice::<Value>(&text).ok());
            // One of an earlier start names processes that are gone.
            let current =
                described.filter(|cluster| cluster["nodes"][0]["pid"].as_u64().is_some_and(is_alive));
            dev.cluster = current.unwrap_or_default();
            std::thread::sleep(POLL);
        }
        dev.restarted = (0..dev.nodes()).map(|_| None).collect();
        Ok(dev)
    }

    pub(crate) fn cluster_json(&self) -> PathBuf {
        self.directory.join("cluster.json")
    }

    /// Reads anew which nodes there are: some were added, or have gone.
    pub(crate) fn refresh(&mut self) -> anyhow::Result<()> {
        let before: Vec<Value> = self.cluster["nodes"].as_array().cloned().unwrap_or_default();
        let mut restarted: Vec<_> =
            before.iter().map(|node| node["id"].clone()).zip(std::mem::take(&mut self.restarted)).collect();
        self.cluster = serde_json::from_slice(&std::fs::read(self.cluster_json())?)?;
        for at in 0..self.nodes() {
            let of_it = restarted.iter().position(|(id, _)| *id == self.node(at)["id"]);
            self.restarted.push(of_it.and_then(|at| restarted.swap_remove(at).1));
        }
        // Those that have gone have ended by themselves.
        restarted
            .into_iter()
            .filter_map(|(_, child)| child)
            .try_for_each(|mut child| child.wait().map(drop))?;
        Ok(())
    }

    pub(crate) fn nodes(&self) -> usize {
        self.cluster["nodes"].as_array().map_or(0, Vec::len)
    }

    pub(crate) fn node(&self, at: usize) -> &Value {
        &self.cluster["nodes"][at]
    }

    /// The pid of `gramme dev` itself.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The pid of a node.
    pub(crate) fn node_pid(&self, at: usize) -> u32 {
        match &self.restarted[at] {
            Some(child) => child.id(),
            None => self.node(at)["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).unwrap_or_default(),
        }
    }

    pub(crate) fn node_dir(&self, at: usize) -> PathBuf {
        PathBuf::from(self.node(at)["dir"].as_str().unwrap_or_default())
    }

    pub(crate) fn http(&self, at: usize) -> Http {
        Http::new(self.node(at)["http"].as_str().unwrap_or_default())
    }

    /// kill -9, and waits until the process is gone.
    pub(crate) fn kill(&mut self, at: usize) -> anyhow::Result<()> {
        self.stop(at, Signal::KILL)
    }

    /// Ends a node with a signal, and waits until the process is gone.
    pub(crate) fn stop(&mut self, at: usize, signal: Signal) -> anyhow::Result<()> {
        let pid = self.node_pid(at);
        send(pid, signal)?;
        if let Some(mut child) = self.restarted[at].take() {
            child.wait()?;
        }
        wait_for("the node is gone", || is_gone(pid))
    }

    /// Starts a killed node again by the command that `cluster.json` names.
    pub(crate) fn restart(&mut self, at: usize) -> anyhow::Result<()> {
        self.restart_with(at, &[])
    }

    /// The same, with more on its command line.
    pub(crate) fn restart_with(&mut self, at: usize, more: &[&str]) -> anyhow::Result<()> {
        let command = self.node(at)["command"].as_array().cloned().unwrap_or_default();
        let words: Vec<&str> = command.iter().filter_map(Value::as_str).collect();
        let (program, args) = words.split_first().context("a command")?;
        let log = std::fs::File::options().append(true).open(self.node_dir(at).join("node.log"))?;
        let child = Command::new(program)
            .args(args)
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        self.restarted[at] = Some(child);
        Ok(())
    }

    /// Waits until every node sees every other, and counts.
    pub(crate) fn wait_until_whole(&self) -> anyhow::Result<()> {
        let logs = (0..self.nodes()).map(|at| self.node_dir(at).join("node.log"));
        (0..self.nodes()).try_for_each(|at| wait_until_whole(&self.http(at))).with_context(|| ends(logs))
    }

    /// Ends `gramme dev` with a signal, and waits for it.
    pub(crate) fn end(&mut self, signal: Signal) -> anyhow::Result<std::process::ExitStatus> {
        send(self.child.id(), signal)?;
        Ok(self.child.wait()?)
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        for child in self.restarted.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = send(self.child.id(), Signal::TERM);
        let _ = self.child.wait();
    }
}

pub(crate) fn send(pid: u32, signal: Signal) -> anyhow::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("a process")?;
    Ok(kill_process(pid, signal)?)
}

fn is_alive(pid: u64) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid).is_ok())
}

/// Whether a process is gone, or only waits to be collected by its parent. Threads of it may still be ending, as
/// they are when a supervisor starts the next process: a start waits for them.
pub(crate) fn is_gone(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with('Z'))
}

/// Waits until a node would serve, and sees every other, each of which counts; says otherwise what it last saw.
pub(crate) fn wait_until_whole(http: &Http) -> anyhow::Result<()> {
    let mut seen = Value::Null;
    wait_for("every node sees every other", || {
        seen = http.get("/admin/status").and_then(|answer| answer.json()).unwrap_or_default();
        let is_there = |node: &Value| node["state"] == "alive" && node["counts"] == true;
        seen["ready"] == true && seen["nodes"].as_array().is_some_and(|nodes| nodes.iter().all(is_there))
    })
    .with_context(|| format!("the node's status: {seen}"))
}

/// The last lines of logs, for a person who wants to know why something did not happen.
pub(crate) fn ends(logs: impl Iterator<Item = PathBuf>) -> String {
    let end = |path: PathBuf| {
        let log = std::fs::read_to_string(&path).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let end = &lines[lines.len().saturating_sub(LOG_END)..];
        format!("the end of {}:\n{}\n", path.display(), end.join("\n"))
    };
    logs.map(end).collect()
}

/// A port that nobody listens on, for TCP and UDP, outside the range from which the kernel gives ports to clients: there it
/// could be taken by somebody's connection before its node starts.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    const FIRST: u16 = 10_000;
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let low = range.split_whitespace().next().and_then(|low| low.parse().ok());
    let end = low.filter(|low| *low > FIRST).unwrap_or(32_768);
    let is_free = |port: &u16| {
        let address = ("127.0.0.1", *port);
        TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok()
    };
    let mut ports = std::iter::repeat_with(|| rand::random_range(FIRST..end)).take(1_000);
    ports.find(is_free).with_context(|| format!("no port is free between {FIRST} and {end}"))
}

/// Waits for a condition.
pub(crate) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) -> anyhow::Result<()> {
    let began = Instant::now();
    while !condition() {
        ensure!(began.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(POLL);
    }
    Ok(())
}
