//! A cluster grows from one node to eight and shrinks to four under a steady load, with nodes killed in between: nothing that
//! was acknowledged is lost, and nothing fails but what was under way at a node that was killed. Beside all other tests it grows
//! to five only.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rand::RngExt;
use serde_json::Value;

use super::Programs;
use super::dev::{Dev, wait_for};
use super::http::{Answer, Http};

const WORKERS: usize = 4;
/// Keys of each worker: nobody else writes them.
const KEYS: usize = 40;
/// For how long after a node was killed what was under way there may fail.
const AFTERMATH: Duration = Duration::from_secs(6);
/// Between two requests of a worker.
const PAUSE: Duration = Duration::from_millis(4);

pub(crate) fn run(programs: &Programs) -> anyhow::Result<()> {
    let mut dev = Dev::found(&programs.gramme, 1)?;
    let load = Load::start(&dev)?;
    let grown = grow_and_shrink(programs, &mut dev, &load);
    let said = load.stop();
    grown?;
    println!("{}", said?);
    placement_is_as_planned(&dev, 4)
}

fn grow_and_shrink(programs: &Programs, dev: &mut Dev, load: &Load) -> anyhow::Result<()> {
    for _ in 1..3 {
        dev_ring(programs, dev, &["add"])?.wait_for(dev, load)?;
    }
    plan(programs, dev, &["replicas", "3"])?;
    plan(programs, dev, &["commit"])?;
    settle(dev)?;
    while dev.nodes() < if programs.alone { 8 } else { 5 } {
        let mut adding = dev_ring(programs, dev, &["add"])?;
        // One that gives.
        kill_and_restart(dev, load, &mut adding, dev.nodes() - 1)?;
        adding.wait_for(dev, load)?;
    }
    while dev.nodes() > 4 {
        let name = dev.node_dir(1);
        let name = name.file_name().and_then(|name| name.to_str()).context("a name")?.to_owned();
        load.forget(dev.node(1)["http"].as_str().unwrap_or_default());
        let mut removing = dev_ring(programs, dev, &["remove", &name])?;
        kill_and_restart(dev, load, &mut removing, 2)?;
        removing.wait_for(dev, load)?;
    }
    Ok(())
}

/// A command that runs beside the load.
struct Changing(Child);

impl Changing {
    fn wait_for(self, dev: &mut Dev, load: &Load) -> anyhow::Result<()> {
        let output = self.0.wait_with_output()?;
        ensure!(output.status.success(), "{output:?}");
        dev.refresh()?;
        load.tell(dev);
        settle(dev)
    }
}

