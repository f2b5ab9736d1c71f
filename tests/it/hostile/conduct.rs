//! `limits.floods_per_source`: who floods again and again is shut out before its handshake, and nobody else is.

use super::http2::Bench;
use crate::support::frames::{
    CONTINUATION, END_HEADERS, END_STREAM, Fate, Frames, HEADERS, RST_STREAM, SETTINGS, block,
    frame,
};

const FLOODED: &str = "portcullis_connections_refused_total{reason=\"flooded\"}";
const FROM_US: &str = ", proxy_protocol: { from: [127.0.0.0/8] }";

/// What a balancer says of this caller.
fn named(source: &str) -> String {
    let (family, to) = match source.contains(':') {
        true => ("TCP6", "::1"),
        false => ("TCP4", "192.0.2.254"),
    };
    format!("PROXY {family} {source} {to} 12345 443\r\n")
}

fn drain(mut client: Frames) {
    while client.next().is_some() {}
}

fn answered(client: &mut Frames, stream: u32) -> bool {
    let head = Bench::head(&[]);
    client.headers(stream, &head, true).fate(stream) == Fate::Answered(200)
}

/// Each of them once, to its end.
fn flood(bench: &Bench, header: &str) {
    let head = block(&Bench::head(&[]));
    let mut client = bench.behind(header).unwrap();
    for n in 0..5000 {
        let stream = 2 * n + 1;
        let mut both = frame(HEADERS, END_HEADERS | END_STREAM, stream, &head);
        both.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        client.raw(&both);
    }
    drain(client);

    let mut client = bench.behind(header).unwrap();
    client.frame(HEADERS, END_STREAM, 1, &head);
    let piece = frame(CONTINUATION, 0, 1, &block(&[("x", &[b'y'; 10_000])]));
    for _ in 0..1000 {
        client.raw(&piece);
    }
    drain(client);

    let mut client = bench.behind(header).unwrap();
    // RFC 7541 section 6.2.1: a field of 4 kB kept in the dynamic table, and then named again and again.
    let mut bomb = head;
    bomb.extend_from_slice(&[0x40, 1, b'x', 127, 0xa1, 0x1e]);
    bomb.extend_from_slice(&[b'y'; 4000]);
    bomb.extend_from_slice(&[0xbe; 12_000]);
    client.frame(HEADERS, END_HEADERS | END_STREAM, 1, &bomb);
    drain(client);
}

#[test]
fn a_source_that_floods_is_shut_out_and_keeps_what_is_open() {
    let bench = Bench::listening(
        "{ floods_per_source: { connections: 1, every: 1h, burst: 3 } }",
        FROM_US,
    );
    let (bad, good) = (named("192.0.2.1"), named("192.0.2.2"));
    let mut held = bench.behind(&bad).unwrap();
    assert!(answered(&mut held, 1));
    flood(&bench, &bad);
    assert!(bench.behind(&bad).is_none());
    bench.gateway.counts(FLOODED, 1.0);
    assert!(answered(&mut held, 3));
    assert!(answered(&mut bench.behind(&good).unwrap(), 1));
    assert!(bench.behind(&bad).is_none());
    bench.gateway.counts(FLOODED, 2.0);
}

#[test]
fn a_network_of_ipv6_is_one_source() {
    let bench = Bench::listening(
        "{ floods_per_source: { connections: 3, every: 1h } }",
        FROM_US,
    );
    flood(&bench, &named("2001:db8:1:2::1"));
    assert!(bench.behind(&named("2001:db8:1:2:ffff::9")).is_none());
    assert!(answered(
        &mut bench.behind(&named("2001:db8:1:3::1")).unwrap(),
        1
    ));
}

/// Without a balancer it is the connection's own address, and it is closed at its accept.
#[test]
fn a_source_is_the_peer_itself_where_nobody_names_another() {
    let bench = Bench::with("{ floods_per_source: { connections: 3, every: 1h } }");
    let mut held = bench.open();
    flood(&bench, "");
    assert!(bench.behind("").is_none());
    bench.gateway.counts(FLOODED, 1.0);
    assert!(answered(&mut held, 1));
}

/// It may be clumsy as often as it likes.
#[test]
fn what_is_only_wrong_is_held_against_nobody() {
    let bench = Bench::with("{ floods_per_source: { connections: 1, every: 1h } }");
    let bad = Bench::head(&[(":authority", Some(b"u@a"))]);
    let wrong: [&dyn Fn(&mut Frames); 5] = [
        // Malformed requests by the dozen: RFC 9113 section 8.1.1.
        &|client| {
            for n in 0..100 {
                client.headers(2 * n + 1, &bad, true);
            }
        },
        // A stream of ours, and a frame that none may be: errors of the connection (sections 5.1.1 and 6.5).
        &|client| {
            client.headers(2, &Bench::head(&[]), true);
        },
        &|client| {
            client.frame(SETTINGS, 0, 1, &[]);
        },
        // An index that is in no table (RFC 7541 section 2.3.3).
        &|client| {
            client.frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0xff, 0xff, 1]);
        },
        // A head that is too large, and no bomb.
        &|client| {
            let large = [b'y'; 15_000];
            client.headers(1, &Bench::head(&[("x", Some(&large))]), false);
            client.frame(SETTINGS, 0, 1, &[]);
        },
    ];
    for offend in wrong {
        let mut client = bench.open();
        offend(&mut client);
        drain(client);
    }
    bench.gateway.counts(FLOODED, 0.0);
    assert!(answered(&mut bench.open(), 1));
}

/// A request that is taken back in one breath is nobody's work.
#[test]
fn what_is_taken_back_at_once_reaches_no_service() {
    let bench = Bench::start();
    let mut client = bench.open();
    let head = block(&Bench::head(&[]));
    let mut all = Vec::new();
    for n in 0..10 {
        all.extend(frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &head));
        all.extend(frame(RST_STREAM, 0, 2 * n + 1, &8_u32.to_be_bytes()));
    }
    client.raw(&all);
    assert!(answered(&mut client, 21));
    assert_eq!(bench.origin.take().lines.len(), 1);
}
