//! Fuzzing every decoder: libFuzzer with the flags that `cargo fuzz` uses, on the toolchain that is there.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use clap::Args as ClapArgs;

use crate::run::{output, root};

/// Each target, and the corpus that its crate keeps.
const TARGETS: [(&str, &str); 8] = [
    ("vclock", "vclock"),
    ("object", "object"),
    ("wire", "wire"),
    ("replica", "replica"),
    ("transport", "transport"),
    ("storage", "storage"),
    ("http", "node"),
    ("config", "node"),
];

/// Coverage for libFuzzer. The last but two keeps short comparisons visible to it: without, it never gets past
/// a magic number.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-sanitizer-coverage-stack-depth \
    -Cllvm-args=-simplifycfg-branch-fold-threshold=0 -Cllvm-args=-max-loads-per-memcmp=0 -Ccodegen-units=1 \
    --cfg fuzzing";

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// How long each target runs
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Only this target
    #[arg(long)]
    only: Option<String>,
    /// Add what was found interesting to the corpora that the tests run
    #[arg(long)]
    keep: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let version = output("rustc", &["-vV"])?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("the host's name")?;
    let target = root().join("target/fuzz");
    build(host, &target)?;
    let crashes = root().join("target/crashes");
    std::fs::create_dir_all(&crashes)?;
    for (name, package) in TARGETS {
        if args.only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        let program = target.join(host).join("release").join(name);
        let kept = root().join("crates").join(package).join("tests/corpus").join(name);
        let found = root().join("target/corpus").join(name);
        std::fs::create_dir_all(&found)?;
        fuzz(&program, &found, &kept, &crashes.join(format!("{name}-")), args.seconds)?;
        if args.keep {
            let mut merge = Command::new(&program);
            merge.args(["-merge=1", "-max_len=512"]).args([&kept, &found]).stderr(Stdio::null());
            ensure!(merge.status()?.success(), "{name}: the corpora cannot be merged");
        }
    }
    Ok(())
}

fn build(host: &str, target: &Path) -> anyhow::Result<()> {
    let program = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = Command::new(program);
    command.args(["build", "--release", "--locked", "--manifest-path", "fuzz/Cargo.toml", "--target", host]);
    command.arg("--target-dir").arg(target).current_dir(root());
    let flags: Vec<_> = FLAGS.split_whitespace().collect();
    command.env("RUSTFLAGS", flags.join(" ")).env_remove("CARGO_ENCODED_RUSTFLAGS");
    ensure!(command.status().context("cannot start cargo")?.success(), "the fuzz targets do not build");
    Ok(())
}

fn fuzz(program: &Path, found: &Path, kept: &Path, crashes: &Path, seconds: u64) -> anyhow::Result<()> {
    let ran = Command::new(program)
        .arg(format!("-max_total_time={seconds}"))
        .args(["-timeout=10", "-rss_limit_mb=2048", "-max_len=4096", "-print_final_stats=1"])
        .arg(format!("-artifact_prefix={}", crashes.display()))
        .args([found, kept])
        .output()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let said = String::from_utf8_lossy(&ran.stderr);
    let runs = said.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    println!("{}: {} runs", program.display(), runs.unwrap_or("?").trim());
    ensure!(ran.status.success(), "{said}\nreplay: {} FILE", program.display());
    // Without its flags it would run, find nothing, and be content.
    ensure!(said.contains("inline 8-bit counters"), "built without coverage: {said}");
    Ok(())
}
