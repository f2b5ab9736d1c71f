//! What is tried again and what is not, and what is not even asked any more.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use portcullis::clock::Clock;
use portcullis::demo::issuer::{Issuer, IssuerOptions};

use crate::support::{
    Answer, Closed, Connection, Full, Gateway, Origin, Received, Setup, eventually, get, send,
};

const ROUTES: &str = "[{ name: open, match: { path: /open }, upstream: pool, access: public }]";

const ALL: &str = "retries: { attempts: 3, when: [connect, reset, timeout, 502, 503, 504],
    backoff: { first: 1ms, max: 2ms } }, timeouts: { read: 500ms }";

fn issuer() -> Issuer {
    Issuer::start_blocking(IssuerOptions::default()).unwrap()
}

fn start(peers: &[std::net::SocketAddr], more: &str) -> Gateway {
    start_at(peers, more, Clock::system())
}

fn start_at(peers: &[std::net::SocketAddr], more: &str, clock: Clock) -> Gateway {
    Setup::new(&issuer(), peers[0])
        .pool(peers, more)
        .routes(ROUTES)
        .clock(clock)
        .start_unready()
}

fn ask(gateway: &Gateway) -> Answer {
    get(gateway.address(), "/open", None)
}

fn carried(gateway: &Gateway, outcome: &str, count: f64) {
    let series =
        format!("portcullis_upstream_requests_total{{outcome=\"{outcome}\",upstream=\"pool\"}}");
    gateway.counts(&series, count);
}

fn says(status: u16) -> Origin {
    Origin::answering(move |_, stream| {
        let _ = stream.write_all(
            format!("HTTP/1.1 {status} Whatever\r\nContent-Length: 5\r\n\r\nnever").as_bytes(),
        );
    })
}

fn breaks_off() -> Origin {
    Origin::answering(|_, stream| {
        let _ = stream.shutdown(Shutdown::Both);
    })
}

fn silent() -> Origin {
    Origin::answering(|_, _| {})
}

#[test]
fn each_condition_takes_an_idempotent_request_to_another_peer() {
    for (bad, outcome) in [
        (says(502), "ok"),
        (says(503), "ok"),
        (says(504), "ok"),
        (breaks_off(), "failed"),
        (silent(), "timeout"),
    ] {
        let good = Origin::start();
        let gateway = start(&[bad.address(), good.address()], ALL);
        let answer = ask(&gateway);
        assert_eq!((answer.status, answer.text()), (200, "hello"), "{outcome}");
        assert_eq!((bad.received().len(), good.received().len()), (1, 1));
        let oks = if outcome == "ok" { 2.0 } else { 1.0 };
        carried(&gateway, "ok", oks);
        if outcome != "ok" {
            carried(&gateway, outcome, 1.0);
        }
        let line = &gateway.access_log(1)[0];
        assert_eq!(line["peer"], good.address().to_string());
        assert!(line["reason"].is_null());
    }
}

#[test]
fn what_is_not_a_condition_is_handed_on() {
    for (status, when) in [
        (500, "[502, 503, 504]"),
        (503, "[502, 504]"),
        (503, "[connect]"),
    ] {
        let (bad, good) = (says(status), Origin::start());
        let gateway = start(
            &[bad.address(), good.address()],
            &format!("retries: {{ when: {when} }}"),
        );
        let answer = ask(&gateway);
        assert_eq!((answer.status, answer.text()), (status, "never"));
        assert!(good.received().is_empty());
    }
}

#[test]
fn a_post_that_may_have_arrived_is_never_sent_again() {
    for (bad, status) in [(says(503), 503), (breaks_off(), 502), (silent(), 504)] {
        let good = Origin::start();
        let gateway = start(&[bad.address(), good.address()], ALL);
        for method in ["POST", "PATCH"] {
            let answer = send(gateway.address(), method, "/open", "", "x");
            // Every second request meets the good one.
            assert!(
                answer.status == status || answer.status == 200,
                "{answer:?}"
            );
        }
        assert_eq!((bad.received().len(), good.received().len()), (1, 1));
    }
}

#[test]
fn a_post_that_could_not_connect_goes_to_another_peer() {
    let (closed, good) = (Closed::new(), Origin::start());
    let gateway = start(&[closed.address(), good.address()], ALL);
    for _ in 0..2 {
        assert_eq!(
            send(gateway.address(), "POST", "/open", "", "abc").status,
            200
        );
    }
    assert!(good.received().iter().all(|got| got.body == b"abc"));
    carried(&gateway, "connect_failed", 1.0);
}

