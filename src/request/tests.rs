#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use http::{HeaderMap, Version};

use super::*;
use crate::reject::Rejection;
use crate::testkit::fields;

const HOST: &str = "api.example.com";

/// As a route reads it that allows no form but the plain one.
fn target(raw: &[u8]) -> Result<Target, Rejection> {
    let target = inspect(raw, None, &fields(&[("host", HOST)]))?;
    if target.forms.is_empty() {
        Ok(target)
    } else {
        Err(Rejection::AmbiguousTarget)
    }
}

fn host(headers: &[(&str, &str)], authority: Option<&str>) -> Result<String, Rejection> {
    inspect(b"/", authority, &fields(headers)).map(|target| target.host)
}

#[test]
fn a_target_that_can_be_read_in_two_ways_is_refused() {
    let hostile: &[&[u8]] = &[
        // Dot segments in every disguise.
        b"/.",
        b"/..",
        b"/./accounts",
        b"/../accounts",
        b"/public/../accounts",
        b"/public/..",
        b"/public/.",
        b"/public/%2e%2e/accounts",
        b"/public/%2E%2E/accounts",
        b"/public/.%2e/accounts",
        b"/public/%2e./accounts",
        b"/public/%2e/accounts",
        b"/public/%252e%252e/accounts",
        b"/public/%25%32%65/accounts",
        b"/public/%c0%ae%c0%ae/accounts",
        b"/public/%c0%2e/accounts",
        b"/public/%e0%80%ae/accounts",
        b"/public/%u002e%u002e/accounts",
        b"/public/..%2faccounts",
        b"/public/..%5caccounts",
        b"/public/..%00/accounts",
        // Path parameters, which Tomcat strips from each segment.
        b"/public/..;/accounts",
        b"/public/..;x=1/accounts",
        b"/public/.;/accounts",
        b"/public;/accounts",
        b"/accounts;jsessionid=1",
        b"/;/accounts",
        b"/public/..%3b/accounts",
        b"/accounts%3Bx",
        // Empty segments.
        b"//",
        b"//accounts",
        b"//evil.example/accounts",
        b"/public//accounts",
        b"/accounts//",
        b"///",
        // Slashes and backslashes that are none, or not yet.
        b"/public%2faccounts",
        b"/public%2Faccounts",
        b"/public%252faccounts",
        b"/public%5caccounts",
        b"/public%5Caccounts",
        b"/public\\accounts",
        b"/public\\..\\accounts",
        b"\\accounts",
        b"/public%c0%afaccounts",
        b"/public%e0%80%afaccounts",
        b"/public%f0%80%80%afaccounts",
        b"/public%c1%9caccounts",
        // Escapes of what needs none: they hide a name from whoever compares without decoding.
        b"/%61ccounts",
        b"/%41ccounts",
        b"/accounts%2d1",
        b"/accounts%5F1",
        b"/%7euser",
        b"/%31",
        // Broken escapes.
        b"/a%",
        b"/a%2",
        b"/a%/b",
        b"/a%zz",
        b"/a%2g",
        b"/a%+1",
        b"/a%%20",
        b"/a%25",
        b"/a%2520b",
        // Controls, raw and escaped.
        b"/a%00",
        b"/a%00.html",
        b"/a%0a",
        b"/a%0d%0aHost:%20x",
        b"/a%09",
        b"/a%1f",
        b"/a%7F",
        b"/a\0",
        b"/a\tb",
        b"/a\rb",
        b"/a\nb",
        b"/a\x7f",
        b"/a\x1b[31m",
        // Not UTF-8, or not ASCII.
        b"/a%ff",
        b"/a%80",
        b"/a%c3",
        b"/a%c3(",
        b"/a%ed%a0%80",
        b"/a%f8%88%80%80%80",
        b"/\xc3\xa9",
        b"/\xff",
        b"/accounts?q=\xc3\xa9",
        // Characters that no path has.
        b"/a b",
        b"/a<b",
        b"/a>b",
        b"/a\"b",
        b"/a|b",
        b"/a^b",
        b"/a`b",
        b"/{a}",
        b"/[a]",
        // Fragments.
        b"/public#/../accounts",
        b"/accounts#",
        b"#",
        b"/accounts?x#y",
        // Queries with what would break a request line.
        b"/accounts?a b",
        b"/accounts?a\r\nX: 1",
        b"/accounts?\0",
        // Not origin-form.
        b"",
        b"*",
        b"accounts",
        b"?x=1",
        b"api.example.com:443",
        b"api.example.com/accounts",
        // Absolute-form with another host, another scheme, or a path with two readings.
        b"http://",
        b"http://api.example.com",
        b"http://api.example.com?x=1",
        b"http://evil.example/accounts",
        b"http://api.example.com:80/accounts",
        b"http://api.example.com.evil.example/accounts",
        b"http://user@api.example.com/accounts",
        b"http://api.example.com@evil.example/accounts",
        b"http://evil.example?@api.example.com/accounts",
        b"http://api.example.com\\@evil.example/accounts",
        b"http:/accounts",
        b"http:///accounts",
        b"http:accounts",
        b"ftp://api.example.com/accounts",
        b"file:///etc/passwd",
        b"javascript://api.example.com/a",
        b" http://api.example.com/a",
        b"http://api.example.com//accounts",
        b"http://api.example.com/public/../accounts",
        b"http://api.example.com/public/%2e%2e/accounts",
        b"http://api.example.com/accounts#x",
    ];
    for raw in hostile {
        assert_eq!(
            target(raw),
            Err(Rejection::AmbiguousTarget),
            "{}",
            raw.escape_ascii()
        );
    }
}

