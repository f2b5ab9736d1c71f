//! `portcullis version`.

use std::process::ExitCode;

pub(super) fn run() -> ExitCode {
    super::answer(&format!(
        "portcullis {} ({}, {})\n",
        env!("CARGO_PKG_VERSION"),
        env!("PORTCULLIS_COMMIT"),
        env!("PORTCULLIS_TARGET"),
    ))
}
