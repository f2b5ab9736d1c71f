//! Peers that fail, by their own word and by how requests fare.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use portcullis::clock::Clock;
use portcullis::demo::issuer::{Issuer, IssuerOptions};

use crate::support::{
    Authority, Closed, Connection, Gateway, Origin, Scratch, SecureOrigin, Setup, eventually, get,
};

const ROUTES: &str = "[{ name: open, match: { path: /open }, upstream: pool, access: public }]";

/// Often, so that tests need not wait; one result decides.
const HEALTH: &str =
    "health: { path: /healthz, interval: 200ms, timeout: 200ms, healthy: 1, unhealthy: 1 }";

fn issuer() -> Issuer {
    Issuer::start_blocking(IssuerOptions::default()).unwrap()
}

/// An origin whose status can be changed while it runs, for its checks and for requests.
struct Moody {
    origin: Origin,
    checks: Arc<AtomicU16>,
    requests: Arc<AtomicU16>,
}

impl Moody {
    fn start() -> Self {
        let (checks, requests) = (Arc::new(AtomicU16::new(200)), Arc::new(AtomicU16::new(200)));
        let (to_checks, to_requests) = (checks.clone(), requests.clone());
        let origin = Origin::answering(move |request, stream| {
            let status = match request.line.starts_with("GET /healthz ") {
                true => &to_checks,
                false => &to_requests,
            };
            let status = status.load(Ordering::Relaxed);
            let answer = format!("HTTP/1.1 {status} Whatever\r\nContent-Length: 0\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes());
        });
        Moody {
            origin,
            checks,
            requests,
        }
    }

    fn checks(&self, status: u16) {
        self.checks.store(status, Ordering::Relaxed);
    }

    fn requests(&self, status: u16) {
        self.requests.store(status, Ordering::Relaxed);
    }

    /// Requests that are no checks.
    fn served(&self) -> usize {
        let received = self.origin.received();
        let served = received
            .iter()
            .filter(|got| got.line.starts_with("GET /open"));
        served.count()
    }
}

fn start(peers: &[SocketAddr], more: &str, clock: Clock) -> Gateway {
    Setup::new(&issuer(), peers[0])
        .pool(peers, more)
        .routes(ROUTES)
        .clock(clock)
        .start_unready()
}

fn ask(gateway: &Gateway) -> u16 {
    get(gateway.address(), "/open", None).status
}

fn has(gateway: &Gateway, state: &str, count: f64) {
    let series = format!("portcullis_upstream_peers{{state=\"{state}\",upstream=\"pool\"}}");
    gateway.counts(&series, count);
}

#[test]
fn a_peer_that_says_it_is_ill_gets_no_requests_until_it_is_well() {
    let (a, b) = (Moody::start(), Moody::start());
    let gateway = start(
        &[a.origin.address(), b.origin.address()],
        HEALTH,
        Clock::system(),
    );
    has(&gateway, "healthy", 2.0);
    a.checks(503);
    has(&gateway, "unhealthy", 1.0);
    let before = a.served();
    for _ in 0..6 {
        assert_eq!(ask(&gateway), 200);
    }
    assert_eq!((a.served(), b.served()), (before, 6));
    let state = get(gateway.admin(), "/upstreams", None).json();
    let states: Vec<&str> = state[0]["peers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|peer| peer["state"].as_str().unwrap())
        .collect();
    assert_eq!(states, ["unhealthy", "healthy"]);
    a.checks(204);
    has(&gateway, "healthy", 2.0);
    for _ in 0..4 {
        assert_eq!(ask(&gateway), 200);
    }
    assert_eq!((a.served(), b.served()), (before + 2, 8));

    let check = a.origin.received()[0].clone();
    assert_eq!(check.line, "GET /healthz HTTP/1.1");
    assert_eq!(
        check.header("host"),
        Some(a.origin.address().to_string().as_str())
    );
    assert_eq!(check.header("user-agent"), Some("portcullis-health"));
}

#[test]
fn a_pool_without_a_healthy_peer_says_so_at_once() {
    let silent = Origin::answering(|_, _| {});
    let closed = Closed::new();
    let gateway = start(
        &[silent.address(), closed.address()],
        HEALTH,
        Clock::system(),
    );
    has(&gateway, "unhealthy", 2.0);
    let answer = get(gateway.address(), "/open", None);
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (503, Some("1"))
    );
    assert_eq!(gateway.access_log(1)[0]["reason"], "no_peer");
    gateway.counts(
        "portcullis_rejections_total{reason=\"no_peer\",route=\"open\"}",
        1.0,
    );
    let ready = get(gateway.admin(), "/readyz", None).json();
    let pool = &ready["upstreams"][0];
    assert_eq!((&pool["ready"], &pool["peers"]), (&false.into(), &2.into()));
    assert_eq!(pool["reason"], "no peer is healthy: 2 unhealthy, 0 ejected");
    assert!(
        silent
            .received()
            .iter()
            .all(|got| got.line.contains("/healthz")),
        "no request has met it"
    );
}

/// The check has the peer's TLS: one whose certificate is not for the pool is no healthy peer.
#[test]
fn checks_go_over_the_tls_of_requests() {
    let (authority, files) = (Authority::new(), Scratch::new());
    let ca = files.write("ca.pem", &authority.pem);
    let right = SecureOrigin::start(&authority.certify("accounts.internal"));
    let wrong = SecureOrigin::start(&authority.certify("loans.internal"));
    let health = HEALTH
        .replace("timeout: 200ms", "timeout: 5s")
        .replace("interval: 200ms", "interval: 5s");
    let gateway = start(
        &[right.address(), wrong.address()],
        &format!(
            "{health}, tls: {{ server_name: accounts.internal, ca: '{}' }}",
            ca.display()
        ),
        Clock::system(),
    );
    has(&gateway, "unhealthy", 1.0);
    eventually("the right one is asked", || right.requests() > 0);
    assert_eq!(wrong.requests(), 0);
    for _ in 0..3 {
        assert_eq!(ask(&gateway), 200);
    }
}

#[test]
fn a_peer_that_keeps_failing_is_left_out_for_a_while_and_longer_the_next_time() {
    let (a, b) = (Moody::start(), Moody::start());
    let clock = Clock::manual(Clock::system().unix());
    let gateway = start(
        &[a.origin.address(), b.origin.address()],
        "outlier: { failures: 3, eject: 10s }",
        clock.clone(),
    );
    a.requests(500);
    let fail = || (0..6).map(|_| ask(&gateway)).filter(|s| *s == 500).count();
    assert_eq!(fail(), 3);
    has(&gateway, "ejected", 1.0);
    assert_eq!(fail(), 0);
    assert_eq!((a.served(), b.served()), (3, 9));

    clock.advance(Duration::from_secs(10));
    has(&gateway, "ejected", 0.0);
    assert_eq!(fail(), 3, "it was tried again, and failed");
    clock.advance(Duration::from_secs(10));
    has(&gateway, "ejected", 1.0);
    clock.advance(Duration::from_secs(10));
    has(&gateway, "ejected", 0.0);
    a.requests(200);
    assert_eq!(fail(), 0);
    assert_eq!(a.served(), 9);
}

/// A caller's own mistakes must not take a peer out.
#[test]
fn refusals_of_the_service_are_no_failures() {
    let (a, b) = (Moody::start(), Moody::start());
    let gateway = start(
        &[a.origin.address(), b.origin.address()],
        "outlier: { failures: 1, eject: 10s }",
        Clock::system(),
    );
    a.requests(404);
    b.requests(429);
    for _ in 0..6 {
        ask(&gateway);
    }
    has(&gateway, "healthy", 2.0);
    assert_eq!((a.served(), b.served()), (3, 3));
}

/// A caller that does not finish its upload must not take peers out, whatever it does.
#[test]
fn a_slow_upload_is_no_failure_of_the_peer() {
    let (a, b) = (Origin::start(), Origin::start());
    let gateway = start(
        &[a.address(), b.address()],
        "timeouts: { read: 200ms }, outlier: { failures: 1, eject: 10s }, breaker: { window: 1 }",
        Clock::system(),
    );
    let answer = Connection::open(gateway.address())
        .send("PUT /open HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nx")
        .answer();
    assert_eq!(answer.status, 408);
    gateway.counts(
        "portcullis_rejections_total{reason=\"body_too_slow\",route=\"open\"}",
        1.0,
    );
    has(&gateway, "healthy", 2.0);
    assert_eq!(ask(&gateway), 200, "and the breaker is closed");
}

#[test]
fn a_peer_that_breaks_off_or_is_silent_or_refuses_is_left_out() {
    let resets =
        || Origin::answering(|_, stream| stream.shutdown(std::net::Shutdown::Both).unwrap());
    let silent = || Origin::answering(|_, _| {});
    let closed = Closed::new();
    let (resetting, silent_peer) = (resets(), silent());
    for (bad, first) in [
        (resetting.address(), 502),
        (silent_peer.address(), 504),
        // A connection that is refused is tried on the other peer.
        (closed.address(), 200),
    ] {
        let good = Origin::start();
        let gateway = start(
            &[bad, good.address()],
            "timeouts: { read: 100ms }, outlier: { failures: 1, eject: 10s }",
            Clock::manual(Clock::system().unix()),
        );
        assert_eq!(ask(&gateway), first);
        has(&gateway, "ejected", 1.0);
        for _ in 0..4 {
            assert_eq!(ask(&gateway), 200);
        }
    }
}
