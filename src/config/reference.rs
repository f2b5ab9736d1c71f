//! What is generated from the table: the JSON Schema and the reference manual.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::schema::{self, Block, Format, Kind, Presence, ROOT};
use super::{shape, tree};

const REFERENCE: &str = r"\$\{env:[A-Za-z_][A-Za-z0-9_]*\}";

/// The JSON Schema (draft 2020-12) of the configuration, pretty-printed.
pub fn json_schema() -> String {
    let mut definitions = Map::new();
    for block in schema::blocks() {
        definitions.insert(definition(block), block_schema(block));
    }
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Portcullis configuration",
        "$ref": pointer(&ROOT),
        "$defs": definitions,
    });
    format!("{schema:#}\n")
}

/// A name that needs no escapes in a URI fragment.
fn definition(block: &Block) -> String {
    block.name.replace("[]", "").replace(", ", "-")
}

fn pointer(block: &Block) -> String {
    format!("#/$defs/{}", definition(block))
}

fn block_schema(block: &Block) -> Value {
    let mut properties = Map::new();
    for key in block.keys {
        let mut schema = kind_schema(&key.kind);
        if let Value::Object(fields) = &mut schema {
            fields.insert("description".to_owned(), key.doc.into());
            if let Presence::Default(text) = key.presence {
                fields.insert("default".to_owned(), default_value(text));
            }
        }
        properties.insert(key.name.to_owned(), schema);
    }
    let required: Vec<&str> = block
        .keys
        .iter()
        .filter(|key| key.presence == Presence::Required)
        .map(|key| key.name)
        .collect();
    json!({
        "type": "object",
        "description": block.doc,
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn default_value(text: &str) -> Value {
    fn value(node: &tree::Node) -> Value {
        match &node.value {
            tree::Value::Flag(flag) => (*flag).into(),
            tree::Value::Number(number) => i64::try_from(*number).unwrap_or_default().into(),
            tree::Value::List(items) => items.iter().map(value).collect(),
            _ => node.scalar().into(),
        }
    }
    tree::parse(text).map_or(Value::Null, |node| value(&node))
}

fn kind_schema(kind: &Kind) -> Value {
    let from_environment = json!({ "type": "string", "pattern": format!("^{REFERENCE}$") });
    match kind {
        Kind::Flag => json!({ "anyOf": [{ "type": "boolean" }, from_environment] }),
        Kind::Number { min, max } => json!({
            "anyOf": [{ "type": "integer", "minimum": min, "maximum": max }, from_environment]
        }),
        Kind::Word(words) => {
            let numbers = words.iter().filter_map(|word| word.parse::<u64>().ok());
            let words = words.iter().copied().map(Value::from);
            let all: Vec<Value> = words.chain(numbers.map(Value::from)).collect();
            json!({ "anyOf": [{ "enum": all }, from_environment] })
        }
        Kind::Secret => json!({
            "type": "string",
            "pattern": r"^\$\{(env:[A-Za-z_][A-Za-z0-9_]*|file:[^{}]+)\}$",
        }),
        Kind::Scalar(format) => scalar_schema(*format),
        Kind::Block(block) => json!({ "$ref": pointer(block) }),
        Kind::List { of, min } => {
            json!({ "type": "array", "items": kind_schema(of), "minItems": min })
        }
        Kind::Map { value, min, .. } => json!({
            "type": "object",
            "additionalProperties": kind_schema(value),
            "minProperties": min,
        }),
        Kind::OneOf(kinds) => {
            json!({ "anyOf": kinds.iter().map(kind_schema).collect::<Vec<_>>() })
        }
    }
}

/// Patterns for what an editor can tell; the rest is for `portcullis check`.
fn scalar_schema(format: Format) -> Value {
    let pattern = match format {
        Format::Duration | Format::DurationOrZero => r"[0-9]+(ms|s|m|h)",
        Format::Size | Format::SizeOrZero => r"[0-9]+(B|KiB|MiB|GiB)",
        Format::Percent => r"[0-9]+%",
        Format::Name => r"[A-Za-z0-9._-]{1,64}",
        Format::Method => "GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS",
        Format::RoutePath | Format::JsonPointer => "/.*",
        Format::Issuer | Format::Url => "https?://.+",
        Format::UrlOrFile => "(https?://|file:/).+",
        Format::Word
        | Format::File
        | Format::Address
        | Format::Peer
        | Format::Network
        | Format::Host
        | Format::Origin
        | Format::HeaderName
        | Format::HeaderValue
        | Format::Scope => return json!({ "type": "string", "minLength": 1 }),
        Format::Text | Format::Template => return json!({ "type": "string" }),
    };
    let pattern = format!("^({pattern})$|{REFERENCE}");
    match format {
        Format::SizeOrZero => {
            json!({ "anyOf": [{ "const": 0 }, { "type": "string", "pattern": pattern }] })
        }
        _ => json!({ "type": "string", "pattern": pattern }),
    }
}

/// The reference manual: one table per block.
pub fn manual() -> String {
    let mut out = String::from(PREFACE);
    for block in schema::blocks() {
        // Writing to a String cannot fail.
        let _ = section(&mut out, block);
    }
    out
}

const PREFACE: &str = "\
# Configuration

Generated from the table in `src/config/schema.rs`; a test keeps it so. `portcullis check --config FILE` tells
everything that is wrong with a file, and `portcullis schema` prints the same table as a JSON Schema for editors.

- Unknown and duplicate keys, wrong types and contradictions are errors.
- Secrets are never in the file: write `${env:NAME}` or `${file:PATH}`. One newline at the end of a secret's file does
  not belong to the secret. `${env:NAME}` may stand in any other value too.
- Durations are whole numbers with `ms`, `s`, `m` or `h`; sizes with `B`, `KiB`, `MiB` or `GiB`.
- Relative paths start where the gateway was started.
- Lists are not empty: an optional list that should say nothing is left out.
";

fn section(out: &mut String, block: &Block) -> std::fmt::Result {
    match block.name {
        "file" => writeln!(out, "\n## The file\n")?,
        name => writeln!(out, "\n## `{name}`\n")?,
    }
    writeln!(out, "{}\n", block.doc)?;
    writeln!(out, "| Key | Type | Default | Meaning |\n|---|---|---|---|")?;
    for key in block.keys {
        let default = match key.presence {
            Presence::Required => "**required**".to_owned(),
            Presence::Default(text) => format!("`{text}`"),
            Presence::Absent("none") if matches!(key.kind, Kind::Block(_)) => "its own".to_owned(),
            Presence::Absent(meaning) => meaning.to_owned(),
        };
        let kind = type_name(&key.kind).replace('|', "\\|");
        writeln!(out, "| `{}` | {kind} | {default} | {} |", key.name, key.doc)?;
    }
    Ok(())
}

fn type_name(kind: &Kind) -> String {
    match kind {
        Kind::Block(block) => format!("[map](#{})", anchor(block.name)),
        Kind::List { of, .. } => format!("list of: {}", type_name(of)),
        Kind::Map { key, value, .. } => {
            format!(
                "map of {} to: {}",
                bare(shape::name_of(*key)),
                type_name(value)
            )
        }
        Kind::OneOf(kinds) => kinds.iter().map(type_name).collect::<Vec<_>>().join(" or "),
        Kind::Flag => "`true` or `false`".to_owned(),
        Kind::Number { min, max } => format!("{min} to {max}"),
        Kind::Word(words) => {
            let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
            words.join(", ")
        }
        Kind::Secret => "secret".to_owned(),
        Kind::Scalar(format) => bare(shape::name_of(*format)).to_owned(),
    }
}

fn bare(name: &str) -> &str {
    name.trim_start_matches("a ").trim_start_matches("an ")
}

/// The fragment that a forge makes of a heading.
fn anchor(heading: &str) -> String {
    heading
        .to_lowercase()
        .chars()
        .filter_map(|c| match c {
            ' ' => Some('-'),
            c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
            _ => None,
        })
        .collect()
}
