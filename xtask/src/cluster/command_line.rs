//! The command line as its user types it: output, errors, exit codes.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, ensure};

use super::dev::{Dev, wait_for};
use super::{Programs, text};

struct Shell<'a> {
    gramme: &'a Path,
    state: &'a Path,
    directory: &'a Path,
}

impl Shell<'_> {
    fn run_with(&self, args: &[&str], input: &[u8], environment: &[(&str, &str)]) -> anyhow::Result<Output> {
        use std::io::Write;
        let mut child = Command::new(self.gramme)
            .args(args)
            .env("XDG_STATE_HOME", self.state)
            .env_remove("GRAMME_ENDPOINT")
            .envs(environment.iter().copied())
            .current_dir(self.directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start gramme")?;
        child.stdin.take().context("a pipe")?.write_all(input)?;
        Ok(child.wait_with_output()?)
    }

    /// Runs a command, checks its exit code, and returns what it prints to both.
    fn run(&self, code: i32, args: &[&str]) -> anyhow::Result<(String, String)> {
        self.run_input(code, args, b"")
    }

    fn run_input(&self, code: i32, args: &[&str], input: &[u8]) -> anyhow::Result<(String, String)> {
        let output = self.run_with(args, input, &[])?;
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.code() == Some(code),
            "gramme {}: {}, and {code} was expected\n{out}{err}",
            args.join(" "),
            output.status
        );
        Ok((out, err))
    }
}

pub(crate) fn run(programs: &Programs) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let nowhere = tempfile::tempdir()?;
    let lonely = Shell { gramme: &programs.gramme, state: nowhere.path(), directory: directory.path() };
    lonely.run(3, &["get", "b/k"])?;
    lonely.run(3, &["status", "--node", "127.0.0.1:1"])?;

    let mut dev = Dev::found(&programs.gramme, 3)?;
    let state = tempfile::tempdir()?;
    std::fs::create_dir(state.path().join("gramme"))?;
    std::fs::copy(dev.state.path().join("gramme/last-cluster"), state.path().join("gramme/last-cluster"))?;
    let shell = Shell { gramme: &programs.gramme, state: state.path(), directory: directory.path() };
    values(&shell)?;
    siblings(&shell)?;
    usage(&shell)?;
    endpoints(&shell, &dev)?;
    unreachable(&shell, &mut dev)
}

fn values(shell: &Shell<'_>) -> anyhow::Result<()> {
    shell.run(1, &["get", "fruit/apple"])?;
    shell.run(0, &["put", "fruit/apple", "red"])?;
    ensure!(shell.run(0, &["get", "fruit/apple"])?.0 == "red", "the raw value, and nothing else");
    // It reads first, so this replaces.
    shell.run(0, &["put", "fruit/apple", "green"])?;
    ensure!(shell.run(0, &["get", "fruit/apple"])?.0 == "green", "replaced");
    std::fs::write(shell.directory.join("pear"), b"\x00\xff\n")?;
    shell.run(0, &["put", "fruit/pear/with/slashes", "@pear", "--content-type", "image/x-pear"])?;
    let raw = shell.run_with(&["get", "fruit/pear/with/slashes"], b"", &[])?;
    ensure!(raw.stdout == b"\x00\xff\n", "bytes as they are");
    shell.run_input(0, &["put", "fruit/plum", "-"], b"from standard input")?;
    ensure!(shell.run(0, &["get", "fruit/plum"])?.0 == "from standard input", "standard input");
    let (_, told) = shell.run(0, &["put", "fruit/plum", "x", "--verbose", "--w", "all"])?;
    ensure!(told.contains("receipt: acks=3; primaries=3") && told.contains("context: "), "{told}");
    shell.run(0, &["delete", "fruit/plum"])?;
    let (out, err) = shell.run(1, &["get", "fruit/plum"])?;
    ensure!(out.is_empty() && err.contains("deleted"), "{out}{err}");
    // Beside a delete that it did not know of.
    shell.run(0, &["put", "fruit/plum", "again", "--blind"])?;
    ensure!(shell.run(0, &["get", "fruit/plum"])?.0 == "again", "one value to read");
    shell.run(0, &["delete", "fruit/plum"])?;
    shell.run(0, &["put", "k/k", "x", "--type", "lww"])?;
    ensure!(shell.run(0, &["get", "k/k", "--type", "lww", "--r", "all"])?.0 == "x", "another type");
    Ok(())
}

