//! The request itself, and the connection that it came on.

use super::*;

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
