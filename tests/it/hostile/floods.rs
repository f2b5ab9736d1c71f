//! What is legal once and ruinous a thousand times: each connection that goes too far ends, and the gateway serves
//! on.

use super::http2::{Bench, Field};
use crate::support::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Fate, Frames, GOAWAY, HEADERS, PING, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, block, frame,
};
use crate::support::{eventually, get};

/// RFC 9113 section 7.
const ENHANCE_YOUR_CALM: u32 = 11;
const CANCEL: [u8; 4] = 8_u32.to_be_bytes();

fn good() -> Vec<Field<'static>> {
    Bench::head(&[])
}

/// Writes until the other side has had enough; the code of its GOAWAY, if it said one.
fn ends_with(client: &mut Frames) -> Option<u32> {
    let mut code = None;
    while let Some((kind, _, _, payload)) = client.next() {
        if kind == GOAWAY {
            code = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
        }
    }
    code
}

fn serves_on(bench: &Bench) {
    let fate = bench.open().headers(1, &good(), true).fate(1);
    assert_eq!(fate, Fate::Answered(200));
}

/// CVE-2023-44487: each request is taken back at once, so no limit of streams is ever reached. h2 itself sees only
/// what it has not handed over yet.
#[test]
fn rapid_resets_end_the_connection() {
    let bench = Bench::start();
    let mut client = bench.open();
    let head = block(&good());
    for n in 0..5000 {
        let stream = 2 * n + 1;
        let mut both = frame(HEADERS, END_HEADERS | END_STREAM, stream, &head);
        both.extend(frame(RST_STREAM, 0, stream, &CANCEL));
        client.raw(&both);
    }
    assert_eq!(ends_with(&mut client), Some(ENHANCE_YOUR_CALM));
    serves_on(&bench);
}

/// The same in steps, so that each request is at work when it is taken back.
#[test]
fn patient_resets_end_the_connection_too() {
    let bench = Bench::start();
    let mut client = bench.open();
    let (mut taken_back, mut code) = (0, None);
    while code.is_none() && taken_back < 3000 {
        let stream = 2 * taken_back + 1;
        client.headers(stream, &good(), true);
        code = pong(&mut client);
        client.frame(RST_STREAM, 0, stream, &CANCEL);
        taken_back += 1;
    }
    assert_eq!(code, Some(ENHANCE_YOUR_CALM));
    assert!((1000..1500).contains(&taken_back), "{taken_back}");
    serves_on(&bench);
}

/// A caller that takes back a request now and then is none of those.
#[test]
fn some_resets_are_fine() {
    let bench = Bench::start();
    let mut client = bench.open();
    for n in 0..500 {
        client.headers(2 * n + 1, &good(), true);
        assert_eq!(pong(&mut client), None);
        client.frame(RST_STREAM, 0, 2 * n + 1, &CANCEL);
    }
    let fate = client.headers(1001, &good(), true).fate(1001);
    assert_eq!(fate, Fate::Answered(200));
}

/// Waits until the other side has read all that was sent; the code of a GOAWAY that came instead.
fn pong(client: &mut Frames) -> Option<u32> {
    client.frame(PING, 0, 0, &[7; 8]);
    loop {
        match client.next() {
            Some((PING, 1, _, _)) => return None,
            Some((GOAWAY, _, _, payload)) => {
                return Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
            }
            Some(_) => {}
            None => return Some(0),
        }
    }
}

/// CVE-2025-8671, MadeYouReset: the caller makes us take its requests back.
#[test]
fn resets_that_we_are_made_to_send_end_the_connection() {
    let bench = Bench::start();
    let mut client = bench.open();
    let head = Bench::head(&[(":method", Some(b"POST")), ("content-length", Some(b"1"))]);
    let head = block(&head);
    for n in 0..2000 {
        let stream = 2 * n + 1;
        // More than was declared is an error of the stream alone (RFC 9113 section 8.1.1).
        let mut both = frame(HEADERS, END_HEADERS, stream, &head);
        both.extend(frame(DATA, 0, stream, b"xx"));
        client.raw(&both);
    }
    assert_eq!(ends_with(&mut client), Some(ENHANCE_YOUR_CALM));
    serves_on(&bench);
}

