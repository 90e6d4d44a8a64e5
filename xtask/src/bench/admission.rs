//! What clients notice of a full repair, and of more load than a cluster can bear.
//!
//! The first part fills a cluster, empties one node's disk, and loads the cluster while that node gets everything back:
//! beside the latencies stands what the work in the background took. The second part asks for three times of what the
//! cluster can do, and then for 0.7 of it: what counts is how soon everything is answered again.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use comfy_table::Table;
use serde_json::Value;

use crate::cluster::dev::{Dev, wait_for};
use crate::cluster::http::Http;
use crate::cluster::text;
use crate::run::{markdown, succeeds};

const NODES: usize = 3;
/// The load beside the repair: well below what the cluster can do.
const BESIDE: &str = "64";
const BESIDE_RATE: &str = "1500";
/// Requests that may be under way at once when there are too many.
const CROWD: &str = "2048";

pub(super) fn run(gramme: &Path, keys: u64) -> anyhow::Result<()> {
    repair(gramme, keys)?;
    overload(gramme)
}

fn repair(gramme: &Path, keys: u64) -> anyhow::Result<()> {
    eprintln!("repair");
    let mut dev = Dev::found(gramme, NODES)?;
    dev.wait_until_whole()?;
    // An empty store of the same node.
    let (data, kept) = (dev.node_dir(2).join("data"), dev.node_dir(2).join("kept"));
    dev.stop(2, rustix::process::Signal::TERM)?;
    ensure!(succeeds("cp", &["-r", "-p", &text(&data), &text(&kept)]), "a copy");
    dev.restart(2)?;
    dev.wait_until_whole()?;
    let keys = keys.to_string();
    let insert = ["--workload", "insert", "--once", "--value-size", "1000"];
    bench(gramme, &dev, &[&insert[..], &["--keys", &keys]].concat())?;
    let load = ["--workload", "insert", "--in-flight", BESIDE, "--rate", BESIDE_RATE, "--seconds", "8"];
    let healthy = bench(gramme, &dev, &load)?;
    dev.kill(2)?;
    std::fs::remove_dir_all(&data)?;
    std::fs::rename(&kept, &data)?;
    dev.restart(2)?;
    wait_for("the loss is noticed", || amnesiac(&dev).is_some_and(|partitions| partitions > 0))?;
    let (before, began) = (figures(&dev)?, Instant::now());
    let mut beside = Vec::new();
    while amnesiac(&dev) != Some(0) {
        ensure!(began.elapsed() < Duration::from_secs(300), "the node never counts again");
        beside.push(bench(gramme, &dev, &load)?);
    }
    let (after, took) = (figures(&dev)?, began.elapsed());
    let after_all = bench(gramme, &dev, &load)?;
    let mut table = markdown(["puts at 1,500/s", "succeeded", "failed", "p50 ms", "p99 ms"]);
    row(&mut table, "before", &healthy);
    beside.iter().for_each(|measured| row(&mut table, "beside a full repair", measured));
    row(&mut table, "after", &after_all);
    println!("{}", table.trim_fmt());
    let puts: u64 = beside.iter().filter_map(|measured| measured["operations"].as_u64()).sum();
    let idle = healthy["server_cpu_us_per_operation"].as_f64().unwrap_or_default() / 1e6;
    println!(
        "\nrepair: {:.0} s; {} keys mended, {:.1} MiB compared and sent; {:.1} s of processor time over all \
         nodes, about {:.1} s of it for the puts; background work was slowed down in {} seconds",
        took.as_secs_f64(),
        after.mended - before.mended,
        (after.bytes - before.bytes) / f64::from(1 << 20),
        after.cpu - before.cpu,
        puts as f64 * idle,
        after.slowed - before.slowed,
    );
    println!("what held a node's thread up for more than 5 ms of its own time: {}", stalls(&dev)?);
    Ok(())
}

