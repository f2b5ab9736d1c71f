//! Slow callers over HTTP/1.1: each wait has an end, and whoever is not served is not waited for either.

use std::io::Write;

use portcullis::demo::issuer::{Issuer, IssuerOptions};

use crate::support::{Connection, Gateway, Origin, Setup, eventually, get};

fn start(origin: &Origin, limits: &str) -> Gateway {
    let issuer = Issuer::start_blocking(IssuerOptions::default()).unwrap();
    Setup::new(&issuer, origin.address())
        .limits(limits)
        .routes("[{ name: open, match: { path: /open }, upstream: origin, access: public }]")
        .start()
}

const GET: &str = "GET /open HTTP/1.1\r\nHost: a\r\n\r\n";

fn all_have_gone(gateway: &Gateway) {
    eventually("no connection is left", || {
        gateway.metric("portcullis_connections_open{listener=\"127.0.0.1:1\"}") == 0.0
    });
}

#[test]
fn an_idle_connection_ends_with_keep_alive() {
    let origin = Origin::start();
    let gateway = start(&origin, "{ keep_alive: 1s }");
    let mut client = Connection::open(gateway.address());
    for _ in 0..2 {
        assert_eq!(client.send(GET).answer().status, 200);
    }
    assert!(client.is_closed());
    // Empty lines are no request, and do not keep it alive.
    let mut client = Connection::open(gateway.address());
    assert_eq!(client.send(GET).answer().status, 200);
    client.send("\r\n");
    assert!(client.is_closed());
    all_have_gone(&gateway);
}

#[test]
fn a_head_that_stops_is_408_on_every_request_of_a_connection() {
    let origin = Origin::start();
    let gateway = start(&origin, "{ header_timeout: 300ms }");
    for before in 0..2 {
        let mut client = Connection::open(gateway.address());
        for _ in 0..before {
            assert_eq!(client.send(GET).answer().status, 200);
        }
        let answer = client.send("GET /open HTTP/1.1\r\nHost:").answer();
        assert_eq!(answer.status, 408);
        assert!(client.is_closed());
    }
    all_have_gone(&gateway);
}

/// More than the kernel keeps for a caller that does not read.
#[test]
fn a_response_that_is_not_read_is_given_up() {
    let origin = Origin::answering(|request, stream| {
        let length = if request.line.contains("/large") {
            64 * 1024 * 1024
        } else {
            0
        };
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"
        );
        let piece = vec![b'x'; 1024 * 1024];
        for _ in 0..length / piece.len() {
            if stream.write_all(&piece).is_err() {
                return;
            }
        }
    });
    let gateway = start(&origin, "{ write_timeout: 300ms }");
    let mut client = Connection::open(gateway.address());
    client.send("GET /open/large HTTP/1.1\r\nHost: a\r\n\r\n");
    let log = gateway.access_log(1);
    assert_eq!(log[0]["status"], 200);
    assert_eq!(log[0]["reason"], "caller_gone");
    eventually("nothing is in flight", || {
        gateway.metric("portcullis_upstream_in_flight{upstream=\"origin\"}") == 0.0
    });
    all_have_gone(&gateway);
    assert_eq!(get(gateway.address(), "/open", None).status, 200);
    drop(client);
}
