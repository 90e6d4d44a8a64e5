//! `gramme dev add` and `gramme dev remove`: a running throwaway cluster grows and shrinks.
//!
//! They take the steps that an operator takes: a directory with an identity of the cluster, a process, the word that it has
//! joined, a plan, its decision. The process is started by the `gramme dev` that runs the others: it watches its directory.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use gramme_ring::NodeId;
use gramme_transport::Authority;
use serde_json::{Value, json};

use crate::cli::Endpoint;
use crate::commands::cluster_file::{ClusterFile, NodeEntry};
use crate::commands::dev::node_directories;
use crate::commands::get::write_out;
use crate::commands::remote::{Call, Remote};
use crate::commands::{plan, ports};
use crate::config::Config;
use crate::exit::{NOT_FOUND, failure};
use crate::founding::{Plot, found_another};
use crate::ring_change::Change;
use crate::ring_file::RingFile;

/// How long a node may take to start, and to end.
const START: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(100);
/// How often a change is tried that others come before.
const ATTEMPTS: u32 = 100;
/// A decision may take ten seconds.
const PATIENCE: Duration = Duration::from_secs(12);

/// A running throwaway cluster.
struct Dev {
    path: PathBuf,
    directory: PathBuf,
    cluster: ClusterFile,
}

impl Dev {
    fn open(directory: Option<&Path>) -> anyhow::Result<Self> {
        let path = match directory {
            Some(directory) => directory.join("cluster.json"),
            None => ClusterFile::last_path()?,
        };
        let cluster = ClusterFile::read(&path)?;
        let directory = path.parent().context("a file lies in a directory")?.to_owned();
        Ok(Self { path, directory, cluster })
    }

    fn remote(&self, entry: &NodeEntry) -> anyhow::Result<Remote> {
        Remote::new(&Endpoint { node: Some(entry.http.clone()) }, PATIENCE)
    }

    /// A node that answers, and is not this one.
    fn another(&self, but: &str) -> anyhow::Result<Remote> {
        let others = self.cluster.nodes.iter().filter(|node| node.id != but);
        let answers = |node: &&NodeEntry| {
            self.remote(node).and_then(|remote| remote.admin("GET", "/admin/ring")).is_ok()
        };
        let node = others.into_iter().find(answers).context("no other node answers")?;
        self.remote(node)
    }
}

pub(crate) fn add(directory: Option<&Path>, zone: &str, weight: u32) -> anyhow::Result<()> {
    let dev = Dev::open(directory)?;
    let remote = dev.another("")?;
    let (node, plot) = found(&dev)?;
    let id = node.to_string();
    write_out(format!("{} is {id}, at {}\n", plot.name, plot.http).as_bytes())?;
    wait_for("the node to start", START, || {
        let cluster = ClusterFile::read(&dev.path).ok()?;
        let entry = cluster.nodes.into_iter().find(|entry| entry.id == id)?;
        dev.remote(&entry).and_then(|remote| remote.admin("GET", "/livez")).ok()
    })?;
    let body = json!({ "node": id, "addresses": [plot.quic.to_string()] }).to_string().into_bytes();
    let joined = Call { method: "POST", path: "/admin/members".to_owned(), body, ..Call::default() };
    let answer = remote.call(&joined)?;
    ensure!(answer.status == 200, answer.error());
    change(&remote, &Change::Add { node: id, zone: zone.to_owned(), weight })?;
    wait_until_settled(&remote)?;
    write_out(format!("{} has its share\n", plot.name).as_bytes())
}

