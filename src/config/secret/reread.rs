//! A secret that is used for as long as the process lives.

use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use super::Secret;
use crate::clock::Clock;

/// How often a file with a secret is looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A secret that may stand in a file, read again when the file changes.
pub struct Reread {
    clock: Clock,
    state: Mutex<Known>,
}

struct Known {
    secret: Secret,
    /// When and how large the file was when it was read.
    seen: Option<(SystemTime, u64)>,
    looked: Option<Duration>,
}

impl Reread {
    pub fn new(secret: Secret, clock: Clock) -> Self {
        Reread {
            clock,
            state: Mutex::new(Known {
                secret,
                seen: None,
                looked: None,
            }),
        }
    }

    /// The last good value when the file cannot be read.
    pub async fn current(&self) -> String {
        let now = self.clock.monotonic();
        let (path, seen) = {
            let mut known = self.known();
            let fresh = known
                .looked
                .is_some_and(|at| now.saturating_sub(at) < LOOK_AGAIN);
            match known.secret.file() {
                Some(path) if !fresh => {
                    let path = path.clone();
                    known.looked = Some(now);
                    (path, known.seen)
                }
                _ => return known.secret.expose().to_owned(),
            }
        };
        let read = {
            let path = path.clone();
            tokio::task::spawn_blocking(move || changed(&path, seen)).await
        };
        let mut known = self.known();
        if let Ok(Some((value, seen))) = read {
            known.secret = Secret::from_file(value, path);
            known.seen = Some(seen);
        }
        known.secret.expose().to_owned()
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        // Each holder makes a few assignments that cannot panic.
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// The file's text without its line end, if it is another file than the one that was seen.
fn changed(path: &Path, seen: Option<(SystemTime, u64)>) -> Option<(String, (SystemTime, u64))> {
    let meta = std::fs::metadata(path).ok()?;
    let now = (meta.modified().ok()?, meta.len());
    if seen == Some(now) {
        return None;
    }
    let text = std::fs::read_to_string(path).ok()?;
    let value = text.strip_suffix('\n').unwrap_or(&text);
    let value = value.strip_suffix('\r').unwrap_or(value);
    (!value.is_empty()).then(|| (value.to_owned(), now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_secret_file_is_read_again_at_most_once_a_second() {
        let directory =
            std::env::temp_dir().join(format!("portcullis-reread-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        let file = directory.join("secret");
        std::fs::write(&file, "one\n").expect("written");
        let clock = Clock::manual(1_790_000_000);
        let secret = Reread::new(Secret::from_file("one", file.clone()), clock.clone());
        assert_eq!(secret.current().await, "one");
        std::fs::write(&file, "second\n").expect("written");
        assert_eq!(secret.current().await, "one");
        clock.advance(LOOK_AGAIN);
        assert_eq!(secret.current().await, "second");
        // What cannot be read leaves the last one.
        std::fs::remove_dir_all(&directory).expect("removed");
        clock.advance(LOOK_AGAIN);
        assert_eq!(secret.current().await, "second");
    }
}
