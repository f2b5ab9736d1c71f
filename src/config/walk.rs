//! The structural check: the tree against the table, without stopping.
//!
//! It also replaces `${env:…}` in place, because only the table knows which values are secrets.

use super::Mode;
use super::diagnostic::{Fault, Report, nearest};
use super::environment::{self, Environment, Expanded};
use super::schema::{Block, Format, Key, Kind, Presence, ROOT};
use super::shape::{describe, either, is_scalar, plain, scalar};
use super::tree::{Entry, Node, Value, redact};

/// Reports every problem that can be seen in one value alone.
pub(super) fn check(root: &mut Node, env: &dyn Environment, mode: Mode, report: &mut Report) {
    let mut walk = Walk { env, mode, report };
    walk.value(root, &Kind::Block(&ROOT), "");
}

/// Checks one value by itself.
#[cfg(test)]
pub(super) fn check_value(
    node: &mut Node,
    kind: &Kind,
    env: &dyn Environment,
    report: &mut Report,
) {
    let mut walk = Walk {
        env,
        mode: Mode::Online,
        report,
    };
    walk.value(node, kind, "value");
}

struct Walk<'a> {
    env: &'a dyn Environment,
    mode: Mode,
    report: &'a mut Report,
}

pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        redact(key)
    } else {
        format!("{path}.{}", redact(key))
    }
}

