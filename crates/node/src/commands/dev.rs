//! `gramme dev`: founds a throwaway cluster, runs its nodes as child processes, and stops them at the end.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use comfy_table::{Table, presets};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{DevArgs, DevWhat, Endpoint};
use crate::commands::cluster_file::{ClusterFile, NodeEntry, forget_last, record_last};
use crate::commands::dev_ring;
use crate::commands::get::write_out;
use crate::commands::node::PARENT;
use crate::commands::ports;
use crate::commands::remote::{Call, Remote};
use crate::config::Config;
use crate::exit::{USAGE, failure};
use crate::founding::{Plot, found, make_private};

const NODES: u16 = 3;
/// How long the nodes may take to find each other.
const READY: Duration = Duration::from_secs(60);
/// How long a node may take to end before it is killed.
const END: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(50);

pub(crate) fn run(args: &DevArgs) -> anyhow::Result<()> {
    match &args.what {
        None => {}
        Some(DevWhat::Add { dir, zone, weight }) => return dev_ring::add(dir.as_deref(), zone, *weight),
        Some(DevWhat::Remove { node, dir }) => return dev_ring::remove(node, dir.as_deref()),
    }
    let temporary = match args.dir {
        Some(_) => None,
        None => Some(tempfile::Builder::new().prefix("gramme-dev-").tempdir()?),
    };
    let directory = match (&args.dir, &temporary) {
        (Some(directory), _) => directory.clone(),
        (None, Some(temporary)) => temporary.path().to_owned(),
        (None, None) => bail!("there is no directory to work in"),
    };
    make_private(&directory)?;
    let directory = directory.canonicalize()?;
    let _lock = lock(&directory)?;
    // One of an earlier run names processes that are gone.
    let _ = fs::remove_file(directory.join("cluster.json"));
    // From here on signals are ours: a directory that is being founded is not left behind.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    let nodes = node_directories(&directory)?;
    let nodes = if nodes.is_empty() { found_in(&directory, args)? } else { check_existing(nodes, args)? };
    let ran = runtime.block_on(async {
        let told_to_end = async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        run_nodes(&directory, &nodes, told_to_end).await
    });
    if temporary.is_some() {
        forget_last(&directory.join("cluster.json"));
    }
    ran
}

/// Keeps a second `gramme dev` out of the directory.
fn lock(directory: &Path) -> anyhow::Result<File> {
    let path = directory.join("LOCK");
    let file = File::options().create(true).truncate(false).write(true).open(&path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(_) => bail!("another gramme dev runs in {}", directory.display()),
    }
}

/// The directories of the nodes of a cluster that was founded in `directory` before, in order.
pub(crate) fn node_directories(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut numbered = Vec::new();
    let mut others = 0;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let number = path.file_name().and_then(|name| name.to_str()?.strip_prefix('n')?.parse::<u16>().ok());
        match number {
            Some(number) if path.join("gramme.toml").is_file() => numbered.push((number, path)),
            _ if path.file_name().is_some_and(|name| name == "LOCK") => {}
            _ => others += 1,
        }
    }
    ensure!(
        !numbered.is_empty() || others == 0,
        "{} is not empty and holds no cluster; name another directory",
        directory.display()
    );
    numbered.sort();
    Ok(numbered.into_iter().map(|(_, path)| path).collect())
}

fn check_existing(nodes: Vec<PathBuf>, args: &DevArgs) -> anyhow::Result<Vec<PathBuf>> {
    if args.nodes.is_some_and(|wanted| usize::from(wanted) != nodes.len()) {
        return Err(failure(
            USAGE,
            format!("the directory holds a cluster of {} nodes; leave --nodes away", nodes.len()),
        ));
    }
    if args.http_port.is_some() {
        return Err(failure(
            USAGE,
            "the directory holds a cluster, which keeps its ports; leave --http-port away",
        ));
    }
    Ok(nodes)
}

