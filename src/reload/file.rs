//! When the file is to be read again.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// How often the file is looked at. Its contents tell, and nothing else: a mounted ConfigMap changes by a link that is
/// put in place of another, editors rename, and times and sizes may stay.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// More than a configuration may have.
const MOST: u64 = (1 << 20) + 1;

type Digest = [u8; 32];

/// The configuration's file, and what was in it when it was last taken.
#[derive(Clone)]
pub struct File {
    path: PathBuf,
    seen: Option<Digest>,
}

impl File {
    /// To be asked for before the file is loaded: a change in between is then seen as one.
    pub fn look(path: &Path) -> Self {
        File {
            seen: digest(path),
            path: path.to_owned(),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// SIGHUP, or another text in the file.
pub struct Trigger {
    file: File,
    hangup: Option<Signal>,
    /// What was in the file at the last look, if that is new. Who writes it may not be done: it is taken when two looks
    /// in a row find the same.
    changing: Option<Digest>,
}

impl Trigger {
    pub(super) fn new(file: File) -> Self {
        let hangup = signal(SignalKind::hangup());
        if let Err(error) = &hangup {
            log::error!("cannot hear SIGHUP, and look at the file alone: {error}");
        }
        Trigger {
            file,
            hangup: hangup.ok(),
            changing: None,
        }
    }

    pub async fn wait(&mut self) {
        loop {
            let hangup = async {
                match &mut self.hangup {
                    Some(hangup) => hangup.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = hangup => {
                    log::info!("SIGHUP: reading {} again", self.file.path.display());
                    let now = self.file.now().await;
                    self.file.seen = now.or(self.file.seen);
                    self.changing = None;
                    return;
                }
                () = tokio::time::sleep(LOOK_EVERY) => {
                    let now = self.file.now().await;
                    if self.changed(now) {
                        log::info!("{} has changed: reading it again", self.file.path.display());
                        return;
                    }
                }
            }
        }
    }

    fn changed(&mut self, now: Option<Digest>) -> bool {
        // A file that is not there is on its way.
        let new = now.filter(|now| self.file.seen != Some(*now));
        let settled = new.is_some() && self.changing == new;
        self.changing = new;
        if settled {
            self.file.seen = self.changing.take();
        }
        settled
    }
}

impl File {
    async fn now(&self) -> Option<Digest> {
        let path = self.path.clone();
        let looked = tokio::task::spawn_blocking(move || digest(&path)).await;
        looked.ok().flatten()
    }
}

/// `None`: it cannot be read.
fn digest(path: &Path) -> Option<Digest> {
    let mut text = Vec::new();
    let file = std::fs::File::open(path).ok()?;
    file.take(MOST).read_to_end(&mut text).ok()?;
    let digest = ring::digest::digest(&ring::digest::SHA256, &text);
    digest.as_ref().try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_text_is_taken_when_it_has_settled_and_only_once() {
        let (old, new, newer) = (Some([1; 32]), Some([2; 32]), Some([3; 32]));
        let file = File {
            path: PathBuf::new(),
            seen: old,
        };
        let mut trigger = Trigger::new(file);
        let looks = [
            (old, false),
            (new, false),
            (newer, false),
            (None, false),
            (newer, false),
            (newer, true),
            (newer, false),
            (newer, false),
            (new, false),
            (newer, false),
        ];
        for (number, (now, changed)) in looks.into_iter().enumerate() {
            assert_eq!(trigger.changed(now), changed, "look {number}");
        }
    }
}
