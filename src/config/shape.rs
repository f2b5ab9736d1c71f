//! One value against its kind: whether it fits, and what it is called when it does not.

use super::diagnostic::{Fault, nearest};
use super::format;
use super::origin;
use super::schema::{Format, Kind};
use super::tree::{Node, Value, redact};

pub(super) fn is_scalar(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::Flag | Kind::Number { .. } | Kind::Scalar(_) | Kind::Word(_) | Kind::Secret
    )
}

/// Checks a scalar whose references are replaced.
pub(super) fn plain(node: &Node, kind: &Kind) -> Result<(), Fault> {
    let wrong = || {
        Fault::new(format!(
            "expected {}, found {}",
            describe(kind),
            node.shown()
        ))
    };
    let checked = match (kind, &node.value) {
        (Kind::Flag, Value::Flag(_)) => Ok(()),
        (Kind::Flag, Value::Text(text)) => Err(match text.to_ascii_lowercase().as_str() {
            "yes" | "on" => wrong().hint("write `true`"),
            "no" | "off" => wrong().hint("write `false`"),
            _ => wrong(),
        }),
        (Kind::Number { min, max }, Value::Number(number))
            if (i128::from(*min)..=i128::from(*max)).contains(number) =>
        {
            Ok(())
        }
        (Kind::Number { .. }, Value::Text(text)) if text.parse::<u64>().is_ok() => {
            Err(wrong().hint("leave out the quotes"))
        }
        (Kind::Word(words), _) => match node.scalar() {
            Some(text) if words.contains(&text.as_str()) => Ok(()),
            Some(text) => Err(match nearest(&text, words.iter().copied()) {
                Some(meant) => wrong().hint(format!("did you mean `{meant}`?")),
                None => wrong(),
            }),
            None => Err(wrong()),
        },
        (Kind::Scalar(format), Value::Text(text)) => scalar(*format, text),
        (Kind::Scalar(format), Value::Number(_) | Value::Float(_) | Value::Flag(_)) => {
            match node.scalar() {
                Some(text) if explains_numbers(*format) => scalar(*format, &text),
                Some(text) => Err(wrong().hint(format!("put it in quotes: `'{text}'`"))),
                None => Err(wrong()),
            }
        }
        _ => Err(wrong()),
    };
    match &node.written {
        // What came out of a variable may be anything, a secret too: only its name is shown.
        Some(written) => checked.map_err(|_| {
            Fault::new(format!(
                "expected {}, which is not what `{written}` holds",
                describe(kind)
            ))
        }),
        None => checked,
    }
}

/// Formats whose readers say more about a bare number than that it should be quoted.
fn explains_numbers(format: Format) -> bool {
    use Format::*;
    matches!(
        format,
        Duration | DurationOrZero | Size | SizeOrZero | Percent | Address | Peer | Network
    )
}

/// Reads a scalar as its format does.
pub(super) fn scalar(format: Format, text: &str) -> Result<(), Fault> {
    let zero = |what: &str| {
        Fault::new(format!(
            "`{}` is no {what}: it must be more than zero",
            redact(text)
        ))
    };
    match format {
        Format::Duration => match format::duration(text)? {
            std::time::Duration::ZERO => Err(zero("time")),
            _ => Ok(()),
        },
        Format::DurationOrZero => format::duration(text).map(drop),
        Format::Size => match format::size(text)? {
            0 => Err(zero("size")),
            _ => Ok(()),
        },
        Format::SizeOrZero => format::size(text).map(drop),
        Format::Percent => format::percent(text).map(drop),
        Format::Address => format::address(text).map(drop),
        Format::Peer => format::peer(text),
        Format::Network => format::network(text).map(drop),
        Format::Name => format::name(text),
        Format::File => format::file(text),
        Format::Url => format::url(text).map(drop),
        Format::UrlOrFile => format::url_or_file(text),
        Format::Issuer => format::issuer(text),
        Format::Host => format::host(text),
        Format::RoutePath => format::route_path(text),
        Format::Method => format::method(text),
        Format::Origin => origin::origin(text),
        Format::HeaderName => format::header_name(text),
        Format::HeaderValue => format::header_value(text),
        Format::JsonPointer => format::json_pointer(text),
        Format::Scope => format::scope(text),
        Format::Word => format::word(text),
        Format::Text | Format::Template => Ok(()),
    }
}

pub(super) fn either(kinds: &[Kind]) -> String {
    kinds.iter().map(describe).collect::<Vec<_>>().join(" or ")
}

/// What a value of this kind is called in messages and in the reference.
pub(super) fn describe(kind: &Kind) -> String {
    match kind {
        Kind::Flag => "true or false".to_owned(),
        Kind::Number { min, max } => format!("a whole number from {min} to {max}"),
        Kind::Word([word]) => format!("`{word}`"),
        Kind::Word(words) => {
            let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
            format!("one of {}", words.join(", "))
        }
        Kind::Secret => "`${env:NAME}` or `${file:PATH}`".to_owned(),
        Kind::Block(_) | Kind::Map { .. } => "a map".to_owned(),
        Kind::List { .. } => "a list".to_owned(),
        Kind::OneOf(kinds) => either(kinds),
        Kind::Scalar(format) => name_of(*format).to_owned(),
    }
}

pub(super) fn name_of(format: Format) -> &'static str {
    match format {
        Format::Duration | Format::DurationOrZero => "a duration",
        Format::Size | Format::SizeOrZero => "a size",
        Format::Percent => "a percentage",
        Format::Address => "an address to listen on",
        Format::Peer => "an address `host:port`",
        Format::Network => "a network",
        Format::Name => "a name",
        Format::File => "a path",
        Format::Url => "a URL",
        Format::UrlOrFile => "a URL or `file:` and a path",
        Format::Issuer => "an issuer URL",
        Format::Host => "a host name",
        Format::RoutePath => "a route's path",
        Format::Method => "a method",
        Format::Origin => "an origin",
        Format::HeaderName => "a header name",
        Format::HeaderValue => "a header value",
        Format::JsonPointer => "a JSON pointer",
        Format::Scope => "a scope",
        Format::Word | Format::Text | Format::Template => "text",
    }
}