fn found_in(directory: &Path, args: &DevArgs) -> anyhow::Result<Vec<PathBuf>> {
    let count = args.nodes.unwrap_or(NODES);
    let engine = args.engine.parse().map_err(|why: String| failure(USAGE, format!("--engine: {why}")))?;
    let mut ports = ports::pick(usize::from(count) * 2)?;
    if let Some(first) = args.http_port {
        let wanted: Vec<u16> = (0..count).filter_map(|at| first.checked_add(at)).collect();
        ensure!(
            wanted.len() == usize::from(count),
            "--http-port {first}: there are not {count} ports from it on"
        );
        if let Some(taken) = wanted.iter().find(|&&port| !ports::is_free(port)) {
            bail!("port {taken} is in use; choose another --http-port");
        }
        ports.retain(|port| !wanted.contains(port));
        ports.splice(0..0, wanted);
    }
    let local = |port: u16| std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let (http, quic) = ports.split_at(usize::from(count));
    let plot = |(at, (&http, &quic)): (usize, (&u16, &u16))| Plot {
        name: format!("n{}", at + 1),
        http: local(http),
        quic: local(quic),
    };
    let plots: Vec<Plot> = http.iter().zip(quic).enumerate().map(plot).collect();
    let cluster = format!("dev-{:08x}", rand::random::<u32>());
    found(directory, &cluster, &plots, engine)?;
    Ok(plots.iter().map(|plot| directory.join(&plot.name)).collect())
}

/// A child process that is a node.
struct Running {
    child: Child,
    config: Config,
    entry: NodeEntry,
    /// How it ended, once it has.
    ended: Option<String>,
}

/// Stops whatever is still running, however we leave.
struct Nodes(Vec<Running>);

impl Drop for Nodes {
    fn drop(&mut self) {
        for node in &mut self.0 {
            if let Some(pid) =
                node.is_alive().then(|| i32::try_from(node.entry.pid).ok().and_then(Pid::from_raw)).flatten()
            {
                // It may end in this instant by itself.
                let _ = kill_process(pid, Signal::TERM);
            }
        }
        let patience = Instant::now();
        for node in &mut self.0 {
            while node.is_alive() {
                if patience.elapsed() > END {
                    let _ = node.child.kill();
                    let _ = node.child.wait();
                    break;
                }
                std::thread::sleep(POLL);
            }
        }
    }
}

