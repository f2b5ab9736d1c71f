//! The last look at a line before it leaves: nothing that looks like a credential goes out.
//!
//! Our own messages carry none. This is for what others write (Pingora prints buffers, HTTP clients print URLs) and for
//! the mistake that somebody makes one day, so it rather takes too much than too little.

use std::borrow::Cow;

const MASK: &str = "***";

/// Words after which a credential follows, over one or more blanks.
const SCHEMES: [&str; 3] = ["bearer", "basic", "dpop"];
/// Words after which a credential follows, over `=`, or over `:` if the word was quoted as a JSON member. Any word that
/// ends like this counts: `access_token`, `client_secret`.
const NAMES: [&str; 4] = ["token", "secret", "password", "assertion"];
/// Header fields whose whole value is one.
const FIELDS: [&str; 2] = ["authorization", "cookie"];

/// Replaces JWTs, the credentials of `Authorization` schemes, and the values of well-known secret parameters.
pub fn redact(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let mut out = String::new();
    let (mut kept, mut at) = (0, 0);
    while at < bytes.len() {
        // Every start and end is next to an ASCII byte, so the cuts fall between characters.
        match secret_at(bytes, at) {
            Some((start, end)) if end > start => {
                out.push_str(&text[kept..start]);
                out.push_str(MASK);
                (kept, at) = (end, end);
            }
            _ => at += 1,
        }
    }
    if kept == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[kept..]);
    Cow::Owned(out)
}

/// JWTs alone: for values that are no prose, such as a path.
pub fn redact_jwt(text: &str) -> Cow<'_, str> {
    if text.contains("eyJ") {
        redact(text)
    } else {
        Cow::Borrowed(text)
    }
}

/// What Pingora may say: it quotes the bytes that it could not parse, and request lines with their query.
pub fn redact_foreign(text: &str) -> Cow<'_, str> {
    let text = match text.find("buf: ") {
        Some(at) => Cow::Owned(format!("{}{MASK}", &text[..at + "buf: ".len()])),
        None => Cow::Borrowed(text),
    };
    let mut out = String::new();
    let mut rest = &*text;
    while let Some(at) = rest.find('?') {
        let query = &rest[at + 1..];
        let end = query
            .find(|c: char| c.is_whitespace() || matches!(c, ',' | '"'))
            .unwrap_or(query.len());
        out.push_str(&rest[..=at]);
        if end > 0 {
            out.push_str(MASK);
        }
        rest = &query[end..];
    }
    out.push_str(rest);
    Cow::Owned(redact(&out).into_owned())
}

fn secret_at(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    match bytes[at] {
        b'e' if bytes[at..].starts_with(b"eyJ") => {
            let end = run(bytes, at, is_token);
            (end - at >= 12).then_some((at, end))
        }
        b'a'..=b'z' | b'A'..=b'Z' => after_word(bytes, at),
        _ => None,
    }
}

fn after_word(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let word = |words: &[&str]| {
        words
            .iter()
            .find(|word| {
                bytes
                    .get(at..at + word.len())
                    .is_some_and(|here| here.eq_ignore_ascii_case(word.as_bytes()))
            })
            .map(|word| at + word.len())
    };
    if let Some(end) = word(&SCHEMES) {
        let start = run_of(bytes, end, &[b" ", b"\t", b"+", b"%20", b"\\t", b"\\x20"]);
        let quoted = start + usize::from(bytes.get(start) == Some(&b'"'));
        let stop = run(bytes, quoted, is_token);
        // A challenge: `Bearer realm="…"`.
        let parameter = bytes[quoted..stop].ends_with(b"=") && bytes.get(stop) == Some(&b'"');
        return (start > end && !parameter).then_some((quoted, stop));
    }
    if let Some(end) = word(&NAMES) {
        let quote = run_of(bytes, end, &[b"\"", b"\\\"", b"'"]);
        let blank = run_of(bytes, quote, &[b" "]);
        let sign = bytes.get(blank)?;
        if *sign != b'=' && (*sign != b':' || quote == end) {
            return None;
        }
        let start = run_of(bytes, blank + 1, &[b" ", b"\"", b"\\\"", b"'"]);
        return Some((start, run(bytes, start, is_value)));
    }
    let end = word(&FIELDS)?;
    let start = run_of(bytes, end, &[b"\"", b"\\\"", b":", b"=", b" "]);
    let valued = bytes[end..start]
        .iter()
        .any(|byte| matches!(byte, b':' | b'='));
    let stop = run(bytes, start, |byte| {
        !matches!(byte, b'\r' | b'\n' | b'"' | b'\\')
    });
    valued.then_some((start, stop))
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~+/=%".contains(&byte)
}

