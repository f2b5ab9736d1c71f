//! `portcullis run`.

use std::path::Path;
use std::process::ExitCode;

use crate::config::{self, Mode, System};

pub(super) fn run(file: &Path) -> ExitCode {
    crate::observe::logger::init(crate::observe::logger::level());
    match config::load(file, &System, Mode::Online) {
        Ok(loaded) => {
            super::check::tell("warning: ", &loaded.warnings);
            crate::server::run(loaded.plan)
        }
        Err(problems) => super::check::refuse(&problems),
    }
}
