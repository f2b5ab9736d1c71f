//! The configuration file.

use std::io;
use std::path::Path;

use crate::config::{Environment, Mode, Overrides, load_str};

/// Nobody's environment and no files: what is loaded depends on the text alone.
struct Nowhere;

impl Environment for Nowhere {
    fn var(&self, name: &str) -> Option<String> {
        (name == "SECRET").then(|| "s3cr3t-of-somebody".to_owned())
    }

    fn read(&self, _: &Path) -> io::Result<String> {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// Loads the text. No text may take long (libFuzzer's `-timeout`), and no diagnostic may be longer than the reader's
/// patience or hold a secret.
pub fn config(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    for mode in [Mode::Online, Mode::Offline] {
        let loaded = load_str("fuzz.yaml", text, &Overrides::default(), &Nowhere, mode);
        let said = match &loaded {
            Ok(loaded) => &loaded.warnings,
            Err(problems) => {
                assert!(!problems.is_empty(), "refused without a word");
                problems
            }
        };
        for line in said.iter().map(ToString::to_string) {
            assert!(!line.contains("s3cr3t-of-somebody"), "{line}");
        }
    }
}
