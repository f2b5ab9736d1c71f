//! What a service manager is told: systemd with `Type=notify`. Nobody hears it where there is none.

use sd_notify::NotifyState;

/// This process is the service from now on, and ready.
pub(super) fn serving() {
    tell(&[NotifyState::MainPid(std::process::id()), NotifyState::Ready]);
}

pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        log::warn!("the service manager cannot be told: {error}");
    }
}
