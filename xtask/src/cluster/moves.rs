//! Nodes that come back elsewhere: the others learn where, and keep it over their own restarts.

use anyhow::{Context, ensure};
use rustix::process::Signal;

use super::Programs;
use super::dev::{Dev, free_port};

pub(crate) fn run(programs: &Programs) -> anyhow::Result<()> {
    let mut dev = Dev::found(&programs.gramme, 3)?;
    // One after the other, until nobody listens where the ring says; then once more.
    for at in [0, 1, 2, 0] {
        dev.stop(at, Signal::TERM)?;
        move_away(&dev, at)?;
        dev.restart(at)?;
        dev.wait_until_whole()?;
        dev.http(at).put("/buckets/b/keys/k?w=3", &[], b"x")?.is(204)?;
    }
    // What was learnt outlives those who learnt it.
    for at in 0..3 {
        dev.kill(at)?;
    }
    for at in 0..3 {
        dev.restart(at)?;
    }
    dev.wait_until_whole()?;
    dev.http(1).get("/buckets/b/keys/k?r=3")?.is(300).map(drop)
}

/// Lets a node listen on a port that nobody knows of.
fn move_away(dev: &Dev, at: usize) -> anyhow::Result<()> {
    let path = dev.node_dir(at).join("gramme.toml");
    let text = std::fs::read_to_string(&path)?;
    let line = text.lines().find(|line| line.starts_with("quic = ")).context("a line with its address")?;
    let address = format!("127.0.0.1:{}", free_port()?);
    ensure!(!line.contains(&address), "another address than before");
    Ok(std::fs::write(&path, text.replace(line, &format!("quic = \"{address}\"")))?)
}
