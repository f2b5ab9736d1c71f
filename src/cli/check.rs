//! `portcullis check`.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::{self, Diagnostic, Mode, System};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration.
    #[arg(long, value_name = "FILE", default_value = "conf/portcullis.yaml")]
    config: PathBuf,
    /// Accept variables that are not set and files that are not there.
    #[arg(long)]
    offline: bool,
}

pub(super) fn run(args: &Args) -> ExitCode {
    let mode = if args.offline {
        Mode::Offline
    } else {
        Mode::Online
    };
    match config::load(&args.config, &System, mode) {
        Ok(loaded) => {
            tell("warning: ", &loaded.warnings);
            super::answer(&config::summary(&loaded.plan))
        }
        Err(problems) => refuse(&problems),
    }
}

pub(super) fn tell(prefix: &str, diagnostics: &[Diagnostic]) {
    for diagnostic in diagnostics {
        super::complain(&format!("{prefix}{diagnostic}\n"));
    }
}

pub(super) fn refuse(problems: &[Diagnostic]) -> ExitCode {
    tell("", problems);
    let count = match problems.len() {
        1 => "1 problem".to_owned(),
        count => format!("{count} problems"),
    };
    super::complain(&format!("{count}\n"));
    ExitCode::from(super::USAGE)
}