/// Makes a directory with an identity for one more node.
fn found(dev: &Dev) -> anyhow::Result<(NodeId, Plot)> {
    let read = |name: &str| {
        let path = dev.directory.join(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let authority = Authority::load(&dev.cluster.cluster, read("ca.pem")?, read("ca.key")?)?;
    let nodes = node_directories(&dev.directory)?;
    let last = nodes.last().context("a cluster has nodes")?;
    let config = Config::load(&last.join("gramme.toml"), &[], |_| None)?;
    let number = |path: &PathBuf| path.file_name()?.to_str()?.strip_prefix('n')?.parse::<u32>().ok();
    let next = nodes.iter().filter_map(number).max().unwrap_or(0) + 1;
    let ports = ports::pick(2)?;
    let local = |at: usize| SocketAddr::from(([127, 0, 0, 1], ports[at]));
    let plot = Plot { name: format!("n{next}"), http: local(0), quic: local(1) };
    let mut file = RingFile::read(&config.ring)?;
    // Those who founded the cluster may be gone.
    let running =
        dev.cluster.nodes.iter().filter_map(|node| Some((node.id.parse().ok()?, node.quic.clone())));
    file.ring.addresses = running.collect();
    let node = found_another(&dev.directory, &plot, &authority, file, config.engine)?;
    Ok((node, plot))
}

pub(crate) fn remove(name: &str, directory: Option<&Path>) -> anyhow::Result<()> {
    let dev = Dev::open(directory)?;
    let is_it = |node: &&NodeEntry| node.id == name || node.dir.file_name().is_some_and(|dir| dir == name);
    let Some(node) = dev.cluster.nodes.iter().find(is_it) else {
        return Err(failure(NOT_FOUND, format!("no node of this cluster is called {name}")));
    };
    let remote = dev.another(&node.id)?;
    change(&remote, &Change::Remove { node: node.id.clone() })?;
    wait_until_settled(&remote)?;
    wait_for("the node to end", START, || {
        let alive = dev.remote(node).and_then(|remote| remote.admin("GET", "/livez"));
        alive.is_err().then_some(())
    })?;
    fs::remove_dir_all(&node.dir).with_context(|| format!("cannot remove {}", node.dir.display()))?;
    wait_for("`gramme dev` to notice", START, || {
        let cluster = ClusterFile::read(&dev.path).ok()?;
        cluster.nodes.iter().all(|entry| entry.id != node.id).then_some(())
    })?;
    write_out(format!("{name} has handed over all that it owned, and is gone\n").as_bytes())
}

/// Stages a change, says what it comes to, and has it decided.
fn change(remote: &Remote, change: &Change) -> anyhow::Result<()> {
    for attempt in 1.. {
        let view = plan::post(remote, change.clone())?;
        let commit = Call { method: "POST", path: "/admin/plan/commit".to_owned(), ..Call::default() };
        let answer = remote.call(&commit)?;
        let is_done = answer.status == 200 || is_in_force(remote, change)?;
        // Another layout was decided since, or nobody can say what was: what it comes to is looked at again.
        if !is_done && matches!(answer.status, 409 | 503) && attempt < ATTEMPTS {
            eprintln!("gramme: {}; trying again", answer.error());
            remote.admin("DELETE", "/admin/plan").ok();
            std::thread::sleep(POLL);
            continue;
        }
        ensure!(is_done, answer.error());
        write_out(plan::render(&serde_json::from_slice(&view)?).as_bytes())?;
        return write_out(b"decided\n");
    }
    Ok(())
}

/// Whether a node that is to be added is a member, or one that is to be removed is to go.
fn is_in_force(remote: &Remote, change: &Change) -> anyhow::Result<bool> {
    let ring: Value = serde_json::from_slice(&remote.admin("GET", "/admin/ring")?)?;
    let mut members = ring["members"].as_array().into_iter().flatten();
    Ok(match change {
        Change::Add { node, .. } => members.any(|member| member["id"] == **node),
        Change::Remove { node } => !members.any(|member| member["id"] == **node && member["leaving"] != true),
        _ => false,
    })
}

/// Waits until nothing moves, and says now and then how far it is.
fn wait_until_settled(remote: &Remote) -> anyhow::Result<()> {
    let mut said = String::new();
    loop {
        let view: Value = serde_json::from_slice(&remote.admin("GET", "/admin/transfers")?)?;
        if plan::is_settled(&view) {
            return Ok(());
        }
        let line = plan::summary(&view);
        if line != said {
            write_out(line.as_bytes())?;
            said = line;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn wait_for<T>(what: &str, patience: Duration, mut look: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if began.elapsed() > patience {
            bail!("waited {} seconds in vain for {what}", patience.as_secs());
        }
        std::thread::sleep(POLL);
    }
}
