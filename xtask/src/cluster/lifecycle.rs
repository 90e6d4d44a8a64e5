//! Starting, stopping, permissions, damage: what an operator meets.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use rustix::process::Signal;

use super::Programs;
use super::dev::{Dev, is_gone, send, wait_for};

pub(crate) fn run(programs: &Programs) -> anyhow::Result<()> {
    a_named_directory_keeps_its_cluster(programs)?;
    nodes_end_with_their_dev(programs)?;
    certificates_are_read_anew(programs)?;
    permissions(programs)?;
    damage_is_refused(programs)
}

fn a_named_directory_keeps_its_cluster(programs: &Programs) -> anyhow::Result<()> {
    let parent = tempfile::tempdir()?;
    let directory = parent.path().join("kept");
    let mut dev = Dev::start(&programs.gramme, &directory, &["--nodes", "3"])?;
    let addresses: Vec<_> = (0..3).map(|at| dev.node(at)["http"].clone()).collect();
    dev.http(0).put("/buckets/kept/keys/k", &[], b"kept")?.is(204)?;
    let pids: Vec<u32> = (0..3).map(|at| dev.node_pid(at)).collect();
    let status = dev.end(Signal::TERM)?;
    ensure!(status.success(), "gramme dev ended with {status}");
    ensure!(pids.iter().all(|&pid| is_gone(pid)), "a node outlived its dev");
    drop(dev);
    ensure!(directory.is_dir(), "a named directory is never removed");

    let mut dev = Dev::start(&programs.gramme, &directory, &[])?;
    let again: Vec<_> = (0..3).map(|at| dev.node(at)["http"].clone()).collect();
    ensure!(addresses == again, "the ports are kept");
    dev.http(2).get("/buckets/kept/keys/k")?.is(200)?.body_is(b"kept")?;
    dev.end(Signal::INT)?;
    drop(dev);

    for args in [&["--nodes", "5"][..], &["--http-port", "20000"]] {
        let refused =
            Command::new(&programs.gramme).args(["dev", "--dir"]).arg(&directory).args(args).output()?;
        ensure!(refused.status.code() == Some(2), "{args:?}: {refused:?}");
    }
    let refused = Command::new(&programs.gramme).args(["dev", "--dir"]).arg("/usr").output()?;
    ensure!(!refused.status.success(), "a directory with something else in it is left alone");
    Ok(())
}

fn nodes_end_with_their_dev(programs: &Programs) -> anyhow::Result<()> {
    let mut dev = Dev::found(&programs.gramme, 3)?;
    let pids: Vec<u32> = (0..3).map(|at| dev.node_pid(at)).collect();
    // A child's death does not end it.
    dev.kill(0)?;
    ensure!(!is_gone(dev.pid()), "gramme dev goes on when a child dies");
    dev.end(Signal::KILL)?;
    wait_for("the nodes end by themselves", || pids.iter().all(|&pid| is_gone(pid)))
}

/// SIGHUP: what the node cannot use changes nothing, and it serves on.
fn certificates_are_read_anew(programs: &Programs) -> anyhow::Result<()> {
    let dev = Dev::found(&programs.gramme, 3)?;
    let certificate = dev.node_dir(0).join("node.pem");
    let own = std::fs::read(&certificate)?;
    let others = std::fs::read(dev.node_dir(1).join("node.pem"))?;
    let log = dev.node_dir(0).join("node.log");
    for (bytes, words) in [
        (others.as_slice(), "the certificates stay as they are"),
        (b"nothing", "the certificates stay as they are"),
        (&own, "read the certificates anew"),
    ] {
        std::fs::write(&certificate, bytes)?;
        let before = std::fs::metadata(&log)?.len() as usize;
        send(dev.node_pid(0), Signal::HUP)?;
        wait_for(words, || {
            std::fs::read(&log).is_ok_and(|log| String::from_utf8_lossy(&log[before..]).contains(words))
        })?;
        dev.http(0).put("/buckets/b/keys/k?w=3", &[], b"x")?.is(204)?;
    }
    Ok(())
}

fn permissions(programs: &Programs) -> anyhow::Result<()> {
    let parent = tempfile::tempdir()?;
    let directory = parent.path().join("private");
    let mut dev = Dev::start(&programs.gramme, &directory, &["--nodes", "1"])?;
    let node = dev.node_dir(0);
    dev.end(Signal::TERM)?;
    let mode = |path: &Path| anyhow::Ok(std::fs::metadata(path)?.permissions().mode() & 0o777);
    for path in [&directory, &node, &node.join("data")] {
        ensure!(mode(path)? == 0o700, "{}: {:o}", path.display(), mode(path)?);
    }
    for name in ["node.key", "cluster.ring", "data/MANIFEST"] {
        ensure!(mode(&node.join(name))? == 0o600, "{name}: {:o}", mode(&node.join(name))?);
    }
    for (name, right, wrong) in
        [("node.key", 0o600, 0o640), ("cluster.ring", 0o600, 0o604), ("data", 0o700, 0o755)]
    {
        let set = |mode| std::fs::set_permissions(node.join(name), std::fs::Permissions::from_mode(mode));
        set(wrong)?;
        let refused = start_node(programs, &node, &[])?;
        ensure!(refused.contains("make it 0"), "{name}: {refused}");
        set(right)?;
    }
    Ok(())
}

/// Starts a node that is not expected to run; returns what it prints.
fn start_node(programs: &Programs, node: &Path, more: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(&programs.gramme)
        .args(["node", "--config"])
        .arg(node.join("gramme.toml"))
        .args(more)
        .output()
        .context("cannot start gramme node")?;
    ensure!(!output.status.success(), "it ran");
    Ok(String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout))
}

/// A node that cannot prove that it holds all it acknowledged says so and refuses to serve.
fn damage_is_refused(programs: &Programs) -> anyhow::Result<()> {
    let parent = tempfile::tempdir()?;
    let directory = parent.path().join("damaged");
    let mut dev = Dev::start(&programs.gramme, &directory, &["--nodes", "1"])?;
    for key in 0..20 {
        dev.http(0).put(&format!("/buckets/b/keys/{key}"), &[], b"x")?.is(204)?;
    }
    let node = dev.node_dir(0);
    dev.end(Signal::TERM)?;
    let data = node.join("data");
    let away = node.join("away");
    for (part, words) in [
        ("engine", "directory is missing"),
        ("log", "cannot"),
        ("MANIFEST", "cannot prove"),
        ("IDENTITY", "holds no store"),
    ] {
        std::fs::rename(data.join(part), &away)?;
        let refused = start_node(programs, &node, &[])?;
        ensure!(refused.contains(words) || part == "log", "{part}: {refused}");
        // What is left may be all there is: it is not taken for a lost disk.
        let refused = start_node(programs, &node, &["--lost-disk"])?;
        let words = if part == "IDENTITY" { "not empty" } else { "holds a store" };
        ensure!(refused.contains(words), "{part}: {refused}");
        let left = data.join(part);
        if left.is_dir() {
            std::fs::remove_dir_all(&left)?;
        }
        std::fs::rename(&away, &left)?;
    }
    // A whole directory that is gone is a lost disk, not a new node.
    std::fs::rename(&data, &away)?;
    let refused = start_node(programs, &node, &[])?;
    ensure!(refused.contains("holds no store"), "{refused}");
    std::fs::rename(&away, &data)?;
    let dev = Dev::start(&programs.gramme, &directory, &[])?;
    dev.http(0).get("/buckets/b/keys/7")?.is(200)?.body_is(b"x")?;
    Ok(())
}
