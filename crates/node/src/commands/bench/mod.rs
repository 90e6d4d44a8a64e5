//! `gramme bench`: requests against a running cluster, and what they cost.
//!
//! A closed loop: each worker sends its next request when it has the answer to the last. That never asks for more than
//! the cluster can do. With `--rate` requests are due at fixed times instead, and a latency counts from then.

mod keys;
mod worker;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use gramme_client::{Client, Config};
use gramme_object::limits;
use hdrhistogram::Histogram;
use serde_json::json;
use tokio::task::JoinSet;

use crate::cli::{BenchArgs, Endpoint, Interface, Workload};
use crate::commands::cluster_file::ClusterFile;
use crate::commands::get::write_out;
use crate::commands::remote::{Call, Remote};
use crate::exit::{UNREACHABLE, failure};

use self::keys::Keys;
use self::worker::{Common, Worker};

/// The longest latency that is told apart, in microseconds.
const LONGEST: u64 = 60_000_000;
/// Not measured: connections, caches and routes settle.
const WARM_UP: Duration = Duration::from_secs(1);
/// A request that could not be sent for so long is not worth sending any more.
const TOO_LATE: Duration = Duration::from_secs(1);

pub(crate) fn run(args: &BenchArgs) -> anyhow::Result<()> {
    let path = args.cluster.clone().map_or_else(ClusterFile::last_path, Ok)?;
    let cluster = ClusterFile::read(&path)?;
    ensure!(args.value_size <= limits::VALUE, "--value-size: at most {} bytes", limits::VALUE);
    ensure!(args.keys >= u64::from(args.in_flight), "--keys: at least as many as --in-flight");
    // Its workers would not know what they replace.
    ensure!(args.workload != Workload::Put || args.prefix.is_none(), "--prefix: only with insert and get");
    let is_plain = |prefix: &String| prefix.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    ensure!(args.prefix.iter().all(is_plain), "--prefix: letters, digits and '-' only");
    let bucket = format!("bench-{}", args.durability);
    set_durability(&cluster, &bucket, &args.durability)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let measured = runtime.block_on(measure(args, &path, &cluster, bucket))?;
    report(args, &measured)
}

struct Measured {
    done: Done,
    seconds: f64,
    /// Processor time of all nodes.
    server_cpu: Duration,
}

/// What came of requests.
struct Done {
    latencies: Histogram<u64>,
    /// How many succeeded, by the second in which they were due.
    by_second: Vec<u64>,
    errors: u64,
    /// With `--rate`: there was no room for them.
    unsent: u64,
}

impl Done {
    fn new() -> anyhow::Result<Self> {
        let latencies = Histogram::new_with_bounds(1, LONGEST, 3)?;
        Ok(Self { latencies, by_second: Vec::new(), errors: 0, unsent: 0 })
    }

    fn note(&mut self, second: usize, took: Duration) {
        self.latencies.saturating_record(took.as_micros() as u64);
        if self.by_second.len() <= second {
            self.by_second.resize(second + 1, 0);
        }
        self.by_second[second] += 1;
    }

    fn add(&mut self, other: Self) -> anyhow::Result<()> {
        self.latencies.add(other.latencies)?;
        self.by_second.resize(self.by_second.len().max(other.by_second.len()), 0);
        self.by_second.iter_mut().zip(other.by_second).for_each(|(all, more)| *all += more);
        self.errors += other.errors;
        self.unsent += other.unsent;
        Ok(())
    }
}

fn set_durability(cluster: &ClusterFile, bucket: &str, durability: &str) -> anyhow::Result<()> {
    let node = cluster.nodes.first().map(|node| node.http.clone());
    let remote = Remote::new(&Endpoint { node }, Duration::from_secs(5))?;
    let body = json!({ "props": { "durability": durability } }).to_string().into_bytes();
    let path = format!("/buckets/{bucket}/props");
    let answer = remote.call(&Call { method: "PUT", path, headers: Vec::new(), body })?;
    if answer.status == 204 { Ok(()) } else { Err(answer.error()) }
}