#[test]
fn an_ordinary_target_is_taken_as_it_came() {
    let ordinary = [
        "/",
        "/accounts",
        "/accounts/",
        "/accounts/1/",
        "/accounts/1.json",
        "/...",
        "/a..b",
        "/.well-known/openid-configuration",
        "/a~b-c_d.e",
        "/a!$&'()*+,=:@b",
        "/urn:isbn:0451450523",
        "/v1/accounts:search",
        "/a%20b",
        "/a%2Cb",
        "/a%2cb",
        "/caf%C3%A9",
        "/%E6%97%A5%E6%9C%AC/%F0%9F%A6%80",
        "/a%3Ab",
        "/a%22b",
    ];
    for path in ordinary {
        let read = target(path.as_bytes()).unwrap();
        assert_eq!((read.path.as_str(), read.query), (path, None));
        assert_eq!(read.host, HOST);
    }
}

#[test]
fn a_query_is_taken_as_it_came() {
    for query in [
        "",
        "x=1",
        "x=1&x=2",
        "?",
        "a=/../b",
        "a=//b&c=%2e%2e%2f",
        "redirect=https://x.example/?y",
        "a=%00%zz%",
        "a=;b\\c|{d}[e]^`",
    ] {
        let read = target(format!("/a?{query}").as_bytes()).unwrap();
        assert_eq!(
            (read.path.as_str(), read.query.as_deref()),
            ("/a", Some(query))
        );
    }
}

#[test]
fn a_long_target_passes() {
    let path = format!("/{}", "accounts/".repeat(780));
    let query = "x".repeat(7000);
    let read = target(format!("{path}?{query}").as_bytes()).unwrap();
    assert!(path.len() > 7000);
    assert_eq!((read.path, read.query), (path, Some(query)));
}

#[test]
fn an_unescaped_path_has_one_spelling() {
    for (path, read) in [
        ("/", "/"),
        ("/a%20b", "/a b"),
        ("/a%3Ab%3ac", "/a:b:c"),
        ("/caf%C3%A9", "/caf\u{e9}"),
        ("/caf%c3%a9", "/caf\u{e9}"),
        // None of these passes as a target, but a path in a file may be anything.
        ("/a%", "/a%"),
        ("/a%2", "/a%2"),
        ("/a%zz", "/a%zz"),
        ("/a%ff", "/a%ff"),
        ("/%\u{e9}", "/%\u{e9}"),
    ] {
        assert_eq!(unescaped(path), read, "{path}");
    }
}

#[test]
fn an_absolute_form_with_the_same_host_is_read_as_its_path() {
    for raw in [
        "http://api.example.com/accounts/1?x=1",
        "HTTP://API.example.com/accounts/1?x=1",
        "https://api.example.com/accounts/1?x=1",
    ] {
        let read = target(raw.as_bytes()).unwrap();
        assert_eq!(read.path, "/accounts/1", "{raw}");
        assert_eq!(read.query.as_deref(), Some("x=1"), "{raw}");
    }
    let with_port = fields(&[("host", "api.example.com:8072")]);
    let read = inspect(b"http://api.example.com:8072/", None, &with_port).unwrap();
    assert_eq!((read.host.as_str(), read.path.as_str()), (HOST, "/"));
}

#[test]
fn a_host_is_lower_case_and_has_no_port() {
    for (sent, read) in [
        ("api.example.com", "api.example.com"),
        ("API.Example.COM", "api.example.com"),
        ("api.example.com:8443", "api.example.com"),
        ("api.example.com:00080", "api.example.com"),
        ("localhost", "localhost"),
        ("my_service", "my_service"),
        ("a-b.c", "a-b.c"),
        ("127.0.0.1:8072", "127.0.0.1"),
        ("[::1]", "[::1]"),
        ("[2001:DB8::1]:8443", "[2001:db8::1]"),
    ] {
        assert_eq!(host(&[("host", sent)], None).as_deref(), Ok(read), "{sent}");
        assert_eq!(host(&[], Some(sent)).as_deref(), Ok(read), "{sent}");
    }
}

