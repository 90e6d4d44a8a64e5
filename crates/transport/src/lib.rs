#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod caller;
mod endpoint;
mod frame;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod identity;
mod lane;
mod link;
#[cfg(feature = "memory")]
pub mod memory;
mod pki;
mod settings;

pub use caller::{CallError, Caller, ServerMessage};
pub use endpoint::{BindError, ConnectError, Endpoint};
pub use frame::{Frame, FrameError, Head, Kind, MAX_FRAME};
pub use identity::{CredentialError, Credentials, Role};
pub use link::{Held, Link, LinkEvent, LinkId, SendError};
pub use pki::{Authority, Issued, PkiError, node_id_of};
pub use settings::Protocol;
