//! The commands of `docs/operations.md`, typed one after the other, print what it says.
//!
//! Documentation that nobody runs is wrong after the next change. A line with `…` alone stands for any lines, `…` within a line
//! for anything.

use std::process::Command;

use anyhow::{Context, ensure};

use super::Programs;
use super::dev::Dev;
use crate::run::root;

pub(crate) fn run(programs: &Programs) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(root().join("docs/operations.md"))?;
    let dev = Dev::found(&programs.gramme, 3)?;
    let typed = steps(&text);
    ensure!(typed.len() > 10, "docs/operations.md has its commands in console blocks");
    // The first one has been done in our own way.
    for Step { command, expected } in typed.iter().filter(|step| !step.command.ends_with('&')) {
        let said = type_it(programs, &dev, command)?;
        let lines: Vec<&str> = said.lines().map(str::trim_end).collect();
        ensure!(
            matches(expected, &lines),
            "$ {command}\n{said}\nis not as in docs/operations.md:\n{expected:#?}"
        );
    }
    Ok(())
}

struct Step<'a> {
    command: &'a str,
    expected: Vec<&'a str>,
}

fn steps(text: &str) -> Vec<Step<'_>> {
    let mut steps: Vec<Step<'_>> = Vec::new();
    let mut is_inside = false;
    for line in text.lines().map(str::trim_end) {
        if line.starts_with("```") {
            is_inside = line == "```console";
        } else if let Some(command) = line.strip_prefix("$ ").filter(|_| is_inside) {
            steps.push(Step { command, expected: Vec::new() });
        } else if let Some(step) = steps.last_mut().filter(|_| is_inside) {
            step.expected.push(line);
        }
    }
    steps
}

/// What a command prints.
fn type_it(programs: &Programs, dev: &Dev, command: &str) -> anyhow::Result<String> {
    let directory = programs.gramme.parent().context("a program lies in a directory")?;
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("sh")
        .args(["-c", &format!("({command}) 2>&1")])
        .env("PATH", format!("{}:{path}", directory.display()))
        .env("XDG_STATE_HOME", dev.state.path())
        .output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn matches(expected: &[&str], lines: &[&str]) -> bool {
    match expected.split_first() {
        None => lines.is_empty(),
        Some((&"…", rest)) => (0..=lines.len()).any(|skipped| matches(rest, &lines[skipped..])),
        Some((first, rest)) => {
            lines.first().is_some_and(|line| is_like(first, line)) && matches(rest, &lines[1..])
        }
    }
}

/// Whether a line is as expected, where `…` stands for anything.
fn is_like(expected: &str, line: &str) -> bool {
    match expected.split_once('…') {
        None => expected == line,
        Some((before, after)) => line.strip_prefix(before).is_some_and(|rest| {
            rest.char_indices().map(|(at, _)| at).chain([rest.len()]).any(|at| is_like(after, &rest[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_stands_for_anything() {
        assert!(matches(&["a …", "…", "z"], &["a 1", "x", "y", "z"]));
        assert!(matches(&["a", "…"], &["a"]));
        assert!(!matches(&["a"], &["a", "b"]));
        assert!(!matches(&["…", "b"], &["a"]));
        assert!(is_like("… moves, … left", "3 moves, 2 left") && !is_like("a…b", "a1c"));
    }
}
