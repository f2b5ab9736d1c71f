//! What an upstream gets: each line of the contract's section 5.

use portcullis::demo::issuer::{Issuer, IssuerOptions};
use portcullis::demo::mint::ClaimsEdit;

use crate::support::{Connection, Gateway, Origin, Received, Setup, get};

const READER: &str = "eazybank-accounts-reader-cc";

fn issuer() -> Issuer {
    Issuer::start_blocking(IssuerOptions::default()).unwrap()
}

const ROUTES: &str = "[{ name: accounts, match: { path: /bank/accounts }, strip_prefix: /bank/accounts,
      upstream: origin, access: {}, forward: { headers: { X-Customer: /customer_id } } },
    { name: kept, match: { path: /kept }, upstream: origin, access: {}, forward: { authorization: keep } },
    { name: edited, match: { path: /edited }, upstream: origin, access: public,
      request_headers: { set: { X-Edge: one }, remove: [X-Debug] },
      response_headers: { set: { X-Served-By: edge }, remove: [X-Powered-By] } },
    { name: open, match: { path: /open }, upstream: origin, access: public }]";

fn start(issuer: &Issuer, origin: &Origin) -> Gateway {
    Setup::new(issuer, origin.address()).routes(ROUTES).start()
}

fn send(gateway: &Gateway, origin: &Origin, path: &str, fields: &str) -> Received {
    let before = origin.received().len();
    let answer = Connection::open(gateway.address())
        .send(format!(
            "GET {path} HTTP/1.1\r\nHost: api.test:8072\r\n{fields}\r\n"
        ))
        .answer();
    assert_eq!(answer.status, 200, "{answer:?}");
    let received = origin.received();
    assert_eq!(received.len(), before + 1);
    let last = received[before].clone();
    assert_eq!(
        last.header("x-request-id"),
        answer.header("x-request-id"),
        "the same name on both sides"
    );
    last
}

