//! Another configuration while the process runs: what it changes, what it leaves alone, and what it must not cost.

use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use portcullis::demo::issuer::{Endpoint, Fault, Issuer, IssuerOptions};

use crate::support::{Connection, Origin, Running, Scratch, Setup, eventually, get, send};

const READER: &str = "eazybank-accounts-reader-cc";
const REQUEST: &str = "GET /accounts HTTP/1.1\r\nHost: a\r\n";
const FETCHED: &str = "portcullis_jwks_refreshes_total{issuer=\"keycloak\",outcome=\"ok\"}";
const ADMIN: &str = "Authorization: Bearer admin-of-the-test\r\n";

struct World {
    issuer: Issuer,
    origin: Origin,
    setup: Setup,
    running: Running,
}

impl World {
    fn new() -> Self {
        Self::with(|setup| setup)
    }

    fn with(change: impl FnOnce(Setup) -> Setup) -> Self {
        let issuer = Issuer::start_blocking(IssuerOptions::default()).unwrap();
        let origin = Origin::start();
        let setup = change(Setup::new(&issuer, origin.address()));
        let mut running = Running::start_with(&setup, |command| {
            command.env("ADMIN_TOKEN", "admin-of-the-test");
        });
        running.wait_ready();
        World {
            issuer,
            origin,
            setup,
            running,
        }
    }

    fn token(&self) -> String {
        self.issuer.token(READER, &[])
    }

    fn get(&self, path: &str, token: Option<&str>) -> u16 {
        get(self.running.address, path, token).status
    }

    /// Writes the configuration, says so, and waits for what comes of it.
    fn reload(&self, setup: &Setup, outcome: &str) {
        let before = self.reloads(outcome);
        self.running.rewrite(setup);
        self.running.process.signal("HUP");
        eventually(outcome, || self.reloads(outcome) > before);
    }

    fn reloads(&self, outcome: &str) -> f64 {
        reloads(&self.running, outcome)
    }
}

fn reloads(running: &Running, outcome: &str) -> f64 {
    let series = format!("portcullis_config_reloads_total{{outcome=\"{outcome}\"}}");
    running.metric(&series).unwrap()
}

fn two_routes() -> &'static str {
    "[{ name: accounts, match: { path: /accounts }, upstream: origin, access: {} }, \
      { name: open, match: { path: /open }, upstream: origin, access: public }]"
}

#[test]
fn a_new_route_is_there_at_once_and_a_removed_one_is_gone() {
    let world = World::new();
    assert_eq!(world.get("/open", None), 404);
    world.reload(&world.setup.clone().routes(two_routes()), "ok");
    assert_eq!(world.get("/open", None), 200);
    let routes = get(world.running.admin, "/routes", None).json();
    assert_eq!(routes.as_array().unwrap().len(), 2);
    world.reload(&world.setup, "ok");
    assert_eq!(world.get("/open", None), 404);
    let scrape = get(world.running.admin, "/metrics", None);
    assert!(!scrape.text().contains("route=\"open\""));
    let routes = get(world.running.admin, "/routes", None).json();
    assert_eq!(routes.as_array().unwrap().len(), 1);
}

#[test]
fn a_bad_configuration_is_refused_with_every_problem_and_its_place() {
    let mut world = World::new();
    let bad = world.setup.clone().routes(
        "[{ name: accounts, match: { path: accounts }, upstream: nowhere, access: {}, secret: 'x' }]",
    );
    world.reload(&bad, "invalid");
    let (token, stderr) = (world.token(), world.running.process.stderr());
    assert_eq!(world.get("/accounts", Some(&token)), 200);
    for said in ["match.path", "nowhere", "`secret`", "is refused"] {
        assert!(stderr.contains(said), "{said}\n{stderr}");
    }
    let places = stderr
        .lines()
        .filter(|line| line.contains("gateway.yaml:") && line.contains("routes[0]"));
    assert!(places.count() >= 3, "{stderr}");
    // What names a file that is not there is good, and cannot be had.
    let absent = world.setup.clone().issuers(format!(
        "{{ keycloak: {{ issuer: '{}', audience: [eazybank-gateway], ca: /nowhere/ca.pem }} }}",
        world.issuer.url()
    ));
    world.reload(&absent, "failed");
    assert_eq!(world.get("/accounts", Some(&token)), 200);
    assert!(world.running.process.is_running());
}