fn overload(gramme: &Path) -> anyhow::Result<()> {
    eprintln!("overload");
    let dev = Dev::found(gramme, NODES)?;
    dev.wait_until_whole()?;
    let insert = ["--workload", "insert"];
    let closed = bench(gramme, &dev, &[&insert[..], &["--in-flight", "64", "--seconds", "5"]].concat())?;
    let capacity = closed["operations_per_second"].as_f64().context("a rate")?;
    let mut table =
        markdown(["offered", "seconds", "answered/s", "refused or failed", "not sent", "p50 ms", "p99 ms"]);
    let mut measure = |name: &str, factor: f64, seconds: &str| {
        let rate = (capacity * factor).round().to_string();
        let args = ["--in-flight", CROWD, "--rate", &rate, "--seconds", seconds];
        let measured = bench(gramme, &dev, &[&insert[..], &args].concat())?;
        let cells = [millis(&measured, "p50_us"), millis(&measured, "p99_us")];
        table.add_row([
            format!("{name} ({rate}/s)"),
            seconds.to_owned(),
            format!("{:.0}", measured["operations_per_second"].as_f64().unwrap_or_default()),
            measured["errors"].to_string(),
            measured["unsent"].to_string(),
            cells[0].clone(),
            cells[1].clone(),
        ]);
        anyhow::Ok((measured, hints(&dev)?))
    };
    let (_, hints_during) = measure("3 times the capacity", 3.0, "30")?;
    let (recovered, hints_after) = measure("0.7 of it", 0.7, "12")?;
    println!("\n{}", table.trim_fmt());
    let by_second: Vec<u64> =
        recovered["by_second"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
    println!(
        "\nanswered in each second at 0.7: {by_second:?}; hinted copies kept: {hints_during}, then {hints_after}"
    );
    Ok(())
}

/// What `gramme bench` prints.
fn bench(gramme: &Path, dev: &Dev, args: &[&str]) -> anyhow::Result<Value> {
    let output = Command::new(gramme)
        .args(["bench", "--json", "--cluster"])
        .arg(dev.cluster_json())
        .args(args)
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "gramme bench {args:?} failed");
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn row(table: &mut Table, name: &str, measured: &Value) {
    let (succeeded, failed) = (measured["operations"].to_string(), measured["errors"].to_string());
    table.add_row([
        name.to_owned(),
        succeeded,
        failed,
        millis(measured, "p50_us"),
        millis(measured, "p99_us"),
    ]);
}

fn millis(measured: &Value, name: &str) -> String {
    format!("{:.2}", measured[name].as_f64().unwrap_or_default() / 1_000.0)
}

fn amnesiac(dev: &Dev) -> Option<u64> {
    dev.http(2).get("/admin/status").ok()?.json().ok()?["amnesiac"].as_u64()
}

/// Of all nodes together.
#[derive(Default)]
struct Sums {
    cpu: f64,
    bytes: f64,
    mended: f64,
    slowed: f64,
}

fn figures(dev: &Dev) -> anyhow::Result<Sums> {
    let mut sums = Sums::default();
    for at in 0..NODES {
        let metrics = metrics(&dev.http(at))?;
        let figure = |name: &str| {
            let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|value| value.trim().parse::<f64>().ok()).unwrap_or_default()
        };
        sums.cpu += figure("process_cpu_seconds_total");
        sums.bytes += figure("gramme_exchange_bytes_total");
        sums.mended += figure("gramme_keys_mended_total");
        sums.slowed += figure("gramme_background_slowed_total");
    }
    Ok(sums)
}

fn metrics(http: &Http) -> anyhow::Result<String> {
    Ok(String::from_utf8(http.get("/metrics")?.is(200)?.body)?)
}

fn stalls(dev: &Dev) -> anyhow::Result<String> {
    let mut stalls = Vec::new();
    for at in 0..NODES {
        let metrics = metrics(&dev.http(at))?;
        let lines = metrics.lines().filter_map(|line| line.strip_prefix("gramme_loop_stalls_total{what="));
        let own = lines.filter(|line| !line.contains("waiting in "));
        stalls.extend(own.map(|line| line.replace(['}', '"'], "")));
    }
    Ok(if stalls.is_empty() { "nothing".to_owned() } else { stalls.join(", ") })
}

fn hints(dev: &Dev) -> anyhow::Result<u64> {
    let kept = |at| {
        let stats = dev.http(at).get("/stats")?.json()?;
        stats["hints"].as_u64().context("a figure")
    };
    (0..NODES).map(kept).sum()
}
