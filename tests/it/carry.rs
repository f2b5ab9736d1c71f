//! What happens to a request that may pass: bodies, framing, pools and their timeouts.

use std::io::Write;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use portcullis::clock::Clock;
use portcullis::demo::issuer::{Issuer, IssuerOptions};

use crate::support::{Closed, Connection, Full, Gateway, Origin, Setup, Wire, eventually, get};

const HELLO: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

fn issuer() -> Issuer {
    Issuer::start_blocking(IssuerOptions::default()).unwrap()
}

/// A public route `/open` and a protected one to this upstream, given as its YAML.
fn in_front_of(upstream: &str) -> Setup {
    Setup::new(&issuer(), ([127, 0, 0, 1], 1).into())
        .upstreams(format!("{{ origin: {upstream} }}"))
        .routes(
            "[{ name: open, match: { path: /open }, upstream: origin, access: public },
              { name: closed, match: { path: /closed }, upstream: origin, access: {} }]",
        )
}

fn before(wire: &Wire) -> Gateway {
    in_front_of(&format!("{{ peers: ['{}'] }}", wire.address())).start_unready()
}

fn carried(outcome: &str) -> String {
    format!("portcullis_upstream_requests_total{{outcome=\"{outcome}\",upstream=\"origin\"}}")
}

const IN_FLIGHT: &str = "portcullis_upstream_in_flight{upstream=\"origin\"}";

/// Bytes that no framing mistake leaves as they are.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn digest(bytes: &[u8]) -> Vec<u8> {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().to_vec()
}

/// A body in chunks of uneven sizes.
fn chunked(body: &[u8]) -> Vec<u8> {
    let mut framed = Vec::new();
    let mut rest = body;
    let mut size = 1;
    while !rest.is_empty() {
        let (chunk, left) = rest.split_at(size.min(rest.len()));
        write!(framed, "{:x}\r\n", chunk.len()).unwrap();
        framed.extend_from_slice(chunk);
        framed.extend_from_slice(b"\r\n");
        rest = left;
        size = size * 3 % 100_003 + 1;
    }
    framed.extend_from_slice(b"0\r\n\r\n");
    framed
}

