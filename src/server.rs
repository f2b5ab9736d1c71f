//! From a plan to running services.

use std::process::ExitCode;

use crate::config::Plan;

/// Serves until it is told to stop.
pub fn run(_plan: Plan) -> ExitCode {
    ExitCode::FAILURE
}
