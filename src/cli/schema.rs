//! `portcullis schema`.

use std::process::ExitCode;

pub(super) fn run() -> ExitCode {
    super::answer(&crate::config::reference::json_schema())
}
