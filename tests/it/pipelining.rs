//! Requests that do not wait for the answer to the one before (RFC 9112 section 9.3.2).

use portcullis::demo::issuer::{Issuer, IssuerOptions};

use crate::support::{Connection, Gateway, Setup, StrictOrigin, Wire};

const ROUTES: &str = "[{ name: open, match: { path: /open }, upstream: origin, access: public },
    { name: closed, match: { path: /closed }, upstream: origin, access: {} }]";

const HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

fn issuer() -> Issuer {
    Issuer::start_blocking(IssuerOptions::default()).unwrap()
}

fn before(wire: &Wire) -> Gateway {
    Setup::new(&issuer(), wire.address())
        .routes(ROUTES)
        .start_unready()
}

fn ask(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

/// A token is good for its own request, whatever stands before or behind it on the connection.
#[test]
fn each_is_judged_alone() {
    let issuer = issuer();
    let origin = StrictOrigin::start();
    let gateway = Setup::new(&issuer, origin.address()).routes(ROUTES).start();
    let bearer = format!(
        "Authorization: Bearer {}\r\n",
        issuer.token("eazybank-callcenter-cc", &[])
    );
    let inner = ask("/open/smuggled", "");
    let with_body = |path: &str| {
        let length = inner.len();
        format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{inner}")
    };
    let chunked = format!(
        "POST /open/3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{inner}\r\n0\r\n\r\n",
        inner.len(),
    );
    let row = [
        (ask("/open/1", ""), 200),
        (ask("/closed/1", ""), 401),
        (ask("/closed/2", &bearer), 200),
        (ask("/closed/3", ""), 401),
        (with_body("/open/2"), 200),
        (with_body("/closed/4"), 401),
        (chunked, 200),
        (with_body("/nowhere"), 404),
        (ask("/closed/5", &bearer), 200),
        (ask("/open/4", "Connection: close\r\n"), 200),
    ];
    let mut client = Connection::open(gateway.address());
    let sent: String = row.iter().map(|(bytes, _)| bytes.as_str()).collect();
    client.send(sent + &ask("/open/late", ""));
    for (bytes, status) in &row {
        assert_eq!(client.answer().status, *status, "{bytes}");
    }
    assert_eq!(client.try_rest(), Some(Vec::new()));
    let seen = origin.take();
    assert_eq!(seen.faults, [""; 0]);
    assert_eq!(
        seen.lines,
        [
            "GET /open/1 HTTP/1.1",
            "GET /closed/2 HTTP/1.1",
            "POST /open/2 HTTP/1.1",
            "POST /open/3 HTTP/1.1",
            "GET /closed/5 HTTP/1.1",
            "GET /open/4 HTTP/1.1",
        ]
    );
    // The log has each of them, once.
    assert_eq!(gateway.access_log(row.len()).len(), row.len());
}

/// Some clients send an empty line after a body, and others their next request before the answer is here.
#[test]
fn what_comes_early_does_not_break_off_what_is_being_answered() {
    let wire = Wire::start();
    let gateway = before(&wire);
    let mut client = Connection::open(gateway.address());
    client.send("POST /open/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
    let mut upstream = wire.accept();
    assert!(upstream.head().starts_with("POST /open/1 "));
    assert_eq!(upstream.exactly(2), b"hi");
    client.send("\r\n");
    client.send(ask("/open/2", ""));
    upstream.send(HELLO);
    assert_eq!(client.answer().status, 200);
    assert!(upstream.head().starts_with("GET /open/2 "));
    upstream.send(HELLO);
    assert_eq!(client.answer().status, 200);
    assert_eq!(gateway.access_log(2)[0]["status"], 200);
}

/// What one server takes for a request behind it, another may take for a part of it.
#[test]
fn behind_a_request_with_two_readings_is_nothing() {
    let origin = StrictOrigin::start();
    let gateway = Setup::new(&issuer(), origin.address())
        .routes(ROUTES)
        .start_unready();
    for doubtful in [
        ask("/open//", ""),
        ask("/open/../closed", ""),
        ask("/open", "Host: b\r\n"),
        "GET /open HTTP/1.1\r\n\r\n".to_owned(),
        "GET http://b/open HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
    ] {
        let mut client = Connection::open(gateway.address());
        client.send(doubtful.clone() + &ask("/open/smuggled", ""));
        let answer = client.answer();
        let told = answer.header("connection");
        assert_eq!((answer.status, told), (400, Some("close")), "{doubtful}");
        assert_eq!(client.try_rest(), Some(Vec::new()), "{doubtful}");
        assert_eq!(origin.take().lines, [""; 0], "{doubtful}");
    }
}

/// Its own body is nothing behind it, whether it comes at once or not.
#[test]
fn a_refused_requests_body_is_its_own() {
    let origin = StrictOrigin::start();
    let gateway = Setup::new(&issuer(), origin.address())
        .routes(ROUTES)
        .start_unready();
    for target in ["/open//", "/closed", "/nowhere"] {
        for rest in 0..=5 {
            let mut client = Connection::open(gateway.address());
            let post = format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n");
            let (with, after) = "hello".split_at(rest);
            client.send(post + with);
            assert!(client.answer().status >= 400);
            client.send(after.to_owned() + &ask("/open/next", ""));
            assert_eq!(client.answer().status, 200, "{target} {rest}");
        }
    }
}

/// RFC 9112 section 9.3: the option counts wherever it stands. Pingora reads the first of these fields alone.
#[test]
fn close_is_heard_in_every_connection_field() {
    let origin = StrictOrigin::start();
    let gateway = Setup::new(&issuer(), origin.address())
        .routes(ROUTES)
        .start_unready();
    for fields in [
        "Connection: close\r\n",
        "Connection: keep-alive, Close\r\n",
        "Connection: keep-alive\r\nConnection: close\r\n",
        "Connection: x\r\nConnection: y,close ,z\r\n",
    ] {
        for (path, status) in [("/open", 200), ("/closed", 401)] {
            let mut client = Connection::open(gateway.address());
            client.send(ask(path, fields) + &ask("/open/late", ""));
            let answer = client.answer();
            let told = answer.header("connection");
            assert_eq!((answer.status, told), (status, Some("close")), "{fields}");
            assert_eq!(client.try_rest(), Some(Vec::new()), "{fields}");
        }
    }
}
