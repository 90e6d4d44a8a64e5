#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod error;
mod get;
mod put;
mod roll;
mod threshold;

pub use error::{Blame, ContextError, Failure, GetError, PutError, Shortfall};
pub use get::{Beside, GetReply, GetRequest, GetVerdict, Question, Repair};
pub use put::{Ack, PutNeeds, PutRequest, PutVerdict, Receipt, Tenure};
pub use roll::{MAX_SLOTS, ReplicaSet, Seat, Sets};
pub use threshold::{Threshold, ThresholdError};
