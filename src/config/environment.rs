//! `${env:NAME}` and `${file:PATH}`: where values come from that do not stand in the file.

use std::io;
use std::path::{Path, PathBuf};

use super::diagnostic::Fault;

/// The outside world as the configuration sees it, so that the demo and the tests can bring their own.
pub trait Environment {
    /// An environment variable, if it is set and text.
    fn var(&self, name: &str) -> Option<String>;

    /// The whole of a text file: a secret, or something that must be readable before we start.
    fn read(&self, path: &Path) -> io::Result<String>;

    /// Whether files can stand here.
    fn is_directory(&self, path: &Path) -> bool {
        path.is_dir()
    }
}

/// The process's own environment and file system.
#[derive(Debug, Clone, Copy)]
pub struct System;

impl Environment for System {
    fn var(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        std::fs::read_to_string(path)
    }
}

/// A secret's place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reference {
    Variable(String),
    File(PathBuf),
}

/// Reads `${env:NAME}` or `${file:PATH}` and nothing around it. The fault never repeats the text: it may be the secret.
pub(super) fn secret(text: &str) -> Result<Reference, Fault> {
    let inner = text.strip_prefix("${").and_then(|t| t.strip_suffix('}'));
    let reference = inner.and_then(|inner| match inner.split_once(':')? {
        ("env", name) if variable_name(name) => Some(Reference::Variable(name.to_owned())),
        ("file", path) if !path.is_empty() && !path.contains(['{', '}', '\n', '\0']) => {
            Some(Reference::File(PathBuf::from(path)))
        }
        _ => None,
    });
    reference.ok_or_else(|| {
        Fault::new("a secret is never written in this file")
            .hint("write `${env:NAME}` or `${file:PATH}`, and put the secret there")
    })
}

fn variable_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// A text whose references were replaced.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Expanded {
    Text(String),
    /// Some variable is not set.
    Unset(String),
}

/// Replaces each `${env:NAME}` in a text that is not a secret.
pub(super) fn expand(text: &str, env: &dyn Environment) -> Result<Expanded, Fault> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        out.push_str(before);
        let (inner, after) = after
            .split_once('}')
            .ok_or_else(|| Fault::new("`${` is never closed").hint("write `${env:NAME}`"))?;
        let name = match inner.split_once(':') {
            Some(("env", name)) if variable_name(name) => name,
            Some(("file", _)) => {
                return Err(Fault::new("`${file:…}` is for secrets alone")
                    .hint("write the value, or `${env:NAME}`"));
            }
            _ => {
                return Err(
                    Fault::new("`${…}` is no reference that we know").hint("write `${env:NAME}`")
                );
            }
        };
        match env.var(name) {
            Some(value) => out.push_str(&value),
            None => return Ok(Expanded::Unset(name.to_owned())),
        }
        rest = after;
    }
    out.push_str(rest);
    Ok(Expanded::Text(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct One;

    impl Environment for One {
        fn var(&self, name: &str) -> Option<String> {
            (name == "PORT").then(|| "8072".to_owned())
        }

        fn read(&self, _: &Path) -> io::Result<String> {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    #[test]
    fn replaces_variables_and_nothing_else() {
        let text = |t: &str| Ok(Expanded::Text(t.to_owned()));
        assert_eq!(
            expand("a:${env:PORT}/${env:PORT}", &One),
            text("a:8072/8072")
        );
        assert_eq!(expand("$PORT {env:PORT}", &One), text("$PORT {env:PORT}"));
        assert_eq!(
            expand("${env:NO}", &One),
            Ok(Expanded::Unset("NO".to_owned()))
        );
        for wrong in [
            "${file:/a}",
            "${PORT}",
            "${env:}",
            "${env:A-B}",
            "${env:PORT",
        ] {
            expand(wrong, &One).expect_err(wrong);
        }
    }

    #[test]
    fn a_secret_is_one_reference() {
        assert_eq!(
            secret("${env:A_1}"),
            Ok(Reference::Variable("A_1".to_owned()))
        );
        assert_eq!(
            secret("${file:/run/s}"),
            Ok(Reference::File("/run/s".into()))
        );
        for wrong in [
            "hunter2",
            "",
            "a${env:A}",
            "${env:A}b",
            "${env:1}",
            "${file:}",
            "${vault:x}",
            "${env:A}${env:B}",
        ] {
            let fault = secret(wrong).expect_err(wrong);
            assert!(wrong.is_empty() || !format!("{fault:?}").contains(wrong));
        }
    }
}
