//! Connections to upstreams: used again, dying, and who gets which answer.

use super::*;

#[test]
fn connections_to_an_upstream_are_used_again() {
    let origin = Origin::answering(|request, stream| {
        let close = if request.line.contains("/last") {
            "Connection: close\r\n"
        } else {
            ""
        };
        write!(
            stream,
            "HTTP/1.1 200 OK\r\n{close}Content-Length: 0\r\n\r\n"
        )
        .unwrap();
    });
    let gateway = in_front_of(&format!("{{ peers: ['{}'] }}", origin.address())).start_unready();
    for _ in 0..5 {
        assert_eq!(get(gateway.address(), "/open", None).status, 200);
    }
    let post = "POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    let mut client = Connection::open(gateway.address());
    assert_eq!(client.send(post).answer().status, 200);
    assert_eq!(origin.connections(), 1);
    assert_eq!(get(gateway.address(), "/open/last", None).status, 200);
    assert_eq!(client.send(post).answer().status, 200);
    assert_eq!(origin.connections(), 2);
}

/// Both ends, after one answer has gone over them.
fn served_once(gateway: &Gateway, wire: &Wire) -> (Connection, Connection) {
    let (mut client, mut upstream) = asked(gateway, wire, "GET /open HTTP/1.1\r\nHost: a\r\n\r\n");
    upstream.send(HELLO);
    assert_eq!(client.answer().status, 200);
    (client, upstream)
}

/// A connection that was good a moment ago may be gone: nobody knows whether the request was carried out.
#[test]
fn a_post_on_a_dying_connection_is_sent_once() {
    let wire = Wire::start();
    let gateway = before(&wire);
    let (mut client, mut upstream) = served_once(&gateway, &wire);
    client.send("POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    assert!(upstream.head().starts_with("POST"), "the same connection");
    assert_eq!(upstream.exactly(5), b"hello");
    drop(upstream);
    assert_eq!(client.answer().status, 502);
    assert!(!wire.is_wanted());
}

/// What may be asked twice is asked again, on a connection of its own.
#[test]
fn a_get_on_a_dying_connection_is_sent_again() {
    let wire = Wire::start();
    let gateway = before(&wire);
    let (mut client, mut upstream) = served_once(&gateway, &wire);
    client.send("GET /open/again HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(upstream.head().contains("again"), "the same connection");
    drop(upstream);
    let mut upstream = wire.accept();
    assert!(upstream.head().contains("again"));
    // A connection that was made for this request is no accident of the pool's: that was the last try.
    drop(upstream);
    assert_eq!(client.answer().status, 502);
    assert!(!wire.is_wanted());
    gateway.counts(&carried("ok"), 1.0);
    gateway.counts(&carried("failed"), 1.0);
}

/// What was counted of a body is counted anew with it.
#[test]
fn a_body_that_is_sent_again_counts_once() {
    let wire = Wire::start();
    let gateway = in_front_of(&format!("{{ peers: ['{}'] }}", wire.address()))
        .routes(
            "[{ name: open, match: { path: /open }, upstream: origin, access: public, body_bytes: 8B }]",
        )
        .start_unready();
    let mut client = Connection::open(gateway.address());
    let put = "PUT /open HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    client.send(put);
    let mut upstream = wire.accept();
    upstream.head();
    assert_eq!(upstream.exactly(5), b"hello");
    upstream.send(HELLO);
    assert_eq!(client.answer().status, 200);
    client.send(put);
    upstream.head();
    assert_eq!(upstream.exactly(5), b"hello");
    drop(upstream);
    let mut upstream = wire.accept();
    upstream.head();
    assert_eq!(upstream.exactly(5), b"hello");
    upstream.send(HELLO);
    assert_eq!(client.answer().status, 200);
    assert_eq!(gateway.access_log(2)[1]["bytes_in"], 5);
}

#[test]
fn an_upstream_that_leaves_before_its_answer_is_502() {
    let wire = Wire::start();
    let gateway = before(&wire);
    for half in ["", "HTTP/1.1 200 OK\r\nContent-"] {
        let (mut client, mut upstream) =
            asked(&gateway, &wire, "GET /open HTTP/1.1\r\nHost: a\r\n\r\n");
        upstream.send(half);
        drop(upstream);
        assert_eq!(client.answer().status, 502, "{half:?}");
    }
    gateway.counts(&carried("failed"), 2.0);
}

#[test]
fn a_client_that_leaves_gives_its_place_back() {
    let wire = Wire::start();
    let gateway = before(&wire);
    for request in [
        "GET /open HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf",
    ] {
        let (client, mut upstream) = asked(&gateway, &wire, request);
        gateway.counts(IN_FLIGHT, 1.0);
        drop(client);
        gateway.counts(IN_FLIGHT, 0.0);
        // The upstream hears of it too.
        upstream.rest();
    }
    for line in gateway.access_log(2) {
        assert_eq!(
            (&line["status"], &line["reason"]),
            (&499.into(), &"caller_gone".into())
        );
    }
}

#[test]
fn many_callers_at_once_get_their_own_answers() {
    let origin = Origin::echoing();
    let gateway = in_front_of(&format!("{{ peers: ['{}'] }}", origin.address())).start_unready();
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for caller in 0..32 {
            let (gateway, wrong) = (&gateway, &wrong);
            scope.spawn(move || {
                let mut client = Connection::open(gateway.address());
                for turn in 0..20 {
                    let line = format!("GET /open/{caller}/{turn} HTTP/1.1");
                    let answer = client.send(format!("{line}\r\nHost: a\r\n\r\n")).answer();
                    if answer.text() != line {
                        wrong.lock().unwrap().push((line, answer));
                    }
                }
            });
        }
    });
    assert!(wrong.lock().unwrap().is_empty());
    eventually("nothing is in flight", || gateway.metric(IN_FLIGHT) == 0.0);
}
