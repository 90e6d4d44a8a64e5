//! A cluster grows from one node to eight and shrinks to four under a steady load, with nodes killed in between: nothing that
//! was acknowledged is lost, and nothing fails but what was under way at a node that was killed.

use std::collections::BTreeSet;
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
    for count in [5, 8] {
        while dev.nodes() < count {
            let mut adding = dev_ring(programs, dev, &["add"])?;
            // One that gives.
            kill_and_restart(dev, load, &mut adding, dev.nodes() - 1)?;
            adding.wait_for(dev, load)?;
        }
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

/// What a worker knows of one of its keys.
#[derive(Clone, Default)]
struct Known {
    /// The values that a reader may be shown.
    may_show: BTreeSet<u64>,
    context: Option<String>,
    is_written: bool,
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
            if rand::rng().random_range(0..2) == 0 {
                self.write(key)?
            } else {
                self.read(key)?
            };
            std::thread::sleep(PAUSE);
        }
        (0..KEYS).try_for_each(|key| self.read(key))
    }

    fn path(&self, key: usize) -> String {
        format!("/buckets/ring/keys/{}-{key}", self.number)
    }

    fn node(&self) -> Http {
        let nodes = self.shared.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        Http::new(&nodes[rand::rng().random_range(0..nodes.len())])
    }

    fn write(&mut self, key: usize) -> anyhow::Result<()> {
        if self.keys[key].is_written && self.keys[key].context.is_none() {
            // What became of the last write is not known: read it first.
            return self.read(key);
        }
        self.next += 1;
        let value = self.next;
        let context = self.keys[key].context.take();
        let headers: Vec<(&str, &str)> = context.iter().map(|it| ("x-gramme-context", it.as_str())).collect();
        self.keys[key].is_written = true;
        let answer = self.node().put(&self.path(key), &headers, value.to_string().as_bytes());
        if let Some(answer) = self.judge(answer, &[204])? {
            let context = answer.context()?.to_owned();
            self.keys[key] = Known { may_show: [value].into(), context: Some(context), is_written: true };
        } else {
            self.keys[key].may_show.insert(value);
        }
        Ok(())
    }

    fn read(&mut self, key: usize) -> anyhow::Result<()> {
        let answer = self.node().get(&self.path(key));
        let Some(answer) = self.judge(answer, &[200, 404])? else { return Ok(()) };
        let known = &mut self.keys[key];
        let shown = std::str::from_utf8(&answer.body).ok().and_then(|text| text.parse::<u64>().ok());
        match shown.filter(|_| answer.status == 200) {
            Some(value) => {
                ensure!(known.may_show.contains(&value), "{value} is shown, of {:?}", known.may_show);
                known.context = Some(answer.context()?.to_owned());
                known.may_show = [value].into();
            }
            None => ensure!(
                known.may_show.len() <= 1 && known.context.is_none(),
                "an acknowledged value is gone: {:?}, {answer:?}",
                known.may_show
            ),
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