#[test]
fn a_host_that_is_none_is_doubtful() {
    for sent in [
        "",
        " ",
        ".",
        "..",
        ":80",
        "api.example.com:",
        "api.example.com:0x50",
        "api.example.com:+80",
        "api.example.com:-1",
        "api.example.com:65536",
        "api.example.com:000080",
        "api.example.com:80:90",
        "api.example.com:80/x",
        "api.example.com.",
        ".example.com",
        "api..example.com",
        "api.example.com/accounts",
        "api.example.com?x",
        "api.example.com#x",
        "api.example.com\\x",
        "api.example.com,evil.example",
        "api.example.com evil.example",
        "api.example.com\tx",
        "user@api.example.com",
        "user:pass@api.example.com",
        "http://api.example.com",
        "*.example.com",
        "ex%61mple.com",
        "caf\u{e9}.example",
        "[::1",
        "::1",
        "[::1]x",
        "[::1]:",
        "[::1]:x",
        "[::1]80",
        "[fe80::1%25eth0]",
        "[v1.x]",
        "[]",
        "[api.example.com]",
    ] {
        assert_eq!(
            host(&[("host", sent)], None),
            Err(Rejection::DoubtfulHost),
            "{sent:?}"
        );
    }
}

#[test]
fn there_is_exactly_one_host() {
    for (headers, authority) in [
        (&[][..], None),
        (&[("host", HOST), ("host", HOST)], None),
        (&[("host", HOST), ("host", "evil.example")], None),
        (&[("host", HOST), ("host", HOST)], Some(HOST)),
        (&[("host", HOST)], Some("evil.example")),
        (&[("host", HOST)], Some("api.example.com:443")),
    ] {
        assert_eq!(
            host(headers, authority),
            Err(Rejection::DoubtfulHost),
            "{headers:?} {authority:?}"
        );
    }
    let agreed = host(&[("host", HOST)], Some("API.example.com"));
    assert_eq!(agreed.as_deref(), Ok(HOST));
    let forwarded = host(
        &[("host", HOST), ("x-forwarded-host", "evil.example")],
        None,
    );
    assert_eq!(forwarded.as_deref(), Ok(HOST));
}

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

#[test]
fn a_safe_request_id_of_the_callers_is_kept() {
    let longest = "x".repeat(128);
    for id in ["1", "a.b_c-D9", "..", longest.as_str()] {
        let kept = RequestId::of(&fields(&[("X-Request-Id", id)]));
        assert_eq!(kept.as_str(), id);
    }
}

#[test]
fn any_other_request_id_is_replaced() {
    let too_long = "x".repeat(129);
    for headers in [
        &[][..],
        &[("x-request-id", "")],
        &[("x-request-id", too_long.as_str())],
        &[("x-request-id", "a b")],
        &[("x-request-id", "a/b")],
        &[("x-request-id", "a:b")],
        &[("x-request-id", "\"a\"")],
        &[("x-request-id", "${jndi:ldap://x}")],
        &[("x-request-id", "caf\u{e9}")],
        &[("x-request-id", "a"), ("x-request-id", "a")],
        &[("x_request_id", "a")],
    ] {
        let fresh = RequestId::of(&fields(headers));
        let text = fresh.as_str();
        assert_eq!(text.len(), 32, "{headers:?}");
        assert!(text.bytes().all(|b| b.is_ascii_hexdigit()), "{headers:?}");
    }
    assert_ne!(RequestId::fresh(), RequestId::fresh());
}

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[test]
fn a_valid_traceparent_is_passed_on() {
    for parent in [
        PARENT,
        "00-00000000000000000000000000000001-0000000000000001-00",
        "00-ffffffffffffffffffffffffffffffff-ffffffffffffffff-ff",
    ] {
        let trace = Trace::of(&fields(&[("Traceparent", parent)]));
        assert_eq!(trace.parent(), parent);
        assert_eq!(trace.id(), &parent[3..35]);
        assert!(!trace.started_here());
    }
}

#[test]
fn any_other_traceparent_starts_a_new_trace() {
    for headers in [
        &[][..],
        &[("traceparent", "")],
        &[("traceparent", PARENT), ("traceparent", PARENT)],
        &[("traceparent", &PARENT[..54])],
        &[(
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-011",
        )],
        &[(
            "traceparent",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        )],
        &[(
            "traceparent",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        )],
        &[(
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        )],
        &[(
            "traceparent",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        )],
        &[(
            "traceparent",
            "00_0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331_01",
        )],
        &[(
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0g",
        )],
    ] {
        let trace = Trace::of(&fields(headers));
        assert!(trace.started_here(), "{headers:?}");
        let parent = trace.parent().to_str().unwrap();
        let again = Trace::of(&fields(&[("traceparent", parent)]));
        assert_eq!(
            (again.parent(), again.started_here()),
            (trace.parent(), false)
        );
    }
    assert_ne!(Trace::fresh(), Trace::fresh());
}

#[test]
fn no_headers_are_needed_for_fresh_names() {
    let none = HeaderMap::new();
    assert!(Trace::of(&none).started_here());
    assert_eq!(RequestId::of(&none).as_str().len(), 32);
}
