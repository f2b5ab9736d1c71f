//! Peers that answer nonsense, half of it, too much of it or nothing: each has its status, its reason and its metric.

use std::net::TcpStream;

use portcullis::demo::issuer::{Issuer, IssuerOptions};

use crate::support::{Connection, Gateway, Setup, Wire, get, reset};

fn before(wire: &Wire) -> Gateway {
    let issuer = Issuer::start_blocking(IssuerOptions::default()).unwrap();
    Setup::new(&issuer, wire.address())
        .pool(
            &[wire.address()],
            "timeouts: { read: 300ms }, retries: { attempts: 1 }",
        )
        .routes("[{ name: open, match: { path: /open }, upstream: pool, access: public }]")
        .start_unready()
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Then {
    /// The connection stays open and nothing more comes.
    Silence,
    End,
    Reset,
}

fn asked(gateway: &Gateway, wire: &Wire) -> (Connection, Connection<TcpStream>) {
    let mut caller = Connection::open(gateway.address());
    caller.send("GET /open HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut peer = wire.accept();
    peer.head();
    (caller, peer)
}

fn counted(gateway: &Gateway, reason: &str, outcome: &str, times: usize) {
    let times = times as f64;
    gateway.counts(
        &format!("portcullis_rejections_total{{reason=\"{reason}\",route=\"open\"}}"),
        times,
    );
    gateway.counts(
        &format!("portcullis_upstream_requests_total{{outcome=\"{outcome}\",upstream=\"pool\"}}"),
        times,
    );
}

#[test]
fn what_is_no_answer_is_502_or_504() {
    use Then::{End, Reset, Silence};
    let wire = Wire::start();
    let gateway = before(&wire);
    let many: String = (0..400).map(|n| format!("X-{n}: a\r\n")).collect();
    let long = format!("X: {}\r\n", "a".repeat(1100 * 1024));
    let (mut failed, mut late) = (0, 0);
    for (bytes, then) in [
        ("", End),
        ("", Reset),
        ("", Silence),
        ("HTTP/1.1 200 OK\r\nContent-Le", End),
        ("HTTP/1.1 200 OK\r\nContent-Le", Reset),
        ("HTTP/1.1 200 OK\r\nContent-Le", Silence),
        // No HTTP, or none that we speak.
        ("SSH-2.0-OpenSSH_9.6\r\n", Silence),
        ("\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n", Silence),
        ("220 mail.example.com ESMTP\r\n", Silence),
        ("<html>It works!</html>\r\n\r\n", Silence),
        ("HTTP/2 200\r\n\r\n", Silence),
        ("HTTP/1.1 200OK\r\n\r\n", Silence),
        ("HTTP/1.1 2x0 OK\r\n\r\n", Silence),
        ("HTTP/1.1 20 OK\r\n\r\n", Silence),
        ("HTTP/1.1 099 OK\r\n\r\n", Silence),
        (
            "HTTP/1.1 200 OK\r\nX Y: a\r\nContent-Length: 0\r\n\r\n",
            Silence,
        ),
        (
            "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
            Silence,
        ),
        (
            "HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 0\r\n\r\n",
            Silence,
        ),
        // A length that is none, or two.
        (
            "HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\nhello",
            Silence,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
            Silence,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
            Silence,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
            Silence,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nhello",
            Silence,
        ),
        // Too much head.
        (&format!("HTTP/1.1 200 OK\r\n{many}\r\n"), Silence),
        (&format!("HTTP/1.1 200 OK\r\n{long}\r\n"), Silence),
        // Nobody asked for another protocol.
        (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nhello",
            Silence,
        ),
    ] {
        let (mut caller, mut peer) = asked(&gateway, &wire);
        // It may have been hung up on before the last byte.
        peer.try_send(bytes);
        let mut open = Some(peer);
        match then {
            End => drop(open.take()),
            Reset => reset(open.take().unwrap().into_inner()),
            Silence => {}
        }
        let answer = caller.answer();
        let shown = &bytes[..bytes.len().min(60)];
        let begun = "HTTP/1.1 200 OK\r\nContent-Le".starts_with(bytes);
        let expected = if then == Silence && begun { 504 } else { 502 };
        assert_eq!(answer.status, expected, "{shown:?} then {then:?}");
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json")
        );
        match expected {
            504 => late += 1,
            _ => failed += 1,
        }
        let (reason, outcome, times) = match expected {
            504 => ("upstream_timeout", "timeout", late),
            _ => ("upstream_failed", "failed", failed),
        };
        counted(&gateway, reason, outcome, times);
        if let Some(mut peer) = open {
            assert!(
                peer.try_rest().is_some(),
                "{shown:?}: the connection is kept"
            );
        }
    }
}

/// Heads without end: each line is fine, and there are always more.
#[test]
fn a_head_without_end_is_given_up() {
    let wire = Wire::start();
    let gateway = before(&wire);
    for line in [
        "X-Another: one\r\n".to_owned(),
        format!("X: {}\r\n", "a".repeat(60_000)),
    ] {
        let (mut caller, mut peer) = asked(&gateway, &wire);
        peer.send("HTTP/1.1 200 OK\r\n");
        let mut sent = 0;
        while peer.try_send(&line) {
            sent += line.len();
            assert!(sent < 64 << 20, "nobody stops reading");
        }
        assert_eq!(caller.answer().status, 502);
    }
    counted(&gateway, "upstream_failed", "failed", 2);
}

#[test]
fn interim_answers_without_end_are_given_up() {
    let wire = Wire::start();
    let gateway = before(&wire);
    for interim in [
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 102 Processing\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
    ] {
        let (mut caller, mut peer) = asked(&gateway, &wire);
        let mut sent = 0;
        while peer.try_send(interim) {
            sent += 1;
            assert!(sent < 1_000_000, "nobody stops reading");
        }
        let mut relayed = 0;
        let answer = loop {
            let answer = caller.answer();
            if answer.status >= 200 {
                break answer;
            }
            relayed += 1;
        };
        assert_eq!(answer.status, 502, "{interim:?}");
        assert!(relayed <= 16, "{relayed}");
    }
    counted(&gateway, "upstream_failed", "failed", 3);
    // As many as somebody could want still pass.
    let (mut caller, mut peer) = asked(&gateway, &wire);
    for _ in 0..16 {
        peer.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
    }
    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    for _ in 0..16 {
        assert_eq!(caller.answer().status, 103);
    }
    assert_eq!(caller.answer().status, 200);
}

/// Once the head has gone to the caller there is no other status: the body is cut, and nobody can take it for whole.
#[test]
fn a_body_that_goes_wrong_is_cut() {
    use Then::{End, Reset, Silence};
    let wire = Wire::start();
    let gateway = before(&wire);
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    const LENGTH: &str = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello";
    let (mut failed, mut late) = (0, 0);
    for (head, more, then) in [
        (LENGTH, "", End),
        (LENGTH, "", Reset),
        (LENGTH, "", Silence),
        (CHUNKED, "", End),
        (CHUNKED, "", Reset),
        (CHUNKED, "", Silence),
        (CHUNKED, "5\r\nhel", End),
        (CHUNKED, "zz\r\nhello\r\n", Silence),
        (CHUNKED, "-5\r\nhello\r\n", Silence),
        (CHUNKED, "ffffffffffffffffff\r\nhello", Silence),
        (CHUNKED, "0\r\n", End),
    ] {
        let (mut caller, mut peer) = asked(&gateway, &wire);
        peer.send(head);
        assert!(caller.head().starts_with("HTTP/1.1 200"));
        let body = caller.exactly(if head == CHUNKED { 10 } else { 5 });
        assert!(String::from_utf8(body).unwrap().contains("hello"));
        peer.send(more);
        match then {
            End => drop(peer),
            Reset => reset(peer.into_inner()),
            Silence => assert!(peer.try_rest().is_some(), "the connection is kept"),
        }
        let rest = String::from_utf8(caller.rest()).unwrap();
        assert!(!rest.ends_with("0\r\n\r\n"), "{head:?} {more:?}: {rest:?}");
        match (then, more) {
            (Silence, "") => late += 1,
            _ => failed += 1,
        }
    }
    let outcomes = |outcome: &str, times: f64| {
        gateway.counts(
            &format!(
                "portcullis_upstream_requests_total{{outcome=\"{outcome}\",upstream=\"pool\"}}"
            ),
            times,
        );
    };
    outcomes("failed", f64::from(failed));
    outcomes("timeout", f64::from(late));
    for line in gateway.access_log((failed + late) as usize) {
        assert_eq!(line["status"], 200);
        let reason = line["reason"].as_str().unwrap();
        assert!(
            ["upstream_failed", "upstream_timeout"].contains(&reason),
            "{line}"
        );
    }
}

/// What a peer sends beyond its answer must never become the answer to somebody else.
#[test]
fn bytes_beyond_an_answer_answer_nobody() {
    const EVIL: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let wire = Wire::start();
    let gateway = before(&wire);
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
    ] {
        let (mut caller, mut peer) = asked(&gateway, &wire);
        peer.send(format!("{answer}{EVIL}"));
        let got = caller.answer();
        assert!(got.body == b"hello" || got.body.is_empty(), "{answer:?}");
        // The next request goes over another connection.
        caller.send("GET /open HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut next = wire.accept();
        next.head();
        next.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nmine");
        assert_eq!(caller.answer().text(), "mine", "{answer:?}");
    }
}

/// An answer that comes before anything was asked, on a connection that waits in the pool.
#[test]
fn an_answer_that_nobody_asked_for_ends_the_connection() {
    let wire = Wire::start();
    let gateway = before(&wire);
    let (mut caller, mut peer) = asked(&gateway, &wire);
    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(caller.answer().text(), "hello");
    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
    assert!(peer.is_closed(), "it is used again");
    caller.send("GET /open HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut next = wire.accept();
    next.head();
    next.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmine");
    assert_eq!(caller.answer().text(), "mine");
    assert_eq!(get(gateway.admin(), "/livez", None).status, 200);
}

/// Each other coding is the service's own, and a caller might read it otherwise than we do.
#[test]
fn an_answer_in_another_coding_than_chunks_is_502() {
    let wire = Wire::start();
    let gateway = before(&wire);
    for coding in [
        "gzip",
        "identity",
        "xchunked",
        "chunked, chunked",
        "gzip, chunked",
        "chunked\r\nTransfer-Encoding: chunked",
        "",
    ] {
        let (mut caller, mut peer) = asked(&gateway, &wire);
        peer.send(format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: {coding}\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        ));
        assert_eq!(caller.answer().status, 502, "{coding}");
        assert!(
            peer.try_rest().is_some(),
            "{coding}: the connection is kept"
        );
    }
    counted(&gateway, "upstream_failed", "failed", 7);
}

#[test]
fn a_length_is_said_once_or_not_at_all() {
    let wire = Wire::start();
    let gateway = before(&wire);
    let mut caller = Connection::open(gateway.address());
    let mut peer: Option<Connection<TcpStream>> = None;
    for (status, fields, length, body) in [
        (
            "200 OK",
            "Content-Length: 5\r\nContent-Length: 5",
            Some("5"),
            "hello",
        ),
        ("200 OK", "Content-Length: 5, 5", Some("5"), "hello"),
        ("204 No Content", "Content-Length: 0", None, ""),
        ("204 No Content", "Content-Length: 5", None, ""),
        ("204 No Content", "Transfer-Encoding: chunked", None, ""),
        ("304 Not Modified", "Content-Length: 5", Some("5"), ""),
    ] {
        caller.send("GET /open HTTP/1.1\r\nHost: a\r\n\r\n");
        let peer = peer.get_or_insert_with(|| wire.accept());
        peer.head();
        peer.send(format!("HTTP/1.1 {status}\r\n{fields}\r\n\r\n{body}"));
        let answer = caller.answer();
        assert_eq!(answer.header("content-length"), length, "{status} {fields}");
        assert_eq!(answer.header("transfer-encoding"), None, "{fields}");
        assert_eq!(answer.text(), body, "{status} {fields}");
    }
}

/// RFC 9110 section 7.6.1: what a peer names in `Connection` was for us alone.
#[test]
fn what_a_peer_names_in_connection_stays_with_us() {
    let wire = Wire::start();
    let gateway = before(&wire);
    for named in [
        "Connection: X-Hop",
        "Connection: keep-alive, x-hop , content-length",
        "Connection: keep-alive\r\nConnection: x-HOP",
        "Connection: transfer-encoding,,;,X-Hop",
    ] {
        let (mut caller, mut peer) = asked(&gateway, &wire);
        peer.send(format!(
            "HTTP/1.1 200 OK\r\nX-Hop: secret\r\nTE: trailers\r\nX-Kept: a\r\n{named}\r\n\
             Content-Length: 5\r\n\r\nhello"
        ));
        let answer = caller.answer();
        assert_eq!((answer.status, answer.text()), (200, "hello"), "{named}");
        assert_eq!(answer.header("x-hop"), None, "{named}");
        assert_eq!(answer.header("te"), None, "{named}");
        assert_eq!(answer.header("x-kept"), Some("a"), "{named}");
        assert_eq!(answer.header("connection"), Some("keep-alive"), "{named}");
    }
}

/// RFC 9110 sections 10.1.1 and 15.2. What it expects is no service's to answer, either.
#[test]
fn a_caller_of_http_1_0_hears_no_interim_answers() {
    let wire = Wire::start();
    let gateway = before(&wire);
    let mut caller = Connection::open(gateway.address());
    caller.send(
        "POST /open HTTP/1.0\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nhi",
    );
    let mut peer = wire.accept();
    let head = peer.head().to_ascii_lowercase();
    assert!(!head.contains("expect"), "{head}");
    assert_eq!(peer.exactly(2), b"hi");
    peer.send(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    );
    let answer = caller.answer();
    assert_eq!((answer.status, answer.text()), (200, "hello"));
}