#[test]
fn the_proved_identity_is_set() {
    let (issuer, origin) = (issuer(), Origin::start());
    let gateway = start(&issuer, &origin);
    let token = issuer.mint(ClaimsEdit::of(READER, &["accounts:read"]).claims(|claims| {
        claims.insert("sub".to_owned(), "s-1".into());
        claims.insert("customer_id".to_owned(), "c%1\r\nX-Evil: ü".into());
        claims.insert(
            "realm_access".to_owned(),
            serde_json::json!({ "roles": ["ACCOUNTS", "a,b", "c d"] }),
        );
    }));
    let got = send(
        &gateway,
        &origin,
        "/bank/accounts/api/fetch?mobile=1",
        &format!("Authorization: Bearer {token}\r\n"),
    );
    assert_eq!(got.line, "GET /api/fetch?mobile=1 HTTP/1.1");
    assert_eq!(got.header("x-auth-issuer").unwrap(), issuer.url());
    assert_eq!(got.header("x-auth-client"), Some(READER));
    assert_eq!(got.header("x-auth-subject"), Some("s-1"));
    assert_eq!(got.header("x-auth-scope"), Some("accounts:read"));
    assert_eq!(got.header("x-auth-roles"), Some("ACCOUNTS,a%2Cb,c d"));
    assert_eq!(got.header("x-customer"), Some("c%251%0D%0AX-Evil: %C3%BC"));
    assert!(got.header("authorization").is_none());
    assert_eq!(got.header("host"), Some("api.test:8072"));
    assert_eq!(got.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(got.header("x-forwarded-proto"), Some("http"));
    assert_eq!(got.header("x-forwarded-host"), Some("api.test:8072"));
}

#[test]
fn authorization_passes_only_where_it_is_kept() {
    let (issuer, origin) = (issuer(), Origin::start());
    let gateway = start(&issuer, &origin);
    let token = issuer.token(READER, &[]);
    let field = format!("Authorization: Bearer {token}\r\n");
    let kept = send(&gateway, &origin, "/kept", &field);
    assert_eq!(
        kept.header("authorization").unwrap(),
        format!("Bearer {token}")
    );
    let open = send(&gateway, &origin, "/open", &field);
    assert!(open.header("authorization").is_none());
}

#[test]
fn forged_fields_die_in_every_spelling_on_every_route() {
    let (issuer, origin) = (issuer(), Origin::start());
    let gateway = start(&issuer, &origin);
    let token = issuer.token(READER, &["accounts:read"]);
    let forged = "X-Auth-Client: evil\r\nx_auth_client: evil\r\nX-AUTH_Client: evil\r\n\
        x.auth.client: evil\r\nX-Auth-Anything: evil\r\nX-Customer: evil\r\nx_customer: evil\r\n\
        X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\n\
        X-Forwarded-Prefix: evil\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\n\
        X-Original-URL: /evil\r\nKeep-Alive: timeout=9\r\nProxy-Authorization: evil\r\nTE: trailers\r\n\
        X-Hop: evil\r\nConnection: X-Hop\r\n";
    for path in ["/open", "/bank/accounts", "/edited"] {
        let got = send(
            &gateway,
            &origin,
            path,
            &format!("Authorization: Bearer {token}\r\n{forged}"),
        );
        let raw = String::from_utf8(got.raw.clone()).unwrap();
        assert!(!raw.contains("evil") && !raw.contains("6.6.6.6"), "{raw}");
        for name in ["keep-alive", "te", "x-hop", "proxy-authorization"] {
            assert!(got.header(name).is_none(), "{name} on {path}");
        }
        assert_eq!(got.header("x-forwarded-proto"), Some("http"));
    }
}

#[test]
fn connection_cannot_name_the_identity_away() {
    let (issuer, origin) = (issuer(), Origin::start());
    let gateway = start(&issuer, &origin);
    let token = issuer.token(READER, &["accounts:read"]);
    let got = send(
        &gateway,
        &origin,
        "/bank/accounts",
        &format!(
            "Authorization: Bearer {token}\r\nConnection: X-Auth-Client, X-Auth-Scope, X-Request-Id, close\r\n"
        ),
    );
    assert_eq!(got.header("x-auth-client"), Some(READER));
    assert_eq!(got.header("x-auth-scope"), Some("accounts:read"));
    assert!(got.header("x-request-id").is_some());
}

#[test]
fn request_ids_are_kept_when_safe() {
    let (issuer, origin) = (issuer(), Origin::start());
    let gateway = start(&issuer, &origin);
    let kept = send(&gateway, &origin, "/open", "X-Request-Id: a.B_c-1\r\n");
    assert_eq!(kept.header("x-request-id"), Some("a.B_c-1"));
    for bad in ["a b", "a;b", "", "é", &"a".repeat(129)] {
        let got = send(
            &gateway,
            &origin,
            "/open",
            &format!("X-Request-Id: {bad}\r\n"),
        );
        assert_ne!(got.header("x-request-id"), Some(bad));
        assert_eq!(got.header("x-request-id").unwrap().len(), 32);
    }
}

#[test]
fn a_trace_is_passed_on_or_started() {
    let (issuer, origin) = (issuer(), Origin::start());
    let gateway = start(&issuer, &origin);
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let got = send(
        &gateway,
        &origin,
        "/open",
        &format!("traceparent: {parent}\r\ntracestate: a=1\r\n"),
    );
    assert_eq!(got.header("traceparent"), Some(parent));
    assert_eq!(got.header("tracestate"), Some("a=1"));
    let got = send(
        &gateway,
        &origin,
        "/open",
        "traceparent: 00-x\r\ntracestate: a=1\r\n",
    );
    assert_eq!(got.header("traceparent").unwrap().len(), 55);
    assert!(got.header("tracestate").is_none());
    let log = gateway.access_log(1);
    assert_eq!(log[0]["trace_id"], "0af7651916cd43dd8448eb211c80319c");
}

#[test]
fn header_edits_apply_both_ways() {
    let issuer = issuer();
    let origin = Origin::answering(|_, stream| {
        std::io::Write::write_all(
            stream,
            b"HTTP/1.1 200 OK\r\nX-Powered-By: x\r\nX-Served-By: origin\r\nContent-Length: 0\r\n\r\n",
        )
        .unwrap();
    });
    let gateway = start(&issuer, &origin);
    let answer = Connection::open(gateway.address())
        .send("GET /edited HTTP/1.1\r\nHost: a\r\nX-Debug: 1\r\nX-Edge: zero\r\n\r\n")
        .answer();
    assert_eq!(answer.header("x-served-by"), Some("edge"));
    assert!(answer.header("x-powered-by").is_none());
    let got = origin.only();
    assert_eq!(got.header("x-edge"), Some("one"));
    assert!(got.header("x-debug").is_none());
}

#[test]
fn forwarded_fields_of_a_trusted_proxy_are_believed() {
    let (issuer, origin) = (issuer(), Origin::start());
    let gateway = Setup::new(&issuer, origin.address())
        .listeners("[{ address: '127.0.0.1:1', trusted_proxies: [127.0.0.0/8] }]")
        .routes(ROUTES)
        .start();
    let got = send(
        &gateway,
        &origin,
        "/open",
        "X-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: api.example\r\n",
    );
    assert_eq!(got.header("x-forwarded-for"), Some("9.9.9.9, 127.0.0.1"));
    assert_eq!(got.header("x-forwarded-proto"), Some("https"));
    assert_eq!(got.header("x-forwarded-host"), Some("api.example"));
}

const REWRITTEN: &str = "[{ name: old, match: { path: /old }, upstream: origin,
      access: { scopes: ['accounts:read'] },
      rewrite: { pattern: '^/old/(?<kind>[a-z]+)(?:/(?<rest>.*))?$', to: '/new/${kind}/${rest}' } }]";