async fn measure(
    args: &BenchArgs,
    path: &Path,
    cluster: &ClusterFile,
    bucket: String,
) -> anyhow::Result<Measured> {
    let client = match args.interface {
        Interface::Native => {
            let connected = Client::connect(Config::from_cluster_json(path)?).await;
            Some(connected.map_err(|error| failure(UNREACHABLE, error.to_string()))?)
        }
        Interface::Http => None,
    };
    // Without a name of its own a run would find the last one's siblings.
    let prefix = args.prefix.clone().unwrap_or_else(|| format!("{:016x}", rand::random::<u64>()));
    let prefix = Arc::from(prefix);
    let common = Common { cluster, client, bucket, prefix, value_size: args.value_size };
    let mut workers = Vec::new();
    for number in 0..u64::from(args.in_flight) {
        workers.push(Worker::connect(&common, number).await?);
    }
    // What an earlier run wrote is there already.
    if args.workload != Workload::Insert && args.prefix.is_none() {
        workers = prepare(args, workers).await?;
    }
    loop_through(args, cluster, workers).await
}

/// Writes every key once, so that reads find something and writes replace something.
async fn prepare(args: &BenchArgs, workers: Vec<Worker>) -> anyhow::Result<Vec<Worker>> {
    let mut writers = Vec::new();
    for (number, mut worker) in (0..).zip(workers) {
        let keys = Keys::of(number, args);
        writers.push(tokio::spawn(async move {
            for key in keys.each() {
                worker.put(key).await?;
            }
            anyhow::Ok(worker)
        }));
    }
    let mut workers = Vec::new();
    for writer in writers {
        workers.push(writer.await?.context("preparing the keys")?);
    }
    Ok(workers)
}

async fn loop_through(
    args: &BenchArgs,
    cluster: &ClusterFile,
    workers: Vec<Worker>,
) -> anyhow::Result<Measured> {
    let idle = cpu_of(cluster).await?;
    let start = Instant::now() + if args.once { Duration::ZERO } else { WARM_UP };
    let end = (!args.once).then(|| start + Duration::from_secs(args.seconds));
    let mut driven = JoinSet::new();
    for (number, worker) in (0..).zip(workers) {
        let pace = args.rate.map(|rate| Pace::of(number, rate, args.in_flight, start));
        let order = Keys::of(number, args).order(args);
        driven.spawn(drive(worker, args.workload, order, (start, end), pace));
    }
    tokio::time::sleep_until(start.into()).await;
    let before = if args.once { idle } else { cpu_of(cluster).await? };
    let (done, seconds, after) = if let Some(end) = end {
        tokio::time::sleep_until(end.into()).await;
        let (seconds, after) = (start.elapsed(), cpu_of(cluster).await?);
        (driven.join_all().await, seconds, after)
    } else {
        let done = driven.join_all().await;
        (done, start.elapsed(), cpu_of(cluster).await?)
    };
    let mut all = Done::new()?;
    done.into_iter().try_for_each(|worker| all.add(worker?))?;
    let server_cpu = after.saturating_sub(before);
    Ok(Measured { done: all, seconds: seconds.as_secs_f64(), server_cpu })
}

/// When a worker's requests are due.
struct Pace {
    next: Instant,
    period: Duration,
}

impl Pace {
    /// Workers take turns.
    fn of(worker: u64, rate: u32, workers: u16, start: Instant) -> Self {
        let period = Duration::from_secs_f64(f64::from(workers) / f64::from(rate));
        let first = start.checked_sub(WARM_UP).unwrap_or(start);
        Self { next: first + period.mul_f64(worker as f64 / f64::from(workers)), period }
    }

