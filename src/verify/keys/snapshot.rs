//! The last good keys in a file, so that a gateway that restarts while its issuer is away still serves.
//!
//! It holds the document as the issuer gave it, whose keys are read and judged as if they had just come, and when that
//! was by the wall clock: keys are never believed longer than `keys.max_stale`, restarts or not. Whoever can write the
//! file decides whom we believe, as with every file of the configuration.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};

use crate::clock::Clock;
use crate::config::plan::IssuerPlan;
use crate::observe::metrics::{IssuerMetrics, Kept};

/// Of the file: the largest document, each of whose bytes may need another to be written in JSON, and room.
const MAX_BYTES: u64 = 1 << 20;
/// How many times within `max_stale` an unchanged set is written, so that its age stays about true.
const PER_LIFE: u32 = 24;

pub(super) struct Snapshot {
    path: PathBuf,
    /// The issuer's name here, and what `iss` says.
    name: Arc<str>,
    issuer: String,
    max_stale: Duration,
    leeway: Duration,
    clock: Clock,
    metrics: Arc<IssuerMetrics>,
    /// Held for a few assignments, never across an await.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What is in the file, or is being written to it.
    written: Option<Dated>,
    /// What is to be written after that.
    next: Option<Dated>,
    writing: bool,
    /// Why the last attempt failed.
    fault: Option<String>,
}

/// A document and when it was fetched, in seconds since the epoch.
#[derive(Clone)]
struct Dated {
    document: Arc<[u8]>,
    at: u64,
}

/// What an earlier process left.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) document: Arc<[u8]>,
    pub(super) age: Duration,
}

impl Snapshot {
    pub(super) fn new(
        path: PathBuf,
        issuer: &IssuerPlan,
        clock: Clock,
        metrics: Arc<IssuerMetrics>,
    ) -> Self {
        Snapshot {
            path,
            name: issuer.name.clone(),
            issuer: issuer.issuer.clone(),
            max_stale: issuer.keys.max_stale,
            leeway: issuer.leeway,
            clock,
            metrics,
            state: Mutex::default(),
        }
    }

    /// What the file holds; `None` when there is no file, or why it is not used.
    pub(super) fn read(&self) -> Result<Option<Left>, String> {
        let bytes = match read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let broken = || "it is broken".to_owned();
        let file: Value = serde_json::from_slice(&bytes).map_err(|_| broken())?;
        if file.get("version") != Some(&json!(1)) {
            return Err("another version wrote it".to_owned());
        }
        if file.get("issuer").and_then(Value::as_str) != Some(&self.issuer) {
            return Err("it is another issuer's".to_owned());
        }
        let at = file.get("fetched_at").and_then(Value::as_u64);
        let at = at.ok_or_else(broken)?;
        let document = file.get("document").and_then(Value::as_str);
        let document: Arc<[u8]> = document.ok_or_else(broken)?.as_bytes().into();
        let now = self.clock.unix();
        if at > now.saturating_add(self.leeway.as_secs()) {
            return Err("it is from the future: check the clock".to_owned());
        }
        let age = Duration::from_secs(now.saturating_sub(at));
        if age > self.max_stale {
            return Err(format!("it is {} s old", age.as_secs()));
        }
        self.state().written = Some(Dated {
            document: document.clone(),
            at,
        });
        Ok(Some(Left { document, age }))
    }

    /// Writes what was just fetched, unless the file says the same and is young enough. One write at a time, the
    /// newest last; a disk that hangs holds up nobody but us.
    pub(super) async fn keep(&self, document: Vec<u8>) {
        let now = self.clock.unix();
        {
            let mut state = self.state();
            if !state.is_due(&document, now, self.max_stale) {
                return;
            }
            state.next = Some(Dated {
                document: document.into(),
                at: now,
            });
            if std::mem::replace(&mut state.writing, true) {
                return;
            }
        }
        while let Some(next) = self.next() {
            let written = self.write(&next).await;
            self.ended(written);
        }
    }

    fn next(&self) -> Option<Dated> {
        let mut state = self.state();
        let next = state.next.take();
        state.writing = next.is_some();
        if next.is_some() {
            state.written.clone_from(&next);
        }
        next
    }

    async fn write(&self, next: &Dated) -> Result<(), String> {
        let file = json!({
            "version": 1,
            "issuer": self.issuer,
            "fetched_at": next.at,
            // A key set was read from it, so it is UTF-8.
            "document": String::from_utf8_lossy(&next.document),
        });
        let path = self.path.clone();
        let replaced = tokio::task::spawn_blocking(move || replace(&path, &file.to_string())).await;
        match replaced {
            Ok(replaced) => replaced.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn ended(&self, written: Result<(), String>) {
        let mut state = self.state();
        let fault = written.err();
        let kept = match fault {
            None => Kept::Ok,
            Some(_) => Kept::Failed,
        };
        // Once per change: a disk that is full for an hour is one line.
        if fault != state.fault {
            match &fault {
                Some(why) => log::warn!("issuer {}: {self} is not written: {why}", self.name),
                None => log::info!("issuer {}: {self} is written again", self.name),
            }
        }
        if kept == Kept::Failed {
            state.written = None;
        }
        state.fault = fault;
        self.metrics.keys_kept(kept);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each holder makes a few assignments that cannot panic.
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl State {
    fn is_due(&self, document: &[u8], now: u64, max_stale: Duration) -> bool {
        let latest = self.next.as_ref().or(self.written.as_ref());
        let Some(latest) = latest else {
            return true;
        };
        let often = max_stale.as_secs() / u64::from(PER_LIFE);
        let age = now.checked_sub(latest.at);
        // A clock that was set back counts as old.
        *latest.document != *document || age.is_none_or(|age| age >= often)
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the snapshot {}", self.path.display())
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = std::fs::File::open(path)?;
    let about = file.metadata()?;
    // We make it 0600. A volume's group may be given access by whoever mounts it; the world never is.
    if about.permissions().mode() & 0o002 != 0 {
        return Err(io::Error::other("anybody may write it"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::other("it is too large"));
    }
    Ok(bytes)
}

/// A reader sees the old file or the new one, whatever happens to us or to the machine in between.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.{:016x}", fastrand::u64(..)));
    let written = (|| {
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    })();
    if written.is_err() {
        // Best effort: what matters was said.
        let _ = std::fs::remove_file(&beside);
        return written;
    }
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // The new name survives a power cut with this; the file is whole without it.
    std::fs::File::open(directory)?.sync_all()
}
