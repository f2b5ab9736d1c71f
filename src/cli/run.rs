//! `portcullis run`.

use std::process::ExitCode;

use crate::config::{self, Diagnostic, Mode, System};
use crate::reload::File;
use crate::server::Surroundings;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) file: super::ConfigFile,
    /// Take the listening sockets over from the gateway that runs, once this one is ready, and let that one end.
    #[arg(long)]
    upgrade: bool,
}

pub(super) fn run(args: &Args) -> ExitCode {
    let file = &args.file.config;
    crate::observe::logger::init(crate::observe::logger::level());
    let seen = File::look(file);
    match config::load(file, &System, Mode::Online) {
        Ok(loaded) => {
            super::check::tell("warning: ", &loaded.warnings);
            let surroundings = Surroundings {
                file: Some(seen),
                upgrade: args.upgrade,
                ..Surroundings::default()
            };
            crate::server::run(loaded.plan, surroundings)
        }
        // A good configuration on a machine that lacks a file is a failed start, as a taken port is.
        Err(problems) if problems.iter().all(|problem| problem.unreadable) => {
            log::error!("cannot start: {}", in_one_line(&problems));
            ExitCode::FAILURE
        }
        Err(problems) => super::check::refuse(&problems),
    }
}

fn in_one_line(problems: &[Diagnostic]) -> String {
    let lines = problems.iter().map(|problem| {
        let without_hint = Diagnostic {
            hint: None,
            ..problem.clone()
        };
        without_hint.to_string()
    });
    lines.collect::<Vec<_>>().join("; ")
}
