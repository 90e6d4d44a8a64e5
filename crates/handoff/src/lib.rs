#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod handoff;
mod run;

pub use handoff::{Config, Effect, Handoff, Input, Outcome, Stats};
pub use run::Progress;
