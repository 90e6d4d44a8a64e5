#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod cli;
mod commands;
mod config;
mod driver;
mod exit;
mod founding;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod interfaces;
mod logging;
mod metrics;
mod predecessor;
mod requests;
mod ring_change;
mod ring_file;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help goes to standard output, errors to standard error.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(exit::USAGE));
        }
    };
    let result = match cli.command {
        Command::Dev(args) => commands::dev::run(&args),
        Command::Node(args) => commands::node::run(&args),
        Command::Get(args) => commands::get::run(&args),
        Command::Put(args) => commands::put::run(&args),
        Command::Touch(args) => commands::put::run_touch(&args),
        Command::Delete(args) => commands::put::run_delete(&args),
        Command::Status(args) => commands::status::run(&args),
        Command::Explain(args) => commands::explain::run(&args),
        Command::AcceptLoss(args) => commands::accept_loss::run(&args),
        Command::Plan(args) => commands::plan::run(&args),
        Command::Transfers(args) => commands::plan::transfers(&args),
        Command::Bench(args) => commands::bench::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::report(&error),
    }
}
