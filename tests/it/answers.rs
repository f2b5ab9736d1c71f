//! What a caller gets: each line of the contract's section 4.

use std::io::Write;

use portcullis::demo::issuer::{Endpoint, Fault, Issuer, IssuerOptions};
use portcullis::demo::mint::{ClaimsEdit, Signer};

use crate::support::{Answer, Connection, Gateway, Origin, Setup, eventually, get};

const READER: &str = "eazybank-accounts-reader-cc";

fn issuer() -> Issuer {
    Issuer::start_blocking(IssuerOptions::default()).unwrap()
}

fn reader_route() -> &'static str {
    "[{ name: accounts, match: { path: /accounts, methods: [GET, POST] }, upstream: origin,
        access: { scopes: ['accounts:read'] } },
      { name: open, match: { path: /open }, upstream: origin, access: public }]"
}

fn start(issuer: &Issuer, origin: &Origin) -> Gateway {
    Setup::new(issuer, origin.address())
        .routes(reader_route())
        .start()
}

/// The shape that all rejections share; returns the `detail`.
fn problem(answer: &Answer, status: u16) -> String {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json")
    );
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let body = answer.json();
    let members: Vec<&String> = body.as_object().unwrap().keys().collect();
    assert_eq!(members, ["type", "title", "status", "detail", "request_id"]);
    assert_eq!(body["status"], status);
    assert_eq!(body["request_id"], answer.header("x-request-id").unwrap());
    body["detail"].as_str().unwrap().to_owned()
}

fn refused(gateway: &Gateway, token: &str, reason: &str, detail: &str) {
    let series = format!("portcullis_rejections_total{{reason=\"{reason}\",route=\"accounts\"}}");
    let before = gateway.metric(&series);
    let answer = get(gateway.address(), "/accounts", Some(token));
    assert_eq!(problem(&answer, 401), detail, "{reason}");
    assert_eq!(
        answer.header("www-authenticate").unwrap(),
        format!(
            "Bearer realm=\"portcullis\", error=\"invalid_token\", error_description=\"{detail}\""
        )
    );
    assert!(answer.header("retry-after").is_none());
    gateway.counts(&series, before + 1.0);
}

#[test]
fn a_good_token_gets_through() {
    let (issuer, origin) = (issuer(), Origin::start());
    let gateway = start(&issuer, &origin);
    let token = issuer.token(READER, &["accounts:read"]);
    let answer = get(gateway.address(), "/accounts/1?x=1", Some(&token));
    assert_eq!((answer.status, answer.text()), (200, "hello"));
    assert_eq!(origin.only().line, "GET /accounts/1?x=1 HTTP/1.1");
}

#[test]
fn no_credential_is_401_without_an_error_code() {
    let (issuer, origin) = (issuer(), Origin::start());
    let gateway = start(&issuer, &origin);
    let token = issuer.token(READER, &["accounts:read"]);
    let none = get(gateway.address(), "/accounts", None);
    problem(&none, 401);
    assert_eq!(
        none.header("www-authenticate"),
        Some("Bearer realm=\"portcullis\"")
    );
    // Other schemes, and tokens anywhere but in the field, are no credential.
    for request in [
        "GET /accounts HTTP/1.1\r\nHost: a\r\nAuthorization: Basic YTpi\r\n\r\n".to_owned(),
        format!("GET /accounts?access_token={token} HTTP/1.1\r\nHost: a\r\n\r\n"),
        format!("GET /accounts HTTP/1.1\r\nHost: a\r\nCookie: access_token={token}\r\n\r\n"),
        format!(
            "POST /accounts HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {}\r\n\r\naccess_token={token}",
            token.len() + 13
        ),
    ] {
        let answer = Connection::open(gateway.address()).send(request).answer();
        problem(&answer, 401);
        assert_eq!(
            answer.header("www-authenticate"),
            Some("Bearer realm=\"portcullis\"")
        );
    }
    assert!(origin.received().is_empty());
}

