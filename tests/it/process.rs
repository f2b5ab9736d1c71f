//! The life of the process: it starts, says why it cannot, drains and ends.

use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use portcullis::demo::issuer::{Issuer, IssuerOptions};

use crate::support::{
    Connection, Finished, Origin, Running, Scratch, Setup, eventually, free_ports, get, loopback,
    portcullis, run,
};

const READER: &str = "eazybank-accounts-reader-cc";
const REQUEST: &str = "GET /accounts HTTP/1.1\r\nHost: a\r\n";

fn issuer() -> Issuer {
    Issuer::start_blocking(IssuerOptions::default()).unwrap()
}

fn open_route() -> &'static str {
    "[{ name: open, match: { path: /, methods: [GET] }, upstream: origin, access: public }]"
}

/// An origin that answers when it is told to.
fn slow_origin() -> (Origin, mpsc::Sender<()>) {
    let (release, released) = mpsc::channel();
    let released = std::sync::Mutex::new(released);
    let origin = Origin::answering(move |_, stream| {
        let _ = released.lock().unwrap().recv();
        let _ =
            std::io::Write::write_all(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    });
    (origin, release)
}

fn with_drain(origin: &Origin, shutdown: &str) -> Setup {
    let mut setup = Setup::new(&issuer(), origin.address())
        .issuers("{}")
        .routes(open_route());
    setup.drain = shutdown.to_owned();
    setup
}

/// A connection with a request that the origin has and does not answer yet.
fn in_flight(running: &Running, origin: &Origin) -> Connection {
    let mut connection = Connection::open(running.address);
    connection.send(format!("{REQUEST}\r\n"));
    eventually("the request is at the origin", || {
        !origin.received().is_empty()
    });
    connection
}

#[test]
fn sigterm_drains_and_ends_when_the_last_request_does() {
    let (origin, release) = slow_origin();
    let mut running = Running::start(&with_drain(&origin, "{ drain: 60s }"));
    assert_eq!(get(running.admin, "/readyz", None).status, 200);
    let mut request = in_flight(&running, &origin);
    let mut idle = Connection::open(running.address);

    let told = Instant::now();
    running.process.signal("TERM");
    let readyz = || get(running.admin, "/readyz", None);
    eventually("readiness fails", || readyz().status == 503);
    assert_eq!(readyz().json()["shutting_down"], true);
    assert_eq!(readyz().json()["status"], "shutting_down");
    eventually("new connections are refused", || {
        TcpStream::connect(running.address).is_err()
    });
    assert!(idle.is_closed());
    // Whoever watches can still watch.
    assert_eq!(get(running.admin, "/livez", None).status, 200);
    assert_eq!(get(running.admin, "/metrics", None).status, 200);
    assert!(running.process.is_running());

    release.send(()).unwrap();
    let answer = request.answer();
    assert_eq!((answer.status, answer.text()), (200, "hello"));
    assert_eq!(running.process.exit(), Some(0));
    assert!(told.elapsed() < Duration::from_secs(20));
    // The access log has it, although the process was going down.
    let stdout = running.process.stdout();
    let line: serde_json::Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&line["status"], &line["route"]),
        (&200.into(), &"open".into())
    );
}

#[test]
fn sigterm_serves_on_during_pre_stop() {
    let origin = Origin::start();
    let mut running = Running::start(&with_drain(&origin, "{ pre_stop: 5s, drain: 60s }"));
    running.process.signal("TERM");
    eventually("readiness fails", || {
        get(running.admin, "/readyz", None).status == 503
    });
    // A balancer that has not looked yet goes on sending.
    assert_eq!(get(running.address, "/accounts", None).status, 200);
    assert_eq!(running.process.exit(), Some(0));
}

#[test]
fn the_drain_time_ends_what_does_not_end_by_itself() {
    let (origin, _release) = slow_origin();
    let mut running = Running::start(&with_drain(&origin, "{ drain: 1s }"));
    let mut request = in_flight(&running, &origin);
    let told = Instant::now();
    running.process.signal("TERM");
    assert_eq!(running.process.exit(), Some(0));
    assert!(told.elapsed() >= Duration::from_secs(1));
    assert!(told.elapsed() < Duration::from_secs(20));
    assert!(request.is_closed());
}

