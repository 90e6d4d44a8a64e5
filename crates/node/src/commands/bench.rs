//! `gramme bench`: a closed loop of requests against a running cluster, and what they cost.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use gramme_client::{Client, Config};
use gramme_object::limits;
use hdrhistogram::Histogram;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpStream;

use crate::cli::{BenchArgs, Endpoint, Interface, Workload};
use crate::commands::cluster_file::ClusterFile;
use crate::commands::get::write_out;
use crate::commands::remote::{Call, Remote};
use crate::exit::{UNREACHABLE, failure};

/// The longest latency that is told apart, in microseconds.
const LONGEST: u64 = 60_000_000;
/// Not measured: connections, caches and routes settle.
const WARM_UP: Duration = Duration::from_secs(1);

pub(crate) fn run(args: &BenchArgs) -> anyhow::Result<()> {
    let path = args.cluster.clone().map_or_else(ClusterFile::last_path, Ok)?;
    let cluster = ClusterFile::read(&path)?;
    ensure!(args.value_size <= limits::VALUE, "--value-size: at most {} bytes", limits::VALUE);
    let bucket = format!("bench-{}", args.durability);
    set_durability(&cluster, &bucket, &args.durability)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let measured = runtime.block_on(measure(args, &path, &cluster, &bucket))?;
    report(args, &measured)
}

struct Measured {
    latencies: Histogram<u64>,
    errors: u64,
    seconds: f64,
    /// Processor time of all nodes.
    server_cpu: Duration,
}

fn set_durability(cluster: &ClusterFile, bucket: &str, durability: &str) -> anyhow::Result<()> {
    let node = cluster.nodes.first().map(|node| node.http.clone());
    let remote = Remote::new(&Endpoint { node }, Duration::from_secs(5))?;
    let body = json!({ "props": { "durability": durability } }).to_string().into_bytes();
    let path = format!("/buckets/{bucket}/props");
    let answer = remote.call(&Call { method: "PUT", path, headers: Vec::new(), body })?;
    if answer.status == 204 { Ok(()) } else { Err(answer.error()) }
}

/// One connection's worth of a closed loop: sends a request, waits for its answer.
enum Worker {
    Native { client: Client },
    Http { sender: http1::SendRequest<Full<Bytes>>, host: String },
}

/// What a writer holds of each of its keys.
type Contexts = BTreeMap<u64, Held>;

#[derive(Clone)]
enum Held {
    Native(gramme_client::Context),
    Http(String),
}

async fn measure(
    args: &BenchArgs,
    path: &Path,
    cluster: &ClusterFile,
    bucket: &str,
) -> anyhow::Result<Measured> {
    let client = match args.interface {
        Interface::Native => {
            let connected = Client::connect(Config::from_cluster_json(path)?).await;
            Some(connected.map_err(|error| failure(UNREACHABLE, error.to_string()))?)
        }
        Interface::Http => None,
    };
    if args.workload == Workload::Get {
        prepare(args, cluster, bucket, client.as_ref()).await?;
    }
    let args = Arc::new(args.clone());
    let start = Instant::now() + WARM_UP;
    let end = start + Duration::from_secs(args.seconds);
    let mut workers = Vec::new();
    for number in 0..u64::from(args.in_flight) {
        let worker = connect(cluster, number, client.as_ref()).await?;
        let (args, bucket) = (Arc::clone(&args), bucket.to_owned());
        workers.push(tokio::spawn(async move { drive(worker, &args, &bucket, number, start, end).await }));
    }
    tokio::time::sleep_until(start.into()).await;
    let cpu_before = cpu_of(cluster)?;
    tokio::time::sleep_until(end.into()).await;
    let server_cpu = cpu_of(cluster)?.saturating_sub(cpu_before);
    let mut measured =
        Measured { latencies: histogram()?, errors: 0, seconds: args.seconds as f64, server_cpu };
    for worker in workers {
        let (latencies, errors) = worker.await??;
        measured.latencies.add(latencies)?;
        measured.errors += errors;
    }
    Ok(measured)
}

fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, LONGEST, 3)?)
}

async fn connect(cluster: &ClusterFile, number: u64, client: Option<&Client>) -> anyhow::Result<Worker> {
    if let Some(client) = client {
        return Ok(Worker::Native { client: client.clone() });
    }
    let node = &cluster.nodes[number as usize % cluster.nodes.len()];
    let stream = TcpStream::connect(&node.http).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        // A broken connection shows as failed requests.
        let _ = connection.await;
    });
    Ok(Worker::Http { sender, host: node.http.clone() })
}

/// A key's name: every run has keys of its own, or it would find the last one's siblings.
fn key_name(key: u64) -> String {
    static RUN: std::sync::LazyLock<u64> = std::sync::LazyLock::new(rand::random);
    format!("{:016x}-{key}", *RUN)
}

/// Writes every key once, so that reads find something.
async fn prepare(
    args: &BenchArgs,
    cluster: &ClusterFile,
    bucket: &str,
    client: Option<&Client>,
) -> anyhow::Result<()> {
    let mut writers = Vec::new();
    let count = u64::from(args.in_flight);
    for number in 0..count {
        let mut worker = connect(cluster, number, client).await?;
        let (args, bucket) = (args.clone(), bucket.to_owned());
        writers.push(tokio::spawn(async move {
            let mut contexts = Contexts::new();
            for key in (number..args.keys).step_by(count as usize) {
                worker.put(&bucket, key, args.value_size, &mut contexts).await?;
            }
            anyhow::Ok(())
        }));
    }
    for writer in writers {
        writer.await?.context("preparing the keys")?;
    }
    Ok(())
}