fn dev_ring(programs: &Programs, dev: &Dev, what: &[&str]) -> anyhow::Result<Changing> {
    let child = Command::new(&programs.gramme)
        .arg("dev")
        .args(what)
        .env("XDG_STATE_HOME", dev.state.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    Ok(Changing(child))
}

fn plan(programs: &Programs, dev: &Dev, what: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new(&programs.gramme);
    let output = command.arg("plan").args(what).env("XDG_STATE_HOME", dev.state.path()).output()?;
    ensure!(output.status.success(), "gramme plan {what:?}: {output:?}");
    Ok(())
}

/// Waits until nothing moves and nobody has anything to hand over.
fn settle(dev: &Dev) -> anyhow::Result<()> {
    let mut seen = Value::Null;
    wait_for("nothing moves", || {
        seen = dev.http(0).get("/admin/transfers").and_then(|answer| answer.json()).unwrap_or_default();
        let rests = |node: &Value| node["hands_over"] == false && node["leaving"] == false;
        let nodes = seen["nodes"].as_array();
        seen["joining"] == 0 && seen["leaving"] == 0 && nodes.is_some_and(|nodes| nodes.iter().all(rests))
    })
    .with_context(|| seen.to_string())
}

/// Kills a node in the middle of it, and starts it again.
fn kill_and_restart(dev: &mut Dev, load: &Load, changing: &mut Changing, at: usize) -> anyhow::Result<()> {
    let moving = |dev: &Dev| {
        let seen = dev.http(0).get("/admin/transfers").and_then(|answer| answer.json()).unwrap_or_default();
        seen["joining"].as_u64().unwrap_or_default() > 0
    };
    // It says what went wrong when it is waited for.
    wait_for("something moves", || moving(dev) || matches!(changing.0.try_wait(), Ok(Some(_))))?;
    load.note_kill();
    dev.kill(at)?;
    dev.restart(at)?;
    load.note_kill();
    Ok(())
}

/// Each member owns its share, and every key is there as often as it is to be.
fn placement_is_as_planned(dev: &Dev, members: u64) -> anyhow::Result<()> {
    dev.wait_until_whole()?;
    let ring = dev.http(0).get("/admin/ring")?.is(200)?.json()?;
    let owned = ring["members"].as_array().context("members")?.iter();
    let owned: Vec<u64> = owned.map(|member| member["partitions"].as_u64().unwrap_or_default()).collect();
    let slots = 3 * ring["partitions"].as_u64().context("partitions")?;
    ensure!(owned.len() as u64 == members && owned.iter().sum::<u64>() == slots, "{ring}");
    let even = |owned: &u64| owned.abs_diff(slots / members) <= 1;
    ensure!(owned.iter().all(even), "each owns its share: {ring}");
    let mut seen = Value::Null;
    wait_for("each key is there three times, and nowhere else", || {
        seen = dev.http(0).get("/admin/status").and_then(|answer| answer.json()).unwrap_or_default();
        let keys = |node: &Value| node["keys"].as_u64().unwrap_or_default();
        let sum: u64 = seen["nodes"].as_array().map_or(0, |nodes| nodes.iter().map(keys).sum());
        sum == 3 * (WORKERS * KEYS) as u64
    })
    .with_context(|| seen.to_string())
}

/// Clients that write and read all the while.
struct Load {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<anyhow::Result<()>>>,
}

struct Shared {
    nodes: Mutex<Vec<String>>,
    last_kill: Mutex<Option<Instant>>,
    stop: AtomicBool,
    requests: AtomicU64,
    excused: AtomicU64,
}

impl Load {
    fn start(dev: &Dev) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared {
            nodes: Mutex::new(Vec::new()),
            last_kill: Mutex::new(None),
            stop: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            excused: AtomicU64::new(0),
        });
        let this = Self { shared, workers: Vec::new() };
        this.tell(dev);
        let worker = |number| {
            let mut worker = Worker::new(number, Arc::clone(&this.shared));
            std::thread::spawn(move || worker.run())
        };
        let workers = (0..WORKERS).map(worker).collect();
        Ok(Self { workers, ..this })
    }

    /// These are the nodes to ask from now on.
    fn tell(&self, dev: &Dev) {
        let http = (0..dev.nodes()).filter_map(|at| dev.node(at)["http"].as_str().map(str::to_owned));
        *self.shared.nodes.lock().unwrap_or_else(PoisonError::into_inner) = http.collect();
    }

    /// A node is not asked any more: it is to go.
    fn forget(&self, http: &str) {
        self.shared.nodes.lock().unwrap_or_else(PoisonError::into_inner).retain(|node| node != http);
        // What was sent to it before has an answer by now.
        self.note_kill();
    }

    fn note_kill(&self) {
        *self.shared.last_kill.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn stop(self) -> anyhow::Result<String> {
        self.shared.stop.store(true, Ordering::Relaxed);
        for worker in self.workers {
            worker.join().map_err(|_| anyhow::anyhow!("a worker panicked"))??;
        }
        let (requests, excused) = (&self.shared.requests, &self.shared.excused);
        Ok(format!(
            "{} requests, {} of them failed while a node had just been killed",
            requests.load(Ordering::Relaxed),
            excused.load(Ordering::Relaxed)
        ))
    }
}

/// What a worker knows of one of its keys. Nobody knows what became of a write that failed: it may come up at any time, beside
/// or in the place of what was acknowledged before it.
#[derive(Clone, Default)]
struct Known {
    /// The last write that was acknowledged.
    acked: Option<u64>,
    /// Writes of which nobody knows, and whether each would replace that one.
    unknown: BTreeMap<u64, bool>,
    /// What was read last, with the context to replace it.
    read: Option<(BTreeSet<u64>, String)>,
    is_written: bool,
}

impl Known {
    fn check(&self, shown: &BTreeSet<u64>) -> anyhow::Result<()> {
        let is_replaced = shown.iter().any(|value| self.unknown.get(value) == Some(&true));
        let is_there = self.acked.is_none_or(|acked| shown.contains(&acked)) || is_replaced;
        let is_known = |value: &u64| self.acked == Some(*value) || self.unknown.contains_key(value);
        ensure!(
            is_there && shown.iter().all(is_known),
            "{shown:?} is shown, where {:?} was acknowledged, and nobody knows of {:?}",
            self.acked,
            self.unknown
        );
        Ok(())
    }

