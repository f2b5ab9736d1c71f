//! Pools with several peers: who gets which request.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use portcullis::demo::issuer::{Issuer, IssuerOptions};

use crate::support::{Connection, Gateway, Origin, Received, Setup, eventually, get};

const READER: &str = "eazybank-accounts-reader-cc";
const CALL_CENTRE: &str = "eazybank-callcenter-cc";

const ROUTES: &str = "[{ name: open, match: { path: /open }, upstream: pool, access: public },
    { name: asked, match: { path: /asked }, upstream: pool, access: {} }]";

fn issuer() -> Issuer {
    Issuer::start_blocking(IssuerOptions::default()).unwrap()
}

fn origins(count: usize) -> Vec<Origin> {
    (0..count).map(|_| Origin::start()).collect()
}

fn start(issuer: &Issuer, origins: &[Origin], more: &str) -> Gateway {
    let peers: Vec<SocketAddr> = origins.iter().map(Origin::address).collect();
    Setup::new(issuer, peers[0])
        .pool(&peers, more)
        .routes(ROUTES)
        .start()
}

fn counts(origins: &[Origin]) -> Vec<usize> {
    origins
        .iter()
        .map(|origin| origin.received().len())
        .collect()
}

/// How many origins have got anything.
fn reached(origins: &[Origin]) -> usize {
    counts(origins).iter().filter(|count| **count > 0).count()
}

fn ask(gateway: &Gateway, path: &str, fields: &str) {
    let answer = Connection::open(gateway.address())
        .send(format!(
            "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}\r\n"
        ))
        .answer();
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[test]
fn a_client_stays_with_its_peer_whatever_its_token() {
    let (issuer, origins) = (issuer(), origins(5));
    let gateway = start(&issuer, &origins, "balance: hash");
    for client in [READER, CALL_CENTRE] {
        let before = counts(&origins);
        for path in ["/asked/1", "/asked/2", "/asked/3"] {
            let token = issuer.token(client, &[]);
            ask(
                &gateway,
                path,
                &format!("Authorization: Bearer {token}\r\n"),
            );
        }
        let after = counts(&origins);
        let grown: Vec<usize> = after.iter().zip(before).map(|(a, b)| a - b).collect();
        assert!(grown.contains(&3), "{client} was spread: {grown:?}");
    }
    // Without a client it is the source, which is one here.
    let before = counts(&origins);
    for number in 0..4 {
        ask(&gateway, &format!("/open/{number}"), "");
    }
    let after = counts(&origins);
    assert!(after.iter().zip(before).any(|(a, b)| a - b == 4));
}

#[test]
fn a_path_or_a_header_can_be_what_is_hashed() {
    let issuer = issuer();
    for (on, spread) in [("path", "path"), ("{ header: X-Tenant }", "header")] {
        let origins = origins(3);
        let gateway = start(&issuer, &origins, &format!("balance: hash, hash_on: {on}"));
        let request = |key: usize| match spread {
            "path" => (format!("/open/{key}"), String::new()),
            _ => ("/open".to_owned(), format!("X-Tenant: {key}\r\n")),
        };
        for key in [7; 4] {
            let (path, fields) = request(key);
            ask(&gateway, &path, &fields);
        }
        assert_eq!(reached(&origins), 1, "one {on}, one peer");
        for key in 0..40 {
            let (path, fields) = request(key);
            ask(&gateway, &path, &fields);
        }
        assert_eq!(reached(&origins), 3, "{on}");
    }
}

/// Answers when it is told to.
fn held() -> (Origin, mpsc::Sender<()>) {
    let (release, held) = mpsc::channel::<()>();
    let held = Arc::new(Mutex::new(held));
    let respond = move |_: &Received, stream: &mut TcpStream| {
        let _ = held.lock().unwrap().recv();
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    };
    (Origin::answering(respond), release)
}

#[test]
fn a_peer_that_is_busy_gets_no_more_while_another_is_not() {
    let issuer = issuer();
    let (slow, release) = held();
    let origins = [slow, Origin::start()];
    let gateway = start(&issuer, &origins, "balance: least_request");
    // With equal load it is a toss, so ask until the slow one is caught.
    let mut waiting = Vec::new();
    while origins[0].received().is_empty() {
        let before = counts(&origins).iter().sum::<usize>();
        let mut caller = Connection::open(gateway.address());
        caller.send("GET /open HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        eventually("the request has arrived", || {
            counts(&origins).iter().sum::<usize>() > before
        });
        waiting.push(caller);
    }
    for _ in 0..10 {
        // A request leaves its peer a moment after its answer.
        gateway.counts("portcullis_upstream_in_flight{upstream=\"pool\"}", 1.0);
        ask(&gateway, "/open", "");
    }
    assert_eq!(origins[0].received().len(), 1);
    release.send(()).unwrap();
    for caller in &mut waiting {
        assert_eq!(caller.answer().status, 200);
    }
}