#[test]
fn without_connect_a_refused_connection_is_the_answer() {
    let (closed, good) = (Closed::new(), Origin::start());
    let gateway = start(
        &[closed.address(), good.address()],
        "retries: { when: [503] }",
    );
    assert_eq!(ask(&gateway).status, 502);
    assert!(good.received().is_empty());
}

/// The whole body goes out again, up to what Pingora keeps; a longer one is not cut, it is not repeated.
#[test]
fn a_body_is_repeated_whole_or_not_at_all() {
    for (length, again) in [(60 * 1024, true), (70 * 1024, false)] {
        let (bad, good) = (says(503), Origin::start());
        let gateway = start(&[bad.address(), good.address()], ALL);
        let body = "b".repeat(length);
        let answer = send(gateway.address(), "PUT", "/open", "", &body);
        let got = good.received();
        match again {
            true => {
                assert_eq!(answer.status, 200);
                assert_eq!(got[0].body, body.as_bytes());
            }
            false => {
                assert_eq!(answer.status, 503);
                assert!(got.is_empty());
            }
        }
    }
}

/// What the caller has begun to read is never followed by another answer.
#[test]
fn nothing_is_tried_after_the_first_byte_of_an_answer() {
    let cut = Origin::answering(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
        let _ = stream.shutdown(Shutdown::Both);
    });
    let good = Origin::start();
    let gateway = start(&[cut.address(), good.address()], ALL);
    let mut caller = TcpStream::connect(gateway.address()).unwrap();
    caller
        .write_all(b"GET /open HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut text = String::new();
    let _ = caller.read_to_string(&mut text);
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    assert!(text.ends_with("\r\n\r\nhalf"), "{text}");
    assert!(good.received().is_empty());
}

#[test]
fn an_interim_answer_is_no_answer() {
    let early = Origin::answering(|_, stream| {
        let _ = stream.write_all(
            b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n",
        );
    });
    let good = Origin::start();
    let gateway = start(&[early.address(), good.address()], ALL);
    let mut caller = Connection::open(gateway.address());
    caller.send("GET /open HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let mut answer = caller.answer();
    while answer.status < 200 {
        answer = caller.answer();
    }
    assert_eq!(answer.text(), "hello");
}

#[test]
fn a_pool_of_one_is_asked_again_and_no_more_than_it_says() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let flaky = Origin::answering(move |_, stream| {
        let answer = match count.fetch_add(1, Ordering::Relaxed) {
            2 => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            _ => "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n",
        };
        let _ = stream.write_all(answer.as_bytes());
    });
    let gateway = start(&[flaky.address()], ALL);
    assert_eq!(ask(&gateway).text(), "hello", "the third attempt");
    assert_eq!(ask(&gateway).status, 503);
    assert_eq!(asked.load(Ordering::Relaxed), 6);
}

#[test]
fn the_budget_bounds_what_a_failing_pool_gets() {
    let bad = says(503);
    let gateway = start(
        &[bad.address()],
        "retries: { when: [503], budget: 10%, backoff: { first: 1ms, max: 1ms } }",
    );
    for _ in 0..50 {
        assert_eq!(ask(&gateway).status, 503);
    }
    // Ten were saved up; fifty requests bring at most five more.
    let again = bad.received().len() - 50;
    assert!((14..=15).contains(&again), "{again}");
}

/// A gateway that has waited for the first peer as long as the route allows does not wait for a second.
#[test]
fn the_route_has_the_last_word_on_time() {
    let (one, two) = (silent(), silent());
    let peers = format!("'{}', '{}'", one.address(), two.address());
    let gateway = Setup::new(&issuer(), one.address())
        .upstreams(format!(
            "{{ pool: {{ peers: [{peers}], retries: {{ attempts: 5, when: [timeout] }} }} }}"
        ))
        .routes(
            "[{ name: open, match: { path: /open }, upstream: pool, access: public, timeout: 100ms }]",
        )
        .start_unready();
    assert_eq!(ask(&gateway).status, 504);
    assert_eq!(one.received().len() + two.received().len(), 1);
}

/// Nor does it go on connecting: without the route's time this would take a minute.
#[test]
fn the_route_has_the_last_word_on_connecting_too() {
    let full = Full::new();
    let gateway = Setup::new(&issuer(), full.address())
        .upstreams(format!(
            "{{ pool: {{ peers: ['{}'], timeouts: {{ connect: 1m }} }} }}",
            full.address()
        ))
        .routes(
            "[{ name: open, match: { path: /open }, upstream: pool, access: public, timeout: 100ms }]",
        )
        .start_unready();
    assert_eq!(ask(&gateway).status, 504);
}

