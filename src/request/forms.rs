//! The forms of a path that servers read differently, and every way in which they may read it.
//!
//! A path without any of them has one reading. With some it is refused, unless its route allows just these; then it is
//! sent as it came, and each of its readings has to lead to that route.

use crate::config::plan::TargetForms;

/// The forms of this path. `None`: nobody may send it, whatever a route allows: dot segments in any disguise, control
/// characters, broken escapes, what is no UTF-8, and `//` at the beginning, which some take for a host.
pub(crate) fn forms_of(path: &str) -> Option<TargetForms> {
    let mut forms = TargetForms::default();
    let mut segments = path.split('/').skip(1).enumerate().peekable();
    while let Some((place, segment)) = segments.next() {
        let last = segments.peek().is_none();
        if segment.is_empty() && !last {
            // An empty segment is `//`, but a final one is only a trailing slash.
            if place == 0 {
                return None;
            }
            forms = forms.with(TargetForms::DOUBLE_SLASH);
        } else if !is_plain(segment) {
            forms = forms.with(forms_of_segment(segment, place == 0, last)?);
        }
    }
    Some(forms)
}

/// RFC 3986 `pchar` without escapes and parameters, and no dot segment: nearly every segment there is.
fn is_plain(segment: &str) -> bool {
    segment.bytes().all(is_path_byte) && segment != "." && segment != ".."
}

fn forms_of_segment(segment: &str, first: bool, last: bool) -> Option<TargetForms> {
    let mut forms = TargetForms::default();
    let bytes = segment.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let mut byte = bytes[at];
        at += 1;
        if byte == b'%' {
            byte = bytes.get(at..at + 2).and_then(hex_pair)?;
            at += 2;
            forms = forms.with(match byte {
                0..=0x1f | 0x7f => return None,
                b'/' => TargetForms::ENCODED_SLASH,
                b'\\' => TargetForms::ENCODED_BACKSLASH,
                b'%' => TargetForms::ENCODED_PERCENT,
                b';' => TargetForms::SEMICOLON,
                // It needs no escape (RFC 3986 section 2.3): that hides a name from those who compare without
                // decoding.
                _ if is_unreserved(byte) => TargetForms::ENCODED_UNRESERVED,
                _ => TargetForms::default(),
            });
        } else if byte == b';' {
            forms = forms.with(TargetForms::SEMICOLON);
        } else if !is_path_byte(byte) {
            return None;
        }
        decoded.push(byte);
    }
    // Overlong and broken UTF-8 decode to `/` and `.` in lenient servers.
    let decoded = std::str::from_utf8(&decoded).ok()?;
    if hides_an_escape(decoded) {
        return None;
    }
    let mut parts = decoded.split(['/', '\\']).enumerate().peekable();
    while let Some((place, part)) = parts.next() {
        let name = part.split(';').next().unwrap_or_default();
        if matches!(name, "." | "..") || name.is_empty() && !part.is_empty() {
            return None;
        }
        if part.is_empty() {
            match (place, parts.peek().is_none()) {
                (0, _) if first => return None,
                (_, true) if last => {}
                _ => forms = forms.with(TargetForms::DOUBLE_SLASH),
            }
        }
    }
    Some(forms)
}

/// Who decodes twice would see another path.
fn hides_an_escape(decoded: &str) -> bool {
    let bytes = decoded.as_bytes();
    let mut percents = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'%');
    percents.any(|(at, _)| {
        let pair = |at: usize| bytes.get(at..at + 2).and_then(hex_pair).is_some();
        // `%u002e` is an escape to some.
        pair(at + 1) || matches!(bytes.get(at + 1), Some(b'u' | b'U')) && pair(at + 2)
    })
}

/// Every path that a server may take this one for, in the spelling that [`crate::route`] matches: the first is the one
/// that takes nothing for structure that is not.
pub(crate) fn readings(path: &str, forms: TargetForms) -> Vec<String> {
    type Read = fn(&str) -> String;
    let structural: [(TargetForms, Read, Read); 5] = [
        // Parameters go first, or when all is decoded.
        (TargetForms::SEMICOLON, without_parameters, str::to_owned),
        // Matching decodes once: a slash that shall stay a character is escaped twice.
        (TargetForms::ENCODED_SLASH, slashes, escaped_slashes),
        (TargetForms::ENCODED_BACKSLASH, backslashes, str::to_owned),
        (TargetForms::SEMICOLON, without_parameters, str::to_owned),
        (TargetForms::DOUBLE_SLASH, merged, str::to_owned),
    ];
    let mut readings = vec![path.to_owned()];
    for (form, taken, left) in structural {
        if forms.has(form) {
            let both = readings.iter().map(|path| left(path));
            readings = both
                .chain(readings.iter().map(|path| taken(path)))
                .collect();
        }
    }
    readings
}

fn without_parameters(path: &str) -> String {
    let cut = |segment: &str| {
        let end = segment
            .char_indices()
            .find(|(at, c)| *c == ';' || is_escape(&segment[*at..], "%3b"))
            .map_or(segment.len(), |(at, _)| at);
        segment[..end].to_owned()
    };
    path.split('/').map(cut).collect::<Vec<_>>().join("/")
}

