//! The table of `docs/performance.md`: a fresh three-node cluster, and `gramme bench` against it.

use std::process::Command;

use anyhow::{Context, ensure};
use clap::{Args as ClapArgs, Subcommand};
use comfy_table::{Table, presets};
use serde_json::Value;

use crate::cluster::dev::Dev;
use crate::path;
use crate::run::build;

#[derive(Debug, ClapArgs)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// How long to measure each row, in seconds
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Only these rows: a part of their name, such as "http put"
    #[arg(long)]
    only: Option<String>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Count what one put and one get allocate and execute, and hold it against docs/performance.md
    Path,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    match args.what {
        Some(What::Path) => path::run(),
        None => table(args),
    }
}

fn table(args: &Args) -> anyhow::Result<()> {
    let gramme = build("gramme-node", &["--bin", "gramme"], true)?;
    let dev = Dev::found(&gramme, 3)?;
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header([
        "interface",
        "operation",
        "durability",
        "value",
        "in flight",
        "ops/s",
        "p50 µs",
        "p99 µs",
        "p99.9 µs",
        "CPU µs/op",
    ]);
    for (interface, workload, durability, size, in_flight) in rows() {
        let name = format!("{interface} {workload} {durability} {size} {in_flight}");
        if args.only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
            continue;
        }
        eprintln!("{name}");
        let measured =
            measure(&gramme, &dev, args.seconds, (interface, workload, durability, size, in_flight))?;
        let figure = |name: &str| format!("{:.0}", measured[name].as_f64().unwrap_or_default());
        ensure!(measured["errors"] == 0, "{name}: {} operations failed", measured["errors"]);
        table.add_row([
            interface.to_owned(),
            workload.to_owned(),
            durability.to_owned(),
            size.to_string(),
            in_flight.to_string(),
            figure("operations_per_second"),
            figure("p50_us"),
            figure("p99_us"),
            figure("p999_us"),
            figure("server_cpu_us_per_operation"),
        ]);
    }
    println!("{}", table.trim_fmt());
    Ok(())
}

type Row = (&'static str, &'static str, &'static str, u32, u32);

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for interface in ["native", "http"] {
        for (workload, durability) in [("put", "fsync"), ("put", "buffered"), ("get", "fsync")] {
            for size in [100, 1_024] {
                for in_flight in [1, 16, 64, 256] {
                    rows.push((interface, workload, durability, size, in_flight));
                }
            }
        }
    }
    rows
}

fn measure(
    gramme: &std::path::Path,
    dev: &Dev,
    seconds: u64,
    (interface, workload, durability, size, in_flight): Row,
) -> anyhow::Result<Value> {
    let output = Command::new(gramme)
        .arg("bench")
        .args(["--cluster".as_ref(), dev.cluster_json().as_os_str()])
        .args(["--interface", interface, "--workload", workload, "--durability", durability])
        .args(["--value-size", &size.to_string(), "--in-flight", &in_flight.to_string()])
        .args(["--seconds", &seconds.to_string(), "--json"])
        .output()
        .context("cannot start gramme bench")?;
    ensure!(output.status.success(), "gramme bench failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}