#[test]
fn sigint_ends_at_once() {
    let (origin, _release) = slow_origin();
    let mut running = Running::start(&with_drain(&origin, "{ drain: 60s }"));
    let _request = in_flight(&running, &origin);
    let told = Instant::now();
    running.process.signal("INT");
    assert_eq!(running.process.exit(), Some(0));
    assert!(told.elapsed() < Duration::from_secs(20));
}

#[test]
fn sigint_ends_a_drain() {
    let (origin, _release) = slow_origin();
    let mut running = Running::start(&with_drain(&origin, "{ drain: 60s }"));
    let _request = in_flight(&running, &origin);
    let told = Instant::now();
    running.process.signal("TERM");
    eventually("the listener is closed", || {
        TcpStream::connect(running.address).is_err()
    });
    assert!(running.process.is_running());
    running.process.signal("INT");
    assert_eq!(running.process.exit(), Some(0));
    assert!(told.elapsed() < Duration::from_secs(20));
}

#[test]
fn it_starts_and_stays_up_without_its_issuer() {
    let (issuer, origin) = (issuer(), Origin::start());
    issuer.set_down(true).unwrap();
    let routes = "[{ name: accounts, match: { path: /accounts }, upstream: origin, access: {} },
        { name: open, match: { path: /open }, upstream: origin, access: public }]";
    let mut running = Running::start(&Setup::new(&issuer, origin.address()).routes(routes));
    let readyz = get(running.admin, "/readyz", None);
    assert_eq!(readyz.status, 503);
    let body = readyz.json();
    assert_eq!(body["issuers"][0]["name"], "keycloak");
    assert_eq!(body["issuers"][0]["ready"], false);
    assert!(body["issuers"][0]["reason"].is_string(), "{body}");
    assert_eq!(get(running.admin, "/livez", None).status, 200);
    let token = issuer.token(READER, &["accounts:read"]);
    let unjudged = get(running.address, "/accounts", Some(&token));
    assert_eq!(unjudged.status, 503);
    assert!(unjudged.header("retry-after").is_some());
    assert_eq!(get(running.address, "/open", None).status, 200);
    assert!(running.process.is_running());

    issuer.set_down(false).unwrap();
    running.wait_ready();
    assert_eq!(get(running.address, "/accounts", Some(&token)).status, 200);
    // And down again: the keys that we have go on serving.
    issuer.set_down(true).unwrap();
    assert_eq!(get(running.address, "/accounts", Some(&token)).status, 200);
    running.process.signal("TERM");
    assert_eq!(running.process.exit(), Some(0));
}

/// A configuration that can be run but for its listener.
fn configuration(listener: &str, admin: &str) -> String {
    format!(
        "admin: {{ address: '{admin}' }}\nlisteners: [{listener}]\n\
         upstreams: {{ origin: {{ peers: ['127.0.0.1:1'] }} }}\nroutes: {}\n",
        open_route()
    )
}

fn start_of(configuration: &str, scratch: &Scratch) -> Finished {
    let file = scratch.file("gateway.yaml", configuration);
    run(portcullis(&["run", "--config", &file]), "")
}

/// Exit 1 and one line, which has all of these in it.
#[track_caller]
fn fails_to_start(finished: &Finished, says: &[&str]) {
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert_eq!(finished.stdout, "");
    assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
    for text in says {
        assert!(
            finished.stderr.contains(text),
            "{text}: {}",
            finished.stderr
        );
    }
}

#[test]
fn a_taken_port_is_one_line_that_names_address_and_key() {
    let scratch = Scratch::new();
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap().to_string();
    let free = loopback(free_ports(1)).to_string();
    let listener = |address: &str| format!("{{ address: '{address}' }}");
    let finished = start_of(&configuration(&listener(&taken), &free), &scratch);
    fails_to_start(&finished, &[&taken, "listeners[0].address", "in use"]);
    let finished = start_of(&configuration(&listener(&free), &taken), &scratch);
    fails_to_start(&finished, &[&taken, "admin.address", "in use"]);
}

