//! Exit codes, as `vxgate --help` lists them.

use std::process::ExitCode;

use crate::fault::{Explained, Outcome};

/// Unhealthy, or an operation failed.
pub(super) const FAILED: u8 = 1;

/// A signal came.
pub(super) const INTERRUPTED: u8 = 130;

/// What the shell is told.
pub(super) const fn code(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Failed => FAILED,
        Outcome::NotRunning => 3,
        Outcome::NotFound => 4,
        Outcome::Denied => 5,
        // The following three are those of sysexits(3).
        Outcome::Unsupported => 69,
        Outcome::Busy => 75,
        Outcome::Invalid => 78,
    }
}

/// That of an error.
pub(super) fn of(error: &dyn Explained) -> ExitCode {
    ExitCode::from(code(error.fault().outcome()))
}

/// The same in words.
pub(super) const fn meaning(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Failed => "failed",
        Outcome::NotRunning => "no daemon answers",
        Outcome::NotFound => "not found",
        Outcome::Denied => "permission denied",
        Outcome::Unsupported => "kernel or device lacks a feature",
        Outcome::Busy => "busy, try again",
        Outcome::Invalid => "invalid setting",
    }
}