#[test]
fn malformed_credentials_are_400_invalid_request() {
    let (issuer, origin) = (issuer(), Origin::start());
    let gateway = start(&issuer, &origin);
    let good = issuer.token(READER, &["accounts:read"]);
    let long = "a".repeat(8 * 1024 + 1);
    for (fields, reason) in [
        (
            format!("Authorization: Bearer {good}\r\nAuthorization: Bearer {good}\r\n"),
            "several_credentials",
        ),
        (
            format!("Authorization: Bearer {good}\r\nauthorization: Basic YTpi\r\n"),
            "several_credentials",
        ),
        (
            "Authorization: Bearer\r\n".to_owned(),
            "malformed_credential",
        ),
        (
            format!("Authorization: Bearer {good}, Bearer {good}\r\n"),
            "malformed_credential",
        ),
        (
            format!("Authorization: Bearer {good} x\r\n"),
            "malformed_credential",
        ),
        (
            format!("Authorization: Bearer {long}\r\n"),
            "oversized_token",
        ),
    ] {
        let series =
            format!("portcullis_rejections_total{{reason=\"{reason}\",route=\"accounts\"}}");
        let before = gateway.metric(&series);
        let answer = Connection::open(gateway.address())
            .send(format!("GET /accounts HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
            .answer();
        problem(&answer, 400);
        assert!(
            answer
                .header("www-authenticate")
                .unwrap()
                .contains("error=\"invalid_request\"")
        );
        gateway.counts(&series, before + 1.0);
    }
    assert!(origin.received().is_empty());
}

#[test]
fn a_judged_token_is_401_invalid_token_and_says_no_more() {
    let (issuer, origin) = (issuer(), Origin::start());
    let gateway = start(&issuer, &origin);
    let edit = || ClaimsEdit::of(READER, &["accounts:read"]);
    let claims = |name: &'static str, value: serde_json::Value| {
        issuer.mint(edit().claims(move |claims| {
            claims.insert(name.to_owned(), value);
        }))
    };
    let header = |name: &'static str, value: serde_json::Value| {
        issuer.mint(edit().header(move |header| {
            header.insert(name.to_owned(), value);
        }))
    };
    const SILENT: &str = "The access token is not valid here.";
    let past = portcullis::clock::Clock::system().unix() - 60;
    let future = past + 3600;
    refused(
        &gateway,
        &claims("exp", past.into()),
        "expired",
        "The access token has expired.",
    );
    refused(
        &gateway,
        &claims("nbf", future.into()),
        "not_yet_valid",
        SILENT,
    );
    refused(
        &gateway,
        &claims("iss", "https://else.example".into()),
        "wrong_issuer",
        SILENT,
    );
    refused(
        &gateway,
        &claims("iss", serde_json::json!([issuer.url()])),
        "wrong_issuer",
        SILENT,
    );
    refused(
        &gateway,
        &claims("aud", "account".into()),
        "wrong_audience",
        SILENT,
    );
    refused(&gateway, &claims("typ", "ID".into()), "wrong_kind", SILENT);
    refused(
        &gateway,
        &claims("exp", "soon".into()),
        "bad_claims",
        SILENT,
    );
    refused(
        &gateway,
        &claims("cnf", serde_json::json!({ "jkt": "x" })),
        "sender_constrained",
        SILENT,
    );
    let unmarked = issuer.mint(edit().claims(|claims| {
        claims.remove("typ");
    }));
    refused(&gateway, &unmarked, "unmarked", SILENT);
    refused(
        &gateway,
        &header("kid", "nobody".into()),
        "unknown_key",
        SILENT,
    );
    refused(
        &gateway,
        &header("typ", "logout+jwt".into()),
        "wrong_header_type",
        SILENT,
    );
    refused(
        &gateway,
        &header("crit", serde_json::json!(["b64"])),
        "critical_header",
        SILENT,
    );
    let foreign = issuer.mint(edit().signed_by(Signer::Foreign("RS256".to_owned())));
    refused(&gateway, &foreign, "bad_signature", SILENT);
    let nobody = issuer.mint(edit().signed_by(Signer::Nobody));
    refused(&gateway, &nobody, "wrong_algorithm", SILENT);
    let hmac = issuer.mint(edit().signed_by(Signer::Hmac("HS256".to_owned(), b"k".to_vec())));
    refused(&gateway, &hmac, "wrong_algorithm", SILENT);
    refused(&gateway, "opaque-token", "opaque_token", SILENT);
    refused(&gateway, "a.b.c", "malformed_token", SILENT);
    assert!(origin.received().is_empty());
}

