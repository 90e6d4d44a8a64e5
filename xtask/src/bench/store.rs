//! What depends on how much is stored: new keys, reads that find nothing in memory, and starting a node.
//!
//! Three nodes, all keys on each. What must hold: a new key costs little more than one that is there, though the
//! engine has to be sure that it is not; a read of the disk delays nobody who doesn't need the disk (here: a
//! ping); and a start reads what proves the store, not every value.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use comfy_table::Table;
use rustix::fs::Advice;
use rustix::process::Signal;

use super::Measured;
use crate::cluster::dev::{Dev, wait_for};
use crate::cluster::http::Http;
use crate::run::markdown;

const IN_FLIGHT: &str = "16";
/// Between two pings.
const PAUSE: Duration = Duration::from_millis(5);

pub(super) fn run(gramme: &Path, keys: u64) -> anyhow::Result<()> {
    let mut dev = Dev::found(gramme, 3)?;
    let keys = keys.to_string();
    let all = ["--once", "--prefix", "stored", "--keys", &keys, "--in-flight", IN_FLIGHT];

    let mut loads = markdown(["load", "ops/s", "p99 µs", "CPU µs/op", "ping p50 µs", "ping p99 µs"]);
    let measured = loaded(gramme, &dev, &[&all[..], &["--workload", "insert"]].concat())?;
    loads.add_row(measured.row("insert, native"));
    let over_http = ["--interface", "http", "--keys", "50000", "--in-flight", IN_FLIGHT, "--once"];
    for workload in ["insert", "put"] {
        let args = [&over_http[..], &["--workload", workload]].concat();
        loads.add_row(loaded(gramme, &dev, &args)?.row(&format!("{workload}, HTTP")));
    }
    let starts = start_cold(&mut dev)?;
    for name in ["get, cold", "get, warm"] {
        loads.add_row(loaded(gramme, &dev, &[&all[..], &["--workload", "get"]].concat())?.row(name));
    }
    loads.add_row(idle(&dev)?);
    println!("{}\n\n{}", loads.trim_fmt(), starts.trim_fmt());
    Ok(())
}

/// A load, and what pings met meanwhile.
struct Loaded {
    measured: [f64; 3],
    pings: [u128; 2],
}

fn loaded(gramme: &Path, dev: &Dev, args: &[&str]) -> anyhow::Result<Loaded> {
    eprintln!("{}", args.join(" "));
    let is_over = AtomicBool::new(false);
    let http = dev.http(0);
    let (measured, pings) = std::thread::scope(|scope| {
        let pings = scope.spawn(|| ping_until(&http, || is_over.load(Ordering::Relaxed)));
        let measured = Measured::by(gramme, dev, args);
        is_over.store(true, Ordering::Relaxed);
        (measured, pings.join())
    });
    let measured = measured?;
    let figure = |name| measured.figure(name);
    Ok(Loaded {
        measured: [figure("operations_per_second")?, figure("p99_us")?, measured.cpu()?],
        pings: pings.map_err(|_| anyhow::anyhow!("the thread that pings panicked"))??,
    })
}

impl Loaded {
    fn row(&self, name: &str) -> Vec<String> {
        let measured = self.measured.iter().map(|figure| format!("{figure:.0}"));
        let pings = self.pings.iter().map(u128::to_string);
        std::iter::once(name.to_owned()).chain(measured).chain(pings).collect()
    }
}

/// What a ping takes when nothing else goes on.
fn idle(dev: &Dev) -> anyhow::Result<Vec<String>> {
    let end = Instant::now() + Duration::from_secs(2);
    let [p50, p99] = ping_until(&dev.http(0), || Instant::now() > end)?;
    let nothing = || String::from("-");
    Ok(vec!["none".to_owned(), nothing(), nothing(), nothing(), p50.to_string(), p99.to_string()])
}

/// Pings, and gives the median and the 99th percentile, in microseconds.
fn ping_until(http: &Http, is_over: impl Fn() -> bool) -> anyhow::Result<[u128; 2]> {
    let mut took = Vec::new();
    while !is_over() {
        let began = Instant::now();
        http.get("/ping")?.is(200)?;
        took.push(began.elapsed().as_micros());
        std::thread::sleep(PAUSE);
    }
    took.sort_unstable();
    ensure!(!took.is_empty(), "no ping was sent");
    Ok([took[took.len() / 2], took[took.len() * 99 / 100]])
}

/// Stops each node, drops its files from the system's memory, and starts it again.
fn start_cold(dev: &mut Dev) -> anyhow::Result<Table> {
    for at in 0..dev.nodes() {
        dev.stop(at, Signal::TERM)?;
    }
    let mut table = markdown(["node", "MiB on disk", "MiB read", "ms until it answers", "CPU ms"]);
    for at in 0..dev.nodes() {
        let bytes = forget(&dev.node_dir(at))?;
        let began = Instant::now();
        dev.restart(at)?;
        let http = dev.http(at);
        wait_for("the node answers", || http.get("/ping").is_ok())?;
        let took = began.elapsed().as_millis();
        let (read, cpu) = (read_by(dev.node_pid(at))?, cpu_of(&http)?);
        let cells = [(at as u64 + 1), bytes >> 20, read >> 20, took as u64, cpu];
        table.add_row(cells.map(|cell| cell.to_string()));
    }
    dev.wait_until_whole()?;
    Ok(table)
}

/// Makes the system drop a directory's files from its memory; gives their bytes.
fn forget(directory: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            bytes += forget(&entry.path())?;
        } else {
            let file = File::open(entry.path())?;
            // What is not on the device yet cannot be dropped.
            file.sync_all()?;
            rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?;
            bytes += file.metadata()?.len();
        }
    }
    Ok(bytes)
}

/// Bytes that a process had read from the device.
fn read_by(pid: u32) -> anyhow::Result<u64> {
    let io = std::fs::read_to_string(format!("/proc/{pid}/io"))?;
    let bytes = io.lines().find_map(|line| line.strip_prefix("read_bytes: "));
    Ok(bytes.context("the system does not say what a process read")?.parse()?)
}

/// Processor time that a node has taken so far, in milliseconds.
fn cpu_of(http: &Http) -> anyhow::Result<u64> {
    let metrics = String::from_utf8(http.get("/metrics")?.is(200)?.body)?;
    let line = metrics.lines().find_map(|line| line.strip_prefix("process_cpu_seconds_total "));
    let seconds: f64 = line.context("the node does not tell its processor time")?.trim().parse()?;
    Ok((seconds * 1_000.0) as u64)
}
