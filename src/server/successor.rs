//! SIGUSR2: start the binary that is on the disk now, which takes over from this process.

use std::ffi::OsString;
use std::process::Command;

use tokio::signal::unix::{SignalKind, signal};

/// Hears it for as long as the process runs. Without a place to hand over at, it says what is missing.
pub(super) fn keep_listening(may_hand_over: bool) {
    let Ok(mut heard) = signal(SignalKind::user_defined2()) else {
        log::error!("cannot hear SIGUSR2");
        return;
    };
    tokio::spawn(async move {
        while heard.recv().await.is_some() {
            match may_hand_over {
                true => start(),
                false => log::error!("SIGUSR2: set server.handover to hand over to a new process"),
            }
        }
    });
}

fn start() {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let Some((program, arguments)) = arguments.split_first() else {
        return log::error!("SIGUSR2: this process does not know its own name");
    };
    let mut command = Command::new(program);
    command.args(arguments);
    if !arguments.iter().any(|argument| argument == UPGRADE) {
        command.arg(UPGRADE);
    }
    match command.spawn() {
        Ok(mut child) => {
            log::info!("SIGUSR2: process {} is to take over", child.id());
            // Whoever ends before it has taken over leaves no zombie.
            tokio::task::spawn_blocking(move || {
                if let Ok(status) = child.wait() {
                    log::error!("the process that was to take over has ended: {status}");
                }
            });
        }
        Err(error) => log::error!("SIGUSR2: cannot start {}: {error}", program.display()),
    }
}

/// The flag of `run`.
const UPGRADE: &str = "--upgrade";
