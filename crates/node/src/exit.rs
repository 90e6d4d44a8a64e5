//! How commands end: 0 done, 1 not found, 2 usage, 3 nobody reachable, 4 refused or outcome unknown.

use std::io::Write;
use std::process::ExitCode;

/// Not found.
pub(crate) const NOT_FOUND: u8 = 1;
/// The command was not used as it can be.
pub(crate) const USAGE: u8 = 2;
/// No node could be reached.
pub(crate) const UNREACHABLE: u8 = 3;
/// Refused, or nobody knows whether it was done; and whatever else went wrong.
pub(crate) const REFUSED: u8 = 4;

/// An error with the code that the process ends with.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    code: u8,
    message: String,
}

/// An error that ends the process with `code`.
pub(crate) fn failure(code: u8, message: impl Into<String>) -> anyhow::Error {
    Failure { code, message: message.into() }.into()
}

/// Prints the error, and says what to end with.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    // Where standard error cannot be written the code must do.
    let _ = writeln!(std::io::stderr(), "gramme: {error:#}");
    ExitCode::from(error.downcast_ref::<Failure>().map_or(REFUSED, |failure| failure.code))
}
