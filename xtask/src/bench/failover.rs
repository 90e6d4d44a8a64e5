//! What clients of two nodes notice when the third is killed, and when it stands still.
//!
//! A closed loop of puts at W = 2 over HTTP. What counts are the requests that are begun more than a second after the
//! node went: by then nobody should wait for it. What was in flight to it when it went has an unknown outcome.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use comfy_table::Table;
use rustix::process::Signal;

use crate::cluster::dev::{Dev, send};
use crate::cluster::http::Http;
use crate::run::markdown;

const CLIENTS: usize = 8;
/// How long all are well, how long it is until nobody should notice any more, and how long that is measured.
const WELL: Duration = Duration::from_secs(5);
const NOTICED: Duration = Duration::from_secs(1);
const AFTER: Duration = Duration::from_secs(9);

/// One put.
struct Put {
    began: Duration,
    took: Duration,
    failed: bool,
}

pub(super) fn run(gramme: &Path) -> anyhow::Result<()> {
    let mut table =
        markdown(["third node", "begun", "puts", "failed", "p50 ms", "p99 ms", "p99 / healthy p99"]);
    for (name, signal) in [("killed", Signal::KILL), ("stands still", Signal::STOP)] {
        measure(gramme, name, signal, &mut table)?;
    }
    println!("{}", table.trim_fmt());
    Ok(())
}

fn measure(gramme: &Path, name: &str, signal: Signal, table: &mut Table) -> anyhow::Result<()> {
    eprintln!("{name}");
    let mut dev = Dev::found(gramme, 3)?;
    dev.wait_until_whole()?;
    let nodes = [dev.http(0), dev.http(1)];
    let (began, is_over) = (Instant::now(), AtomicBool::new(false));
    let puts = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (node, is_over) = (&nodes[client % nodes.len()], &is_over);
                scope.spawn(move || put_until(node, client, began, is_over))
            })
            .collect();
        std::thread::sleep(WELL);
        let sent = match signal {
            Signal::KILL => dev.kill(2),
            signal => send(dev.node_pid(2), signal),
        };
        if sent.is_ok() {
            std::thread::sleep(NOTICED + AFTER);
        }
        // Whatever happened: the clients go on until they are told.
        is_over.store(true, Ordering::Relaxed);
        sent?;
        let mut all = Vec::new();
        for client in clients {
            match client.join() {
                Ok(puts) => all.extend(puts),
                Err(_) => bail!("a client panicked"),
            }
        }
        Ok(all)
    })?;
    if signal == Signal::STOP {
        send(dev.node_pid(2), Signal::CONT)?;
    }
    let phases = [
        ("before", Duration::ZERO, WELL),
        ("in the second after", WELL, WELL + NOTICED),
        ("later", WELL + NOTICED, Duration::MAX),
    ];
    let mut healthy = None;
    for (phase, from, to) in phases {
        let mut of_phase: Vec<&Put> = puts.iter().filter(|put| put.began >= from && put.began < to).collect();
        of_phase.sort_by_key(|put| put.took);
        let p99 = quantile(&of_phase, 0.99)?;
        let failed = of_phase.iter().filter(|put| put.failed).count();
        let ratio = p99 / *healthy.get_or_insert(p99);
        table.add_row([
            name.to_owned(),
            phase.to_owned(),
            of_phase.len().to_string(),
            failed.to_string(),
            format!("{:.2}", quantile(&of_phase, 0.5)?),
            format!("{p99:.2}"),
            format!("{ratio:.2}"),
        ]);
    }
    Ok(())
}

fn put_until(node: &Http, client: usize, since: Instant, is_over: &AtomicBool) -> Vec<Put> {
    let mut puts = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        let path = format!("/buckets/failover/keys/{client}-{}", puts.len() % 1_000);
        let began = since.elapsed();
        let failed = node.put(&path, &[], &[b'v'; 100]).and_then(|answer| answer.is(204)).is_err();
        puts.push(Put { began, took: since.elapsed() - began, failed });
    }
    puts
}

/// In milliseconds.
fn quantile(sorted: &[&Put], quantile: f64) -> anyhow::Result<f64> {
    let at = (sorted.len().saturating_sub(1) as f64 * quantile) as usize;
    Ok(sorted.get(at).context("no put was begun")?.took.as_secs_f64() * 1_000.0)
}