impl Walk<'_> {
    fn value(&mut self, node: &mut Node, kind: &Kind, path: &str) {
        match kind {
            Kind::Block(block) => match &mut node.value {
                Value::Map(entries) => {
                    let missing = self.block(entries, block, path);
                    for key in missing {
                        let fault = Fault::new("is required, but not there")
                            .hint(format!("write `{}: …`. {}", key.name, key.doc));
                        self.report.problem(node.at, &join(path, key.name), fault);
                    }
                }
                _ => self.wrong_type(node, kind, path),
            },
            Kind::List { of, min } => match &mut node.value {
                Value::List(items) => {
                    if items.len() < *min {
                        let fault = Fault::new("is empty")
                            .hint("write at least one entry, or leave an optional key out");
                        self.report.problem(node.at, path, fault);
                    }
                    for (index, item) in items.iter_mut().enumerate() {
                        self.value(item, of, &format!("{path}[{index}]"));
                    }
                }
                _ => self.wrong_type(node, kind, path),
            },
            Kind::Map { key, value, min } => match &mut node.value {
                Value::Map(entries) => {
                    if entries.len() < *min {
                        let fault = Fault::new("is empty")
                            .hint("write at least one entry, or leave an optional key out");
                        self.report.problem(node.at, path, fault);
                    }
                    self.duplicates(entries, path, *key == Format::HeaderName);
                    for entry in entries {
                        let path = join(path, &entry.key);
                        if let Err(fault) = scalar(*key, &entry.key) {
                            self.report.problem(entry.at, &path, fault);
                        }
                        self.value(&mut entry.node, value, &path);
                    }
                }
                _ => self.wrong_type(node, kind, path),
            },
            Kind::OneOf(kinds) => self.one_of(node, kinds, path),
            Kind::Secret => {
                let fault = match &node.value {
                    Value::Text(text) => environment::secret(text).err(),
                    _ => environment::secret("").err(),
                };
                if let Some(fault) = fault {
                    self.hide(node);
                    self.report.problem(node.at, path, fault);
                }
            }
            Kind::Flag | Kind::Number { .. } | Kind::Scalar(_) | Kind::Word(_) => {
                if self.expand(node, kind, path)
                    && let Err(fault) = plain(node, kind)
                {
                    self.report.problem(node.at, path, fault);
                }
            }
        }
    }

    /// Walks the entries and returns the required keys that are not there.
    fn block(&mut self, entries: &mut [Entry], block: &Block, path: &str) -> Vec<&'static Key> {
        self.duplicates(entries, path, false);
        for entry in entries.iter_mut() {
            let path = join(path, &entry.key);
            let Some(key) = block.key(&entry.key) else {
                self.unknown(entry, block, &path);
                continue;
            };
            self.value(&mut entry.node, &key.kind, &path);
        }
        let here = |key: &Key| entries.iter().any(|entry| entry.key == key.name);
        block
            .keys
            .iter()
            .filter(|key| key.presence == Presence::Required && !here(key))
            .collect()
    }

    fn unknown(&mut self, entry: &Entry, block: &Block, path: &str) {
        let fault = Fault::new(format!("unknown key `{}`", redact(&entry.key)));
        let elsewhere = block.misplaced.iter().find(|(name, _)| *name == entry.key);
        let names = || block.keys.iter().map(|key| key.name);
        let hint = match (elsewhere, nearest(&entry.key, names())) {
            (Some((_, instead)), _) => (*instead).to_owned(),
            (None, Some(meant)) => format!("did you mean `{meant}`?"),
            (None, None) => format!("known here: {}", names().collect::<Vec<_>>().join(", ")),
        };
        self.report.problem(entry.at, path, fault.hint(hint));
    }

    fn duplicates(&mut self, entries: &[Entry], path: &str, ignore_case: bool) {
        let same = |a: &str, b: &str| a == b || ignore_case && a.eq_ignore_ascii_case(b);
        for (index, entry) in entries.iter().enumerate() {
            let first = entries[..index].iter().find(|e| same(&e.key, &entry.key));
            if let Some(first) = first {
                let fault = Fault::new(format!(
                    "duplicate key `{}`, first at {}:{}",
                    redact(&entry.key),
                    first.at.line,
                    first.at.column
                ));
                let fault = fault.hint("keep one of the two");
                self.report
                    .problem(entry.at, &join(path, &entry.key), fault);
            }
        }
    }

    fn one_of(&mut self, node: &mut Node, kinds: &[Kind], path: &str) {
        let fits = |kind: &&Kind| match &node.value {
            Value::Map(_) => matches!(kind, Kind::Block(_) | Kind::Map { .. }),
            Value::List(_) => matches!(kind, Kind::List { .. }),
            Value::Null => false,
            _ => is_scalar(kind),
        };
        let candidates: Vec<&Kind> = kinds.iter().filter(fits).collect();
        match candidates[..] {
            [] => {
                let expected = either(kinds);
                let fault = Fault::new(format!("expected {expected}, found {}", node.shown()));
                self.report.problem(node.at, path, fault);
            }
            // A lone word says too little about what else may stand here.
            [only] if !matches!(only, Kind::Word(_)) => self.value(node, only, path),
            _ => {
                if !self.expand(node, candidates[0], path) {
                    return;
                }
                if !candidates.iter().any(|kind| plain(node, kind).is_ok()) {
                    let fault = Fault::new(format!(
                        "expected {}, found {}",
                        either(kinds),
                        node.shown()
                    ));
                    self.report.problem(node.at, path, fault);
                }
            }
        }
    }

    fn wrong_type(&mut self, node: &Node, kind: &Kind, path: &str) {
        let expected = describe(kind);
        let mut fault = Fault::new(format!("expected {expected}, found {}", node.shown()));
        if let (Kind::List { .. }, Some(text)) = (kind, node.scalar()) {
            let plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | '+');
            fault = fault.hint(match text.chars().all(plain) {
                true => format!("write `[{text}]`"),
                false => format!("write `['{}']`", redact(&text)),
            });
        }
        self.report.problem(node.at, path, fault);
    }

    fn hide(&mut self, node: &Node) {
        match &node.value {
            Value::List(items) => items.iter().for_each(|item| self.hide(item)),
            Value::Map(entries) => entries.iter().for_each(|entry| self.hide(&entry.node)),
            _ => self.report.hide(&node.scalar().unwrap_or_default()),
        }
    }

    /// Replaces references; false if there is nothing left to check.
    fn expand(&mut self, node: &mut Node, kind: &Kind, path: &str) -> bool {
        let text = match &node.value {
            Value::Text(text) if text.contains("${") => text.clone(),
            _ => return true,
        };
        if matches!(kind, Kind::Scalar(Format::Template)) {
            return true;
        }
        match environment::expand(&text, self.env) {
            Ok(Expanded::Text(value)) => {
                node.value = match (kind, value.parse::<i128>(), value.parse::<bool>()) {
                    (Kind::Flag, _, Ok(flag)) => Value::Flag(flag),
                    (Kind::Number { .. } | Kind::Word(_), Ok(number), _) => Value::Number(number),
                    _ => Value::Text(value),
                };
                node.written = Some(text);
                true
            }
            Ok(Expanded::Unset(name)) => {
                if self.mode == Mode::Online {
                    let fault = Fault::new(format!("the environment variable `{name}` is not set"))
                        .hint("set it, or check with `--offline`");
                    self.report.problem(node.at, path, fault);
                }
                node.value = Value::Deferred(text);
                false
            }
            Err(fault) => {
                self.report.problem(node.at, path, fault);
                node.value = Value::Deferred(text);
                false
            }
        }
    }
}
