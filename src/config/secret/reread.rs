//! A secret that is used for as long as the process lives: its file is read again when it changes.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use super::Secret;
use crate::clock::Clock;

/// How often the file is looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// `T` is what the text is good for: the text itself, or a key.
pub struct Reread<T> {
    clock: Clock,
    name: String,
    read: fn(&str) -> Result<T, String>,
    file: Option<PathBuf>,
    state: Mutex<Known<T>>,
}

struct Known<T> {
    value: T,
    /// When and how large the file was when it was read.
    seen: Option<Seen>,
    looked: Option<Duration>,
    /// Why the file could not be used when it was last looked at.
    fault: Option<String>,
}

type Seen = (SystemTime, u64);

impl<T> Known<T> {
    fn new(value: T) -> Self {
        Known {
            value,
            seen: None,
            looked: None,
            fault: None,
        }
    }
}

impl Reread<Arc<str>> {
    /// One that is used as it is.
    pub fn text(secret: &Secret, clock: Clock) -> Self {
        Reread {
            clock,
            name: "the secret in ".to_owned(),
            read: |text| Ok(text.into()),
            file: secret.file().cloned(),
            state: Mutex::new(Known::new(secret.expose().into())),
        }
    }
}

impl<T: Clone> Reread<T> {
    /// Fails if the text is good for nothing. `name` is what its faults begin with.
    pub fn new(
        secret: &Secret,
        name: String,
        read: fn(&str) -> Result<T, String>,
        clock: Clock,
    ) -> Result<Self, String> {
        let value = read(secret.expose()).map_err(|fault| format!("{name}: {fault}"))?;
        Ok(Reread {
            clock,
            name: format!("{name}, "),
            read,
            file: secret.file().cloned(),
            state: Mutex::new(Known::new(value)),
        })
    }

    /// The last good value when the file cannot be read, or holds what is good for nothing.
    pub async fn current(&self) -> T {
        let Some(path) = &self.file else {
            return self.known().value.clone();
        };
        let now = self.clock.monotonic();
        let seen = {
            let mut known = self.known();
            let fresh = known
                .looked
                .is_some_and(|at| now.saturating_sub(at) < LOOK_AGAIN);
            if fresh {
                return known.value.clone();
            }
            known.looked = Some(now);
            known.seen
        };
        let file = path.clone();
        let changed = tokio::task::spawn_blocking(move || changed(&file, seen)).await;
        let changed = changed.unwrap_or_else(|fault| Err(fault.to_string()));
        let read = changed.map(|new| new.map(|(text, seen)| ((self.read)(&text), seen)));
        let mut known = self.known();
        let fault = match read {
            // The same file as before, and so the same fault.
            Ok(None) => return known.value.clone(),
            Ok(Some((read, seen))) => {
                known.seen = Some(seen);
                read.map(|value| known.value = value).err()
            }
            Err(fault) => Some(fault),
        };
        // Once per change: it is looked at every second.
        if let Some(fault) = fault
            .as_ref()
            .filter(|fault| known.fault.as_ref() != Some(fault))
        {
            log::warn!(
                "{}{}: {fault}; the last good one stays",
                self.name,
                path.display()
            );
        }
        known.fault = fault;
        known.value.clone()
    }

    fn known(&self) -> MutexGuard<'_, Known<T>> {
        // Each holder makes a few assignments that cannot panic.
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// The file's text without its line end, if it is another file than the one that was seen.
fn changed(path: &Path, seen: Option<Seen>) -> Result<Option<(String, Seen)>, String> {
    let text = |fault: std::io::Error| fault.to_string();
    let meta = std::fs::metadata(path).map_err(text)?;
    let now = (meta.modified().map_err(text)?, meta.len());
    if seen == Some(now) {
        return Ok(None);
    }
    let text = std::fs::read_to_string(path).map_err(text)?;
    let value = text.strip_suffix('\n').unwrap_or(&text);
    let value = value.strip_suffix('\r').unwrap_or(value);
    if value.is_empty() {
        return Err("it is empty".to_owned());
    }
    Ok(Some((value.to_owned(), now)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_bang(text: &str) -> Result<String, String> {
        match text.contains('!') {
            true => Err("no good".to_owned()),
            false => Ok(text.to_owned()),
        }
    }

    #[tokio::test]
    async fn a_secret_file_is_read_again_at_most_once_a_second() {
        let directory =
            std::env::temp_dir().join(format!("portcullis-reread-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        let file = directory.join("secret");
        std::fs::write(&file, "one\n").expect("written");
        let clock = Clock::manual(1_790_000_000);
        let secret = Secret::from_file("one", file.clone());
        let secret = Reread::new(&secret, "it".to_owned(), no_bang, clock.clone());
        let secret = secret.expect("a good secret");
        assert_eq!(secret.current().await, "one");
        std::fs::write(&file, "second\n").expect("written");
        assert_eq!(secret.current().await, "one");
        clock.advance(LOOK_AGAIN);
        assert_eq!(secret.current().await, "second");
        // What cannot be read or used leaves the last one.
        std::fs::write(&file, "worse!\n").expect("written");
        clock.advance(LOOK_AGAIN);
        assert_eq!(secret.current().await, "second");
        std::fs::write(&file, "").expect("written");
        clock.advance(LOOK_AGAIN);
        assert_eq!(secret.current().await, "second");
        assert_eq!(secret.known().fault.as_deref(), Some("it is empty"));
        std::fs::write(&file, "better\n").expect("written");
        clock.advance(LOOK_AGAIN);
        assert_eq!(secret.current().await, "better");
        assert_eq!(secret.known().fault, None);
        std::fs::remove_dir_all(&directory).expect("removed");
        clock.advance(LOOK_AGAIN);
        assert_eq!(secret.current().await, "better");
    }

    #[test]
    fn a_secret_that_is_no_good_at_the_start_is_an_error() {
        let clock = Clock::manual(1_790_000_000);
        let secret = Secret::from_value("worse!");
        let fault = Reread::new(&secret, "its.name".to_owned(), no_bang, clock).err();
        assert_eq!(fault, Some("its.name: no good".to_owned()));
    }
}