fn is_value(byte: u8) -> bool {
    !byte.is_ascii_whitespace() && !b"\"'&,;)}\\".contains(&byte)
}

fn run(bytes: &[u8], from: usize, of: impl Fn(u8) -> bool) -> usize {
    let length = bytes[from..].iter().take_while(|byte| of(**byte)).count();
    from + length
}

fn run_of(bytes: &[u8], mut at: usize, pieces: &[&[u8]]) -> usize {
    while let Some(piece) = pieces.iter().find(|piece| bytes[at..].starts_with(piece)) {
        at += piece.len();
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    const JWT: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6ImEifQ.eyJzdWIiOiJhIn0.c2lnbmF0dXJl-_x";

    #[test]
    fn credentials_go() {
        for (line, expected) in [
            (format!("got {JWT}, no"), "got ***, no"),
            (format!("Bearer {JWT}"), "Bearer ***"),
            (format!("x{JWT}"), "x***"),
            // Cut off, as by a buffer's end.
            (JWT[..40].to_owned(), "***"),
            ("a bEaReR  abc.def== b".to_owned(), "a bEaReR  *** b"),
            ("Bearer%20opaque123".to_owned(), "Bearer%20***"),
            ("Bearer\\topaque123\\r\\n".to_owned(), "Bearer\\t***\\r\\n"),
            ("Basic Z2F0ZTpzZWNyZXQ=".to_owned(), "Basic ***"),
            ("DPoP abc".to_owned(), "DPoP ***"),
            (
                "x?access_token=abc&y=1".to_owned(),
                "x?access_token=***&y=1",
            ),
            ("client_secret=s3cr3t".to_owned(), "client_secret=***"),
            (
                r#"{"access_token": "abc","n":1}"#.to_owned(),
                r#"{"access_token": "***","n":1}"#,
            ),
            (
                r#"\"refresh_token\":\"abc\""#.to_owned(),
                r#"\"refresh_token\":\"***\""#,
            ),
            (
                "Authorization: Digest a b\r\nHost: c".to_owned(),
                "Authorization: ***\r\nHost: c",
            ),
            (
                "authorization: opaque\\r\\nHost".to_owned(),
                "authorization: ***\\r\\nHost",
            ),
            (
                r#""authorization": "Bearer x""#.to_owned(),
                r#""authorization": "***""#,
            ),
            (format!("ä{JWT}ä Bearer ä"), "ä***ä Bearer ä"),
        ] {
            assert_eq!(redact(&line), expected, "{line}");
        }
    }

    #[test]
    fn other_words_stay() {
        for line in [
            "",
            "the token has expired",
            "token: wrong audience",
            "bearer",
            "Bearer realm=\"portcullis\", error=\"invalid_token\"",
            "no authorization here",
            "eyJ",
            "keys of issuer keycloak: 2 usable",
            "ünï¢ødé Bearer",
        ] {
            assert_eq!(redact(line), line);
            assert!(matches!(redact(line), Cow::Borrowed(_)));
        }
    }

    #[test]
    fn pingoras_quotations_go() {
        assert_eq!(
            redact_foreign("InvalidHTTPHeader context: buf: GET / HTTP/1.1\\r\\nX-Key: k cause: x"),
            "InvalidHTTPHeader context: buf: ***"
        );
        assert_eq!(
            redact_foreign("GET /a?key=1&b=2, Host: a, GET /b?c and ?"),
            "GET /a?***, Host: a, GET /b?*** and ?"
        );
    }

    #[test]
    fn any_text_is_cut_between_characters() {
        let pieces = [
            "é",
            "eyJ",
            "Bearer ",
            "x",
            "\"",
            "token=",
            "€",
            " ",
            "authorization:",
        ];
        for seed in 0..20_000usize {
            let text: String = (0..6).map(|n| pieces[seed / 9usize.pow(n) % 9]).collect();
            let _ = (redact(&text), redact_foreign(&text));
        }
    }
}