#[test]
fn what_the_client_may_not_do_is_403_with_the_scopes_asked() {
    let (issuer, origin) = (issuer(), Origin::start());
    let other = issuer_with_base("http://other.example");
    let gateway = Setup::new(&issuer, origin.address())
        .issuers(format!(
            "{{ keycloak: {{ issuer: '{}', audience: [eazybank-gateway] }},
                other: {{ issuer: '{}', jwks_uri: '{}', audience: [eazybank-gateway] }} }}",
            issuer.url(),
            other.url(),
            other.endpoint(Endpoint::Certs),
        ))
        .routes(
            "[{ name: scope, match: { path: /scope }, upstream: origin,
                access: { scopes: ['accounts:write'], any_scope: ['a', 'b'] } },
              { name: role, match: { path: /role }, upstream: origin, access: { realm_roles: [LOANS] } },
              { name: client-role, match: { path: /client-role }, upstream: origin,
                access: { client_roles: { accounts-api: [writer] } } },
              { name: client, match: { path: /client }, upstream: origin, access: { clients: [other] } },
              { name: issuer, match: { path: /issuer }, upstream: origin, access: { issuers: [other] } },
              { name: fine, match: { path: /fine }, upstream: origin,
                access: { issuers: [keycloak], clients: [eazybank-accounts-reader-cc],
                  scopes: ['accounts:read'], any_scope: [x, 'accounts:read'], realm_roles: [ACCOUNTS],
                  any_realm_role: [ACCOUNTS, LOANS], client_roles: { accounts-api: [reader] } } }]",
        )
        .start();
    let token = issuer.token(READER, &["accounts:read"]);
    for (path, reason, scope) in [
        ("scope", "missing_scope", ", scope=\"accounts:write a b\""),
        ("role", "missing_role", ""),
        ("client-role", "missing_role", ""),
        ("client", "client_not_allowed", ""),
        ("issuer", "issuer_not_allowed", ""),
    ] {
        let answer = get(gateway.address(), &format!("/{path}"), Some(&token));
        let detail = problem(&answer, 403);
        assert_eq!(
            answer.header("www-authenticate").unwrap(),
            format!(
                "Bearer realm=\"portcullis\", error=\"insufficient_scope\", \
                 error_description=\"{detail}\"{scope}"
            )
        );
        let series = format!("portcullis_rejections_total{{reason=\"{reason}\",route=\"{path}\"}}");
        gateway.counts(&series, 1.0);
    }
    assert!(origin.received().is_empty());
    assert_eq!(get(gateway.address(), "/fine", Some(&token)).status, 200);
    let foreign = other.token(READER, &["accounts:read"]);
    assert_eq!(
        get(gateway.address(), "/issuer", Some(&foreign)).status,
        200
    );
    assert_eq!(get(gateway.address(), "/fine", Some(&foreign)).status, 403);
}

fn issuer_with_base(base: &str) -> Issuer {
    Issuer::start_blocking(IssuerOptions {
        base_url: Some(base.to_owned()),
        ..IssuerOptions::default()
    })
    .unwrap()
}

#[test]
fn no_keys_is_503_with_retry_after_and_not_ready() {
    let (issuer, origin) = (issuer(), Origin::start());
    issuer.set_fault(Endpoint::Certs, Fault::Status(500));
    let gateway = Setup::new(&issuer, origin.address())
        .routes(reader_route())
        .start_unready();
    eventually("the first fetch failed", || {
        issuer.requests(Endpoint::Certs) > 0
    });
    let token = issuer.token(READER, &["accounts:read"]);
    let answer = get(gateway.address(), "/accounts", Some(&token));
    problem(&answer, 503);
    assert!(
        answer
            .header("retry-after")
            .unwrap()
            .parse::<u32>()
            .unwrap()
            > 0
    );
    assert!(answer.header("www-authenticate").is_none());
    let ready = get(gateway.admin(), "/readyz", None);
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("keycloak"), "{}", ready.text());
    assert_eq!(get(gateway.admin(), "/livez", None).status, 200);
    // A public route needs no keys.
    assert_eq!(get(gateway.address(), "/open", None).status, 200);
    issuer.clear_fault(Endpoint::Certs);
    gateway.wait_ready();
    assert_eq!(
        get(gateway.address(), "/accounts", Some(&token)).status,
        200
    );
}

#[test]
fn unknown_paths_are_404_and_other_methods_405() {
    let (issuer, origin) = (issuer(), Origin::start());
    let gateway = start(&issuer, &origin);
    for path in ["/", "/accountsx", "/nowhere/accounts"] {
        problem(&get(gateway.address(), path, None), 404);
    }
    for method in ["DELETE", "PUT", "TRACE", "PURGE"] {
        let answer = Connection::open(gateway.address())
            .send(format!("{method} /accounts HTTP/1.1\r\nHost: a\r\n\r\n"))
            .answer();
        problem(&answer, 405);
        assert_eq!(answer.header("allow"), Some("GET, POST, HEAD"), "{method}");
    }
    let connect = Connection::open(gateway.address())
        .send("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n")
        .answer();
    problem(&connect, 405);
}