    /// A write was acknowledged that replaces what was shown.
    fn acknowledge(&mut self, value: u64, replaced: &BTreeSet<u64>) {
        self.acked = Some(value);
        self.unknown.retain(|unknown, _| !replaced.contains(unknown));
        self.unknown.values_mut().for_each(|replaces| *replaces = false);
    }
}

struct Worker {
    number: usize,
    shared: Arc<Shared>,
    keys: Vec<Known>,
    next: u64,
}

impl Worker {
    fn new(number: usize, shared: Arc<Shared>) -> Self {
        Self { number, shared, keys: vec![Known::default(); KEYS], next: 0 }
    }

    /// Each key is written once at least before it ends; in the end all are read.
    fn run(&mut self) -> anyhow::Result<()> {
        while !self.shared.stop.load(Ordering::Relaxed) || self.keys.iter().any(|key| !key.is_written) {
            let key = rand::rng().random_range(0..KEYS);
            match rand::rng().random_range(0..2) {
                0 => self.write(key),
                _ => self.read(key),
            }?;
            std::thread::sleep(PAUSE);
        }
        (0..KEYS).try_for_each(|key| self.read(key))
    }

    /// Owners alone: where fallbacks count readers and writers need not overlap while a node is down.
    fn path(&self, key: usize) -> String {
        format!("/buckets/ring/keys/{}-{key}?sloppy=false", self.number)
    }

    fn node(&self) -> Http {
        let nodes = self.shared.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        Http::new(&nodes[rand::rng().random_range(0..nodes.len())])
    }

    fn write(&mut self, key: usize) -> anyhow::Result<()> {
        let known = &mut self.keys[key];
        if known.is_written && known.read.is_none() {
            // What became of the last write is not known: read it first.
            return self.read(key);
        }
        self.next += 1;
        let value = self.next;
        let (replaced, context) = known.read.take().unwrap_or_default();
        known.is_written = true;
        let headers = [("x-gramme-context", context.as_str())];
        let headers = if context.is_empty() { &headers[..0] } else { &headers[..] };
        let answer = self.node().put(&self.path(key), headers, value.to_string().as_bytes());
        let answer = self.judge(answer, &[204])?;
        let known = &mut self.keys[key];
        if let Some(answer) = answer {
            known.acknowledge(value, &replaced);
            known.read = Some(([value].into(), answer.context()?.to_owned()));
        } else {
            known.unknown.insert(value, true);
        }
        Ok(())
    }

    fn read(&mut self, key: usize) -> anyhow::Result<()> {
        let headers = [("accept", "multipart/mixed")];
        let answer = self.node().send("GET", &self.path(key), &headers, b"");
        let Some(answer) = self.judge(answer, &[200, 300, 404])? else { return Ok(()) };
        let text = String::from_utf8_lossy(&answer.body);
        let values = text.lines().filter_map(|line| line.trim_end().parse::<u64>().ok());
        let shown: BTreeSet<u64> = if answer.status == 404 { BTreeSet::new() } else { values.collect() };
        self.keys[key].check(&shown)?;
        if !shown.is_empty() {
            self.keys[key].read = Some((shown, answer.context()?.to_owned()));
        }
        Ok(())
    }

    /// The answer; nothing if it failed, and may have.
    fn judge(&self, answer: anyhow::Result<Answer>, good: &[u16]) -> anyhow::Result<Option<Answer>> {
        self.shared.requests.fetch_add(1, Ordering::Relaxed);
        let failure = match answer {
            Ok(answer) if good.contains(&answer.status) => return Ok(Some(answer)),
            Ok(answer) => format!("{}: {}", answer.status, String::from_utf8_lossy(&answer.body)),
            Err(error) => format!("{error:#}"),
        };
        let last_kill = self.shared.last_kill.lock().unwrap_or_else(PoisonError::into_inner);
        let is_excused = last_kill.is_some_and(|at| at.elapsed() < AFTERMATH);
        ensure!(is_excused, "a request failed, and no node had been killed: {failure}");
        self.shared.excused.fetch_add(1, Ordering::Relaxed);
        Ok(None)
    }
}
