//! How long the body is, if that has one reading (RFC 9112 section 6).

use http::{HeaderMap, Uri, Version, header};

use crate::reject::Rejection;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    None,
    Declared(u64),
    Unknown,
}

/// Reads the framing. `raw_head` is the HTTP/1 head as it came, because the parsed one has already lost what it
/// repaired; it is looked at only where a `Transfer-Encoding` makes that matter.
///
/// # Errors
/// [`Rejection::AmbiguousFraming`].
pub fn body_length(
    version: Version,
    headers: &HeaderMap,
    raw_head: impl FnOnce() -> Option<bytes::Bytes>,
) -> Result<BodyLength, Rejection> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let length = match (lengths.next(), lengths.next()) {
        (Some(_), Some(_)) => return Err(Rejection::AmbiguousFraming),
        (Some(value), None) => Some(plain_number(value.as_bytes())?),
        (None, _) => None,
    };
    let mut encodings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let Some(encoding) = encodings.next() else {
        return Ok(match length {
            Some(0) => BodyLength::None,
            Some(length) => BodyLength::Declared(length),
            // Only HTTP/2 may send a body without saying so in the head.
            None if version == Version::HTTP_2 => BodyLength::Unknown,
            None => BodyLength::None,
        });
    };
    let alone = encodings.next().is_none() && encoding.as_bytes().eq_ignore_ascii_case(b"chunked");
    if !alone || length.is_some() || version != Version::HTTP_11 || names_a_length(raw_head()) {
        return Err(Rejection::AmbiguousFraming);
    }
    Ok(BodyLength::Unknown)
}

/// What h2 lets through and RFC 9113 does not: a scheme that is none of HTTP's (section 8.3.1), and a quote in a field's
/// name, which is no token (RFC 9110 section 5.6.2) and is read at will by a server behind us.
///
/// # Errors
/// [`Rejection::MalformedRequest`].
pub fn http2_is_plain(uri: &Uri, headers: &HeaderMap) -> Result<(), Rejection> {
    let known = uri.scheme().is_some_and(|scheme| {
        *scheme == http::uri::Scheme::HTTPS || *scheme == http::uri::Scheme::HTTP
    });
    // h2 keeps no scheme where it has no authority; the host is then a field.
    if (!known && uri.authority().is_some())
        || headers.keys().any(|name| name.as_str().contains('"'))
    {
        return Err(Rejection::MalformedRequest);
    }
    Ok(())
}

/// Digits alone: no sign, no list, no blank.
fn plain_number(value: &[u8]) -> Result<u64, Rejection> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(Rejection::AmbiguousFraming);
    }
    std::str::from_utf8(value)
        .ok()
        .and_then(|digits| digits.parse().ok())
        .ok_or(Rejection::AmbiguousFraming)
}

fn names_a_length(raw_head: Option<bytes::Bytes>) -> bool {
    const NAME: &[u8] = b"content-length";
    raw_head.is_some_and(|head| {
        head.split(|byte| *byte == b'\n').any(|line| {
            line.get(..NAME.len())
                .is_some_and(|name| name.eq_ignore_ascii_case(NAME))
        })
    })
}
