//! `cluster.json`: a running cluster as `gramme dev` describes it, and which one was started last.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use serde_json::{Value, json};

use crate::exit::{UNREACHABLE, failure};
use crate::ring_file::write_private;

/// A cluster as `gramme dev` runs it.
#[derive(Clone, Debug)]
pub(crate) struct ClusterFile {
    pub(crate) cluster: String,
    pub(crate) ca: PathBuf,
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) nodes: Vec<NodeEntry>,
}

#[derive(Clone, Debug)]
pub(crate) struct NodeEntry {
    pub(crate) id: String,
    pub(crate) http: String,
    pub(crate) quic: Vec<String>,
    pub(crate) dir: PathBuf,
    pub(crate) pid: u32,
    pub(crate) command: Vec<String>,
}

impl ClusterFile {
    fn to_json(&self) -> Value {
        let node = |node: &NodeEntry| {
            json!({
                "id": node.id,
                "http": node.http,
                "quic": node.quic,
                "dir": node.dir,
                "pid": node.pid,
                "command": node.command,
            })
        };
        json!({
            "cluster": self.cluster,
            "client": { "ca": self.ca, "cert": self.cert, "key": self.key },
            "nodes": self.nodes.iter().map(node).collect::<Vec<_>>(),
        })
    }

    /// Writes it in the place of an older one, whole or not at all.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let new = path.with_extension("json.new");
        write_private(&new, format!("{:#}\n", self.to_json()).as_bytes())?;
        fs::rename(&new, path).with_context(|| format!("cannot write {}", path.display()))
    }

    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let value: Value = serde_json::from_slice(&text)?;
        Self::from_json(&value).ok_or_else(|| anyhow!("{} does not describe a cluster", path.display()))
    }

    fn from_json(value: &Value) -> Option<Self> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let texts = |value: &Value| value.as_array()?.iter().map(text).collect::<Option<Vec<_>>>();
        let node = |value: &Value| {
            Some(NodeEntry {
                id: text(&value["id"])?,
                http: text(&value["http"])?,
                quic: texts(&value["quic"])?,
                dir: text(&value["dir"])?.into(),
                pid: u32::try_from(value["pid"].as_u64()?).ok()?,
                command: texts(&value["command"])?,
            })
        };
        Some(Self {
            cluster: text(&value["cluster"])?,
            ca: text(&value["client"]["ca"])?.into(),
            cert: text(&value["client"]["cert"])?.into(),
            key: text(&value["client"]["key"])?.into(),
            nodes: value["nodes"].as_array()?.iter().map(node).collect::<Option<_>>()?,
        })
    }

    /// The cluster that `gramme dev` started last on this account.
    pub(crate) fn last() -> anyhow::Result<Self> {
        Self::read(&Self::last_path()?).map_err(|_| no_cluster())
    }

    /// Where that cluster is described.
    pub(crate) fn last_path() -> anyhow::Result<PathBuf> {
        let record = last_record().ok_or_else(no_cluster)?;
        let path = fs::read_to_string(&record).map_err(|_| no_cluster())?;
        Ok(PathBuf::from(path.trim()))
    }
}

fn no_cluster() -> anyhow::Error {
    failure(
        UNREACHABLE,
        "which cluster? Start one with `gramme dev`, or name a node with --node HOST:PORT or GRAMME_ENDPOINT",
    )
}

/// Where the last cluster is recorded: `gramme/last-cluster` below `$XDG_STATE_HOME` or `~/.local/state`.
pub(crate) fn last_record() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").filter(|state| !state.is_empty()).map(PathBuf::from);
    let state = state.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state")))?;
    Some(state.join("gramme").join("last-cluster"))
}

/// Records `path` as that of the cluster started last. A machine without a home goes without.
pub(crate) fn record_last(path: &Path) -> anyhow::Result<()> {
    let Some(record) = last_record() else { return Ok(()) };
    if let Some(directory) = record.parent() {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    write_private(&record, format!("{}\n", path.display()).as_bytes())
}

/// Forgets `path`, if it is the one recorded.
pub(crate) fn forget_last(path: &Path) {
    if let Some(record) = last_record()
        && fs::read_to_string(&record).is_ok_and(|last| Path::new(last.trim()) == path)
    {
        // If it stays, the next command says that nobody is reachable.
        let _ = fs::remove_file(record);
    }
}
