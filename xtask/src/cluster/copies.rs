//! A directory that is copied while its node runs, and started elsewhere: two processes with one identity.
//!
//! The elder keeps its place and serves on; the younger is refused, and both say so.
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, ensure};

use super::Programs;
use super::dev::{Dev, free_port, wait_for};
use super::http::Http;
use crate::run::succeeds;

pub(crate) fn run(programs: &Programs) -> anyhow::Result<()> {
    let dev = Dev::found(&programs.gramme, 3)?;
    dev.wait_until_whole()?;
    write(&dev, "before")?;
    // The lowest id dials all the others, and so does its copy.
    let first = (0..dev.nodes()).min_by_key(|at| dev.node(*at)["id"].as_str().unwrap_or_default().to_owned());
    let first = first.context("a node")?;
    let (copy, http) = start_copy(programs, &dev, first)?;
    wait_for("the copy is told that it is one", || conflict(&http).is_some())?;
    wait_for("the original hears of the copy", || conflict(&dev.http(first)).is_some())?;
    // The original serves on, through itself and through the others.
    write(&dev, "beside")?;
    let said = http.get("/readyz")?;
    ensure!(said.status == 503, "the copy calls itself ready: {}", said.status);
    let refused = http.put("/buckets/copies/keys/copy", &[], b"x")?;
    ensure!(refused.status == 503, "the copy took a put: {}", refused.status);
    drop(copy);
    write(&dev, "after")?;
    wait_for("the original forgets the copy", || conflict(&dev.http(first)).is_none())
}

fn conflict(http: &Http) -> Option<String> {
    let status = http.get("/admin/status").ok()?.json().ok()?;
    status["conflict"].as_str().map(str::to_owned)
}

fn write(dev: &Dev, key: &str) -> anyhow::Result<()> {
    for at in 0..dev.nodes() {
        let path = format!("/buckets/copies/keys/{key}-{at}");
        dev.http(at).put(&format!("{path}?w=3"), &[], b"x")?.is(204).with_context(|| path.clone())?;
        dev.http(at).get(&format!("{path}?r=3"))?.is(200)?;
        ensure!(dev.http(at).get("/readyz")?.status == 200, "node {at} is not ready");
    }
    Ok(())
}

/// Copies a node's directory as it is, and starts the copy on other ports.
fn start_copy(programs: &Programs, dev: &Dev, of: usize) -> anyhow::Result<(Running, Http)> {
    let (original, copied) = (dev.node_dir(of), dev.node_dir(of).with_file_name("copy"));
    let cp = succeeds("cp", &["-r", "-p", &super::text(&original), &super::text(&copied)]);
    ensure!(cp, "the directory cannot be copied");
    let settings = copied.join("gramme.toml");
    let mut text = std::fs::read_to_string(&settings)?;
    let http = format!("127.0.0.1:{}", free_port()?);
    for (name, address) in [("http", http.clone()), ("quic", format!("127.0.0.1:{}", free_port()?))] {
        text = replaced(&text, name, &address).with_context(|| format!("{name} in {text}"))?;
    }
    std::fs::write(&settings, text)?;
    Ok((Running(spawn(programs, &settings, &copied.join("copy.log"))?), Http::new(&http)))
}

/// A setting's text with another value.
fn replaced(text: &str, name: &str, value: &str) -> Option<String> {
    let line = text.lines().find(|line| line.split('=').next().is_some_and(|left| left.trim() == name))?;
    Some(text.replace(line, &format!("{name} = \"{value}\"")))
}

fn spawn(programs: &Programs, settings: &Path, log: &Path) -> anyhow::Result<Child> {
    let log = std::fs::File::create(log)?;
    let mut command = Command::new(&programs.gramme);
    command.args(["node", "--config"]).arg(settings).stdin(Stdio::null());
    command.stdout(log.try_clone()?).stderr(log).spawn().context("cannot start the copy")
}

/// Ends with the test, however that ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
