//! The file in which revocations survive a restart: one JSON object a line, changes at the end.
//!
//! Written whole it is written beside itself and renamed, so that there is always a whole one. A change is one line at
//! its end: writing a hundred thousand revocations anew for each one more would cost more than keeping them does. When
//! the lines that say nothing any more outnumber the others, it is written whole again.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::entry::Written;

/// What the first line says of the file.
const FORMAT: &str = "portcullis revocations 1";
/// Far longer than any line of ours.
const MAX_LINE: u64 = 16 * 1024;
/// So many lines are never too many.
const FEW: usize = 1024;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    format: String,
    /// How many lines were written together with this one.
    lines: usize,
}

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Record {
    Revoked(Written),
    /// The name of an entry that was taken out.
    Restored(String),
    NotBefore {
        issuer: String,
        polled: u64,
        pushed: u64,
    },
}

pub(super) struct Journal {
    path: PathBuf,
    file: File,
    lines: usize,
    /// As many lines as call for the whole to be written again.
    too_many: usize,
    /// The end of the file is not what it should be: the next change writes the whole.
    torn: bool,
    /// Held for as long as this lives: of two processes one would write into what the other has replaced.
    _lock: File,
}

impl Journal {
    /// Opens or makes the file; each line that it has goes to `read`, which says what is wrong with it.
    pub(super) fn open(
        path: &Path,
        mut read: impl FnMut(Record) -> Result<(), String>,
    ) -> Result<Unwritten, String> {
        let broken = |what: String| format!("revocations.file: {}: {what}", path.display());
        let lock = lock(path).map_err(broken)?;
        match File::open(path) {
            Ok(file) => read_all(file, &mut read).map_err(|what| {
                broken(format!(
                    "{what}; bring back a good copy, or move it away to start with no revocations"
                ))
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                log::info!("revocations.file: {} is new", path.display());
            }
            Err(error) => return Err(broken(error.to_string())),
        }
        Ok(Unwritten {
            path: path.to_owned(),
            lock,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// One change, on the disk when this returns. `all` gives everything that holds after it.
    pub(super) fn append(
        &mut self,
        record: &Record,
        all: impl FnOnce() -> Vec<Record>,
    ) -> io::Result<()> {
        if self.torn || self.lines >= self.too_many {
            let all = all();
            // Until it succeeds, whatever follows must try again.
            self.torn = true;
            self.file = write_whole(&self.path, &all)?;
            self.written(all.len());
            return Ok(());
        }
        self.torn = true;
        self.file.write_all(&line(record)?)?;
        self.file.sync_data()?;
        self.torn = false;
        self.lines += 1;
        Ok(())
    }

    fn written(&mut self, lines: usize) {
        self.lines = lines;
        self.too_many = lines.saturating_mul(2).saturating_add(FEW);
        self.torn = false;
    }
}

/// A file that was read and has still to show that it can be written.
#[derive(Debug)]
pub(super) struct Unwritten {
    path: PathBuf,
    lock: File,
}

impl Unwritten {
    pub(super) fn write(self, all: &[Record]) -> Result<Journal, String> {
        let file = write_whole(&self.path, all)
            .map_err(|error| format!("revocations.file: {}: {error}", self.path.display()))?;
        let mut journal = Journal {
            path: self.path,
            file,
            lines: 0,
            too_many: 0,
            torn: false,
            _lock: self.lock,
        };
        journal.written(all.len());
        Ok(journal)
    }
}

/// A lock beside the file, because the file itself is replaced.
fn lock(path: &Path) -> Result<File, String> {
    let path = beside(path, ".lock");
    let lock = options()
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|error| format!("cannot make {}: {error}", path.display()))?;
    match lock.try_lock() {
        Err(TryLockError::WouldBlock) => {
            Err("another process writes it; give each gateway a file of its own".to_owned())
        }
        // Some file systems have no locks.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(lock),
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn write_whole(path: &Path, all: &[Record]) -> io::Result<File> {
    let new = beside(path, ".new");
    // One that a crash left behind may have other rights.
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut out = BufWriter::new(options().create_new(true).open(&new)?);
    out.write_all(&line(&Head {
        format: FORMAT.to_owned(),
        lines: all.len(),
    })?)?;
    for record in all {
        out.write_all(&line(record)?)?;
    }
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    // The name itself is on the disk only when its directory is.
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(directory)?.sync_all()?;
    Ok(file)
}

fn line(of: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(of)?;
    line.push(b'\n');
    Ok(line)
}

fn read_all(file: File, read: &mut impl FnMut(Record) -> Result<(), String>) -> Result<(), String> {
    let mut lines = Lines {
        reader: BufReader::new(file),
        number: 0,
    };
    let Some(Line::Whole(head)) = lines.next()? else {
        return Err("it is cut off in its first line".to_owned());
    };
    let not_ours = |_| "its first line is not that of a file of revocations".to_owned();
    let head: Head = serde_json::from_slice(&head).map_err(not_ours)?;
    if head.format != FORMAT {
        return Err("its first line names a format that this version does not know".to_owned());
    }
    loop {
        let number = lines.number + 1;
        let record = match lines.next()? {
            Some(Line::Whole(record)) => record,
            // What was written with the head was renamed into place whole: then somebody cut the file.
            _ if number <= head.lines + 1 => {
                return Err(format!(
                    "it should have {} lines and is cut off",
                    head.lines + 1
                ));
            }
            Some(Line::Torn) => {
                // Nobody was told that this one is kept.
                log::warn!("revocations.file: line {number} was never finished and is left out");
                return Ok(());
            }
            None => return Ok(()),
        };
        let record = serde_json::from_slice(&record).map_err(|error| error.to_string());
        record
            .and_then(&mut *read)
            .map_err(|what| format!("line {number} is no revocation: {what}"))?;
    }
}

struct Lines {
    reader: BufReader<File>,
    number: usize,
}

enum Line {
    Whole(Vec<u8>),
    /// Without its end.
    Torn,
}
impl Lines {
    fn next(&mut self) -> Result<Option<Line>, String> {
        let mut line = Vec::new();
        let mut reader = self.reader.by_ref().take(MAX_LINE);
        let read = reader.read_until(b'\n', &mut line);
        self.number += 1;
        read.map_err(|error| error.to_string())?;
        if line.pop_if(|byte| *byte == b'\n').is_some() {
            return Ok(Some(Line::Whole(line)));
        }
        match line.len() as u64 {
            0 => Ok(None),
            MAX_LINE => Err(format!("line {} is too long", self.number)),
            _ => Ok(Some(Line::Torn)),
        }
    }
}
