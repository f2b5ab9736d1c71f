//! Exactly one host.

use super::*;

fn host(headers: &[(&str, &str)], authority: Option<&str>) -> Result<String, Rejection> {
    inspect(b"/", authority, &fields(headers)).map(|target| target.host)
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