#[test]
fn requests_that_are_none_end_the_connection() {
    let bench = Bench::start();
    for bad in [
        ("x", &b"a\r\nb"[..]),
        (":authority", b"u@a"),
        ("content-length", b"x"),
    ] {
        let head = match bad.0 {
            ":authority" => Bench::head(&[(":authority", Some(bad.1))]),
            _ => Bench::head(&[(bad.0, Some(bad.1))]),
        };
        let mut client = bench.open();
        for n in 0..2000 {
            client.headers(2 * n + 1, &head, true);
        }
        let code = ends_with(&mut client);
        assert!(code.is_some_and(|code| code != 0), "{bad:?} {code:?}");
    }
    serves_on(&bench);
    assert!(bench.gateway.metric("portcullis_unparsed_requests_total") >= 3.0);
}

/// A header block that never ends (VU#421644).
#[test]
fn a_flood_of_continuations_ends_the_connection() {
    let bench = Bench::start();
    for piece in [
        &[][..],
        &block(&[("x", &[b'y'; 100])]),
        &block(&[("x", &[b'y'; 10_000])]),
    ] {
        let mut client = bench.open();
        client.frame(HEADERS, END_STREAM, 1, &block(&good()));
        let piece = frame(CONTINUATION, 0, 1, piece);
        for _ in 0..5000 {
            client.raw(&piece);
        }
        let code = ends_with(&mut client);
        assert!(code.is_some_and(|code| code != 0), "{code:?}");
    }
    serves_on(&bench);
}

/// One long field, named again and again in one byte each (CVE-2016-6581).
#[test]
fn a_header_bomb_is_431() {
    let bench = Bench::start();
    let mut client = bench.open();
    let mut head = block(&good());
    // RFC 7541 section 6.2.1: kept in the dynamic table, as its first entry.
    head.extend_from_slice(&[0x40, 1, b'x', 127, 0xa1, 0x1e]);
    head.extend_from_slice(&[b'y'; 4000]);
    head.extend_from_slice(&[0xbe; 17]);
    client.frame(HEADERS, END_HEADERS | END_STREAM, 1, &head);
    assert_eq!(client.fate(1), Fate::Answered(431));
    bench.gateway.counts(
        "portcullis_rejections_total{reason=\"header_too_large\",route=\"none\"}",
        1.0,
    );
    let fate = client.headers(3, &good(), true).fate(3);
    assert_eq!(fate, Fate::Answered(200));
    assert_eq!(bench.origin.take().lines.len(), 1);
    // Beyond all measure it is the connection's end.
    client.frame(HEADERS, END_HEADERS | END_STREAM, 5, &[0xbe; 12_000]);
    assert_eq!(ends_with(&mut client), Some(ENHANCE_YOUR_CALM));
    serves_on(&bench);
}

#[test]
fn more_fields_than_allowed_are_431() {
    let bench = Bench::start();
    let mut client = bench.open();
    let names: Vec<String> = (0..129).map(|n| format!("x-{n}")).collect();
    let mut head = good();
    head.extend(names.iter().map(|name| (name.as_str(), &b"y"[..])));
    assert_eq!(client.headers(1, &head, true).fate(1), Fate::Answered(431));
    assert!(bench.origin.take().lines.is_empty());
}

/// What is answered is answered before more is read, so that a caller who does not listen stops itself.
#[test]
fn pings_and_settings_are_answered_or_end_the_connection() {
    let bench = Bench::start();
    for flood in [
        frame(PING, 0, 0, &[7; 8]),
        frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]),
        frame(SETTINGS, 0, 0, &[]),
        // PRIORITY, which nobody heeds (RFC 9113 section 5.3.2).
        frame(2, 0, 1, &[0, 0, 0, 3, 16]),
        frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
    ] {
        let mut client = bench.open();
        let many = flood.repeat(200);
        for _ in 0..20 {
            client.raw(&many);
        }
        let fate = client.headers(1, &good(), true).fate(1);
        assert!(
            matches!(fate, Fate::Answered(200) | Fate::GoAway(_) | Fate::Closed),
            "{fate:?}"
        );
        serves_on(&bench);
    }
}

/// RUSTSEC-2026-0258.
#[test]
fn a_flood_of_empty_data_ends_the_connection() {
    let bench = Bench::start();
    let mut client = bench.open();
    let head = Bench::head(&[(":method", Some(b"POST"))]);
    client.headers(1, &head, false);
    let many = frame(DATA, 0, 1, &[]).repeat(1000);
    for _ in 0..100 {
        client.raw(&many);
    }
    assert_eq!(ends_with(&mut client), Some(ENHANCE_YOUR_CALM));
    serves_on(&bench);
}