/// What is authorised and logged is what was sent; what the service gets is what the pattern makes of it.
#[test]
fn a_path_is_rewritten_after_it_was_judged() {
    let (issuer, origin) = (issuer(), Origin::start());
    let gateway = Setup::new(&issuer, origin.address())
        .routes(REWRITTEN)
        .start();
    let token = issuer.token(READER, &["accounts:read"]);
    let field = format!("Authorization: Bearer {token}\r\n");
    for (sent, got) in [
        (
            "/old/loans/7/b%20c?x=/old/y",
            "GET /new/loans/7/b%20c?x=/old/y HTTP/1.1",
        ),
        ("/old/loans", "GET /new/loans/ HTTP/1.1"),
        ("/old/loans/", "GET /new/loans/ HTTP/1.1"),
        ("http://api.test:8072/old/a/b", "GET /new/a/b HTTP/1.1"),
    ] {
        let got_there = send(&gateway, &origin, sent, &field);
        assert_eq!(got_there.line, got, "{sent}");
        assert_eq!(got_there.header("x-auth-client"), Some(READER));
    }
    assert_eq!(gateway.access_log(1)[0]["path"], "/old/loans/7/b%20c");
    let before = origin.received().len();
    for (sent, field, status) in [
        ("/old/loans/1", "", 401),
        ("/old/LOANS/1", field.as_str(), 404),
        ("/old", field.as_str(), 404),
        ("/new/loans/1", field.as_str(), 404),
    ] {
        let answer = Connection::open(gateway.address())
            .send(format!(
                "GET {sent} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{field}\r\n"
            ))
            .answer();
        assert_eq!(answer.status, status, "{sent}");
    }
    assert_eq!(origin.received().len(), before);
}

/// A pattern may put together from harmless parts what two servers read differently.
#[test]
fn a_rewritten_path_has_one_reading_or_goes_nowhere() {
    let (issuer, origin) = (issuer(), Origin::start());
    let gateway = Setup::new(&issuer, origin.address())
        .routes(
            "[{ name: glued, match: { path: /x }, upstream: origin, access: public,
                rewrite: { pattern: '/x/(?<a>[^/]*)/(?<b>[^/]*)/?(?<c>.*)', to: '/${a}${b}/${c}/end' } },
              { name: dots, match: { path: /dots }, upstream: origin, access: public,
                rewrite: { pattern: '/dots/(?<a>[^/]*)y/(?<b>[^/]*)y', to: '/${a}${b}/end' } }]",
        )
        .start();
    let ask = |path: &str| get(gateway.address(), path, None).status;
    assert_eq!(ask("/x/a/b/c"), 200);
    assert_eq!(origin.only().line, "GET /ab/c/end HTTP/1.1");
    // Each of these is a good path, and becomes one with a dot segment or an empty one.
    for sent in [
        "/x/a/b/c/",
        "/x/a/b",
        "/dots/.y/.y",
        "/dots/y/.y",
        "/dots/y/y",
    ] {
        assert_eq!(ask(sent), 400, "{sent}");
    }
    assert_eq!(origin.received().len(), 1);
}

#[test]
fn strip_prefix_of_the_whole_path_leaves_a_slash() {
    let (issuer, origin) = (issuer(), Origin::start());
    let gateway = start(&issuer, &origin);
    let token = issuer.token(READER, &[]);
    let field = format!("Authorization: Bearer {token}\r\n");
    for (sent, got) in [
        ("/bank/accounts", "GET / HTTP/1.1"),
        ("/bank/accounts?a=b", "GET /?a=b HTTP/1.1"),
        ("/bank/accounts/", "GET / HTTP/1.1"),
        ("/bank/accounts/a%20b/", "GET /a%20b/ HTTP/1.1"),
        ("http://api.test:8072/bank/accounts/x", "GET /x HTTP/1.1"),
    ] {
        assert_eq!(send(&gateway, &origin, sent, &field).line, got, "{sent}");
    }
}
