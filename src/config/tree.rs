//! The file as it was written: every entry, duplicates included, with its position.
//!
//! Serde stops at the first thing it does not like. This tree likes everything that is YAML, so that the checks on
//! top of it can report all problems together.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::Spanned;
use serde_yaml::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};

/// One-based line and column, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) line: u64,
    pub(super) column: u64,
}

impl Position {
    pub(super) const START: Position = Position { line: 1, column: 1 };
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) at: Position,
    /// What the file says where a reference was replaced: the only form that messages may show.
    pub(super) written: Option<String>,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    Flag(bool),
    Number(i128),
    Float(f64),
    Text(String),
    /// A text with a reference that an offline check does not resolve.
    Deferred(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) at: Position,
    pub(super) node: Node,
}

/// A file that is not YAML at all.
#[derive(Debug)]
pub(super) struct SyntaxError {
    pub(super) at: Position,
    pub(super) message: String,
}

/// Enough for any configuration that a person wrote, and too little for an alias bomb.
const MAX_NODES: usize = 200_000;
const MAX_DEPTH: usize = 64;

/// Parses one YAML document; an empty one is an empty map.
pub(super) fn parse(text: &str) -> Result<Node, SyntaxError> {
    let options = serde_yaml::options! {
        budget: serde_yaml::budget! {
            max_documents: 1,
            max_nodes: MAX_NODES,
            max_depth: MAX_DEPTH,
        },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        alias_limits: serde_yaml::alias_limits! {
            max_total_replayed_events: MAX_NODES,
            max_replay_stack_depth: 16,
        },
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        reject_unsupported_tags: true,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        with_snippet: false,
    };
    let root: Spanned<Raw> =
        serde_yaml::from_str_with_options(text, options).map_err(|error| SyntaxError {
            at: error.location().map_or(Position::START, position),
            message: headline(&error.to_string()),
        })?;
    let mut root = node(root);
    if matches!(root.value, Value::Null) {
        root.value = Value::Map(Vec::new());
    }
    Ok(root)
}

/// The first line of the parser's message, without the position that the diagnostic carries anyway.
fn headline(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    let line = line
        .rsplit_once(" at line ")
        .map_or(line, |(before, _)| before);
    // What the parser quotes may be a secret that stands in the wrong place.
    let unquoted: Vec<&str> = line.split('`').step_by(2).map(str::trim).collect();
    unquoted
        .join(" … ")
        .trim_end_matches([':', ',', ' ', '…'])
        .to_owned()
}

fn position(location: serde_yaml::Location) -> Position {
    Position {
        line: location.line().max(1),
        column: location.column().max(1),
    }
}

fn node(raw: Spanned<Raw>) -> Node {
    Node {
        at: position(raw.referenced),
        value: raw.value.0,
        written: None,
    }
}

