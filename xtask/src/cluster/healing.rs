//! Writes go on while nodes are away, and reach all replicas once they are back, though nobody reads anything.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::Signal;

use super::Programs;
use super::dev::{Dev, wait_for};
use super::http::Http;
use super::processes::Processes;
use super::proxy::Way;

const NODES: usize = 5;
/// N, with five nodes.
const REPLICAS: usize = 3;
/// How long a process stands still.
const STANDSTILL: Duration = Duration::from_secs(30);
/// Clients that write at once.
const CLIENTS: usize = 8;

pub(crate) fn run(programs: &Programs) -> anyhow::Result<()> {
    two_of_five_are_away(programs)?;
    a_wiped_node_counts_again(programs)?;
    a_node_stands_still(programs)?;
    a_tenth_is_lost(programs)?;
    a_cluster_is_cut_in_two(programs)
}

/// Of three of ten keys two owners are killed, of every tenth key's nobody is.
fn two_of_five_are_away(programs: &Programs) -> anyhow::Result<()> {
    const KEYS: usize = 10_000;
    let mut dev = Dev::found(&programs.gramme, NODES)?;
    dev.wait_until_whole()?;
    let nodes: Vec<Http> = (0..NODES).map(|at| dev.http(at)).collect();
    dev.kill(0)?;
    dev.kill(1)?;
    // What is handed to a node in the moment in which it dies has an unknown outcome.
    nodes[2..].iter().try_for_each(|node| wait_until_missed(node, 2))?;
    write_all(&nodes[2..], "away", KEYS)?;
    let (_, kept) = figures(&nodes[2..])?;
    ensure!(kept > KEYS / 2, "only {kept} copies are kept for those that are away");
    dev.restart(0)?;
    dev.restart(1)?;
    dev.wait_until_whole()?;
    wait_until_equal(&nodes, REPLICAS * KEYS)
}

/// A node that comes back with an empty disk gets everything back by itself, and then counts.
fn a_wiped_node_counts_again(programs: &Programs) -> anyhow::Result<()> {
    const KEYS: usize = 1_000;
    let mut dev = Dev::found(&programs.gramme, 3)?;
    dev.wait_until_whole()?;
    let nodes: Vec<Http> = (0..3).map(|at| dev.http(at)).collect();
    write_all(&nodes, "wiped", KEYS)?;
    wait_until_equal(&nodes, REPLICAS * KEYS)?;
    dev.kill(2)?;
    std::fs::remove_dir_all(dev.node_dir(2).join("data"))?;
    dev.restart_with(2, &["--lost-disk"])?;
    wait_for("the loss is noticed", || amnesiac(&nodes[2]).is_some_and(|partitions| partitions > 0))?;
    wait_until_equal(&nodes, REPLICAS * KEYS)?;
    wait_for("the node counts again", || amnesiac(&nodes[2]) == Some(0))?;
    dev.wait_until_whole()?;
    nodes[2].get(&format!("{}?r=3&pr=3", path("wiped", 7)))?.is(200).map(drop)
}

/// Partitions that may lack what they acknowledged.
fn amnesiac(node: &Http) -> Option<u64> {
    node.get("/admin/status").ok()?.json().ok()?["amnesiac"].as_u64()
}

/// A process that stands still for half a minute, with all its connections, holds up nobody, and catches up.
fn a_node_stands_still(programs: &Programs) -> anyhow::Result<()> {
    const KEYS: usize = 2_000;
    let cluster = Processes::start(&programs.gramme, NODES)?;
    let nodes: Vec<Http> = (0..NODES).map(|at| cluster.http(at)).collect();
    cluster.signal(0, Signal::STOP)?;
    let stopped = Instant::now();
    // What was handed to it before anybody could notice has an unknown outcome.
    nodes[1..].iter().try_for_each(|node| wait_until_missed(node, 1))?;
    write_all(&nodes[1..], "still", KEYS)?;
    while let Some(left) = STANDSTILL.checked_sub(stopped.elapsed()) {
        std::thread::sleep(left);
    }
    cluster.signal(0, Signal::CONT)?;
    cluster.wait_until_whole()?;
    wait_until_equal(&nodes, REPLICAS * KEYS)
}

