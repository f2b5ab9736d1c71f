//! From a YAML file to a [`Plan`], with every problem reported at once.
//!
//! `tree` keeps the file as it was written, `walk` holds it against the table in `schema` and `lower` turns it into
//! the plan. Each of them goes on after a problem, so that none hides another.

pub mod diagnostic;
pub mod environment;
pub mod kept;
pub mod pair;
pub mod plan;
pub mod private_key;
pub mod reference;
pub mod secret;

mod format;
mod lower;
mod origin;
mod schema;
mod shape;
mod summary;
mod tree;
mod view;
mod walk;

#[cfg(test)]
mod tests;

use std::io::Read;
use std::path::Path;

pub use diagnostic::Diagnostic;
pub use environment::{Environment, System};
pub use plan::Plan;
pub use summary::summary;

use diagnostic::{Fault, Report};
use tree::{Node, Position, Value};

/// Whether the machine that checks is the one that will serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Unset variables and absent files are problems.
    Online,
    /// They are not, and a plan that lacks them is good for nothing but its summary.
    Offline,
}

/// A configuration without a problem.
#[derive(Debug)]
pub struct Loaded {
    pub plan: Plan,
    /// What is allowed but seldom meant.
    pub warnings: Vec<Diagnostic>,
}

/// Values that stand in for those of the file: the demo moves its ports with them.
#[derive(Clone, Debug, Default)]
pub struct Overrides(Vec<(String, String)>);

impl Overrides {
    /// Each scalar that is exactly `written` reads as `instead`. One that is nowhere in the file is a problem.
    pub fn replace(mut self, written: impl Into<String>, instead: impl Into<String>) -> Self {
        self.0.push((written.into(), instead.into()));
        self
    }
}

/// Larger files are a mistake, and a mistake should not cost memory.
const MAX_FILE: u64 = 1 << 20;

/// Loads a file.
///
/// # Errors
///
/// All problems, in the order of the file.
pub fn load(path: &Path, env: &dyn Environment, mode: Mode) -> Result<Loaded, Vec<Diagnostic>> {
    let name = path.display().to_string();
    match read(path) {
        Ok(text) => load_str(&name, &text, &Overrides::default(), env, mode),
        Err(fault) => Err(whole_file(&name, fault)),
    }
}

/// Loads a text; `name` stands for the file in diagnostics.
///
/// # Errors
///
/// All problems, in the order of the text.
pub fn load_str(
    name: &str,
    text: &str,
    overrides: &Overrides,
    env: &dyn Environment,
    mode: Mode,
) -> Result<Loaded, Vec<Diagnostic>> {
    let mut report = Report::new(name);
    let mut root = match tree::parse(text) {
        Ok(root) => root,
        Err(error) => {
            let fault = Fault::new(format!("not YAML: {}", error.message));
            report.problem(error.at, "", fault);
            return Err(report.finish().err().unwrap_or_default());
        }
    };
    let mut used = vec![false; overrides.0.len()];
    replace(&mut root, &overrides.0, &mut used);
    for ((written, _), _) in overrides.0.iter().zip(&used).filter(|(_, used)| !**used) {
        let fault = Fault::new(format!("`{written}` should be replaced, but is not there"));
        report.problem(Position::START, "", fault);
    }
    walk::check(&mut root, env, mode, &mut report);
    let mut context = lower::Context {
        env,
        mode,
        report: &mut report,
    };
    let plan = lower::lower(&root, &mut context);
    let warnings = report.finish()?;
    Ok(Loaded { plan, warnings })
}

fn read(path: &Path) -> Result<String, Fault> {
    let unreadable = |error: std::io::Error| {
        Fault::new(format!("cannot be read: {}", lower::reason(&error)))
            .hint("name the file with `--config FILE`")
    };
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .map_err(unreadable)?
        .take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(Fault::new("is larger than 1MiB"));
    }
    String::from_utf8(bytes).map_err(|_| Fault::new("is not text in UTF-8"))
}

fn whole_file(name: &str, fault: Fault) -> Vec<Diagnostic> {
    let mut report = Report::new(name);
    report.problem(Position::START, "", fault);
    report.finish().err().unwrap_or_default()
}

/// One pass over the file's own values, so that no replacement meets what another one wrote.
fn replace(node: &mut Node, overrides: &[(String, String)], used: &mut [bool]) {
    match &mut node.value {
        Value::Text(text) => {
            if let Some(place) = overrides.iter().position(|(written, _)| written == text) {
                *text = overrides[place].1.clone();
                used[place] = true;
            }
        }
        Value::List(items) => {
            for item in items {
                replace(item, overrides, used);
            }
        }
        Value::Map(entries) => {
            for entry in entries {
                replace(&mut entry.node, overrides, used);
            }
        }
        _ => {}
    }
}
