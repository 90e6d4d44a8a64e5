//! What gossip costs and how long it takes, at 10, 100 and 1,000 members: simulated, so the same each time.
#![allow(clippy::print_stdout, reason = "it is a command")]

mod cluster;

use std::collections::BTreeMap;

use bytes::Bytes;
use cluster::{Cluster, SECOND, ids};
use gramme_gossip::{Input, Opinion};
use gramme_ring::NodeId;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// How often each is measured.
const TIMES: u64 = 5;
/// How long the false opinions are counted.
const LONG: u64 = 300;

fn main() {
    println!("| members | 10 | 100 | 1,000 |\n|---|---|---|---|");
    row("seconds until a change is known to all, mean", |nodes| mean(&spread(nodes)));
    row("the same, the slowest of five", |nodes| spread(nodes).into_iter().fold(0.0, f64::max));
    row("seconds until all know that all have restarted", |nodes| restart(nodes).0);
    row("bytes per member and second meanwhile", |nodes| restart(nodes).1);
    row("bytes per member and second when nothing changes", idle);
    row("seconds until one finds a dead member down", |nodes| death(nodes).0);
    row("seconds until all do", |nodes| death(nodes).1);
    row("a fifth of all messages lost: wrongly suspect, percent of all pairs", |nodes| lossy(nodes).0);
    row("the same: wrongly down, per member and hour", |nodes| lossy(nodes).1);
    row("members that stop for up to 2 s, a tenth of the time: wrongly down, per member and hour", starved);
}

fn row(what: &str, measure: impl Fn(u64) -> f64) {
    let cells: Vec<String> =
        [10, 100, 1_000].map(measure).iter().map(|value| format!("{value:.1}")).collect();
    println!("| {what} | {} |", cells.join(" | "));
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn seconds(time: u64) -> f64 {
    time as f64 / SECOND as f64
}

fn publish(address: String) -> Input {
    Input::Publish { addresses: vec![address], details: Bytes::new() }
}

fn settled(nodes: u64, seed: u64) -> Cluster {
    let mut cluster = Cluster::new(nodes, seed);
    cluster.run_for(3 * SECOND);
    cluster
}

/// Seconds until a change of one member's address is known to all.
fn spread(nodes: u64) -> Vec<f64> {
    let once = |seed| {
        let mut cluster = settled(nodes, seed);
        let began = cluster.now;
        cluster.tell(NodeId(1), publish("elsewhere:1".to_owned()));
        cluster.run_until(began + 600 * SECOND, Cluster::is_agreed);
        seconds(cluster.now - began)
    };
    (0..TIMES).map(once).collect()
}

/// All members say something new at the same time.
fn restart(nodes: u64) -> (f64, f64) {
    let mut cluster = settled(nodes, 1);
    let (began, before) = (cluster.now, cluster.bytes());
    for id in ids(nodes) {
        cluster.tell(id, publish(format!("restarted-{id}:1")));
    }
    cluster.run_until(began + 600 * SECOND, Cluster::is_agreed);
    let took = seconds(cluster.now - began);
    (took, (cluster.bytes() - before) as f64 / nodes as f64 / took)
}

fn idle(nodes: u64) -> f64 {
    let mut cluster = settled(nodes, 1);
    let before = cluster.bytes();
    cluster.run_for(60 * SECOND);
    (cluster.bytes() - before) as f64 / nodes as f64 / 60.0
}

fn death(nodes: u64) -> (f64, f64) {
    let once = |seed| {
        let mut cluster = settled(nodes, seed);
        let (victim, began) = (NodeId(2), cluster.now);
        cluster.stop(victim);
        cluster.run_until(began + 1_200 * SECOND, |cluster| cluster.all_find(victim, Opinion::Down));
        let first = cluster.opinions.iter().find(|(.., opinion)| *opinion == Opinion::Down);
        (first.map_or(f64::NAN, |(at, ..)| seconds(at - began)), seconds(cluster.now - began))
    };
    let (first, all): (Vec<_>, Vec<_>) = (0..TIMES).map(once).unzip();
    (mean(&first), mean(&all))
}

fn lossy(nodes: u64) -> (f64, f64) {
    let mut cluster = settled(nodes, 1);
    cluster.loss = 20;
    let began = cluster.now;
    cluster.run_for(LONG * SECOND);
    // From each change of opinion to the next.
    let mut suspected = 0;
    let mut since = BTreeMap::new();
    for &(at, by, of, opinion) in &cluster.opinions {
        let from: Option<u64> = since.remove(&(by, of));
        suspected += from.map_or(0, |from| at - from);
        if opinion != Opinion::Alive {
            since.insert((by, of), at);
        }
    }
    suspected += since.values().map(|from| cluster.now - from).sum::<u64>();
    let all = (nodes * (nodes - 1) * (cluster.now - began)) as f64;
    (100.0 * suspected as f64 / all, downs(&cluster, nodes))
}

/// Each member stops for up to two seconds now and then, so that a tenth of them do not run.
fn starved(nodes: u64) -> f64 {
    let mut cluster = settled(nodes, 1);
    let mut rng = StdRng::seed_from_u64(1);
    for _ in 0..LONG {
        for id in ids(nodes) {
            if rng.random_ratio(1, 10) {
                let until = cluster.now + rng.random_range(0..2 * SECOND);
                cluster.stopped.insert(id, until);
            }
        }
        cluster.run_for(SECOND);
    }
    downs(&cluster, nodes)
}

/// How often a member that lives was found down, per member and hour.
fn downs(cluster: &Cluster, nodes: u64) -> f64 {
    let downs = cluster.opinions.iter().filter(|(.., opinion)| *opinion == Opinion::Down).count();
    downs as f64 / nodes as f64 * 3_600.0 / LONG as f64
}