/// Every tenth datagram is lost, each way.
fn a_tenth_is_lost(programs: &Programs) -> anyhow::Result<()> {
    const KEYS: usize = 2_000;
    let cluster = Processes::start(&programs.gramme, NODES)?;
    let nodes: Vec<Http> = (0..NODES).map(|at| cluster.http(at)).collect();
    let lossy = Way { loss: 10, ..Way::default() };
    for (one, other) in (0..NODES).flat_map(|one| (0..NODES).map(move |other| (one, other))) {
        cluster.proxy.set(one, other, lossy);
    }
    write_all(&nodes, "lossy", KEYS)?;
    // Nothing is healed: it must do with that.
    wait_until_equal(&nodes, REPLICAS * KEYS)
}

/// Both sides take writes, of the same keys too; siblings stay.
fn a_cluster_is_cut_in_two(programs: &Programs) -> anyhow::Result<()> {
    const KEYS: usize = 200;
    let cluster = Processes::start(&programs.gramme, NODES)?;
    let nodes: Vec<Http> = (0..NODES).map(|at| cluster.http(at)).collect();
    let cut = Way { is_cut: true, ..Way::default() };
    for (one, other) in [0, 1].into_iter().flat_map(|one| [2, 3, 4].map(|other| (one, other))) {
        cluster.proxy.set(one, other, cut);
        cluster.proxy.set(other, one, cut);
    }
    nodes[..2].iter().try_for_each(|node| wait_until_missed(node, 3))?;
    nodes[2..].iter().try_for_each(|node| wait_until_missed(node, 2))?;
    write_all(&nodes[..2], "both", KEYS)?;
    write_all(&nodes[2..], "both", KEYS)?;
    write_all(&nodes[..2], "few", KEYS)?;
    cluster.proxy.heal();
    cluster.wait_until_whole()?;
    wait_until_equal(&nodes, REPLICAS * 2 * KEYS)?;
    for node in &nodes {
        for key in 0..KEYS {
            node.get(&format!("{}?r=3&pr=3&sloppy=false", path("both", key)))?.is(300)?;
            node.get(&format!("{}?r=3&pr=3&sloppy=false", path("few", key)))?.is(200)?;
        }
    }
    Ok(())
}

fn path(bucket: &str, key: usize) -> String {
    format!("/buckets/{bucket}/keys/{key}")
}

/// Writes so many keys of a bucket, each through one of the nodes; each must be acknowledged at W = 2.
fn write_all(nodes: &[Http], bucket: &str, keys: usize) -> anyhow::Result<()> {
    let next = AtomicUsize::new(0);
    let client = || {
        loop {
            let key = next.fetch_add(1, Ordering::Relaxed);
            if key >= keys {
                return anyhow::Ok(());
            }
            let put = nodes[key % nodes.len()].put(&path(bucket, key), &[], key.to_string().as_bytes());
            put.and_then(|answer| answer.is(204)).with_context(|| path(bucket, key))?;
        }
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        for client in clients {
            match client.join() {
                Ok(ended) => ended?,
                Err(_) => bail!("a client panicked"),
            }
        }
        Ok(())
    })
}

/// Waits until a node sees that so many others do not answer.
fn wait_until_missed(node: &Http, others: usize) -> anyhow::Result<()> {
    wait_for("a node misses those that are away", || {
        let Ok(status) = node.get("/admin/status").and_then(|answer| answer.json()) else { return false };
        let is_missed = |node: &&serde_json::Value| node["state"] != "alive";
        status["nodes"].as_array().is_some_and(|nodes| nodes.iter().filter(is_missed).count() == others)
    })
}

/// Keys that the nodes store, and copies that they keep for others.
fn figures(nodes: &[Http]) -> anyhow::Result<(usize, usize)> {
    let mut all = (0, 0);
    for node in nodes {
        let stats = node.get("/stats")?.json()?;
        let figure = |name: &str| stats[name].as_u64().map(|figure| figure as usize).context("a figure");
        all = (all.0 + figure("keys")?, all.1 + figure("hints")?);
    }
    Ok(all)
}

/// Waits until so many copies are where they belong, and none anywhere else.
fn wait_until_equal(nodes: &[Http], copies: usize) -> anyhow::Result<()> {
    let mut last = None;
    wait_for("all replicas are equal", || {
        last = figures(nodes).ok();
        last == Some((copies, 0))
    })
    .with_context(|| format!("copies and hinted copies: {last:?}, and {copies} are wanted"))
}