#[test]
fn ambiguous_targets_and_hosts_are_400() {
    let (issuer, origin) = (issuer(), Origin::start());
    let gateway = start(&issuer, &origin);
    for head in [
        "GET /open/../accounts HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /open/%2e%2e/accounts HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /open/..;/accounts HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET //open HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /open\\x HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /open%2fx HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /open%00 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /open#x HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /open HTTP/1.1 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /open b HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET  /open HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /open\"b HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://b/open HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /open HTTP/1.1\r\n\r\n",
        "GET /open HTTP/1.0\r\n\r\n",
        "GET /open HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET /open HTTP/1.1\r\nHost: u@a\r\n\r\n",
        "GET /open HTTP/1.1\r\nHost: a/b\r\n\r\n",
        "GET /open HTTP/1.1\r\nHost:\r\n\r\n",
        "POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc",
        "POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    ] {
        let answer = Connection::open(gateway.address()).send(head).answer();
        problem(&answer, 400);
    }
    assert!(origin.received().is_empty(), "{:?}", origin.received());
}

#[test]
fn too_large_too_slow_and_too_many() {
    let (issuer, origin) = (issuer(), Origin::start());
    let gateway = Setup::new(&issuer, origin.address())
        .limits("{ header_timeout: 1s, header_fields: 100, body_bytes: 1KiB }")
        .routes(
            "[{ name: open, match: { path: /open }, upstream: origin, access: public },
              { name: limited, match: { path: /limited }, upstream: origin, access: {},
                rate_limit: { per: client, requests: 1, every: 1m } }]",
        )
        .start();
    let open = || Connection::open(gateway.address());
    // 408: a head that never ends.
    let slow = open().send("GET /open HTTP/1.1\r\nHost: a\r\n").answer();
    problem(&slow, 408);
    // 431: bytes, then fields.
    let big = format!(
        "GET /open HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
        "a".repeat(33 * 1024)
    );
    problem(&open().send(big).answer(), 431);
    let many: String = (0..100).map(|n| format!("x-{n}: 1\r\n")).collect();
    let many = format!("GET /open HTTP/1.1\r\nHost: a\r\n{many}\r\n");
    problem(&open().send(many).answer(), 431);
    // 413: declared, then counted.
    let declared = "POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 1025\r\n\r\n";
    problem(&open().send(declared).answer(), 413);
    let chunk = "a".repeat(1025);
    let counted = format!(
        "POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n401\r\n{chunk}\r\n0\r\n\r\n"
    );
    problem(&open().send(counted).answer(), 413);
    // 429: the second call of one client, whichever token it shows; another client is not concerned.
    let token = || issuer.token(READER, &["accounts:read"]);
    assert_eq!(
        get(gateway.address(), "/limited", Some(&token())).status,
        200
    );
    let limited = get(gateway.address(), "/limited", Some(&token()));
    problem(&limited, 429);
    assert!(
        limited
            .header("retry-after")
            .unwrap()
            .parse::<u32>()
            .unwrap()
            > 50
    );
    let other = issuer.token("eazybank-callcenter-cc", &[]);
    assert_eq!(get(gateway.address(), "/limited", Some(&other)).status, 200);
}

#[test]
fn ninety_ordinary_fields_and_a_long_target_pass() {
    let (issuer, origin) = (issuer(), Origin::start());
    let gateway = start(&issuer, &origin);
    let fields: String = (0..90).map(|n| format!("x-field-{n}: value\r\n")).collect();
    let target = format!("/open/{}", "a".repeat(7000));
    let answer = Connection::open(gateway.address())
        .send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
        .answer();
    assert_eq!(answer.status, 200);
}