fn siblings(shell: &Shell<'_>) -> anyhow::Result<()> {
    shell.run(0, &["put", "s/k", "left", "--blind"])?;
    shell.run(0, &["put", "s/k", "right", "--blind"])?;
    let (out, err) = shell.run(4, &["get", "s/k"])?;
    ensure!(
        out.is_empty() && err.contains("left") && err.contains("right") && err.contains("--sibling"),
        "{out}{err}"
    );
    let each = [
        shell.run(0, &["get", "s/k", "--sibling", "1"])?.0,
        shell.run(0, &["get", "s/k", "--sibling", "2"])?.0,
    ];
    ensure!(each.contains(&"left".to_owned()) && each.contains(&"right".to_owned()), "{each:?}");
    shell.run(2, &["get", "s/k", "--sibling", "3"])?;
    let (table, _) = shell.run(0, &["get", "s/k", "--output", "table"])?;
    ensure!(table.contains("left") && table.contains("right"), "{table}");
    let (_, refused) = shell.run(4, &["put", "s/k", "third"])?;
    ensure!(refused.contains("--context") && refused.contains("left"), "{refused}");
    shell.run(4, &["delete", "s/k"])?;
    let json: serde_json::Value =
        serde_json::from_str(&shell.run(0, &["get", "s/k", "--output", "json"])?.0)?;
    ensure!(json["versions"].as_array().is_some_and(|versions| versions.len() == 2), "{json}");
    let context = json["context"].as_str().context("a context")?;
    shell.run(0, &["put", "s/k", "merged", "--context", context])?;
    ensure!(shell.run(0, &["get", "s/k"])?.0 == "merged", "merged");
    shell.run(4, &["put", "s/other", "x", "--context", context])?;
    Ok(())
}

fn usage(shell: &Shell<'_>) -> anyhow::Result<()> {
    for args in [
        &["get"][..],
        &["get", "no-slash"],
        &["get", "/k"],
        &["get", "b/"],
        &["get", "b/k", "--r", "many"],
        &["put", "b/k", "v", "--blind", "--context", "x"],
        &["nothing"],
        &["get", "b/k", "--node", "127.0.0.1:65536"],
        &["get", "b/k", "--node", "127.0.0.1"],
        &["dev", "--nodes", "0"],
        &["node", "--config", "/nonexistent/gramme.toml"],
    ] {
        shell.run(2, args)?;
    }
    shell.run(0, &["--help"])?;
    shell.run(0, &["--version"])?;
    shell.run(2, &["put", "b/k", "@no-such-file"])?;
    Ok(())
}

fn endpoints(shell: &Shell<'_>, dev: &Dev) -> anyhow::Result<()> {
    let address = dev.node(1)["http"].as_str().context("an address")?;
    let id = dev.node(1)["id"].as_str().context("an id")?;
    let (by_flag, _) = shell.run(0, &["status", "--node", address])?;
    ensure!(by_flag.contains(&format!("as node {id} sees it")), "{by_flag}");
    let by_environment = shell.run_with(&["status", "--json"], b"", &[("GRAMME_ENDPOINT", address)])?;
    let status: serde_json::Value = serde_json::from_slice(&by_environment.stdout)?;
    ensure!(status["node"] == id, "{status}");
    Ok(())
}

fn unreachable(shell: &Shell<'_>, dev: &mut Dev) -> anyhow::Result<()> {
    // The first node is gone: the command line goes on to the next.
    dev.kill(0)?;
    shell.run(0, &["put", "late/k", "x"])?;
    ensure!(shell.run(0, &["get", "late/k"])?.0 == "x", "through another node");
    wait_for("the status shows a dead node", || {
        shell.run(0, &["status"]).is_ok_and(|(status, _)| status.contains("down"))
    })?;
    shell.run(4, &["put", "late/k", "y", "--w", "all"])?;
    let second = text(&dev.node_dir(1).join("gramme.toml"));
    let (_, refused) = shell.run(4, &["node", "--config", &second])?;
    ensure!(refused.contains("in use by another process"), "{refused}");
    dev.kill(1)?;
    dev.kill(2)?;
    shell.run(3, &["get", "late/k"])?;
    Ok(())
}