fn send(gateway: &Gateway) -> Connection {
    let mut caller = Connection::open(gateway.address());
    caller.send("GET /open HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    caller
}

#[test]
fn a_peer_that_is_full_is_passed_over_and_when_all_are_the_rest_is_turned_away() {
    let issuer = issuer();
    for balance in ["round_robin", "least_request", "random", "hash"] {
        let (mut origins, mut releases) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let (origin, release) = held();
            origins.push(origin);
            releases.push(release);
        }
        let more = format!("balance: {balance}, breaker: {{ max_in_flight_per_peer: 2 }}");
        let gateway = start(&issuer, &origins, &more);
        let mut waiting: Vec<Connection> = (0..6).map(|_| send(&gateway)).collect();
        eventually("each has as many as it may", || {
            counts(&origins) == [2, 2, 2]
        });

        let answer = send(&gateway).answer();
        assert_eq!(
            (answer.status, answer.header("retry-after")),
            (503, Some("1"))
        );
        gateway.counts(
            "portcullis_rejections_total{reason=\"upstream_busy\",route=\"open\"}",
            1.0,
        );
        let state = get(gateway.admin(), "/upstreams", None).json();
        assert_eq!(state[0]["max_in_flight_per_peer"], 2);
        assert_eq!(state[0]["peers"][1]["in_flight"], 2);

        releases[1].send(()).unwrap();
        gateway.counts("portcullis_upstream_in_flight{upstream=\"pool\"}", 5.0);
        waiting.push(send(&gateway));
        eventually("the free place is found", || counts(&origins) == [2, 3, 2]);
        for release in &releases {
            let _ = (release.send(()), release.send(()));
        }
        for caller in &mut waiting {
            assert_eq!(caller.answer().status, 200, "{balance}");
        }
        gateway.counts("portcullis_upstream_in_flight{upstream=\"pool\"}", 0.0);
    }
}

/// A second attempt at the only peer must not find its own place taken.
#[test]
fn a_retry_has_the_place_of_the_attempt_before() {
    let issuer = issuer();
    let times = Mutex::new(0);
    let origin = Origin::answering(move |_, stream| {
        let mut times = times.lock().unwrap();
        *times += 1;
        let status = if *times == 1 { 503 } else { 200 };
        let answer = format!("HTTP/1.1 {status} A\r\nContent-Length: 0\r\n\r\n");
        let _ = stream.write_all(answer.as_bytes());
    });
    let more = "breaker: { max_in_flight_per_peer: 1 }, retries: { when: [503] }";
    let gateway = start(&issuer, &[origin], more);
    assert_eq!(get(gateway.address(), "/open", None).status, 200);
}

