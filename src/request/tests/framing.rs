//! How long a body is, in one reading.

use super::*;

fn framing(version: Version, headers: &[(&str, &str)]) -> Result<BodyLength, Rejection> {
    let mut raw = String::from("POST / HTTP/1.1\r\n");
    for (name, value) in headers {
        raw.push_str(&format!("{name}: {value}\r\n"));
    }
    raw.push_str("\r\n");
    body_length(version, &fields(headers), || Some(Bytes::from(raw)))
}

#[test]
fn framing_with_one_reading_is_read() {
    use BodyLength::{Declared, None, Unknown};
    for (version, headers, length) in [
        (Version::HTTP_11, &[][..], None),
        (Version::HTTP_10, &[], None),
        (Version::HTTP_2, &[], Unknown),
        (Version::HTTP_11, &[("content-length", "0")], None),
        (Version::HTTP_2, &[("content-length", "0")], None),
        (Version::HTTP_11, &[("content-length", "5")], Declared(5)),
        (Version::HTTP_10, &[("content-length", "5")], Declared(5)),
        (Version::HTTP_2, &[("content-length", "5")], Declared(5)),
        (Version::HTTP_11, &[("content-length", "007")], Declared(7)),
        (
            Version::HTTP_11,
            &[("content-length", "18446744073709551615")],
            Declared(u64::MAX),
        ),
        (
            Version::HTTP_11,
            &[("transfer-encoding", "chunked")],
            Unknown,
        ),
        (
            Version::HTTP_11,
            &[("Transfer-Encoding", "CHUNKED")],
            Unknown,
        ),
    ] {
        assert_eq!(
            framing(version, headers),
            Ok(length),
            "{version:?} {headers:?}"
        );
    }
}

#[test]
fn framing_with_two_readings_is_refused() {
    for headers in [
        &[("content-length", "5"), ("content-length", "5")][..],
        &[("content-length", "5"), ("content-length", "6")],
        &[("content-length", "5, 5")],
        &[("content-length", "5,6")],
        &[("content-length", "+5")],
        &[("content-length", "-0")],
        &[("content-length", "-5")],
        &[("content-length", "0x5")],
        &[("content-length", "5.0")],
        &[("content-length", "5 ")],
        &[("content-length", "5;")],
        &[("content-length", "")],
        &[("content-length", "five")],
        &[("content-length", "\u{665}")],
        &[("content-length", "18446744073709551616")],
        &[("content-length", "5"), ("transfer-encoding", "chunked")],
        &[("transfer-encoding", "chunked"), ("Content-Length", "0")],
        &[("transfer-encoding", "chunked"), ("CONTENT-LENGTH", "+5")],
        &[
            ("transfer-encoding", "chunked"),
            ("transfer-encoding", "chunked"),
        ],
        &[
            ("transfer-encoding", "chunked"),
            ("transfer-encoding", "identity"),
        ],
        &[("transfer-encoding", "chunked, chunked")],
        &[("transfer-encoding", "gzip, chunked")],
        &[("transfer-encoding", "chunked, gzip")],
        &[("transfer-encoding", "gzip")],
        &[("transfer-encoding", "identity")],
        &[("transfer-encoding", "xchunked")],
        &[("transfer-encoding", "chunkedx")],
        &[("transfer-encoding", "chunked;q=1")],
        &[("transfer-encoding", "\"chunked\"")],
        &[("transfer-encoding", ",chunked")],
        &[("transfer-encoding", "chunked,")],
        &[("transfer-encoding", "")],
    ] {
        assert_eq!(
            framing(Version::HTTP_11, headers),
            Err(Rejection::AmbiguousFraming),
            "{headers:?}"
        );
    }
}

#[test]
fn http2_brings_a_scheme_and_names_that_are_tokens() {
    let plain = fields(&[("x", "\"y\"")]);
    let mut quoted = HeaderMap::new();
    let name = http::HeaderName::from_lowercase(b"x\"").unwrap();
    quoted.insert(name, http::HeaderValue::from_static("y"));
    for (uri, headers, verdict) in [
        ("https://a/x", &plain, Ok(())),
        ("http://a/x", &plain, Ok(())),
        ("/x", &plain, Ok(())),
        ("https://a/x", &quoted, Err(Rejection::MalformedRequest)),
        ("ftp://a/x", &plain, Err(Rejection::MalformedRequest)),
        ("javascript://a/x", &plain, Err(Rejection::MalformedRequest)),
    ] {
        let uri: http::Uri = uri.parse().unwrap();
        assert_eq!(http2_is_plain(&uri, headers), verdict, "{uri}");
    }
}

#[test]
fn only_http_1_1_may_be_chunked() {
    for version in [Version::HTTP_10, Version::HTTP_2, Version::HTTP_3] {
        assert_eq!(
            framing(version, &[("transfer-encoding", "chunked")]),
            Err(Rejection::AmbiguousFraming),
            "{version:?}"
        );
    }
}

/// Pingora drops `Content-Length` where it sees `Transfer-Encoding`: only the head as it came still has both.
#[test]
fn a_length_that_the_parser_dropped_is_seen_in_the_raw_head() {
    let chunked = fields(&[("transfer-encoding", "chunked")]);
    for line in ["Content-Length: 5", "content-length:5", "CONTENT-LENGTH: x"] {
        for end in ["\r\n", "\n"] {
            let raw =
                format!("POST / HTTP/1.1{end}{line}{end}Transfer-Encoding: chunked{end}{end}");
            assert_eq!(
                body_length(Version::HTTP_11, &chunked, || Some(Bytes::from(raw))),
                Err(Rejection::AmbiguousFraming),
                "{line:?} {end:?}"
            );
        }
    }
    let raw = "POST /Content-Length: HTTP/1.1\r\nX-Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(
        body_length(Version::HTTP_11, &chunked, || Some(Bytes::from(raw))),
        Ok(BodyLength::Unknown)
    );
}