#[test]
fn what_needs_a_restart_is_said_and_the_rest_is_applied() {
    let world = World::new();
    let needed = "portcullis_config_restart_needed";
    assert_eq!(world.running.metric(needed), Some(0.0));
    let mut other = world.setup.clone().routes(two_routes());
    other.drain = "{ drain: 6s }".to_owned();
    other.listeners = "[{ address: '127.0.0.1:1' }, { address: '127.0.0.1:2' }]".to_owned();
    world.reload(&other, "ok");
    assert_eq!(world.get("/open", None), 200);
    assert_eq!(world.running.metric(needed), Some(1.0));
    let stderr = world.running.process.stderr();
    for key in ["`listeners`", "`server`"] {
        assert!(stderr.contains(key), "{stderr}");
    }
    assert!(!stderr.contains("`admin`"), "{stderr}");
    world.reload(&world.setup, "ok");
    assert_eq!(world.running.metric(needed), Some(0.0));

    // What is refused at its last step puts nothing in place, and no restart would mend it.
    let broken = world.running.scratch.file("revocations.json", "nonsense\n");
    let refused = other.admin_token("${env:ADMIN_TOKEN}");
    let refused = refused.revocations(format!("{{ file: '{broken}' }}"));
    world.reload(&refused, "failed");
    assert_eq!(world.running.metric(needed), Some(0.0));
    let stderr = world.running.process.stderr();
    assert!(stderr.contains(&broken), "{stderr}");
    assert!(!stderr.contains("`admin`"), "{stderr}");
}

#[test]
fn keys_and_proofs_stay_where_the_issuer_does() {
    let world = World::new();
    let token = world.token();
    assert_eq!(world.get("/accounts", Some(&token)), 200);
    assert_eq!(world.running.metric(FETCHED), Some(1.0));
    world.issuer.set_fault(Endpoint::Certs, Fault::Status(503));
    world.reload(&world.setup.clone().routes(two_routes()), "ok");
    assert_eq!(world.get("/accounts", Some(&token)), 200);
    assert_eq!(world.running.metric(FETCHED), Some(1.0));
    let cached =
        "portcullis_token_verifications_total{issuer=\"keycloak\",outcome=\"ok\",source=\"cache\"}";
    eventually("the proof was kept", || {
        world.running.metric(cached) == Some(1.0)
    });
    // Another audience is another rule: what was proved under the old one proves nothing now.
    let other = world.setup.clone().issuers(format!(
        "{{ keycloak: {{ issuer: '{}', audience: [somebody-else] }} }}",
        world.issuer.url()
    ));
    world.reload(&other, "ok");
    assert_eq!(world.get("/accounts", Some(&token)), 401);
    assert_eq!(world.running.metric(FETCHED), Some(1.0), "by the same keys");
}