/// `localhost` is 127.0.0.1, and on many machines ::1 too, where nobody listens.
#[test]
fn all_addresses_of_a_name_are_asked() {
    let (issuer, origin) = (issuer(), Origin::start());
    let port = origin.address().port();
    let gateway = Setup::new(&issuer, origin.address())
        .upstreams(format!(
            "{{ pool: {{ dns: 'localhost:{port}' }}, lost: {{ dns: 'no-such-host.invalid:80' }} }}"
        ))
        .routes(
            "[{ name: open, match: { path: /open }, upstream: pool, access: public },
              { name: lost, match: { path: /lost }, upstream: lost, access: public }]",
        )
        .start();
    let ready = || get(gateway.admin(), "/readyz", None).json()["upstreams"].clone();
    eventually("the name is known", || ready()[0]["ready"] == true);
    for _ in 0..4 {
        assert_eq!(get(gateway.address(), "/open", None).status, 200);
    }
    let pools = get(gateway.admin(), "/upstreams", None).json();
    let peers = pools[0]["peers"].as_array().unwrap();
    let address = origin.address().to_string();
    assert!(peers.iter().any(|peer| peer["address"] == address.as_str()));

    assert_eq!(
        ready()[1]["reason"],
        "no address of no-such-host.invalid:80 is known yet"
    );
    let answer = get(gateway.address(), "/lost", None);
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (503, Some("1"))
    );
}

#[test]
fn a_split_gives_each_pool_its_share() {
    let issuer = issuer();
    let (stable, next) = (Origin::start(), Origin::start());
    let gateway = Setup::new(&issuer, stable.address())
        .upstreams(format!(
            "{{ stable: {{ peers: ['{}'] }}, next: {{ peers: ['{}'] }} }}",
            stable.address(),
            next.address()
        ))
        .routes(
            "[{ name: open, match: { path: /open }, access: public,
                upstream: [{ name: stable, weight: 3 }, { name: next, weight: 1 }] }]",
        )
        .start();
    let mut caller = Connection::open(gateway.address());
    for _ in 0..400 {
        caller.send("GET /open HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(caller.answer().status, 200);
    }
    // A hundred are expected; less than forty or more than two hundred happen once in many lives.
    let share = next.received().len();
    assert!((40..200).contains(&share), "{share}");
    assert_eq!(stable.received().len() + share, 400);
    gateway.counts(
        "portcullis_upstream_requests_total{outcome=\"ok\",upstream=\"next\"}",
        share as f64,
    );
    let log = gateway.access_log(400);
    let logged = log.iter().filter(|line| line["upstream"] == "next").count();
    assert_eq!(logged, share);
    let routes = get(gateway.admin(), "/routes", None).json();
    assert_eq!(routes[0]["upstream"][1]["name"], "next");
    assert_eq!(routes[0]["upstream"][1]["weight"], 1);
}

/// Each pool of a split has its own state: one that has nobody fails its own share only.
#[test]
fn a_pool_of_a_split_that_is_down_fails_its_share() {
    let (issuer, stable) = (issuer(), Origin::start());
    let gateway = Setup::new(&issuer, stable.address())
        .upstreams(format!(
            "{{ stable: {{ peers: ['{}'] }}, next: {{ dns: 'no-such-host.invalid:80' }} }}",
            stable.address()
        ))
        .routes(
            "[{ name: open, match: { path: /open }, access: public,
                upstream: [{ name: stable }, { name: next }] }]",
        )
        .start();
    let mut statuses: Vec<u16> = (0..40)
        .map(|_| get(gateway.address(), "/open", None).status)
        .collect();
    statuses.sort_unstable();
    statuses.dedup();
    assert_eq!(statuses, [200, 503]);
}

#[test]
fn chance_reaches_every_peer() {
    let (issuer, origins) = (issuer(), origins(3));
    let gateway = start(&issuer, &origins, "balance: random");
    for _ in 0..60 {
        assert_eq!(get(gateway.address(), "/open", None).status, 200);
    }
    assert_eq!(reached(&origins), 3, "{:?}", counts(&origins));
}
