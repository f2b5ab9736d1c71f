//! One problem in the configuration, and where it is.

use std::fmt;

use super::tree::Position;

/// A problem with its place and, where there is one, what would fix it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    pub file: String,
    /// One-based; a problem with the file as a whole is at 1:1.
    pub line: u64,
    /// One-based, in characters.
    pub column: u64,
    /// Such as `routes[0].match.path`; empty for the whole file.
    pub key_path: String,
    /// Quotes the offending value, but never a secret.
    pub message: String,
    pub hint: Option<String>,
    /// The text is right, but a file that it names cannot be read on this machine.
    pub unreadable: bool,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file, self.line, self.column)?;
        if !self.key_path.is_empty() {
            write!(f, "{}: ", self.key_path)?;
        }
        f.write_str(&self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

/// What is wrong with one value, before anybody knows where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) message: String,
    pub(super) hint: Option<String>,
    unreadable: bool,
}

impl Fault {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Fault {
            message: message.into(),
            hint: None,
            unreadable: false,
        }
    }

    /// Nothing is wrong with the text, but a file that it names cannot be read.
    pub(super) fn unreadable(message: impl Into<String>) -> Self {
        Fault {
            unreadable: true,
            ..Fault::new(message)
        }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Collects the problems of one file.
#[derive(Debug)]
pub(super) struct Report {
    file: String,
    problems: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
    /// Secrets that somebody wrote into the file: an alias can carry them into any other value.
    exposed: Vec<String>,
}

impl Report {
    pub(super) fn new(file: &str) -> Self {
        Report {
            file: file.to_owned(),
            problems: Vec::new(),
            warnings: Vec::new(),
            exposed: Vec::new(),
        }
    }

    /// Hides a text in every message.
    pub(super) fn hide(&mut self, secret: &str) {
        const WORTH_HIDING: usize = 4;
        if secret.len() >= WORTH_HIDING {
            self.exposed.push(secret.to_owned());
        }
    }

    pub(super) fn problem(&mut self, at: Position, key_path: &str, fault: Fault) {
        let diagnostic = self.diagnostic(at, key_path, fault);
        if !self.problems.contains(&diagnostic) {
            self.problems.push(diagnostic);
        }
    }

    pub(super) fn warning(&mut self, at: Position, key_path: &str, fault: Fault) {
        let diagnostic = self.diagnostic(at, key_path, fault);
        self.warnings.push(diagnostic);
    }

    fn diagnostic(&self, at: Position, key_path: &str, fault: Fault) -> Diagnostic {
        Diagnostic {
            file: self.file.clone(),
            line: at.line,
            column: at.column,
            key_path: key_path.to_owned(),
            message: fault.message,
            hint: fault.hint,
            unreadable: fault.unreadable,
        }
    }

    /// The warnings, or all problems; both in the order of the file.
    pub(super) fn finish(mut self) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
        self.problems.sort_by_key(|d| (d.line, d.column));
        self.warnings.sort_by_key(|d| (d.line, d.column));
        for problem in self.problems.iter_mut().chain(&mut self.warnings) {
            for secret in &self.exposed {
                problem.message = problem.message.replace(secret, "***");
                problem.hint = problem.hint.take().map(|hint| hint.replace(secret, "***"));
            }
        }
        if self.problems.is_empty() {
            Ok(self.warnings)
        } else {
            Err(self.problems)
        }
    }
}

/// The known name that somebody most likely meant: at most a third of its letters away.
pub(super) fn nearest<'a>(
    written: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| {
            (
                distance(&written.to_lowercase(), &name.to_lowercase()),
                name,
            )
        })
        .filter(|(distance, name)| *distance <= (name.chars().count() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Edits between two words, a swap of neighbours counting as one.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(64).collect();
    let b: Vec<char> = b.chars().take(64).collect();
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1)
                .min(row[j - 1] + 1)
                .min(rows[i - 1][j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_name_that_was_meant() {
        let known = ["accounts", "loans", "cards"];
        assert_eq!(nearest("acounts", known), Some("accounts"));
        assert_eq!(nearest("laons", known), Some("loans"));
        assert_eq!(nearest("Cards", known), Some("cards"));
        assert_eq!(nearest("payments", known), None);
    }

    #[test]
    fn prints_place_message_and_hint() {
        let mut report = Report::new("a.yaml");
        report.problem(
            Position { line: 3, column: 5 },
            "routes[0].name",
            Fault::new("no").hint("yes"),
        );
        let problems = report.finish().expect_err("a problem");
        assert_eq!(
            problems[0].to_string(),
            "a.yaml:3:5: routes[0].name: no\n  hint: yes"
        );
    }
}
