//! Starting the simulator, with the bugs planted if they are asked for.

use std::process::Command;

use anyhow::Context;

use crate::run;

/// Where builds with planted bugs go: other flags in the usual directory would build everything anew each time.
pub(crate) const PLANTED: &str = "target/planted";

/// Hands `arguments` to `gramme-sim`, and ends with its exit code, which says what was broken.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    let planted = arguments.iter().any(|argument| argument == "--planted");
    let program = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = Command::new(program);
    command.args(["run", "--locked", "--release", "--quiet", "--package", "gramme-sim", "--"]);
    command.args(arguments).current_dir(run::root());
    if planted {
        command.env("RUSTFLAGS", "--cfg gramme_planted");
        command.env("CARGO_TARGET_DIR", run::root().join(PLANTED));
    }
    let status = command.status().context("cannot start cargo")?;
    std::process::exit(status.code().unwrap_or(1))
}
