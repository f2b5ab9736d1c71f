//! Secrets that cannot be printed.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::kept::{Files, Kept, Reread};
use crate::clock::Clock;

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

/// A text without the one line end that editors and `echo` put behind it.
pub fn without_line_end(text: &str) -> &str {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}

/// A secret that is used for as long as the process lives, and what its text is good for: the text itself, or a key.
pub struct Text<T> {
    secret: Secret,
    /// What its faults begin with.
    name: String,
    read: fn(&str) -> Result<T, String>,
}

/// A secret whose text is used as it is.
pub type Word = Reread<Text<Arc<str>>>;

impl Text<Arc<str>> {
    pub fn word(secret: &Secret, name: String, clock: Clock) -> Word {
        let text = Text {
            secret: secret.clone(),
            name,
            read: |text| Ok(text.into()),
        };
        let (contents, value) = (secret.expose().to_owned(), secret.value.clone());
        Reread::new(Kept::with(text, &contents, value), clock)
    }
}

impl<T: Send + Sync> Text<T> {
    /// # Errors
    /// Why the text is good for nothing.
    pub fn reread(
        secret: &Secret,
        name: String,
        read: fn(&str) -> Result<T, String>,
        clock: Clock,
    ) -> Result<Reread<Self>, String> {
        let text = Text {
            secret: secret.clone(),
            name,
            read,
        };
        let kept = Kept::of(text, &secret.expose().to_owned())?;
        Ok(Reread::new(kept, clock))
    }

    fn fault(&self, why: &dyn fmt::Display) -> String {
        match &self.secret.file {
            Some(file) => format!("{}, {}: {why}", self.name, file.display()),
            None => format!("{}: {why}", self.name),
        }
    }
}

impl<T: Send + Sync> Files for Text<T> {
    type Contents = String;
    type Value = T;

    fn read(&self) -> Result<String, String> {
        let Some(file) = &self.secret.file else {
            return Ok(self.secret.expose().to_owned());
        };
        let text = std::fs::read_to_string(file).map_err(|error| self.fault(&error))?;
        match without_line_end(&text) {
            "" => Err(self.fault(&"it is empty")),
            text => Ok(text.to_owned()),
        }
    }

    fn make(&self, text: &String) -> Result<T, String> {
        (self.read)(text).map_err(|why| self.fault(&why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::Scratch;

    fn no_bang(text: &str) -> Result<String, String> {
        match text.contains('!') {
            true => Err("no good".to_owned()),
            false => Ok(text.to_owned()),
        }
    }

    #[tokio::test]
    async fn a_secret_file_is_read_again_at_most_once_a_second() {
        let scratch = Scratch::new();
        let write = |text: &str| scratch.write("secret", text);
        let file = write("one\n");
        let clock = Clock::manual(1_790_000_000);
        let second = std::time::Duration::from_secs(1);
        let secret = Secret::from_file("one", file.clone());
        let secret = Text::reread(&secret, "its.name".to_owned(), no_bang, clock.clone());
        let secret = secret.expect("a good secret");
        assert_eq!(secret.current().await, "one");
        write("two\n");
        assert_eq!(secret.current().await, "one");
        clock.advance(second);
        assert_eq!(secret.current().await, "two");
        // What cannot be read or used leaves the last one.
        for text in ["worse!", "", "\r\n"] {
            write(text);
            clock.advance(second);
            assert_eq!(secret.current().await, "two", "{text:?}");
        }
        write("three");
        clock.advance(second);
        assert_eq!(secret.current().await, "three");
        std::fs::remove_file(&file).expect("removed");
        clock.advance(second);
        assert_eq!(secret.current().await, "three");
    }

    #[test]
    fn a_fault_names_the_key_and_the_file_and_not_the_text() {
        let of = |secret: Secret| Text {
            secret,
            name: "its.name".to_owned(),
            read: no_bang,
        };
        let value = of(Secret::from_value("hunter2!"));
        let fault = value.make(&"hunter2!".to_owned());
        assert_eq!(fault, Err("its.name: no good".to_owned()));
        assert_eq!(value.read().as_deref(), Ok("hunter2!"));

        let scratch = Scratch::new();
        let path = scratch.write("secret", "\n");
        let file = of(Secret::from_file("hunter2", path.clone()));
        let empty = format!("its.name, {}: it is empty", path.display());
        assert_eq!(file.read(), Err(empty));
        std::fs::remove_file(&path).expect("removed");
        let absent = file.read().expect_err("no file");
        assert!(absent.starts_with("its.name, ") && !absent.contains("hunter2"));
    }

    #[test]
    fn a_secret_that_is_no_good_at_the_start_is_an_error() {
        let clock = Clock::manual(1_790_000_000);
        let secret = Secret::from_value("worse!");
        let fault = Text::reread(&secret, "its.name".to_owned(), no_bang, clock).err();
        assert_eq!(fault, Some("its.name: no good".to_owned()));
    }
}
