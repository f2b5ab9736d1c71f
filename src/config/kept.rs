//! What is made of files: they are read again when they have changed, and what cannot be used leaves what was there.

mod reread;

use std::fmt::Display;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};

pub use reread::Reread;

/// Files that are one thing together: a certificate and its key, say.
pub trait Files: Send + Sync {
    /// What is in them at one moment.
    type Contents: Hash;
    /// What they are good for.
    type Value;

    /// # Errors
    /// Why they cannot be read, naming the file.
    fn read(&self) -> Result<Self::Contents, String>;

    /// # Errors
    /// What is wrong with them, naming the file and quoting nothing of it.
    fn make(&self, contents: &Self::Contents) -> Result<Self::Value, String>;
}

/// The last good value of some files.
pub struct Kept<F: Files> {
    files: F,
    value: ArcSwap<F::Value>,
    /// What the files held when they were last looked at, or why they could not be read. Only the contents tell: a
    /// mounted secret changes by a link that is put in place of another, and times and sizes may stay.
    seen: Mutex<Result<u64, String>>,
}

impl<F: Files> Kept<F> {
    /// # Errors
    /// The first thing that is wrong with the files.
    pub fn open(files: F) -> Result<Self, String> {
        let contents = files.read()?;
        Self::of(files, &contents)
    }

    /// From what was in them when somebody else has read them.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn of(files: F, contents: &F::Contents) -> Result<Self, String> {
        let value = files.make(contents)?;
        Ok(Self::with(files, contents, value))
    }

    /// With what was made of them already.
    pub fn with(files: F, contents: &F::Contents, value: F::Value) -> Self {
        Kept {
            value: ArcSwap::from_pointee(value),
            seen: Mutex::new(Ok(hash(contents))),
            files,
        }
    }

    pub fn value(&self) -> Guard<Arc<F::Value>> {
        self.value.load()
    }

    /// Looks at the files again. `None`: nothing has changed since the last look, and so each change and each fault is
    /// told once. Whoever has the old value keeps it.
    ///
    /// # Errors
    /// As [`Kept::open`].
    pub fn refresh(&self) -> Option<Result<(), String>> {
        let contents = self.files.read();
        let now = contents.as_ref().map(hash).map_err(Clone::clone);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == now {
            return None;
        }
        *seen = now;
        let made = contents.and_then(|contents| self.files.make(&contents));
        Some(made.map(|value| self.value.store(Arc::new(value))))
    }
}

/// One number for what was read. Nobody but the operator writes the files, so nobody looks for two with the same.
pub fn hash(contents: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    contents.hash(&mut hasher);
    hasher.finish()
}

/// A whole file that is good for `what`.
///
/// # Errors
/// As [`Files::read`].
pub fn read(path: &Path, what: &str) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| unusable(path, what, &error))
}

pub fn unusable(path: &Path, what: &str, why: &dyn Display) -> String {
    format!("cannot use the {what} {}: {why}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a test says is in the files; what has a `!` is good for nothing.
    #[derive(Default)]
    struct Script(Mutex<Option<String>>);

    impl Files for Script {
        type Contents = String;
        type Value = String;

        fn read(&self) -> Result<String, String> {
            let text = self.0.lock().expect("no panic").clone();
            text.ok_or_else(|| "it is away".to_owned())
        }

        fn make(&self, text: &String) -> Result<String, String> {
            match text.contains('!') {
                true => Err("it is no good".to_owned()),
                false => Ok(text.clone()),
            }
        }
    }

    #[test]
    fn the_last_good_one_stays_and_each_change_is_told_once() {
        let kept = Kept::of(Script::default(), &"one".to_owned()).expect("good");
        let away = || Some(Err("it is away".to_owned()));
        let no_good = || Some(Err("it is no good".to_owned()));
        for (text, told, value) in [
            (None, away(), "one"),
            (None, None, "one"),
            (Some("two!"), no_good(), "one"),
            (Some("two!"), None, "one"),
            (Some("three!"), no_good(), "one"),
            (Some("two"), Some(Ok(())), "two"),
            (Some("two"), None, "two"),
            (None, away(), "two"),
            // Back again: nothing was lost, and it is worth a line.
            (Some("two"), Some(Ok(())), "two"),
        ] {
            *kept.files.0.lock().expect("no panic") = text.map(str::to_owned);
            assert_eq!(kept.refresh(), told, "{text:?}");
            assert_eq!(**kept.value(), value, "{text:?}");
        }
    }

    #[test]
    fn what_is_no_good_at_the_start_is_an_error() {
        let away = Kept::open(Script::default()).err();
        assert_eq!(away.as_deref(), Some("it is away"));
        let no_good = Kept::of(Script::default(), &"!".to_owned()).err();
        assert_eq!(no_good.as_deref(), Some("it is no good"));
    }
}
