//! The path that is sent, and what a route changes.

use super::*;

#[test]
fn the_path_that_was_matched_is_sent_without_its_prefix() {
    for (prefix, raw, path, sent) in [
        (None, "/accounts/1?x=1", "/accounts/1", "/accounts/1?x=1"),
        (None, "/accounts/", "/accounts/", "/accounts/"),
        (None, "/caf%C3%A9?", "/caf%C3%A9", "/caf%C3%A9?"),
        (
            Some("/accounts"),
            "/accounts/1?x=1",
            "/accounts/1",
            "/1?x=1",
        ),
        (Some("/accounts"), "/accounts", "/accounts", "/"),
        (Some("/accounts"), "/accounts?x=/a", "/accounts", "/?x=/a"),
        (Some("/accounts"), "/accounts/", "/accounts/", "/"),
        (Some("/accounts"), "/accounts/1/", "/accounts/1/", "/1/"),
        (Some("/accounts"), "/accounts?", "/accounts", "/?"),
        (
            Some("/accounts"),
            "/accounts/accounts/1",
            "/accounts/accounts/1",
            "/accounts/1",
        ),
        (
            Some("/accounts"),
            "/accounts/a%20b",
            "/accounts/a%20b",
            "/a%20b",
        ),
        (Some("/accounts"), "/accountsx", "/accountsx", "/accountsx"),
        (Some("/accounts"), "/other", "/other", "/other"),
        (Some("/a/b"), "/a/b/c", "/a/b/c", "/c"),
        (Some("/"), "/a/b", "/a/b", "/a/b"),
        (Some("/"), "/", "/", "/"),
        // Another spelling of the prefix is the prefix.
        (Some("/a:b"), "/a%3ab/c%3A", "/a%3ab/c%3A", "/c%3A"),
        (Some("/caf%C3%A9"), "/caf%c3%a9", "/caf%c3%a9", "/"),
        (Some("/a:b"), "/a%3bb/c", "/a%3bb/c", "/a%3bb/c"),
        // Absolute-form: Pingora would send the whole URL.
        (
            None,
            "http://api.example.com:8072/accounts/1?x=1",
            "/accounts/1",
            "/accounts/1?x=1",
        ),
        (
            Some("/accounts"),
            "http://api.example.com:8072/accounts?x=1",
            "/accounts",
            "/?x=1",
        ),
    ] {
        let route = RoutePlan {
            strip_prefix: prefix.map(str::to_owned),
            ..accounts()
        };
        let head = Way::of(route).targets(raw, path).go();
        let seen = String::from_utf8_lossy(head.raw_path());
        assert_eq!(seen, sent, "{prefix:?} {raw}");
        assert_eq!(all(&head, "host"), ["api.example.com:8072"]);
    }
}

#[test]
fn a_route_edits_fields_but_never_ours() {
    let edits = HeaderEdits {
        set: vec![
            (
                HeaderName::from_static("x-edge"),
                HeaderValue::from_static("one"),
            ),
            (
                HeaderName::from_static("x-auth-client"),
                HeaderValue::from_static("evil"),
            ),
            (
                HeaderName::from_static("x-forwarded-for"),
                HeaderValue::from_static("evil"),
            ),
        ],
        remove: vec![
            HeaderName::from_static("x-debug"),
            HeaderName::from_static("x-auth-subject"),
        ],
    };
    let route = RoutePlan {
        request_headers: edits,
        ..accounts()
    };
    let head = Way::of(route)
        .sends("X-Edge", "mine")
        .sends("X-Edge", "mine too")
        .sends("X-Debug", "1")
        .go();
    assert_eq!(all(&head, "x-edge"), ["one"]);
    assert!(all(&head, "x-debug").is_empty());
    assert_eq!(all(&head, "x-auth-client"), ["eazybank-callcenter-cc"]);
    assert_eq!(all(&head, "x-auth-subject"), ["5bd3c6c4"]);
    assert_eq!(all(&head, "x-forwarded-for"), ["192.0.2.7"]);
}

#[test]
fn another_spelling_does_not_escape_a_routes_edits() {
    let route = RoutePlan {
        request_headers: HeaderEdits {
            set: vec![(
                HeaderName::from_static("x-edge"),
                HeaderValue::from_static("one"),
            )],
            remove: vec![HeaderName::from_static("x-debug")],
        },
        ..accounts()
    };
    let head = Way::of(route)
        .sends("X_Edge", "two")
        .sends("X.Debug", "1")
        .sends("X_Other", "kept")
        .go();
    assert_eq!(all(&head, "x-edge"), ["one"]);
    assert!(all(&head, "x_edge").is_empty());
    assert!(all(&head, "x.debug").is_empty());
    assert_eq!(all(&head, "x_other"), ["kept"]);
}

/// RFC 9113 section 8.2.3: HTTP/2 may split what HTTP/1 servers read as one field.
#[test]
fn split_cookies_are_sent_as_one_field() {
    let head = Way::of(accounts())
        .sends("cookie", "a=1")
        .sends("cookie", "b=2; c=3")
        .go();
    assert_eq!(all(&head, "cookie"), ["a=1; b=2; c=3"]);
    let head = Way::of(accounts()).sends("Cookie", "a=1; b=2").go();
    assert_eq!(all(&head, "cookie"), ["a=1; b=2"]);
}

#[test]
fn a_response_loses_what_was_meant_for_us() {
    let mut head = ResponseHeader::build(200, None).unwrap();
    for (name, value) in [
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Authenticate", "Basic"),
        ("Proxy-Connection", "close"),
        ("Upgrade", "h2c"),
        ("X-Request-Id", "theirs"),
        ("X-Request-Id", "theirs too"),
        ("Server", "tomcat"),
        ("X-Powered-By", "x"),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
    ] {
        head.append_header(name, value).unwrap();
    }
    let edits = HeaderEdits {
        set: vec![(
            HeaderName::from_static("server"),
            HeaderValue::from_static("edge"),
        )],
        remove: vec![HeaderName::from_static("x-powered-by")],
    };
    let id = RequestId::fresh();
    response(&mut head, Some(&edits), &id).unwrap();
    let all = |name: &str| -> Vec<&HeaderValue> { head.headers.get_all(name).iter().collect() };
    assert_eq!(all("x-request-id"), [id.value()]);
    assert_eq!(all("server"), ["edge"]);
    assert_eq!(all("set-cookie"), ["a=1", "b=2"]);
    for name in [
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "upgrade",
        "x-powered-by",
    ] {
        assert!(all(name).is_empty(), "{name}");
    }
}