async fn drive(
    mut worker: Worker,
    args: &BenchArgs,
    bucket: &str,
    number: u64,
    start: Instant,
    end: Instant,
) -> anyhow::Result<(Histogram<u64>, u64)> {
    let mut latencies = histogram()?;
    let mut errors = 0;
    let mut contexts = Contexts::new();
    // Each writer has keys of its own, so that it replaces only what it wrote.
    let own = (args.keys / u64::from(args.in_flight)).max(1);
    while Instant::now() < end {
        let began = Instant::now();
        let done = match args.workload {
            Workload::Put => {
                let key = number * own + rand::random_range(0..own);
                worker.put(bucket, key, args.value_size, &mut contexts).await
            }
            Workload::Get => worker.get(bucket, rand::random_range(0..args.keys)).await,
        };
        if began < start {
            continue;
        }
        match done {
            Ok(()) => latencies.saturating_record(began.elapsed().as_micros() as u64),
            Err(_) => errors += 1,
        }
    }
    Ok((latencies, errors))
}

impl Worker {
    async fn put(
        &mut self,
        bucket: &str,
        key: u64,
        size: usize,
        contexts: &mut Contexts,
    ) -> anyhow::Result<()> {
        let value: Vec<u8> = (0..size).map(|at| (key as usize + at) as u8).collect();
        let held = contexts.get(&key).cloned();
        let held = match self {
            Self::Native { client } => {
                let mut put = client.bucket(bucket).put(key_name(key), value);
                if let Some(Held::Native(context)) = &held {
                    put = put.context(context);
                }
                Held::Native(put.send().await?.context().clone())
            }
            Self::Http { sender, host } => {
                let mut request = Request::put(format!("/buckets/{bucket}/keys/{}", key_name(key)))
                    .header(header::HOST, &*host)
                    .header(header::CONTENT_TYPE, "application/octet-stream");
                if let Some(Held::Http(context)) = &held {
                    request = request.header("x-gramme-context", context);
                }
                let response = send(sender, request.body(Full::new(value.into()))?).await?;
                if response.status() != 204 {
                    bail!("HTTP {}", response.status());
                }
                let context = response.headers().get("x-gramme-context").context("no context")?;
                Held::Http(context.to_str()?.to_owned())
            }
        };
        // A chain of contexts grows by a dot a write; a read gives the short form of the same.
        let next = if held.len() > MAX_CONTEXT { self.read_context(bucket, key).await? } else { held };
        contexts.insert(key, next);
        Ok(())
    }

    async fn read_context(&mut self, bucket: &str, key: u64) -> anyhow::Result<Held> {
        match self {
            Self::Native { client } => {
                let read = client.bucket(bucket).get(key_name(key)).send().await?;
                Ok(Held::Native(read.context().clone()))
            }
            Self::Http { sender, host } => {
                let response = get_http(sender, host, bucket, key).await?;
                let context = response.headers().get("x-gramme-context").context("no context")?;
                Ok(Held::Http(context.to_str()?.to_owned()))
            }
        }
    }

    async fn get(&mut self, bucket: &str, key: u64) -> anyhow::Result<()> {
        match self {
            Self::Native { client } => {
                let read = client.bucket(bucket).get(key_name(key)).send().await?;
                ensure!(read.values().next().is_some(), "key-{key} is not there");
            }
            Self::Http { sender, host } => {
                let response = get_http(sender, host, bucket, key).await?;
                ensure!(response.status() == 200, "HTTP {}", response.status());
            }
        }
        Ok(())
    }
}

/// The longest context that is sent back, in bytes.
const MAX_CONTEXT: usize = 256;

impl Held {
    fn len(&self) -> usize {
        match self {
            Self::Native(context) => context.as_bytes().len(),
            Self::Http(context) => STANDARD.decode(context).map_or(0, |context| context.len()),
        }
    }
}

async fn get_http(
    sender: &mut http1::SendRequest<Full<Bytes>>,
    host: &str,
    bucket: &str,
    key: u64,
) -> anyhow::Result<hyper::Response<Bytes>> {
    let request =
        Request::get(format!("/buckets/{bucket}/keys/{}", key_name(key))).header(header::HOST, host);
    send(sender, request.body(Full::default())?).await
}

async fn send(
    sender: &mut http1::SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> anyhow::Result<hyper::Response<Bytes>> {
    sender.ready().await?;
    let response = sender.send_request(request).await?;
    let (parts, body) = response.into_parts();
    Ok(hyper::Response::from_parts(parts, body.collect().await?.to_bytes()))
}

/// Processor time of all the cluster's processes so far.
fn cpu_of(cluster: &ClusterFile) -> anyhow::Result<Duration> {
    let ticks_per_second = rustix::param::clock_ticks_per_second();
    let mut ticks = 0;
    for node in &cluster.nodes {
        let stat = fs::read_to_string(format!("/proc/{}/stat", node.pid))
            .with_context(|| format!("process {} of node {} is gone", node.pid, node.id))?;
        // The fields after the name, which may hold anything.
        let fields: Vec<&str> =
            stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
        for at in [11, 12] {
            ticks +=
                fields.get(at).and_then(|field| field.parse::<u64>().ok()).context("no processor time")?;
        }
    }
    Ok(Duration::from_secs_f64(ticks as f64 / ticks_per_second as f64))
}

fn report(args: &BenchArgs, measured: &Measured) -> anyhow::Result<()> {
    let Measured { latencies, errors, seconds, server_cpu } = measured;
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
        });
        return write_out(format!("{json}\n").as_bytes());
    }
    write_out(
        format!(
            "{per_second:.0} operations/s; latency p50 {p50} µs, p99 {p99} µs, p99.9 {p999} µs; {cpu:.0} µs of \
             processor time per operation over all nodes; {operations} operations, {errors} errors\n"
        )
        .as_bytes(),
    )
}