    /// Waits for the next one; says when it was due, and how many were due before and are not worth sending any more.
    async fn wait(&mut self, end: Option<Instant>) -> (Instant, u64) {
        let late = Instant::now().saturating_duration_since(self.next + TOO_LATE);
        let skipped = (late.as_secs_f64() / self.period.as_secs_f64()).ceil() as u64;
        let due = self.next + self.period.mul_f64(skipped as f64);
        self.next = due + self.period;
        // What is due after the end is not waited for.
        if end.is_none_or(|end| due < end) {
            tokio::time::sleep_until(due.into()).await;
        }
        (due, skipped)
    }
}

/// Goes through the keys until the end, or until each had its turn.
async fn drive(
    mut worker: Worker,
    workload: Workload,
    order: impl Iterator<Item = u64> + Send,
    (start, end): (Instant, Option<Instant>),
    mut pace: Option<Pace>,
) -> anyhow::Result<Done> {
    let mut all = Done::new()?;
    for key in order {
        let (began, skipped) = match &mut pace {
            Some(pace) => pace.wait(end).await,
            None => (Instant::now(), 0),
        };
        if began >= start {
            all.unsent += skipped;
        }
        if end.is_some_and(|end| began >= end) {
            break;
        }
        let done = match workload {
            Workload::Put => worker.put(key).await,
            Workload::Insert => worker.insert(key).await,
            Workload::Get => worker.get(key).await,
        };
        let Some(since) = began.checked_duration_since(start) else { continue };
        match done {
            Ok(()) => all.note(since.as_secs() as usize, began.elapsed()),
            Err(_) => all.errors += 1,
        }
    }
    Ok(all)
}

/// Processor time of all the cluster's processes so far.
async fn cpu_of(cluster: &ClusterFile) -> anyhow::Result<Duration> {
    let addresses: Vec<String> = cluster.nodes.iter().map(|node| node.http.clone()).collect();
    // Waits for the nodes, and the workers must not wait for it.
    let ask = move || addresses.into_iter().map(cpu_of_node).sum::<anyhow::Result<f64>>();
    let asked = tokio::task::spawn_blocking(ask);
    Ok(Duration::from_secs_f64(asked.await??))
}

/// In seconds.
fn cpu_of_node(http: String) -> anyhow::Result<f64> {
    let remote = Remote::new(&Endpoint { node: Some(http.clone()) }, Duration::from_secs(5))?;
    let call = Call { method: "GET", path: "/metrics".to_owned(), ..Call::default() };
    let metrics = String::from_utf8(remote.call(&call)?.body)?;
    let line = metrics.lines().find_map(|line| line.strip_prefix("process_cpu_seconds_total "));
    let seconds = line.with_context(|| format!("{http} does not tell its processor time"))?;
    Ok(seconds.trim().parse()?)
}

fn report(args: &BenchArgs, measured: &Measured) -> anyhow::Result<()> {
    let Measured { done: Done { latencies, by_second, errors, unsent }, seconds, server_cpu } = measured;
    let operations = latencies.len();
    ensure!(operations > 0, "no operation succeeded; {errors} failed");
    let per_second = operations as f64 / seconds;
    let at = |quantile| latencies.value_at_quantile(quantile);
    let cpu = server_cpu.as_micros() as f64 / operations as f64;
    let (p50, p99, p999) = (at(0.5), at(0.99), at(0.999));
    if args.json {
        let json = json!({
            "operations_per_second": per_second, "p50_us": p50, "p99_us": p99, "p999_us": p999,
            "server_cpu_us_per_operation": cpu, "operations": operations, "errors": errors,
            "unsent": unsent, "by_second": by_second,
        });
        return write_out(format!("{json}\n").as_bytes());
    }
    write_out(
        format!(
            "{per_second:.0} operations/s; latency p50 {p50} µs, p99 {p99} µs, p99.9 {p999} µs; {cpu:.0} µs of \
             processor time per operation over all nodes; {operations} operations, {errors} errors, {unsent} not sent\n"
        )
        .as_bytes(),
    )
}
