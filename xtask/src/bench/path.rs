//! What a put and a get cost, held against the values kept in `docs/performance.md`.
//!
//! Times on a shared machine say little, and a cost that creeps in by one per cent a week says nothing at all
//! in a time. Allocations and instructions of the state machines and the wire format are the same in every
//! run, so a tenth more is a change that somebody made.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

use crate::run::{build, markdown, output, root, succeeds};

/// Where the kept values are.
const KEPT: &str = "docs/performance.md";
/// Operations between the two runs of which instructions are compared.
const TIMES: u64 = 1_000;

/// What is counted, by its name in the table.
type Figures = BTreeMap<String, u64>;

pub(super) fn run() -> anyhow::Result<()> {
    let path = build("gramme-replica", &["--example", "path"], true)?;
    let mut counted = allocations(&path)?;
    if succeeds("valgrind", &["--version"]) {
        counted.extend(instructions(&path)?);
    } else {
        println!("valgrind is not installed: instructions are not counted");
    }
    let text = std::fs::read_to_string(root().join(KEPT)).context(KEPT)?;
    compare(&counted, &kept(&text))
}

fn compare(counted: &Figures, kept: &Figures) -> anyhow::Result<()> {
    let mut table = markdown(["per operation", "count"]);
    let mut above = Vec::new();
    for (name, &count) in counted {
        let kept = *kept.get(name).with_context(|| format!("{KEPT} has no row \"| {name} | COUNT |\""))?;
        if count * 10 > kept * 11 {
            above.push(format!("{name}: {count}, and {kept} are kept"));
        }
        table.add_row([name.clone(), count.to_string()]);
    }
    println!("{}", table.trim_fmt());
    ensure!(above.is_empty(), "more than a tenth above {KEPT}:\n  {}", above.join("\n  "));
    Ok(())
}

fn allocations(path: &Path) -> anyhow::Result<Figures> {
    let printed = output(&path.to_string_lossy(), &[])?;
    let figure = |line: &str| {
        let (operation, count) = line.split_once(' ').context("a line without a count")?;
        Ok((format!("{operation}, allocations"), count.parse()?))
    };
    printed.lines().map(figure).collect()
}

fn instructions(path: &Path) -> anyhow::Result<Figures> {
    let mut figures = Figures::new();
    for operation in ["put", "get"] {
        let (none, some) = (executed(path, operation, 0)?, executed(path, operation, TIMES)?);
        figures.insert(format!("{operation}, instructions"), some.saturating_sub(none) / TIMES);
    }
    Ok(figures)
}

/// The instructions of a whole run.
fn executed(path: &Path, operation: &str, times: u64) -> anyhow::Result<u64> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(path);
    let output = command.args([operation, &times.to_string()]).output().context("cannot start valgrind")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "valgrind failed: {said}");
    let collected = said.lines().find_map(|line| line.split_once("Collected : "));
    let (_, count) = collected.context("valgrind did not say how many instructions it saw")?;
    Ok(count.trim().parse()?)
}

/// The rows of a table that have a name and a count.
fn kept(text: &str) -> Figures {
    let row = |line: &str| {
        let (name, count) = line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | ")?;
        Some((name.trim().to_owned(), count.trim().parse().ok()?))
    };
    text.lines().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_more_is_accepted_and_no_more() {
        let kept = kept("| per operation | count |\n|---|---|\n| put, allocations | 100   |\n");
        let counted = |count| Figures::from([("put, allocations".to_owned(), count)]);
        assert!(compare(&counted(110), &kept).is_ok());
        assert!(compare(&counted(111), &kept).is_err());
        assert!(compare(&counted(1), &Figures::new()).is_err(), "a value that is not kept");
    }
}