#[test]
fn an_unusable_certificate_is_one_line() {
    let scratch = Scratch::new();
    let pair = || rcgen::generate_simple_self_signed(vec!["gateway.test".to_owned()]).unwrap();
    let (one, other) = (pair(), pair());
    let certificate = scratch.file("one.crt", &one.cert.pem());
    let key = scratch.file("one.key", &one.signing_key.serialize_pem());
    let other_key = scratch.file("other.key", &other.signing_key.serialize_pem());
    let garbage = scratch.file("garbage.pem", "no PEM in here\n");
    let directory = scratch.directory().to_str().unwrap().to_owned();
    let absent = format!("{directory}/absent.pem");
    let (address, admin) = (loopback(free_ports(1)), loopback(free_ports(1)).to_string());
    let start = |certificate: &str, key: &str| {
        let tls = format!("{{ certificate: '{certificate}', private_key: '{key}' }}");
        let listener = format!("{{ address: '{address}', tls: {tls} }}");
        start_of(&configuration(&listener, &admin), &scratch)
    };
    const CERTIFICATE: &str = "tls.certificate";
    const KEY: &str = "tls.private_key";
    fails_to_start(&start(&absent, &key), &[&absent, CERTIFICATE, "not exist"]);
    fails_to_start(&start(&certificate, &absent), &[&absent, KEY]);
    fails_to_start(&start(&absent, &absent), &[CERTIFICATE, KEY]);
    fails_to_start(&start(&directory, &key), &[&directory, CERTIFICATE]);
    fails_to_start(&start(&garbage, &key), &[&garbage, CERTIFICATE]);
    fails_to_start(&start(&certificate, &garbage), &[&garbage, KEY]);
    fails_to_start(&start(&certificate, &other_key), &[&other_key, KEY]);
}

#[test]
fn a_bad_configuration_is_64_with_every_problem() {
    let scratch = Scratch::new();
    let text = "listeners: [{ address: nowhere }]\nlimits: { body_bytes: 1 parsec }\n\
                upstreams: { origin: { peers: ['127.0.0.1:1'] } }\nroutes: [{ name: a, \
                match: { path: / }, upstream: orign, access: public }]\nlisteners: []\n";
    let finished = start_of(text, &scratch);
    assert_eq!(finished.code, Some(64));
    assert_eq!(finished.stdout, "");
    for place in [":1:24: ", ":2:23: ", ":4:", ":5:1: "] {
        assert!(
            finished.stderr.contains(place),
            "{place}: {}",
            finished.stderr
        );
    }
    assert!(
        finished.stderr.ends_with("5 problems\n"),
        "{}",
        finished.stderr
    );

    // An absent secret is the configuration's problem; only with it unresolved nothing may start.
    let text = "admin: { address: '127.0.0.1:9', token: '${env:PORTCULLIS_TEST_UNSET}' }\n\
                listeners: [{ address: '127.0.0.1:1' }]\n\
                upstreams: { origin: { peers: ['127.0.0.1:1'] } }\n\
                routes: [{ name: a, match: { path: /a }, upstream: origin, access: public }]\n";
    let finished = start_of(text, &scratch);
    assert_eq!(finished.code, Some(64));
    assert!(finished.stderr.contains("PORTCULLIS_TEST_UNSET"));
    let nothing = run(portcullis(&["run", "--config", "/nonexistent.yaml"]), "");
    assert_eq!(nothing.code, Some(64));
    assert!(nothing.stderr.contains("/nonexistent.yaml"));
}

#[test]
fn bad_usage_is_64_and_help_is_0() {
    for (arguments, code) in [
        (&[] as &[&str], 64),
        (&["rum"], 64),
        (&["run", "--confg", "x"], 64),
        (&["run", "x"], 64),
        (&["token"], 64),
        (&["token", "--client", "a", "--secret", "b"], 64),
        (&["demo", "--gateway-port", "70000"], 64),
        (&["--help"], 0),
        (&["run", "--help"], 0),
        (&["--version"], 0),
    ] {
        let finished = run(portcullis(arguments), "");
        assert_eq!(finished.code, Some(code), "{arguments:?}");
        let (said, silent) = match code {
            0 => (finished.stdout, finished.stderr),
            _ => (finished.stderr, finished.stdout),
        };
        assert!(!said.is_empty() && silent.is_empty(), "{arguments:?}");
    }
}