fn slashes(path: &str) -> String {
    replaced(path, "%2f", "/")
}

fn escaped_slashes(path: &str) -> String {
    replaced(path, "%2f", "%252F")
}

fn backslashes(path: &str) -> String {
    replaced(path, "%5c", "/")
}

fn merged(path: &str) -> String {
    let mut merged = String::with_capacity(path.len());
    for c in path.chars() {
        if c != '/' || !merged.ends_with('/') {
            merged.push(c);
        }
    }
    merged
}

/// `escape` in lower case.
fn replaced(path: &str, escape: &str, with: &str) -> String {
    let mut replaced = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        replaced.push_str(&rest[..at]);
        rest = &rest[at..];
        let (taken, put) = if is_escape(rest, escape) {
            (3, with)
        } else {
            (1, "%")
        };
        replaced.push_str(put);
        rest = &rest[taken..];
    }
    replaced.push_str(rest);
    replaced
}

fn is_escape(text: &str, escape: &str) -> bool {
    text.get(..escape.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(escape))
}

pub(super) fn hex_pair(pair: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// RFC 3986 `pchar` without `;`, whose parameters some servers strip.
fn is_path_byte(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(
            byte,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_may_send_these() {
        for path in [
            "//a",
            "///",
            "/%2fa",
            "/%5ca",
            "/%2f",
            "/;a/b",
            "/a/;/b",
            "/a/;",
            "/.",
            "/..",
            "/a/.",
            "/a/../b",
            "/%2e",
            "/a/%2E%2e",
            "/a/..;x",
            "/a/.;",
            "/a/..%3bx",
            "/a/..%2fb",
            "/a/b%2f..",
            "/a/b%2f.%2fc",
            "/a/b%5c..%5cc",
            "/a/b%2f..;x",
            "/a/%2e%2e%2fb",
            "/a%00",
            "/a%0d",
            "/a%7f",
            "/a%",
            "/a%2",
            "/a%zz",
            "/a%c0%af",
            "/a%ff",
            "/a%252f",
            "/a%252e%252e",
            "/a%25%32%65",
            "/a%2541",
            "/a%25u002e",
            "/a%u002e",
            "/a\\b",
            "/a b",
            "/a\"",
            "/a#",
            "/caf\u{e9}",
        ] {
            assert_eq!(forms_of(path), None, "{path}");
        }
    }

    #[test]
    fn each_form_has_its_word() {
        use TargetForms as F;
        for (path, forms) in [
            ("/", &[][..]),
            ("/a/b/", &[]),
            ("/a%20b/%3A", &[]),
            ("/a%2Fb", &[F::ENCODED_SLASH]),
            ("/a%2fb%2f", &[F::ENCODED_SLASH]),
            ("/a%2f/b", &[F::ENCODED_SLASH, F::DOUBLE_SLASH]),
            ("/a/%2Fb", &[F::ENCODED_SLASH, F::DOUBLE_SLASH]),
            ("/a%2f%2fb", &[F::ENCODED_SLASH, F::DOUBLE_SLASH]),
            ("/a%5Cb", &[F::ENCODED_BACKSLASH]),
            ("/100%25", &[F::ENCODED_PERCENT]),
            ("/100%25x/100%25", &[F::ENCODED_PERCENT]),
            ("/%7euser", &[F::ENCODED_UNRESERVED]),
            ("/a%2eb", &[F::ENCODED_UNRESERVED]),
            ("/a//b", &[F::DOUBLE_SLASH]),
            ("/a//", &[F::DOUBLE_SLASH]),
            ("/a;x=1/b", &[F::SEMICOLON]),
            ("/a%3Bx", &[F::SEMICOLON]),
            ("/a;x%2Fy", &[F::SEMICOLON, F::ENCODED_SLASH]),
        ] {
            let all = forms.iter().fold(F::default(), |all, form| all.with(*form));
            assert_eq!(forms_of(path), Some(all), "{path}");
        }
    }

    #[test]
    fn a_path_is_read_in_every_way() {
        for (path, read) in [
            ("/a/b", &["/a/b"][..]),
            ("/a%2Fb", &["/a%252Fb", "/a/b"]),
            ("/a%2fb%2F%20", &["/a%252Fb%252F%20", "/a/b/%20"]),
            ("/a%5cb", &["/a%5cb", "/a/b"]),
            ("/a//b///", &["/a//b///", "/a/b/"]),
            ("/a;x/b%3By", &["/a;x/b%3By", "/a/b"]),
            ("/a%7e/100%25", &["/a%7e/100%25"]),
            ("/a%2F/b", &["/a%252F/b", "/a//b", "/a/b"]),
            ("/a;x%2Fy", &["/a;x%252Fy", "/a", "/a;x/y", "/a/y"]),
        ] {
            let mut readings = readings(path, forms_of(path).unwrap());
            assert_eq!(readings[0], read[0], "{path}");
            readings.sort();
            readings.dedup();
            let mut wanted: Vec<&str> = read.to_vec();
            wanted.sort_unstable();
            assert_eq!(readings, wanted, "{path}");
        }
    }
}
