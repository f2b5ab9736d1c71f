//! Peers that fail, by their own word and by how requests fare.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use portcullis::clock::Clock;
use portcullis::demo::issuer::{Issuer, IssuerOptions};

use crate::support::{
    Authority, Closed, Connection, Gateway, Origin, Scratch, SecureOrigin, Setup, Wire, eventually,
    get,
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

/// One result decides, and the timeout is what a machine that is busy may need.
const SOON: &str = "interval: 200ms, timeout: 200ms, healthy: 1, unhealthy: 1";

#[test]
fn a_check_by_tcp_asks_for_a_connection_and_nothing_else() {
    let (taking, closed) = (Wire::start(), Closed::new());
    let gateway = start(
        &[taking.address(), closed.address()],
        &format!("health: {{ kind: tcp, {SOON} }}"),
        Clock::system(),
    );
    has(&gateway, "unhealthy", 1.0);
    has(&gateway, "healthy", 1.0);
    assert_eq!(taking.accept().rest(), b"", "not a byte is sent");
    let state = get(gateway.admin(), "/upstreams", None).json();
    assert_eq!(state[0]["peers"][1]["state"], "unhealthy");
}

#[test]
fn a_check_by_tls_asks_for_the_certificate_that_requests_want() {
    let (authority, files) = (Authority::new(), Scratch::new());
    let ca = files.write("ca.pem", &authority.pem);
    let right = SecureOrigin::start(&authority.certify("accounts.internal"));
    let wrong = SecureOrigin::start(&authority.certify("loans.internal"));
    let plain = Origin::start();
    let gateway = start(
        &[right.address(), wrong.address(), plain.address()],
        &format!(
            "health: {{ kind: tls, interval: 5s, timeout: 5s, unhealthy: 1 }}, \
             tls: {{ server_name: accounts.internal, ca: '{}' }}",
            ca.display()
        ),
        Clock::system(),
    );
    has(&gateway, "unhealthy", 2.0);
    for _ in 0..3 {
        assert_eq!(ask(&gateway), 200);
    }
    assert_eq!(right.requests(), 3, "the checks sent no request");
}

#[test]
fn checks_have_a_port_a_host_and_statuses_of_their_own() {
    let (served, checked) = (Origin::start(), Moody::start());
    let port = checked.origin.address().port();
    let gateway = start(
        &[served.address()],
        &format!(
            "health: {{ path: /healthz, port: {port}, host: 'health.internal:9', status: [401, 204], {SOON} }}"
        ),
        Clock::system(),
    );
    has(&gateway, "unhealthy", 1.0);
    for status in [401, 200, 204] {
        checked.checks(status);
        has(&gateway, "healthy", if status == 200 { 0.0 } else { 1.0 });
    }
    assert_eq!(ask(&gateway), 200);
    let check = checked.origin.received()[0].clone();
    assert_eq!(check.header("host"), Some("health.internal:9"));
    assert_eq!(served.only().line, "GET /open HTTP/1.1");
}

/// A management port is often plain where the service is not.
#[test]
fn checks_may_go_without_the_tls_of_requests() {
    let (authority, files) = (Authority::new(), Scratch::new());
    let ca = files.write("ca.pem", &authority.pem);
    let secure = SecureOrigin::start(&authority.certify("accounts.internal"));
    let checked = Moody::start();
    let port = checked.origin.address().port();
    let gateway = start(
        &[secure.address()],
        &format!(
            "health: {{ path: /healthz, port: {port}, plain: true, {SOON} }}, \
             tls: {{ server_name: accounts.internal, ca: '{}' }}",
            ca.display()
        ),
        Clock::system(),
    );
    eventually("it is checked", || !checked.origin.received().is_empty());
    assert_eq!(ask(&gateway), 200);
    checked.checks(500);
    has(&gateway, "unhealthy", 1.0);
}

/// What a peer does to be asked for more than a moment, and what it does not get.
#[test]
fn a_check_follows_nobody_and_reads_no_body_and_ends_in_time() {
    let elsewhere = Moody::start();
    let target = elsewhere.origin.address();
    let redirect = format!(
        "HTTP/1.1 302 Found\r\nLocation: http://{target}/healthz\r\nContent-Length: 0\r\n\r\n"
    );
    let moved = Origin::answering(move |_, stream| {
        let _ = stream.write_all(redirect.as_bytes());
    });
    let hanging = Origin::answering(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Le");
    });
    // Writes until nobody reads.
    let endless = Origin::answering(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        while stream.write_all(b"5\r\nhello\r\n").is_ok() {}
    });
    let gateway = start(
        &[moved.address(), hanging.address(), endless.address()],
        HEALTH,
        Clock::system(),
    );
    has(&gateway, "unhealthy", 2.0);
    let state = get(gateway.admin(), "/upstreams", None).json();
    assert_eq!(state[0]["peers"][2]["state"], "healthy");
    eventually("it is asked again and again", || endless.connections() > 2);
    assert!(elsewhere.origin.received().is_empty());
}

/// With a clock that the test moves: a peer that came back is spared at first.
#[test]
fn a_peer_that_came_back_gets_its_share_little_by_little() {
    let (a, b) = (Moody::start(), Moody::start());
    let clock = Clock::manual(Clock::system().unix());
    let gateway = start(
        &[a.origin.address(), b.origin.address()],
        "outlier: { failures: 1, eject: 10s }, slow_start: 20s",
        clock.clone(),
    );
    a.requests(500);
    let statuses = [ask(&gateway), ask(&gateway)];
    assert!(statuses.contains(&500), "{statuses:?}");
    has(&gateway, "ejected", 1.0);
    a.requests(200);
    clock.advance(Duration::from_secs(10));
    let share = |requests: usize| {
        let before = a.served();
        for _ in 0..requests {
            assert_eq!(ask(&gateway), 200);
        }
        a.served() - before
    };
    let early = share(33);
    assert!((2..=4).contains(&early), "{early}");
    clock.advance(Duration::from_secs(10));
    let later = share(30);
    assert!((9..=11).contains(&later), "{later}");
    clock.advance(Duration::from_secs(10));
    assert_eq!(share(30), 15);
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
