//! The table of `docs/performance.md`: a fresh three-node cluster, and `gramme bench` against it.

use std::path::Path;

use anyhow::ensure;

use super::{Measured, Rows};
use crate::cluster::dev::Dev;
use crate::run::markdown;

/// One row: what is measured, in the order of the table's columns.
pub(super) struct Row {
    interface: &'static str,
    workload: &'static str,
    durability: &'static str,
    size: String,
    in_flight: String,
}

pub(super) fn run(gramme: &Path, wanted: &Rows) -> anyhow::Result<()> {
    let dev = Dev::found(gramme, 3)?;
    let mut table = markdown([
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
    for row in wanted.rows()? {
        eprintln!("{}", row.name());
        let measured = row.measure(gramme, &dev, wanted.seconds)?;
        let mut cells: Vec<String> = row.columns().map(str::to_owned).to_vec();
        for figure in ["operations_per_second", "p50_us", "p99_us", "p999_us", "server_cpu_us_per_operation"]
        {
            cells.push(format!("{:.0}", measured.figure(figure)?));
        }
        table.add_row(cells);
    }
    println!("{}", table.trim_fmt());
    Ok(())
}

impl Rows {
    /// Those that are wanted.
    pub(super) fn rows(&self) -> anyhow::Result<Vec<Row>> {
        let mut rows = all();
        rows.retain(|row| self.only.as_ref().is_none_or(|only| row.name().contains(only.as_str())));
        ensure!(!rows.is_empty(), "--only: no row is called so; one is \"{}\"", all()[0].name());
        Ok(rows)
    }
}

fn all() -> Vec<Row> {
    let mut rows = Vec::new();
    for interface in ["native", "http"] {
        for (workload, durability) in [("put", "fsync"), ("put", "buffered"), ("get", "fsync")] {
            for size in ["100", "1024"] {
                for in_flight in ["1", "16", "64", "256"] {
                    let (size, in_flight) = (size.to_owned(), in_flight.to_owned());
                    rows.push(Row { interface, workload, durability, size, in_flight });
                }
            }
        }
    }
    rows
}

impl Row {
    fn columns(&self) -> [&str; 5] {
        [self.interface, self.workload, self.durability, &self.size, &self.in_flight]
    }

    pub(super) fn name(&self) -> String {
        self.columns().join(" ")
    }

    pub(super) fn measure(&self, gramme: &Path, dev: &Dev, seconds: u64) -> anyhow::Result<Measured> {
        let [interface, workload, durability, size, in_flight] = self.columns();
        let seconds = seconds.to_string();
        let what = ["--interface", interface, "--workload", workload, "--durability", durability];
        let how = ["--value-size", size, "--in-flight", in_flight, "--seconds", &seconds];
        Measured::by(gramme, dev, &[what, how].concat())
    }
}
