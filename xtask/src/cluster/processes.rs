//! A cluster of node processes with the proxy between them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, ensure};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::dev::{Dev, ends, free_port, send, wait_for, wait_until_whole};
use super::http::Http;
use super::proxy::Proxy;

pub(crate) struct Processes {
    gramme: PathBuf,
    directories: Vec<PathBuf>,
    http: Vec<String>,
    children: Vec<Option<Child>>,
    pub(crate) proxy: Proxy,
    _temporary: TempDir,
}

impl Processes {
    /// Founds nodes, puts the proxy where their ring says that they are, and starts them elsewhere.
    pub(crate) fn start(gramme: &Path, nodes: usize) -> anyhow::Result<Self> {
        Self::start_with(gramme, nodes, "sled")
    }

    /// The same with an engine.
    pub(crate) fn start_with(gramme: &Path, nodes: usize, engine: &str) -> anyhow::Result<Self> {
        let temporary = tempfile::tempdir()?;
        let directory = temporary.path().join("cluster");
        let mut dev = Dev::start(gramme, &directory, &["--nodes", &nodes.to_string(), "--engine", engine])?;
        let directories: Vec<_> = (0..nodes).map(|at| dev.node_dir(at)).collect();
        let address =
            |at: usize, kind: &Value| kind.as_str().map(str::to_owned).with_context(|| format!("node {at}"));
        let http = (0..nodes).map(|at| address(at, &dev.node(at)["http"])).collect::<anyhow::Result<_>>()?;
        let named: Vec<String> =
            (0..nodes).map(|at| address(at, &dev.node(at)["quic"][0])).collect::<anyhow::Result<_>>()?;
        dev.end(Signal::TERM)?;
        drop(dev);
        let moved = directories.iter().zip(&named).map(|(directory, named)| move_node(directory, named));
        let proxy = Proxy::start(&moved.collect::<anyhow::Result<Vec<_>>>()?)?;
        let children = (0..nodes).map(|_| None).collect();
        let gramme = gramme.to_owned();
        let mut this = Self { gramme, directories, http, children, proxy, _temporary: temporary };
        (0..nodes).try_for_each(|at| this.restart(at, &[]))?;
        this.wait_until_whole()?;
        Ok(this)
    }

    pub(crate) fn http(&self, at: usize) -> Http {
        Http::new(&self.http[at])
    }

    /// Where a node's log is.
    pub(crate) fn log(&self, at: usize) -> PathBuf {
        self.directories[at].join("processes.log")
    }

    pub(crate) fn signal(&self, at: usize, signal: Signal) -> anyhow::Result<()> {
        send(self.children[at].as_ref().context("a running node")?.id(), signal)
    }

    pub(crate) fn kill(&mut self, at: usize) -> anyhow::Result<()> {
        if let Some(mut child) = self.children[at].take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Starts a node that is not running, with more variables in its environment.
    pub(crate) fn restart(&mut self, at: usize, environment: &[(&str, &str)]) -> anyhow::Result<()> {
        ensure!(self.children[at].is_none(), "node {at} runs");
        let log = std::fs::File::options().create(true).append(true).open(self.log(at))?;
        let child = Command::new(&self.gramme)
            .args(["node", "--config"])
            .arg(self.directories[at].join("gramme.toml"))
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        self.children[at] = Some(child);
        Ok(())
    }

    /// Whether a node's process has ended by itself.
    pub(crate) fn has_ended(&mut self, at: usize) -> bool {
        let child = self.children[at].as_mut();
        child.is_none_or(|child| child.try_wait().is_ok_and(|status| status.is_some()))
    }

    /// Waits until a node's process has ended by itself; says with which code.
    pub(crate) fn wait_for_end(&mut self, at: usize) -> anyhow::Result<Option<i32>> {
        let mut code = None;
        let child = self.children[at].as_mut().context("a running node")?;
        wait_for("the node ends", || {
            code = child.try_wait().ok().flatten();
            code.is_some()
        })?;
        self.children[at] = None;
        Ok(code.and_then(|status| status.code()))
    }

    /// Waits until every node sees every other, and counts.
    pub(crate) fn wait_until_whole(&self) -> anyhow::Result<()> {
        let nodes = 0..self.children.len();
        let logs = nodes.clone().map(|at| self.log(at));
        nodes.clone().try_for_each(|at| wait_until_whole(&self.http(at))).with_context(|| ends(logs))
    }

    /// Waits until a node sees that another is down: what it sends before goes nowhere.
    pub(crate) fn wait_until_missed(&self, at: usize) -> anyhow::Result<()> {
        let http = self.http(at);
        wait_for("a node misses another", || {
            let Ok(status) = http.get("/admin/status").and_then(|answer| answer.json()) else { return false };
            status["nodes"].as_array().is_some_and(|nodes| nodes.iter().any(|node| node["state"] != "alive"))
        })
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in self.children.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Lets a node listen on another port than its ring says, and tell nobody; returns both addresses.
fn move_node(directory: &Path, named: &str) -> anyhow::Result<(SocketAddr, SocketAddr)> {
    let settings = directory.join("gramme.toml");
    let text = std::fs::read_to_string(&settings)?;
    ensure!(text.contains(named), "{named} in gramme.toml");
    let listens = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let moved = text.replace(named, &listens.to_string());
    std::fs::write(settings, format!("{moved}advertise = \"{named}\"\n"))?;
    Ok((named.parse()?, listens))
}