#[test]
fn more_streams_than_allowed_are_refused_alone() {
    let bench = Bench::with("{ http2: { streams: 2 } }");
    let mut client = bench.open();
    let head = Bench::head(&[(":method", Some(b"POST"))]);
    // Bodies that do not come keep their streams open.
    client.headers(1, &head, false).headers(3, &head, false);
    // REFUSED_STREAM: nothing was done, so that the caller may try again (section 8.7).
    assert_eq!(client.headers(5, &good(), true).fate(5), Fate::Reset(7));
    let fate = client.frame(DATA, END_STREAM, 1, b"x").fate(1);
    assert_eq!(fate, Fate::Answered(200));
    let fate = client.headers(7, &good(), true).fate(7);
    assert_eq!(fate, Fate::Answered(200));
}

#[test]
fn an_idle_connection_is_told_goodbye() {
    let bench = Bench::with("{ http2: { idle: 200ms } }");
    let mut client = bench.open();
    let fate = client.headers(1, &good(), true).fate(1);
    assert_eq!(fate, Fate::Answered(200));
    assert_eq!(ends_with(&mut client), Some(0), "GOAWAY without an error");
    // A request that crosses it is answered all the same.
    let mut client = bench.open();
    while !matches!(client.next(), Some((GOAWAY, _, _, _))) {}
    let mut fate = client.headers(1, &good(), true).fate(1);
    if fate == Fate::GoAway(0) {
        // The second one, with the last stream that it will answer.
        fate = client.fate(1);
    }
    assert_eq!(fate, Fate::Answered(200));
    // A block that does not go on is no request either.
    let mut client = bench.open();
    client.frame(HEADERS, END_STREAM, 1, &block(&good()));
    assert_eq!(ends_with(&mut client), Some(0));
    // Pings do not keep it alive.
    let mut client = bench.open();
    let mut pings = 0;
    while client.next().is_some() {
        client.frame(PING, 0, 0, &[7; 8]);
        pings += 1;
    }
    assert!(pings > 0);
    eventually("no connection is left", || {
        bench
            .gateway
            .metrics()
            .contains("portcullis_connections_open{listener=\"127.0.0.1:1\"} 0")
    });
}

#[test]
fn an_opening_that_does_not_come_is_cut_off() {
    let bench = Bench::with("{ header_timeout: 300ms }");
    let mut silent = bench.silent();
    assert!(ends_with(&mut silent).is_none());
    let mut half = bench.silent();
    half.raw(b"PRI * HTTP/2.0\r\n");
    assert!(ends_with(&mut half).is_none());
    let other = get(bench.gateway.admin(), "/livez", None);
    assert_eq!(other.status, 200);
    serves_on(&bench);
}

/// A caller that grants no window gets nothing; after `write_timeout` its request goes, and later its connection.
#[test]
fn a_response_that_is_not_taken_is_given_up() {
    let bench = Bench::with("{ write_timeout: 300ms, http2: { idle: 300ms } }");
    let mut client = bench.silent();
    client
        .raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        // SETTINGS_INITIAL_WINDOW_SIZE 0.
        .frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])
        .headers(1, &good(), true);
    assert_eq!(
        client.fate(1),
        Fate::Answered(200),
        "the head needs no window"
    );
    let fate = client.fate(1);
    assert!(matches!(fate, Fate::Reset(_) | Fate::GoAway(_)), "{fate:?}");
    eventually("nothing is in flight", || {
        let series = "portcullis_upstream_in_flight{upstream=\"origin\"}";
        bench.gateway.metric(series) == 0.0
    });
    ends_with(&mut client);
}

/// The body's end is waited for as long as the route waits, and then it was the caller's fault.
#[test]
fn a_body_that_stops_is_408() {
    let bench = Bench::start();
    let mut client = bench.open();
    let head = Bench::head(&[(":method", Some(b"POST")), (":path", Some(b"/hasty"))]);
    client.headers(1, &head, false).frame(DATA, 0, 1, b"some");
    assert_eq!(client.fate(1), Fate::Answered(408));
}