/// Answers 500 while the switch is on.
fn switched() -> (Origin, Arc<AtomicBool>) {
    let failing = Arc::new(AtomicBool::new(true));
    let on = failing.clone();
    let respond = move |_: &Received, stream: &mut TcpStream| {
        let answer = match on.load(Ordering::Relaxed) {
            true => "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
            false => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        };
        let _ = stream.write_all(answer.as_bytes());
    };
    (Origin::answering(respond), failing)
}

const OPEN: &str = "portcullis_upstream_breaker_open{upstream=\"pool\"}";

#[test]
fn an_upstream_that_fails_is_left_alone_and_then_tried() {
    let (origin, failing) = switched();
    let clock = Clock::manual(Clock::system().unix());
    let gateway = start_at(
        &[origin.address()],
        "breaker: { window: 4, failure_rate: 50%, open: 10s, half_open: 2 }",
        clock.clone(),
    );
    for _ in 0..4 {
        assert_eq!(ask(&gateway).status, 500);
    }
    gateway.counts(OPEN, 1.0);
    let refused = ask(&gateway);
    assert_eq!(
        (refused.status, refused.header("retry-after")),
        (503, Some("10"))
    );
    assert_eq!(
        refused.header("content-type"),
        Some("application/problem+json")
    );
    assert_eq!(origin.received().len(), 4, "nobody was asked");
    assert_eq!(gateway.access_log(5)[4]["reason"], "upstream_open");

    clock.advance(Duration::from_secs(10));
    assert_eq!(ask(&gateway).status, 500);
    eventually("it is open again", || {
        get(gateway.admin(), "/upstreams", None).json()[0]["breaker"] == "open"
    });
    assert_eq!(ask(&gateway).status, 503, "one trial of two was enough");

    failing.store(false, Ordering::Relaxed);
    clock.advance(Duration::from_secs(10));
    for _ in 0..2 {
        assert_eq!(ask(&gateway).status, 200);
    }
    gateway.counts(OPEN, 0.0);
    let state = get(gateway.admin(), "/upstreams", None).json();
    assert_eq!(state[0]["breaker"], "closed");
    assert_eq!(ask(&gateway).status, 200);
}

#[test]
fn a_fallback_is_answered_while_it_is_open_and_only_then() {
    let (origin, _failing) = switched();
    for (status, retry_after) in [(503, Some("10")), (200, None)] {
        let gateway = start_at(
            &[origin.address()],
            &format!(
                "breaker: {{ window: 1 }}, fallback: {{ status: {status}, body: 'Please call support' }}"
            ),
            Clock::manual(Clock::system().unix()),
        );
        assert_eq!(ask(&gateway).status, 500, "the service's own answer");
        gateway.counts(OPEN, 1.0);
        let answer = ask(&gateway);
        assert_eq!(
            (answer.status, answer.text()),
            (status, "Please call support")
        );
        assert_eq!(
            answer.header("content-type"),
            Some("text/plain; charset=utf-8")
        );
        assert_eq!(answer.header("retry-after"), retry_after);
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert!(answer.header("x-request-id").is_some());
        let head = send(gateway.address(), "HEAD", "/open", "", "");
        assert_eq!((head.status, head.body.len()), (status, 0));
        gateway.counts(
            "portcullis_rejections_total{reason=\"upstream_open\",route=\"open\"}",
            2.0,
        );
        assert_eq!(gateway.access_log(3)[1]["reason"], "upstream_open");
    }
}

/// Whoever refuses on its own account says nothing about the upstream.
#[test]
fn refusals_open_no_breaker() {
    let origin = says(404);
    let gateway = start(
        &[origin.address()],
        "breaker: { window: 2, failure_rate: 1% }",
    );
    for _ in 0..4 {
        assert_eq!(ask(&gateway).status, 404);
    }
    let too_large = Connection::open(gateway.address())
        .send("POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n")
        .answer();
    assert_eq!(too_large.status, 413);
    assert_eq!(ask(&gateway).status, 404);
}

#[test]
fn a_peer_that_is_gone_opens_it_too() {
    let closed = Closed::new();
    let gateway = start(&[closed.address()], "breaker: { window: 2 }");
    for _ in 0..2 {
        assert_eq!(ask(&gateway).status, 502);
    }
    gateway.counts(OPEN, 1.0);
    assert_eq!(ask(&gateway).status, 503);
}
