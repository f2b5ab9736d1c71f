//! `routes[].allow_target`: what a route allows is sent as it came, and never a way around another route.

use portcullis::demo::issuer::{Issuer, IssuerOptions};

use crate::support::{Connection, Gateway, Origin, Setup};

const ROUTES: &str = "[
    { name: strict, match: { path: /strict }, upstream: origin, access: public },
    { name: slash, match: { path: /slash }, upstream: origin, access: public, allow_target: [encoded_slash] },
    { name: slash-secret, match: { path: /slash/secret }, upstream: origin, access: {}, allow_target: [encoded_slash] },
    { name: all, match: { path: /all }, strip_prefix: /all, upstream: origin, access: public,
      allow_target: [encoded_slash, encoded_backslash, encoded_percent, encoded_unreserved, double_slash, semicolon] },
    { name: all-secret, match: { path: /all/secret }, upstream: origin, access: {},
      allow_target: [encoded_slash, encoded_backslash, encoded_percent, encoded_unreserved, double_slash, semicolon] },
    { name: get, match: { path: /get, methods: [GET] }, upstream: origin, access: public, allow_target: [semicolon] },
    { name: rest, match: { path: / }, upstream: origin, access: public,
      allow_target: [encoded_slash, double_slash, semicolon] },
    { name: guarded, match: { path: /guarded }, upstream: origin, access: {} }]";

fn start(origin: &Origin) -> Gateway {
    let issuer = Issuer::start_blocking(IssuerOptions::default()).unwrap();
    Setup::new(&issuer, origin.address()).routes(ROUTES).start()
}

fn status(gateway: &Gateway, method: &str, target: &str) -> u16 {
    Connection::open(gateway.address())
        .send(format!(
            "{method} {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        ))
        .answer()
        .status
}

#[test]
fn what_a_route_allows_is_sent_as_it_came() {
    let origin = Origin::start();
    let gateway = start(&origin);
    for (target, sent) in [
        ("/slash/a%2Fb", "/slash/a%2Fb"),
        ("/slash/a%2fb?x=%2f", "/slash/a%2fb?x=%2f"),
        ("/all/a%2Fb%5Cc", "/a%2Fb%5Cc"),
        ("/all/100%25", "/100%25"),
        ("/all/%7Euser", "/%7Euser"),
        ("/all/a//b", "/a//b"),
        ("/all/a;x=1/b%3Bc", "/a;x=1/b%3Bc"),
        ("/all/a%2F/b", "/a%2F/b"),
        ("/get/x;v=1", "/get/x;v=1"),
        ("/else;v=1//x%2Fy", "/else;v=1//x%2Fy"),
    ] {
        assert_eq!(status(&gateway, "GET", target), 200, "{target}");
        let line = origin.received().pop().unwrap().line;
        assert_eq!(line, format!("GET {sent} HTTP/1.1"));
    }
}

#[test]
fn what_it_does_not_allow_stays_refused() {
    let origin = Origin::start();
    let gateway = start(&origin);
    for target in [
        // Not this form, or not on this route.
        "/strict/a%2Fb",
        "/slash/a//b",
        "/slash/a;b",
        "/slash/a%5Cb",
        "/slash/100%25",
        "/slash/%7Euser",
        "/slash/a%2F/b",
        // Not for anybody.
        "/all/..",
        "/all/%2e%2e/strict",
        "/all/..;x/strict",
        "/all/a%2F..%2Fstrict",
        "/all/a%5C..%5Cstrict",
        "/all/%2e%2e%2Fstrict",
        "/all/%252e%252e/strict",
        "/all/%252Fstrict",
        "/all/a%00",
        "/all/a%0d%0a",
        "//all/a",
        "/%2Fall/a",
        "/;x/all",
        // What is left without its prefix would name a host.
        "/all//evil.test/x",
        "/all/%2Fevil.test/x",
        "/all%2F/evil.test",
    ] {
        assert_eq!(status(&gateway, "GET", target), 400, "{target}");
    }
    assert_eq!(status(&gateway, "POST", "/get/x;v=1"), 400);
    assert!(origin.received().is_empty(), "{:?}", origin.received());
}

/// The service may read each of these as a path of another route, which asks for a token.
#[test]
fn no_reading_leads_to_another_route() {
    let origin = Origin::start();
    let gateway = start(&origin);
    for target in [
        "/slash%2Fsecret",
        "/slash%2Fsecret/x",
        "/slash/secret%2Fx%2F..",
        "/all%2Fsecret",
        "/all//secret",
        "/all%5Csecret",
        "/all/;x/secret",
        "/all;x/secret",
        "/all/secret;x",
        "/all/x%2F/../secret",
        "/guarded;x",
        "/guarded%2Fx",
        "/guarded//x",
        "/guarded;x%2Fy",
        "/;x/guarded",
        "/guarded%3Bx",
    ] {
        assert_eq!(status(&gateway, "GET", target), 400, "{target}");
    }
    // In every reading the secret's own: its demand is made.
    for target in ["/slash/secret/a%2Fb", "/all/secret/a//b;c"] {
        assert_eq!(status(&gateway, "GET", target), 401, "{target}");
    }
    assert!(origin.received().is_empty(), "{:?}", origin.received());
}
