//! One reading of a target, or none.

use super::*;

/// As a route reads it that allows no form but the plain one.
fn target(raw: &[u8]) -> Result<Target, Rejection> {
    let target = inspect(raw, None, &fields(&[("host", HOST)]))?;
    if target.forms.is_empty() {
        Ok(target)
    } else {
        Err(Rejection::AmbiguousTarget)
    }
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
        // Dots before what a second parser takes for the end of the path.
        b"/public/..%3f",
        b"/public/..%23x",
        b"/public/.%3Fx/accounts",
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
        "/tags/c%23",
        "/what%3F",
        "/...%3F",
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
