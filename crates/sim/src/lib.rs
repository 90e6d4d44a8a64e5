#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod batch;
pub mod check;
mod clients;
mod cluster;
mod disk;
mod event;
mod fault;
mod healed;
mod history;
mod network;
mod random;
pub mod report;
mod scenario;
mod settings;
mod shrink;

pub use batch::{Judged, judge, judge_all};
pub use cluster::{Outcome, run};
pub use fault::{Counts, Fault, FaultSet};
pub use healed::Healed;
pub use history::{
    Broken, ChangeRecord, Damage, Fate, History, KeyRecord, Kind, ReadError, ReadRecord, WriteId, WriteRecord,
};
pub use scenario::Scenario;
pub use settings::Settings;
pub use shrink::shrink;