#[test]
fn upstream_failures_are_502_503_and_504() {
    let issuer = issuer();
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dead_address = dead.local_addr().unwrap();
    drop(dead);
    let silent = Origin::answering(|_, _| {});
    let broken = Origin::answering(|_, stream| stream.write_all(b"nonsense\r\n\r\n").unwrap());
    let slow = Origin::answering(|request, stream| {
        if request.line.contains("/busy/held") {
            std::thread::park_timeout(std::time::Duration::from_secs(20));
        }
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
    });
    let gateway = Setup::new(&issuer, slow.address())
        .upstreams(format!(
            "{{ dead: {{ peers: ['{dead_address}'] }},
                silent: {{ peers: ['{}'], timeouts: {{ read: 200ms }} }},
                broken: {{ peers: ['{}'] }},
                busy: {{ peers: ['{}'], breaker: {{ max_in_flight: 1 }} }},
                nameless: {{ peers: ['no-such-host.invalid:80'] }} }}",
            silent.address(),
            broken.address(),
            slow.address(),
        ))
        .routes(
            ["dead", "silent", "broken", "busy", "nameless"]
                .map(|name| {
                    format!(
                        "{{ name: {name}, match: {{ path: /{name} }}, upstream: {name}, access: public }}"
                    )
                })
                .join(",\n")
                .pipe(|routes| format!("[{routes}]")),
        )
        .start();
    let status = |path: &str| get(gateway.address(), path, None);
    problem(&status("/dead"), 502);
    problem(&status("/broken"), 502);
    problem(&status("/silent"), 504);
    let nameless = status("/nameless");
    problem(&nameless, 503);
    assert!(nameless.header("retry-after").is_some());
    let mut held = Connection::open(gateway.address());
    held.send("GET /busy/held HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the held request is in flight", || {
        gateway.metric("portcullis_upstream_in_flight{upstream=\"busy\"}") == 1.0
    });
    let busy = status("/busy");
    problem(&busy, 503);
    assert!(busy.header("retry-after").is_some());
    for (upstream, outcome) in [
        ("dead", "connect_failed"),
        ("broken", "failed"),
        ("silent", "timeout"),
    ] {
        let series = format!(
            "portcullis_upstream_requests_total{{outcome=\"{outcome}\",upstream=\"{upstream}\"}}"
        );
        gateway.counts(&series, 1.0);
    }
}

/// A peer that closed its pooled connection is asked again on a new one: it is not a peer that refused.
#[test]
fn a_connection_that_died_in_the_pool_costs_no_request() {
    let issuer = issuer();
    let origin = Origin::answering(|_, stream| {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
        // Without `Connection: close`: the gateway keeps the connection and finds it dead.
        stream.shutdown(std::net::Shutdown::Both).unwrap();
    });
    let gateway = Setup::new(&issuer, origin.address())
        .routes(reader_route())
        .start();
    for _ in 0..20 {
        assert_eq!(get(gateway.address(), "/open", None).status, 200);
    }
}

trait Pipe: Sized {
    fn pipe<T>(self, into: impl FnOnce(Self) -> T) -> T {
        into(self)
    }
}

impl Pipe for String {}

#[test]
fn head_answers_like_get_without_a_body() {
    let (issuer, origin) = (issuer(), Origin::start());
    let gateway = start(&issuer, &origin);
    let mut connection = Connection::open(gateway.address());
    let answer = connection
        .send("HEAD /accounts HTTP/1.1\r\nHost: a\r\n\r\n")
        .answer_to(true);
    assert_eq!(answer.status, 401);
    assert!(
        answer
            .header("content-length")
            .unwrap()
            .parse::<u32>()
            .unwrap()
            > 0
    );
    // What follows on the connection is the next answer: there was no body.
    let next = connection
        .send("GET /open HTTP/1.1\r\nHost: a\r\n\r\n")
        .answer();
    assert_eq!(next.status, 200);
}

#[test]
fn a_rejection_keeps_the_connection_alive() {
    let (issuer, origin) = (issuer(), Origin::start());
    let gateway = start(&issuer, &origin);
    let token = issuer.token(READER, &["accounts:read"]);
    let mut connection = Connection::open(gateway.address());
    for (head, status) in [
        ("GET /accounts HTTP/1.1\r\nHost: a\r\n\r\n", 401),
        (
            "GET /accounts HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer a.b.c\r\n\r\n",
            401,
        ),
        ("GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        ("DELETE /accounts HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        ("GET /open/../x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (
            "POST /accounts HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
            401,
        ),
    ] {
        assert_eq!(connection.send(head).answer().status, status, "{head}");
    }
    let good =
        format!("GET /accounts HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n");
    assert_eq!(connection.send(good).answer().status, 200);
}

#[test]
fn a_token_on_a_public_route_is_not_judged() {
    let (issuer, origin) = (issuer(), Origin::start());
    let gateway = start(&issuer, &origin);
    assert_eq!(get(gateway.address(), "/open", Some("a.b.c")).status, 200);
    let received = origin.only();
    assert!(received.header("authorization").is_none());
    assert!(
        !received
            .headers
            .iter()
            .any(|(name, _)| name.starts_with("x-auth-"))
    );
}