impl Node {
    pub(super) fn entries(&self) -> Option<&[Entry]> {
        match &self.value {
            Value::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// The first entry of that name; later ones are reported as duplicates.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.entries()?
            .iter()
            .find(|entry| entry.key == key)
            .map(|entry| &entry.node)
    }

    pub(super) fn items(&self) -> Option<&[Node]> {
        match &self.value {
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    /// A scalar as text; numbers and flags in their canonical spelling.
    pub(super) fn scalar(&self) -> Option<String> {
        match &self.value {
            Value::Flag(flag) => Some(flag.to_string()),
            Value::Number(number) => Some(number.to_string()),
            Value::Float(float) => Some(float.to_string()),
            Value::Text(text) | Value::Deferred(text) => Some(text.clone()),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    }

    pub(super) fn deferred(&self) -> bool {
        matches!(self.value, Value::Deferred(_))
    }

    /// The value for a message: short, on one line, without what looks like a credential.
    pub(super) fn shown(&self) -> String {
        match &self.value {
            Value::Null => "nothing".to_owned(),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a map".to_owned(),
            _ => {
                let written = self.written.clone().or_else(|| self.scalar());
                format!("`{}`", redact(&written.unwrap_or_default()))
            }
        }
    }
}

/// Hides what is often pasted into the wrong place: key material and the user part of a URL.
pub(super) fn redact(text: &str) -> String {
    const LONGEST: usize = 100;
    if text.contains("-----BEGIN") || text.contains('\n') {
        return "***".to_owned();
    }
    let mut shown: String = match text.rsplit_once('@') {
        Some((user, host)) => match user.split_once("://") {
            Some((scheme, _)) => format!("{scheme}://***@{host}"),
            None => format!("***@{host}"),
        },
        None => text.to_owned(),
    };
    if let Some((end, _)) = shown.char_indices().nth(LONGEST) {
        shown.truncate(end);
        shown.push('…');
    }
    shown
        .chars()
        .flat_map(char::escape_debug_unquoted)
        .collect()
}

trait EscapeControls {
    fn escape_debug_unquoted(self) -> Vec<char>;
}

impl EscapeControls for char {
    /// A message is one line on a terminal: control characters are spelled out, quotes stay as they are.
    fn escape_debug_unquoted(self) -> Vec<char> {
        if self.is_control() {
            self.escape_default().collect()
        } else {
            vec![self]
        }
    }
}

struct Raw(Value);

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor).map(Raw)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Flag(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_f64<E>(self, float: f64) -> Result<Value, E> {
        Ok(Value::Float(float))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element::<Spanned<Raw>>()? {
            items.push(node(item));
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<Raw>>()? {
            let key = node(key);
            let name = key.scalar().ok_or_else(|| {
                serde::de::Error::custom("a key must be a word, not a list, a map or nothing")
            })?;
            let node = node(map.next_value::<Spanned<Raw>>()?);
            entries.push(Entry {
                key: name,
                at: key.at,
                node,
            });
        }
        Ok(Value::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: u64, column: u64) -> Position {
        Position { line, column }
    }

    #[test]
    fn keeps_positions_and_duplicates() {
        let root = parse("a: 1\nb:\n  - x: yes\n    x: true\n  - 007\na: two\n").expect("yaml");
        let entries = root.entries().expect("map");
        let keys: Vec<_> = entries.iter().map(|e| (e.key.as_str(), e.at)).collect();
        assert_eq!(keys, [("a", at(1, 1)), ("b", at(2, 1)), ("a", at(6, 1))]);
        assert_eq!(entries[2].node.at, at(6, 4));
        let items = entries[1].node.items().expect("list");
        let inner = items[0].entries().expect("map");
        assert!(matches!(&inner[0].node.value, Value::Text(t) if t == "yes"));
        assert!(matches!(inner[1].node.value, Value::Flag(true)));
        assert_eq!(inner[1].node.at, at(4, 8));
        assert!(matches!(&items[1].value, Value::Text(t) if t == "007"));
    }

    #[test]
    fn an_empty_file_is_an_empty_map() {
        for text in ["", "# nothing\n", "---\n"] {
            assert!(
                parse(text)
                    .expect("yaml")
                    .entries()
                    .expect("map")
                    .is_empty()
            );
        }
    }

    #[test]
    fn reports_where_the_syntax_breaks() {
        let error = parse("a: 1\nb: [1, 2\nc: 3\n").expect_err("not YAML");
        assert!(error.at.line >= 2, "{error:?}");
        assert!(!error.message.contains('\n') && !error.message.contains(" line "));
    }

    #[test]
    fn an_alias_bomb_is_refused() {
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..10 {
            let refs = vec![format!("*a{}", level - 1); 10].join(",");
            bomb.push_str(&format!("a{level}: &a{level} [{refs}]\n"));
        }
        parse(&bomb).expect_err("too large");
        parse(&"[".repeat(5000)).expect_err("too deep");
    }

    #[test]
    fn hides_what_looks_like_a_credential() {
        assert_eq!(
            redact("https://user:hunter2@host/path"),
            "https://***@host/path"
        );
        assert_eq!(redact("-----BEGIN PRIVATE KEY-----"), "***");
        assert_eq!(redact("a\u{1b}[31m"), "a\\u{1b}[31m");
    }
}
