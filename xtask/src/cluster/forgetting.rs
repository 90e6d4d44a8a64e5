//! Deletes leave nothing, wait for who is away, and sessions read what they wrote.

use anyhow::{Context, ensure};

use super::Programs;
use super::dev::{Dev, wait_for};
use super::http::Http;

const NODES: usize = 3;

pub(crate) fn run(programs: &Programs) -> anyhow::Result<()> {
    let mut dev = Dev::found(&programs.gramme, NODES)?;
    dev.wait_until_whole()?;
    let nodes: Vec<Http> = (0..NODES).map(|at| dev.http(at)).collect();
    values_expire(&nodes)?;
    all_is_deleted(&nodes)?;
    an_owner_is_away(&mut dev, &nodes)?;
    a_session_reads_what_it_wrote(&nodes)
}

fn path(bucket: &str, key: usize) -> String {
    format!("/buckets/{bucket}/keys/{key}")
}

/// Values that nobody deletes leave nothing either.
fn values_expire(nodes: &[Http]) -> anyhow::Result<()> {
    const KEYS: usize = 500;
    for key in 0..KEYS {
        nodes[key % NODES].put(&path("short", key), &[("x-gramme-expires", "1")], b"some value")?.is(204)?;
    }
    wait_for("all have expired", || {
        nodes[0].get(&path("short", KEYS - 1)).is_ok_and(|read| read.status == 404)
    })
}

fn all_is_deleted(nodes: &[Http]) -> anyhow::Result<()> {
    const KEYS: usize = 1_000;
    for key in 0..KEYS {
        let path = path("all", key);
        nodes[key % NODES].put(&path, &[], b"some value")?.is(204)?;
        nodes[(key + 1) % NODES].send("DELETE", &path, &[], &[])?.is(204)?;
    }
    wait_until_empty(nodes)
}

/// What is deleted while an owner is away is kept for it, and the nodes say so.
fn an_owner_is_away(dev: &mut Dev, nodes: &[Http]) -> anyhow::Result<()> {
    const KEYS: usize = 100;
    for key in 0..KEYS {
        nodes[0].put(&path("away", key), &[], b"some value")?.is(204)?;
    }
    dev.kill(2)?;
    for key in 0..KEYS {
        nodes[0].send("DELETE", &path("away", key), &[], &[])?.is(204)?;
    }
    wait_for("the node that is away is named", || {
        let status = nodes[0].get("/admin/status").and_then(|answer| answer.json());
        status.is_ok_and(|status| {
            status["reclaim_blocked_by"].as_array().is_some_and(|nodes| nodes.len() == 1)
                && status["reclaim_waiting"].as_u64() >= Some(KEYS as u64)
        })
    })?;
    let explained = nodes[0].get("/admin/explain/away/7")?.json()?;
    ensure!(explained["reclaim_blocked_by"].as_array().is_some_and(|by| !by.is_empty()), "{explained}");
    nodes[1].get(&path("away", 7))?.is(404)?;
    dev.restart(2)?;
    dev.wait_until_whole()?;
    wait_until_empty(nodes)
}

fn wait_until_empty(nodes: &[Http]) -> anyhow::Result<()> {
    let mut last = Vec::new();
    wait_for("nothing is left of what was deleted", || {
        last = nodes.iter().filter_map(|node| left(node).ok()).collect();
        last == vec![(0, 0); nodes.len()]
    })
    .with_context(|| format!("keys and bytes: {last:?}"))
}

/// Keys and bytes that a node stores.
fn left(node: &Http) -> anyhow::Result<(u64, u64)> {
    let stats = node.get("/stats")?.json()?;
    let figure = |name: &str| stats[name].as_u64().context("a figure");
    Ok((figure("keys")?, figure("object_bytes")?))
}

/// At R = W = 1 nothing else promises that.
fn a_session_reads_what_it_wrote(nodes: &[Http]) -> anyhow::Result<()> {
    for key in 0..500 {
        let path = format!("{}?w=1&r=1", path("session", key));
        let put = nodes[key % NODES].put(&path, &[], b"mine")?.is(204)?;
        let context = put.header("x-gramme-context").context("a context")?.to_owned();
        let get = nodes[(key + 1) % NODES].send("GET", &path, &[("x-gramme-session", &context)], &[])?;
        ensure!(get.body == b"mine", "key {key}: {}", get.status);
    }
    let forged = nodes[0].send("GET", &path("session", 1), &[("x-gramme-session", "AAAA")], &[])?;
    forged.is(400).map(drop)
}