#[test]
fn a_request_in_flight_ends_with_the_plan_it_began_with() {
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let origin = Origin::answering(move |_, stream| {
        let _ = released.lock().unwrap().recv();
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        let _ = std::io::Write::write_all(stream, answer);
    });
    let world = World::with(|setup| {
        let upstreams = format!("{{ slow: {{ peers: ['{}'] }} }}", origin.address());
        setup.upstreams(upstreams).routes(
            "[{ name: slow, match: { path: /slow }, upstream: slow, access: public, \
                response_headers: { set: { X-Plan: first } } }]",
        )
    });
    let mut request = Connection::open(world.running.address);
    request.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("it is at the origin", || !origin.received().is_empty());
    let upstreams = format!("{{ origin: {{ peers: ['{}'] }} }}", world.origin.address());
    let other = world
        .setup
        .clone()
        .upstreams(upstreams)
        .routes(two_routes());
    world.reload(&other, "ok");
    assert_eq!(world.get("/slow", None), 404);
    release.send(()).unwrap();
    let answer = request.answer();
    assert_eq!((answer.status, answer.text()), (200, "hello"));
    assert_eq!(answer.header("x-plan"), Some("first"));
    // The connection outlives the plan.
    request.send("GET /open HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(request.answer().status, 200);
}

#[test]
fn a_changed_file_is_seen_without_a_signal_through_a_link_too() {
    let issuer = Issuer::start_blocking(IssuerOptions::default()).unwrap();
    let origin = Origin::start();
    let setup = Setup::new(&issuer, origin.address()).routes(two_routes());
    let running = Running::start(&setup);
    let shown = || get(running.address, "/new", None).status;
    assert_eq!(shown(), 404);
    let new = |path: &str| {
        setup.clone().routes(format!(
            "[{{ name: new, match: {{ path: {path} }}, upstream: origin, access: public }}]"
        ))
    };
    running.rewrite(&new("/new"));
    eventually("the new file", || shown() == 200);
    // A mounted ConfigMap: the file is a link through a directory that is a link, and that is put in place of another.
    let at = |name: &str| running.scratch.path(name);
    let text = std::fs::read_to_string(at("gateway.yaml")).unwrap();
    std::fs::create_dir(at("..1")).unwrap();
    std::fs::create_dir(at("..2")).unwrap();
    std::fs::write(at("..1/gateway.yaml"), &text).unwrap();
    std::fs::write(at("..2/gateway.yaml"), text.replace("/new", "/newer")).unwrap();
    symlink("..1", at("..data")).unwrap();
    symlink("..data/gateway.yaml", at("link")).unwrap();
    std::fs::rename(at("link"), at("gateway.yaml")).unwrap();
    symlink("..2", at("..data_tmp")).unwrap();
    std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
    eventually("the new link", || {
        get(running.address, "/newer", None).status == 200
    });
    assert_eq!(shown(), 404);
    assert_eq!(reloads(&running, "ok"), 2.0);
}

#[test]
fn revocations_survive_a_reload_and_move_with_their_file() {
    let world = World::with(|setup| setup.admin_token("${env:ADMIN_TOKEN}"));
    let token = world.token();
    assert_eq!(world.get("/accounts", Some(&token)), 200);
    let body = format!("{{\"issuer\":\"keycloak\",\"client\":\"{READER}\",\"until\":4000000000}}");
    let told = send(world.running.admin, "POST", "/revocations", ADMIN, &body);
    assert_eq!(told.status, 201);
    assert_eq!(world.get("/accounts", Some(&token)), 401);
    let first = world.running.scratch.path("first.json");
    let second = world.running.scratch.path("second.json");
    for file in [&first, &second] {
        let yaml = format!("{{ file: '{}' }}", file.display());
        world.reload(&world.setup.clone().revocations(yaml), "ok");
        assert_eq!(world.get("/accounts", Some(&token)), 401);
        assert!(std::fs::read_to_string(file).unwrap().contains(READER));
    }
    // Fewer than hold is no plan.
    world.reload(&world.setup.clone().revocations("{ max: 0 }"), "invalid");
    let list = send(world.running.admin, "GET", "/revocations", ADMIN, "");
    let list = list.json();
    let id = list[0]["id"].as_str().unwrap();
    let path = format!("/revocations/{id}");
    assert_eq!(
        send(world.running.admin, "DELETE", &path, ADMIN, "").status,
        204
    );
    assert_eq!(world.get("/accounts", Some(&token)), 200);
}

#[test]
fn new_limits_hold_for_the_connections_that_follow() {
    let world = World::new();
    let long = format!("{REQUEST}X-Long: {}\r\n\r\n", "x".repeat(2000));
    let status = || {
        let mut connection = Connection::open(world.running.address);
        connection.send(&long).answer().status
    };
    assert_eq!(status(), 401);
    world.reload(&world.setup.clone().limits("{ header_bytes: 1KiB }"), "ok");
    assert_eq!(status(), 431);
}

#[test]
fn an_issuer_that_is_new_is_ready_before_it_is_asked() {
    let world = World::new();
    let other = Issuer::start_blocking(IssuerOptions::default()).unwrap();
    let both = world.setup.clone().issuers(format!(
        "{{ other: {{ issuer: '{}', audience: [eazybank-gateway] }}, \
           keycloak: {{ issuer: '{}', audience: [eazybank-gateway], \
                        algorithms: [RS256, PS256, ES256, EdDSA] }} }}",
        other.url(),
        world.issuer.url()
    ));
    let (token, others) = (world.token(), other.token(READER, &[]));
    assert_eq!(world.get("/accounts", Some(&token)), 200);
    assert_eq!(world.get("/accounts", Some(&others)), 401);
    world.reload(&both, "ok");
    // The old one stands in another place now: its proofs must not be taken for the new one's, nor be lost.
    for _ in 0..2 {
        assert_eq!(world.get("/accounts", Some(&others)), 200);
        assert_eq!(world.get("/accounts", Some(&token)), 200);
    }
    assert_eq!(world.running.metric(FETCHED), Some(1.0));
    world.reload(&world.setup, "ok");
    assert_eq!(world.get("/accounts", Some(&others)), 401);
    assert_eq!(world.get("/accounts", Some(&token)), 200);
}

/// Asks without a pause until it is told to stop; how many answers came, and those that were not 200.
fn ask(address: SocketAddr, head: &str, stop: &AtomicBool, asked: &AtomicUsize) -> Vec<u16> {
    let mut connection = Connection::open(address);
    let mut failed = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        connection.send(head);
        let answer = connection.answer();
        if answer.status != 200 {
            failed.push(answer.status);
        }
        asked.fetch_add(1, Ordering::Relaxed);
        if answer.header("connection") == Some("close") {
            connection = Connection::open(address);
        }
    }
    failed
}

