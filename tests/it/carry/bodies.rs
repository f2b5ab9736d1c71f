//! Bodies that stream, in every framing, both ways.

use super::*;

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
        let (client, upstream) = asked(
            &gateway,
            &wire,
            "GET /open HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        );
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
    let (mut client, mut upstream) =
        asked(&gateway, &wire, "GET /open HTTP/1.0\r\nHost: a\r\n\r\n");
    upstream.send("HTTP/1.1 200 OK\r\n\r\nhello");
    drop(upstream);
    let answer = client.answer();
    assert_eq!((answer.status, answer.text()), (200, "hello"));
    assert!(answer.header("transfer-encoding").is_none());
}

#[test]
fn a_body_that_breaks_off_is_never_passed_off_as_whole() {
    let wire = Wire::start();
    let gateway = before(&wire);
    for head in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n",
    ] {
        let (mut client, mut upstream) =
            asked(&gateway, &wire, "GET /open HTTP/1.1\r\nHost: a\r\n\r\n");
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
    let (mut client, mut upstream) = asked(
        &gateway,
        &wire,
        "POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nslow",
    );
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
    let (mut client, mut upstream) = asked(
        &gateway,
        &wire,
        "POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello",
    );
    assert_eq!(upstream.exactly(5), b"hello");
    clock.advance(Duration::from_secs(60));
    client.send("world");
    assert_eq!(upstream.exactly(5), b"world");
    upstream.send(HELLO);
    assert_eq!(client.answer().status, 200);
}