#[test]
fn a_chunked_request_body_streams() {
    let wire = Wire::start();
    let gateway = before(&wire);
    let mut client = Connection::open(gateway.address());
    client
        .send("POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
    let mut upstream = wire.accept();
    assert!(upstream.head().starts_with("POST /open HTTP/1.1\r\n"));
    // The second chunk does not exist yet, so nothing can have waited for it.
    assert_eq!(upstream.chunk(), b"first");
    client.send("6\r\nsecond\r\n");
    assert_eq!(upstream.chunk(), b"second");
    client.send("0\r\n\r\n");
    assert_eq!(upstream.chunk(), b"");
    upstream.send(HELLO);
    assert_eq!(client.answer().text(), "hello");
}

#[test]
fn a_request_body_of_known_length_streams() {
    let wire = Wire::start();
    let gateway = before(&wire);
    let mut client = Connection::open(gateway.address());
    client.send("PUT /open HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n");
    let mut upstream = wire.accept();
    let head = upstream.head().to_ascii_lowercase();
    assert!(head.contains("\r\ncontent-length: 11\r\n"), "{head}");
    assert!(!head.contains("transfer-encoding"), "{head}");
    client.send("first");
    assert_eq!(upstream.exactly(5), b"first");
    client.send("second");
    assert_eq!(upstream.exactly(6), b"second");
    upstream.send(HELLO);
    assert_eq!(client.answer().text(), "hello");
}

#[test]
fn a_response_body_streams_in_every_framing() {
    let wire = Wire::start();
    let gateway = before(&wire);
    let ask = || {
        let mut client = Connection::open(gateway.address());
        client.send("GET /open HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let mut upstream = wire.accept();
        upstream.head();
        (client, upstream)
    };
    // Chunked.
    let (mut client, mut upstream) = ask();
    upstream.send(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nfirst\r\n",
    );
    client.head();
    assert_eq!(client.chunk(), b"first");
    upstream.send("6\r\nsecond\r\n0\r\n\r\n");
    assert_eq!((client.chunk(), client.chunk()), (b"second".into(), vec![]));
    // Of known length.
    let (mut client, mut upstream) = ask();
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 11\r\nConnection: close\r\n\r\nfirst");
    client.head();
    assert_eq!(client.exactly(5), b"first");
    upstream.send("second");
    assert_eq!(client.exactly(6), b"second");
    // Ended by the connection, which HTTP/1.1 clients get in chunks.
    let (mut client, mut upstream) = ask();
    upstream.send("HTTP/1.1 200 OK\r\n\r\nfirst");
    let head = client.head().to_ascii_lowercase();
    assert!(
        head.contains("\r\ntransfer-encoding: chunked\r\n"),
        "{head}"
    );
    assert_eq!(client.chunk(), b"first");
    upstream.send("second");
    assert_eq!(client.chunk(), b"second");
    drop(upstream);
    assert_eq!(client.chunk(), b"");
}

#[test]
fn eight_mebibytes_survive_both_ways() {
    let body = noise(8 * 1024 * 1024);
    let origin = Origin::answering(|request, stream| {
        if request.line.contains("/chunked") {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                .unwrap();
            stream.write_all(&chunked(&request.body)).unwrap();
        } else {
            let length = request.body.len();
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"
            )
            .unwrap();
            stream.write_all(&request.body).unwrap();
        }
    });
    let gateway = in_front_of(&format!("{{ peers: ['{}'] }}", origin.address())).start_unready();
    let mut client = Connection::open(gateway.address());
    for path in ["/open/length", "/open/chunked"] {
        let plain = format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let answer = client.send(plain).send(&body).answer();
        assert_eq!(digest(&answer.body), digest(&body), "{path}");
        let framed =
            format!("POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        let answer = client.send(framed).send(chunked(&body)).answer();
        assert_eq!(digest(&answer.body), digest(&body), "{path}");
    }
    for received in origin.received() {
        assert_eq!(digest(&received.body), digest(&body), "{}", received.line);
    }
}

#[test]
fn head_asks_the_upstream_and_gets_no_body() {
    let origin = Origin::answering(|_, stream| {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4096\r\nETag: x\r\n\r\n")
            .unwrap();
    });
    let gateway = in_front_of(&format!("{{ peers: ['{}'] }}", origin.address())).start_unready();
    let mut client = Connection::open(gateway.address());
    for _ in 0..2 {
        // The second answer is in its place only if the first had no body.
        let answer = client
            .send("HEAD /open HTTP/1.1\r\nHost: a\r\n\r\n")
            .answer_to(true);
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-length"), Some("4096"));
        assert_eq!(answer.header("etag"), Some("x"));
    }
    let lines: Vec<String> = origin.received().into_iter().map(|r| r.line).collect();
    assert_eq!(lines, ["HEAD /open HTTP/1.1", "HEAD /open HTTP/1.1"]);
}

#[test]
fn a_continue_is_relayed_before_the_body() {
    let wire = Wire::start();
    let gateway = before(&wire);
    let mut client = Connection::open(gateway.address());
    client.send(
        "POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
    );
    let mut upstream = wire.accept();
    let head = upstream.head().to_ascii_lowercase();
    assert!(head.contains("\r\nexpect: 100-continue\r\n"), "{head}");
    upstream.send("HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(client.answer().status, 100);
    client.send("hello");
    assert_eq!(upstream.exactly(5), b"hello");
    upstream.send(HELLO);
    assert_eq!(client.answer().status, 200);
}

#[test]
fn an_upstream_may_go_on_and_fail() {
    let wire = Wire::start();
    let gateway = before(&wire);
    let mut client = Connection::open(gateway.address());
    client.send(
        "POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
    );
    let mut upstream = wire.accept();
    upstream.head();
    upstream.send("HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(client.answer().status, 100);
    drop(upstream);
    assert_eq!(client.answer().status, 502);
    assert_eq!(gateway.access_log(1)[0]["status"], 502);
}

#[test]
fn an_upstream_may_refuse_an_expectation() {
    let wire = Wire::start();
    let gateway = before(&wire);
    let mut client = Connection::open(gateway.address());
    client.send(
        "POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
    );
    let mut upstream = wire.accept();
    upstream.head();
    upstream.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno");
    let answer = client.answer();
    assert_eq!((answer.status, answer.text()), (413, "no"));
}

#[test]
fn a_rejection_answers_an_expectation_before_the_body() {
    let wire = Wire::start();
    let gateway = before(&wire);
    let mut client = Connection::open(gateway.address());
    let answer = client
        .send(
            "POST /closed HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
        )
        .answer();
    assert_eq!(answer.status, 401);
    assert!(answer.header("www-authenticate").is_some());
    // The body may come or not: only a closed connection leaves no doubt.
    assert!(client.is_closed());
    assert!(!wire.is_wanted());
}

#[test]
fn answers_without_a_body_have_none() {
    let origin = Origin::answering(|request, stream| {
        let head = match request.line.split('/').nth(2).unwrap() {
            rest if rest.starts_with("204") => "HTTP/1.1 204 No Content\r\n\r\n",
            rest if rest.starts_with("304") => {
                "HTTP/1.1 304 Not Modified\r\nETag: x\r\nContent-Length: 4096\r\n\r\n"
            }
            _ => "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        };
        stream.write_all(head.as_bytes()).unwrap();
    });
    let gateway = in_front_of(&format!("{{ peers: ['{}'] }}", origin.address())).start_unready();
    let mut client = Connection::open(gateway.address());
    for status in [204, 304, 200, 304, 204] {
        let answer = client
            .send(format!("GET /open/{status} HTTP/1.1\r\nHost: a\r\n\r\n"))
            .answer();
        assert_eq!((answer.status, answer.body.len()), (status, 0));
        if status == 304 {
            assert_eq!(answer.header("etag"), Some("x"));
        }
    }
    assert_eq!(
        origin.connections(),
        1,
        "each answer ended where it should have"
    );
}

#[test]
fn interim_responses_are_relayed() {
    let wire = Wire::start();
    let gateway = before(&wire);
    let mut client = Connection::open(gateway.address());
    client.send("GET /open HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut upstream = wire.accept();
    upstream.head();
    upstream.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n");
    let hints = client.answer();
    assert_eq!(hints.status, 103);
    assert_eq!(hints.header("link"), Some("</a.css>; rel=preload"));
    upstream.send(HELLO);
    let answer = client.answer();
    assert_eq!((answer.status, answer.text()), (200, "hello"));
}

#[test]
fn an_old_upstream_ends_its_body_by_closing() {
    let wire = Wire::start();
    let gateway = before(&wire);
    let mut client = Connection::open(gateway.address());
    for _ in 0..2 {
        client.send("GET /open HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut upstream = wire.accept();
        upstream.head();
        upstream.send("HTTP/1.0 200 OK\r\n\r\nhello");
        drop(upstream);
        let answer = client.answer();
        assert_eq!((answer.status, answer.text()), (200, "hello"));
    }
    // A client of that age reads to the end too.
    let mut client = Connection::open(gateway.address());
    client.send("GET /open HTTP/1.0\r\nHost: a\r\n\r\n");
    let mut upstream = wire.accept();
    upstream.head();
    upstream.send("HTTP/1.1 200 OK\r\n\r\nhello");
    drop(upstream);
    let answer = client.answer();
    assert_eq!((answer.status, answer.text()), (200, "hello"));
    assert!(answer.header("transfer-encoding").is_none());
}

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

/// A connection that was good a moment ago may be gone: nobody knows whether the request was carried out.
#[test]
fn a_post_on_a_dying_connection_is_sent_once() {
    let wire = Wire::start();
    let gateway = before(&wire);
    let mut client = Connection::open(gateway.address());
    client.send("GET /open HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut upstream = wire.accept();
    upstream.head();
    upstream.send(HELLO);
    assert_eq!(client.answer().status, 200);
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
    let mut client = Connection::open(gateway.address());
    client.send("GET /open HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut upstream = wire.accept();
    upstream.head();
    upstream.send(HELLO);
    assert_eq!(client.answer().status, 200);
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
fn weights_share_requests_out_exactly() {
    let (heavy, light) = (Origin::start(), Origin::start());
    let gateway = in_front_of(&format!(
        "{{ peers: [{{ address: '{}', weight: 2 }}, '{}'] }}",
        heavy.address(),
        light.address()
    ))
    .start_unready();
    let mut client = Connection::open(gateway.address());
    for _ in 0..300 {
        let answer = client
            .send("GET /open HTTP/1.1\r\nHost: a\r\n\r\n")
            .answer();
        assert_eq!(answer.status, 200);
    }
    assert_eq!((heavy.received().len(), light.received().len()), (200, 100));
}

#[test]
fn a_refused_connect_moves_on_for_every_method() {
    let (closed, origin) = (Closed::new(), Origin::start());
    let gateway = in_front_of(&format!(
        "{{ peers: ['{}', '{}'] }}",
        closed.address(),
        origin.address()
    ))
    .start_unready();
    let methods = [
        "GET", "OPTIONS", "HEAD", "DELETE", "POST", "PUT", "PATCH", "PURGE",
    ];
    for method in methods {
        let body = if matches!(method, "POST" | "PUT" | "PATCH") {
            "Content-Length: 5\r\n\r\nhello"
        } else {
            "\r\n"
        };
        let answer = Connection::open(gateway.address())
            .send(format!("{method} /open HTTP/1.1\r\nHost: a\r\n{body}"))
            .answer_to(method == "HEAD");
        assert_eq!(answer.status, 200, "{method}");
    }
    let received = origin.received();
    assert_eq!(received.len(), methods.len());
    for (received, method) in received.iter().zip(methods) {
        assert!(received.line.starts_with(method));
        let whole = matches!(method, "POST" | "PUT" | "PATCH");
        assert_eq!(received.body == b"hello", whole, "{method}");
    }
    // Every second request met the closed port: a second attempt takes no turn of its own.
    let requests = methods.len() as f64;
    gateway.counts(&carried("ok"), requests);
    gateway.counts(&carried("connect_failed"), requests / 2.0);
    assert_eq!(
        gateway.access_log(methods.len())[0]["peer"],
        origin.address().to_string()
    );
}

#[test]
fn a_pool_of_closed_ports_is_502() {
    let closed = [Closed::new(), Closed::new()];
    let gateway = in_front_of(&format!(
        "{{ peers: ['{}', '{}'] }}",
        closed[0].address(),
        closed[1].address()
    ))
    .start_unready();
    let answer = get(gateway.address(), "/open", None);
    assert_eq!(answer.status, 502);
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json")
    );
    gateway.counts(&carried("connect_failed"), 2.0);
    gateway.counts(&carried("ok"), 0.0);
    gateway.counts(IN_FLIGHT, 0.0);
    let log = gateway.access_log(1);
    assert_eq!(log[0]["reason"], "upstream_connect");
    assert_eq!(log[0]["upstream"], "origin");
    assert!(log[0]["peer"].is_null());
}

#[test]
fn attempts_are_respected() {
    let closed = [Closed::new(), Closed::new(), Closed::new()];
    let origin = Origin::start();
    for (attempts, status) in [(1, 502), (2, 502), (3, 502), (4, 200)] {
        let gateway = in_front_of(&format!(
            "{{ peers: ['{}', '{}', '{}', '{}'], retries: {{ attempts: {attempts} }} }}",
            closed[0].address(),
            closed[1].address(),
            closed[2].address(),
            origin.address(),
        ))
        .start_unready();
        let answer = get(gateway.address(), "/open", None);
        assert_eq!(answer.status, status, "{attempts} attempts");
        gateway.counts(&carried("connect_failed"), f64::from(attempts.min(3)));
    }
    assert_eq!(origin.received().len(), 1);
}

#[test]
fn a_connect_that_hangs_is_504_or_moves_on() {
    let (full, origin) = (Full::new(), Origin::start());
    let gateway = in_front_of(&format!(
        "{{ peers: ['{}'], timeouts: {{ connect: 200ms }} }}",
        full.address()
    ))
    .start_unready();
    assert_eq!(get(gateway.address(), "/open", None).status, 504);
    gateway.counts(&carried("timeout"), 1.0);
    let gateway = in_front_of(&format!(
        "{{ peers: ['{}', '{}'], timeouts: {{ connect: 200ms }} }}",
        full.address(),
        origin.address()
    ))
    .start_unready();
    assert_eq!(get(gateway.address(), "/open", None).status, 200);
    gateway.counts(&carried("connect_failed"), 1.0);
}

#[test]
fn a_silent_upstream_is_504_and_its_connection_is_dropped() {
    let wire = Wire::start();
    let gateway = in_front_of(&format!(
        "{{ peers: ['{}'], timeouts: {{ read: 200ms }} }}",
        wire.address()
    ))
    .start_unready();
    let mut client = Connection::open(gateway.address());
    client.send("GET /open HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut upstream = wire.accept();
    upstream.head();
    assert_eq!(client.answer().status, 504);
    // A late answer must never meet the next request.
    assert!(upstream.is_closed());
    gateway.counts(&carried("timeout"), 1.0);
}

#[test]
fn a_route_that_takes_too_long_is_504() {
    let wire = Wire::start();
    let gateway = in_front_of(&format!("{{ peers: ['{}'] }}", wire.address()))
        .routes(
            "[{ name: hasty, match: { path: /hasty }, upstream: origin, access: public, timeout: 300ms }]",
        )
        .start_unready();
    let began = Instant::now();
    let mut client = Connection::open(gateway.address());
    client.send("GET /hasty HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut upstream = wire.accept();
    upstream.head();
    let answer = client.answer();
    assert_eq!(answer.status, 504);
    assert!(answer.text().contains("in time"), "{}", answer.text());
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(300), "{took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn a_body_that_breaks_off_is_never_passed_off_as_whole() {
    let wire = Wire::start();
    let gateway = before(&wire);
    for head in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n",
    ] {
        let mut client = Connection::open(gateway.address());
        client.send("GET /open HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut upstream = wire.accept();
        upstream.head();
        upstream.send(head).send("half");
        drop(upstream);
        assert!(client.head().starts_with("HTTP/1.1 200"));
        let rest = String::from_utf8(client.rest()).unwrap();
        assert!(rest.contains("half") || rest.is_empty(), "{rest}");
        assert!(!rest.contains("\r\n0\r\n"), "{rest}");
    }
    gateway.counts(&carried("failed"), 2.0);
    for line in gateway.access_log(2) {
        assert_eq!(
            (&line["status"], &line["reason"]),
            (&200.into(), &"upstream_failed".into())
        );
    }
}

#[test]
fn an_upstream_that_leaves_before_its_answer_is_502() {
    let wire = Wire::start();
    let gateway = before(&wire);
    for half in ["", "HTTP/1.1 200 OK\r\nContent-"] {
        let mut client = Connection::open(gateway.address());
        client.send("GET /open HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut upstream = wire.accept();
        upstream.head();
        upstream.send(half);
        drop(upstream);
        assert_eq!(client.answer().status, 502, "{half:?}");
    }
    gateway.counts(&carried("failed"), 2.0);
}

/// The clock that the rate is measured by stands still until it is told to move.
fn with_manual_clock(wire: &Wire) -> (Gateway, Clock) {
    let clock = Clock::manual(Clock::system().unix());
    let gateway = in_front_of(&format!("{{ peers: ['{}'] }}", wire.address()))
        .clock(clock.clone())
        .start_unready();
    (gateway, clock)
}

#[test]
fn a_trickle_of_an_upload_is_408() {
    let wire = Wire::start();
    let (gateway, clock) = with_manual_clock(&wire);
    let mut client = Connection::open(gateway.address());
    client.send("POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nslow");
    let mut upstream = wire.accept();
    upstream.head();
    assert_eq!(upstream.exactly(4), b"slow");
    // Within the grace everything goes.
    clock.advance(Duration::from_secs(9));
    client.send("slow");
    assert_eq!(upstream.exactly(4), b"slow");
    clock.advance(Duration::from_secs(2));
    client.send("slow");
    let answer = client.answer();
    assert_eq!(answer.status, 408);
    assert!(answer.text().contains("too long"), "{}", answer.text());
    assert!(client.is_closed());
    assert!(upstream.is_closed());
    assert_eq!(gateway.access_log(1)[0]["reason"], "body_too_slow");
}

#[test]
fn an_upload_that_is_complete_was_fast_enough() {
    let wire = Wire::start();
    let (gateway, clock) = with_manual_clock(&wire);
    let mut client = Connection::open(gateway.address());
    client.send("POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello");
    let mut upstream = wire.accept();
    upstream.head();
    assert_eq!(upstream.exactly(5), b"hello");
    clock.advance(Duration::from_secs(60));
    client.send("world");
    assert_eq!(upstream.exactly(5), b"world");
    upstream.send(HELLO);
    assert_eq!(client.answer().status, 200);
}

#[test]
fn a_client_that_leaves_gives_its_place_back() {
    let wire = Wire::start();
    let gateway = before(&wire);
    for request in [
        "GET /open HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf",
    ] {
        let mut client = Connection::open(gateway.address());
        client.send(request);
        let mut upstream = wire.accept();
        upstream.head();
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
    let origin = Origin::answering(|request, stream| {
        let body = &request.line;
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
    });
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