#[test]
fn a_hundred_reloads_under_load_fail_no_request() {
    let world = World::new();
    let second = Origin::start();
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::new(AtomicUsize::new(0));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (address, stop, asked) = (world.running.address, stop.clone(), asked.clone());
            let head = format!("{REQUEST}Authorization: Bearer {}\r\n\r\n", world.token());
            std::thread::spawn(move || ask(address, &head, &stop, &asked))
        })
        .collect();
    for number in 0..100 {
        // What changes differs from time to time: routes, peers, weights, and the place of the issuer.
        let (first, weight) = (world.origin.address(), 1 + number % 7);
        let pools = format!(
            "{{ origin: {{ peers: ['{first}', {{ address: '{}', weight: {weight} }}] }} }}",
            second.address()
        );
        let extra = format!(
            "[{{ name: accounts, match: {{ path: /accounts }}, upstream: origin, access: {{}} }}, \
              {{ name: r{number}, match: {{ path: /r{number} }}, upstream: origin, access: public }}]"
        );
        let mut next = world.setup.clone().routes(extra);
        if number % 3 == 0 {
            next = next.upstreams(pools);
        }
        if number % 10 == 9 {
            world.reload(&next.routes("[{ name: broken }]"), "invalid");
        } else {
            world.reload(&next, "ok");
        }
        let before = asked.load(Ordering::Relaxed);
        eventually("somebody asked meanwhile", || {
            asked.load(Ordering::Relaxed) > before
        });
    }
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        assert_eq!(caller.join().unwrap(), Vec::<u16>::new());
    }
    // A signal may come after the change was seen, and counts once more.
    let counts = [world.reloads("ok"), world.reloads("invalid")];
    assert!(counts[0] >= 90.0 && counts[1] >= 10.0, "{counts:?}");
    assert_eq!(world.running.metric(FETCHED), Some(1.0));
    let scrape = get(world.running.admin, "/metrics", None);
    let text = scrape.text();
    assert!(text.contains("route=\"r98\"") && !text.contains("route=\"r97\""));
}

/// An operator who empties the file means to lock somebody out, and has to hear that this is no way to do it.
#[test]
fn a_secret_file_that_is_emptied_is_said_once() {
    let scratch = Scratch::new();
    let admin = scratch.file("admin", "admin-of-the-test\n");
    let mut world = World::with(|setup| setup.admin_token(&format!("${{file:{admin}}}")));
    scratch.write("admin", "");
    let said = format!("admin.token, {admin}: it is empty; the last good one stays");
    let process = &mut world.running.process;
    process.until(&said, |process| process.stderr().contains(&said));
    let list = |token: &str| {
        let fields = format!("Authorization: Bearer {token}\r\n");
        send(world.running.admin, "GET", "/revocations", &fields, "").status
    };
    assert_eq!(list("admin-of-the-test"), 200);
    scratch.write("admin", "another\n");
    eventually("the new token is read", || list("another") == 200);
    let log = world.running.process.stderr();
    assert_eq!(log.matches("it is empty").count(), 1, "{log}");
    assert!(!log.contains("admin-of-the-test"), "{log}");
}