impl Running {
    fn start(directory: &Path) -> anyhow::Result<Self> {
        let path = directory.join("gramme.toml");
        let config = Config::load(&path, &[], |_| None)?;
        let ring = crate::ring_file::RingFile::read(&config.ring)?;
        let id = ring.ring.addresses.iter().find(|(_, quic)| quic.contains(&config.quic.to_string()));
        let (id, quic) = id.with_context(|| format!("{} is not in its ring", config.quic))?;
        let program = std::env::current_exe()?;
        let command = vec![
            program.display().to_string(),
            "node".to_owned(),
            "--config".to_owned(),
            path.display().to_string(),
        ];
        let log = File::options().create(true).append(true).open(directory.join("node.log"))?;
        let child = Command::new(&command[0])
            .args(&command[1..])
            // What is set for some other node must not change these.
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| !name.to_string_lossy().starts_with("GRAMME_")))
            .env(PARENT, std::process::id().to_string())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", command[0]))?;
        let entry = NodeEntry {
            id: id.to_string(),
            http: config.http.to_string(),
            quic: quic.clone(),
            dir: directory.to_owned(),
            pid: child.id(),
            command,
        };
        Ok(Self { child, config, entry, ended: None })
    }

    fn is_alive(&mut self) -> bool {
        if self.ended.is_none()
            && let Ok(Some(status)) = self.child.try_wait()
        {
            self.ended = Some(match (status.code(), status.signal()) {
                (Some(code), _) => format!("ended with code {code}"),
                (None, Some(signal)) => format!("was ended by signal {signal}"),
                (None, None) => "ended".to_owned(),
            });
        }
        self.ended.is_none()
    }

    /// Whether it sees all the others, and would serve.
    fn is_ready(&self) -> bool {
        let endpoint = Endpoint { node: Some(self.entry.http.clone()) };
        let call = Call { method: "GET", path: "/admin/status".to_owned(), ..Call::default() };
        let answer = Remote::new(&endpoint, Duration::from_secs(1)).and_then(|remote| remote.call(&call));
        let Ok(answer) = answer else { return false };
        let status: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let sees_all =
            status["nodes"].as_array().is_some_and(|nodes| nodes.iter().all(|node| node["state"] == "alive"));
        sees_all && status["ready"] == true
    }

    fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.entry.dir.join("node.log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}

async fn run_nodes(
    directory: &Path,
    nodes: &[PathBuf],
    told_to_end: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let mut running = Nodes(Vec::new());
    for node in nodes {
        running.0.push(Running::start(node)?);
    }
    tokio::pin!(told_to_end);
    tokio::select! {
        ready = wait_until_ready(&mut running.0) => ready?,
        () = &mut told_to_end => return Ok(()),
    }
    let path = directory.join("cluster.json");
    announce(directory, &path, &running.0)?;
    loop {
        tokio::select! {
            () = &mut told_to_end => break,
            () = tokio::time::sleep(POLL) => {
                report_ended(&mut running.0);
                if adopt(directory, &mut running.0)? {
                    describe(directory, &path, &running.0)?;
                }
            }
        }
    }
    eprintln!("stopping");
    drop(running);
    Ok(())
}

async fn wait_until_ready(running: &mut [Running]) -> anyhow::Result<()> {
    let began = Instant::now();
    for at in 0..running.len() {
        while !running[at].is_ready() {
            all_alive(running)?;
            ensure!(
                began.elapsed() < READY,
                "the nodes have not found each other; see node.log in each directory"
            );
            tokio::time::sleep(POLL).await;
        }
    }
    // Somebody else may have answered on their ports.
    all_alive(running)
}

fn all_alive(running: &mut [Running]) -> anyhow::Result<()> {
    for node in running {
        if !node.is_alive() {
            let how = node.ended.as_deref().unwrap_or_default();
            bail!("node {} {how}; the end of its log:\n{}", node.config.name, node.log_tail());
        }
    }
    Ok(())
}

fn announce(directory: &Path, path: &Path, running: &[Running]) -> anyhow::Result<()> {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(["node", "id", "HTTP", "QUIC", "directory", "pid"]);
    for Running { config, entry, .. } in running {
        table.add_row([
            config.name.clone(),
            entry.id.clone(),
            entry.http.clone(),
            entry.quic.join(" "),
            entry.dir.display().to_string(),
            entry.pid.to_string(),
        ]);
    }
    describe(directory, path, running)?;
    if let Err(error) = record_last(path) {
        eprintln!("gramme: commands will not find this cluster by themselves: {error:#}");
    }
    let program = program_as_typed();
    let try_next = format!("{program} put fruit/apple red && {program} get fruit/apple");
    write_out(format!("{}\n\ntry: {try_next}\nready\n", table.trim_fmt()).as_bytes())
}

/// Writes what runs to `cluster.json`.
fn describe(directory: &Path, path: &Path, running: &[Running]) -> anyhow::Result<()> {
    let first = running.first().context("a cluster has nodes")?;
    let ring = crate::ring_file::RingFile::read(&first.config.ring)?;
    let cluster = ClusterFile {
        cluster: ring.ring.cluster,
        ca: directory.join("ca.pem"),
        cert: directory.join("client.pem"),
        key: directory.join("client.key"),
        nodes: running.iter().map(|node| node.entry.clone()).collect(),
    };
    cluster.write(path)
}

/// Starts nodes that were added to the directory, and forgets those that were removed from it. Says whether there were any.
fn adopt(directory: &Path, running: &mut Vec<Running>) -> anyhow::Result<bool> {
    let before = running.len();
    running.retain(|node| node.entry.dir.exists() || node.ended.is_none());
    let mut is_changed = running.len() < before;
    for path in node_directories(directory)? {
        if !running.iter().any(|node| node.entry.dir == path) {
            running.push(Running::start(&path)?);
            is_changed = true;
        }
    }
    Ok(is_changed)
}

/// How this program can be called again from where its user stands.
fn program_as_typed() -> String {
    let exe = std::env::current_exe().ok();
    let here = std::env::current_dir().ok();
    let below =
        exe.as_ref().zip(here).and_then(|(exe, here)| exe.strip_prefix(here).ok().map(Path::to_owned));
    match (below, exe) {
        (Some(below), _) => format!("./{}", below.display()),
        (None, Some(exe)) => exe.display().to_string(),
        (None, None) => "gramme".to_owned(),
    }
}

fn report_ended(running: &mut [Running]) {
    for node in running {
        if node.ended.is_none() && !node.is_alive() {
            let how = node.ended.as_deref().unwrap_or_default();
            eprintln!(
                "node {} {how}; start it again with: {}",
                node.config.name,
                node.entry.command.join(" ")
            );
        }
    }
}
