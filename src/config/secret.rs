//! Secrets that cannot be printed.

mod reread;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

pub use reread::Reread;

/// A secret from the environment or a file. It has no `Display`, and `Debug` shows three stars.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    value: Arc<str>,
    /// A file secret is read again when the file changes.
    file: Option<PathBuf>,
}

impl Secret {
    pub fn from_value(value: impl Into<Arc<str>>) -> Self {
        Secret {
            value: value.into(),
            file: None,
        }
    }

    pub fn from_file(value: impl Into<Arc<str>>, file: PathBuf) -> Self {
        Secret {
            value: value.into(),
            file: Some(file),
        }
    }

    /// The secret itself, for the one place that sends or compares it.
    pub fn expose(&self) -> &str {
        &self.value
    }

    pub fn file(&self) -> Option<&PathBuf> {
        self.file.as_ref()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
